//! What holds whatever happens: a random world, and laws that are checked at every step of it.

use std::time::Duration;

use proptest::prelude::*;
use taskbeat::core::{
    Action, AfterTerminate, Agent, Answer, Cause, Class, Event, Exit, Fault, Job, Policy, Roll,
    Runner, State, Time,
};

/// One step of the world: so much later, this happens, if it can.
#[derive(Clone, Debug)]
struct Turn {
    after: Duration,
    what: What,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Nothing,
    Answer(Answer, f64),
    LeaderEnds(u8),
    EverybodyEnds,
    HookEnds,
    Stop,
    Reload,
    Resume(Duration),
    Restart,
    Job(Job),
}

fn answers() -> impl Strategy<Value = Answer> {
    let class = prop_oneof![
        Just(Class::Transient),
        Just(Class::Throttled),
        Just(Class::Rejected)
    ];
    let seconds = prop::option::of(0..100_000_u64);
    prop_oneof![
        6 => Just(Answer::Acknowledged { terminate: false }),
        1 => Just(Answer::Acknowledged { terminate: true }),
        6 => (class, seconds).prop_map(|(class, seconds)| Answer::Failed(Fault {
            class,
            retry_after: seconds.map(Duration::from_secs),
        })),
    ]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let what = prop_oneof![
        20 => Just(What::Nothing),
        20 => (answers(), 0.0..1.0).prop_map(|(answer, roll)| What::Answer(answer, roll)),
        1 => any::<u8>().prop_map(What::LeaderEnds),
        2 => Just(What::EverybodyEnds),
        2 => Just(What::HookEnds),
        1 => Just(What::Stop),
        1 => Just(What::Reload),
        1 => (0..100_000_u64).prop_map(|s| What::Resume(Duration::from_secs(s))),
        2 => Just(What::Restart),
        2 => Just(What::Job(Job::Forward(10))),
        1 => Just(What::Job(Job::Suspend(Some(20)))),
        1 => Just(What::Job(Job::Continue)),
    ];
    let turn = (0..400_000_u64, what).prop_map(|(ms, what)| Turn {
        after: Duration::from_millis(ms),
        what,
    });
    prop::collection::vec(turn, 1..200)
}

fn policies() -> impl Strategy<Value = Policy> {
    let after_terminate = prop_oneof![Just(AfterTerminate::Exit), Just(AfterTerminate::Idle)];
    (
        10..=900_000_u64,
        0.0..=0.5,
        0..100_000_u64,
        prop::option::of(2.1..10.0),
        any::<bool>(),
        after_terminate,
    )
        .prop_map(
            |(interval, jitter, grace, lost, on_terminate, after_terminate)| {
                let interval = Duration::from_millis(interval);
                Policy {
                    interval,
                    jitter,
                    grace: Duration::from_millis(grace),
                    lost_contact_after: lost.map(|times: f64| interval.mul_f64(times)),
                    on_terminate,
                    after_terminate,
                }
            },
        )
}

fn runners() -> impl Strategy<Value = Runner> {
    prop_oneof![
        Just(Runner::None),
        Just(Runner::Child),
        Just(Runner::Attached),
        Just(Runner::Followed)
    ]
}

/// The world around one agent: what is true of it, and what the agent did to it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of the world, and independent of the others"
)]
pub(crate) struct World {
    agent: Agent,
    runner: Runner,
    now: Time,
    up: bool,
    others: bool,
    in_flight: Option<Time>,
    hook: bool,
    last_acknowledged: Option<Time>,
    failing: bool,
    resumed: bool,
    terminated: bool,
    stops: usize,
    kills: usize,
    /// A reason to stop the runner that the contract knows.
    reason: bool,
    exit: Option<Exit>,
}

