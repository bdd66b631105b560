//! What holds whatever happens: a random world, and laws that are checked at every step of it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use taskbeat::core::{
    Action, AfterTerminate, Agent, Event, Exit, Failure, FailureClass, Job, Outcome, Policy,
    Random, RunnerKind, State, Time,
};

/// A service that is broken for weeks.
const FAULTS_IN_A_ROW: usize = 5_000;

/// One life of the daemon.
#[derive(Clone, Debug)]
struct Life {
    runner: RunnerKind,
    policy: Policy,
    refused: bool,
    turns: Vec<Turn>,
}

/// One step of the world: after this part of the time to the next deadline this happens, if it can.
#[derive(Clone, Copy, Debug)]
struct Turn {
    wait: f64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Nothing,
    Outcome(Outcome, f64),
    LeaderEnds(u8),
    EverybodyEnds,
    HookEnds,
    Stop,
    Reload,
    Resume(Duration),
    Restart,
    Job(Job),
}

fn faults() -> impl Strategy<Value = Outcome> {
    let class = prop::sample::select(vec![
        FailureClass::Transient,
        FailureClass::Throttled,
        FailureClass::Rejected,
    ]);
    let seconds = prop::option::of(0..100_000_u64);
    (class, seconds).prop_map(|(class, seconds)| {
        Outcome::Failed(Failure {
            class,
            retry_after: seconds.map(Duration::from_secs),
        })
    })
}

fn answers() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Acknowledged { terminate: false }),
        2 => Just(Outcome::Acknowledged { terminate: true }),
        4 => faults(),
    ]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let jobs = [Job::Forward(10), Job::Suspend(Some(20)), Job::Continue];
    let what = prop_oneof![
        20 => (answers(), 0.0..1.0).prop_map(|(answer, random)| What::Outcome(answer, random)),
        4 => Just(What::Restart),
        2 => any::<u8>().prop_map(What::LeaderEnds),
        4 => Just(What::EverybodyEnds),
        2 => Just(What::HookEnds),
        1 => Just(What::Stop),
        2 => Just(What::Reload),
        2 => (0..100_000_u64).prop_map(|s| What::Resume(Duration::from_secs(s))),
        2 => prop::sample::select(jobs.to_vec()).prop_map(What::Job),
    ];
    let turn = (0.0..1.5, what).prop_map(|(wait, what)| Turn { wait, what });
    prop::collection::vec(turn, 1..40)
}

