//! In a terminal the runner and we are one job.

use std::fs;

use rustix::process::Signal;

use crate::harness::{
    Endpoint, Taskbeat, Terminal, children, eventually, group_of, is_alive, runner, signal,
    state_of, wait_for_end,
};

/// Says which signals it gets. After the first one it waits for a line, and ends.
const TALKING: &str = r#"
drain() {
    [ "$draining" ] && return; draining=yes
    until read -r go; do [ -t 0 ] || exit 9; done
    echo ends; exit 42
}
for name in INT TERM HUP QUIT WINCH; do trap "echo 'got $name'; drain" $name; done
nap ready & echo leader $$; wait; exit 99"#;

/// The one child of a process, which is not the test's.
fn only_child(pid: i32) -> i32 {
    match children(pid)[..] {
        [child] => child,
        ref children => panic!("{pid} has the children {children:?}"),
    }
}

#[test]
fn ctrl_c_reaches_the_runner_once_and_starts_the_ladder() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#""$@"; echo status $?"#);
    terminal.wait_for("ready");
    terminal.press("\x03");
    terminal.wait_for("got INT");
    terminal.wait_for("the operator says stop");
    // What else it might get would be there by now.
    endpoint.wait_for_more(2);
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    assert_eq!(terminal.count("got INT"), 1);
    assert_eq!(terminal.count("got TERM"), 0);
    drop(shell);
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script("trap '' INT TERM; nap leader"));
    terminal.enter(r#""$@"; echo status $?"#);
    let runner = terminal.wait_for_number("leader");
    terminal.press("\x03");
    terminal.wait_for("the operator says stop");
    terminal.press("\x03");
    assert_eq!(terminal.wait_for_number("status"), 137);
    assert!(!is_alive(runner));
    drop(shell);
}

#[test]
fn a_runner_whom_ctrl_c_does_not_reach_gets_the_stop_signal() {
    // One has a session of its own, the other does not want to hear of it.
    for script in [
        r#"exec setsid sh -c 'trap "echo got TERM; exit 42" TERM; echo leader $$; while :; do sleep 0.1; done'"#,
        r#"trap '' INT; trap "echo got TERM; exit 42" TERM; echo leader $$; while :; do sleep 0.1; done"#,
    ] {
        let endpoint = Endpoint::ok();
        let mut terminal = Terminal::open();
        let shell = terminal.shell(Taskbeat::run(&endpoint).script(script));
        terminal.enter(r#""$@"; echo status $?"#);
        terminal.wait_for("leader");
        terminal.press("\x03");
        terminal.wait_for("got TERM");
        assert_eq!(terminal.wait_for_number("status"), 42);
        drop(shell);
    }
}

#[test]
fn ctrl_c_ends_a_runner_that_is_stopped() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script("nap leader"));
    terminal.enter(r#""$@"; echo status $?"#);
    let runner = terminal.wait_for_number("leader");
    signal(runner, Signal::STOP);
    eventually("it is stopped", || state_of(runner) == 'T');
    terminal.press("\x03");
    assert_eq!(terminal.wait_for_number("status"), 130);
    drop(shell);
}

#[test]
fn ctrl_backslash_reaches_the_runner_once() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#""$@"; echo status $?"#);
    terminal.wait_for("leader");
    terminal.press("\x1c");
    terminal.wait_for("got QUIT");
    endpoint.wait_for_more(2);
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    assert_eq!(terminal.count("got QUIT"), 1);
    drop(shell);
}

#[test]
fn a_new_size_reaches_the_runner_once() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#""$@"; echo status $?"#);
    terminal.wait_for("leader");
    terminal.resize(132);
    terminal.wait_for("got WINCH");
    endpoint.wait_for_more(2);
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    assert_eq!(terminal.count("got WINCH"), 1);
    drop(shell);
}

