//! A snapshot as metrics, in the format `OpenMetrics` 1.0.

use std::fmt::{Display, Write};

use serde::Serialize;

use super::Snapshot;
use crate::clock::WallTime;

/// The text of all metrics.
pub(crate) fn openmetrics(snapshot: &Snapshot) -> String {
    let id = format!("taskrunner_id=\"{}\"", escaped(&snapshot.taskrunner_id));
    let mut metrics = Metrics { id, text: String::new() };
    metrics.add(snapshot);
    metrics.text.push_str("# EOF\n");
    metrics.text
}

/// The text, while metrics are added to it.
struct Metrics {
    /// The label that each sample has.
    id: String,
    text: String,
}

impl Metrics {
    fn add(&mut self, snapshot: &Snapshot) {
        let Snapshot { tally, .. } = snapshot;
        let version = [(&snapshot.version, 1)];
        self.labelled("taskbeat_build_info", "The version of taskbeat.", "version", version);
        self.flag(
            "taskbeat_in_contact",
            "1 while heartbeats are acknowledged, each within two intervals.",
            Some(snapshot.in_contact),
        );
        self.time(
            "taskbeat_last_acknowledged_timestamp_seconds",
            "When the last acknowledged heartbeat started.",
            snapshot.acknowledged_at,
        );
        self.time(
            "taskbeat_next_heartbeat_timestamp_seconds",
            "When the next heartbeat starts.",
            snapshot.next_heartbeat_at,
        );
        self.counts(
            "taskbeat_heartbeats_total",
            "Heartbeats by result.",
            "result",
            &tally.heartbeats,
        );
        self.number(
            "taskbeat_heartbeat_duration_seconds",
            "The duration of the last heartbeat that has ended.",
            tally.heartbeat_seconds,
        );
        self.number(
            "taskbeat_failures_in_a_row",
            "Heartbeats that failed since the last acknowledged one.",
            Some(snapshot.failures),
        );
        self.flag(
            "taskbeat_account_over_limit",
            "1 if the AWS account has more runners than its limit has room for.",
            Some(snapshot.over_limit),
        );
        self.flag(
            "taskbeat_runner_healthy",
            "0 while heartbeats are withheld because the runner is unhealthy.",
            Some(snapshot.unhealthy_since.is_none()),
        );
        self.flag("taskbeat_runner_up", "1 while the runner runs.", snapshot.runner_up);
        self.time(
            "taskbeat_runner_start_timestamp_seconds",
            "When the present runner was started or found.",
            snapshot.runner_started_at,
        );
        self.number(
            "taskbeat_runner_starts_total",
            "How often the runner was started or found.",
            Some(tally.runner_starts),
        );
        self.counts("taskbeat_stops_total", "Stops of the runner by cause.", "cause", &tally.stops);
        self.number(
            "taskbeat_log_lines_dropped_total",
            "Log lines that found no room or could not be written.",
            Some(snapshot.log_lines_dropped),
        );
    }

    fn time(&mut self, name: &str, help: &str, time: Option<WallTime>) {
        self.number(name, help, time.map(WallTime::unix_seconds));
    }

    fn flag(&mut self, name: &str, help: &str, is: Option<bool>) {
        self.number(name, help, is.map(u8::from));
    }

    /// A metric with one sample. Without a number now, it is left out.
    fn number(&mut self, name: &str, help: &str, number: Option<impl Display>) {
        if let Some(number) = number {
            self.begin(name, help);
            let _ = writeln!(self.text, "{name}{{{}}} {number}", self.id);
        }
    }

    /// A metric with a sample for each field of `counts`, whose name is the value of `label`.
    fn counts(&mut self, name: &str, help: &str, label: &str, counts: &impl Serialize) {
        let counts = serde_json::to_value(counts).unwrap_or_default();
        let samples = counts.as_object().into_iter().flatten();
        self.labelled(name, help, label, samples);
    }

    /// A metric with a sample for each value of `label`.
    fn labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (impl AsRef<str>, impl Display)>,
    ) {
        self.begin(name, help);
        for (value, number) in samples {
            let value = escaped(value.as_ref());
            let _ = writeln!(self.text, "{name}{{{},{label}=\"{value}\"}} {number}", self.id);
        }
    }

    /// A metric whose name ends in `_total` is a counter, and its samples alone have this ending.
    fn begin(&mut self, name: &str, help: &str) {
        let (family, kind) =
            name.strip_suffix("_total").map_or((name, "gauge"), |family| (family, "counter"));
        let _ = write!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
