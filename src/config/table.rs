//! The table of settings. Options, variables, keys of the file, `check`, help texts and
//! taskbeat.toml(5) are made from it.

use super::values::{AFTER_TERMINATE, Choices, LOG_FORMATS, LOG_LEVELS, STOP_SCOPES, STOP_SIGNALS};

/// A row of [`SETTINGS`].
#[derive(Debug, PartialEq)]
pub struct Setting {
    /// The option without `--`, the key in the file, and in capitals the end of its variable.
    pub key: &'static str,
    /// The placeholder of the value in help texts.
    pub(crate) value: &'static str,
    /// The value if no source has one. Without it there is none, or the system or the SDK finds it.
    pub default: Option<&'static str>,
    /// The allowed values, if they are a closed list; shells offer them.
    pub choices: &'static [&'static str],
    /// The other allowed values, or a remark on the list.
    allowed: &'static str,
    /// One line for `-h`; with the default it fits 45 columns.
    pub(crate) help: &'static str,
    pub(crate) group: Group,
    /// Whether the command line has an option for it.
    pub(crate) flag: bool,
    /// Whether the configuration file may hold it.
    pub file: bool,
    /// Whether its value may hold credentials, which no message may repeat.
    pub(crate) secret: bool,
    /// Variables of the AWS SDK that take the place of a value from the command line, the
    /// environment and the file. The first that is set counts.
    pub(crate) aws: &'static [&'static str],
}

/// The groups of the help texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    General,
    Identity,
    Aws,
    Timing,
    Runner,
    Commands,
    Logging,
    Metrics,
}

impl Group {
    /// None for the options that stand beside `--help`.
    pub(crate) const fn heading(self) -> Option<&'static str> {
        match self {
            Self::General => None,
            Self::Identity => Some("Identity"),
            Self::Aws => Some("AWS"),
            Self::Timing => Some("Timing"),
            Self::Runner => Some("Runner"),
            Self::Commands => Some("Commands beside the runner"),
            Self::Logging => Some("Logging"),
            Self::Metrics => Some("Metrics"),
        }
    }
}

impl Setting {
    /// The allowed values in words that complete "must be".
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.choices {
            [] => self.allowed.to_owned(),
            [others @ .., last] => format!("{} or {last}{}", others.join(", "), self.allowed),
        }
    }

    /// The heading of the group that it belongs to.
    #[must_use]
    pub fn heading(&self) -> Option<&'static str> {
        self.group.heading()
    }

    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        let name = self.key.to_uppercase().replace('-', "_");
        format!("{VARIABLE_PREFIX}{name}")
    }
}

pub(super) const VARIABLE_PREFIX: &str = "TASKBEAT_";

const fn words<T: Copy, const N: usize>(choices: &Choices<T, N>) -> [&'static str; N] {
    let mut words = [""; N];
    let mut index = 0;
    while index < N {
        words[index] = choices[index].0;
        index += 1;
    }
    words
}

/// The values that most rows share.
const ROW: Setting = Setting {
    key: "",
    value: "",
    default: None,
    choices: &[],
    allowed: "",
    help: "",
    group: Group::General,
    flag: true,
    file: true,
    secret: false,
    aws: &[],
};

