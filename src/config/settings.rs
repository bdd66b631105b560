//! The typed settings, made from the raw inputs.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::environment::{self, Environment};
use super::input::{Inputs, Origin};
use super::show;
use super::sources::Options;
use super::values::{self, Choices, LogFormat, StopScope};
use crate::core::{CommandName, Policy};

/// Every setting, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) identity: Identity,
    pub(crate) aws: AwsSettings,
    pub(crate) policy: Policy,
    pub(crate) runner: RunnerSettings,
    pub(crate) commands: CommandSettings,
    pub(crate) log: LogSettings,
    /// Where the metrics are served.
    pub(crate) metrics_listen: Option<SocketAddr>,
}

/// The parameters of `ReportTaskRunnerHeartbeat`, each at most 1024 characters (API reference).
///
/// As part of the settings they are texts for `parts`: they may hold placeholders
/// of the metadata service, and their literal braces are doubled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    /// `taskrunnerId`, at least one character, unique in the AWS account.
    pub(crate) taskrunner_id: String,
    /// `workerGroup`. Requests without one leave it out.
    pub(crate) worker_group: Option<String>,
    /// `hostname`, at least one character.
    pub(crate) hostname: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "taskrunner-id {}", self.taskrunner_id)?;
        if let Some(worker_group) = &self.worker_group {
            write!(f, ", worker-group {worker_group}")?;
        }
        write!(f, ", hostname {}", self.hostname)
    }
}

/// How to reach the service. The SDK decides about a field that is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsSettings {
    /// A label of the endpoint's host name, such as `us-east-1`.
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
    /// True if the profile was chosen for taskbeat: by flag, `TASKBEAT_PROFILE` or file. Then
    /// credentials come from it alone. `AWS_PROFILE` is for all programs and does not pin it.
    pub(crate) profile_is_pinned: bool,
    /// The endpoint of Data Pipeline alone: the SDK's STS and SSO clients must not get it.
    pub(crate) endpoint_url: Option<String>,
    /// Variables and keys that are true and demand an endpoint which Data Pipeline does not have.
    pub(crate) endpoint_variants: Vec<&'static str>,
}

/// The runner, and how it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunnerSettings {
    pub(crate) target: Target,
    pub(crate) stop_signal: Signal,
    pub(crate) stop_scope: StopScope,
}

/// The commands beside the runner: program and arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandSettings {
    pub(crate) on_terminate: Option<Vec<OsString>>,
    pub(crate) health_check: Option<Vec<OsString>>,
    pub(crate) on_contact_change: Option<Vec<OsString>>,
}

impl CommandSettings {
    pub(crate) fn get(&self, name: CommandName) -> Option<&[OsString]> {
        let command = match name {
            CommandName::OnTerminate => &self.on_terminate,
            CommandName::HealthCheck => &self.health_check,
            CommandName::OnContactChange => &self.on_contact_change,
        };
        command.as_deref()
    }
}

/// The runner's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// No process: taskbeat only sends heartbeats.
    None,
    /// A child to start: program and arguments, at least the program.
    Command(Vec<OsString>),
    /// A running process, which has its own supervisor.
    Pid(Pid),
    /// The process that this file names, now or later.
    PidFile(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) format: LogFormat,
    pub(crate) level: LevelFilter,
}

/// The regions with an endpoint, as of the AWS General Reference.
const REGIONS: [&str; 5] =
    ["us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2"];

/// Shorter intervals are for tests: the account may send one heartbeat per second in all.
const SENSIBLE_INTERVAL: Duration = Duration::from_mins(1);

impl Settings {
    /// Parses all inputs. If it adds errors, some values are not those of the inputs, and the
    /// settings must not be used.
    pub(super) fn read(
        inputs: &Inputs,
        options: &Options,
        environment: &Environment,
        errors: &mut Vec<String>,
    ) -> Self {
        let mut reader = Reader { inputs, errors };
        let identity = Identity {
            taskrunner_id: reader.text("taskrunner-id", values::is_name).unwrap_or_default(),
            worker_group: reader.text("worker-group", values::is_worker_group),
            hostname: reader.text("hostname", values::is_name).unwrap_or_default(),
        };
        let aws = AwsSettings {
            region: reader.text("region", values::is_region),
            profile: reader.text("profile", values::is_profile),
            profile_is_pinned: reader.is_pinned("profile"),
            endpoint_url: reader.text("endpoint-url", values::is_http_url),
            endpoint_variants: environment::endpoint_variants(environment),
        };
        let interval = reader.read("interval", |text| values::duration(text, &values::INTERVAL));
        // So that a check does not delay the heartbeat that it precedes.
        let longest = interval.map_or(Duration::MAX, |interval| interval / 2);
        let timeout = inputs.get("health-timeout").map(|input| &input.origin);
        let is_default = matches!(timeout, Some(Origin::Default(_)));
        let health_timeout = reader.read("health-timeout", |text| {
            let timeout = values::duration(text, &values::HEALTH_TIMEOUT)?;
            (is_default || timeout <= longest).then_some(timeout.min(longest))
        });
        let health_timeout = health_timeout.unwrap_or_default();
        Self {
            identity,
            aws,
            policy: Policy {
                interval: interval.unwrap_or_default(),
                jitter: reader.read("jitter", values::jitter).unwrap_or_default(),
                lost_contact_after: reader.read("lost-contact-after", |text| {
                    let after = values::duration(text, &values::LOST_CONTACT)?;
                    interval.is_none_or(|interval| after > interval * 2).then_some(after)
                }),
                grace: reader
                    .read("grace", |text| values::duration(text, &values::GRACE))
                    .unwrap_or_default(),
                on_terminate: inputs.contains_key("on-terminate"),
                health_check: inputs.contains_key("health-check").then_some(health_timeout),
                on_contact_change: inputs.contains_key("on-contact-change"),
                after_terminate: reader.choice("after-terminate", &values::AFTER_TERMINATE),
            },
            runner: RunnerSettings {
                stop_signal: reader
                    .read("stop-signal", values::stop_signal)
                    .unwrap_or(Signal::TERM),
                stop_scope: reader.choice("stop-scope", &values::STOP_SCOPES),
                target: reader.target(&options.command),
            },
            commands: CommandSettings {
                on_terminate: reader.read("on-terminate", values::command),
                health_check: reader.read("health-check", values::command),
                on_contact_change: reader.read("on-contact-change", values::command),
            },
            log: LogSettings {
                format: reader.choice("log-format", &values::LOG_FORMATS),
                level: reader.choice("log", &values::LOG_LEVELS),
            },
            metrics_listen: reader.read("metrics-listen", |text| text.parse().ok()),
        }
    }

    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.aws.warnings();
        if let Some(address) = self.metrics_listen.filter(|address| !address.ip().is_loopback()) {
            warnings.push(Warning::new(
                format!("any host that reaches {address} can read the metrics"),
                "use an address of loopback, or a firewall",
            ));
        }
        let interval = self.policy.interval;
        let is_loopback = self.aws.endpoint_url.as_deref().is_some_and(values::is_loopback);
        if interval < SENSIBLE_INTERVAL && !is_loopback {
            let interval = humantime::format_duration(interval);
            warnings.push(Warning::new(
                format!(
                    "interval {interval} is short: all runners of an AWS account share one \
                     heartbeat per second"
                ),
                "use 1m or more",
            ));
        }
        warnings
    }
}

