//! What we promise, checked.

use crate::Row;
use crate::limit;
use crate::measure::Measure;
use crate::policies::{INTERVAL, Kind};
use crate::scenario::Scenario;

/// Prints each goal with the worst that was reached, in `rows` and with more `seeds`. True when all are met.
pub(crate) fn check(rows: &[Row], seeds: &[u64]) -> bool {
    let mut met = true;
    for row in rows.iter().filter(|row| row.kind == Kind::Taskbeat) {
        let (scenario, size) = (row.scenario, row.size);
        let goals = self::goals(scenario, size, &row.measure).into_iter();
        let mut worst: Vec<_> = goals.map(|goal| (goal, row.seed)).collect();
        if worst.is_empty() {
            continue;
        }
        for &seed in seeds {
            let again = Row::play(scenario, size, Kind::Taskbeat, seed);
            let goals = self::goals(scenario, size, &again.measure);
            for (worst, goal) in worst.iter_mut().zip(goals) {
                if goal.found > worst.0.found {
                    *worst = (goal, seed);
                }
            }
        }
        for (Goal { what, found, limit }, seed) in worst {
            let verdict = if found <= limit { "met" } else { "MISSED" };
            println!(
                "{verdict:<6}  {size:>5} runners, {what}: {found:.2} at worst, with seed {seed}; at most {limit:.2}"
            );
            met &= found <= limit;
        }
    }
    met
}

/// What is promised of a number.
struct Goal {
    what: &'static str,
    found: f64,
    limit: f64,
}

fn goals(scenario: Scenario, size: u32, measure: &Measure) -> Vec<Goal> {
    let least = limit::least(size).as_secs_f64();
    let all_heard = measure.all_heard();
    let times = all_heard.map_or(f64::INFINITY, |after| after.as_secs_f64() / least);
    let recovered = measure.calls_per_recovered();
    let share = limit::fair_share(size, INTERVAL).as_secs_f64();
    let gap = measure.gap(1_000).as_secs_f64() / share;
    let calls = measure.calls_per_acknowledged();
    let goals = match (scenario, size) {
        (Scenario::Boot, 800) => vec![
            ("all heard after the boot, × least", times, 1.1),
            ("calls per runner until then", recovered, 2.0),
        ],
        (Scenario::Outage, 800) => vec![
            ("all heard after the outage, × least", times, 1.1),
            ("calls per runner until then", recovered, 2.0),
        ],
        (Scenario::Steady, 800) => vec![("% throttled", measure.percent_throttled(), 1.0)],
        (_, 1_600) => vec![
            ("worst gap, × fair share", gap, 2.0),
            ("calls per acknowledged heartbeat", calls, 3.0),
        ],
        _ => vec![],
    };
    let goal = |(what, found, limit)| Goal { what, found, limit };
    goals.into_iter().map(goal).collect()
}
