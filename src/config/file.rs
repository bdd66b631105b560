//! Reads the configuration file: keys, values and lines, not yet their meaning.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use rustix::fs::{OFlags, fcntl_setfl, fstatfs};
use toml::de::{DeTable, DeValue};

use super::errors::Error;
use super::input::{Input, Origin};
use super::show;
use super::table::Setting;

/// A key of the file, and its value.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) input: Input,
}

/// The entries of the file whose path is `input`, the value of `setting`.
///
/// # Errors
///
/// The file cannot be read, or is not TOML: then every place where it is not.
pub(super) fn read(setting: &'static Setting, input: &Input) -> Result<Vec<Entry>, Vec<Error>> {
    let path = match &input.value {
        Ok(path) => path,
        Err(instead) => return Err(vec![Error::not_allowed(setting, instead, input)]),
    };
    match read_to_string(path) {
        Ok(text) => parse(&text, &show::escaped(path)),
        Err(error) => {
            let problem = format!("must be {}: {error}", setting.allowed());
            let path = show::quoted(setting, path);
            Err(vec![Error::value(setting, &path, input, &problem)])
        }
    }
}

/// The text of a file that ends. A FIFO is refused, because opening or reading it could block for
/// ever. A pipe that was inherited open, such as the shell's `<(command)`, is read to its end.
fn read_to_string(path: &str) -> io::Result<String> {
    const LONGEST: u64 = 1 << 20;
    let mut options = OpenOptions::new();
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(nonblocking).open(path)?;
    // The file system of pipes without a name; see PIPEFS_MAGIC in statfs(2).
    let is_inherited = fstatfs(&file)?.f_type == 0x5049_5045;
    if file.metadata()?.file_type().is_fifo() && !is_inherited {
        return Err(io::Error::other("it is a FIFO"));
    }
    fcntl_setfl(&file, OFlags::empty())?;
    let mut text = String::new();
    if file.take(LONGEST).read_to_string(&mut text)? as u64 == LONGEST {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

/// The entries of a file of this text, in its order.
pub(super) fn parse(text: &str, path: &str) -> Result<Vec<Entry>, Vec<Error>> {
    let line_of = |offset| {
        let before = text.bytes().take(offset);
        before.filter(|byte| *byte == b'\n').count() + 1
    };
    let origin = |line| Origin::File { path: path.to_owned(), line };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // Only the message: the error's own Display repeats the line, which may hold a secret.
        let of_line = |error: &toml::de::Error| {
            let line = line_of(error.span().map_or(0, |span| span.start));
            (line, error.message().replace('\n', ", "))
        };
        let mut problems: Vec<_> = errors.iter().map(of_line).collect();
        // Later errors on the same line mostly follow from the first.
        problems.sort_by_key(|(line, _)| *line);
        problems.dedup_by_key(|(line, _)| *line);
        let problems = problems.iter();
        return Err(problems.map(|(line, reason)| Error::syntax(&origin(*line), reason)).collect());
    }
    let mut pairs: Vec<_> = table.into_inner().into_iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (toml::Spanned<_>, toml::Spanned<_>)| Entry {
        input: Input { value: as_text(value.get_ref()), origin: origin(line_of(key.span().start)) },
        key: std::borrow::Cow::into_owned(key.into_inner()),
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
