//! The goals of the schedule, and whether they are met.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use crate::Row;
use crate::crash::CrashLoop;
use crate::limit;
use crate::measure::Measure;
use crate::policies::{INTERVAL, Kind};
use crate::scenario::{Scenario, play};
use crate::table::name;

/// The seeds for what differs little from seed to seed: the fleet that is scaled down, which has
/// only another clock, and the fleet with crash loops.
const FEWER_SEEDS: usize = 10;

/// The size of the fleet with crash loops, and how much they may worsen the figures of the others.
pub(crate) const CRASHING_FLEET: u32 = 800;
const WORSE: f64 = 1.05;

/// Prints each goal with the worst value over all `seeds`. True if all goals are met.
pub(crate) fn check(rows: &[Row], seeds: &[u64]) -> bool {
    let fewer = seeds.get(..FEWER_SEEDS).unwrap_or(seeds);
    let taskbeat = met(rows, Kind::Taskbeat, seeds);
    let scaled = met(rows, Kind::Scaled, fewer);
    let beside = CrashLoop::ALL.map(|crash_loop| met_beside(crash_loop, fewer));
    taskbeat && scaled && beside == [true; 2]
}

fn met(rows: &[Row], kind: Kind, seeds: &[u64]) -> bool {
    println!("{}, seeds: {}", kind.name(), seeds.len());
    let mut met = true;
    for row in rows.iter().filter(|row| row.kind == Kind::Taskbeat) {
        let (scenario, size) = (row.scenario, row.size);
        if goals(scenario, size, &row.measure).is_empty() {
            continue;
        }
        met &= worst(size, seeds, |seed| goals(scenario, size, &play(scenario, size, kind, seed)));
    }
    met
}

/// Compares the runners beside a crash loop with the same runners without one.
fn met_beside(crash_loop: CrashLoop, seeds: &[u64]) -> bool {
    let scenario = Scenario::Reload(Some(crash_loop));
    let kind = Kind::Taskbeat;
    println!("{}, seeds: {}", name(scenario, kind), seeds.len());
    worst(CRASHING_FLEET, seeds, |seed| {
        let [beside, without] = [scenario, Scenario::Reload(None)]
            .map(|scenario| figures(&play(scenario, CRASHING_FLEET, kind, seed)));
        let goal =
            |((name, beside), (_, without))| Goal { name, found: beside / without, limit: WORSE };
        beside.into_iter().zip(without).map(goal).collect()
    })
}

/// The figures to compare with those of another fleet.
fn figures(measure: &Measure) -> [(&'static str, f64); 5] {
    let all = measure.all_acknowledged();
    let all = all.map_or(f64::INFINITY, |after| after.as_secs_f64());
    let calls = measure.calls_per_acknowledged();
    let gap = |per_mille| measure.gap(per_mille).as_secs_f64();
    [
        ("all acknowledged, × without", all),
        ("calls per acknowledged heartbeat, × without", calls),
        ("median gap, × without", gap(500)),
        ("99 % of the gaps, × without", gap(990)),
        ("longest gap, × without", gap(1_000)),
    ]
}

/// Prints the worst value of each goal over all seeds. True if all are met.
fn worst(size: u32, seeds: &[u64], goals: impl Fn(u64) -> Vec<Goal> + Sync) -> bool {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let found: Vec<Vec<Goal>> = thread::scope(|scope| {
        let goals = &goals;
        let parts = seeds.chunks(seeds.len().div_ceil(threads));
        let play = |part: &'_ [u64]| part.iter().map(|&seed| goals(seed)).collect::<Vec<_>>();
        let running: Vec<_> = parts.map(|part| scope.spawn(move || play(part))).collect();
        running
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    let mut worst: Vec<(Goal, u64)> = Vec::new();
    for (&seed, goals) in seeds.iter().zip(found) {
        for (at, goal) in goals.into_iter().enumerate() {
            match worst.get_mut(at) {
                Some(worst) if worst.0.found >= goal.found => {}
                Some(worst) => *worst = (goal, seed),
                None => worst.push((goal, seed)),
            }
        }
    }
    let mut met = true;
    for (Goal { name, found, limit }, seed) in worst {
        let verdict = if found <= limit { "met" } else { "MISSED" };
        println!(
            "{verdict:<6}  {size:>5} runners, {name}: {found:.2} at worst, with seed {seed}; \
             at most {limit:.2}"
        );
        met &= found <= limit;
    }
    met
}

/// A figure, its name and its limit.
struct Goal {
    name: &'static str,
    found: f64,
    limit: f64,
}

fn goals(scenario: Scenario, size: u32, measure: &Measure) -> Vec<Goal> {
    let least = limit::least(size).as_secs_f64();
    let all_acknowledged = measure.all_acknowledged();
    let times = all_acknowledged.map_or(f64::INFINITY, |after| after.as_secs_f64() / least);
    let recovered = measure.calls_per_recovered();
    let share = limit::fair_share(size, INTERVAL).as_secs_f64();
    let gap = measure.gap(1_000).as_secs_f64() / share;
    let calls = measure.calls_per_acknowledged();
    let goals = match (scenario, size) {
        (Scenario::Boot, 800) => vec![
            ("all acknowledged after the boot, × least", times, 1.1),
            ("calls per runner until then", recovered, 2.0),
        ],
        (Scenario::Outage, 800) => vec![
            ("all acknowledged after the outage, × least", times, 1.1),
            ("calls per runner until then", recovered, 2.0),
        ],
        (Scenario::Steady, 800) => vec![("% throttled", measure.percent_throttled(), 1.0)],
        (_, 1_600) => vec![
            ("worst gap, × fair share", gap, 2.0),
            ("calls per acknowledged heartbeat", calls, 3.0),
        ],
        _ => vec![],
    };
    let goal = |(name, found, limit)| Goal { name, found, limit };
    goals.into_iter().map(goal).collect()
}
