//! Which files a list of patterns means.
//!
//! `*` stays between two slashes, `**` crosses them, files whose names begin with a dot are like others; patterns count from the base
//! directory, and that from the source, wherever the commands have gone.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use walkdir::WalkDir;

use super::spec::FileSet;

/// Files by the names that they get.
pub(super) type Found = BTreeMap<String, PathBuf>;

/// Finds files, and says through `say` what is looked for, in the words of `CodeBuild`'s log. What lies in `outside` is passed over.
///
/// # Errors
/// No directory is matched by the base directory.
pub(super) fn find(source: &Path, set: &FileSet, outside: Option<&Path>, say: &dyn Fn(String)) -> Result<Found, String> {
    let base = set.base_directory.as_deref().map_or(".", |base| trimmed(base));
    let base = if base.is_empty() { "." } else { base };
    say(format!("Expanding base directory path: {base}"));
    say("Assembling file list".to_owned());
    say(format!("Expanding {base}"));
    let bases = directories(source, base);
    if bases.is_empty() {
        say(format!("Skipping invalid base directory {base}"));
        return Err(format!("no matching base directory paths found for {base}"));
    }
    let excluded: Vec<GlobSet> = set.exclude_paths.iter().flat_map(|pattern| excluding(trimmed(pattern))).collect();
    let mut found = Found::new();
    for directory in &bases {
        let shown = directory.strip_prefix(source).unwrap_or(directory).display().to_string();
        say(format!("Expanding file paths for base directory {}", if shown.is_empty() { "." } else { &shown }));
        say("Assembling file list".to_owned());
        for pattern in &set.files {
            say(format!("Expanding {pattern}"));
            let mut any = false;
            for (name, path) in matches(directory, trimmed(pattern), !set.enable_symlinks) {
                if outside.is_some_and(|outside| path.starts_with(outside)) || excluded.iter().any(|excluded| excluded.is_match(&name)) {
                    continue;
                }
                any = true;
                let name = if set.discard_paths { name.rsplit('/').next().unwrap_or(&name).to_owned() } else { name };
                found.entry(name).or_insert(path);
            }
            if !any {
                say(format!("Skipping invalid file path {pattern}"));
            }
        }
    }
    if !found.is_empty() {
        say(format!("Found {} file(s)", found.len()));
    }
    Ok(found)
}

/// What a pattern of `exclude-paths` leaves out. By the reference `**/NAME/**/*` is for a file of that name, too.
///
/// <https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html#build-spec.artifacts.exclude-paths>
fn excluding(pattern: &str) -> Vec<GlobSet> {
    let itself = pattern.strip_suffix("/**/*").filter(|path| !is_pattern(path.rsplit('/').next().unwrap_or(path)));
    itself.into_iter().chain([pattern]).map(matcher).collect()
}

/// A path without `./` before it and `/` behind it.
fn trimmed(text: &str) -> &str {
    let mut text = text.trim();
    while let Some(rest) = text.strip_prefix("./") {
        text = rest;
    }
    if text.len() > 1 { text.trim_end_matches('/') } else { text }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

fn matcher(pattern: &str) -> GlobSet {
    let glob = |text: &str| GlobBuilder::new(text).literal_separator(true).build();
    // What is no pattern after all means itself.
    let glob = glob(pattern).or_else(|_| glob(&globset::escape(pattern)));
    glob.and_then(|glob| GlobSetBuilder::new().add(glob).build()).unwrap_or_default()
}

/// The directories that a base directory means.
fn directories(source: &Path, base: &str) -> Vec<PathBuf> {
    let whole = source.join(base);
    if whole.is_dir() {
        return vec![if base == "." { source.to_owned() } else { whole }];
    }
    if !is_pattern(base) {
        return Vec::new();
    }
    let (root, pattern) = split(source, base);
    let depth = pattern.split('/').count();
    let matcher = matcher(&pattern);
    let limit = if pattern.contains("**") { usize::MAX } else { depth };
    let entries =
        WalkDir::new(&root).min_depth(1).max_depth(limit).follow_links(true).sort_by_file_name().into_iter().filter_map(Result::ok);
    let entries = entries.filter(|entry| entry.file_type().is_dir());
    entries
        .filter(|entry| entry.path().strip_prefix(&root).is_ok_and(|name| matcher.is_match(name)))
        .map(walkdir::DirEntry::into_path)
        .collect()
}

/// The directory that a pattern begins with, and the rest, from its first wildcard on.
fn split(from: &Path, pattern: &str) -> (PathBuf, String) {
    let mut root = if pattern.starts_with('/') { PathBuf::from("/") } else { from.to_owned() };
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let literal = parts.iter().take_while(|part| !is_pattern(part)).count();
    root.extend(&parts[..literal]);
    (root, parts[literal..].join("/"))
}

/// The files that one pattern means, with their names from `directory`.
pub(super) fn matches(directory: &Path, pattern: &str, follow: bool) -> Vec<(String, PathBuf)> {
    let name_of = |path: &Path| named(path.strip_prefix(directory).unwrap_or(path));
    let whole = directory.join(pattern);
    if whole.is_file() || !follow && whole.is_symlink() {
        return vec![(name_of(&whole), whole)];
    }
    if !is_pattern(pattern) {
        return Vec::new();
    }
    let (root, rest) = split(directory, pattern);
    let matcher = matcher(&rest);
    let limit = if rest.contains("**") { usize::MAX } else { rest.split('/').count() };
    let entries =
        WalkDir::new(&root).min_depth(1).max_depth(limit).follow_links(follow).sort_by_file_name().into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file() || entry.file_type().is_symlink());
    let meant = files.filter(|entry| entry.path().strip_prefix(&root).is_ok_and(|name| matcher.is_match(name)));
    meant.map(|entry| (name_of(entry.path()), entry.into_path())).collect()
}

