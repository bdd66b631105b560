//! In a terminal, taskbeat and the runner are one job.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Endpoint, Taskbeat, Terminal, children, eventually, group_of, is_alive, rounds, runner, signal,
    skip_without, state_of, wait_for_end,
};

/// Stops within this time of the first one are the same stop.
const SAME_STOP: Duration = Duration::from_secs(1);

/// Prints the signals that it gets. After the first one it waits for a line, and exits.
const TALKING: &str = r#"
drain() {
    [ "$draining" ] && return; draining=yes
    until read -r go; do [ -t 0 ] || exit 9; done
    echo ends; exit 42
}
for name in INT TERM HUP QUIT WINCH; do trap "echo 'got $name'; drain" $name; done
(echo leader $$; nap ready) & wait; exit 99"#;

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
    terminal.wait_for("stop requested by Ctrl-C, which the runner received too");
    // A second signal would have arrived by now.
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
    terminal.wait_for("stop requested");
    thread::sleep(SAME_STOP);
    terminal.press("\x03");
    assert_eq!(terminal.wait_for_number("status"), 137);
    assert!(!is_alive(runner));
    drop(shell);
}

/// Runs a program in the same process group and, like npm, sends it the SIGINT that the whole group
/// has received already, a moment later.
const RELAY: &str = r"
    my $child = fork // die;
    exec @ARGV unless $child;
    $SIG{INT} = sub { select undef, undef, undef, 0.3; kill INT => $child };
    1 while waitpid($child, 0) < 0;
    exit($? >> 8 || $? + 128)";

#[test]
fn a_ctrl_c_that_the_parent_relays_is_one_stop() {
    if Command::new("perl").arg("-e1").status().is_err() {
        return skip_without("perl");
    }
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).flag("-v").script(TALKING).env("RELAY", RELAY);
    let shell = terminal.shell(program);
    terminal.enter(r#"perl -e "$RELAY" -- "$@"; echo status $?"#);
    terminal.wait_for("ready");
    terminal.press("\x03");
    terminal.wait_for("got INT");
    // The parent has relayed it by then.
    terminal.wait_for("stop requested again");
    endpoint.wait_for_more(2);
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    assert_eq!(terminal.count("got INT"), 1);
    drop(shell);
}

