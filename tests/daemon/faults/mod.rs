//! The catalogue of faults. Whatever the service, the network or the host does, only terminate stops the runner: all
//! the rest is retried, without haste, and said once.

mod credentials;
mod host;
mod network;
mod service;
mod time;

use std::time::Duration;

use crate::harness::{Daemon, Endpoint, Play, Request, Taskbeat, is_alive, runner};

/// So many heartbeats meet the fault, unless each takes as long as its limit.
const MANY: usize = 10;
const FEW: usize = 3;

/// The shortest that the waits between [`MANY`] heartbeats add up to, at the interval of these tests, 300 ms. It is
/// the transient ones that are tried most often: after 0.5, 1, 2, 4, 8 and then 15 of 900 parts.
const LEAST: Duration = Duration::from_millis(25);

/// How much more memory a flood may take, in bytes: buffers, and never what comes.
const FLOOD: u64 = 24 * 1024 * 1024;

/// What a fault looked like.
struct Survived {
    /// Each failure that was loud.
    warnings: Vec<String>,
    requests: Vec<Request>,
}

impl Survived {
    /// What the user sees, which is one line.
    fn line(&self) -> &str {
        assert_eq!(self.warnings.len(), 1, "{:?}", self.warnings);
        &self.warnings[0]
    }
}

/// `fault` lasts for `count` heartbeats, and then everything is well.
fn survives(fault: Play, count: usize) -> Survived {
    let endpoint = Endpoint::play([], fault);
    let daemon = Taskbeat::run(&endpoint).flag("-v").script(runner::OBEDIENT);
    survives_with(&endpoint, daemon.start(), count)
}

/// The endpoint does what it does for `count` heartbeats, then acknowledges, then terminates.
fn survives_with(endpoint: &Endpoint, daemon: Daemon, count: usize) -> Survived {
    let pid = daemon.wait_for_pid("ready");
    let requests = endpoint.wait_for(count);
    if count >= MANY {
        let took = requests[MANY - 1].at - requests[0].at;
        assert!(took >= LEAST, "{MANY} heartbeats in {took:?}");
    }
    endpoint.now_play(Play::Ok);
    let over = daemon.wait_for_log("heartbeats are acknowledged again, after ");
    // Once more, so that one that is well is seen to be followed by another.
    endpoint.wait_for_more(1);
    assert!(is_alive(pid), "the runner is gone");
    assert!(!daemon.output().contains("stopped"));
    endpoint.now_play(Play::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().ends_with("stopped\n"), "{finished:?}");
    let log = finished.stderr;
    let lasted = over.rsplit("after ").next().unwrap();
    assert!(lasted.ends_with("ms") || lasted.ends_with('s'), "{over}");
    assert_eq!(log.matches("answers again").count(), 1, "{log}");
    let failed = |line: &&str| line.contains("WARN heartbeat failed, next in ");
    Survived {
        warnings: log.lines().filter(failed).map(str::to_owned).collect(),
        requests,
    }
}

/// `fault` is retried, loud once, and its line has `words` in it.
fn is_told(fault: Play, words: &str) {
    let survived = survives(fault, MANY);
    let line = survived.line();
    assert!(line.contains(words), "no {words:?} in {line}");
}
