//! SIGHUP takes all of the new settings or none, and does not touch the runner.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{
    Daemon, Endpoint, Step, Taskbeat, children, is_alive, runner, skip_without, text, unshare,
};

/// A daemon with a runner and a configuration file.
struct Reloadable {
    daemon: Daemon,
    file: PathBuf,
    runner: i32,
}

impl Reloadable {
    /// Starts the daemon with `toml` in its file.
    fn start(program: Taskbeat, toml: &str) -> Self {
        let program = program.without("TASKBEAT_INTERVAL");
        let file = program.home().join("taskbeat.toml");
        fs::write(&file, toml).unwrap();
        let daemon = program.set("--config", &file).flag("-v").script(runner::OBEDIENT).start();
        let runner = daemon.wait_for_pid("ready");
        Self { daemon, file, runner }
    }

    /// Reloads the file with `toml` in it, and waits for a line of the log that contains `words`.
    fn reload(&self, toml: &str, words: &str) -> String {
        fs::write(&self.file, toml).unwrap();
        self.daemon.signal(Signal::HUP);
        self.daemon.wait_for_log(words)
    }

    /// Reloads the file with `toml` in it, which is refused with `words`.
    fn refuse(&self, toml: &str, words: &str) {
        let refused = format!("ERROR {}, nothing changed: ", text::RELOAD_REFUSED);
        let before = self.daemon.log().matches(&refused).count();
        fs::write(&self.file, toml).unwrap();
        self.daemon.signal(Signal::HUP);
        let lines = self.daemon.wait_for_lines(&refused, before + 1);
        assert!(lines[before].contains(words), "{lines:?}");
    }

    /// Stops the daemon, and asserts that the runner is the same and gets its first signal.
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

/// A failure that is logged loudly.
const FAILURE: &str = "WARN heartbeat failed";

#[test]
fn a_new_interval_takes_effect() {
    let endpoint = Endpoint::ok();
    let reloadable = Reloadable::start(Taskbeat::run(&endpoint), LONG);
    reloadable.daemon.wait_for_log(text::ACKNOWLEDGED);
    reloadable.reload(SHORT, text::RELOADED);
    endpoint.wait_for(5);
    reloadable.stop();
}

#[test]
fn a_new_log_level_takes_effect() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("taskbeat.toml");
    fs::write(&file, "log = \"info\"\n").unwrap();
    let daemon = program.set("--config", &file).start();
    daemon.wait_for_log(text::ACKNOWLEDGED);
    assert!(!daemon.log().contains("DEBUG"));
    fs::write(&file, "log = \"debug\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("DEBUG heartbeat sent");
}

#[test]
fn a_bad_file_is_refused_and_the_old_settings_stay() {
    let endpoint = Endpoint::ok();
    let reloadable = Reloadable::start(Taskbeat::run(&endpoint), SHORT);
    for (bad, words) in [
        ("interval = \"3h\"\n", "interval = \"3h\""),
        ("intervall = \"5m\"\n", "did you mean interval?"),
        ("grace = \"1s\"\ninterval =", "taskbeat.toml"),
    ] {
        reloadable.refuse(bad, words);
        endpoint.wait_for_more(3);
    }
    fs::remove_file(&reloadable.file).unwrap();
    reloadable.daemon.signal(Signal::HUP);
    reloadable.daemon.wait_for_lines(text::RELOAD_REFUSED, 4);
    endpoint.wait_for_more(3);
    // A good file is taken again.
    reloadable.reload(LONG, text::RELOADED);
    reloadable.stop();
}

#[test]
fn settings_that_need_a_restart_are_refused() {
    let endpoint = Endpoint::ok();
    let reloadable = Reloadable::start(Taskbeat::run(&endpoint), SHORT);
    for (other, words) in [
        ("worker-group = \"another\"\n", "worker-group or hostname needs a restart"),
        ("stop-signal = \"INT\"\n", "another way to stop it, needs a restart"),
        ("log-format = \"json\"\n", "another log-format needs a restart"),
    ] {
        reloadable.refuse(&format!("{LONG}{other}"), words);
        // The new interval is not taken either.
        endpoint.wait_for_more(3);
    }
    for request in endpoint.requests() {
        assert_eq!(request.body.get("workerGroup"), None);
    }
    reloadable.stop();
}

#[test]
fn a_reload_retries_a_failed_heartbeat_at_once() {
    // With this interval the backoff of each is longer than the test.
    for fault in [Step::throttle(), Step::deny()] {
        let endpoint = Endpoint::play([], fault);
        let reloadable = Reloadable::start(Taskbeat::run(&endpoint), LONG);
        reloadable.daemon.wait_for_log(FAILURE);
        // A failure under the new settings is logged as a new one.
        reloadable.reload(LONG, text::RELOADED);
        reloadable.daemon.wait_for_lines(FAILURE, 2);
        // At most once in ten seconds.
        reloadable.daemon.signal(Signal::HUP);
        reloadable.daemon.wait_for_lines(text::RELOADED, 2);
        assert_eq!(endpoint.requests().len(), 2);
        reloadable.stop();
    }
}

#[test]
fn a_reload_ends_a_series_of_failures_at_once() {
    for fault in [Step::throttle(), Step::deny()] {
        let endpoint = Endpoint::play([], fault);
        let reloadable = Reloadable::start(Taskbeat::run(&endpoint), LONG);
        reloadable.daemon.wait_for_log(FAILURE);
        endpoint.switch_to(Step::Ok);
        reloadable.daemon.signal(Signal::HUP);
        reloadable.daemon.wait_for_log("heartbeats are acknowledged again");
        reloadable.stop();
    }
}

#[test]
fn a_reload_sends_no_heartbeat_if_none_failed() {
    let endpoint = Endpoint::ok();
    let reloadable = Reloadable::start(Taskbeat::run(&endpoint), LONG);
    reloadable.daemon.wait_for_log(text::ACKNOWLEDGED);
    for count in 1..=3 {
        reloadable.daemon.signal(Signal::HUP);
        reloadable.daemon.wait_for_lines(text::RELOADED, count);
    }
    assert_eq!(endpoint.requests().len(), 1);
    reloadable.stop();
}

#[test]
fn sighup_is_ignored_while_stopping() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint).with_stdin().script(runner::DRAINING).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_output("draining");
    daemon.signal(Signal::HUP);
    endpoint.wait_for_more(3);
    daemon.write_stdin(b"go\n");
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.stderr.contains("reload"), "{finished:?}");
}

