//! The definition of the command line. It says which options there are, not which values are good: values are judged
//! in [`crate::config`], alike for flag, environment and file.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;

use clap::builder::{PossibleValue, TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use crate::config::{Flag, Group, Options, Preset, SETTINGS, Setting};
use crate::core::Exit;
use crate::endpoint::Script;

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// The daemon.
    Run(Options),
    /// One heartbeat.
    Once(Options),
    /// The settings, checked and listed.
    Check {
        /// The settings.
        options: Options,
        /// Whether to resolve credentials, too.
        online: bool,
    },
    /// What the running daemon last saw.
    Status {
        /// The settings, of which only the identity counts.
        options: Options,
        /// Whether a program will read it.
        json: bool,
    },
    /// The daemon against the built-in endpoint.
    Rehearse {
        /// The settings.
        options: Options,
        /// What the endpoint answers.
        script: Script,
        /// Where it listens; on a free port of loopback when `None`.
        listen: Option<SocketAddr>,
    },
}

/// The defaults of `rehearse`: it needs no identity, and it plays in seconds.
const REHEARSAL: [(&str, &str); 3] = [
    ("taskrunner-id", "rehearsal"),
    ("interval", "1s"),
    ("grace", "5s"),
];

/// Reads the command line, whose first word is the program's name.
///
/// # Errors
/// For a usage error, and when help or the version was asked for; [`exit`] tells them apart.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = command();
    let matches = command.try_get_matches_from_mut(&words).map_err(advised)?;
    let missing =
        |command: &mut Command, message| command.error(ErrorKind::MissingRequiredArgument, message);
    let Some((name, matches)) = matches.subcommand() else {
        return Err(missing(&mut command, "a subcommand is missing"));
    };
    let mut options = options(matches);
    let nothing = match options.command.first() {
        Some(word) => word.is_empty(),
        None => words.last().is_some_and(|word| word == "--"),
    };
    if nothing {
        // Such as `run -- $RUNNER`, or `run -- "$RUNNER"`, with nothing in it: heartbeats for a runner that is not there
        // would be lies.
        return Err(missing(&mut command, "the COMMAND after -- is missing"));
    }
    Ok(match name {
        "once" => Invocation::Once(options),
        "check" => Invocation::Check {
            options,
            online: matches.get_flag("online"),
        },
        "status" => Invocation::Status {
            options,
            json: matches.get_flag("json"),
        },
        "rehearse" => {
            let Some(script) = matches.get_one("script").cloned() else {
                return Err(missing(&mut command, "the SCRIPT is missing"));
            };
            let preset = |(key, value): (_, &str)| Preset {
                key,
                value: value.into(),
                by: "rehearse",
            };
            options.presets = REHEARSAL.map(preset).into();
            Invocation::Rehearse {
                options,
                script,
                listen: matches.get_one("listen").copied(),
            }
        }
        _ => Invocation::Run(options),
    })
}

/// Without clap's advice to put what looks like an option after `--`: that would make it the runner's command.
fn advised(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && word.starts_with('-')
    {
        error.remove(ContextKind::Suggested);
    }
    error
}

/// The exit status of what [`parse`] returned instead of an invocation.
#[must_use]
pub fn exit(error: &clap::Error) -> Exit {
    // Only what was asked for goes to stdout.
    if error.use_stderr() {
        Exit::USAGE
    } else {
        Exit::OK
    }
}

/// The whole command line; man pages and completions are made from it, too.
#[must_use]
pub fn command() -> Command {
    Command::new("taskbeat")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Heartbeat and supervision for AWS Data Pipeline task runners")
        .after_help(GENERAL_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("run")
                .about("Send heartbeats and supervise the runner")
                .long_about(RUN_PROMISES)
                .after_help(RUN_HELP)
                .args(settings(&[], &[]))
                .arg(operand()),
        )
        .subcommand(
            Command::new("once")
                .about("Send one heartbeat and print the answer: {\"terminate\": false}")
                .after_help(ONCE_HELP)
                .args(settings(&[Group::Timing, Group::Runner], &[])),
        )
        .subcommand(
            Command::new("check")
                .about("Print every setting, its value and where it came from; send nothing")
                .after_help(CHECK_HELP)
                .arg(
                    Arg::new("online")
                        .long("online")
                        .action(ArgAction::SetTrue)
                        .help("Resolve credentials, too"),
                )
                .args(settings(&[], &[]))
                .arg(operand()),
        )
        .subcommand(
            Command::new("status")
                .about("Print what the running daemon last saw; fails unless it is in contact")
                .after_help(STATUS_HELP)
                .arg(
                    Arg::new("json")
                        .long("json")
                        .action(ArgAction::SetTrue)
                        .help("Print one JSON object"),
                )
                .args(settings(&[Group::Aws, Group::Timing, Group::Runner], &[])),
        )
        .subcommand(
            Command::new("rehearse")
                .about("Run the daemon against a built-in endpoint that plays a script")
                .after_help(REHEARSE_HELP)
                .args(rehearsal())
                .args(settings(&[Group::Aws], &REHEARSAL))
                .arg(operand()),
        )
}

