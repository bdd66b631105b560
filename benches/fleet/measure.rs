//! What is counted while a fleet is watched.

use std::ops::Range;
use std::time::Duration;

use taskbeat::core::Time;

use crate::policies::CallResult;

/// One runner, as the service sees it.
struct Seen {
    /// Its last acknowledged heartbeat, or its boot.
    last: Time,
    /// Whether one was acknowledged while it was watched.
    heard: bool,
}

/// What is counted.
pub(crate) struct Measure {
    watched: Range<Time>,
    blamed: Time,
    runners: Vec<Seen>,
    heard: u32,
    last_heard: Duration,
    calls: u32,
    calls_until_heard: u32,
    throttled: u32,
    acknowledged: Vec<Duration>,
    gaps: Vec<Duration>,
}

impl Measure {
    /// Gaps count from `blamed` at the earliest.
    pub(crate) fn new(watched: Range<Time>, blamed: Time, booted: Vec<Time>) -> Self {
        let seen = |last| Seen { last, heard: false };
        Self {
            watched,
            blamed,
            runners: booted.into_iter().map(seen).collect(),
            heard: 0,
            last_heard: Duration::ZERO,
            calls: 0,
            calls_until_heard: 0,
            throttled: 0,
            acknowledged: Vec::new(),
            gaps: Vec::new(),
        }
    }

    pub(crate) fn called(&mut self, now: Time, runner: usize, outcome: CallResult) {
        let runner = &mut self.runners[runner];
        if self.watched.contains(&now) {
            self.calls += 1;
            self.calls_until_heard += u32::from(!runner.heard);
            self.throttled += u32::from(outcome == CallResult::Throttled);
            if outcome == CallResult::Acknowledged {
                let since = now - self.watched.start;
                self.acknowledged.push(since);
                self.gaps.push(now - runner.last.max(self.blamed));
                if !runner.heard {
                    runner.heard = true;
                    self.heard += 1;
                    self.last_heard = since;
                }
            }
        }
        if outcome == CallResult::Acknowledged {
            runner.last = now;
        }
    }

    /// The end of the watch: a gap that is still open counts, too, by what is known of it.
    pub(crate) fn close(&mut self) {
        let open = self.runners.iter().map(|seen| seen.last.max(self.blamed));
        self.gaps.extend(open.map(|last| self.watched.end - last));
        self.gaps.sort_unstable();
    }

    /// When the last runner was heard; `None` if one never was.
    pub(crate) fn all_heard(&self) -> Option<Duration> {
        (self.starved() == 0).then_some(self.last_heard)
    }

    /// How many were never heard.
    pub(crate) fn starved(&self) -> usize {
        self.runners.iter().filter(|seen| !seen.heard).count()
    }

    /// How many calls it took until a runner was heard; those of the starved count, too.
    pub(crate) fn calls_per_recovered(&self) -> f64 {
        f64::from(self.calls_until_heard) / f64::from(self.heard.max(1))
    }

    pub(crate) fn calls_per_acknowledged(&self) -> f64 {
        f64::from(self.calls) / f64::from((self.calls - self.throttled).max(1))
    }

    pub(crate) fn percent_throttled(&self) -> f64 {
        100.0 * f64::from(self.throttled) / f64::from(self.calls.max(1))
    }

    /// The gap that `per_mille` of the gaps are no longer than.
    pub(crate) fn gap(&self, per_mille: usize) -> Duration {
        let last = self.gaps.len().saturating_sub(1);
        let gap = self.gaps.get(last * per_mille.min(1_000) / 1_000);
        gap.copied().unwrap_or_default()
    }

    /// All the gaps, the shortest first.
    pub(crate) fn gaps(&self) -> &[Duration] {
        &self.gaps
    }

    /// When heartbeats were acknowledged.
    pub(crate) fn acknowledged(&self) -> &[Duration] {
        &self.acknowledged
    }
}
