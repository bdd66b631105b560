//! A runner that somebody else started.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Signal, geteuid};

use crate::harness::{
    Bystander, Daemon, Endpoint, Play, Taskbeat, children, is_alive, missing, signal,
};

/// Ignores the stop signal.
const DEAF: &str = "trap '' TERM; echo ready; exec sleep 120";

/// A daemon that follows the file, which is not there yet, and the file.
fn following(endpoint: &Endpoint) -> (Taskbeat, PathBuf) {
    let program = Taskbeat::run(endpoint);
    let file = program.home().join("pid");
    (program.set("--pid-file", &file), file)
}

fn write(file: &PathBuf, runner: &Bystander) {
    fs::write(file, format!("{}\n", runner.pid())).unwrap();
}

fn wait_for_runner(daemon: &Daemon, runner: &Bystander) {
    daemon.wait_for_log(&format!("the runner is running pid={}", runner.pid()));
}

#[test]
fn an_attached_runner_that_ends_by_itself_makes_the_status_1() {
    let endpoint = Endpoint::ok();
    let mut runner = Bystander::plain();
    let daemon = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .start();
    wait_for_runner(&daemon, &runner);
    endpoint.wait_for(1);
    runner.kill();
    assert_eq!(daemon.finish().status, 1);
}

#[test]
fn a_process_that_is_not_there_makes_the_status_1() {
    let endpoint = Endpoint::ok();
    let mut runner = Bystander::plain();
    runner.kill();
    let finished = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .finish();
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn an_operators_stop_lets_an_attached_runner_go() {
    for stop in [Signal::TERM, Signal::INT] {
        let endpoint = Endpoint::ok();
        let runner = Bystander::plain();
        let (program, file) = following(&endpoint);
        write(&file, &runner);
        let by_pid = Taskbeat::run(&endpoint).set("--pid", runner.pid().to_string());
        for program in [by_pid, program] {
            let daemon = program.start();
            wait_for_runner(&daemon, &runner);
            daemon.signal(stop);
            let finished = daemon.finish();
            assert_eq!(finished.status, 0, "{finished:?}");
            assert!(runner.is_alive());
        }
    }
}

#[test]
fn terminate_stops_an_attached_runner() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let mut runner = Bystander::plain();
    let finished = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.ended_by(), Some(Signal::TERM.as_raw()));
}

#[test]
fn terminate_kills_an_attached_runner_that_ignores_it_after_the_grace() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let mut runner = Bystander::start(DEAF);
    let finished = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .set("--grace", "300ms")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.ended_by(), Some(Signal::KILL.as_raw()));
    let stopped = format!("terminate received: stop signal to sleep[{}]", runner.pid());
    assert!(finished.stderr.contains(&stopped), "{finished:?}");
}

#[test]
fn an_attached_runner_is_signalled_alone() {
    let endpoint = Endpoint::play([], Play::Terminate);
    // The child is in its group, and ends it with it only if it is left alone.
    let script = "sleep 120 & child=$!; trap 'kill -0 $child; exit $?' TERM; echo ready; wait";
    let mut runner = Bystander::start(&format!("{script}; exit 99"));
    let [child] = children(runner.pid())[..] else {
        panic!("its child is missing");
    };
    let finished = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.ended_by(), None);
    assert!(is_alive(child));
    signal(child, Signal::KILL);
}

#[test]
fn a_process_that_is_not_ours_to_signal_makes_the_status_78() {
    let endpoint = Endpoint::ok();
    let (pid, via): (u32, &[&str]) = if geteuid().is_root() {
        let nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        if !Command::new(nobody[0])
            .args(&nobody[1..])
            .args([env!("CARGO_BIN_EXE_taskbeat"), "--version"])
            .status()
            .is_ok_and(|status| status.success())
        {
            return missing("a program that another user may run");
        }
        (
            std::process::id(),
            &[
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ],
        )
    } else if procfs::process::Process::new(1)
        .is_ok_and(|init| init.uid().is_ok_and(|uid| uid != geteuid().as_raw()))
    {
        (1, &["env"])
    } else {
        return missing("a process of another user");
    };
    let by_pid = Taskbeat::run(&endpoint).set("--pid", pid.to_string());
    let (by_file, file) = following(&endpoint);
    fs::write(&file, format!("{pid}\n")).unwrap();
    open_to_all(&file);
    for program in [by_pid, by_file] {
        let finished = program.via(via).finish();
        assert_eq!(finished.status, 78, "{finished:?}");
        assert!(finished.stderr.contains("not permitted"), "{finished:?}");
    }
    assert!(endpoint.requests().is_empty());
}

