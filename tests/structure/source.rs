//! The code of `src`: its modules, their paths and functions.

use std::collections::BTreeMap;

use crate::files::files;
use crate::tokens::{is_name, tokens, without_literals};

/// A file of `src`, as code without comments, literals and tests.
pub(crate) struct Source {
    /// Its path from the root of the repository.
    pub(crate) file: String,
    /// Its module: `["core", "agent"]` for `src/core/agent/mod.rs`, and nothing for `src/lib.rs`.
    module: Vec<String>,
    pub(crate) code: String,
}

/// A path in the code, such as `crate::core::Event`.
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Brings a name into the scope of other modules: `pub use`.
    is_reexport: bool,
}

impl Source {
    /// All files of the library but those with nothing but tests.
    pub(crate) fn all() -> Vec<Self> {
        let all = files(&["src"]).into_iter();
        let all: Vec<_> = all
            .filter(|(file, _)| file != "src/main.rs" && !file.ends_with("/tests.rs"))
            .map(|(file, text)| Self::new(file, &text))
            .collect();
        assert!(all.iter().any(|source| source.module == ["core"]));
        all
    }

    fn new(file: String, text: &str) -> Self {
        let path = file.trim_start_matches("src/").trim_end_matches(".rs");
        let is_module = |name: &&str| !["lib", "mod"].contains(name);
        let module = path.split('/').filter(is_module).map(str::to_owned);
        let code = without_literals(text);
        let end = code.find("\n#[cfg(test)]\nmod tests").unwrap_or(code.len());
        Self { module: module.collect(), code: code[..end].to_owned(), file }
    }

    pub(crate) fn is_below(&self, module: &str) -> bool {
        self.module.first().is_some_and(|first| first == module)
    }

    /// The paths of two or more segments, in `use` declarations and elsewhere.
    pub(crate) fn paths(&self) -> Vec<CodePath> {
        let tokens: Vec<_> = tokens(&self.code).collect();
        let mut paths = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let (token, line) = tokens[at];
            let next = tokens.get(at + 1).map_or("", |(next, _)| *next);
            if token == "use" && next != "<" {
                // `pub use` or `pub(crate) use`.
                let is_reexport = at > 0 && ["pub", ")"].contains(&tokens[at - 1].0);
                let mut found = Vec::new();
                at = use_tree(&tokens, at + 1, &[], &mut found);
                let found =
                    found.into_iter().map(|segments| CodePath { segments, line, is_reexport });
                paths.extend(found);
            } else if is_name(token) && next == "::" {
                let mut segments = Vec::new();
                while at < tokens.len() && is_name(tokens[at].0) {
                    segments.push(tokens[at].0.to_owned());
                    at += 1;
                    if tokens.get(at).is_none_or(|(token, _)| *token != "::") {
                        break;
                    }
                    at += 1;
                }
                paths.push(CodePath { segments, line, is_reexport: false });
            } else {
                at += 1;
            }
        }
        paths
    }

    /// The path from the crate's root, if `segments` begin in this crate. A path that begins with
    /// the name of a module below this one is not recognised: see [`Self::imports`].
    pub(crate) fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let mut base = match &*segments[0] {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len() - 1].to_vec(),
            _ => return None,
        };
        for segment in &segments[1..] {
            if segment == "super" {
                base.pop();
            } else {
                base.push(segment.clone());
            }
        }
        Some(base)
    }

    /// The files whose items this file uses, each with the first line that does. A re-export alone
    /// is no use; it is followed to the file that defines the item.
    pub(crate) fn imports<'a>(&self, sources: &'a [Self]) -> BTreeMap<&'a str, usize> {
        let mut imports = BTreeMap::new();
        let code: Vec<_> = tokens(&self.code).map(|(token, _)| token).collect();
        for path in self.paths() {
            let name = path.segments.last().unwrap();
            let uses = code.iter().filter(|token| *token == name).count();
            if path.is_reexport && uses < 2 {
                continue;
            }
            let defined_in = self.resolve(&path.segments, sources);
            if let Some(file) = defined_in.filter(|file| *file != self.file) {
                imports.entry(file).or_insert(path.line);
            }
        }
        imports
    }

    /// The file that defines the item at `segments`.
    fn resolve<'a>(&self, segments: &[String], sources: &'a [Self]) -> Option<&'a str> {
        let below = || [&self.module[..], segments].concat();
        let child = &below()[..=self.module.len()];
        let is_child = sources.iter().any(|source| source.module == child);
        let path = match self.absolute(segments) {
            None if is_child => below(),
            None => return None,
            Some(path) => path,
        };
        let prefixes = sources.iter().filter(|source| path.starts_with(&source.module));
        let module = prefixes.max_by_key(|source| source.module.len())?;
        let item = path.get(module.module.len());
        let reexport = item.and_then(|item| {
            let paths = module.paths().into_iter();
            let mut reexports = paths.filter(|path| path.is_reexport);
            reexports.find(|path| path.segments.last() == Some(item))
        });
        match reexport {
            Some(path) => module.resolve(&path.segments, sources),
            None => Some(&module.file),
        }
    }

    /// The name, the first line and the number of lines of each function.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let tokens: Vec<_> = tokens(&self.code).collect();
        let mut functions = Vec::new();
        for (at, pair) in tokens.windows(2).enumerate() {
            let [("fn", first), (name, _)] = pair else {
                continue;
            };
            if is_name(name)
                && let Some(last) = end_of_body(&tokens[at..])
            {
                functions.push(((*name).to_owned(), *first, last - first + 1));
            }
        }
        functions
    }
}

/// Reads a `use` tree that begins at token `at`, and returns where it ends.
fn use_tree(
    tokens: &[(&str, usize)],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some((token, _)) = tokens.get(at) {
        at += 1;
        match *token {
            "::" => {}
            "{" => {
                while tokens[at].0 != "}" {
                    at = use_tree(tokens, at, &path, found);
                    at += usize::from(tokens[at].0 == ",");
                }
                return at + 1;
            }
            // The name that the item has here does not matter.
            "as" => at += 1,
            // `{self}` is the module itself.
            "self" if !path.is_empty() => {}
            name if is_name(name) || name == "*" => path.push(name.to_owned()),
            // `;`, or `,` and `}` in a group.
            _ => {
                at -= 1;
                break;
            }
        }
    }
    found.push(path);
    at
}

/// The line where the body of the function that begins with these tokens ends. `None` if the
/// function has no body.
fn end_of_body(tokens: &[(&str, usize)]) -> Option<usize> {
    let (mut brackets, mut braces) = (0, 0);
    for (token, line) in tokens {
        match *token {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets -= 1,
            "{" => braces += 1,
            "}" if braces == 1 => return Some(*line),
            "}" => braces -= 1,
            ";" if brackets == 0 && braces == 0 => return None,
            _ => {}
        }
    }
    None
}
