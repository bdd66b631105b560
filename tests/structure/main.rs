//! Rules for the text of the project: imports, sizes, widths, unsafe code and words.
//!
//! Plain search over the files, so that a violation is reported in seconds and by its line. Each
//! test reports all violations of its rule at once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod files;
mod source;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;

use crate::files::{files, has_extension, root};
use crate::source::Source;
use crate::tokens::{tokens, without_literals};

/// The most columns of a line, in characters.
const MAX_COLUMNS: usize = 100;
/// The most lines of a function.
const MAX_FUNCTION: usize = 80;
/// The most lines of a file, without its tests.
const MAX_FILE: usize = 450;

/// Words that start a sentence without naming its subject. CONTRIBUTING.md says how to do better.
const VAGUE: [&str; 7] =
    ["nobody", "somebody", "anybody", "everybody", "whoever", "those who", "one that"];

/// Folders and files with text; not Cargo.lock, which is generated.
const TEXT: [&str; 10] =
    [".ci", "*.toml", "benches", "config", "docs", "packaging", "src", "systemd", "tests", "*.md"];

#[test]
fn the_core_imports_only_std_and_itself() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let dependencies = dependencies(&manifest);
    assert!(dependencies.contains("tokio"), "{dependencies:?}");
    let mut violations = Vec::new();
    let sources = Source::all();
    for source in sources.iter().filter(|source| source.is_below("core")) {
        for path in source.paths() {
            let absolute = source.absolute(&path.segments);
            let is_foreign = match &absolute {
                Some(absolute) => absolute.first().is_none_or(|module| module != "core"),
                None => dependencies.contains(&path.segments[0]),
            };
            if is_foreign {
                let (file, line) = (&source.file, path.line);
                violations.push(format!("{file}:{line}: {}", path.segments.join("::")));
            }
        }
    }
    report("imports of the core", &violations);
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    let sources = Source::all();
    let imports: BTreeMap<&str, BTreeMap<&str, usize>> =
        sources.iter().map(|source| (&*source.file, source.imports(&sources))).collect();
    let mut cycles = BTreeMap::new();
    for file in imports.keys() {
        if let Some(cycle) = shortest_cycle(&imports, file) {
            let members: BTreeSet<_> = cycle.iter().copied().collect();
            cycles.entry(members).or_insert(cycle);
        }
    }
    let describe = |cycle: &Vec<&str>| {
        let next = cycle.iter().cycle().skip(1);
        let step = |(file, next): (&&str, &&str)| {
            format!("{file}:{}: imports {next}", imports[file][next])
        };
        let steps: Vec<_> = cycle.iter().zip(next).map(step).collect();
        format!("{}\n", steps.join("\n"))
    };
    report("cycles of imports", &cycles.values().map(describe).collect::<Vec<_>>());
}

#[test]
fn no_line_is_too_wide() {
    let mut violations = Vec::new();
    for (file, text) in files(&TEXT) {
        let mut is_output = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_output ^= has_extension(&file, "md") && line.starts_with("```");
            let columns = line.chars().count();
            if columns > MAX_COLUMNS && !is_output && !has_no_place_to_break(line) {
                violations.push(format!("{file}:{number}: {columns} columns"));
            }
        }
    }
    report("lines over 100 columns", &violations);
}

/// Rows of tables, inline tables of TOML, instructions for `.ci/readme`, and long URLs.
fn has_no_place_to_break(line: &str) -> bool {
    let text = line.trim_start_matches("//!").trim_start();
    let is_long_url = |word: &str| word.contains("https://") && word.len() > 50;
    let starts = ["|", "{ ", "<!-- ci:"].iter().any(|start| text.starts_with(start));
    starts || text.split_whitespace().any(is_long_url)
}

/// Each name in backquotes below a promise that looks like a test is one.
#[test]
fn each_promise_names_living_tests() {
    let page = fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let tests: String = files(&["tests"]).into_iter().map(|(_, text)| text).collect();
    let promises =
        page.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let words = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.contains('_'))
            .map(str::to_owned)
            .collect()
    };
    let named = words(&page);
    let missing: Vec<_> = named
        .iter()
        .filter(|name| *name != "credential_process" && !tests.contains(&format!("fn {name}(")))
        .cloned()
        .collect();
    report("promises without their test", &missing);
    assert!(promises.count() >= 12 && named.len() >= 30, "{named:?}");
}