#[test]
fn what_the_runner_starts_to_clean_up_after_ctrl_c_is_left_alone() {
    let cleaning = r"
        cleaner() { trap 'echo cleaner got TERM' TERM; echo cleaning; sleep 0.3; echo cleaned; }
        trap '(cleaner) & wait $!; exit 42' INT; nap ready & wait; exit 99";
    for _ in 0..rounds(3, 15) {
        let endpoint = Endpoint::ok();
        let mut terminal = Terminal::open();
        let shell = terminal.shell(Taskbeat::run(&endpoint).script(cleaning));
        terminal.enter(r#""$@"; echo status $?"#);
        terminal.wait_for("ready");
        terminal.press("\x03");
        terminal.wait_for("cleaning");
        terminal.wait_for("cleaned");
        assert_eq!(terminal.wait_for_number("status"), 42);
        assert_eq!(terminal.count("cleaner got TERM"), 0);
        drop(shell);
    }
}

#[test]
fn a_runner_in_a_session_of_its_own_gets_the_stop_signal_after_ctrl_c() {
    let script = r#"exec setsid sh -c 'trap "echo got TERM; exit 42" TERM; echo leader $$
        while :; do sleep 0.1; done'"#;
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

#[test]
fn a_runner_that_ignores_ctrl_c_is_killed_after_the_grace() {
    let script = r#"trap '' INT; trap "echo got TERM" TERM; echo leader $$
        while :; do sleep 0.1; done"#;
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).set("--grace", "300ms");
    let shell = terminal.shell(program.script(script));
    terminal.enter(r#""$@"; echo status $?"#);
    terminal.wait_for("leader");
    terminal.press("\x03");
    assert_eq!(terminal.wait_for_number("status"), 137);
    assert_eq!(terminal.count("got TERM"), 0);
    drop(shell);
}

#[test]
fn in_a_script_that_ignores_ctrl_c_the_runner_reads_the_terminal() {
    for ignored in ["INT", "HUP"] {
        let endpoint = Endpoint::ok();
        let mut terminal = Terminal::open();
        let reader = "echo leader $$; IFS= read -r line; echo read $line; exit 42";
        let program = Taskbeat::run(&endpoint).script(reader);
        let shell = terminal.shell(program.env("IGNORED", ignored));
        terminal.enter(r#"sh -c 'trap "" $IGNORED; "$@"; echo status $?' sh "$@""#);
        terminal.wait_for("leader");
        terminal.enter("hello");
        terminal.wait_for("read hello");
        assert_eq!(terminal.wait_for_number("status"), 42);
        drop(shell);
    }
}

#[test]
fn taskbeat_follows_a_leader_that_was_stopped_from_elsewhere() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script("nap leader"));
    terminal.enter(r#""$@""#);
    let runner = terminal.wait_for_number("leader");
    let daemon = only_child(shell.pid());
    signal(runner, Signal::STOP);
    terminal.wait_for("Stopped");
    assert_eq!([daemon, runner].map(state_of), ['T', 'T']);
    terminal.enter("fg; echo status $?");
    eventually("both go on", || [daemon, runner].into_iter().all(|pid| state_of(pid) == 'S'));
    endpoint.wait_for_more(2);
    terminal.press("\x03");
    assert_eq!(terminal.wait_for_number("status"), 130);
    drop(shell);
}

#[test]
fn ctrl_z_does_not_stop_taskbeat_if_the_runner_ignores_it() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let script = format!("trap '' TSTP; {TALKING}");
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(&script));
    terminal.enter(r#""$@"; echo status $?"#);
    let runner = terminal.wait_for_number("leader");
    let daemon = only_child(shell.pid());
    terminal.press("\x1a");
    endpoint.wait_for_more(4);
    assert_ne!(state_of(daemon), 'T');
    assert_ne!(state_of(runner), 'T');
    terminal.press("\x03");
    terminal.wait_for("got INT");
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    drop(shell);
}

#[test]
fn without_a_runner_ctrl_z_stops_taskbeat() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint));
    terminal.enter(r#""$@""#);
    terminal.wait_for("heartbeat acknowledged");
    terminal.press("\x1a");
    terminal.wait_for("Stopped");
    terminal.enter("fg; echo status $?");
    endpoint.wait_for_more(2);
    terminal.press("\x03");
    assert_eq!(terminal.wait_for_number("status"), 0);
    drop(shell);
}

#[test]
fn a_shell_that_suspends_itself_suspends_taskbeat() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).command(&SHELL));
    terminal.enter(r#""$@"; echo status $?"#);
    terminal.wait_for("the runner is running");
    terminal.enter("echo inner $$");
    terminal.wait_for_number("inner");
    terminal.enter("suspend");
    terminal.wait_for("Stopped");
    terminal.enter("fg");
    terminal.enter("echo still $$; exit 5");
    terminal.wait_for("still");
    terminal.enter("echo end $?");
    assert_eq!(terminal.wait_for_number("end"), 5);
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
    eventually("both are stopped", || [daemon, runner].into_iter().all(|pid| state_of(pid) == 'T'));
    terminal.wait_for("Stopped");
    terminal.enter("fg; echo status $?");
    eventually("both go on", || [daemon, runner].into_iter().all(|pid| state_of(pid) == 'S'));
    endpoint.wait_for_more(2);
    terminal.press("\x03");
    terminal.wait_for("got INT");
    terminal.enter("go");
    assert_eq!(terminal.wait_for_number("status"), 42);
    drop(shell);
}

#[test]
fn ctrl_z_stops_taskbeat_behind_a_script_too() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#"sh -c '"$@"; exit $?' sh "$@""#);
    let runner = terminal.wait_for_number("leader");
    let script = only_child(shell.pid());
    let all = [script, only_child(script), runner];
    terminal.press("\x1a");
    eventually("all are stopped", || all.into_iter().all(|pid| state_of(pid) == 'T'));
    terminal.wait_for("Stopped");
    terminal.enter("fg; echo status $?");
    eventually("all go on", || all.into_iter().all(|pid| state_of(pid) == 'S'));
    endpoint.wait_for_more(2);
    terminal.press("\x03");
    terminal.wait_for("got INT");
    terminal.enter("go");
    terminal.wait_for("ends");
    drop(shell);
}