/// A path as a name: its ordinary parts, joined by slashes.
fn named(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        root
    }

    fn found(root: &Path, set: &FileSet) -> Vec<String> {
        find(root, set, None, &|_| {}).unwrap().into_keys().collect()
    }

    fn set(base: &str, files: &[&str]) -> FileSet {
        let base_directory = Some(base.to_owned()).filter(|base| !base.is_empty());
        FileSet { files: files.iter().map(|&file| file.to_owned()).collect(), base_directory, ..FileSet::default() }
    }

    #[test]
    fn one_star_stays_and_two_cross() {
        let root = tree(&["a.txt", "b/a.txt", "b/c/d.txt", ".hidden", "b/.env"]);
        assert_eq!(found(root.path(), &set("", &["*"])), [".hidden", "a.txt"]);
        assert_eq!(found(root.path(), &set("", &["**/*"])), [".hidden", "a.txt", "b/.env", "b/a.txt", "b/c/d.txt"]);
        assert_eq!(found(root.path(), &set("", &["b/**"])), ["b/.env", "b/a.txt", "b/c/d.txt"]);
        assert_eq!(found(root.path(), &set("", &["**/a.txt", "./b/c/*"])), ["a.txt", "b/a.txt", "b/c/d.txt"]);
        assert_eq!(found(root.path(), &set("b/", &["c/d.txt", "*.txt"])), ["a.txt", "c/d.txt"]);
        // A directory alone names no file.
        assert_eq!(found(root.path(), &set("", &["b"])), [""; 0]);
    }

    #[test]
    fn paths_are_excluded_and_discarded() {
        let root = tree(&["a.txt", "b/.env", "b/x/y.txt", ".git/HEAD"]);
        let mut all = set("", &["**/*"]);
        all.exclude_paths = vec!["**/.*".into(), "**/.*/**/*".into()];
        assert_eq!(found(root.path(), &all), ["a.txt", "b/x/y.txt"]);
        all.discard_paths = true;
        assert_eq!(found(root.path(), &all), ["a.txt", "y.txt"]);
        all = set("b", &["**/*"]);
        all.exclude_paths = vec!["**/y.txt/**/*".into()];
        assert_eq!(found(root.path(), &all), [".env"], "as the reference has it");
    }

    #[test]
    fn a_base_directory_may_be_several_or_none() {
        let root = tree(&["out-1/a", "out-2/b", "out-2/sub/c", "other/d"]);
        assert_eq!(found(root.path(), &set("out-*", &["**/*"])), ["a", "b", "sub/c"]);
        let error = find(root.path(), &set("dist", &["**/*"]), None, &|_| {}).unwrap_err();
        assert_eq!(error, "no matching base directory paths found for dist");
        let absolute = root.path().join("out-2");
        assert_eq!(found(root.path(), &set(absolute.to_str().unwrap(), &["**/*"])), ["b", "sub/c"]);
    }

    #[test]
    fn links_are_followed_or_kept() {
        let root = tree(&["real/a", "top"]);
        std::os::unix::fs::symlink("real", root.path().join("linked")).unwrap();
        std::os::unix::fs::symlink(".", root.path().join("loop")).unwrap();
        let mut all = set("", &["**/*"]);
        assert_eq!(found(root.path(), &all), ["linked/a", "real/a", "top"]);
        all.enable_symlinks = true;
        assert_eq!(found(root.path(), &all), ["linked", "loop", "real/a", "top"]);
    }
}