#[test]
fn no_function_is_too_long() {
    let mut violations = Vec::new();
    for source in Source::all() {
        for (name, line, length) in source.functions() {
            if length > MAX_FUNCTION {
                violations.push(format!("{}:{line}: {name}: {length} lines", source.file));
            }
        }
    }
    report("functions over 80 lines", &violations);
}

#[test]
fn no_file_is_too_long() {
    let lengths = Source::all().into_iter().map(|source| {
        let length = source.code.lines().count();
        (source.file, length)
    });
    let violations: Vec<_> = lengths
        .filter(|(_, length)| *length > MAX_FILE)
        .map(|(file, length)| format!("{file}:1: {length} lines without its tests"))
        .collect();
    report("files over 450 lines", &violations);
}

#[test]
fn all_unsafe_code_is_in_one_file() {
    let mut violations = Vec::new();
    for (file, text) in files(&["src"]) {
        let code = without_literals(&text);
        for (_, line) in tokens(&code).filter(|(token, _)| *token == "unsafe") {
            if file != "src/sys.rs" {
                violations.push(format!("{file}:{line}: unsafe"));
            }
        }
    }
    report("unsafe code outside of src/sys.rs", &violations);
}

#[test]
fn no_sentence_hides_its_subject() {
    let mut violations = Vec::new();
    let places = TEXT.iter().filter(|place| **place != "tests");
    for (file, text) in files(&places.copied().collect::<Vec<_>>()) {
        let mut previous = String::new();
        for (word, line) in words(&text) {
            let pair = format!("{previous} {word}");
            for vague in VAGUE {
                if vague == word || vague == pair {
                    violations.push(format!("{file}:{line}: {vague}"));
                }
            }
            previous = word;
        }
    }
    report("vague subjects", &violations);
}

#[test]
fn the_paths_in_the_documents_exist() {
    let mut violations = Vec::new();
    for (file, text) in files(&["*.md", "docs"]) {
        for (number, line) in (1..).zip(text.lines()) {
            // Every second part is between backquotes.
            for path in line.split('`').skip(1).step_by(2) {
                let folder = path.split_once('/').map_or("", |(folder, _)| folder);
                let is_path = TEXT.contains(&folder) && !path.contains([' ', '*', '<']);
                if is_path && !root().join(path).exists() {
                    violations.push(format!("{file}:{number}: {path}"));
                }
            }
        }
    }
    report("paths that do not exist", &violations);
}

/// Fails with all violations, if there are any.
fn report(rule: &str, violations: &[String]) {
    let count = violations.len();
    assert!(count == 0, "{rule}: {count}\n{}", violations.join("\n"));
}

/// The words of a text in lower case, with their lines. A punctuation mark is a word of its own,
/// because it ends a phrase. The mark of a comment is not, because a phrase may be wrapped.
fn words(text: &str) -> impl Iterator<Item = (String, usize)> {
    (1..).zip(text.lines()).flat_map(|(number, line)| {
        let spaced: String = line.chars().flat_map(separate).collect();
        let words: Vec<_> = spaced.split_whitespace().map(str::to_lowercase).collect();
        words.into_iter().map(move |word| (word, number))
    })
}

fn separate(character: char) -> Vec<char> {
    match character {
        '/' | '#' | '!' | '*' | '_' => vec![' '],
        letter if letter.is_alphanumeric() => vec![letter],
        mark => vec![' ', mark, ' '],
    }
}

/// The names in `[dependencies]`, as code writes them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let lines = manifest.lines().map(str::trim);
    let section = lines.skip_while(|line| *line != "[dependencies]").skip(1);
    section
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

/// The shortest cycle of imports through `start`, from `start` to the file before `start`.
fn shortest_cycle<'a>(
    imports: &BTreeMap<&'a str, BTreeMap<&'a str, usize>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut queue = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = queue.pop_front() {
        let last = path[path.len() - 1];
        for next in imports[last].keys() {
            if *next == start {
                return Some(path);
            }
            if seen.insert(*next) {
                queue.push_back([&path[..], &[*next]].concat());
            }
        }
    }
    None
}