#[test]
fn a_log_line_does_not_stop_taskbeat_in_a_terminal_that_stops_writers() {
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
    eventually("both go on", || [daemon, runner].into_iter().all(|pid| state_of(pid) == 'S'));
    terminal.enter("hello");
    terminal.wait_for("read hello");
    assert_eq!(terminal.wait_for_number("status"), 42);
    drop(shell);
}

#[test]
fn in_the_background_ctrl_c_does_not_reach_the_runner() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let shell = terminal.shell(Taskbeat::run(&endpoint).script(TALKING));
    terminal.enter(r#""$@" &"#);
    terminal.wait_for("leader");
    let daemon = only_child(shell.pid());
    terminal.enter("PROMPT_COMMAND='echo prompt'");
    terminal.wait_for("prompt");
    terminal.press("\x03");
    eventually("the shell has received it", || terminal.count("prompt") == 2);
    endpoint.wait_for_more(3);
    assert_eq!(terminal.count("got INT"), 0);
    terminal.enter("fg; echo status $?");
    eventually("it is in the foreground", || foreground(daemon) == group_of(daemon));
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
    terminal.wait_for("the runner is running");
    terminal.enter("echo inner $$; set -o | grep monitor");
    let inner = terminal.wait_for_number("inner");
    assert!(terminal.wait_for("monitor").contains("on"));
    assert_ne!(inner, shell.pid());
    // A process that prints has replaced the shell's own dispositions, which ignore Ctrl-Z.
    terminal.enter(r#"sh -c 'echo "$0 $$"; exec sleep 120' sleeper &"#);
    let sleeper = terminal.wait_for_number("sleeper");
    terminal.enter("jobs");
    terminal.wait_for("Running");
    terminal.enter("fg");
    eventually("it is in the foreground", || {
        group_of(sleeper) == sleeper && foreground(sleeper) == sleeper
    });
    // Its own group is in the foreground: neither key reaches taskbeat.
    terminal.press("\x1a");
    terminal.wait_for("Stopped");
    assert_eq!(state_of(sleeper), 'T');
    terminal.enter("fg");
    eventually("it goes on", || state_of(sleeper) == 'S' && foreground(sleeper) == sleeper);
    terminal.press("\x03");
    eventually("it has ended", || !is_alive(sleeper));
    terminal.enter("echo interrupted $?");
    assert_eq!(terminal.wait_for_number("interrupted"), 130);
    endpoint.wait_for_more(2);
    terminal.enter("exit 5");
    assert_eq!(terminal.wait_for_number("status"), 5);
    assert!(!terminal.text().contains("stop requested"));
    drop(shell);
}

/// The foreground process group of a process's terminal.
fn foreground(pid: i32) -> i32 {
    let process = procfs::process::Process::new(pid);
    process.and_then(|process| process.stat()).unwrap().tpgid
}

#[test]
fn a_terminal_that_a_killed_shell_had_taken_is_given_back() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).command(&SHELL);
    // The script shares taskbeat's group, so no other process would give it the terminal back.
    let caller = r#""$@"; echo status $?; read -r line; echo read $line"#;
    let shell = terminal.shell(program.env("CALLER", caller));
    terminal.enter(r#"sh -c "$CALLER" sh "$@""#);
    terminal.wait_for("the runner is running");
    terminal.enter("echo inner $$");
    terminal.wait_for("inner");
    terminal.enter("kill -KILL $$");
    assert_eq!(terminal.wait_for_number("status"), 137);
    terminal.enter("hello");
    terminal.wait_for("read hello");
    drop(shell);
}

/// Writes the signals that it gets to a file, and exits when the file `go` exists.
const WRITING: &str = r#"
for name in INT TERM HUP; do trap "echo $name >> received" $name; done
echo leader $$
while ! [ -e go ]; do sleep 0.01; done
exit 42"#;