fn lives() -> impl Strategy<Value = Life> {
    let refused = prop::bool::weighted(0.1);
    (runners(), policies(), refused, turns()).prop_map(|(runner, policy, refused, turns)| Life {
        runner,
        policy,
        refused,
        turns,
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let after_terminate = prop_oneof![Just(AfterTerminate::Exit), Just(AfterTerminate::Idle)];
    (
        prop_oneof![10..=5_000_u64, 10..=900_000_u64],
        0.0..=0.5,
        0..100_000_u64,
        prop::option::weighted(0.2, 2.1..10.0),
        prop::bool::weighted(0.7),
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

fn runners() -> impl Strategy<Value = RunnerKind> {
    prop_oneof![
        1 => Just(RunnerKind::None),
        4 => Just(RunnerKind::Child),
        1 => Just(RunnerKind::Attached),
        3 => Just(RunnerKind::Followed)
    ]
}

/// The world around one agent: what is true of it, and what the agent did to it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of the world, and independent of the others"
)]
pub(crate) struct World {
    agent: Agent,
    runner: RunnerKind,
    now: Time,
    /// The runner cannot be started.
    refused: bool,
    up: bool,
    /// When it came up.
    since: Time,
    others: bool,
    ended: Option<Exit>,
    in_flight: Option<Time>,
    hook: bool,
    last_acknowledged: Option<Time>,
    failing: bool,
    terminated: bool,
    lost: bool,
    stops: usize,
    kills: usize,
    /// A reason to stop the runner that the contract knows.
    reason: bool,
    exit: Option<Exit>,
    /// What happened: the state before, the event, and the state after.
    history: Vec<(State, Event, State)>,
}

impl World {
    pub(crate) fn new(runner: RunnerKind, policy: Policy) -> Self {
        Self {
            agent: Agent::new(runner, policy),
            runner,
            now: Time::ZERO,
            refused: false,
            up: false,
            since: Time::ZERO,
            others: false,
            ended: None,
            in_flight: None,
            hook: false,
            last_acknowledged: None,
            failing: false,
            terminated: false,
            lost: false,
            stops: 0,
            kills: 0,
            reason: false,
            exit: None,
            history: Vec::new(),
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
        let before = self.state();
        let actions = self.agent.handle(self.now, event);
        self.history.push((before, event, self.state()));
        // Of what falls due in this state only lost contact ends it.
        if before == State::Running && event == Event::Due && self.state() != before {
            let silent = self.now - self.last_acknowledged.unwrap_or(self.since);
            let allowed = self.agent.policy().lost_contact_after;
            assert!(
                allowed.is_some_and(|allowed| silent >= allowed),
                "contact is not lost after {silent:?}"
            );
            self.lost = true;
            self.reason = true;
        }
        for action in actions {
            assert_eq!(self.exit, None, "nothing follows an exit");
            self.act(action, before, event);
        }
        match self.state() {
            State::Stopping { .. } => assert!(self.stops > 0, "not told to stop"),
            State::Killing { .. } => assert!(self.kills > 0, "not killed"),
            State::Idle | State::Stopped => assert!(
                !self.reason || !self.is_there() || self.kills > 0,
                "a runner that was to be stopped is left alone"
            ),
            State::Starting | State::Waiting | State::Running | State::Hooking { .. } => {}
        }
        if self.exit.is_none() {
            let schedule = self.agent.schedule();
            assert_eq!(schedule.in_flight(), self.in_flight.is_some());
            let goes_on = schedule.in_flight() || schedule.due().is_some();
            assert_eq!(goes_on, self.up && !self.terminated, "heartbeats are true");
        }
    }

    fn act(&mut self, action: Action, before: State, event: Event) {
        // Once in a runner's life, and once more at its leader's end for those who were not told yet.
        let is_called_for = |times| times == 0 || matches!(event, Event::RunnerEnded(_));
        match action {
            Action::StartRunner => match self.runner {
                RunnerKind::Child | RunnerKind::Attached if self.refused => {
                    self.ended = Some(Exit::NOT_FOUND);
                    self.tell(Event::RunnerRefused(Exit::NOT_FOUND));
                }
                RunnerKind::None | RunnerKind::Child | RunnerKind::Attached => self.come_up(),
                RunnerKind::Followed => {}
            },
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
                assert!(self.reason, "no reason to stop the runner");
                assert!(self.is_there(), "nobody to stop");
                assert!(is_called_for(self.stops), "stopped twice");
                self.stops += 1;
            }
            Action::KillRunner => {
                let hooking = matches!(before, State::Hooking { .. });
                assert!(self.stops + self.kills > 0 || hooking, "never told to stop");
                assert!(self.is_there(), "nobody to kill");
                assert!(is_called_for(self.kills), "killed twice");
                self.kills += 1;
            }
            Action::Forward(_) | Action::Continue => {
                assert!(
                    self.runner == RunnerKind::Child && self.up,
                    "nobody to hear it"
                );
            }
            Action::Suspend => {}
            Action::Exit(exit) => {
                assert_eq!(exit, self.status());
                self.exit = Some(exit);
            }
        }
    }

    /// True when there is somebody to stop.
    fn is_there(&self) -> bool {
        self.runner != RunnerKind::None && (self.up || self.others)
    }

    /// The status that the contract asks for.
    fn status(&self) -> Exit {
        match self.runner {
            _ if self.lost => Exit::UNAVAILABLE,
            _ if self.terminated => Exit::OK,
            RunnerKind::Child if self.up => Exit::by_signal(9),
            RunnerKind::Child | RunnerKind::Attached => self.ended.unwrap_or(Exit::OK),
            RunnerKind::None | RunnerKind::Followed => Exit::OK,
        }
    }

    /// A runner's life begins.
    fn come_up(&mut self) {
        self.up = true;
        self.since = self.now;
        self.others = self.runner == RunnerKind::Child;
        self.last_acknowledged = None;
        self.stops = 0;
        self.kills = 0;
        self.tell(Event::RunnerUp);
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

    /// Lets this part of the time to the next deadline pass. What comes before the whole of it comes before the
    /// deadline, too, even if that is now.
    fn wait(&mut self, part: f64) {
        let nothing_due = self.agent.policy().interval / 2;
        let left = self.deadline().map(|deadline| deadline - self.now);
        let until = self.now + left.unwrap_or(nothing_due).mul_f64(part);
        if part < 1.0 {
            self.now = until;
        } else {
            self.pass(until);
        }
    }

    pub(crate) fn happen(&mut self, what: What) {
        if self.exit.is_some() {
            return;
        }
        match what {
            What::Nothing => {}
            What::Outcome(answer, random) => self.answer(answer, Random::new(random)),
            What::LeaderEnds(status) => {
                if self.is_watched() && std::mem::take(&mut self.up) {
                    self.reason |= self.runner == RunnerKind::Child;
                    self.ended = Some(Exit(status));
                    self.tell(Event::RunnerEnded(Exit(status)));
                }
            }
            What::EverybodyEnds => {
                self.happen(What::LeaderEnds(143));
                if std::mem::take(&mut self.others) {
                    self.tell(Event::RunnerGone);
                }
            }
            What::HookEnds => {
                if std::mem::take(&mut self.hook) {
                    self.tell(Event::HookEnded);
                }
            }
            What::Stop => {
                self.reason |= self.runner == RunnerKind::Child;
                self.tell(Event::Stop);
            }
            What::Job(job) => self.tell(Event::Job(job)),
            // On the way out it is ignored.
            What::Reload if self.state().cause().is_some() => {}
            What::Reload => self.tell(Event::Reloaded(*self.agent.policy())),
            What::Resume(gap) => self.tell(Event::Resumed(gap)),
            What::Restart => {
                if self.runner == RunnerKind::Followed {
                    self.happen(What::LeaderEnds(1));
                    if self.is_watched() {
                        self.come_up();
                    }
                }
            }
        }
    }

    /// After `terminate` nobody else's process is our runner any more, even if somebody starts it again.
    fn is_watched(&self) -> bool {
        match self.state() {
            State::Starting | State::Stopped => false,
            State::Idle => self.runner == RunnerKind::Child,
            State::Waiting
            | State::Running
            | State::Hooking { .. }
            | State::Stopping { .. }
            | State::Killing { .. } => self.runner != RunnerKind::None,
        }
    }

    fn answer(&mut self, answer: Outcome, random: Random) {
        let Some(started) = self.in_flight.take() else {
            return;
        };
        match answer {
            Outcome::Acknowledged { terminate } => {
                self.last_acknowledged = Some(started);
                // An answer that took longer than the interval makes the next one late, and nobody is to blame.
                self.failing = self.now - started > self.agent.policy().interval;
                self.terminated |= terminate;
                self.reason |= terminate;
            }
            Outcome::Failed(_) => self.failing = true,
        }
        self.tell(Event::HeartbeatEnded(answer, random));
        if let Outcome::Failed(_) = answer
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

/// Lives `life` to its end, and checks every law on the way.
fn live(life: Life) -> Vec<(State, Event, State)> {
    let mut world = World::new(life.runner, life.policy);
    world.refused = life.refused;
    // Two stops end it in the time of the ladder, whatever else happens.
    let stop = Turn {
        wait: 0.0,
        what: What::Stop,
    };
    let mut turns = life.turns;
    let last = turns.len() * 2 / 3;
    turns.splice(last..last, [stop; 2]);
    for turn in turns {
        world.wait(turn.wait);
        world.happen(turn.what);
    }
    world.pass(world.now + Duration::from_secs(5));
    assert!(
        world.exit.is_some(),
        "the ladder does not end: {:?}",
        world.agent
    );
    world.history
}

/// The names of the state and of the event; a heartbeat that was due is a `beat`.
fn name((before, event, after): (State, Event, State)) -> (String, &'static str) {
    let state = format!("{before:?}");
    let state = state.split(' ').next().unwrap_or_default();
    let event = match event {
        Event::Due if before == after => "beat",
        Event::Due => "due",
        Event::RunnerUp => "up",
        Event::RunnerRefused(_) => "refused",
        Event::RunnerEnded(_) => "ended",
        Event::RunnerGone => "gone",
        Event::HeartbeatEnded(Outcome::Acknowledged { terminate: false }, _) => "ack",
        Event::HeartbeatEnded(Outcome::Acknowledged { terminate: true }, _) => "terminate",
        Event::HeartbeatEnded(Outcome::Failed(_), _) => "failed",
        Event::HookEnded => "hooked",
        Event::Stop => "stop",
        Event::Reloaded(_) => "reload",
        Event::Resumed(_) => "resumed",
        Event::Job(_) => "job",
    };
    (state.to_owned(), event)
}

/// The laws are worth what the world puts to them: all that can happen to the real daemon, and nothing else. These lives
/// are the same ones every time, so that a rare event comes always or never.
#[test]
fn the_random_world_reaches_every_state_with_every_event_that_it_can_produce() {
    let mut times = BTreeMap::<_, usize>::new();
    let mut random = TestRunner::deterministic();
    for _ in 0..2_000 {
        let life = lives().new_tree(&mut random).expect("a life").current();
        for step in live(life) {
            *times.entry(name(step)).or_default() += 1;
        }
    }
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for ((state, event), times) in times {
        assert!(times >= 5, "{event} in {state} is too rare: {times}");
        found.entry(state).or_default().push(event);
    }
    let show = |(state, events): (String, Vec<&str>)| format!("{state}: {}", events.join(" "));
    let found: Vec<_> = found.into_iter().map(show).collect();
    let expected = [
        "Hooking: due ended gone hooked job resumed stop up",
        "Idle: ended gone job reload resumed stop",
        "Killing: ack beat due ended failed gone job resumed stop terminate",
        "Running: ack beat due ended failed job reload resumed stop terminate",
        "Starting: due job reload resumed stop",
        "Stopping: ack beat due ended failed gone job resumed stop terminate",
        "Waiting: job refused reload resumed stop up",
    ];
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold(life in lives()) {
        live(life);
    }

    #[test]
    fn a_stop_takes_the_grace_and_five_seconds(policy in policies()) {
        let mut world = World::new(RunnerKind::Child, Policy { lost_contact_after: None, ..policy });
        world.pass(Time::ZERO);
        world.happen(What::Stop);
        let until = world.now + policy.grace + Duration::from_secs(5);
        while let Some(deadline) = world.agent.deadline().filter(|time| *time <= until) {
            world.now = deadline;
            world.tell(Event::Due);
            world.answer(Outcome::Acknowledged { terminate: false }, Random::new(0.5));
        }
        prop_assert_eq!(world.exit, Some(Exit::by_signal(9)));
        prop_assert_eq!((world.stops, world.kills), (1, 1));
        prop_assert_eq!(world.now, until);
    }

    #[test]
    fn an_error_never_stops_the_runner(policy in policies(), faults in prop::collection::vec(faults(), 1..20)) {
        let mut world = World::new(RunnerKind::Child, Policy { lost_contact_after: None, ..policy });
        world.pass(Time::ZERO);
        for fault in faults.iter().cycle().take(FAULTS_IN_A_ROW) {
            world.answer(*fault, Random::new(0.7));
            prop_assert_eq!(world.agent.state(), State::Running);
            let due = world.agent.deadline();
            prop_assert!(due.is_some(), "given up");
            world.pass(due.unwrap_or_default());
        }
        prop_assert_eq!((world.stops, world.kills, world.exit), (0, 0, None));
    }
}
