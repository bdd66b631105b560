//! `taskbeat.toml(5)`: the table of settings, with the comments and examples of the installed file.

use std::error::Error;

use roff::{Roff, bold, italic, roman};
use taskbeat::config::SETTINGS;

use crate::page::{VERSION, entry, prose, ragged, see_also};

const FILE: &str = include_str!("../../config/taskbeat.toml");

/// The page.
///
/// # Errors
///
/// The file lacks a setting or the comment of a group.
pub(crate) fn page() -> Result<Roff, Box<dyn Error>> {
    let blocks: Vec<Block> = FILE.split("\n\n").map(Block::new).collect();
    let (about, blocks) = blocks.split_first().ok_or("the file is empty")?;
    let mut page = Roff::new();
    page.control("TH", ["taskbeat.toml", "5", "\"\"", VERSION, "File Formats"]);
    ragged(&mut page);
    page.control("SH", ["NAME"])
        .text([roman("taskbeat.toml - configuration of taskbeat")])
        .control("SH", ["SYNOPSIS"])
        .text([italic("/etc/taskbeat/taskbeat.toml")])
        .control("SH", ["DESCRIPTION"])
        .text(prose(&about.comment))
        .control("SH", ["SETTINGS"]);
    let mut group = None;
    for setting in SETTINGS.iter().filter(|setting| setting.file) {
        if let Some(heading) = setting.heading()
            && group.replace(heading) != Some(heading)
        {
            let mut comments = blocks.iter().map(|block| block.comment.as_str());
            let comment =
                comments.find_map(|comment| comment.strip_prefix(heading)?.strip_prefix(". "));
            let comment = comment.ok_or(format!("the file has no comment on {heading}"))?;
            page.control("SS", [heading]).text(prose(comment));
        }
        let block = blocks.iter().find(|block| block.key == Some(setting.key));
        let block = block.ok_or(format!("the file does not have {}", setting.key))?;
        let head = [bold(setting.key), roman(" = "), italic(block.example)];
        entry(&mut page, head, &block.comment);
        let mut limits = format!("Allowed: {}.", setting.allowed());
        if let Some(default) = setting.default {
            limits = format!("{limits} Default: {default}.");
        }
        page.control("br", []).text(prose(&limits));
    }
    see_also(&mut page, &["`taskbeat`(1)"]);
    Ok(page)
}

/// The text between two empty lines: a comment, and mostly the key that it explains, with an
/// example.
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
