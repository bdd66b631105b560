//! Three causes of a stop at the same moment start one ladder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Endpoint, Finished, Response, Step, Taskbeat, in_parallel, rounds, signal, text,
};

/// The longest time between two of the causes. Most are much closer.
const SPREAD: Duration = Duration::from_millis(40);

/// Exits 7 when its stdin is closed. On SIGTERM it drains for a moment, in which it counts further
/// stop signals, and exits 42.
const RUNNER: &str = r"
trap 'stops=$((stops + 1)); [ $stops -gt 1 ] || drain' TERM
drain() { (trap '' TERM; exec sleep 0.02) & wait $!; echo stops $stops; exit 42; }
exec 3<&0
(read -r go) <&3 & echo ready; wait $!
trap - TERM; exit 7";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Terminate,
    Operator,
    RunnerEnds,
}

#[test]
fn terminate_the_operator_and_the_end_of_the_runner_race_for_one_ladder() {
    let races = rounds(100, 1000);
    let outcomes = Mutex::new(BTreeMap::new());
    in_parallel(0..races, |_| {
        let outcome = check(&race());
        *outcomes.lock().unwrap().entry(outcome).or_insert(0) += 1;
    });
    let outcomes = outcomes.into_inner().unwrap();
    println!("{races} races: {outcomes:#?}");
    let firsts: BTreeSet<Cause> = outcomes.keys().map(|(first, _)| *first).collect();
    assert_eq!(firsts.len(), 3, "a cause never came first: {outcomes:?}");
}

fn race() -> Finished {
    let (release, released) = channel();
    let released = Arc::new(Mutex::new(released));
    let play = Step::handler(move |_| {
        // If the race is over, the response does not matter any more.
        let _ = released.lock().unwrap().recv();
        Response::acknowledge(true)
    });
    let endpoint = Endpoint::play([], play);
    let mut daemon =
        Taskbeat::run(&endpoint).set("--interval", "15m").with_stdin().script(RUNNER).start();
    daemon.wait_for_output("ready");
    endpoint.wait_for(1);
    let mut causes = [Cause::Terminate, Cause::Operator, Cause::RunnerEnds];
    fastrand::shuffle(&mut causes);
    for cause in causes {
        match cause {
            Cause::Terminate => release.send(()).unwrap(),
            Cause::Operator => signal(daemon.pid(), Signal::TERM),
            Cause::RunnerEnds => daemon.close_stdin(),
        }
        // The moments are the input of this test, not a synchronisation.
        thread::sleep(SPREAD.mul_f64(fastrand::f64().powi(2)));
    }
    daemon.finish()
}

/// Checks a race against its own log. Returns the first cause and the exit statuses.
fn check(finished: &Finished) -> (Cause, String) {
    let log = &finished.stderr;
    let at = |text: &str| log.find(text).unwrap_or(usize::MAX);
    let ended = at(text::RUNNER_ENDED);
    let runner: i32 = log
        .get(ended..)
        .and_then(|rest| rest.split("status=").nth(1)?.split_whitespace().next())
        .unwrap_or_else(|| panic!("no status of the runner: {finished:?}"))
        .parse()
        .unwrap();
    // The status of `terminate` is 0, unless the runner exited first.
    let terminate = at(text::TERMINATE);
    let expected = if terminate < ended { 0 } else { runner };
    assert_eq!(finished.status, expected, "{finished:?}");
    // SIGTERM ends the shell between the reset of its trap and `exit 7`.
    assert!([7, 42, 143].contains(&runner), "{finished:?}");
    let output = finished.text();
    let stops = output.lines().find(|line| line.starts_with("stops"));
    assert!(stops.is_none_or(|stops| stops == "stops 1"), "{output}");
    assert!(!log.contains(text::SIGKILL), "{log}");
    let ladders = log.matches(text::STOPPING).count();
    assert!(ladders <= 2, "{log}");
    let causes = [
        (terminate, Cause::Terminate),
        (at(text::STOP), Cause::Operator),
        (ended, Cause::RunnerEnds),
    ];
    let (_, first) = causes.into_iter().min().unwrap();
    (first, format!("runner {runner}, taskbeat {expected}"))
}