#[test]
fn ctrl_z_stops_both_and_fg_continues_both() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#""$@""#);
    let runner = terminal.wait_for_number("leader");
    let daemon = only_child(shell.pid());
    terminal.press("\x1a");
    eventually("both are stopped", || {
        [daemon, runner].into_iter().all(|pid| state_of(pid) == 'T')
    });
    terminal.wait_for("Stopped");
    terminal.enter("fg; echo status $?");
    eventually("both go on", || {
        [daemon, runner].into_iter().all(|pid| state_of(pid) == 'S')
    });
    endpoint.wait_for_more(2);
    terminal.press("\x03");
    terminal.wait_for("got INT");
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    drop(shell);
}

#[test]
fn ctrl_z_stops_us_behind_a_script_too() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#"sh -c '"$@"; exit $?' sh "$@""#);
    let runner = terminal.wait_for_number("leader");
    let script = only_child(shell.pid());
    let all = [script, only_child(script), runner];
    terminal.press("\x1a");
    eventually("all are stopped", || {
        all.into_iter().all(|pid| state_of(pid) == 'T')
    });
    terminal.wait_for("Stopped");
    terminal.enter("fg; echo status $?");
    eventually("all go on", || {
        all.into_iter().all(|pid| state_of(pid) == 'S')
    });
    endpoint.wait_for_more(2);
    terminal.press("\x03");
    terminal.wait_for("got INT");
    terminal.enter("go");
    terminal.wait_for("ends");
    drop(shell);
}

#[test]
fn a_line_of_the_log_stops_nobody_where_the_terminal_is_to_stop_writers() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script("exec sleep 120"));
    terminal.enter(r#"stty tostop; "$@" & daemon=$!; echo daemon $daemon"#);
    let daemon = terminal.wait_for_number("daemon");
    endpoint.wait_for_more(4);
    assert_ne!(state_of(daemon), 'T');
    signal(daemon, Signal::KILL);
    drop(shell);
}

#[test]
fn a_signal_from_elsewhere_is_passed_on_once_and_as_the_stop_signal() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#""$@"; echo status $?"#);
    terminal.wait_for("leader");
    signal(only_child(shell.pid()), Signal::INT);
    terminal.wait_for("got TERM");
    endpoint.wait_for_more(2);
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    assert_eq!(terminal.count("got TERM"), 1);
    assert_eq!(terminal.count("got INT"), 0);
    drop(shell);
}

#[test]
fn a_read_in_the_background_stops_both_until_fg() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let reader = "echo leader $$; IFS= read -r line; echo read $line; exit 42";
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(reader));
    // With -b the shell says at once that a job stopped; before it knows, `fg` continues nothing.
    terminal.enter(r#"set -b; "$@" &"#);
    let runner = terminal.wait_for_number("leader");
    let daemon = only_child(shell.pid());
    terminal.wait_for("Stopped");
    assert_eq!([daemon, runner].map(state_of), ['T', 'T']);
    terminal.enter("fg; echo status $?");
    eventually("both go on", || {
        [daemon, runner].into_iter().all(|pid| state_of(pid) == 'S')
    });
    terminal.enter("hello");
    terminal.wait_for("read hello");
    assert_eq!(terminal.wait_for_number("status"), 42);
    drop(shell);
}

#[test]
fn in_the_background_ctrl_c_is_for_others() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#""$@" &"#);
    terminal.wait_for("leader");
    let daemon = only_child(shell.pid());
    terminal.enter("PROMPT_COMMAND='echo prompt'");
    terminal.wait_for("prompt");
    terminal.press("\x03");
    eventually("the shell hears it", || terminal.count("prompt") == 2);
    endpoint.wait_for_more(3);
    assert_eq!(terminal.count("got INT"), 0);
    terminal.enter("fg; echo status $?");
    eventually("it is in front", || foreground(daemon) == group_of(daemon));
    terminal.press("\x03");
    terminal.wait_for("got INT");
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    drop(shell);
}

const SHELL: [&str; 5] = ["bash", "--noprofile", "--norc", "--noediting", "-i"];