/// The options for the settings, except those of the groups that do not matter to the subcommand. `presets` are the
/// defaults that differ from the table's.
fn settings(except: &[Group], presets: &[(&str, &str)]) -> Vec<Arg> {
    let rows = SETTINGS
        .iter()
        .filter(|setting| setting.flag && !except.contains(&setting.group));
    let mut args: Vec<Arg> = rows.map(|setting| option(setting, presets)).collect();
    args.push(
        Arg::new("verbose")
            .short('v')
            .action(ArgAction::Count)
            .conflicts_with("log")
            .help("Log more: -v is --log debug, -vv is --log trace")
            .help_heading(Group::Logging.heading()),
    );
    args
}

fn option(setting: &'static Setting, presets: &[(&str, &str)]) -> Arg {
    let preset = presets
        .iter()
        .find(|(key, _)| *key == setting.key)
        .map(|(_, value)| *value);
    let default = preset
        .or(setting.default)
        .map_or_else(String::new, |default| format!(" [default: {default}]"));
    let variable = setting.variable();
    Arg::new(setting.key)
        .long(setting.key)
        .value_name(setting.value)
        // What shells complete; the names of files are no good guess for anything else.
        .value_hint(match setting.value {
            "PATH" => ValueHint::FilePath,
            _ => ValueHint::Other,
        })
        .value_parser(Offer(setting.choices))
        // They are in the list of what is allowed.
        .hide_possible_values(true)
        .help(format!("{}{default}", setting.help))
        .long_help(format!(
            "{}\nAllowed: {}\n[env: {variable}]{default}",
            setting.help, setting.allowed
        ))
        .help_heading(setting.group.heading())
}

/// Takes any value, and tells shells that complete which there are.
#[derive(Clone)]
struct Offer(&'static [&'static str]);

impl TypedValueParser for Offer {
    type Value = OsString;

    fn parse_ref(
        &self,
        _: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let Self(choices) = self;
        (!choices.is_empty()).then(|| Box::new(choices.iter().map(PossibleValue::new)) as _)
    }
}

fn operand() -> Arg {
    Arg::new("command")
        .value_names(["COMMAND", "ARG"])
        .last(true)
        .num_args(1..)
        .value_hint(ValueHint::CommandWithArguments)
        .value_parser(ValueParser::os_string())
        .help("The runner; by default TASKBEAT_COMMAND, else `command` of the file, else none")
}

fn rehearsal() -> [Arg; 2] {
    let script = Arg::new("script")
        .long("script")
        .value_name("SCRIPT")
        .default_value("ok*3,throttle,error,terminate")
        .value_parser(value_parser!(Script))
        .help("What the endpoint answers")
        .long_help(
            "What the endpoint answers\nAllowed: ok, throttle, error, hang, reject, reset, html, terminate; ok*3 for three of them",
        );
    let listen = Arg::new("listen")
        .long("listen")
        .value_name("ADDR:PORT")
        .value_parser(value_parser!(SocketAddr))
        .help("Where the endpoint listens; by default on a free loopback port");
    [script, listen]
}

fn options(matches: &ArgMatches) -> Options {
    // An option that this subcommand does not have is one that was not given.
    let value = |key| matches.try_get_one::<OsString>(key).ok().flatten().cloned();
    let mut flags: Vec<Flag> = SETTINGS
        .iter()
        .filter(|setting| setting.flag)
        .filter_map(|setting| {
            let option = format!("--{}", setting.key);
            Some(Flag {
                key: setting.key,
                option,
                value: value(setting.key)?,
            })
        })
        .collect();
    match matches.get_count("verbose") {
        0 => {}
        1 => flags.push(Flag {
            key: "log",
            option: "-v".to_owned(),
            value: "debug".into(),
        }),
        _ => flags.push(Flag {
            key: "log",
            option: "-vv".to_owned(),
            value: "trace".into(),
        }),
    }
    let command = matches.try_get_many::<OsString>("command").ok().flatten();
    Options {
        flags,
        command: command.into_iter().flatten().cloned().collect(),
        presets: Vec::new(),
    }
}

