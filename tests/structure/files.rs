//! The files of the project.

use std::fs;
use std::path::Path;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|it| it == extension)
}

/// The text files of `places`, by their path from the root: files, folders, or `*.EXTENSION` for
/// files of the root.
pub(crate) fn files(places: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for place in places {
        if let Some(extension) = place.strip_prefix("*.") {
            let entries = fs::read_dir(root()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            for name in names.filter(|name| has_extension(name, extension)) {
                read(&name, &mut found);
            }
        } else {
            read(place, &mut found);
        }
    }
    found.sort();
    found
}

/// Adds the file `place`, or all files below the folder `place`. Drawings and bytecode are no text.
fn read(place: &str, found: &mut Vec<(String, String)>) {
    let path = root().join(place);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name != "__pycache__" {
                read(&format!("{place}/{name}"), found);
            }
        }
    } else if path.exists() && !has_extension(place, "svg") {
        found.push((place.to_owned(), fs::read_to_string(path).unwrap()));
    }
}