#[test]
fn an_interactive_shell_reads_the_terminal_and_has_job_control() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).command(&SHELL));
    terminal.enter(r#""$@"; echo status $?"#);
    terminal.wait_for("the runner runs");
    terminal.enter("echo inner $$; set -o | grep monitor");
    let inner = terminal.wait_for_number("inner");
    assert!(terminal.wait_for("monitor").contains("on"));
    assert_ne!(inner, shell.pid());
    // One that speaks has left the shell's own dispositions behind, which ignore Ctrl-Z.
    terminal.enter(r#"sh -c 'echo "$0 $$"; exec sleep 120' sleeper &"#);
    let sleeper = terminal.wait_for_number("sleeper");
    terminal.enter("jobs");
    terminal.wait_for("Running");
    terminal.enter("fg");
    eventually("it is in front", || {
        group_of(sleeper) == sleeper && foreground(sleeper) == sleeper
    });
    // Its own group is in front: neither key is for us.
    terminal.press("\x1a");
    terminal.wait_for("Stopped");
    assert_eq!(state_of(sleeper), 'T');
    terminal.enter("fg");
    eventually("it goes on", || {
        state_of(sleeper) == 'S' && foreground(sleeper) == sleeper
    });
    terminal.press("\x03");
    eventually("it has ended", || !is_alive(sleeper));
    terminal.enter("echo interrupted $?");
    assert_eq!(terminal.wait_for_number("interrupted"), 130);
    endpoint.wait_for_more(2);
    terminal.enter("exit 5");
    assert_eq!(terminal.wait_for_number("status"), 5);
    assert!(!terminal.shown().contains("the operator says stop"));
    drop(shell);
}

/// The group that has the terminal of a process.
fn foreground(pid: i32) -> i32 {
    let process = procfs::process::Process::new(pid);
    process.and_then(|process| process.stat()).unwrap().tpgid
}

#[test]
fn a_shell_that_took_the_terminal_and_was_killed_leaves_it_to_whoever_started_us() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).command(&SHELL);
    // The script shares our group: nobody but us would give it the terminal back.
    let caller = r#""$@"; echo status $?; read -r line; echo read $line"#;
    let shell = terminal.shell(program.env("CALLER", caller));
    terminal.enter(r#"sh -c "$CALLER" sh "$@""#);
    terminal.wait_for("the runner runs");
    terminal.enter("echo inner $$");
    terminal.wait_for("inner");
    terminal.enter("kill -KILL $$");
    assert_eq!(terminal.wait_for_number("status"), 137);
    terminal.enter("hello");
    terminal.wait_for("read hello");
    drop(shell);
}

/// Drains when it hears anything, until it is told to go, and writes down what it heard.
const WRITING: &str = r#"
for name in INT TERM HUP; do trap "echo $name >> heard" $name; done
echo leader $$
while ! [ -e go ]; do sleep 0.01; done
exit 42"#;

#[test]
fn a_terminal_that_hangs_up_on_us_alone_stops_the_runner_with_the_stop_signal() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).script(WRITING);
    let home = program.home().to_owned();
    // We lead the session, as under `ssh -t` and `xterm -e`: the kernel tells nobody else.
    let mut daemon = terminal.alone(program);
    terminal.wait_for("leader");
    terminal.hang_up();
    let heard = || fs::read_to_string(home.join("heard")).unwrap_or_default();
    eventually("the runner hears it", || heard() == "TERM\n");
    endpoint.wait_for_more(2);
    fs::write(home.join("go"), "").unwrap();
    assert_eq!(daemon.wait(), 42);
    assert_eq!(heard(), "TERM\n");
}

