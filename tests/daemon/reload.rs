//! SIGHUP: all of the new settings or none, and the runner never notices.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{Daemon, Endpoint, Play, Taskbeat, children, is_alive, runner};

/// A daemon whose settings are in a file, which is `text` at first.
struct Reloaded {
    daemon: Daemon,
    file: PathBuf,
    runner: i32,
}

impl Reloaded {
    fn start(program: Taskbeat, text: &str) -> Self {
        let program = program.without("TASKBEAT_INTERVAL");
        let file = program.home().join("taskbeat.toml");
        fs::write(&file, text).unwrap();
        let daemon = program
            .set("--config", &file)
            .flag("-v")
            .script(runner::OBEDIENT)
            .start();
        let runner = daemon.wait_for_pid("ready");
        Self {
            daemon,
            file,
            runner,
        }
    }

    /// Reads `text` now; the log then has `words`.
    fn reload(&self, text: &str, words: &str) -> String {
        fs::write(&self.file, text).unwrap();
        self.daemon.signal(Signal::HUP);
        self.daemon.wait_for_log(words)
    }

    /// The runner was never touched.
    fn stop(self) {
        assert!(is_alive(self.runner));
        let leaders = children(self.daemon.pid());
        assert_eq!(leaders.len(), 1, "{leaders:?}");
        self.daemon.signal(Signal::TERM);
        let finished = self.daemon.finish();
        assert_eq!(finished.status, 42, "{finished:?}");
        assert_eq!(finished.text().matches("stopped").count(), 1);
    }
}

const LONG: &str = "interval = \"15m\"\n";
const SHORT: &str = "interval = \"50ms\"\n";

#[test]
fn a_new_interval_is_taken() {
    let endpoint = Endpoint::ok();
    let reloaded = Reloaded::start(Taskbeat::run(&endpoint), LONG);
    reloaded.daemon.wait_for_log("heartbeat acknowledged");
    reloaded.reload(SHORT, "INFO settings reloaded");
    endpoint.wait_for(5);
    reloaded.stop();
}

#[test]
fn a_new_level_of_the_log_is_taken() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("taskbeat.toml");
    fs::write(&file, "log = \"info\"\n").unwrap();
    let daemon = program.set("--config", &file).start();
    daemon.wait_for_log("heartbeat acknowledged");
    assert!(!daemon.log().contains("DEBUG"));
    fs::write(&file, "log = \"debug\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("DEBUG heartbeat sent");
}

#[test]
fn a_bad_file_is_refused_and_the_old_settings_stay() {
    let endpoint = Endpoint::ok();
    let reloaded = Reloaded::start(Taskbeat::run(&endpoint), SHORT);
    for (bad, words) in [
        ("interval = \"3h\"\n", "interval = \"3h\""),
        ("intervall = \"5m\"\n", "did you mean interval?"),
        ("grace = \"1s\"\ninterval =", "taskbeat.toml"),
    ] {
        let line = reloaded.reload(bad, words);
        assert!(
            line.contains("ERROR reload refused, nothing changed: "),
            "{line}"
        );
        endpoint.wait_for_more(3);
    }
    fs::remove_file(&reloaded.file).unwrap();
    reloaded.daemon.signal(Signal::HUP);
    reloaded.daemon.wait_for_lines("reload refused", 4);
    endpoint.wait_for_more(3);
    // And nothing keeps it from being mended.
    reloaded.reload(LONG, "INFO settings reloaded");
    reloaded.stop();
}

#[test]
fn what_needs_a_restart_is_refused() {
    let endpoint = Endpoint::ok();
    let reloaded = Reloaded::start(Taskbeat::run(&endpoint), SHORT);
    for (other, words) in [
        (
            "worker-group = \"another\"\n",
            "worker-group or hostname needs a restart",
        ),
        (
            "stop-signal = \"INT\"\n",
            "another way to stop it, needs a restart",
        ),
        (
            "log-format = \"json\"\n",
            "another log-format needs a restart",
        ),
    ] {
        let line = reloaded.reload(&format!("interval = \"15m\"\n{other}"), words);
        assert!(
            line.contains("ERROR reload refused, nothing changed: "),
            "{line}"
        );
        // The interval is the old one: all or none.
        endpoint.wait_for_more(3);
    }
    for request in endpoint.requests() {
        assert_eq!(request.body.get("workerGroup"), None);
    }
    reloaded.stop();
}

#[test]
fn a_failed_heartbeat_is_tried_again_at_once() {
    // Each of the waits would be longer than the test.
    for fault in [Play::throttle(), Play::deny()] {
        let endpoint = Endpoint::play([], fault);
        let reloaded = Reloaded::start(Taskbeat::run(&endpoint), LONG);
        reloaded.daemon.wait_for_log("WARN heartbeat failed");
        // One that fails again under the new settings is no old news.
        reloaded.reload(LONG, "INFO settings reloaded");
        reloaded.daemon.wait_for_lines("WARN heartbeat failed", 2);
        endpoint.now_play(Play::Ok);
        reloaded.daemon.signal(Signal::HUP);
        reloaded
            .daemon
            .wait_for_log("heartbeats are acknowledged again");
        // What is well needs no haste.
        reloaded.daemon.signal(Signal::HUP);
        reloaded.daemon.wait_for_lines("settings reloaded", 3);
        reloaded.stop();
    }
}

#[test]
fn a_heartbeat_that_is_well_is_not_sent_again() {
    let endpoint = Endpoint::ok();
    let reloaded = Reloaded::start(Taskbeat::run(&endpoint), LONG);
    reloaded.daemon.wait_for_log("heartbeat acknowledged");
    for count in 1..=3 {
        reloaded.daemon.signal(Signal::HUP);
        reloaded.daemon.wait_for_lines("settings reloaded", count);
    }
    assert_eq!(endpoint.requests().len(), 1);
    reloaded.stop();
}

#[test]
fn it_is_ignored_while_stopping() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint)
        .with_stdin()
        .script(runner::DRAINING)
        .start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_output("draining");
    daemon.signal(Signal::HUP);
    endpoint.wait_for_more(3);
    daemon.say(b"go\n");
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.stderr.contains("reload"), "{finished:?}");
}

#[test]
fn it_is_ignored_under_nohup() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .via(&["nohup"])
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::HUP);
    endpoint.wait_for_more(3);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.stderr.contains("reload"), "{finished:?}");
}
