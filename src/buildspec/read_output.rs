//! A buildspec from its text: `artifacts`, `cache` and `reports`.

use crate::model::yaml::{Entry, Node, Value};

use super::problem::Problem;
use super::reading::Reading;
use super::spec::{Artifacts, Cache, CacheAction, FileSet, ReportFormat, ReportGroup};

pub(super) const ARTIFACTS: &[&str] =
    &["files", "name", "discard-paths", "base-directory", "exclude-paths", "enable-symlinks", "s3-prefix", "secondary-artifacts", "type"];
pub(super) const REPORT: &[&str] = &["files", "base-directory", "discard-paths", "file-format"];
pub(super) const CACHE: &[&str] = &["key", "fallback-keys", "action", "paths"];

/// So many report groups a buildspec may name.
const MOST_REPORTS: usize = 5;
/// So many fallback keys are looked at.
const MOST_FALLBACKS: usize = 5;

pub(super) fn artifacts(entry: &Entry, reading: &mut Reading) -> Option<Artifacts> {
    if entry.value.value == Value::Null {
        return None;
    }
    let artifacts = one(&entry.value, "artifacts", true, reading);
    if artifacts.primary.files.is_empty() && !matches!(entry.value.value, Value::Mapping(_)) {
        return None;
    }
    if artifacts.primary.files.is_empty() {
        if artifacts.secondary.is_empty() && entry.value.get("files").is_none() {
            let problem = Problem::new(entry.place, "`artifacts` has no `files`");
            reading.refuse(problem.cure("list what to take: `files: ['**/*']`"));
        } else {
            let problem = Problem::new(entry.place, "`artifacts` has no `files`: there is no primary artifact");
            reading.warn(problem.cure("add `files`, which CodeBuild's reference requires").rule("no-files"));
        }
        if artifacts.secondary.is_empty() {
            return None;
        }
    }
    Some(artifacts)
}

fn one(node: &Node, what: &str, primary: bool, reading: &mut Reading) -> Artifacts {
    let mut artifacts = Artifacts::default();
    for entry in reading.mapping(node, what) {
        let value = &entry.value;
        match entry.key.as_str() {
            "name" => artifacts.name = reading.some_text(value, "name"),
            "s3-prefix" => artifacts.s3_prefix = reading.some_text(value, "s3-prefix"),
            "enable-symlinks" => artifacts.primary.enable_symlinks = reading.yes(value, "enable-symlinks"),
            "exclude-paths" => artifacts.primary.exclude_paths = reading.texts(value, "exclude-paths"),
            // Version 0.1 asked for it.
            "type" => {}
            "secondary-artifacts" if primary => {
                for entry in reading.mapping(value, "secondary-artifacts") {
                    let inner = one(&entry.value, &entry.key, false, reading);
                    if inner.primary.files.is_empty() {
                        let problem = Problem::new(entry.place, format!("the secondary artifact `{}` has no `files`", entry.key));
                        reading.refuse(problem.cure("list what to take: `files: ['**/*']`"));
                    }
                    artifacts.secondary.push((entry.key.clone(), inner));
                }
            }
            _ => file_set(entry, &mut artifacts.primary, what, ARTIFACTS, reading),
        }
    }
    artifacts
}

/// The keys that artifacts and reports have in common.
fn file_set(entry: &Entry, set: &mut FileSet, what: &str, known: &[&str], reading: &mut Reading) {
    match entry.key.as_str() {
        "files" => set.files = reading.texts(&entry.value, "files"),
        "base-directory" => set.base_directory = reading.some_text(&entry.value, "base-directory"),
        "discard-paths" => set.discard_paths = reading.yes(&entry.value, "discard-paths"),
        _ => reading.unknown(entry, what, known),
    }
}

pub(super) fn reports(node: &Node, reading: &mut Reading) -> Vec<ReportGroup> {
    let mut groups = Vec::new();
    for entry in reading.mapping(node, "reports") {
        let mut group = ReportGroup { name: entry.key.clone(), files: FileSet::default(), format: ReportFormat::default() };
        for inner in reading.mapping(&entry.value, &entry.key) {
            match inner.key.as_str() {
                "file-format" => group.format = format(&inner.value, reading),
                _ => file_set(inner, &mut group.files, &format!("reports/{}", entry.key), REPORT, reading),
            }
        }
        if group.files.files.is_empty() {
            let problem = Problem::new(entry.place, format!("the report `{}` has no `files`", entry.key));
            reading.warn(problem.cure("list its files: `files: ['**/*.xml']`").rule("no-files"));
        }
        groups.push(group);
    }
    if groups.len() > MOST_REPORTS {
        let problem = Problem::new(node.place, format!("there are {} report groups; CodeBuild takes {MOST_REPORTS}", groups.len()));
        reading.warn(problem.cure("join some of them").rule("too-many-reports"));
    }
    groups
}

fn format(node: &Node, reading: &mut Reading) -> ReportFormat {
    let Some(text) = reading.some_text(node, "file-format") else { return ReportFormat::default() };
    let known = ReportFormat::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
    if known.is_none() {
        let names = ReportFormat::ALL.map(|(name, _)| name).join(", ");
        reading.refuse(Problem::new(node.place, format!("`file-format: {text}` is no format of reports")).cure(format!("one of: {names}")));
    }
    known.map_or(ReportFormat::default(), |(_, format)| *format)
}

pub(super) fn cache(node: &Node, reading: &mut Reading) -> Option<Cache> {
    let mut cache = Cache::default();
    for entry in reading.mapping(node, "cache") {
        let value = &entry.value;
        match entry.key.as_str() {
            "key" => cache.key = reading.some_text(value, "cache/key"),
            "fallback-keys" => cache.fallback_keys = reading.texts(value, "cache/fallback-keys"),
            "action" => cache.action = action(value, reading),
            "paths" => cache.paths = reading.texts(value, "cache/paths"),
            _ => reading.unknown(entry, "cache", CACHE),
        }
    }
    if cache.key.is_none() && !cache.fallback_keys.is_empty() {
        let problem = Problem::new(node.place, "`fallback-keys` means nothing without `key`");
        reading.warn(problem.cure("add `key`").rule("no-key"));
        cache.fallback_keys.clear();
    }
    if cache.fallback_keys.len() > MOST_FALLBACKS {
        let problem = Problem::new(node.place, format!("of the `fallback-keys` only {MOST_FALLBACKS} are looked at"));
        reading.warn(problem.cure("leave some out").rule("too-many-keys"));
        cache.fallback_keys.truncate(MOST_FALLBACKS);
    }
    (!cache.paths.is_empty()).then_some(cache)
}

fn action(node: &Node, reading: &mut Reading) -> CacheAction {
    let Some(text) = reading.some_text(node, "cache/action") else { return CacheAction::default() };
    match text.to_ascii_lowercase().as_str() {
        "restore" => CacheAction::Restore,
        "save" => CacheAction::Save,
        _ => {
            let problem = Problem::new(node.place, format!("`action: {text}`: `restore` or `save` was expected"));
            reading.refuse(problem.cure("leave it out to do both"));
            CacheAction::default()
        }
    }
}
