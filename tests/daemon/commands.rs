//! Commands beside the runner: they and what they start do not count as the runner.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Endpoint, Step, Taskbeat, eventually, is_alive, runner, signal};

#[test]
fn a_command_knows_the_daemon_the_runner_and_the_id() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let (id, file) = (program.id(), program.home().join("facts"));
    let facts = r#"echo "$TASKBEAT_PID $TASKBEAT_RUNNER_PID $TASKBEAT_TASKRUNNER_ID" >facts"#;
    let daemon = program
        .set("--on-terminate", facts)
        .script("trap 'exit 42' TERM; (echo leader $$; nap ready) & wait")
        .start();
    let leader = daemon.wait_for_pid("leader");
    let pid = daemon.pid();
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log("on-terminate succeeded");
    let found = fs::read_to_string(file).unwrap();
    assert_eq!(found, format!("{pid} {leader} {id}\n"));
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn commands_neither_read_the_input_of_the_runner_nor_write_to_its_output() {
    let endpoint = Endpoint::play([Step::Ok], Step::Terminate);
    let mut daemon = Taskbeat::run(&endpoint)
        .set("--health-check", "cat; echo of the check")
        .set("--on-terminate", "cat; echo of the command")
        .with_stdin()
        .script("echo ready $$; read line; echo \"read $line\"; exec sleep 120")
        .start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(1);
    daemon.write_stdin(b"this\n");
    daemon.wait_for_output("read this");
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!finished.text().contains(" of the "), "{finished:?}");
    assert!(finished.stderr.contains("\nof the command\n"), "{finished:?}");
}

#[test]
fn a_command_may_ask_for_the_status() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let home = program.home().to_owned();
    let ask = format!("{} status >status", env!("CARGO_BIN_EXE_taskbeat"));
    let daemon = program.set("--on-terminate", ask).script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log("on-terminate succeeded");
    let status = fs::read_to_string(home.join("status")).unwrap();
    assert!(status.starts_with("state         running on-terminate"), "{status}");
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn what_a_command_leaves_in_the_background_is_not_the_runner() {
    for leave in [
        "sleep 120 >/dev/null 2>&1 & echo $! >$LEFT",
        "setsid sh -c 'echo $$ >$LEFT; exec sleep 120' >/dev/null 2>&1 &",
    ] {
        let program = Taskbeat::new("rehearse");
        let file = tempfile::NamedTempFile::new().unwrap();
        let finished = program
            .set("--script", "ok,terminate")
            .set("--interval", "100ms")
            .set("--on-terminate", format!("{leave}\nuntil [ -s $LEFT ]; do sleep 0.1; done"))
            .env("LEFT", file.path())
            .script(runner::OBEDIENT)
            .finish();
        let left: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        assert!(is_alive(left), "{leave}: {finished:?}");
        signal(left, Signal::KILL);
        assert_eq!(finished.status, 0, "{leave}: {finished:?}");
        assert!(!finished.text().contains("SIGKILL"), "{leave}: {finished:?}");
    }
}

#[test]
fn at_its_limit_a_command_is_killed_with_its_group() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("group");
    let daemon = program
        .set("--grace", "1s")
        .set("--on-terminate", "sleep 120 & echo $! >group; wait")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log("SIGKILL to on-terminate");
    let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    eventually("the whole group is killed", || !is_alive(pid));
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().ends_with("stopped\n"), "{finished:?}");
}
