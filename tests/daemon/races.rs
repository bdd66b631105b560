//! Three reasons to stop at once end in one ladder.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Endpoint, Finished, Play, Response, Taskbeat, signal};

const RACES: usize = 1000;

/// As many at once as keep two cores busy.
const AT_ONCE: usize = 4;

/// The longest head start that one of the three gets.
const SPREAD_MICROS: u64 = 3000;

/// Ends by itself when it can read a line. Told to stop, it drains for a moment, in which it would hear a second stop
/// signal, and ends with another status.
const RUNNER: &str = r"
trap 'told=$((told + 1)); [ $told -gt 1 ] || drain' TERM
drain() { (trap '' TERM; exec sleep 0.02) & wait $!; echo told $told; exit 42; }
exec 3<&0
(read -r go) <&3 & echo ready; wait $!
trap - TERM; exit 7";

#[derive(Clone, Copy, Debug)]
enum Reason {
    Terminate,
    Operator,
    Itself,
}

#[test]
fn a_thousand_races_of_terminate_the_operator_and_the_runners_end_are_one_ladder_each() {
    let left_to_do = AtomicUsize::new(RACES);
    let outcomes = Mutex::new(BTreeMap::new());
    let one_more = |left: usize| left.checked_sub(1);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while left_to_do
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
                    .is_ok()
                {
                    let outcome = judge(&race());
                    *outcomes.lock().unwrap().entry(outcome).or_insert(0) += 1;
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    println!("{RACES} races: {outcomes:#?}");
    assert_eq!(outcomes.values().sum::<usize>(), RACES);
    // All three came first at some time.
    assert!(outcomes.len() >= 3, "{outcomes:?}");
}

fn race() -> Finished {
    let (release, released) = channel();
    let released = Arc::new(Mutex::new(released));
    let play = Play::judge(move |_| {
        // An end without a word is that of the race: the answer is not needed any more.
        let _ = released.lock().unwrap().recv();
        Response::acknowledge(true)
    });
    let endpoint = Endpoint::play([], play);
    let mut daemon = Taskbeat::run(&endpoint)
        .set("--interval", "15m")
        .with_stdin()
        .script(RUNNER)
        .start();
    daemon.wait_for_output("ready");
    endpoint.wait_for(1);
    let mut reasons = [Reason::Terminate, Reason::Operator, Reason::Itself];
    fastrand::shuffle(&mut reasons);
    for reason in reasons {
        match reason {
            Reason::Terminate => release.send(()).unwrap(),
            Reason::Operator => signal(daemon.pid(), Signal::TERM),
            Reason::Itself => daemon.say(b"go\n"),
        }
        // Which of them comes first is left to chance; nothing is waited for.
        thread::sleep(Duration::from_micros(fastrand::u64(..SPREAD_MICROS)));
    }
    daemon.finish()
}

/// Checks what a race came to against its own log, and puts it in words.
fn judge(finished: &Finished) -> String {
    let log = &finished.stderr;
    let at = |text: &str| log.find(text).unwrap_or(usize::MAX);
    let (terminated, operator, ended) = (
        at("heartbeat acknowledged: terminate"),
        at("stop requested"),
        at("the runner exited status="),
    );
    let own: i32 = log[ended..]
        .split("status=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("{finished:?}"))
        .parse()
        .unwrap();
    // `terminate` decides, unless the runner had ended before.
    let expected = if terminated < ended { 0 } else { own };
    assert_eq!(finished.status, expected, "{finished:?}");
    // A shell without its trap, for an instant before its own exit, dies of the signal.
    assert!([7, 42, 143].contains(&own), "{finished:?}");
    let text = finished.text();
    assert!(
        !text.contains("told") || text.contains("told 1\n"),
        "{text}"
    );
    assert!(!log.contains("SIGKILL"), "{log}");
    let ladders = log.matches(": stopping ").count();
    assert!(ladders <= 2, "{log}");
    let first = [
        (terminated, "terminate"),
        (operator, "the operator"),
        (ended, "the runner"),
    ];
    let (_, first) = first.into_iter().min().unwrap();
    format!("{first} first, runner {own}, status {expected}")
}