#[test]
fn a_hang_up_that_reaches_taskbeat_alone_stops_the_runner_with_the_stop_signal() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).script(WRITING);
    let home = program.home().to_owned();
    // taskbeat leads the session, as under `ssh -t` and `xterm -e`: the kernel signals it alone.
    let mut daemon = terminal.alone(program);
    terminal.wait_for("leader");
    terminal.hang_up();
    let received = || fs::read_to_string(home.join("received")).unwrap_or_default();
    eventually("the runner has received it", || received() == "TERM\n");
    endpoint.wait_for_more(2);
    fs::write(home.join("go"), "").unwrap();
    assert_eq!(daemon.wait(), 42);
    assert_eq!(received(), "TERM\n");
}

#[test]
fn a_hang_up_of_the_shell_is_one_stop() {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).script(WRITING);
    let home = program.home().to_owned();
    let shell = terminal.shell(program.env("HISTFILE", "/dev/null"));
    terminal.enter(r#""$@" 2>log"#);
    let runner = terminal.wait_for_number("leader");
    let daemon = only_child(shell.pid());
    terminal.hang_up();
    // The shell signals its jobs, and the kernel signals the foreground group when the shell exits.
    wait_for_end(shell.pid());
    let received = || fs::read_to_string(home.join("received")).unwrap_or_default();
    eventually("the runner has received it", || received().contains("HUP"));
    endpoint.wait_for_more(3);
    assert!(is_alive(runner), "{}", fs::read_to_string(home.join("log")).unwrap());
    fs::write(home.join("go"), "").unwrap();
    wait_for_end(daemon);
    let log = fs::read_to_string(home.join("log")).unwrap();
    assert!(log.contains("exit status=42"), "{log}");
    assert!(log.contains("stop requested"), "{log}");
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
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut terminal = Terminal::open();
        let program = Taskbeat::run(&endpoint).env(variable, value).script("exit 3");
        assert_eq!(terminal.alone(program).wait(), 3);
        let started = terminal.wait_for("taskbeat starts");
        assert!(!started.contains('\x1b'), "{variable}: {started:?}");
    }
    let finished = Taskbeat::run(&endpoint).script("exit 3").finish();
    assert!(!finished.stderr.contains('\x1b'), "{finished:?}");
}

/// A script starts taskbeat in the background. `enter` starts the script.
fn keys_for_a_script_do_not_reach_the_runner(enter: &[&str]) {
    let endpoint = Endpoint::ok();
    let mut terminal = Terminal::open();
    let program = Taskbeat::run(&endpoint).script(TALKING);
    // It goes on after the key, as a script that cleans up.
    let script = "trap 'echo received' INT QUIT
        \"$@\" & echo daemon $!; wait $!; wait $!; wait $!; echo status $?";
    fs::write(program.home().join("script"), script).unwrap();
    let shell = terminal.shell(program);
    terminal.enter(enter[0]);
    let daemon = terminal.wait_for_number("daemon");
    terminal.wait_for("leader");
    for line in &enter[1..] {
        terminal.enter(line);
    }
    eventually("it is in the foreground", || foreground(daemon) == group_of(daemon));
    for (key, received) in [("\x03", 1), ("\x1c", 2)] {
        terminal.press(key);
        eventually("the script has received it", || terminal.count("received") == received);
    }
    endpoint.wait_for_more(3);
    assert_eq!(terminal.count("got INT") + terminal.count("got QUIT"), 0);
    // From elsewhere it is a stop, although the script made taskbeat ignore it.
    signal(daemon, Signal::INT);
    terminal.wait_for("got TERM");
    // A script connects the input of a background job to /dev/null.
    assert_eq!(terminal.wait_for_number("status"), 9);
    drop(shell);
}

#[test]
fn in_the_background_of_a_script_ctrl_c_does_not_reach_the_runner() {
    keys_for_a_script_do_not_reach_the_runner(&[r#"sh script "$@""#]);
}

/// The runner has its own group, to which taskbeat forwards signals.
#[test]
fn in_the_background_of_a_script_that_fg_continues_keys_do_not_reach_the_runner() {
    keys_for_a_script_do_not_reach_the_runner(&[r#"sh script "$@" &"#, "fg"]);
}

#[test]
fn a_terminal_that_a_killed_runner_left_raw_is_restored() {
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
