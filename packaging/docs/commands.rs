//! `taskbeat(1)` and a page for each of its commands, made from the definition of the command line.

use std::error::Error;

use clap::Command;
use clap_mangen::Man;
use roff::{Roff, bold, roman};
use taskbeat::cli::args;

use crate::page::{VERSION, entry, prose, ragged, see_also};

const DESCRIPTION: &str = "\
taskbeat reports the heartbeat of an AWS Data Pipeline task runner every 15 minutes, supervises
the runner, and stops it cleanly when the service answers terminate. The runner is the command
after --, or the process of --pid or --pid-file, or unknown to taskbeat.";

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "TASKBEAT_...",
        "Each option of the commands, and `TASKBEAT_COMMAND`: the runner, as a command for \
         /bin/sh -c. Other names with this prefix are refused, except those that Kubernetes makes \
         for a Service.",
    ),
    (
        "AWS_...",
        "Credentials, region, profile and endpoint, as for every AWS SDK. Here and above, an empty \
         variable counts as unset.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
        "The proxy, and the hosts that are reached without it.",
    ),
    ("SSL_CERT_FILE, SSL_CERT_DIR", "Root certificates to use instead of the system's."),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM",
        "Set by systemd, for the status, the watchdog and the format of the log.",
    ),
];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/taskbeat/taskbeat.toml",
        "The configuration that `taskbeat.service` reads. Beside it, `taskbeat@NAME.service` reads \
         NAME.toml, and `taskbeat-sidecar.service` sidecar.toml. The program itself reads only the \
         file of `--config`.",
    ),
    (
        "/usr/share/taskbeat/taskbeat.toml",
        "All settings, each with a comment and an example. No service reads it.",
    ),
    (
        "/usr/lib/systemd/system/taskbeat*.service",
        "The services. Packages neither enable nor start nor restart them.",
    ),
    (
        "/usr/share/taskbeat/drop-ins",
        "Examples that adapt the services to a runner that needs more than they allow.",
    ),
    ("/etc/ssl/certs", "The root certificates that authenticate the service."),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("Rehearse a runner, with no account and no network:", "taskbeat rehearse -- /opt/etl/runner"),
    (
        "Send one heartbeat:",
        "taskbeat once --taskrunner-id etl-1 --worker-group etl --region us-east-1",
    ),
    (
        "Check the settings of the service, and your own credentials:",
        "taskbeat check --online --config /etc/taskbeat/taskbeat.toml",
    ),
    (
        "Supervise a runner:",
        "taskbeat run --taskrunner-id etl-1 --worker-group etl -- /opt/etl/runner",
    ),
];

/// The name of a page's file, and its text.
type Page = (String, Vec<u8>);

/// The overview, then a page for each command.
///
/// # Errors
///
/// The definition of the command line lacks a text.
pub(crate) fn pages() -> Result<Vec<Page>, Box<dyn Error>> {
    let command = args::command().disable_help_subcommand(true);
    let general = command.get_after_help().ok_or("no general help")?;
    let about = format!("{DESCRIPTION}\n\n{general}");
    let mut command = command.long_about(about);
    command.build();
    let mut overview = Roff::new();
    for (title, list) in [("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)] {
        overview.control("SH", [title]);
        for (head, text) in list {
            entry(&mut overview, [bold(*head)], text);
        }
    }
    overview.control("SH", ["EXAMPLES"]);
    for (purpose, line) in EXAMPLES {
        entry(&mut overview, [roman(*purpose)], &format!("`{line}`"));
    }
    see_also(&mut overview, &["`taskbeat.toml`(5)", "`systemctl`(1)", "`journalctl`(1)"]);
    let mut pages = vec![page(&command, &overview)?];
    for subcommand in command.get_subcommands() {
        let mut end = exit_status(subcommand)?;
        see_also(&mut end, &["`taskbeat`(1)", "`taskbeat.toml`(5)"]);
        pages.push(page(subcommand, &end)?);
    }
    Ok(pages)
}

/// The command's page, which ends with `end`.
fn page(command: &Command, end: &Roff) -> Result<Page, Box<dyn Error>> {
    // No date: the same source always makes the same page.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").ok_or("no usage")?.to_owned();
    let man = Man::new(command.clone().override_usage(usage))
        .date("\"\"")
        .source(VERSION)
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    let mut layout = Roff::new();
    ragged(&mut layout);
    layout.to_writer(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    end.to_writer(&mut page)?;
    Ok((man.get_filename(), page))
}

/// The long help of each command ends with a heading, then lines of a status and its cause.
fn exit_status(command: &Command) -> Result<Roff, Box<dyn Error>> {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    let text = command.get_after_long_help().ok_or("no exit status")?;
    for line in text.to_string().lines().skip(1) {
        let line = line.trim();
        let (status, cause) = line.split_once("  ").ok_or("an exit status without a cause")?;
        section.control("TP", []).text([bold(status)]);
        section.text(prose(&format!("{}.", cause.trim())));
    }
    Ok(section)
}