impl World {
    pub(crate) fn new(runner: Runner, policy: Policy) -> Self {
        Self {
            agent: Agent::new(runner, policy),
            runner,
            now: Time::ZERO,
            up: false,
            others: false,
            in_flight: None,
            hook: false,
            last_acknowledged: None,
            failing: false,
            resumed: false,
            terminated: false,
            stops: 0,
            kills: 0,
            reason: false,
            exit: None,
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn state(&self) -> State {
        self.agent.state()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.agent.deadline()
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        self.exit
    }

    fn tell(&mut self, event: Event) {
        let lost = self.agent.policy().lost_contact_after;
        let actions = self.agent.handle(self.now, event);
        if let State::Stopping { cause, .. } | State::Killing { cause, .. } = self.agent.state() {
            assert!(cause != Cause::LostContact || lost.is_some());
            self.reason |= cause == Cause::LostContact;
        }
        for action in actions {
            assert_eq!(self.exit, None, "nothing follows an exit");
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartRunner => {
                self.up = true;
                self.others = self.runner == Runner::Child;
                self.tell(Event::RunnerUp);
            }
            Action::Send { .. } => self.send(),
            Action::Abandon => {
                assert!(self.in_flight.take().is_some(), "nothing to abandon");
            }
            Action::StartHook => {
                assert!(self.terminated && !self.hook);
                self.hook = true;
            }
            Action::KillHook => assert!(std::mem::take(&mut self.hook)),
            Action::StopRunner => {
                assert!(self.reason || !self.up, "no reason to stop the runner");
                self.stops += 1;
            }
            Action::KillRunner => {
                assert!(self.stops > 0 || self.terminated);
                self.kills += 1;
            }
            Action::Forward(_) | Action::Continue => {
                assert!(self.runner == Runner::Child && self.up, "nobody to hear it");
            }
            Action::Suspend => {}
            Action::Exit(exit) => self.exit = Some(exit),
        }
    }

    fn send(&mut self) {
        assert!(!self.terminated, "a heartbeat after terminate");
        assert!(self.up, "a heartbeat without a runner");
        assert!(self.in_flight.is_none(), "two heartbeats in flight");
        if let Some(last) = self.last_acknowledged
            && !self.failing
        {
            let interval = self.agent.policy().interval;
            let late = (self.now - last).saturating_sub(interval);
            assert!(late.is_zero(), "a heartbeat {late:?} late");
        }
        self.in_flight = Some(self.now);
    }

    /// Lets `until` come, with every deadline before it.
    pub(crate) fn pass(&mut self, until: Time) {
        let mut turns = 0;
        while let Some(deadline) = self.agent.deadline().filter(|time| *time <= until) {
            if self.exit.is_some() {
                return;
            }
            self.now = self.now.max(deadline);
            self.tell(Event::Due);
            turns += 1;
            assert!(
                turns < 100,
                "a deadline that never passes: {:?}",
                self.agent
            );
        }
        self.now = self.now.max(until);
    }

    pub(crate) fn happen(&mut self, what: What) {
        match what {
            What::Nothing => {}
            What::Answer(answer, roll) => self.answer(answer, Roll::new(roll)),
            What::LeaderEnds(status) => {
                if self.runner != Runner::None && std::mem::take(&mut self.up) {
                    self.tell(Event::RunnerEnded(Exit(status)));
                }
            }
            What::EverybodyEnds => {
                self.happen(What::LeaderEnds(143));
                if std::mem::take(&mut self.others) && self.exit.is_none() {
                    self.tell(Event::RunnerGone);
                }
            }
            What::HookEnds => {
                if std::mem::take(&mut self.hook) {
                    self.tell(Event::HookEnded);
                }
            }
            What::Stop => {
                self.reason |= self.runner == Runner::Child;
                self.tell(Event::Stop);
            }
            What::Job(job) => self.tell(Event::Job(job)),
            What::Reload => self.tell(Event::Reloaded(*self.agent.policy())),
            What::Resume(gap) => {
                self.resumed = true;
                self.tell(Event::Resumed(gap));
            }
            What::Restart => {
                if self.runner == Runner::Followed && !std::mem::replace(&mut self.up, true) {
                    self.last_acknowledged = None;
                    self.tell(Event::RunnerUp);
                }
            }
        }
    }

    fn answer(&mut self, answer: Answer, roll: Roll) {
        let Some(started) = self.in_flight.take() else {
            return;
        };
        match answer {
            Answer::Acknowledged { terminate } => {
                self.last_acknowledged = Some(started);
                // An answer that took longer than the interval makes the next one late, and nobody is to blame.
                self.failing = self.now - started > self.agent.policy().interval;
                self.terminated |= terminate;
                self.reason |= terminate;
            }
            Answer::Failed(_) => self.failing = true,
        }
        self.tell(Event::Answered(answer, roll));
        if let Answer::Failed(_) = answer
            && let Some(due) = self.agent.schedule().due()
        {
            let backoff = due - self.now;
            assert!(
                backoff < self.agent.policy().interval,
                "backoff {backoff:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold(runner in runners(), policy in policies(), turns in turns()) {
        let mut world = World::new(runner, policy);
        world.pass(Time::ZERO);
        for turn in turns {
            world.pass(world.now + turn.after.min(policy.interval));
            if world.exit.is_some() {
                break;
            }
            world.happen(turn.what);
        }
        // Two stops end it in the time of the ladder, with a runner that does nothing of its own accord.
        for _ in 0..3 {
            if world.exit.is_none() {
                world.happen(What::Stop);
            }
        }
        world.pass(world.now + Duration::from_secs(5));
        prop_assert!(world.exit.is_some(), "the ladder does not end: {:?}", world.agent);
        prop_assert!(world.kills <= 2);
        if world.terminated && world.exit != Some(Exit::UNAVAILABLE) {
            prop_assert_eq!(world.exit, Some(Exit::OK));
        }
    }

    #[test]
    fn a_stop_takes_the_grace_and_five_seconds(policy in policies()) {
        let mut world = World::new(Runner::Child, Policy { lost_contact_after: None, ..policy });
        world.pass(Time::ZERO);
        world.happen(What::Stop);
        let until = world.now + policy.grace + Duration::from_secs(5);
        while let Some(deadline) = world.agent.deadline().filter(|time| *time <= until) {
            world.now = deadline;
            world.tell(Event::Due);
            world.answer(Answer::Acknowledged { terminate: false }, Roll::new(0.5));
        }
        prop_assert_eq!(world.exit, Some(Exit::by_signal(9)));
        prop_assert_eq!((world.stops, world.kills), (1, 1));
        prop_assert_eq!(world.now, until);
    }

    #[test]
    fn an_error_never_stops_the_runner(policy in policies(), answers in prop::collection::vec(answers(), 1..500)) {
        let mut world = World::new(Runner::Child, Policy { lost_contact_after: None, ..policy });
        world.pass(Time::ZERO);
        for answer in answers {
            if let Answer::Failed(_) = answer {
                world.answer(answer, Roll::new(0.7));
                prop_assert_eq!(world.agent.state(), State::Running);
                let due = world.agent.deadline();
                prop_assert!(due.is_some(), "given up");
                world.pass(due.unwrap_or_default());
            }
        }
        prop_assert_eq!((world.stops, world.kills, world.exit), (0, 0, None));
    }
}
