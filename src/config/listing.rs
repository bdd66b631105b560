//! What `check` prints: every setting, its value, and where it came from.

use std::fmt;

use serde::Serialize;

use super::input::{Inputs, Origin};
use super::show;
use super::table::{Group, SETTINGS};

/// The widest value that still moves the origins of all others to the right, in characters.
const WIDEST: usize = 48;

/// One row for each setting, in the order of the table. Displayed, it is a table of three columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Listing(Vec<Row>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    key: &'static str,
    /// The text as it was given, less credentials.
    value: Option<String>,
    origin: Origin,
}

impl Listing {
    pub(super) fn new(inputs: &Inputs) -> Self {
        let rows = SETTINGS.iter().map(|setting| {
            let input = inputs.get(setting.key);
            let text = input.and_then(|input| input.value.as_ref().ok());
            let unset = if setting.group == Group::Aws { Origin::Sdk } else { Origin::Unset };
            Row {
                key: setting.key,
                value: text.map(|text| show::without_secrets(setting, text)),
                origin: input.map_or(unset, |input| input.origin.clone()),
            }
        });
        Self(rows.collect())
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |row: &Row| row.value.as_deref().map_or("-".to_owned(), show::escaped);
        let width = |row| value(row).chars().count().min(WIDEST);
        let keys = self.0.iter().map(|row| row.key.len()).max().unwrap_or(0);
        let values = self.0.iter().map(width).max().unwrap_or(0);
        for row in &self.0 {
            let (key, origin) = (row.key, &row.origin);
            writeln!(f, "{key:keys$}  {:values$}  {origin}", value(row))?;
        }
        Ok(())
    }
}
