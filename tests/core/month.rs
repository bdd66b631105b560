//! The real loop in paused time.

use std::cell::RefCell;
use std::future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream;
use rustix::process::Signal;
use taskbeat::config::{self, StopScope, Target};
use taskbeat::core::{Action, Exit, Failure, FailureClass, Outcome, Policy};
use taskbeat::daemon::{Daemon, Observer, Response, Service, Turn};
use taskbeat::runner::Runner;
use tokio::time::{Instant, sleep};

use crate::table::policy;

const MONTH: Duration = Duration::from_hours(30 * 24);
const LATENCY: Duration = Duration::from_millis(120);

/// A service that fails every tenth heartbeat and wants the runner to terminate after a month.
struct Virtual {
    start: Instant,
    sent: Rc<RefCell<Vec<Instant>>>,
    in_flight: bool,
}

impl Service for Virtual {
    fn send(&mut self, _: bool) {
        self.sent.borrow_mut().push(Instant::now());
        self.in_flight = true;
    }

    fn abandon(&mut self) {
        self.in_flight = false;
    }

    async fn answer(&mut self) -> Response {
        if !self.in_flight {
            future::pending::<()>().await;
        }
        sleep(LATENCY).await;
        self.in_flight = false;
        let answer = if self.sent.borrow().len().is_multiple_of(10) {
            Outcome::Failed(Failure {
                class: FailureClass::Transient,
                retry_after: None,
            })
        } else {
            Outcome::Acknowledged {
                terminate: self.start.elapsed() >= MONTH,
            }
        };
        Response {
            answer,
            message: String::new(),
            request_id: None,
        }
    }
}

/// Counts what the loop was told to do.
#[derive(Default)]
struct Counter {
    sends: usize,
}

impl Observer for Counter {
    fn observe(&mut self, step: &Turn<'_>) {
        let sends = |action: &Action| matches!(action, Action::Send { .. });
        self.sends += step.done.iter().filter(|(action, _)| sends(action)).count();
    }
}

#[tokio::test(start_paused = true)]
async fn a_month_of_heartbeats() {
    let sent = Rc::default();
    let service = Virtual {
        start: Instant::now(),
        sent: Rc::clone(&sent),
        in_flight: false,
    };
    let nobody = config::RunnerSettings {
        target: Target::None,
        stop_signal: Signal::TERM,
        stop_scope: StopScope::Group,
        on_terminate: None,
    };
    let policy = Policy {
        jitter: 0.1,
        ..policy()
    };
    let mut counter = Counter::default();
    let daemon = Daemon {
        policy,
        runner: Runner::new(nobody, None),
        service,
        signals: stream::pending(),
        instance: None,
        pulse: None,
        reload: Box::new(|_| None),
    };
    let exit = daemon.run(&mut [&mut counter]).await;

    assert_eq!(exit, Exit::OK);
    let sent = sent.borrow();
    assert_eq!(counter.sends, sent.len());
    // Between all of them at the full interval and all at the shortest, a ninth more for the failed ones.
    assert!((2880..=3600).contains(&sent.len()), "{}", sent.len());
    for (number, pair) in sent.windows(2).enumerate() {
        let gap = pair[1] - pair[0];
        // The timer rounds up to its millisecond.
        assert!(
            gap <= policy.interval + Duration::from_millis(1),
            "{number}: {gap:?}"
        );
    }
}
