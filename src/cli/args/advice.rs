//! Advice on the usual mistakes in a command line.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue};

use crate::config::escaped;

/// Says where an argument belongs that is in the wrong place. clap's own advice would move unknown
/// options into the runner's command.
pub(super) fn advise(mut error: clap::Error, command: &Command, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let advice = advice(argument, command, words.get(1..).unwrap_or_default());
    if argument.starts_with('-') {
        error.remove(ContextKind::Suggested);
    }
    if let Some(advice) = advice {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![advice.into()]));
    }
    error
}

/// It repeats no other words of the line, because they may hold secrets.
fn advice(argument: &str, command: &Command, words: &[OsString]) -> Option<String> {
    let subcommand = words.iter().find_map(|word| command.find_subcommand(word));
    let is_first = subcommand.is_some_and(|found| words[0] == found.get_name());
    let subcommand = subcommand.or_else(|| command.find_subcommand("run"))?;
    let name = subcommand.get_name();
    let takes = |option| subcommand.get_arguments().any(|arg| arg.get_long() == Some(option));
    match argument.strip_prefix("--") {
        Some("command") => Some(format!("the runner follows --: taskbeat {name} -- COMMAND")),
        Some(option) if !is_first && takes(option) => {
            Some(format!("options follow the subcommand: taskbeat {name} {argument} …"))
        }
        None if is_first && !argument.starts_with('-') && takes("grace") => {
            let word = escaped(argument);
            Some(format!("the runner follows --: taskbeat {name} … -- {word} …"))
        }
        _ => None,
    }
}
