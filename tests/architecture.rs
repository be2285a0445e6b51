//! Holds the rooms' import table against the source: by path, without compiling anything.

#[cfg(test)]
mod table {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    /// Every room, and the rooms that it may name. `F/plan` is the pure part of a feature.
    const ROOMS: &[(&str, &[&str])] = &[
        ("model", &[]),
        ("process", &[]),
        ("event", &["model"]),
        ("config", &["model"]),
        ("aws", &["model"]),
        ("docker", &["model"]),
        ("probe", &["model"]),
        ("journal", &["model", "event", "aws"]),
        ("plan", &["model", "config", "F/plan"]),
        ("buildspec", &["model", "process", "event", "aws", "docker"]),
        ("report", &["model", "event", "plan", "journal", "F/plan"]),
        ("detect", &["model"]),
        ("local", &["model", "process"]),
        ("infra", &["model", "config"]),
        ("inspect", &["model", "config", "aws"]),
        ("release", &["model", "process", "event", "config", "aws", "docker", "probe", "journal", "plan", "F", "buildspec", "inspect"]),
        (
            "cli",
            &[
                "model",
                "process",
                "event",
                "config",
                "aws",
                "docker",
                "probe",
                "journal",
                "plan",
                "F",
                "buildspec",
                "report",
                "detect",
                "local",
                "infra",
                "inspect",
                "release",
            ],
        ),
        (
            "lib",
            &[
                "model",
                "process",
                "event",
                "config",
                "aws",
                "docker",
                "probe",
                "journal",
                "plan",
                "F",
                "buildspec",
                "report",
                "detect",
                "local",
                "infra",
                "inspect",
                "release",
                "cli",
            ],
        ),
        ("main", &["cli"]),
    ];

    /// What each file of a feature may name beside the feature's own files.
    const FEATURE_FILES: &[(&str, &[&str])] = &[
        ("plan", &["model", "config"]),
        ("back", &["model", "config"]),
        ("observe", &["model", "config", "aws", "docker", "probe", "journal"]),
        ("execute", &["model", "event", "aws", "docker", "process", "probe", "journal"]),
        // Parts of an executor and of an observer that fill files of their own.
        ("push", &["model", "event", "aws", "docker"]),
        ("findings", &["model", "event", "aws"]),
        ("sbom", &["model", "event", "aws", "docker"]),
        ("copy", &["model", "event", "aws", "docker"]),
        ("promoted", &["model"]),
        ("prebuilt", &["model", "config", "aws", "docker", "probe"]),
    ];
    /// What the other files of a feature may name (`classify`, `scan`, `watch`, `explain`).
    const FEATURE_OWN: &[&str] = &["model", "aws"];

    const FEATURES: &[&str] = &["site", "cdn", "image", "migration", "service"];

    /// Crates that one room alone may name, or two: a registry is asked over HTTP as a page is.
    const OWNED_CRATES: &[(&str, &str)] =
        &[("aws_", "aws"), ("bollard", "docker"), ("reqwest", "probe docker"), ("clap", "cli"), ("indicatif", "report")];

