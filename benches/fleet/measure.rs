//! The figures of a fleet during the time in which it is watched.

use std::ops::Range;
use std::time::Duration;

use taskbeat::core::Time;

use crate::policies::CallResult;

/// One runner, from the view of the service.
struct Seen {
    /// Its last acknowledged heartbeat, or its boot.
    last: Time,
    /// A heartbeat was acknowledged since the watch began.
    acknowledged: bool,
}

/// Counters and gaps, collected call by call.
pub(crate) struct Measure {
    watched: Range<Time>,
    blamed: Time,
    /// `None` for a runner that does not count.
    runners: Vec<Option<Seen>>,
    recovered: u32,
    last_recovered: Duration,
    calls: u32,
    calls_until_recovered: u32,
    throttled: u32,
    acknowledged: Vec<Duration>,
    gaps: Vec<Duration>,
}

impl Measure {
    /// Gaps count from `blamed` at the earliest.
    pub(crate) fn new(watched: Range<Time>, blamed: Time, booted: Vec<Option<Time>>) -> Self {
        let seen = |last| Seen { last, acknowledged: false };
        Self {
            watched,
            blamed,
            runners: booted.into_iter().map(|last| last.map(seen)).collect(),
            recovered: 0,
            last_recovered: Duration::ZERO,
            calls: 0,
            calls_until_recovered: 0,
            throttled: 0,
            acknowledged: Vec::new(),
            gaps: Vec::new(),
        }
    }

    pub(crate) fn called(&mut self, now: Time, runner: usize, outcome: CallResult) {
        let Some(runner) = &mut self.runners[runner] else {
            return;
        };
        if self.watched.contains(&now) {
            self.calls += 1;
            self.calls_until_recovered += u32::from(!runner.acknowledged);
            self.throttled += u32::from(outcome == CallResult::Throttled);
            if outcome == CallResult::Acknowledged {
                let since = now - self.watched.start;
                self.acknowledged.push(since);
                self.gaps.push(now - runner.last.max(self.blamed));
                if !runner.acknowledged {
                    runner.acknowledged = true;
                    self.recovered += 1;
                    self.last_recovered = since;
                }
            }
        }
        if outcome == CallResult::Acknowledged {
            runner.last = now;
        }
    }

    /// Ends the watch. A gap that is still open counts with its length so far.
    pub(crate) fn close(&mut self) {
        let runners = self.runners.iter().flatten();
        let open = runners.map(|seen| seen.last.max(self.blamed));
        self.gaps.extend(open.map(|last| self.watched.end - last));
        self.gaps.sort_unstable();
    }

    /// When every runner had an acknowledged heartbeat; `None` if one of them never had.
    pub(crate) fn all_acknowledged(&self) -> Option<Duration> {
        (self.starved() == 0).then_some(self.last_recovered)
    }

    /// Runners without an acknowledged heartbeat.
    pub(crate) fn starved(&self) -> usize {
        let runners = self.runners.iter().flatten();
        runners.filter(|seen| !seen.acknowledged).count()
    }

    /// Calls until the first acknowledged heartbeat of a runner. Those of starved runners count,
    /// too.
    pub(crate) fn calls_per_recovered(&self) -> f64 {
        f64::from(self.calls_until_recovered) / f64::from(self.recovered.max(1))
    }

    pub(crate) fn calls_per_acknowledged(&self) -> f64 {
        f64::from(self.calls) / f64::from((self.calls - self.throttled).max(1))
    }

    pub(crate) fn percent_throttled(&self) -> f64 {
        100.0 * f64::from(self.throttled) / f64::from(self.calls.max(1))
    }

    /// The quantile of the gaps at `per_mille` of 1000.
    pub(crate) fn gap(&self, per_mille: usize) -> Duration {
        let last = self.gaps.len().saturating_sub(1);
        let gap = self.gaps.get(last * per_mille.min(1_000) / 1_000);
        gap.copied().unwrap_or_default()
    }

    /// All gaps, in ascending order.
    pub(crate) fn gaps(&self) -> &[Duration] {
        &self.gaps
    }

    /// The times of the acknowledged heartbeats, since the start of the watch.
    pub(crate) fn acknowledged(&self) -> &[Duration] {
        &self.acknowledged
    }
}
