//! The typed settings, made from the raw inputs.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tracing::level_filters::LevelFilter;

use super::errors::{Error, Errors};
use super::input::Origin;
use super::show;
use super::sources::Inputs;
use super::table::Setting;
use super::values::{self, LogFormat, StopScope, choice};
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
}

/// The parameters of `ReportTaskRunnerHeartbeat`, each at most 1024 characters (API reference).
///
/// As part of the settings they are texts for `parts`: they may hold placeholders
/// of the metadata service, and their literal braces are doubled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `taskrunnerId`, at least one character, unique in the AWS account.
    pub taskrunner_id: String,
    /// `workerGroup`. Requests without one leave it out.
    pub worker_group: Option<String>,
    /// `hostname`, at least one character.
    pub hostname: String,
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
pub struct AwsSettings {
    /// A label of the endpoint's host name, such as `us-east-1`.
    pub region: Option<String>,
    /// A profile of the shared configuration files.
    pub profile: Option<String>,
    /// True if the profile was chosen for taskbeat: by flag, `TASKBEAT_PROFILE` or file. Then
    /// credentials come from it alone. `AWS_PROFILE` is for all programs and does not pin it.
    pub profile_is_pinned: bool,
    /// The endpoint of Data Pipeline alone: the SDK's STS and SSO clients must not get it.
    pub endpoint_url: Option<String>,
    /// Variables and keys that are true and demand an endpoint which Data Pipeline does not have.
    pub endpoint_variants: Vec<&'static str>,
}

/// The runner, and how it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSettings {
    /// The process, or the command that starts it.
    pub target: Target,
    /// The first signal of a stop.
    pub stop_signal: Signal,
    /// The processes that get the stop signal.
    pub stop_scope: StopScope,
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
pub enum Target {
    /// None that taskbeat knows: only heartbeats are sent.
    None,
    /// A child to start: program and arguments, at least the program.
    Command(Vec<OsString>),
    /// A running process, which has its own supervisor.
    Pid(Pid),
    /// The process that this file names, now or later.
    PidFile(PathBuf),
}

/// The log's format and level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The format of a line.
    pub format: LogFormat,
    /// The least important level that is logged.
    pub level: LevelFilter,
}

/// The regions with an endpoint, as of the AWS General Reference.
const REGIONS: [&str; 5] =
    ["us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2"];

/// The time limit of `health-check` by default.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(30);

/// Shorter intervals are for tests: the account may send one heartbeat per second in all.
const SENSIBLE_INTERVAL: Duration = Duration::from_mins(1);

impl Settings {
    /// Parses all inputs.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them.
    pub(super) fn resolve(inputs: &Inputs) -> Result<Self, Errors> {
        let mut reader = Reader { inputs, errors: inputs.errors.clone() };
        match reader.settings() {
            Ok(settings) if reader.errors.is_empty() => Ok(settings),
            Ok(_) | Err(Refused) => Err(Errors(reader.errors)),
        }
    }

    /// Probable mistakes, on one line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.aws.warnings();
        let interval = self.policy.interval;
        let is_loopback = self.aws.endpoint_url.as_deref().is_some_and(values::is_loopback);
        if interval < SENSIBLE_INTERVAL && !is_loopback {
            let interval = humantime::format_duration(interval);
            warnings.push(format!(
                "interval {interval} is short: all runners of an AWS account share one heartbeat \
                 per second"
            ));
        }
        warnings
    }
}

impl AwsSettings {
    /// Probable mistakes, on one line each, with what to do.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let (Some(region), None) = (&self.region, &self.endpoint_url)
            && !REGIONS.contains(&region.as_str())
        {
            let (region, regions) = (show::escaped(region), REGIONS.join(", "));
            warnings.push(format!(
                "region {region} has no known Data Pipeline endpoint; these have one: {regions}"
            ));
        }
        for name in &self.endpoint_variants {
            warnings.push(format!(
                "{name} is true, but Data Pipeline has no such endpoint: no heartbeat will arrive \
                 until it is unset"
            ));
        }
        if let Some(url) = &self.endpoint_url
            && values::is_plain_http(url)
            && !values::is_loopback(url)
        {
            warnings.push(format!(
                "endpoint {} is plain http: on the way, heartbeats can be read and answers forged; \
                 use https",
                show::escaped(&show::redacted(url))
            ));
        }
        warnings
    }
}

/// Marks a value whose error was noted already.
struct Refused;