const GENERAL_HELP: &str = "\
The options of a subcommand are also variables, TASKBEAT_INTERVAL for --interval, and keys of the
same names in the TOML file that --config names. Flag wins over variable, variable over file.

Start with `taskbeat rehearse -- COMMAND`: it needs no account and no network.";

const RUN_PROMISES: &str = "\
Send heartbeats and supervise the runner.

Only these stop the runner: the service's terminate; SIGTERM or SIGINT to taskbeat (an attached
runner is only let go); its own end; --lost-contact-after. A heartbeat that fails never does: it is
tried again for as long as taskbeat lives.

A stop is the stop signal to the runner, --grace, then SIGKILL to whatever is left of it: its group
and every descendant. A second SIGTERM or SIGINT is SIGKILL at once. Heartbeats go on until the
runner is gone, but end at terminate.

SIGHUP reads the settings again; in a terminal it is a stop, under nohup nothing. SIGQUIT, SIGUSR1,
SIGUSR2 and SIGWINCH go on to the runner. SIGTSTP, SIGTTIN and SIGTTOU stop both, SIGCONT resumes
both. When taskbeat itself is killed, the kernel kills the runner's first process, unless that has
changed its user. Signals that timeout(1) sends twice count once, but to a runner in a terminal,
which it reaches itself.";

const RUN_HELP: &str = "\
Exit status:
  0        terminate was obeyed, or the operator stopped a taskbeat without a command
  N        the runner's own when it ended by itself or at the operator's stop; 128+n by signal n
  1        the process of --pid ended by itself, or was not there
  64       usage
  69       contact with the service was lost
  70       internal error
  75       another instance on this host reports this taskrunner ID
  78       the configuration is invalid, or the process is not ours to signal
  126 127  the command cannot be executed, was not found";

const ONCE_HELP: &str = "\
Exit status:
  0   acknowledged
  10  the service says terminate
  64  usage
  69  no answer
  77  rejected
  78  the configuration is invalid";

const CHECK_HELP: &str = "\
Exit status:
  0   the configuration is valid
  64  usage
  69  no credentials were found, with --online
  78  the configuration is invalid";

const STATUS_HELP: &str = "\
Exit status:
  0   in contact with the service: acknowledged within two intervals, or terminated and idle
  64  usage
  69  not in contact, or nobody reports this taskrunner ID on this host
  78  the configuration is invalid";

