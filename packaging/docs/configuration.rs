//! `taskbeat.toml(5)`: the table of settings, with the words and the examples of the file that is installed.

use std::error::Error;

use roff::{Roff, bold, italic, roman};

use crate::page::{begin, entry, groups, limits, prose, see_also, settings};

const FILE: &str = include_str!("../../config/taskbeat.toml");

/// The page.
///
/// # Errors
/// When the file does not have every setting, each after its comment.
pub(crate) fn page() -> Result<Roff, Box<dyn Error>> {
    let mut page = begin(
        "taskbeat.toml",
        "5",
        "File Formats",
        "configuration of taskbeat",
    );
    let blocks: Vec<Block> = FILE.split("\n\n").map(Block::of).collect();
    let [about, ..] = &blocks[..] else {
        return Err("the file is empty".into());
    };
    page.control("SH", ["SYNOPSIS"])
        .text([italic("/etc/taskbeat/taskbeat.toml")])
        .control("SH", ["DESCRIPTION"])
        .text(prose(&about.comment));
    page.control("SH", ["SETTINGS"]);
    for group in groups() {
        if let Some(heading) = group.heading() {
            page.control("SS", [heading]);
            let mut comments = blocks.iter().filter(|block| block.key.is_none());
            let said = comments.find_map(|block| block.comment.strip_prefix(heading));
            let said = said.ok_or(format!("nothing is said about {heading}"))?;
            page.text(prose(&capitalised(said)));
        }
        for setting in settings(group).filter(|setting| setting.file) {
            let of_key = |block: &&Block| block.key == Some(setting.key);
            let block = blocks.iter().find(of_key);
            let block = block.ok_or(format!("the file does not have {}", setting.key))?;
            let head = [bold(setting.key), roman(" = "), italic(block.example)];
            entry(&mut page, head, &block.comment);
            limits(&mut page, setting);
        }
    }
    see_also(&mut page, &["`taskbeat`(1)"]);
    Ok(page)
}

/// What stands between two empty lines: a comment, and mostly the key that it is about, with an example.
struct Block {
    comment: String,
    key: Option<&'static str>,
    example: &'static str,
}

impl Block {
    fn of(text: &'static str) -> Self {
        let mut block = Self {
            comment: String::new(),
            key: None,
            example: "",
        };
        let mut words = Vec::new();
        for line in text.trim().lines() {
            match (line.strip_prefix("# "), line.split_once(" = ")) {
                (Some(comment), _) => words.push(comment),
                (None, Some((key, example))) => {
                    (block.key, block.example) = (key.strip_prefix('#'), example);
                }
                (None, None) => {}
            }
        }
        block.comment = words.join(" ");
        block
    }
}

/// The text after a heading and its colon or comma, as sentences of their own.
fn capitalised(text: &str) -> String {
    let text = text.trim_start_matches([':', ',', ' ']);
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}
