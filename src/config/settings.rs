//! The typed settings, made from the raw inputs.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tracing::level_filters::LevelFilter;

use super::errors::{Error, Errors};
use super::sources::{Inputs, Origin};
use super::table::Setting;
use super::{show, values};
use crate::core::Policy;

/// Everything that the user can decide, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What the heartbeat says.
    pub identity: Identity,
    /// Where it goes.
    pub aws: AwsSettings,
    /// When it goes, and how long a stop may take.
    pub policy: Policy,
    /// What is supervised.
    pub runner: RunnerSettings,
    /// What is logged.
    pub log: LogSettings,
}

/// The parameters of `ReportTaskRunnerHeartbeat`, each at most 1024 characters, as its API reference has it. Until the
/// metadata service was asked they may hold its placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `taskrunnerId`, at least one character; unique across the account.
    pub taskrunner_id: String,
    /// `workerGroup`; left out of the request when there is none.
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

/// How the service is reached; the SDK decides what is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region, a label of a host name.
    pub region: Option<String>,
    /// The profile of the shared configuration files.
    pub profile: Option<String>,
    /// True if the profile was chosen for taskbeat: by flag, `TASKBEAT_PROFILE` or file. Then
    /// credentials come from it alone. `AWS_PROFILE` is for all programs and does not pin it.
    pub profile_is_pinned: bool,
    /// The endpoint of Data Pipeline alone: give it to that client, not to the loader, whose STS and SSO clients would
    /// take it, too.
    pub endpoint_url: Option<String>,
}

/// The runner, and how it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSettings {
    /// What it is.
    pub target: Target,
    /// What asks it to stop.
    pub stop_signal: Signal,
    /// Whom the stop signal goes to.
    pub stop_scope: StopScope,
    /// Program and arguments that are run when the service says `terminate`.
    pub on_terminate: Option<Vec<OsString>>,
}

/// What the heartbeats speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody that we know.
    None,
    /// Our child to be: program and arguments, at least the program.
    Command(Vec<OsString>),
    /// A process that somebody else started.
    Pid(Pid),
    /// The process that this file names, now or later.
    PidFile(PathBuf),
}

/// Whom the stop signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopScope {
    /// The runner's process group.
    Group,
    /// The runner alone.
    Leader,
}

/// What is logged, and in which shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The shape of a line.
    pub format: LogFormat,
    /// The least important level that is logged.
    pub level: LevelFilter,
}

/// The shape of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text that fits where stderr leads: a terminal, the journal, a file.
    Auto,
    /// Text with a timestamp.
    Text,
    /// An object of JSON.
    Json,
}

/// The regions with an endpoint, as of the AWS General Reference.
const REGIONS: [&str; 5] = [
    "us-east-1",
    "us-west-2",
    "eu-west-1",
    "ap-northeast-1",
    "ap-southeast-2",
];

/// A shorter interval is the business of tests: the account may send one heartbeat per second, all runners together.
const SENSIBLE_INTERVAL: Duration = Duration::from_mins(1);

impl Settings {
    /// Parses all inputs.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub(super) fn resolve(inputs: &Inputs) -> Result<Self, Errors> {
        let mut reader = Reader {
            inputs,
            errors: inputs.errors.clone(),
        };
        match reader.settings() {
            Ok(settings) if reader.errors.is_empty() => Ok(settings),
            Ok(_) | Err(Refused) => Err(Errors(reader.errors)),
        }
    }

    /// What is probably a mistake, but not certainly; one line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let (Some(region), None) = (&self.aws.region, &self.aws.endpoint_url)
            && !REGIONS.contains(&region.as_str())
        {
            let regions = REGIONS.join(", ");
            warnings.push(format!("region {region} has no Data Pipeline endpoint that we know of; these have: {regions}"));
        }
        let interval = self.policy.interval;
        let loopback = self
            .aws
            .endpoint_url
            .as_deref()
            .is_some_and(values::is_loopback);
        if interval < SENSIBLE_INTERVAL && !loopback {
            let interval = humantime::format_duration(interval);
            warnings.push(format!(
                "interval {interval} is short: all runners of an AWS account share one heartbeat per second"
            ));
        }
        warnings
    }
}

/// Marks a value whose error was noted already.
struct Refused;

/// Reads one input after the other, and goes on after an error: people want to see all of them.
struct Reader<'a> {
    inputs: &'a Inputs,
    errors: Vec<Error>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Result<Settings, Refused> {
        // First all are read, then the first `?` may return.
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
        let stop_scope = self.required("stop-scope", values::stop_scope);
        let lost_contact_after = self.lost_contact_after(interval.as_ref().ok().copied());
        let target = self.target();
        let on_terminate = self.optional("on-terminate", values::command);
        let after_terminate = self.required("after-terminate", values::after_terminate);
        let format = self.required("log-format", values::log_format);
        let level = self.required("log", values::log_level);
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
            },
            policy: Policy {
                interval: interval?,
                jitter: jitter?,
                grace: grace?,
                lost_contact_after: lost_contact_after?,
                on_terminate: matches!(on_terminate, Ok(Some(_))),
                after_terminate: after_terminate?,
            },
            runner: RunnerSettings {
                target: target?,
                stop_signal: stop_signal?,
                stop_scope: stop_scope?,
                on_terminate: on_terminate?,
            },
            log: LogSettings {
                format: format?,
                level: level?,
            },
        })
    }

    /// True if the value comes from anywhere but a variable of the AWS SDKs.
    fn is_pinned(&self, key: &'static str) -> bool {
        let input = Setting::find(key).and_then(|setting| Some((setting, self.inputs.get(setting)?)));
        input.is_some_and(|(setting, input)| {
            setting.aws.iter().all(|name| input.origin != Origin::Environment((*name).to_owned()))
        })
    }

    /// The runner is one of three things, or nothing.
    fn target(&mut self) -> Result<Target, Refused> {
        let command = self.command();
        let pid = self.optional("pid", values::pid);
        let file = self.optional("pid-file", values::path);
        let mut set = ["command", "pid", "pid-file"]
            .into_iter()
            .filter_map(Setting::find)
            .filter_map(|setting| Some((setting.key, self.inputs.get(setting)?.origin.clone())));
        if let (Some((key, origin)), Some((other, other_origin))) = (set.next(), set.next()) {
            self.errors.push(Error::Conflict {
                key,
                origin,
                other,
                other_origin,
            });
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
        // The value alone may be fine, so only here it can be refused.
        self.optional(key, |_| None::<()>).map(|_| None)
    }

    /// The arguments after `--` reach the runner untouched; only a shell command has something to be checked.
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
        let shown = match &input.value {
            Ok(text) => match parse(text) {
                Some(value) => return Ok(Some(value)),
                None => show::quoted(setting, text),
            },
            Err(shown) => shown.clone(),
        };
        self.errors.push(Error::invalid(setting, shown, input));
        Err(Refused)
    }
}