/// Every setting, in the order of help texts, listings and messages.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "config",
        value: "PATH",
        allowed: "the path of a readable TOML file",
        help: "Configuration file; by default none is read",
        file: false,
        ..ROW
    },
    Setting {
        key: "taskrunner-id",
        value: "ID",
        allowed: "1 to 1024 characters, no control characters, no spaces around them",
        help: "ID, unique in the AWS account",
        group: Group::Identity,
        ..ROW
    },
    Setting {
        key: "worker-group",
        value: "NAME",
        allowed: "at most 1024 characters, no `*`, no control characters, no spaces around it",
        help: "Worker group, one exact and case-sensitive name",
        group: Group::Identity,
        ..ROW
    },
    Setting {
        key: "hostname",
        value: "NAME",
        default: Some("{hostname}"),
        allowed: "1 to 1024 characters, no control characters, no spaces around them",
        help: "Public DNS name",
        group: Group::Identity,
        ..ROW
    },
    Setting {
        key: "region",
        value: "REGION",
        allowed: "a region's name in lowercase letters, digits and dashes, such as us-east-1",
        help: "AWS region; by default the AWS SDK finds it",
        group: Group::Aws,
        aws: &["AWS_REGION", "AWS_DEFAULT_REGION"],
        ..ROW
    },
    Setting {
        key: "profile",
        value: "NAME",
        allowed: "the name of an AWS profile, no control characters, no spaces around it",
        help: "AWS profile; by default the AWS SDK finds it",
        group: Group::Aws,
        aws: &["AWS_PROFILE"],
        ..ROW
    },
    Setting {
        key: "endpoint-url",
        value: "URL",
        allowed: "an http or https URL with a host, without user, password, query or fragment",
        help: "Service's URL; by default the region's",
        group: Group::Aws,
        secret: true,
        aws: &["AWS_ENDPOINT_URL_DATA_PIPELINE", "AWS_ENDPOINT_URL"],
        ..ROW
    },
    Setting {
        key: "interval",
        value: "TIME",
        default: Some("15m"),
        allowed: "10ms to 15m, such as 15m, 90s or 250ms",
        help: "Longest heartbeat interval",
        group: Group::Timing,
        ..ROW
    },
    Setting {
        key: "jitter",
        value: "PERCENT",
        default: Some("10%"),
        allowed: "0% to 50%, such as 10% or 2.5%",
        help: "Random cut of the interval",
        group: Group::Timing,
        ..ROW
    },
    Setting {
        key: "lost-contact-after",
        value: "TIME",
        allowed: "longer than two intervals and at most 30d, such as 45m",
        help: "Stop the runner when out of contact so long",
        group: Group::Timing,
        ..ROW
    },
    Setting {
        key: "grace",
        value: "TIME",
        default: Some("30s"),
        allowed: "0s to 24h, such as 2m, 30s or 500ms",
        help: "Time to stop before SIGKILL",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "stop-signal",
        value: "SIGNAL",
        default: Some("SIGTERM"),
        choices: &words(&STOP_SIGNALS),
        allowed: ", with or without SIG before it",
        help: "First signal of a stop",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "stop-scope",
        value: "SCOPE",
        default: Some("group"),
        choices: &words(&STOP_SCOPES),
        help: "Reach of the stop signal",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "command",
        value: "COMMAND",
        allowed: "a command for /bin/sh -c",
        help: "The runner, unless arguments follow --",
        group: Group::Runner,
        flag: false,
        ..ROW
    },
    Setting {
        key: "pid",
        value: "PID",
        allowed: "the id of a running process",
        help: "Attach to this running process",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "pid-file",
        value: "PATH",
        allowed: "a path",
        help: "Attach to the process that this file names",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "after-terminate",
        value: "ACTION",
        default: Some("exit"),
        choices: &words(&AFTER_TERMINATE),
        help: "Exit or idle after terminate",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "on-terminate",
        value: "COMMAND",
        allowed: "a command for /bin/sh -c",
        help: "Shell command to run first at terminate",
        group: Group::Commands,
        ..ROW
    },
    Setting {
        key: "health-check",
        value: "COMMAND",
        allowed: "a command for /bin/sh -c",
        help: "Heartbeats only if this command succeeds",
        group: Group::Commands,
        ..ROW
    },
    Setting {
        key: "health-timeout",
        value: "TIME",
        default: Some("30s"),
        allowed: "1ms to half the interval, such as 30s",
        help: "Time limit of health-check",
        group: Group::Commands,
        ..ROW
    },
    Setting {
        key: "on-contact-change",
        value: "COMMAND",
        allowed: "a command for /bin/sh -c",
        help: "Command to run when contact is lost or back",
        group: Group::Commands,
        ..ROW
    },
    Setting {
        key: "log-format",
        value: "FORMAT",
        default: Some("auto"),
        choices: &words(&LOG_FORMATS),
        help: "Format of the log on stderr",
        group: Group::Logging,
        ..ROW
    },
    Setting {
        key: "log",
        value: "LEVEL",
        default: Some("info"),
        choices: &words(&LOG_LEVELS),
        help: "Least important level to log",
        group: Group::Logging,
        ..ROW
    },
    Setting {
        key: "metrics-listen",
        value: "ADDR:PORT",
        allowed: "an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464",
        help: "Serve /metrics and /healthz here",
        group: Group::Metrics,
        ..ROW
    },
];
