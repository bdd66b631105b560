//! What we promise, checked.

use crate::Row;
use crate::limit;
use crate::measure::Measure;
use crate::policies::{INTERVAL, Kind};
use crate::scenario::Scenario;

/// Prints each goal with what was reached. True when all are met.
pub(crate) fn check(rows: &[Row]) -> bool {
    let mut met = true;
    for row in rows.iter().filter(|row| row.kind == Kind::Taskbeat) {
        for (what, found, limit) in goals(row.scenario, row.size, &row.measure) {
            let verdict = if found <= limit { "met" } else { "MISSED" };
            let size = row.size;
            println!("{verdict:<6}  {size:>5} runners, {what}: {found:.2}, at most {limit:.2}");
            met &= found <= limit;
        }
    }
    met
}

/// Name, value and limit of each goal.
fn goals(scenario: Scenario, size: u32, measure: &Measure) -> Vec<(&'static str, f64, f64)> {
    let least = limit::least(size).as_secs_f64();
    let all_heard = measure.all_heard();
    let times = all_heard.map_or(f64::INFINITY, |after| after.as_secs_f64() / least);
    let recovered = measure.calls_per_recovered();
    let share = limit::fair_share(size, INTERVAL).as_secs_f64();
    let gap = measure.gap(1_000).as_secs_f64() / share;
    let calls = measure.calls_per_acknowledged();
    match (scenario, size) {
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
    }
}