    /// The rooms that a source text names: `crate::room`, `windlass::room`, and each of `crate::{room, room::x}`.
    fn named(text: &str) -> BTreeSet<String> {
        let code = without_comments_and_tests(text);
        let mut rooms = BTreeSet::new();
        for root in ["crate::", "windlass::"] {
            for (at, _) in code.match_indices(root) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let rest = &code[at + root.len()..];
                let heads = if rest.starts_with('{') { heads(rest) } else { vec![rest] };
                for head in heads {
                    let mut parts =
                        head.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next().unwrap_or_default().split("::");
                    let room = parts.next().unwrap_or_default();
                    let file = parts.next().filter(|_| FEATURES.contains(&room)).unwrap_or_default();
                    if !room.is_empty() && !room.starts_with(char::is_uppercase) {
                        rooms.insert(if file.is_empty() { room.to_owned() } else { format!("{room}/{file}") });
                    }
                }
            }
        }
        rooms
    }

    /// The parts of a braced list, split at its own commas.
    fn heads(list: &str) -> Vec<&str> {
        let mut depth = 0;
        let mut parts = Vec::new();
        let mut start = 1;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => {
                    parts.push(list[start..at].trim());
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    parts.push(list[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts
    }

    fn without_comments_and_tests(text: &str) -> String {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
        code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }

    /// Why the file at `path` (from `src`) may not name `room`, if it may not.
    fn forbidden(path: &str, room: &str) -> Option<String> {
        let (own, file) = path.split_once('/').unwrap_or((path.trim_end_matches(".rs"), ""));
        let file = file.trim_end_matches(".rs");
        let target = room.split('/').next().unwrap_or(room);
        let is_feature = FEATURES.contains(&target);
        if target == own || matches!(target, "as_text" | "crate") {
            return None;
        }
        // What is below `execute/` belongs to `execute`.
        let file = file.split('/').next().unwrap_or(file);
        let allowed: &[&str] = if FEATURES.contains(&own) {
            // What executes may need several files: `execute_back`, `execute_health`.
            let kind = if file.starts_with("execute_") { "execute" } else { file };
            FEATURE_FILES.iter().find(|(name, _)| *name == kind).map_or(FEATURE_OWN, |(_, allowed)| allowed)
        } else {
            ROOMS.iter().find(|(name, _)| *name == own).map(|(_, allowed)| *allowed)?
        };
        let ok = allowed.contains(&target) || (is_feature && (allowed.contains(&"F") || (allowed.contains(&"F/plan") && pure(room))));
        (!ok).then(|| format!("src/{path} names `{room}`; it may name {allowed:?}"))
    }

    /// Is it the pure part of a feature? `scan`, `classify` and `retention` of a site hold values that plans are made of.
    fn pure(room: &str) -> bool {
        matches!(room.split_once('/'), Some((_, "plan" | "checkout" | "classify" | "handler" | "scan" | "retention")))
            || FEATURES.contains(&room)
    }

    fn breaches(files: &BTreeMap<String, String>) -> Vec<String> {
        let mut found = Vec::new();
        for (path, text) in files.iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
            found.extend(named(text).iter().filter_map(|room| forbidden(path, room)));
            let own = path.split('/').next().unwrap_or(path);
            let code = without_comments_and_tests(text);
            for (name, room) in OWNED_CRATES {
                let names_it = code.match_indices(name).any(|(at, _)| {
                    let word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
                    let path = code[at..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').starts_with("::");
                    word && path
                });
                if names_it && !room.split(' ').any(|room| room == own) {
                    found.push(format!("src/{path} names the crate `{name}`, which only `{room}` may"));
                }
            }
        }
        found
    }

    fn source() -> BTreeMap<String, String> {
        fn read(directory: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, root, files);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read_to_string(&path).unwrap());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        read(&root, &root, &mut files);
        files
    }

    #[test]
    fn every_room_names_only_what_the_table_allows() {
        let files = source();
        assert!(files.len() > 50, "the source was not found");
        let found = breaches(&files);
        assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    }

    #[test]
    fn every_room_is_in_the_table() {
        for path in source().keys() {
            let room = path.split('/').next().unwrap().trim_end_matches(".rs");
            assert!(FEATURES.contains(&room) || ROOMS.iter().any(|(name, _)| *name == room), "the room `{room}` is not in the table");
        }
    }

    #[test]
    fn a_planted_import_is_caught() {
        for (path, text) in [
            ("model/name.rs", "use crate::aws::Aws;"),
            ("site/plan.rs", "use crate::aws::Aws;"),
            ("site/execute.rs", "use crate::config::Site;"),
            ("site/execute.rs", "fn f() { crate::cdn::execute::invalidate(); }"),
            ("aws/s3.rs", "use crate::{model::Sha256, event::Events};"),
            ("plan/mod.rs", "use crate::site::execute;"),
            ("report/line.rs", "use crate::release::World;"),
            ("release/mod.rs", "use crate::cli::main;"),
            ("service/execute.rs", "let x: aws_sdk_ecs::Client = todo;"),
            ("image/execute.rs", "use bollard::Docker;"),
            ("process/run.rs", "use crate::event::Events;"),
        ] {
            let planted = BTreeMap::from([(path.to_owned(), text.to_owned())]);
            assert_eq!(breaches(&planted).len(), 1, "{path}: {text}: {:?}", breaches(&planted));
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        for (path, text) in [
            ("site/observe.rs", "use crate::aws::Aws; use crate::journal::{Journal, Live}; use super::plan::X;"),
            ("plan/mod.rs", "use crate::{cdn, site}; use crate::site::plan::SitePlan;"),
            ("cli/plan.rs", "use crate::release; // crate::nothing"),
            ("model/name.rs", "//! as `crate::aws` does\nuse crate::model::Invalid;"),
        ] {
            let files = BTreeMap::from([(path.to_owned(), text.to_owned())]);
            assert_eq!(breaches(&files), Vec::<String>::new());
        }
    }
}