/// Reads one input after the other. After an error it goes on, so that all errors are reported.
struct Reader<'a> {
    inputs: &'a Inputs,
    errors: Vec<Error>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Result<Settings, Refused> {
        // All are read before the first `?` may return.
        let taskrunner_id = self.required("taskrunner-id", values::name);
        let worker_group = self.optional("worker-group", values::worker_group);
        let hostname = self.required("hostname", values::name);
        let region = self.optional("region", values::region);
        let profile = self.optional("profile", values::profile);
        let profile_is_pinned = self.is_pinned("profile");
        let endpoint_url = self.optional("endpoint-url", values::endpoint_url);
        let interval = self.required("interval", values::interval);
        let jitter = self.required("jitter", values::jitter);
        let grace = self.required("grace", values::grace);
        let stop_signal = self.required("stop-signal", values::stop_signal);
        let stop_scope = self.required("stop-scope", |text| choice(text, &values::STOP_SCOPES));
        let lost_contact_after = self.lost_contact_after(interval.as_ref().ok().copied());
        let target = self.target();
        let on_terminate = self.optional("on-terminate", values::command);
        let health_check = self.optional("health-check", values::command);
        let health_timeout = self.health_timeout(interval.as_ref().ok().copied());
        let on_contact_change = self.optional("on-contact-change", values::command);
        let after_terminate =
            self.required("after-terminate", |text| choice(text, &values::AFTER_TERMINATE));
        let format = self.required("log-format", |text| choice(text, &values::LOG_FORMATS));
        let level = self.required("log", |text| choice(text, &values::LOG_LEVELS));
        let commands = CommandSettings {
            on_terminate: on_terminate?,
            health_check: health_check?,
            on_contact_change: on_contact_change?,
        };
        Ok(Settings {
            identity: Identity {
                taskrunner_id: taskrunner_id?,
                worker_group: worker_group?,
                hostname: hostname?,
            },
            aws: AwsSettings {
                region: region?,
                profile: profile?,
                profile_is_pinned,
                endpoint_url: endpoint_url?,
                endpoint_variants: self.inputs.endpoint_variants.clone(),
            },
            policy: Policy {
                interval: interval?,
                jitter: jitter?,
                grace: grace?,
                lost_contact_after: lost_contact_after?,
                on_terminate: commands.on_terminate.is_some(),
                health_check: health_timeout?.filter(|_| commands.health_check.is_some()),
                on_contact_change: commands.on_contact_change.is_some(),
                after_terminate: after_terminate?,
            },
            runner: RunnerSettings {
                target: target?,
                stop_signal: stop_signal?,
                stop_scope: stop_scope?,
            },
            commands,
            log: LogSettings { format: format?, level: level? },
        })
    }

    /// True if the value comes from anywhere but a variable of the AWS SDKs.
    fn is_pinned(&self, key: &'static str) -> bool {
        let input =
            Setting::find(key).and_then(|setting| Some((setting, self.inputs.get(setting)?)));
        input.is_some_and(|(setting, input)| {
            setting.aws.iter().all(|name| input.origin != Origin::Environment((*name).to_owned()))
        })
    }

    /// At most one of command, pid and pid-file may be set.
    fn target(&mut self) -> Result<Target, Refused> {
        let command = self.command();
        let pid = self.optional("pid", values::pid);
        let file = self.optional("pid-file", values::path);
        let mut set = ["command", "pid", "pid-file"]
            .into_iter()
            .filter_map(Setting::find)
            .filter_map(|setting| Some((setting.key, &self.inputs.get(setting)?.origin)));
        if let (Some(one), Some(other)) = (set.next(), set.next()) {
            self.errors.push(Error::conflict(one, other));
            return Err(Refused);
        }
        Ok(match (command?, pid?, file?) {
            (Some(command), ..) => Target::Command(command),
            (_, Some(pid), _) => Target::Pid(pid),
            (.., Some(file)) => Target::PidFile(file),
            (None, None, None) => Target::None,
        })
    }

    fn lost_contact_after(
        &mut self,
        interval: Option<Duration>,
    ) -> Result<Option<Duration>, Refused> {
        let key = "lost-contact-after";
        let after = self.optional(key, values::lost_contact_after)?;
        let too_short = |after| interval.is_some_and(|interval| after <= interval * 2);
        if after.is_none_or(|after| !too_short(after)) {
            return Ok(after);
        }
        // The value alone may be allowed, so it can be refused only here.
        self.optional(key, |_| None::<()>).map(|_| None)
    }

    /// At most half the interval, so that a check does not delay the heartbeat that it precedes.
    fn health_timeout(&mut self, interval: Option<Duration>) -> Result<Option<Duration>, Refused> {
        let key = "health-timeout";
        let timeout = self.optional(key, values::health_timeout)?;
        let longest = interval.map_or(Duration::MAX, |interval| interval / 2);
        match timeout {
            Some(timeout) if timeout > longest => {
                // The value alone may be allowed, so it can be refused only here.
                self.optional(key, |_| None::<()>).map(|_| None)
            }
            Some(timeout) => Ok(Some(timeout)),
            None => Ok(Some(HEALTH_TIMEOUT.min(longest))),
        }
    }

    /// The arguments after `--` reach the runner untouched, so only a shell command is checked.
    fn command(&mut self) -> Result<Option<Vec<OsString>>, Refused> {
        if self.inputs.command.is_empty() {
            return self.optional("command", values::command);
        }
        Ok(Some(self.inputs.command.clone()))
    }

    fn required<T>(
        &mut self,
        key: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, Refused> {
        if let Some(value) = self.optional(key, parse)? {
            return Ok(value);
        }
        self.errors.extend(Setting::find(key).map(Error::missing));
        Err(Refused)
    }

    fn optional<T>(
        &mut self,
        key: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Refused> {
        let Some(setting) = Setting::find(key) else {
            return Ok(None);
        };
        let Some(input) = self.inputs.get(setting) else {
            return Ok(None);
        };
        let refused = match &input.value {
            Ok(text) => match parse(text) {
                Some(value) => return Ok(Some(value)),
                None => show::quoted(setting, text),
            },
            Err(instead) => instead.clone(),
        };
        self.errors.push(Error::not_allowed(setting, &refused, input));
        Err(Refused)
    }
}
