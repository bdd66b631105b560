//! The catalogue of faults. Whatever the service, the network or the host does, only `terminate`
//! stops the runner: every other failure is retried with backoff and logged at WARN once.

mod access;
mod blocking;
mod calls;
mod credential_process;
mod credentials;
mod host;
pub(crate) mod names;
mod network;
mod profiles;
mod proxy;
mod service;
mod time;
mod trust;

use std::time::Duration;

use crate::harness::{Daemon, Endpoint, Request, Step, Taskbeat, is_alive, runner};

/// Number of heartbeats that meet a fault. [`FEW`] if each takes as long as its limit.
const MANY: usize = 10;
const FEW: usize = 3;

/// Minimum duration of [`MANY`] heartbeats at the interval of these tests, 300 ms. Transient
/// failures are retried most often: after 0.5, 1, 2, 4, 8 and then 15 of 900 parts of it.
const LEAST: Duration = Duration::from_millis(25);

/// Maximum growth of memory during an endless response, in bytes: buffers, not the response.
const FLOOD: u64 = 24 * 1024 * 1024;

/// The log and the requests of a daemon that survived a fault.
struct Survived {
    /// The failures that were logged at WARN.
    warnings: Vec<String>,
    requests: Vec<Request>,
}

impl Survived {
    /// The only warning.
    fn line(&self) -> &str {
        assert_eq!(self.warnings.len(), 1, "{:?}", self.warnings);
        &self.warnings[0]
    }
}

/// `fault` lasts for `count` heartbeats; then heartbeats are acknowledged again.
fn survives(fault: Step, count: usize) -> Survived {
    let endpoint = Endpoint::play([], fault);
    let daemon = Taskbeat::run(&endpoint).flag("-v").script(runner::OBEDIENT);
    survives_with(&endpoint, daemon.start(), count)
}

/// The endpoint keeps its script for `count` heartbeats, then acknowledges, then terminates.
fn survives_with(endpoint: &Endpoint, daemon: Daemon, count: usize) -> Survived {
    let pid = daemon.wait_for_pid("ready");
    let requests = endpoint.wait_for(count);
    if count >= MANY {
        let took = requests[MANY - 1].at - requests[0].at;
        assert!(took >= LEAST, "{MANY} heartbeats in {took:?}");
    }
    endpoint.switch_to(Step::Ok);
    let over = daemon.wait_for_log("heartbeats are acknowledged again, after ");
    // The next heartbeat after an acknowledged one.
    endpoint.wait_for_more(1);
    assert!(is_alive(pid), "the runner exited");
    assert!(!daemon.output().contains("stopped"));
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().ends_with("stopped\n"), "{finished:?}");
    let log = finished.stderr;
    let lasted = over.rsplit("after ").next().unwrap();
    assert!(lasted.ends_with("ms") || lasted.ends_with('s'), "{over}");
    assert_eq!(log.matches("are acknowledged again").count(), 1, "{log}");
    let failed = |line: &&str| line.contains("WARN heartbeat failed, next in ");
    Survived { warnings: log.lines().filter(failed).map(str::to_owned).collect(), requests }
}

/// `fault` is retried and logged at WARN once, in a line that contains `words`.
fn logs(fault: Step, words: &str) {
    let survived = survives(fault, MANY);
    let line = survived.line();
    assert!(line.contains(words), "no {words:?} in {line}");
}

/// The last line of stderr of `taskbeat once` or `check`, which fails with `status`.
fn once_fails(program: Taskbeat, status: i32) -> String {
    let finished = program.finish();
    assert_eq!(finished.status, status, "{finished:?}");
    finished.stderr.lines().last().unwrap_or("").to_owned()
}

/// A profile named `name` in the style of the credentials file, with access key `id`.
pub(crate) fn keys(name: &str, id: &str) -> String {
    format!(
        "[{name}]\naws_access_key_id = {id}\naws_secret_access_key = a-secret\n\
         aws_session_token = token-of-{id}\n"
    )
}

/// A subcommand without credentials in its environment, and with an STS that is down.
pub(crate) fn without_keys(program: Taskbeat) -> Taskbeat {
    program
        .env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
}

/// The access key id that signed a request.
fn key_of(request: &Request) -> &str {
    let authorization = request.header("authorization");
    let credential = authorization.split("Credential=").nth(1).unwrap_or("");
    credential.split('/').next().unwrap_or("")
}
