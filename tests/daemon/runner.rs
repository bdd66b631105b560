//! The runner finds what it would find without us.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::{Endpoint, Play, Taskbeat, is_alive, runner, signal, wait_for_end};

/// An endpoint that leaves the runner alone.
fn silent() -> Endpoint {
    Endpoint::play([], Play::Hang)
}

#[test]
fn bytes_pass_from_our_input_to_our_output_untouched() {
    let endpoint = silent();
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(200_000).collect();
    let mut daemon = Taskbeat::run(&endpoint)
        .with_stdin()
        .command(&["cat"])
        .start();
    daemon.say(&bytes);
    daemon.hang_up();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0);
    assert!(finished.stdout == bytes);
}

#[test]
fn what_the_runner_says_on_stderr_stays_on_stderr() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint)
        .script("echo out; echo problem >&2")
        .finish();
    assert_eq!(finished.text(), "out\n");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert!(lines.contains(&"problem"), "{finished:?}");
}

#[test]
fn arguments_reach_the_runner_untouched() {
    let endpoint = silent();
    let words = ["printf", "%s\\n", "--flag", "a b", "$HOME", "", "-v", "'"];
    let finished = Taskbeat::run(&endpoint).command(&words).finish();
    assert_eq!(finished.text(), "--flag\na b\n$HOME\n\n-v\n'\n");
}

#[test]
fn a_command_of_the_environment_is_run_by_the_shell() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint)
        .env("TASKBEAT_COMMAND", "echo \"$((40 + 2))\"; exit 7")
        .finish();
    assert_eq!((finished.text().as_str(), finished.status), ("42\n", 7));
}

#[test]
fn variables_of_our_own_service_manager_are_not_passed_on() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", "/nonexistent/notify")
        .env("WATCHDOG_PID", "1")
        .env("WATCHDOG_USEC", "60000000")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "a")
        .env("LISTEN_ADDRESS", "of the runner's own")
        .env("MY_OWN", "value")
        .command(&["env"])
        .finish();
    let text = finished.text();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    for ours in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_PID", "LISTEN_FD"] {
        assert!(!names.iter().any(|name| name.starts_with(ours)), "{text}");
    }
    assert!(text.contains("MY_OWN=value\n"), "{text}");
    assert!(
        text.contains("LISTEN_ADDRESS=of the runner's own\n"),
        "{text}"
    );
    // A runner uses the same credentials.
    assert!(text.contains("AWS_ACCESS_KEY_ID=AKIDEXAMPLE\n"), "{text}");
}

#[test]
fn the_runner_starts_with_no_signal_blocked_or_ignored() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint)
        .via(&["env", "--ignore-signal=PIPE", "--ignore-signal=HUP"])
        .via(&["env", "--ignore-signal=RTMAX", "--block-signal=TERM"])
        .via(&["env", "--block-signal=USR1", "--block-signal=CHLD"])
        .command(&["cat", "/proc/self/status"])
        .finish();
    let text = finished.text();
    // The first two real-time signals belong to the C library, which lets nobody else touch them.
    let the_librarys = 0b11 << 31;
    for field in ["SigBlk:", "SigIgn:"] {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let signals = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
        assert_eq!(signals & !the_librarys, 0, "{text}");
    }
}

#[test]
fn a_stop_is_heard_though_we_were_started_with_it_blocked() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .via(&["env", "--block-signal=TERM", "--block-signal=INT"])
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

#[test]
fn no_descriptor_of_ours_reaches_the_runner() {
    let list = ["ls", "/proc/self/fd"];
    // What the tests themselves were given reaches everybody.
    let plain = Command::new(list[0])
        .args(&list[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint).command(&list).finish();
    assert_eq!(finished.stdout, plain.stdout);
}

#[test]
fn the_runner_leads_a_process_group_of_its_own() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint)
        .script("echo $$; cut -d' ' -f5 /proc/$$/stat")
        .finish();
    let text = finished.text();
    let (pid, group) = text.trim().split_once('\n').unwrap();
    assert_eq!(pid, group);
}

