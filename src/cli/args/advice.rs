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
    let words: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let advice = advice(argument, command, &words);
    if argument.starts_with('-') {
        error.remove(ContextKind::Suggested);
    }
    if let Some(advice) = advice {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![advice.into()]));
    }
    error
}

fn advice(argument: &str, command: &Command, words: &[&str]) -> Option<String> {
    let line = |words: &[&[&str]]| {
        let words: Vec<_> = words.concat().into_iter().map(escaped).collect();
        format!("taskbeat {}", words.join(" "))
    };
    let is_subcommand = |word: &&str| command.find_subcommand(word).is_some();
    let takes = |word, option| {
        let subcommand = command.find_subcommand(word);
        subcommand.is_some_and(|subcommand| {
            subcommand.get_arguments().any(|arg| arg.get_long() == Some(option))
        })
    };
    let first = words.first()?;
    if argument == "--command" {
        return Some(format!("the runner follows --: {}", line(&[&[first], &["--", "COMMAND"]])));
    }
    match argument.strip_prefix("--") {
        Some(option) if !is_subcommand(first) => {
            let at = words.iter().position(is_subcommand).unwrap_or(words.len());
            let (before, after) = words.split_at(at);
            let (subcommand, after) = after.split_first().unwrap_or((&"run", &[]));
            let line = line(&[&[subcommand], before, after]);
            takes(subcommand, option).then(|| format!("options follow the subcommand: {line}"))
        }
        None if !argument.starts_with('-') && takes(first, "grace") => {
            let (before, after) = words.split_at(words.iter().position(|word| *word == argument)?);
            Some(format!("the runner follows --: {}", line(&[before, &["--"], after])))
        }
        _ => None,
    }
}
