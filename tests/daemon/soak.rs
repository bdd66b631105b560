//! Two thousand random faults, one after the other, and the daemon as good as new after them.

use std::time::Duration;

use fastrand::Rng;

use crate::harness::{
    Endpoint, Play, Request, Response, Taskbeat, descriptors, is_alive, memory, processor_time,
    runner,
};

const FAULTS: usize = 2_000;

/// The interval: long enough for the waits to be seen between requests, and short enough for all of them.
const INTERVAL: Duration = Duration::from_millis(60);

/// How much more memory and how many more descriptors there may be at the end: what a client holds, and no more with
/// each fault.
const MEMORY: u64 = 32 * 1024 * 1024;
const DESCRIPTORS: u64 = 10;

/// What it takes of a processor, in ticks of 10 ms, for each heartbeat: most of it goes into new clients.
const TICKS: u64 = 1;

/// What the waits after a fault begin with, in parts of 900 of the interval, at the least.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    /// Half a part, doubled for each before it in a row, up to so many.
    Doubled(f64),
    Throttled,
}

const TRANSIENT: Class = Class::Doubled(15.0);
const REJECTED: Class = Class::Doubled(150.0);

impl Class {
    fn least(self, before: usize) -> Duration {
        let parts = match self {
            Self::Doubled(most) => (0.5 * f64::from(1_u32 << before.min(20))).min(most),
            // Those that follow in a row wait longer, until it is among the oldest.
            Self::Throttled if before == 0 => 100.0,
            Self::Throttled => 10.0,
        };
        INTERVAL.mul_f64(parts / 900.0)
    }
}

/// A fault, and its class. `slow` of them take a second.
fn fault(rng: &mut Rng, slow: &mut u32) -> (Play, Class) {
    let say = |status, body: &str| Play::Say(Response::bare(status, body));
    let throttle = Response::error(400, "ThrottlingException", "Rate exceeded");
    match rng.u8(..18) {
        0 => (Play::fault(), TRANSIENT),
        1 => (say(503, "<h1>Service Unavailable"), TRANSIENT),
        2 => (Play::ResetBefore, TRANSIENT),
        3 => (Play::ResetWithin, TRANSIENT),
        4 => (Play::body(""), TRANSIENT),
        5 => (Play::body("{}"), TRANSIENT),
        6 => (Play::body("null"), TRANSIENT),
        7 => (Play::body(r#"{"terminate":"true"}"#), TRANSIENT),
        8 => (say(200, r#"{"terminate":true}"#), TRANSIENT),
        9 => (say(302, r#"{"terminate":true}"#), TRANSIENT),
        10 => (say(200, "<html>"), TRANSIENT),
        11 => (Play::EndlessHead, TRANSIENT),
        12 => (Play::deny(), REJECTED),
        13 => (
            Play::error(400, "ExpiredTokenException", "It expired"),
            REJECTED,
        ),
        14 => (say(407, ""), REJECTED),
        15 => (
            Play::Say(throttle.header("x-amz-retry-after", "20")),
            Class::Throttled,
        ),
        16 => (say(429, ""), Class::Throttled),
        _ if *slow > 0 => {
            *slow -= 1;
            let plays = [Play::Hang, Play::StallWithin];
            (plays[rng.usize(..2)].clone(), TRANSIENT)
        }
        _ => (Play::endless(), TRANSIENT),
    }
}

/// The waits between the requests are never shorter than the schedule has them.
fn is_patient(requests: &[Request], classes: &[Option<Class>]) {
    let mut alike = 0;
    let mut previous = None;
    for (pair, class) in requests.windows(2).zip(classes) {
        alike = if previous == *class { alike + 1 } else { 0 };
        previous = *class;
        // After an acknowledged one the wait counts from its start, which nobody saw.
        let least = class.map_or(Duration::ZERO, |class| class.least(alike));
        let waited = pair[1].at - pair[0].at;
        assert!(waited >= least, "{waited:?} is less than {least:?}");
    }
}

#[test]
fn two_thousand_faults_leave_nothing_behind() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut slow = 5;
    let mut script = Vec::new();
    let mut classes = Vec::new();
    while classes.iter().flatten().count() < FAULTS {
        if rng.u8(..10) == 0 {
            script.push(Play::Ok);
            classes.push(None);
        } else {
            let (play, class) = fault(&mut rng, &mut slow);
            script.push(play);
            classes.push(Some(class));
        }
    }
    let count = script.len();
    // The first hundred fill pools and caches.
    let endpoint = Endpoint::play(script, Play::Ok);
    let daemon = Taskbeat::run(&endpoint)
        .set("--interval", format!("{}ms", INTERVAL.as_millis()))
        .script(runner::OBEDIENT)
        .start();
    let leader = daemon.wait_for_pid("ready");
    endpoint.wait_for(100);
    let before = (
        memory(daemon.pid()),
        descriptors(daemon.pid()),
        processor_time(daemon.pid()),
    );
    for done in (200..count).step_by(100) {
        endpoint.wait_for(done);
        assert!(is_alive(leader), "the runner is gone");
    }
    endpoint.wait_for(count + 2);
    let after = (
        memory(daemon.pid()),
        descriptors(daemon.pid()),
        processor_time(daemon.pid()),
    );
    assert!(
        after.0 < before.0 + MEMORY,
        "{} and then {} bytes",
        before.0,
        after.0
    );
    assert!(
        after.1 <= before.1 + DESCRIPTORS,
        "{} and then {} descriptors",
        before.1,
        after.1
    );
    let ticks = after.2 - before.2;
    assert!(
        ticks < TICKS * u64::try_from(count).unwrap(),
        "{ticks} ticks"
    );
    is_patient(&endpoint.requests(), &classes);
    endpoint.now_play(Play::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert_eq!(finished.text().matches("stopped").count(), 1);
}
