//! What a child inherits, and what its end means for taskbeat.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::{
    Endpoint, Step, Taskbeat, eventually, in_parallel, is_alive, rounds, runner, signal,
    skip_without, text, wait_for_end,
};

/// An endpoint without any influence on the runner.
fn silent() -> Endpoint {
    Endpoint::play([], Step::Hang)
}

#[test]
fn stdin_and_stdout_are_passed_on_byte_for_byte() {
    let endpoint = silent();
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(200_000).collect();
    let mut daemon = Taskbeat::run(&endpoint).with_stdin().command(&["cat"]).start();
    daemon.write_stdin(&bytes);
    daemon.close_stdin();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0);
    assert!(finished.stdout == bytes);
}

#[test]
fn the_runners_stderr_is_passed_on() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint).script("echo out; echo problem >&2").finish();
    assert_eq!(finished.text(), "out\n");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert!(lines.contains(&"problem"), "{finished:?}");
}

#[test]
fn arguments_are_passed_on_unchanged() {
    let endpoint = silent();
    let words = ["printf", "%s\\n", "--flag", "a b", "$HOME", "", "-v", "'"];
    let finished = Taskbeat::run(&endpoint).command(&words).finish();
    assert_eq!(finished.text(), "--flag\na b\n$HOME\n\n-v\n'\n");
}

#[test]
fn taskbeat_command_is_run_by_the_shell() {
    let endpoint = silent();
    let finished =
        Taskbeat::run(&endpoint).env("TASKBEAT_COMMAND", "echo \"$((40 + 2))\"; exit 7").finish();
    assert_eq!((finished.text().as_str(), finished.status), ("42\n", 7));
}

#[test]
fn variables_of_the_service_manager_are_not_passed_on() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", "/nonexistent/notify")
        .env("WATCHDOG_PID", "1")
        .env("WATCHDOG_USEC", "60000000")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "a")
        .env("LISTEN_ADDRESS", "unrelated")
        .env("MY_OWN", "value")
        .command(&["env"])
        .finish();
    let text = finished.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    for prefix in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_PID", "LISTEN_FD"] {
        assert!(!names.iter().any(|name| name.starts_with(prefix)), "{text}");
    }
    assert!(text.contains("MY_OWN=value\n"), "{text}");
    assert!(text.contains("LISTEN_ADDRESS=unrelated\n"), "{text}");
    // A runner may use the same credentials.
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
    // The first two real-time signals are reserved by the C library.
    let reserved = 0b11 << 31;
    for field in ["SigBlk:", "SigIgn:"] {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let signals = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
        assert_eq!(signals & !reserved, 0, "{text}");
    }
}

#[test]
fn a_stop_signal_that_was_blocked_at_start_is_obeyed() {
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
fn the_runner_inherits_no_descriptor_of_taskbeat() {
    let list = ["ls", "/proc/self/fd"];
    // The tests may have inherited descriptors, which every process inherits from them.
    let plain = Command::new(list[0]).args(&list[1..]).stdin(Stdio::null()).output().unwrap();
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint).command(&list).finish();
    assert_eq!(finished.stdout, plain.stdout);
}

#[test]
fn the_runner_leads_its_own_process_group() {
    let endpoint = silent();
    let finished = Taskbeat::run(&endpoint).script("echo $$; cut -d' ' -f5 /proc/$$/stat").finish();
    let text = finished.text();
    let (pid, group) = text.trim().split_once('\n').unwrap();
    assert_eq!(pid, group);
}

#[test]
fn a_command_that_does_not_exist_makes_the_status_127() {
    let endpoint = silent();
    for command in ["/nonexistent/runner", "no-such-command-on-any-path"] {
        let finished = Taskbeat::run(&endpoint)
            // A PATH with an unsearchable directory would make the status 126.
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
fn sigkill_to_taskbeat_ends_the_leader() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).script(runner::IGNORES_STOP).start();
    let leader = daemon.wait_for_pid("ready");
    daemon.signal(Signal::KILL);
    wait_for_end(leader);
}

#[test]
fn orphans_of_the_runner_are_reaped_while_it_runs() {
    let endpoint = Endpoint::ok();
    // The orphan's parent ends first, then the orphan, after it has read a line.
    let script = "(sh -c 'read -r go < pipe; echo orphan $$' &); nap ready & echo leader; wait";
    let daemon = Taskbeat::run(&endpoint);
    let pipe = daemon.home().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let daemon = daemon.script(script).start();
    let runner = daemon.wait_for_pid("ready");
    fs::write(&pipe, "go\n").unwrap();
    let orphan = daemon.wait_for_pid("orphan");
    let proc = format!("/proc/{orphan}");
    eventually("the orphan is reaped", || !fs::exists(&proc).unwrap());
    assert!(is_alive(runner));
}

