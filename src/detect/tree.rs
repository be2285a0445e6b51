//! The files of a checkout, listed once and read as text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;
use walkdir::WalkDir;

use super::{Place, path};

/// Directories that hold other people's code, or what a build has made.
const FOREIGN: [&str; 20] = [
    "node_modules",
    "bower_components",
    "site-packages",
    "venv",
    "env",
    "virtualenv",
    "__pycache__",
    "dist",
    "build",
    "out",
    "coverage",
    "target",
    "vendor",
    "fixtures",
    "__fixtures__",
    "testdata",
    "cdk.out",
    "staticfiles",
    "htmlcov",
    "storybook-static",
];
/// How deep an application may lie.
const DEEPEST: usize = 8;
/// More than this is read of no file: what says something about an application is small.
const LARGEST: u64 = 4 << 20;

/// A checkout.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    files: BTreeSet<String>,
}

impl Tree {
    /// Lists the files below `root`; links to directories are not followed, as they may lead anywhere.
    pub(super) fn list(root: &Path) -> Result<Self, walkdir::Error> {
        let entries = WalkDir::new(root).max_depth(DEEPEST).sort_by_file_name().into_iter().filter_entry(|entry| {
            let name = entry.file_name().to_string_lossy();
            let hidden = name.starts_with('.') && entry.file_type().is_dir() && name != ".github";
            entry.depth() == 0 || !(hidden || (entry.file_type().is_dir() && FOREIGN.contains(&name.as_ref())))
        });
        let mut files = BTreeSet::new();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                // What may not be entered says nothing; a checkout that is not there says so.
                Err(error) if error.depth() > 0 => continue,
                Err(error) => return Err(error),
            };
            let is_file = entry.file_type().is_file() || (entry.path_is_symlink() && entry.path().is_file());
            if let (true, Ok(relative)) = (is_file, entry.path().strip_prefix(root)) {
                files.extend(relative.to_str().map(str::to_owned));
            }
        }
        Ok(Self { root: root.to_owned(), files })
    }

    /// Every file, in the order of their names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// The files of one directory alone.
    pub(super) fn inside<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a str> {
        self.below(directory).filter(move |file| path::parent(file) == directory)
    }

    /// The files of a directory and of all below it.
    pub(super) fn below<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a str> {
        self.files().filter(move |file| path::within(file, directory))
    }

    /// Is there such a file? Hidden and foreign directories are asked on the disk.
    pub(super) fn has(&self, file: &str) -> bool {
        self.files.contains(file) || self.root.join(file).is_file()
    }

    /// Is there such a file or directory?
    pub(super) fn exists(&self, name: &str) -> bool {
        self.root.join(name).exists()
    }

    /// A file's text; `None` if it is absent, too large or unreadable.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        let full = self.root.join(file);
        if std::fs::metadata(&full).ok()?.len() > LARGEST {
            return None;
        }
        let bytes = std::fs::read(full).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }

    /// The first of several files of a directory that is there.
    pub(super) fn first(&self, directory: &str, names: &[&str]) -> Option<String> {
        names.iter().map(|name| path::join(directory, name)).find(|file| self.has(file))
    }

    /// The name that the checkout bears where it came from, by `.git/config`.
    pub(super) fn remote_name(&self) -> Option<String> {
        let config = self.text(".git/config")?;
        let url = config.split("[remote \"origin\"]").nth(1)?.lines().find_map(|line| line.trim().strip_prefix("url = "))?;
        Some(url.trim_end_matches('/').trim_end_matches(".git").rsplit(['/', ':']).next()?.to_owned())
    }

    /// The name of the checkout's own directory.
    pub(super) fn own_name(&self) -> Option<String> {
        Some(self.root.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned())
    }
}

/// The line, from 1, of a place in a text.
pub(super) fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The first match of a pattern: its first group (or all of it), and where that stands.
pub(super) fn search(file: &str, text: &str, pattern: &Regex) -> Option<(String, Place)> {
    let found = pattern.captures(text)?;
    let hit = found.iter().skip(1).flatten().next().or_else(|| found.get(0))?;
    Some((hit.as_str().to_owned(), Place::line(file, line_at(text, hit.start()))))
}

/// Where a text stands first, or the file as such.
pub(super) fn place_of(file: &str, text: &str, needle: &str) -> Place {
    text.find(needle).map_or_else(|| Place::file(file), |at| Place::line(file, line_at(text, at)))
}

/// A script's text with its comments blanked out, so that places stay as they are. `line` begins a comment that ends with its line.
pub(super) fn without_comments(text: &str, line: &str, block: Option<(&str, &str)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut quote: Option<char> = None;
    while let Some(c) = rest.chars().next() {
        let blank = |part: &str| part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>();
        if let Some(q) = quote {
            let escaped = c == '\\' && rest.len() > 1;
            let taken = if escaped { c.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8) } else { c.len_utf8() };
            quote = if !escaped && (c == q || (c == '\n' && q != '`')) { None } else { Some(q) };
            out.push_str(&rest[..taken]);
            rest = &rest[taken..];
            continue;
        }
        if rest.starts_with(line) {
            let end = rest.find('\n').unwrap_or(rest.len());
            out.push_str(&" ".repeat(rest[..end].chars().count()));
            rest = &rest[end..];
        } else if let Some((begin, end)) = block.filter(|(begin, _)| rest.starts_with(begin)) {
            let end = rest[begin.len()..].find(end).map_or(rest.len(), |at| at + begin.len() + end.len());
            out.push_str(&blank(&rest[..end]));
            rest = &rest[end..];
        } else {
            quote = matches!(c, '"' | '\'' | '`').then_some(c);
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// A script in JavaScript or TypeScript without its comments.
pub(super) fn javascript(text: &str) -> String {
    without_comments(text, "//", Some(("/*", "*/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_blanked_and_lines_stay() {
        let text = "a // outDir: 'x'\n/* b\n c */ d: \"http://e\", // f\n'it\\'s // g'";
        let plain = javascript(text);
        assert_eq!(plain.lines().count(), text.lines().count());
        assert!(!plain.contains("outDir") && !plain.contains(" b") && !plain.contains('f'));
        assert!(plain.contains("\"http://e\"") && plain.contains("'it\\'s // g'"), "{plain}");
    }
}
