//! A runner that another supervisor started.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Signal, geteuid};

use crate::harness::{
    Daemon, Endpoint, ExternalRunner, Step, Taskbeat, children, is_alive, let_pass, replace_file,
    signal, skip_without, skip_without_root,
};

/// Ignores the stop signal.
const DEAF: &str = "trap '' TERM; echo ready; exec sleep 120";

/// A daemon that follows the file, which is not there yet, and the file.
fn following(endpoint: &Endpoint) -> (Taskbeat, PathBuf) {
    let program = Taskbeat::run(endpoint);
    let file = program.home().join("pid");
    (program.set("--pid-file", &file), file)
}

fn write(file: &PathBuf, runner: &ExternalRunner) {
    fs::write(file, format!("{}\n", runner.pid())).unwrap();
}

fn wait_for_runner(daemon: &Daemon, runner: &ExternalRunner) {
    daemon.wait_for_log(&format!("the runner is running pid={}", runner.pid()));
}

#[test]
fn an_attached_runner_that_ends_by_itself_makes_the_status_1() {
    let endpoint = Endpoint::ok();
    let mut runner = ExternalRunner::plain();
    let daemon = Taskbeat::run(&endpoint).set("--pid", runner.pid().to_string()).start();
    wait_for_runner(&daemon, &runner);
    endpoint.wait_for(1);
    runner.kill();
    assert_eq!(daemon.finish().status, 1);
}

#[test]
fn a_process_that_is_not_there_makes_the_status_1() {
    let endpoint = Endpoint::ok();
    let mut runner = ExternalRunner::plain();
    runner.kill();
    let finished = Taskbeat::run(&endpoint).set("--pid", runner.pid().to_string()).finish();
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_stop_leaves_an_attached_runner_alone() {
    for stop in [Signal::TERM, Signal::INT] {
        let endpoint = Endpoint::ok();
        let runner = ExternalRunner::plain();
        let (program, file) = following(&endpoint);
        write(&file, &runner);
        let by_pid = Taskbeat::run(&endpoint).set("--pid", runner.pid().to_string());
        for program in [by_pid, program] {
            let daemon = program.start();
            wait_for_runner(&daemon, &runner);
            daemon.signal(stop);
            let finished = daemon.finish();
            assert_eq!(finished.status, 0, "{finished:?}");
            assert!(finished.stderr.contains("stop requested\n"), "{finished:?}");
            assert!(runner.is_alive());
        }
    }
}

#[test]
fn terminate_stops_an_attached_runner() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let mut runner = ExternalRunner::plain();
    let finished = Taskbeat::run(&endpoint).set("--pid", runner.pid().to_string()).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.wait_for_end(), Some(Signal::TERM.as_raw()));
}

#[test]
fn terminate_kills_an_attached_runner_that_ignores_it_after_the_grace() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let mut runner = ExternalRunner::start(DEAF);
    let finished = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .set("--grace", "300ms")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.wait_for_end(), Some(Signal::KILL.as_raw()));
    let stopped = format!("terminate received: stop signal to sleep[{}]", runner.pid());
    assert!(finished.stderr.contains(&stopped), "{finished:?}");
}

#[test]
fn an_attached_runner_is_signalled_alone() {
    let endpoint = Endpoint::play([], Step::Terminate);
    // The child is in its group, and ends it with it only if it is left alone.
    let script = "sleep 120 & child=$!; trap 'kill -0 $child; exit $?' TERM; echo ready; wait";
    let mut runner = ExternalRunner::start(&format!("{script}; exit 99"));
    let [child] = children(runner.pid())[..] else {
        panic!("its child is missing");
    };
    let finished = Taskbeat::run(&endpoint).set("--pid", runner.pid().to_string()).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.wait_for_end(), None);
    assert!(is_alive(child));
    signal(child, Signal::KILL);
}

/// `program` and a process that it may not signal. `None` if there is none.
fn with_foreign_process(program: Taskbeat) -> Option<(Taskbeat, u32)> {
    if geteuid().is_root() {
        return Some((program.by_other_user(), std::process::id()));
    }
    let init = procfs::process::Process::new(1).and_then(|init| init.uid());
    if init.is_ok_and(|uid| uid != geteuid().as_raw()) {
        return Some((program, 1));
    }
    skip_without("a process of another user");
    None
}

