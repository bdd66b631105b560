//! The one table of settings: flags, environment names, file keys, `check` and help are all made from it.

/// One setting: a row of [`SETTINGS`].
#[derive(Debug)]
pub struct Setting {
    /// Its name: the flag without `--`, the key in the file, and in capitals the variable's name.
    pub key: &'static str,
    /// What stands for the value in help texts.
    pub value: &'static str,
    /// The value when nobody sets one. None: there is none, or the system or the AWS SDK knows better.
    pub default: Option<&'static str>,
    /// Which values are allowed; completes the sentence "must be …".
    pub allowed: &'static str,
    /// Those values that shells offer, where there are only so many.
    pub choices: &'static [&'static str],
    /// What it is for, in one line.
    pub help: &'static str,
    /// Where help lists it.
    pub group: Group,
    /// Whether the command line has an option for it.
    pub flag: bool,
    /// Whether the configuration file may hold it.
    pub file: bool,
    /// Whether a wrong value may hold credentials, which no message may repeat.
    pub secret: bool,
    /// Variables of the AWS SDKs that stand in, the first one wins, when flag, environment and file are silent.
    pub aws: &'static [&'static str],
}

/// The headings of the help texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What concerns the whole program.
    General,
    /// Who sends the heartbeats.
    Identity,
    /// Whom they are sent to, and with which credentials.
    Aws,
    /// When they are sent.
    Timing,
    /// What is supervised, and how it is stopped.
    Runner,
    /// What is said about all this.
    Logging,
}

impl Group {
    /// The heading over the group's options; none over those that belong with `--help`.
    #[must_use]
    pub const fn heading(self) -> Option<&'static str> {
        match self {
            Self::General => None,
            Self::Identity => Some("Identity"),
            Self::Aws => Some("AWS"),
            Self::Timing => Some("Timing"),
            Self::Runner => Some("Runner"),
            Self::Logging => Some("Logging"),
        }
    }
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.key.to_uppercase().replace('-', "_")
        )
    }

    /// The row of `key`.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

/// What the names of all our environment variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "TASKBEAT_";

/// What most rows have in common.
const ROW: Setting = Setting {
    key: "",
    value: "",
    default: None,
    allowed: "",
    choices: &[],
    help: "",
    group: Group::General,
    flag: true,
    file: true,
    secret: false,
    aws: &[],
};

/// Every setting, in the order in which help, `check` and messages name them.
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
        allowed: "TERM, INT, HUP, QUIT, USR1, USR2 or KILL, with or without SIG before it",
        choices: &["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL"],
        help: "First signal of a stop",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "stop-scope",
        value: "SCOPE",
        default: Some("group"),
        allowed: "group or process",
        choices: &["group", "process"],
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
        key: "on-terminate",
        value: "COMMAND",
        allowed: "a command for /bin/sh -c",
        help: "Shell command to run first at terminate",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "after-terminate",
        value: "ACTION",
        default: Some("exit"),
        allowed: "exit or idle",
        choices: &["exit", "idle"],
        help: "Exit or idle after terminate",
        group: Group::Runner,
        ..ROW
    },
    Setting {
        key: "log-format",
        value: "FORMAT",
        default: Some("auto"),
        allowed: "auto, text or json",
        choices: &["auto", "text", "json"],
        help: "Format of the log on stderr",
        group: Group::Logging,
        ..ROW
    },
    Setting {
        key: "log",
        value: "LEVEL",
        default: Some("info"),
        allowed: "off, error, warn, info, debug or trace",
        choices: &["off", "error", "warn", "info", "debug", "trace"],
        help: "Least important level to log",
        group: Group::Logging,
        ..ROW
    },
];
