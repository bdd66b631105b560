//! `taskbeat(1)`: the command line, and what a user of the program needs beside it.

use std::error::Error;

use clap::builder::StyledStr;
use clap::{Arg, Command};
use roff::{Roff, bold, italic, roman};
use taskbeat::cli::args;
use taskbeat::config::{Group, Setting};

use crate::page::{begin, entry, groups, limits, list, prose, see_also, settings};

const DESCRIPTION: &str = "`taskbeat` reports the heartbeat of an AWS Data Pipeline task runner every 15 minutes, supervises the runner, and stops it cleanly when the service says `terminate`. The runner is the command after `--`, the process of `--pid` or `--pid-file`, or somebody else's business. Nothing but `terminate`, you, its own end and `--lost-contact-after` stops it: failed heartbeats are tried again for as long as taskbeat lives.";

const GENERAL: &[(&str, &str)] = &[
    (
        "-h, --help",
        "Print what there is to say about `taskbeat`, or about the command before it; `-h` is brief.",
    ),
    (
        "-V, --version",
        "Print the version; an option of `taskbeat` itself, before any command.",
    ),
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Stop the runner: the stop signal, the grace, then SIGKILL to all that is left of it. Heartbeats go on until it is gone. A runner that was attached to is let go. A second one of these signals is SIGKILL at once.",
    ),
    (
        "SIGHUP",
        "Read the settings again, without touching the runner: all of the new ones are taken, or none. A failed heartbeat is tried again at once. In a terminal it is a stop; under `nohup` it does nothing.",
    ),
    (
        "SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH",
        "Go on to a runner that taskbeat started.",
    ),
    (
        "SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT",
        "Stop and resume such a runner together with taskbeat.",
    ),
    (
        "SIGKILL",
        "The kernel kills the process that taskbeat started, too; its children only where a cgroup or a PID namespace ends with taskbeat.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "TASKBEAT_...",
        "Each option above, and `TASKBEAT_COMMAND`: the runner, as a command for /bin/sh -c. Other names with this beginning are refused.",
    ),
    (
        "AWS_...",
        "Credentials, region, profile and endpoint, as for every AWS SDK.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
        "The proxy, and what is reached without it. `NO_PROXY` should name 169.254.169.254, where instance roles come from.",
    ),
    (
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "Root certificates to use instead of the system's.",
    ),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM",
        "Set by systemd, for the status, the watchdog and the shape of the log.",
    ),
];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/taskbeat/taskbeat.toml",
        "The configuration that `taskbeat.service` reads. Beside it `taskbeat@NAME.service` reads NAME.toml, and `taskbeat-sidecar.service` sidecar.toml. The program itself reads none that it is not told of.",
    ),
    (
        "/usr/lib/systemd/system/taskbeat*.service",
        "The services. Packages neither enable nor start nor restart them.",
    ),
    (
        "/usr/share/taskbeat/drop-ins",
        "Examples of what adapts the services to a runner that needs more than they allow.",
    ),
    (
        "/etc/ssl/certs",
        "The root certificates by which the service is known.",
    ),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "Rehearse a runner, with no account and no network:",
        "taskbeat rehearse -- /opt/etl/runner",
    ),
    (
        "Send one heartbeat:",
        "taskbeat once --taskrunner-id etl-1 --worker-group etl --region us-east-1",
    ),
    (
        "Look at what the service will use:",
        "taskbeat check --online --config /etc/taskbeat/taskbeat.toml",
    ),
    (
        "Supervise a runner:",
        "taskbeat run --taskrunner-id etl-1 --worker-group etl -- /opt/etl/runner",
    ),
];

/// The page.
///
/// # Errors
/// When the definition of the command line is not of the shape that this page counts on.
pub(crate) fn page() -> Result<Roff, Box<dyn Error>> {
    let mut command = args::command();
    command.build();
    let mut page = begin(
        "taskbeat",
        "1",
        "User Commands",
        &text(command.get_about())?,
    );
    let mut subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    subcommands.retain(|subcommand| subcommand.get_name() != "help");
    synopsis(&mut page, &mut subcommands)?;
    page.control("SH", ["DESCRIPTION"]).text(prose(DESCRIPTION));
    for paragraph in text(command.get_after_help())?.split("\n\n") {
        page.control("PP", [])
            .text(prose(&paragraph.replace('\n', " ")));
    }
    commands(&mut page, &subcommands)?;
    options(&mut page, &subcommands);
    exit_status(&mut page, &subcommands)?;
    list(&mut page, "SIGNALS", SIGNALS);
    list(&mut page, "ENVIRONMENT", ENVIRONMENT);
    list(&mut page, "FILES", FILES);
    page.control("SH", ["EXAMPLES"]);
    for (what, line) in EXAMPLES {
        entry(&mut page, [roman(*what)], &format!("`{line}`"));
    }
    see_also(
        &mut page,
        &[
            ("taskbeat.toml", 5),
            ("systemctl", 1),
            ("journalctl", 1),
            ("signal", 7),
        ],
    );
    Ok(page)
}

