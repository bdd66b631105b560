//! What both man pages are made of.

use roff::{Inline, Roff, bold, roman};
use taskbeat::config::{Group, SETTINGS, Setting};

/// The groups of settings, in the order of the table.
pub(crate) fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = SETTINGS.iter().map(|setting| setting.group).collect();
    groups.dedup();
    groups
}

/// The rows of a group.
pub(crate) fn settings(group: Group) -> impl Iterator<Item = &'static Setting> {
    SETTINGS
        .iter()
        .filter(move |setting| setting.group == group)
}

pub(crate) const VERSION: &str = concat!("taskbeat ", env!("CARGO_PKG_VERSION"));

/// Keeps words whole and lines ragged, because commands must be readable as they are typed.
pub(crate) fn ragged(page: &mut Roff) {
    page.control("nh", []).control("ad", ["l"]);
}

/// The beginning of a page, up to its description.
pub(crate) fn begin(name: &str, section: &str, volume: &str, about: &str) -> Roff {
    let mut page = Roff::new();
    // No date: the same source makes the same page on every day.
    page.control("TH", [name, section, "\"\"", VERSION, volume]);
    ragged(&mut page);
    page.control("SH", ["NAME"])
        .text([roman(format!("{name} - {about}"))]);
    page
}

/// A paragraph of a list, with what it is about at its side.
pub(crate) fn entry(page: &mut Roff, head: impl Into<Vec<Inline>>, text: &str) {
    page.control("TP", []).text(head).text(prose(text));
}

/// What is allowed, and what is taken when nothing is said.
pub(crate) fn limits(page: &mut Roff, setting: &Setting) {
    let mut text = format!("Allowed: {}.", setting.allowed);
    if let Some(default) = setting.default {
        text = format!("{text} Default: {default}.");
    }
    page.control("br", []).text(prose(&text));
}

pub(crate) fn see_also(page: &mut Roff, others: &[&str]) {
    page.control("SH", ["SEE ALSO"])
        .text(prose(&others.join(", ")));
}

/// Text in which what stands in backticks is bold.
pub(crate) fn prose(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    let part = |(index, part): (usize, &str)| match index % 2 {
        0 => roman(part),
        _ => bold(part),
    };
    parts.map(part).collect()
}