fn open_to_all(file: &PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let home = file.parent().unwrap();
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_file_that_names_nobody_means_not_running_until_it_names_somebody() {
    let endpoint = Endpoint::ok();
    let (program, file) = following(&endpoint);
    let daemon = program.start();
    daemon.wait_for_log("does not exist");
    for (content, said) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("runner\n", "does not begin with a process id"),
        ("-1\n", "does not begin with a process id"),
        ("12 34\n", "does not begin with a process id"),
        ("99999999999\n", "does not begin with a process id"),
    ] {
        // In one step, as nobody writes it: the daemon never sees half of it.
        replace(&file, content);
        daemon.wait_for_log(said);
    }
    assert!(endpoint.requests().is_empty());
    let runner = Bystander::plain();
    write(&file, &runner);
    wait_for_runner(&daemon, &runner);
    endpoint.wait_for(2);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

fn replace(file: &PathBuf, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, file).unwrap();
}

#[test]
fn half_a_number_is_not_taken_for_a_whole_one() {
    let endpoint = Endpoint::ok();
    let runner = Bystander::plain();
    let (program, file) = following(&endpoint);
    // The half of it would be another process.
    fs::write(&file, runner.pid().to_string()).unwrap();
    let daemon = program.start();
    daemon.wait_for_log("so it may still be written");
    assert!(endpoint.requests().is_empty());
    // Nobody goes on writing, so that is all.
    wait_for_runner(&daemon, &runner);
    endpoint.wait_for(1);
}

#[test]
fn a_process_younger_than_the_file_is_not_the_one_it_means() {
    let endpoint = Endpoint::ok();
    let runner = Bystander::plain();
    let (program, file) = following(&endpoint);
    write(&file, &runner);
    touch(&file, "-1 hour");
    let daemon = program.start();
    daemon.wait_for_log("started after it was written");
    assert!(endpoint.requests().is_empty());
    // Written anew, it means this one.
    write(&file, &runner);
    wait_for_runner(&daemon, &runner);
}

/// Makes the file look as old as that.
fn touch(file: &PathBuf, when: &str) {
    let date = format!("--date={when}");
    let touched = Command::new("touch").arg(date).arg(file).status();
    assert!(touched.unwrap().success());
}

#[test]
fn a_file_that_changes_while_the_runner_lives_is_ignored() {
    let endpoint = Endpoint::ok();
    let (mut runner, other) = (Bystander::plain(), Bystander::plain());
    let (program, file) = following(&endpoint);
    write(&file, &runner);
    let daemon = program.start();
    wait_for_runner(&daemon, &runner);
    write(&file, &other);
    endpoint.wait_for_more(4);
    assert!(!daemon.log().contains(&format!("pid={}", other.pid())));
    fs::remove_file(&file).unwrap();
    endpoint.wait_for_more(4);
    endpoint.now_play(Play::Terminate);
    assert_eq!(daemon.finish().status, 0);
    assert_eq!(runner.ended_by(), Some(Signal::TERM.as_raw()));
    assert!(other.is_alive());
}

#[test]
fn a_runner_that_was_restarted_is_followed_and_none_means_no_heartbeat() {
    let endpoint = Endpoint::ok();
    let (program, file) = following(&endpoint);
    let mut runner = Bystander::plain();
    write(&file, &runner);
    let daemon = program.set("--interval", "50ms").start();
    wait_for_runner(&daemon, &runner);
    for _ in 0..2 {
        endpoint.wait_for_more(3);
        runner.kill();
        daemon.wait_for_log("the runner exited");
        // The file still names the dead one, for several intervals.
        daemon.wait_for_log(&format!(
            "names process {}, which does not run",
            runner.pid()
        ));
        let sent = endpoint.requests().len();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(endpoint.requests().len(), sent);
        runner = Bystander::plain();
        write(&file, &runner);
        wait_for_runner(&daemon, &runner);
    }
    endpoint.wait_for_more(3);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn taskbeat_is_no_runner_of_its_own() {
    let endpoint = Endpoint::ok();
    // The shell becomes taskbeat.
    let own = ["sh", "-c", r#"exec "$@" --pid $$"#, "sh"];
    let finished = Taskbeat::run(&endpoint).via(&own).finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    assert!(
        finished.stderr.contains("this is taskbeat itself"),
        "{finished:?}"
    );
}

#[test]
fn a_pid_file_that_is_a_pipe_keeps_nobody_waiting() {
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
fn one_that_is_started_again_after_terminate_is_left_alone() {
    let endpoint = Endpoint::ok();
    let runner = Bystander::plain();
    let (program, file) = following(&endpoint);
    let id = program.id();
    write(&file, &runner);
    let daemon = program.set("--after-terminate", "idle").start();
    wait_for_runner(&daemon, &runner);
    endpoint.now_play(Play::Terminate);
    daemon.wait_for_log("the runner exited");
    let again = Bystander::plain();
    write(&file, &again);
    // The file is read twice in this time, while somebody is waited for.
    std::thread::sleep(Duration::from_secs(1));
    let status = Taskbeat::new("status").set("--taskrunner-id", id).finish();
    assert!(status.text().contains("runner        none"), "{status:?}");
    assert!(again.is_alive());
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(again.is_alive());
}
