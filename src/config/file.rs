//! Reads the configuration file: keys, values and lines, not yet their meaning.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{makedev, statfs};
use toml::de::{DeString, DeTable, DeValue};

use super::input::{Input, Origin};
use super::show;

/// Maximum length of a file, in bytes.
const LONGEST: u64 = 1 << 20;

const TOO_LONG: &str = "it is longer than 1 MiB";

/// A key of the file, and its value as in [`Input`].
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Result<String, String>,
    pub(super) origin: Origin,
}

/// The entries of the file whose path is `config`.
///
/// # Errors
///
/// The file cannot be read, or is not TOML: then every place where it is not.
pub(super) fn read(config: &Input) -> Result<Vec<Entry>, Vec<String>> {
    let path = config.value.as_ref().map_err(|_| vec![config.not_allowed()])?;
    let text = read_to_string(Path::new(path)).map_err(|error| {
        let problem = format!("must be {}: {error}", config.setting.allowed());
        vec![config.error(&problem)]
    })?;
    parse(&text, &show::escaped(path))
}

/// The text of a file that has no [`file_problem`].
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    if let Some(problem) = file_problem(path) {
        return Err(io::Error::other(problem));
    }
    let mut text = String::new();
    if File::open(path)?.take(LONGEST).read_to_string(&mut text)? as u64 == LONGEST {
        return Err(io::Error::other(TOO_LONG));
    }
    Ok(text)
}

/// Why what is at `path` must not be read: it is no file, so that opening or reading it could block
/// for ever, or it is too long. A pipe that was inherited open, such as the shell's `<(command)`,
/// ends.
pub(crate) fn file_problem(path: &Path) -> Option<&'static str> {
    let file = fs::metadata(path).ok()?;
    let kind = file.file_type();
    // The file system of pipes without a name; see PIPEFS_MAGIC in statfs(2).
    let is_inherited = || statfs(path).is_ok_and(|system| system.f_type == 0x5049_5045);
    let is_null = file.rdev() == makedev(1, 3);
    if kind.is_fifo() && !is_inherited() {
        Some("it is a FIFO")
    } else if kind.is_socket() {
        Some("it is a socket")
    } else if kind.is_block_device() || kind.is_char_device() && !is_null {
        Some("it is a device")
    } else {
        (file.len() >= LONGEST).then_some(TOO_LONG)
    }
}

/// The entries of a file of this text, in its order.
pub(super) fn parse(text: &str, path: &str) -> Result<Vec<Entry>, Vec<String>> {
    let origin = |offset| {
        let before = text.bytes().take(offset);
        let line = before.filter(|byte| *byte == b'\n').count() + 1;
        Origin::File { path: path.to_owned(), line }
    };
    let (table, mut errors) = DeTable::parse_recoverable(text);
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    errors.sort_by_key(start);
    let mut problems: Vec<_> = errors.iter().map(|error| (origin(start(error)), error)).collect();
    // Later errors on the same line mostly follow from the first.
    problems.dedup_by(|(later, _), (first, _)| later == first);
    // Only the message: the error's own Display repeats the line, which may hold a secret.
    let message = |error: &toml::de::Error| error.message().replace('\n', ", ");
    let problems = problems.into_iter();
    let problems: Vec<_> =
        problems.map(|(origin, error)| format!("{origin}: not TOML: {}", message(error))).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut pairs: Vec<_> = table.into_inner().into_iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (toml::Spanned<DeString<'_>>, toml::Spanned<DeValue<'_>>)| Entry {
        origin: origin(key.span().start),
        value: as_text(value.get_ref()),
        key: key.into_inner().into_owned(),
    };
    Ok(pairs.into_iter().map(entry).collect())
}

/// Numbers and booleans become the text that they would be in quotes.
fn as_text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Datetime(_) => Err("a date".to_owned()),
        DeValue::Array(_) => Err("an array".to_owned()),
        DeValue::Table(_) => Err("a table".to_owned()),
    }
}