const REHEARSE_HELP: &str = "\
Exit status:
  0   the runner took every step of the script within its grace
  1   it did not
  64  usage
  69  the endpoint cannot listen
  78  the configuration is invalid";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn usage(line: &str) -> String {
        let error = parse(words(line)).expect_err(line);
        assert_eq!(exit(&error), Exit::USAGE, "{line}");
        error.to_string().lines().next().expect(line).to_owned()
    }

    fn flag(key: &'static str, option: &str, value: &str) -> Flag {
        Flag {
            key,
            option: option.to_owned(),
            value: value.into(),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn values_are_offered_and_not_judged() {
        let message = parse(words("taskbeat run --log-format yaml")).expect("judged elsewhere");
        let Invocation::Run(options) = message else {
            panic!("{message:?}");
        };
        assert_eq!(options.flags, [flag("log-format", "--log-format", "yaml")]);
        let help = parse(words("taskbeat run --help")).expect_err("help");
        assert!(!help.to_string().contains("ossible values"), "{help}");
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for line in [
            "taskbeat --help",
            "taskbeat --version",
            "taskbeat run -h",
            "taskbeat help rehearse",
        ] {
            assert_eq!(
                exit(&parse(words(line)).expect_err(line)),
                Exit::OK,
                "{line}"
            );
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for (line, message) in [
            ("taskbeat rum", "error: unrecognized subcommand 'rum'"),
            (
                "taskbeat run --intervall 1m",
                "error: unexpected argument '--intervall' found",
            ),
            (
                "taskbeat run --interval",
                "error: a value is required for '--interval <DURATION>' but none was supplied",
            ),
            (
                "taskbeat run sleep",
                "error: unexpected argument 'sleep' found",
            ),
            ("taskbeat run --", "error: the COMMAND after -- is missing"),
            (
                "taskbeat run --interval 1m --",
                "error: the COMMAND after -- is missing",
            ),
            (
                "taskbeat run --interval -5m",
                "error: unexpected argument '-5' found",
            ),
            (
                "taskbeat rehearse --script ok,applause",
                "error: invalid value 'ok,applause' for '--script <SCRIPT>': `applause` is not a step; \
                 allowed are ok, throttle, error, hang, reject, reset, html, terminate",
            ),
            (
                "taskbeat run -v --log info",
                "error: the argument '-v...' cannot be used with '--log <LEVEL>'",
            ),
            (
                "taskbeat run --online",
                "error: unexpected argument '--online' found",
            ),
            (
                "taskbeat once --grace 1s",
                "error: unexpected argument '--grace' found",
            ),
            (
                "taskbeat rehearse --region us-east-1",
                "error: unexpected argument '--region' found",
            ),
            (
                "taskbeat run --grace 1s --grace 2s",
                "error: the argument '--grace <DURATION>' cannot be used multiple times",
            ),
            (
                "taskbeat rehearse --listen nowhere",
                "error: invalid value 'nowhere' for '--listen <ADDR:PORT>': invalid socket address syntax",
            ),
        ] {
            assert_eq!(usage(line), message);
        }
        assert!(usage("taskbeat").starts_with("Heartbeat and supervision"));
    }

    #[test]
    fn a_command_without_a_first_word_is_missing() {
        for rest in [&[""][..], &["", "argument"]] {
            let line = [&["taskbeat", "run", "--"], rest].concat();
            let error = parse(line.iter().map(OsString::from)).expect_err("nothing to run");
            assert_eq!(exit(&error), Exit::USAGE);
            assert!(
                error
                    .to_string()
                    .contains("the COMMAND after -- is missing")
            );
        }
    }

    #[test]
    fn nobody_is_told_to_make_an_option_the_runners_command() {
        for (line, tip) in [
            ("taskbeat run --interval -5m", None),
            ("taskbeat run -5m", None),
            (
                "taskbeat run --intervall 1m",
                Some("a similar argument exists: '--interval'"),
            ),
            (
                "taskbeat -- run",
                Some("subcommand 'run' exists; to use it, remove the '--' before it"),
            ),
        ] {
            let error = parse(words(line)).expect_err(line).to_string();
            let found = error
                .lines()
                .find_map(|line| line.trim().strip_prefix("tip: "));
            assert_eq!(found, tip, "{line}");
        }
    }

    #[test]
    fn the_runners_command_stays_as_it_is() {
        use std::os::unix::ffi::OsStringExt;
        let mut line = words("taskbeat run --grace 1s -- runner --grace -- --");
        line.push(OsString::from_vec(vec![0xFF]));
        let Ok(Invocation::Run(options)) = parse(line.clone()) else {
            panic!("run")
        };
        assert_eq!(options.command, line[5..]);
        assert_eq!(options.flags, [flag("grace", "--grace", "1s")]);
    }

    #[test]
    fn values_are_not_judged_here() {
        for setting in SETTINGS.iter().filter(|setting| setting.flag) {
            let option = format!("--{}", setting.key);
            let line = ["taskbeat", "check", &option, ""].map(OsString::from);
            let Ok(Invocation::Check {
                options,
                online: false,
            }) = parse(line)
            else {
                panic!("{option}")
            };
            assert_eq!(options.flags, [flag(setting.key, &option, "")]);
        }
    }

    #[test]
    fn verbosity_is_a_level() {
        for (line, option, level) in [
            ("taskbeat once -v", "-v", "debug"),
            ("taskbeat once -vv", "-vv", "trace"),
            ("taskbeat once -v -v -v", "-vv", "trace"),
        ] {
            let options = Options {
                flags: vec![flag("log", option, level)],
                ..Options::default()
            };
            assert_eq!(parse(words(line)).expect(line), Invocation::Once(options));
        }
    }

    #[test]
    fn a_rehearsal_has_its_own_defaults() {
        let Ok(Invocation::Rehearse {
            options,
            script,
            listen: None,
        }) = parse(words("taskbeat rehearse"))
        else {
            panic!("rehearse")
        };
        assert_eq!(script.to_string(), "ok*3,throttle,error,terminate");
        let config = crate::config::load(&options, []).expect("valid");
        assert_eq!(config.settings.identity.taskrunner_id, "rehearsal");
        assert_eq!(config.settings.policy.interval.as_secs(), 1);
        assert_eq!(config.settings.policy.grace.as_secs(), 5);
        assert!(crate::config::listing(&config.inputs).contains("default (rehearse)\n"));
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut command = command();
        command.build();
        for subcommand in command.get_subcommands_mut() {
            for help in [subcommand.render_help(), subcommand.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 100, "{line}");
                }
            }
        }
    }
}