#[test]
fn the_runners_exit_status_is_taskbeats() {
    let endpoint = silent();
    // By default those that mean something to taskbeat, a shell or systemd.
    let some = vec![0, 1, 2, 69, 70, 75, 78, 126, 127, 128, 137, 143, 255];
    in_parallel(rounds(some, (0..=255).collect()), |status| {
        let finished =
            Taskbeat::run(&endpoint).command(&["sh", "-c", &format!("exit {status}")]).finish();
        assert_eq!(finished.status, status, "{finished:?}");
    });
}

#[test]
fn a_signal_that_ends_the_runner_makes_the_status_128_plus_its_number() {
    let endpoint = silent();
    // All signals but those that by default are ignored or stop a process, and those that the C
    // library reserves.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28, 32, 33];
    let all = (1..=64).filter(|number| !harmless.contains(number));
    // HUP, INT, ABRT, KILL, SEGV, PIPE, TERM, XFSZ, RTMIN and RTMAX.
    let some = vec![1, 2, 6, 9, 11, 13, 15, 25, 34, 64];
    in_parallel(rounds(some, all.collect()), |number| {
        let finished =
            Taskbeat::run(&endpoint).command(&["sh", "-c", &format!("kill -{number} $$")]).finish();
        assert_eq!(finished.status, 128 + number, "{finished:?}");
    });
}

#[test]
fn the_runner_starts_in_the_working_directory_of_taskbeat() {
    let endpoint = silent();
    let program = Taskbeat::run(&endpoint).command(&["pwd", "-P"]);
    let here = program.home().canonicalize().unwrap();
    assert_eq!(program.finish().text().trim_end(), here.to_str().unwrap());
}

#[test]
fn a_child_from_before_taskbeats_exec_is_not_the_runners() {
    // The shell becomes taskbeat, which so has a child at its start. That child forks all the time.
    let before = "(while :; do sleep 0.05; done) & echo before $!; exec \"$@\"";
    for terminate in [false, true] {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint)
            .via(&["sh", "-c", before, "sh"])
            .script(runner::OBEDIENT)
            .start();
        let child = daemon.wait_for_pid("before");
        daemon.wait_for_pid("ready");
        if terminate {
            endpoint.switch_to(Step::Terminate);
        } else {
            daemon.signal(Signal::TERM);
        }
        // Not `finish`: the child has stdout and stderr open.
        daemon.wait_for_log("exit status=");
        assert!(is_alive(child), "it was killed");
        signal(child, Signal::KILL);
        let finished = daemon.finish();
        let status = if terminate { 0 } else { 42 };
        assert_eq!(finished.status, status, "{finished:?}");
        let log = &finished.stderr;
        assert_eq!(log.matches(text::STOPPING).count(), 1, "{log}");
        assert!(!log.contains(&format!("[{child}]")), "{log}");
    }
}

/// In qemu-user and in some sandboxes.
#[test]
fn a_kernel_that_refuses_a_subreaper_gets_a_warning_and_runs_the_runner() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip_without("strace");
    }
    let endpoint = Endpoint::ok();
    // Of the main thread, which alone is traced.
    let inject = ["strace", "-o", "strace", "-e", "inject=prctl:error=EINVAL"];
    let program = Taskbeat::run(&endpoint).via(&inject);
    let calls = program.home().join("strace");
    let mut daemon = program.script("read -r line; exit 3").with_stdin().start();
    endpoint.wait_for(2);
    let calls = fs::read_to_string(calls).unwrap();
    daemon.write_stdin(b"go\n");
    assert!(calls.contains("prctl(PR_SET_CHILD_SUBREAPER, "), "{calls}");
    let finished = daemon.finish();
    assert_eq!(finished.status, 3, "{finished:?}");
    let warning = "WARN the kernel does not let taskbeat adopt the runner's orphans: ";
    assert!(finished.stderr.contains(warning), "{finished:?}");
}

#[test]
fn a_kernel_without_pidfds_is_named() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip_without("strace");
    }
    let endpoint = Endpoint::ok();
    let inject = ["strace", "-f", "-o", "strace", "-e", "inject=pidfd_open:error=ENOSYS"];
    let finished = Taskbeat::run(&endpoint).via(&inject).script("exit 3").finish();
    assert_eq!(finished.status, 70, "{finished:?}");
    let reason = "cannot run /bin/sh: the kernel offers no pidfds; taskbeat needs Linux 5.10";
    assert!(finished.stderr.contains(reason), "{finished:?}");
}
