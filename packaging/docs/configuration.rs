//! `taskbeat.toml(5)` and the settings of `docs/configuration.md`: the table of settings, with the
//! comments and examples of the installed file.

use std::error::Error;
use std::fmt::Write;

use roff::{Roff, bold, italic, roman};
use taskbeat::config::{SETTINGS, Setting};

use crate::page::{VERSION, entry, prose, ragged, see_also};

const FILE: &str = include_str!("../../config/taskbeat.toml");
const PAGE: &str = include_str!("../../docs/configuration.md");

/// The lines of the page between which [`markdown`] writes the settings.
const BEGIN: &str = "<!-- settings: written by `cargo run --example docs` -->\n";
const END: &str = "<!-- end of the settings -->\n";
const COLUMNS: usize = 100;

/// The man page.
///
/// # Errors
///
/// The file lacks a setting or the comment of a group.
pub(crate) fn man() -> Result<Roff, Box<dyn Error>> {
    let reference = Reference::read()?;
    let mut page = Roff::new();
    page.control("TH", ["taskbeat.toml", "5", "\"\"", VERSION, "File Formats"]);
    ragged(&mut page);
    page.control("SH", ["NAME"])
        .text([roman("taskbeat.toml - configuration of taskbeat")])
        .control("SH", ["SYNOPSIS"])
        .text([italic("/etc/taskbeat/taskbeat.toml")])
        .control("SH", ["DESCRIPTION"])
        .text(prose(&reference.about))
        .control("SH", ["SETTINGS"]);
    for group in &reference.groups {
        page.control("SS", [group.heading]).text(prose(&group.comment));
        for (setting, block) in &group.settings {
            let head = [bold(setting.key), roman(" = "), italic(block.example)];
            entry(&mut page, head, &block.comment);
            let mut limits = format!("Allowed: {}.", setting.allowed());
            if let Some(default) = setting.default {
                limits = format!("{limits} Default: {default}.");
            }
            page.control("br", []).text(prose(&limits));
        }
    }
    see_also(&mut page, &["`taskbeat`(1)"]);
    Ok(page)
}

/// `docs/configuration.md`, with its settings written anew.
///
/// # Errors
///
/// The file lacks a setting or the comment of a group, or the page a mark.
pub(crate) fn markdown() -> Result<String, Box<dyn Error>> {
    let (before, rest) = PAGE.split_once(BEGIN).ok_or("the page has no place for the settings")?;
    let (_, after) = rest.split_once(END).ok_or("the settings of the page have no end")?;
    let reference = Reference::read()?;
    let mut settings = wrapped(&reference.about);
    for group in &reference.groups {
        write!(settings, "\n### {}\n\n{}\n", group.heading, wrapped(&group.comment))?;
        settings += "| setting | default | allowed | meaning |\n| --- | --- | --- | --- |\n";
        for (setting, block) in &group.settings {
            let default = setting.default.map_or_else(String::new, |value| format!("{value} "));
            let (key, allowed) = (setting.key, setting.allowed());
            writeln!(settings, "| `{key}` | {default}| {allowed} | {} |", block.comment)?;
        }
    }
    Ok(format!("{before}{BEGIN}{settings}{END}{after}"))
}

fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut columns = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if columns > 0 && columns + 1 + length > COLUMNS {
            lines.push('\n');
            columns = 0;
        } else if columns > 0 {
            lines.push(' ');
            columns += 1;
        }
        lines += word;
        columns += length;
    }
    lines + "\n"
}

/// The settings of the file, with their rows in the table.
struct Reference {
    about: String,
    groups: Vec<Group>,
}

struct Group {
    heading: &'static str,
    comment: String,
    settings: Vec<(&'static Setting, Block)>,
}

impl Reference {
    fn read() -> Result<Self, Box<dyn Error>> {
        let blocks: Vec<Block> = FILE.split("\n\n").map(Block::new).collect();
        let (about, blocks) = blocks.split_first().ok_or("the file is empty")?;
        let mut groups: Vec<Group> = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.file) {
            let heading = setting.heading().ok_or("a setting without a group")?;
            let block = blocks.iter().find(|block| block.key == Some(setting.key));
            let block = block.ok_or(format!("the file does not have {}", setting.key))?;
            let row = (setting, block.clone());
            match groups.last_mut() {
                Some(group) if group.heading == heading => group.settings.push(row),
                _ => {
                    let mut comments = blocks.iter().map(|block| block.comment.as_str());
                    let comment =
                        comments.find_map(|it| it.strip_prefix(heading)?.strip_prefix(". "));
                    let comment = comment.ok_or(format!("the file has no comment on {heading}"))?;
                    let comment = comment.to_owned();
                    groups.push(Group { heading, comment, settings: vec![row] });
                }
            }
        }
        Ok(Self { about: about.comment.clone(), groups })
    }
}

/// The text between two empty lines: a comment, and mostly the key that it explains, with an
/// example.
#[derive(Clone)]
struct Block {
    comment: String,
    key: Option<&'static str>,
    example: &'static str,
}

impl Block {
    fn new(text: &'static str) -> Self {
        let mut block = Self { comment: String::new(), key: None, example: "" };
        let mut comment = Vec::new();
        for line in text.trim().lines() {
            match (line.strip_prefix("# "), line.split_once(" = ")) {
                (Some(text), _) => comment.push(text),
                (None, Some((key, example))) => {
                    (block.key, block.example) = (key.strip_prefix('#'), example);
                }
                (None, None) => {}
            }
        }
        block.comment = comment.join(" ");
        block
    }
}

#[test]
fn the_settings_of_the_page_are_those_of_the_program() -> Result<(), Box<dyn Error>> {
    let changed = "docs/configuration.md is not target/docs/configuration.md, which \
                   `cargo run --example docs` writes: copy it";
    assert!(markdown()? == PAGE, "{changed}");
    Ok(())
}