#[test]
fn sighup_is_ignored_under_nohup() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).via(&["nohup"]).script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::HUP);
    endpoint.wait_for_more(3);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.stderr.contains("reload"), "{finished:?}");
}

#[test]
fn a_reload_prints_the_warnings_of_a_start() {
    let endpoint = Endpoint::ok();
    let reloadable = Reloadable::start(Taskbeat::run(&endpoint), LONG);
    reloadable.daemon.wait_for_log(text::ACKNOWLEDGED);
    // No heartbeat is due for minutes, so none goes there.
    let plain = format!("{LONG}endpoint-url = \"http://pipeline.invalid\"\n");
    let warning = reloadable.reload(&plain, "is plain http");
    assert!(warning.contains("WARN endpoint http://pipeline.invalid"), "{warning}");
    reloadable.daemon.wait_for_log(text::RELOADED);
    reloadable.stop();
}

#[test]
fn a_reload_keeps_the_name_that_the_host_had_at_the_start() {
    let unshare = unshare(&["--uts"]);
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).without("TASKBEAT_HOSTNAME");
    if !Taskbeat::can_start_via(&unshare, program.home()) {
        return skip_without(
            "a UTS namespace: this user may create neither UTS nor user namespaces",
        );
    }
    let rename = "hostname renamed && echo ready $$; exec sleep 120";
    let daemon = program.via(&unshare).script(rename).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("settings reloaded");
    endpoint.wait_for_more(2);
    let requests = endpoint.requests();
    let names: Vec<_> = requests.iter().map(|request| &request.body["hostname"]).collect();
    assert!(names.iter().all(|name| *name == names[0] && *name != "renamed"), "{names:?}");
}