#[test]
fn a_terminal_that_hangs_up_on_the_shell_is_one_stop_however_often_it_is_told() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).script(WRITING);
    let home = program.home().to_owned();
    let shell = terminal.shell(program.env("HISTFILE", "/dev/null"));
    terminal.enter(r#""$@" 2>log"#);
    let runner = terminal.wait_for_number("leader");
    let daemon = only_child(shell.pid());
    terminal.hang_up();
    // The shell tells its jobs, and the kernel tells those in front when the shell has ended.
    wait_for_end(shell.pid());
    let heard = || fs::read_to_string(home.join("heard")).unwrap_or_default();
    eventually("the runner hears it", || heard().contains("HUP"));
    endpoint.wait_for_more(3);
    assert!(
        is_alive(runner),
        "{}",
        fs::read_to_string(home.join("log")).unwrap()
    );
    fs::write(home.join("go"), "").unwrap();
    wait_for_end(daemon);
    let log = fs::read_to_string(home.join("log")).unwrap();
    assert!(log.contains("exit status=42"), "{log}");
    assert!(log.contains("the operator says stop"), "{log}");
}

#[test]
fn under_nohup_the_terminal_may_hang_up_and_the_runner_has_its_own_group() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).script(runner::OBEDIENT);
    let home = program.home().to_owned();
    let shell = terminal.shell(program.env("HISTFILE", "/dev/null"));
    terminal.enter(r#"nohup "$@" >out 2>&1 & echo daemon $!"#);
    let daemon = terminal.wait_for_number("daemon");
    let out = || fs::read_to_string(home.join("out")).unwrap_or_default();
    eventually("the runner is ready", || out().contains("ready "));
    let leader = only_child(daemon);
    assert_eq!(group_of(leader), leader);
    terminal.hang_up();
    wait_for_end(shell.pid());
    endpoint.wait_for_more(3);
    assert!(is_alive(daemon) && is_alive(leader));
    signal(daemon, Signal::TERM);
    wait_for_end(daemon);
    assert!(out().contains("exit status=42"), "{}", out());
}

#[test]
fn the_log_is_coloured_on_a_terminal_only() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let mut daemon = terminal.alone(Taskbeat::run(&endpoint).script("exit 3"));
    assert_eq!(daemon.wait(), 3);
    let started = terminal.wait_for("taskbeat starts");
    assert!(started.contains("\x1b["), "{started:?}");
    let finished = Taskbeat::run(&endpoint).script("exit 3").finish();
    assert!(!finished.stderr.contains('\x1b'), "{finished:?}");
}

#[test]
fn what_a_script_put_into_the_background_does_not_hear_its_ctrl_c() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).script(TALKING);
    // It goes on after the key, as a script does that clears up.
    let script = "trap 'echo heard' INT QUIT
        \"$@\" & echo daemon $!; wait $!; wait $!; wait $!; echo status $?";
    fs::write(program.home().join("script"), script).unwrap();
    let shell = terminal.shell(program);
    terminal.enter(r#"sh script "$@""#);
    let daemon = terminal.wait_for_number("daemon");
    terminal.wait_for("leader");
    for (key, heard) in [("\x03", 1), ("\x1c", 2)] {
        terminal.press(key);
        eventually("the script hears it", || terminal.count("heard") == heard);
    }
    endpoint.wait_for_more(3);
    assert_eq!(terminal.count("got INT") + terminal.count("got QUIT"), 0);
    // From elsewhere it is a stop, though the script made us ignore it.
    signal(daemon, Signal::INT);
    terminal.wait_for("got TERM");
    // The input of what is in the background is empty.
    assert_eq!(terminal.wait_for_number("status"), 9);
    drop(shell);
}

#[test]
fn a_terminal_that_a_killed_runner_left_raw_is_put_right() {
    let show = "stty -a | grep -o -- '-*icanon' | sed 's/^/now /'";
    for (end, status, modes) in [("kill -KILL $$", 137, "icanon"), ("exit 3", 3, "-icanon")] {
        let endpoint = Endpoint::ok();
        let mut terminal = Terminal::open();
        let runner = format!("stty -icanon; {end}");
        let shell = terminal.shell(Taskbeat::run(&endpoint).script(&runner));
        terminal.enter(&format!(r#""$@"; echo status $?; {show}"#));
        assert_eq!(terminal.wait_for_number("status"), status);
        assert_eq!(terminal.wait_for("now ").trim(), format!("now {modes}"));
        drop(shell);
    }
}