fn synopsis(page: &mut Roff, subcommands: &mut [Command]) -> Result<(), Box<dyn Error>> {
    page.control("SH", ["SYNOPSIS"]);
    for (index, subcommand) in subcommands.iter_mut().enumerate() {
        let usage = subcommand.render_usage().to_string();
        let name = subcommand.get_name();
        let (_, arguments) = usage.split_once(name).ok_or("a usage without its name")?;
        if index > 0 {
            page.control("br", []);
        }
        let arguments = arguments.replace(['<', '>'], "");
        page.text([bold(format!("taskbeat {name}")), roman(arguments)]);
    }
    Ok(())
}

fn commands(page: &mut Roff, subcommands: &[Command]) -> Result<(), Box<dyn Error>> {
    page.control("SH", ["COMMANDS"]);
    for subcommand in subcommands {
        let about = text(subcommand.get_about())?;
        let defaults = own_defaults(subcommand);
        let name = subcommand.get_name();
        entry(page, [bold(name)], &format!("{about}.{defaults}"));
        let is_own = |option: &&Arg| {
            let id = option.get_id().as_str();
            let common = Setting::find(id).is_some() || matches!(id, "help" | "verbose");
            !common && !option.is_positional()
        };
        // Those without a value, too, which clap calls flags and not options.
        let own: Vec<&Arg> = subcommand.get_arguments().filter(is_own).collect();
        if !own.is_empty() {
            page.control("RS", []);
            for option in own {
                own_option(page, option)?;
            }
            page.control("RE", []);
        }
    }
    Ok(())
}

/// A sentence about the defaults that are not the table's.
fn own_defaults(subcommand: &Command) -> String {
    let own = |option: &Arg| {
        let setting = Setting::find(option.get_id().as_str())?;
        let help = option.get_help()?.to_string();
        let (_, default) = help.strip_suffix(']')?.split_once("[default: ")?;
        (Some(default) != setting.default).then(|| format!("`--{} {default}`", setting.key))
    };
    let own: Vec<String> = subcommand.get_opts().filter_map(own).collect();
    if own.is_empty() {
        return String::new();
    }
    format!(" Its own defaults are {}.", own.join(", "))
}

/// An option that is no setting.
fn own_option(page: &mut Roff, option: &Arg) -> Result<(), Box<dyn Error>> {
    let mut head = vec![bold(format!("--{}", option.get_id()))];
    if option.get_action().takes_values() {
        let values = option.get_value_names().unwrap_or_default();
        head.push(italic(format!(" {}", values.join(" "))));
    }
    let help = text(option.get_long_help().or(option.get_help()))?;
    entry(page, head, &format!("{}.", help.replace('\n', ". ")));
    if option.get_action().takes_values()
        && let [default] = option.get_default_values()
    {
        let default = default.to_string_lossy();
        page.text(prose(&format!("Default: {default}.")));
    }
    Ok(())
}

fn options(page: &mut Roff, subcommands: &[Command]) {
    page.control("SH", ["OPTIONS"]);
    for group in groups() {
        if let Some(heading) = group.heading() {
            page.control("SS", [heading]);
        }
        let known = |subcommand: &&Command| {
            let mut options = subcommand.get_opts();
            options.any(|option| {
                Setting::find(option.get_id().as_str()).is_some_and(|row| row.group == group)
            })
        };
        let names: Vec<&str> = subcommands
            .iter()
            .filter(known)
            .map(Command::get_name)
            .collect();
        if names.len() < subcommands.len() {
            page.text([roman(format!("Options of {}.", names.join(", ")))]);
        }
        for setting in settings(group).filter(|setting| setting.flag) {
            let name = bold(format!("--{}", setting.key));
            let head = [name, italic(format!(" {}", setting.value))];
            entry(page, head, &format!("{}.", setting.help));
            limits(page, setting);
        }
        if group == Group::General {
            for (name, help) in GENERAL {
                entry(page, [bold(*name)], help);
            }
        }
        if group == Group::Logging {
            let help = "Log more: `-v` is `--log debug`, `-vv` is `--log trace`.";
            entry(page, [bold("-v")], help);
        }
    }
}

/// What the help of each subcommand ends with: a heading, then lines of a status and its cause.
fn exit_status(page: &mut Roff, subcommands: &[Command]) -> Result<(), Box<dyn Error>> {
    page.control("SH", ["EXIT STATUS"]);
    for subcommand in subcommands {
        page.control("SS", [subcommand.get_name()]);
        for line in text(subcommand.get_after_long_help())?.lines().skip(1) {
            let (status, cause) = line
                .trim()
                .split_once("  ")
                .ok_or("an exit status without its cause")?;
            let status = bold(status.replace(' ', ", "));
            entry(page, [status], &format!("{}.", cause.trim()));
        }
    }
    Ok(())
}

fn text(help: Option<&StyledStr>) -> Result<String, Box<dyn Error>> {
    Ok(help.ok_or("a help text is missing")?.to_string())
}