#[test]
fn a_command_that_is_not_there_makes_the_status_127() {
    let endpoint = silent();
    for command in ["/nonexistent/runner", "no-such-command-on-any-path"] {
        let finished = Taskbeat::run(&endpoint)
            // A directory that may not be searched would be another reason.
            .env("PATH", "/usr/bin:/bin")
            .command(&[command])
            .finish();
        assert_eq!(finished.status, 127, "{finished:?}");
        assert!(finished.stderr.contains(command), "{finished:?}");
    }
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_command_that_cannot_be_executed_makes_the_status_126() {
    let endpoint = silent();
    let daemon = Taskbeat::run(&endpoint);
    let file = daemon.home().join("plain-file");
    fs::write(&file, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let finished = daemon.command(&[file.to_str().unwrap()]).finish();
    assert_eq!(finished.status, 126, "{finished:?}");
    let finished = Taskbeat::run(&endpoint).command(&["/"]).finish();
    assert_eq!(finished.status, 126, "{finished:?}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn the_leader_does_not_outlive_us() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).script(runner::DEAF).start();
    let leader = daemon.wait_for_pid("ready");
    daemon.signal(Signal::KILL);
    wait_for_end(leader);
}

#[test]
fn orphans_of_the_runner_are_reaped_while_it_runs() {
    let endpoint = Endpoint::ok();
    // The orphan's parent is gone before the orphan is.
    let script = "(sh -c 'read -r go < pipe; echo orphan $$' &); nap ready & echo leader; wait";
    let daemon = Taskbeat::run(&endpoint);
    let pipe = daemon.home().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let daemon = daemon.script(script).start();
    daemon.wait_for_pid("ready");
    fs::write(&pipe, "go\n").unwrap();
    let orphan = daemon.wait_for_pid("orphan");
    // Each heartbeat is a turn of the loop; it needs none to reap, but a moment.
    let proc = format!("/proc/{orphan}");
    let reaped = (0..100).any(|_| {
        endpoint.wait_for_more(1);
        !fs::exists(&proc).unwrap()
    });
    assert!(reaped, "{orphan} is still a zombie");
}

#[test]
fn every_status_of_the_runner_is_ours() {
    let endpoint = silent();
    for status in 0..=255 {
        let finished = Taskbeat::run(&endpoint)
            .command(&["sh", "-c", &format!("exit {status}")])
            .finish();
        assert_eq!(finished.status, status);
    }
}

#[test]
fn every_signal_that_ends_the_runner_makes_the_status_128_and_its_number() {
    let endpoint = silent();
    // By default these are ignored or stop it; the C library keeps two to itself.
    let others = [17, 18, 19, 20, 21, 22, 23, 28, 32, 33];
    for number in (1..=64).filter(|number| !others.contains(number)) {
        let finished = Taskbeat::run(&endpoint)
            .command(&["sh", "-c", &format!("kill -{number} $$")])
            .finish();
        assert_eq!(finished.status, 128 + number);
    }
}

#[test]
fn the_runner_starts_where_we_were_started() {
    let endpoint = silent();
    let program = Taskbeat::run(&endpoint).command(&["pwd", "-P"]);
    let here = program.home().canonicalize().unwrap();
    assert_eq!(program.finish().text().trim_end(), here.to_str().unwrap());
}

#[test]
fn whoever_was_below_us_before_is_not_the_runners() {
    let endpoint = Endpoint::ok();
    // The shell becomes us, so that its child is ours; that one's children come and go.
    let before = "(while :; do sleep 0.05; done) & echo before $!; exec \"$@\"";
    for terminate in [false, true] {
        let daemon = Taskbeat::run(&endpoint)
            .via(&["sh", "-c", before, "sh"])
            .script(runner::OBEDIENT)
            .start();
        let other = daemon.wait_for_pid("before");
        daemon.wait_for_pid("ready");
        if terminate {
            endpoint.now_play(Play::Terminate);
        } else {
            daemon.signal(Signal::TERM);
        }
        // Its output stays open as long as that one lives.
        daemon.wait_for_log("exit status=");
        assert!(is_alive(other), "it was killed");
        signal(other, Signal::KILL);
        let finished = daemon.finish();
        assert_eq!(
            finished.status,
            if terminate { 0 } else { 42 },
            "{finished:?}"
        );
        assert_eq!(
            finished.stderr.matches(": stopping ").count(),
            1,
            "{finished:?}"
        );
        assert!(
            !finished.stderr.contains(&format!("[{other}]")),
            "{finished:?}"
        );
        endpoint.now_play(Play::Ok);
    }
}