#[test]
fn a_process_that_taskbeat_may_not_signal_makes_the_status_78() {
    let endpoint = Endpoint::ok();
    let Some((program, pid)) = with_foreign_process(Taskbeat::run(&endpoint)) else {
        return;
    };
    let finished = program.set("--pid", pid.to_string()).finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    assert!(finished.stderr.contains("not permitted"), "{finished:?}");
    assert!(endpoint.requests().is_empty());
}

/// Its id may have been reused, so the file may name the runner again later.
#[test]
fn a_file_that_names_a_process_of_another_user_is_waited_on() {
    let endpoint = Endpoint::ok();
    let (program, file) = following(&endpoint);
    let Some((program, pid)) = with_foreign_process(program) else {
        return;
    };
    fs::write(&file, format!("{pid}\n")).unwrap();
    let daemon = program.start();
    let line = daemon.wait_for_log(&format!(
        "names process {pid} of another user, which taskbeat may not signal"
    ));
    assert!(line.contains("WARN"), "{line}");
    replace_file(&file, "");
    daemon.wait_for_log("is empty");
    assert!(endpoint.requests().is_empty());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn a_file_without_a_process_id_means_not_running() {
    let endpoint = Endpoint::ok();
    let (program, file) = following(&endpoint);
    let daemon = program.start();
    daemon.wait_for_log("INFO waiting for the runner: ");
    daemon.wait_for_log("does not exist");
    for (content, reason) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("runner\n", "does not begin with a process id"),
        ("-1\n", "does not begin with a process id"),
        ("12 34\n", "does not begin with a process id"),
        ("99999999999\n", "does not begin with a process id"),
    ] {
        // In one step, so that the daemon never reads half of it.
        replace_file(&file, content);
        daemon.wait_for_log(reason);
    }
    assert!(endpoint.requests().is_empty());
    let runner = ExternalRunner::plain();
    write(&file, &runner);
    wait_for_runner(&daemon, &runner);
    endpoint.wait_for(2);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!finished.stderr.contains("may hang"), "{finished:?}");
}

#[test]
fn a_file_that_cannot_be_read_means_not_running() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let folder = program.home().to_owned();
    let daemon = program.set("--pid-file", folder).start();
    let line = daemon.wait_for_log("cannot be read: Is a directory");
    assert!(line.contains("WARN waiting for the runner: "), "{line}");
    assert!(endpoint.requests().is_empty());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn half_a_number_is_not_taken_for_a_whole_one() {
    let endpoint = Endpoint::ok();
    let runner = ExternalRunner::plain();
    let (program, file) = following(&endpoint);
    // The half of it would be another process.
    fs::write(&file, runner.pid().to_string()).unwrap();
    let daemon = program.start();
    daemon.wait_for_log("so it may still be written");
    assert!(endpoint.requests().is_empty());
    // It stays as it is, so it is whole.
    wait_for_runner(&daemon, &runner);
    endpoint.wait_for(1);
}

#[test]
fn a_stale_file_means_not_running() {
    let endpoint = Endpoint::ok();
    let runner = ExternalRunner::plain();
    let (program, file) = following(&endpoint);
    write(&file, &runner);
    touch(&file, "-1 hour");
    let daemon = program.start();
    let line = daemon.wait_for_log("started after it was written");
    assert!(line.contains("WARN waiting for the runner: "), "{line}");
    assert!(endpoint.requests().is_empty());
    // Written again, it means this process.
    write(&file, &runner);
    wait_for_runner(&daemon, &runner);
}

#[test]
fn a_file_seems_older_than_its_process_after_a_step_of_the_clock() {
    let endpoint = Endpoint::ok();
    let runner = ExternalRunner::plain();
    let (program, file) = following(&endpoint);
    write(&file, &runner);
    touch(&file, "-4 minutes");
    let daemon = program.start();
    wait_for_runner(&daemon, &runner);
}

