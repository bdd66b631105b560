//! The real loop in paused time.

use std::cell::RefCell;
use std::future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{Daemon, NoReload, Observer, Response, Service, Turn};
use crate::commands::Commands;
use crate::config::{CommandSettings, Identity, RunnerSettings, StopScope, Target};
use crate::core::{Action, AfterTerminate, Exit, Failure, FailureClass, Outcome, Policy};
use crate::runner::Runner;
use crate::status::Snapshots;

const MONTH: Duration = Duration::from_hours(30 * 24);
const LATENCY: Duration = Duration::from_millis(120);

/// A service that fails every tenth heartbeat and answers `terminate` after a month.
struct VirtualService {
    start: Instant,
    sent: Rc<RefCell<Vec<Instant>>>,
    in_flight: bool,
    identity: Identity,
}

impl Service for VirtualService {
    fn send(&mut self, _: bool) {
        self.sent.borrow_mut().push(Instant::now());
        self.in_flight = true;
    }

    fn abandon(&mut self) {
        self.in_flight = false;
    }

    async fn response(&mut self) -> Response {
        if !self.in_flight {
            future::pending::<()>().await;
        }
        sleep(LATENCY).await;
        self.in_flight = false;
        let outcome = if self.sent.borrow().len().is_multiple_of(10) {
            Outcome::Failed(Failure { class: FailureClass::Transient, retry_after: None })
        } else {
            Outcome::Acknowledged { terminate: self.start.elapsed() >= MONTH }
        };
        Response { outcome, message: String::new(), code: None, request_id: None }
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Counts the heartbeats that the core ordered.
#[derive(Default)]
struct Counter {
    sends: usize,
}

impl Observer for Counter {
    fn observe(&mut self, turn: &Turn<'_>) {
        let actions = turn.done.iter().map(|done| done.action);
        self.sends += actions.filter(|a| matches!(a, Action::Send { .. })).count();
    }
}

#[tokio::test(start_paused = true)]
async fn a_month_of_heartbeats() {
    let sent = Rc::default();
    let identity = Identity {
        taskrunner_id: "runner-1".to_owned(),
        worker_group: None,
        hostname: "runner.example".to_owned(),
    };
    let service = VirtualService {
        start: Instant::now(),
        sent: Rc::clone(&sent),
        in_flight: false,
        identity,
    };
    let no_runner = RunnerSettings {
        target: Target::None,
        stop_signal: Signal::TERM,
        stop_scope: StopScope::Group,
    };
    let policy = Policy {
        interval: Duration::from_mins(15),
        jitter: 0.1,
        grace: Duration::from_secs(30),
        lost_contact_after: None,
        on_terminate: false,
        health_check: None,
        on_contact_change: false,
        after_terminate: AfterTerminate::Exit,
    };
    let mut counter = Counter::default();
    let daemon = Daemon {
        policy,
        runner: Runner::new(no_runner, None),
        commands: Commands::new(CommandSettings::default(), "runner-1"),
        service,
        stops: stream::pending(),
        signals: stream::pending(),
        status_requests: Snapshots::channel().1,
        keepalive: None,
        reload: NoReload,
    };
    let exit = daemon.run(&mut [&mut counter]).await;

    assert_eq!(exit, Exit::OK);
    let sent = sent.borrow();
    assert_eq!(counter.sends, sent.len());
    // All at the full interval would be 2880, all at the shortest 3200, and a ninth more failed.
    assert!((2880..=3600).contains(&sent.len()), "{}", sent.len());
    for (number, pair) in sent.windows(2).enumerate() {
        let gap = pair[1] - pair[0];
        // The timer rounds up to its millisecond.
        let longest = policy.interval + Duration::from_millis(1);
        assert!(gap <= longest, "{number}: {gap:?}");
    }
}