impl AwsSettings {
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let (Some(region), None) = (&self.region, &self.endpoint_url)
            && !REGIONS.contains(&region.as_str())
        {
            warnings.push(Warning::new(
                format!("region {} has no known Data Pipeline endpoint", show::escaped(region)),
                format!("these have one: {}", REGIONS.join(", ")),
            ));
        }
        for variable in &self.endpoint_variants {
            warnings.push(Warning::new(
                format!(
                    "{variable} is true, but Data Pipeline has no such endpoint: no heartbeat will \
                     arrive"
                ),
                "unset it",
            ));
        }
        if let Some(url) = &self.endpoint_url
            && values::is_plain_http(url)
            && !values::is_loopback(url)
        {
            warnings.push(Warning::new(
                format!(
                    "endpoint {} is plain http: on the way, heartbeats can be read and answers \
                     forged",
                    show::escaped(&show::redacted(url))
                ),
                "use https",
            ));
        }
        warnings
    }
}

/// A probable mistake, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Warning {
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl Warning {
    pub(crate) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// Reads one input after the other. After an error it goes on, so that all errors are reported.
struct Reader<'a> {
    inputs: &'a Inputs,
    errors: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// True if the value comes from anywhere but a variable of the AWS SDKs.
    fn is_pinned(&self, key: &str) -> bool {
        self.inputs.get(key).is_some_and(|input| {
            let names = input.setting.aws;
            names.iter().all(|name| input.origin != Origin::Environment((*name).to_owned()))
        })
    }

    /// At most one of command, pid and pid-file may be set.
    fn target(&mut self, command: &[OsString]) -> Target {
        // The words after `--` reach the runner untouched, so only a shell command is checked.
        let command = if command.is_empty() {
            self.read("command", values::command)
        } else {
            Some(command.to_vec())
        };
        let pid = self.read("pid", values::parse_pid).map(Target::Pid);
        let pid_file = self.read("pid-file", values::path).map(Target::PidFile);
        let keys = ["command", "pid", "pid-file"].into_iter();
        let mut set = keys.filter_map(|key| Some((key, &self.inputs.get(key)?.origin)));
        if let (Some((one, from)), Some((other, from_other))) = (set.next(), set.next()) {
            self.errors.push(format!(
                "{one} ({from}) and {other} ({from_other}): \
                 set only one of command, pid and pid-file"
            ));
        }
        command.map(Target::Command).or(pid).or(pid_file).unwrap_or(Target::None)
    }

    fn text(&mut self, key: &str, is_allowed: fn(&str) -> bool) -> Option<String> {
        self.read(key, |text| is_allowed(text).then(|| text.to_owned()))
    }

    fn choice<T: Copy, const N: usize>(&mut self, key: &str, choices: &Choices<T, N>) -> T {
        self.read(key, |text| values::choice(text, choices)).unwrap_or(choices[0].1)
    }

    /// The parsed value. `None` if it is not set, or after an error.
    fn read<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let input = self.inputs.get(key)?;
        let text = input.value.as_deref().unwrap_or_default();
        let value = input.value.as_deref().ok().and_then(&parse);
        if value.is_none() {
            // The most frequent mistake.
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let units = ["s", "m", "%"].iter().filter(|_| is_number);
            let with_units = units.map(|unit| format!("{text}{unit}"));
            let meant: Vec<_> = with_units.filter(|text| parse(text).is_some()).collect();
            let hint = match meant.join(" or ") {
                meant if meant.is_empty() => meant,
                meant => format!("; did you mean {meant}?"),
            };
            self.errors.push(input.not_allowed() + &hint);
        }
        value
    }
}
