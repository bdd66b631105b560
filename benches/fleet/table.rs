//! The results as a table in plain text.

use std::time::Duration;

use crate::Row;
use crate::crash::CrashLoop;
use crate::limit;
use crate::measure::Measure;
use crate::policies::Kind;
use crate::scenario::Scenario;

/// A title for the scenario, and the names of the columns.
pub(crate) fn head(scenario: Scenario) -> String {
    let title = match scenario {
        Scenario::Boot => "All boot within 5 s. The first 24 h.",
        Scenario::Outage => "An outage of 30 min. 24 h from its end.",
        Scenario::Steady => "No event. 24 h, after 4 h to settle.",
        Scenario::Reload(_) => {
            "One runner in ten crashes in a loop; all are reloaded once. The others, for 24 h."
        }
    };
    let columns = [
        "runners  policy                     all ack    × least  calls per  starved",
        "     gap p50     p99      max  calls per  throttled\n",
        "                                 after              recovered         ",
        "                                   ack             ",
    ];
    format!("{title}\n\n{}", columns.concat())
}

/// The name of the policy, or of the crash loop beside it.
pub(crate) fn name(scenario: Scenario, kind: Kind) -> &'static str {
    match scenario {
        Scenario::Reload(Some(CrashLoop::Child)) => "crash loops, children",
        Scenario::Reload(Some(CrashLoop::Followed)) => "crash loops, followed",
        Scenario::Reload(None) => "no crash loops",
        Scenario::Boot | Scenario::Outage | Scenario::Steady => kind.name(),
    }
}

pub(crate) fn line(scenario: Scenario, size: u32, kind: Kind, measure: &Measure) -> String {
    let least = limit::least(size).as_secs_f64();
    let none = || "-".to_owned();
    let mut after = measure.all_acknowledged().map_or("never".to_owned(), seconds);
    let mut times = match measure.all_acknowledged() {
        Some(after) if least > 0.0 => format!("{:.2}", after.as_secs_f64() / least),
        Some(_) | None => none(),
    };
    let mut recovered = format!("{:.2}", measure.calls_per_recovered());
    if scenario == Scenario::Steady {
        // Nothing to recover from.
        [after, times, recovered] = [none(), none(), none()];
    }
    let [p50, p99, max] = [500, 990, 1_000].map(|part| seconds(measure.gap(part)));
    format!(
        "{size:>7}  {:<22} {after:>11} {times:>10} {recovered:>10} {:>8} \
         {p50:>12} {p99:>7} {max:>8} {:>10.2} {:>8.1} %",
        name(scenario, kind),
        measure.starved(),
        measure.calls_per_acknowledged(),
        measure.percent_throttled(),
    )
}

/// The table of the README: a common boot of a fleet within the limit, and of a fleet beyond it.
pub(crate) fn summary(rows: &[Row]) -> String {
    let mut lines = vec![
        "| a common boot, and the 24 hours after it | 800 runners: all heard after \
         | calls of each until then | 1600 runners: longest gap | calls per heartbeat |"
            .to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for kind in Kind::ALL {
        let played = |size| {
            rows.iter()
                .find(|row| (row.scenario, row.size, row.kind) == (Scenario::Boot, size, kind))
                .map(|row| &row.measure)
        };
        let (Some(fits), Some(too_many)) = (played(800), played(1_600)) else {
            continue;
        };
        let after = match fits.all_acknowledged() {
            Some(after) => seconds(after),
            None => format!("never, {} starve", fits.starved()),
        };
        lines.push(format!(
            "| {} | {after} | {:.1} | {} | {:.1} |",
            kind.name(),
            fits.calls_per_recovered(),
            seconds(too_many.gap(1_000)),
            too_many.calls_per_acknowledged(),
        ));
    }
    lines.join("\n")
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
