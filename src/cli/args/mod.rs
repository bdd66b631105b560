//! The command line: which commands and options there are. Values are checked in
//! [`crate::config`], alike for flag, environment and file.

mod advice;
mod help;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::rehearse::Rehearsal;
use crate::config::{Given, Group, Options, Origin, SETTINGS, Setting};
use crate::core::Exit;
use crate::endpoint::{Script, Step};

/// A command, with the options that are no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subcommand {
    Run,
    Once,
    Check {
        /// Whether to resolve credentials, too.
        online: bool,
        json: bool,
        /// Whether to print errors only.
        quiet: bool,
    },
    Status {
        format: StatusFormat,
    },
    Rehearse {
        rehearsal: Rehearsal,
    },
}

/// What `status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusFormat {
    Text,
    Json,
    OpenMetrics,
}

/// The defaults of `rehearse`: it needs no identity, plays in seconds, and has its timeline in
/// place of the log.
const REHEARSAL: [(&str, &str); 4] =
    [("taskrunner-id", "rehearsal"), ("interval", "1s"), ("grace", "5s"), ("log", "error")];

const DEFAULT_SCRIPT: &str = "ok*3,throttle,error,terminate";

/// The settings that `-h` leaves to `--help`, so that it fits a screen.
const RARE: [&str; 4] = ["jitter", "stop-scope", "health-timeout", "log-format"];

/// Parses the command line, whose first word is the program's name.
///
/// # Errors
///
/// A usage error, or a request for help or the version; [`exit`] has the status of each.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
) -> Result<(Subcommand, Options), clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = command();
    let matches = command
        .try_get_matches_from_mut(&words)
        .map_err(|error| advice::advise(error, &command, &words))?;
    let mut missing = |what| command.error(ErrorKind::MissingRequiredArgument, what);
    let (name, matches) = matches.subcommand().ok_or_else(|| missing("a subcommand is missing"))?;
    let mut options = options(matches);
    let is_empty = match options.command.first() {
        Some(word) => word.is_empty(),
        None => words.last().is_some_and(|word| word == "--"),
    };
    if is_empty {
        // `run -- $RUNNER` or `run -- "$RUNNER"` with an empty variable. Heartbeats without the
        // runner would be lies.
        return Err(missing("the COMMAND after -- is missing"));
    }
    let json = || matches.get_flag("json");
    let subcommand = match name {
        "once" => Subcommand::Once,
        "check" => Subcommand::Check {
            online: matches.get_flag("online"),
            json: json(),
            quiet: matches.get_flag("quiet"),
        },
        "status" => Subcommand::Status {
            format: match (json(), matches.get_flag("openmetrics")) {
                (true, _) => StatusFormat::Json,
                (false, true) => StatusFormat::OpenMetrics,
                (false, false) => StatusFormat::Text,
            },
        },
        "rehearse" => {
            options.presets = REHEARSAL.map(preset).into();
            let seed = matches.get_one("seed").copied();
            let script = seed.map(Script::random).or_else(|| matches.get_one("script").cloned());
            let rehearsal = Rehearsal {
                script: script.ok_or_else(|| missing("the SCRIPT is missing"))?,
                seed,
                listen: matches.get_one("listen").copied(),
                json: json(),
            };
            Subcommand::Rehearse { rehearsal }
        }
        _ => Subcommand::Run,
    };
    Ok((subcommand, options))
}

fn preset((key, value): (&'static str, &str)) -> Given {
    Given { key, value: value.into(), origin: Origin::Default(Some("rehearse")) }
}

/// The exit status of an error of [`parse`].
pub(crate) fn exit(error: &clap::Error) -> Exit {
    // clap prints help and version to stdout.
    if error.use_stderr() { Exit::USAGE } else { Exit::OK }
}

/// The definition of the command line. Man pages and completions are made from it, too.
#[must_use]
pub fn command() -> Command {
    Command::new("taskbeat")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Heartbeat and supervision for AWS Data Pipeline task runners")
        .after_help(help::GENERAL)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("run")
                .about("Send heartbeats and supervise the runner")
                .long_about(help::RUN)
                .after_long_help(help::RUN_EXIT)
                .args(settings(&[], &[]))
                .arg(operand()),
        )
        .subcommand(
            Command::new("once")
                .about("Send one heartbeat and print the answer: {\"terminate\": false}")
                .long_about(help::ONCE)
                .after_long_help(help::ONCE_EXIT)
                .args(settings(&[Group::Timing, Group::Runner, Group::Metrics], &[])),
        )
        .subcommand(
            Command::new("check")
                .about("Print the settings, the runner, the host and warnings; send nothing")
                .long_about(help::CHECK)
                .after_long_help(help::CHECK_EXIT)
                .arg(switch("online", "Resolve credentials, too"))
                .arg(json())
                .arg(switch("quiet", "Print errors only").conflicts_with("json"))
                .after_help("All options of `taskbeat run` are allowed; --help lists them.")
                .args(settings(&[], &[]).into_iter().map(|arg| arg.hide_short_help(true)))
                .arg(operand()),
        )
        .subcommand(
            Command::new("status")
                .about("Print the running daemon's status; fail unless it is in contact")
                .long_about(help::STATUS)
                .after_long_help(help::STATUS_EXIT)
                .arg(json())
                .arg(
                    switch("openmetrics", "Print metrics in the format OpenMetrics")
                        .conflicts_with("json"),
                )
                .args(settings(&[Group::Aws, Group::Timing, Group::Runner, Group::Metrics], &[])),
        )
        .subcommand(
            Command::new("rehearse")
                .about("Run the daemon against a built-in endpoint that plays a script")
                .after_long_help(help::REHEARSE_EXIT)
                .args(rehearsal())
                .args(settings(&[Group::Aws, Group::Metrics], &REHEARSAL))
                .arg(operand()),
        )
}

