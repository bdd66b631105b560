//! The parts that the man pages share.

use roff::{Inline, Roff, bold, roman};

pub(crate) const VERSION: &str = concat!("taskbeat ", env!("CARGO_PKG_VERSION"));

/// Keeps words whole and lines ragged, because commands must be readable as they are typed.
pub(crate) fn ragged(page: &mut Roff) {
    page.control("nh", []).control("ad", ["l"]);
}

/// A paragraph of a list, with its head at the side.
pub(crate) fn entry(page: &mut Roff, head: impl Into<Vec<Inline>>, text: &str) {
    page.control("TP", []).text(head).text(prose(text));
}

pub(crate) fn see_also(page: &mut Roff, others: &[&str]) {
    page.control("SH", ["SEE ALSO"]).text(prose(&others.join(", ")));
}

/// Text with its parts in backticks in bold.
pub(crate) fn prose(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    let part = |(index, part): (usize, &str)| match index % 2 {
        0 => roman(part),
        _ => bold(part),
    };
    parts.map(part).collect()
}
