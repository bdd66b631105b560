//! What `check` prints: every setting, its value, and where it came from.

use super::show;
use super::sources::Inputs;
use super::table::{Group, SETTINGS};

/// The widest value that still moves the origins of all others to the right, in characters.
const WIDEST: usize = 48;

/// A table of three columns, one line for each setting.
#[must_use]
pub fn listing(inputs: &Inputs) -> String {
    let rows: Vec<(&str, String, String)> = SETTINGS
        .iter()
        .map(|setting| match inputs.get(setting) {
            Some(input) => {
                let value = match &input.value {
                    Ok(text) => show::plain(setting, text),
                    Err(shown) => shown.clone(),
                };
                (setting.key, value, input.origin.to_string())
            }
            None if setting.group == Group::Aws => (
                setting.key,
                "-".to_owned(),
                "left to the AWS SDK".to_owned(),
            ),
            None => (setting.key, "-".to_owned(), "not set".to_owned()),
        })
        .collect();
    let keys = rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
    let values = rows
        .iter()
        .map(|(_, value, _)| value.chars().count().min(WIDEST))
        .max()
        .unwrap_or(0);
    let lines = rows
        .iter()
        .map(|(key, value, origin)| format!("{key:keys$}  {value:values$}  {origin}"));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
