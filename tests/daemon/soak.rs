//! Random faults, one after the other, and a daemon that works afterwards as before.

use std::time::Duration;

use fastrand::Rng;

use crate::harness::{
    Endpoint, Play, Request, Response, Taskbeat, descriptors, is_alive, memory, processor_time,
    rounds, runner,
};

/// Long enough to see the backoffs between requests, and short enough for thousands of them.
const INTERVAL: Duration = Duration::from_millis(60);

/// The heartbeats that fill pools and caches before anything is measured.
const WARM_UP: usize = 100;

/// The limit for the growth of memory, in bytes, and of descriptors: one client's worth.
const MEMORY: u64 = 32 * 1024 * 1024;
const DESCRIPTORS: u64 = 10;

/// The limit for the CPU time of a heartbeat, in ticks of 10 ms. Most of it builds clients.
const TICKS: u64 = 1;

/// The backoff after a fault. One interval has 900 parts.
#[derive(Clone, Copy, PartialEq)]
enum Backoff {
    /// Half a part, doubled for each fault of the class in a row, up to this many parts.
    Doubled(f64),
    Throttled,
}

const TRANSIENT: Backoff = Backoff::Doubled(15.0);
const REJECTED: Backoff = Backoff::Doubled(150.0);

impl Backoff {
    /// The shortest wait after a fault that follows `before` faults of the same class.
    fn shortest(self, before: usize) -> Duration {
        let parts = match self {
            Self::Doubled(most) => (0.5 * f64::from(1_u32 << before.min(20))).min(most),
            // Later throttles wait longer at first, and at last only 10 parts: of a fleet over its
            // limit, the runners without an acknowledgement for longest retry most often.
            Self::Throttled if before == 0 => 100.0,
            Self::Throttled => 10.0,
        };
        INTERVAL.mul_f64(parts / 900.0)
    }
}

/// A random fault. At most `slow` of them take a second, which is the time limit of a heartbeat.
fn fault(rng: &mut Rng, slow: &mut u32) -> (Play, Backoff) {
    let bare = |status, body: &str| Play::Say(Response::bare(status, body));
    let throttle = Response::error(400, "ThrottlingException", "Rate exceeded");
    match rng.u8(..18) {
        0 => (Play::fault(), TRANSIENT),
        1 => (bare(503, "<h1>Service Unavailable"), TRANSIENT),
        2 => (Play::ResetBefore, TRANSIENT),
        3 => (Play::ResetWithin, TRANSIENT),
        4 => (Play::body(""), TRANSIENT),
        5 => (Play::body("{}"), TRANSIENT),
        6 => (Play::body("null"), TRANSIENT),
        7 => (Play::body(r#"{"terminate":"true"}"#), TRANSIENT),
        8 => (bare(200, r#"{"terminate":true}"#), TRANSIENT),
        9 => (bare(302, r#"{"terminate":true}"#), TRANSIENT),
        10 => (bare(200, "<html>"), TRANSIENT),
        11 => (Play::EndlessHead, TRANSIENT),
        12 => (Play::deny(), REJECTED),
        13 => (Play::error(400, "ExpiredTokenException", "It expired"), REJECTED),
        14 => (bare(407, ""), REJECTED),
        15 => (Play::Say(throttle.header("x-amz-retry-after", "20")), Backoff::Throttled),
        16 => (bare(429, ""), Backoff::Throttled),
        _ if *slow > 0 => {
            *slow -= 1;
            let steps = [Play::Hang, Play::StallWithin];
            (steps[rng.usize(..2)].clone(), TRANSIENT)
        }
        _ => (Play::endless(), TRANSIENT),
    }
}

/// A random script with `faults` faults, and the backoff after each step.
fn random_script(rng: &mut Rng, faults: usize) -> (Vec<Play>, Vec<Option<Backoff>>) {
    let mut slow = rounds(1, 5);
    let (mut script, mut backoffs) = (Vec::new(), Vec::new());
    while backoffs.iter().flatten().count() < faults {
        let (step, backoff) = if rng.u8(..10) == 0 {
            (Play::Ok, None)
        } else {
            let (step, backoff) = fault(rng, &mut slow);
            (step, Some(backoff))
        };
        script.push(step);
        backoffs.push(backoff);
    }
    (script, backoffs)
}

/// Asserts that no request came before its backoff was over.
fn assert_backoffs(requests: &[Request], backoffs: &[Option<Backoff>]) {
    let mut alike = 0;
    let mut previous = None;
    for (pair, backoff) in requests.windows(2).zip(backoffs) {
        alike = if previous == *backoff { alike + 1 } else { 0 };
        previous = *backoff;
        // The wait after an acknowledgement counts from the start of the heartbeat, which is not
        // known here.
        let shortest = backoff.map_or(Duration::ZERO, |backoff| backoff.shortest(alike));
        let waited = pair[1].at - pair[0].at;
        assert!(waited >= shortest, "{waited:?} is less than {shortest:?}");
    }
}

#[test]
fn random_faults_leak_nothing_and_do_not_stop_the_runner() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let (script, backoffs) = random_script(&mut Rng::with_seed(seed), rounds(200, 2000));
    let count = script.len();
    let endpoint = Endpoint::play(script, Play::Ok);
    let daemon = Taskbeat::run(&endpoint)
        .set("--interval", format!("{}ms", INTERVAL.as_millis()))
        .script(runner::OBEDIENT)
        .start();
    let leader = daemon.wait_for_pid("ready");
    endpoint.wait_for(WARM_UP);
    let pid = daemon.pid();
    let usage = || [memory(pid), descriptors(pid), processor_time(pid)];
    let before = usage();
    for received in (WARM_UP..count).step_by(100) {
        endpoint.wait_for(received);
        assert!(is_alive(leader), "the runner exited");
    }
    // Two heartbeats after the script: the daemon goes on.
    endpoint.wait_for(count + 2);
    let after = usage();
    let heartbeats = u64::try_from(count - WARM_UP).unwrap();
    let limits = [MEMORY, DESCRIPTORS, TICKS * heartbeats];
    for (kind, name) in ["bytes", "descriptors", "ticks"].into_iter().enumerate() {
        let (before, after) = (before[kind], after[kind]);
        assert!(after <= before + limits[kind], "{before}, then {after} {name}");
    }
    assert_backoffs(&endpoint.requests(), &backoffs);
    endpoint.now_play(Play::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(finished.text().matches("stopped").count(), 1);
}