/// The options of the settings, except those of the groups that the subcommand does not use.
/// `presets` are the defaults that differ from the table's.
fn settings(except: &[Group], presets: &[(&str, &str)]) -> Vec<Arg> {
    let rows = SETTINGS.iter().filter(|setting| setting.flag && !except.contains(&setting.group));
    let mut args: Vec<Arg> = rows.map(|setting| option(setting, presets)).collect();
    args.push(
        Arg::new("verbose")
            .short('v')
            .action(ArgAction::Count)
            .conflicts_with("log")
            .help("Log each step; with -vv, TLS and response headers too")
            .help_heading(Group::Logging.heading()),
    );
    args
}

fn option(setting: &'static Setting, presets: &[(&str, &str)]) -> Arg {
    let preset = presets.iter().find(|(key, _)| *key == setting.key).map(|(_, value)| *value);
    let default = preset
        .or(setting.default)
        .map_or_else(String::new, |default| format!(" [default: {default}]"));
    let variable = setting.variable();
    Arg::new(setting.key)
        .long(setting.key)
        .value_name(setting.value)
        .value_parser(value_parser!(OsString))
        .help(format!("{}{default}", setting.help))
        .long_help(format!(
            "{}.\nAllowed: {}.\n[env: {variable}]{default}",
            setting.help,
            setting.allowed()
        ))
        .help_heading(setting.group.heading())
        .hide_short_help(RARE.contains(&setting.key))
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn json() -> Arg {
    switch("json", "Print one JSON object")
}

fn operand() -> Arg {
    Arg::new("operand")
        .value_names(["COMMAND", "ARG"])
        .last(true)
        .num_args(1..)
        // The line of the usage says it, too.
        .hide_short_help(true)
        .value_parser(value_parser!(OsString))
        .help("The runner; by default the command setting")
}

fn rehearsal() -> [Arg; 4] {
    let steps = Step::ALL.map(|(_, word, answer)| format!("\n  {word:<10} {answer}")).concat();
    let script = Arg::new("script")
        .long("script")
        .value_name("SCRIPT")
        .default_value(DEFAULT_SCRIPT)
        .hide_default_value(true)
        .value_parser(value_parser!(Script))
        .help("Answers of the endpoint")
        .long_help(format!(
            "Answers of the endpoint; ok*3 is ok,ok,ok. After the last one the runner is\n\
             stopped. [default: {DEFAULT_SCRIPT}]{steps}"
        ));
    let seed = Arg::new("seed")
        .long("seed")
        .value_name("N")
        .value_parser(value_parser!(u64))
        .conflicts_with("script")
        .help("Play the random script that N stands for");
    let listen = Arg::new("listen")
        .long("listen")
        .value_name("ADDR:PORT")
        .value_parser(value_parser!(SocketAddr))
        .help("Endpoint's address; by default on loopback");
    [script, seed, listen, json().long_help("Print one JSON object; the rest goes to stderr")]
}

fn options(matches: &ArgMatches) -> Options {
    let given =
        |key, value: OsString, option: String| Given { key, value, origin: Origin::Flag(option) };
    let flags = SETTINGS.iter().filter_map(|Setting { key, .. }| {
        // A subcommand without the option returns an error.
        let value = matches.try_get_one::<OsString>(key).ok()??.clone();
        Some(given(key, value, format!("--{key}")))
    });
    let verbose = match matches.get_count("verbose") {
        0 => None,
        1 => Some(given("log", "debug".into(), "-v".to_owned())),
        _ => Some(given("log", "trace".into(), "-vv".to_owned())),
    };
    let command = matches.try_get_many::<OsString>("operand").ok().flatten();
    let command: Vec<_> = command.into_iter().flatten().cloned().collect();
    Options { flags: flags.chain(verbose).collect(), command, presets: Vec::new() }
}