#[test]
fn a_stale_file_that_names_another_users_process_means_not_running() {
    if !geteuid().is_root() {
        return skip_without_root();
    }
    let endpoint = Endpoint::ok();
    let (program, file) = following(&endpoint);
    fs::write(&file, format!("{}\n", std::process::id())).unwrap();
    touch(&file, "-1 hour");
    let daemon = program.by_other_user().start();
    daemon.wait_for_log("is stale");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn a_runner_that_restarts_in_a_loop_does_not_flood_the_service() {
    let endpoint = Endpoint::ok();
    let (program, file) = following(&endpoint);
    let daemon = program.set("--interval", "15m").start();
    for _ in 0..5 {
        let mut runner = ExternalRunner::plain();
        write(&file, &runner);
        wait_for_runner(&daemon, &runner);
        endpoint.wait_for(1);
        runner.kill();
        daemon.wait_for_log("the runner exited");
    }
    assert_eq!(endpoint.requests().len(), 1);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

/// Sets the file's time.
fn touch(file: &PathBuf, when: &str) {
    let date = format!("--date={when}");
    let touched = Command::new("touch").arg(date).arg(file).status();
    assert!(touched.unwrap().success());
}

#[test]
fn a_file_that_changes_while_the_runner_lives_is_ignored() {
    let endpoint = Endpoint::ok();
    let (mut runner, other) = (ExternalRunner::plain(), ExternalRunner::plain());
    let (program, file) = following(&endpoint);
    write(&file, &runner);
    let daemon = program.start();
    wait_for_runner(&daemon, &runner);
    write(&file, &other);
    endpoint.wait_for_more(4);
    assert!(!daemon.log().contains(&format!("pid={}", other.pid())));
    fs::remove_file(&file).unwrap();
    endpoint.wait_for_more(4);
    endpoint.switch_to(Step::Terminate);
    assert_eq!(daemon.finish().status, 0);
    assert_eq!(runner.wait_for_end(), Some(Signal::TERM.as_raw()));
    assert!(other.is_alive());
}

#[test]
fn a_restarted_runner_is_followed_and_without_one_no_heartbeat_is_sent() {
    let endpoint = Endpoint::ok();
    let (program, file) = following(&endpoint);
    let mut runner = ExternalRunner::plain();
    write(&file, &runner);
    let daemon = program.set("--interval", "50ms").flag("-v").start();
    wait_for_runner(&daemon, &runner);
    for _ in 0..2 {
        endpoint.wait_for_more(3);
        runner.kill();
        daemon.wait_for_log("the runner exited");
        // The file still names the exited process, for several intervals.
        daemon.wait_for_log(&format!("names process {}, which does not run", runner.pid()));
        let_pass(Duration::from_millis(200));
        // A heartbeat that was sent before the exit may still arrive.
        let log = daemon.log();
        let since = log.rsplit("the runner exited").next().unwrap();
        assert!(!since.contains("heartbeat sent"), "{log}");
        runner = ExternalRunner::plain();
        write(&file, &runner);
        wait_for_runner(&daemon, &runner);
    }
    endpoint.wait_for_more(3);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn taskbeat_does_not_attach_to_itself() {
    let endpoint = Endpoint::ok();
    // The shell becomes taskbeat.
    let own = ["sh", "-c", r#"exec "$@" --pid $$"#, "sh"];
    let finished = Taskbeat::run(&endpoint).via(&own).finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    assert!(finished.stderr.contains("this is taskbeat itself"), "{finished:?}");
}

#[test]
fn a_pid_file_that_is_a_pipe_does_not_block_the_loop() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let pipe = program.home().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let daemon = program.set("--pid-file", &pipe).start();
    daemon.wait_for_log("waiting for the runner:");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn a_runner_that_is_started_again_after_terminate_is_left_alone() {
    let endpoint = Endpoint::ok();
    let runner = ExternalRunner::plain();
    let (program, file) = following(&endpoint);
    let id = program.id();
    write(&file, &runner);
    let daemon = program.set("--after-terminate", "idle").start();
    wait_for_runner(&daemon, &runner);
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log("the runner exited");
    let again = ExternalRunner::plain();
    write(&file, &again);
    // The file would be read twice in this time.
    std::thread::sleep(Duration::from_secs(1));
    let status = Taskbeat::new("status").set("--taskrunner-id", id).finish();
    assert!(status.text().contains("runner        none"), "{status:?}");
    assert!(again.is_alive());
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(again.is_alive());
}

#[test]
fn a_check_names_the_process_of_a_file_without_a_line_end() {
    let runner = ExternalRunner::plain();
    let program = Taskbeat::new("check");
    fs::write(program.home().join("pid"), runner.pid().to_string()).unwrap();
    let finished = program.set("--taskrunner-id", "r").set("--pid-file", "pid").finish();
    let process = format!("process {}, sleep\n", runner.pid());
    assert!(finished.text().contains(&process), "{finished:?}");
}
