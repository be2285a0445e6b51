//! A buildspec from its text: the top, `env` and `phases`.
//!
//! Deliberately absent: YAML's types (`NO` is `NO`, `3.10` is `3.10`), and stopping at the first problem.

use crate::model::yaml::{self, Entry, Node, Place, SyntaxError, Value};

use super::problem::Problem;
use super::read_batch::batch;
use super::read_output::{artifacts, cache, reports};
use super::reading::{Reading, merged, place_of};
use super::spec::{Buildspec, Command, Env, OnFailure, Phase, PhaseName, SecretReference, Version};

pub(super) const TOP: &[&str] =
    &["version", "run-as", "env", "environment_variables", "proxy", "batch", "phases", "reports", "artifacts", "cache"];
pub(super) const ENV: &[&str] =
    &["shell", "variables", "parameter-store", "secrets-manager", "exported-variables", "git-credential-helper"];
pub(super) const PHASE: &[&str] = &["commands", "finally", "run-as", "on-failure"];
pub(super) const INSTALL: &[&str] = &["commands", "finally", "run-as", "on-failure", "runtime-versions"];

/// Reads a buildspec, with what is worth a warning.
///
/// # Errors
/// Every problem of the file; a syntax error alone, as nothing is known of what comes after it.
pub fn read(text: &str) -> Result<(Buildspec, Vec<Problem>), Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = yaml::parse(text).map_err(|error| vec![syntax(&error, text)])?;
    let mut reading = Reading::default();
    let root = merged(root, &mut reading);
    let buildspec = top(&root, &mut reading);
    reading.problems.sort_by_key(|problem| problem.place);
    reading.warnings.sort_by_key(|problem| problem.place);
    if reading.problems.is_empty() { Ok((buildspec, reading.warnings)) } else { Err(reading.problems) }
}

fn syntax(error: &SyntaxError, text: &str) -> Problem {
    let line = text.lines().nth(error.place.line.saturating_sub(1)).unwrap_or_default();
    let problem = Problem::new(error.place, format!("no valid YAML: {}", error.message));
    let cure = if line.contains(": ") && line.trim_start().starts_with("- ") {
        "a `: ` in a command ends a key: put the whole command in single quotes, or write it below `- |`"
    } else if line.contains('\t') {
        "YAML is indented by spaces, never by tabs"
    } else {
        "correct the line that is shown, or the one above it: its indentation, an open quote, or a `: ` that needs quotes around it"
    };
    problem.cure(cure).codebuild(format!("{} at line {}", error.message, error.place.line))
}

fn top(root: &Node, reading: &mut Reading) -> Buildspec {
    let mut buildspec = Buildspec::default();
    let start = Place { line: 1, column: 1 };
    if root.value == Value::Null {
        reading.refuse(Problem::new(start, "the buildspec is empty").cure("write at least `version: 0.2` and `phases`"));
        return buildspec;
    }
    if !matches!(root.value, Value::Mapping(_)) {
        let problem = Problem::new(root.place, format!("a buildspec is a mapping of keys to values, not {}", root.kind()));
        reading.refuse(problem.cure("begin with `version: 0.2`"));
        return buildspec;
    }
    match root.entries().iter().find(|entry| entry.key == "version") {
        None => reading.refuse(Problem::new(start, "the key `version` is missing").cure("begin the file with `version: 0.2`")),
        Some(entry) => buildspec.version = version(entry, reading).unwrap_or_default(),
    }
    let mut phases_there = false;
    for entry in root.entries() {
        let value = &entry.value;
        match entry.key.as_str() {
            "version" => {}
            "run-as" => buildspec.run_as = reading.some_text(value, "run-as"),
            "env" => env(value, &mut buildspec.env, reading),
            "environment_variables" => old_variables(entry, buildspec.version, &mut buildspec.env, reading),
            "proxy" => proxy(value, reading),
            "batch" => buildspec.batch = batch(value, reading),
            "phases" => {
                phases_there = true;
                phases(value, &mut buildspec.phases, reading);
            }
            "reports" => buildspec.reports = reports(value, reading),
            "artifacts" => buildspec.artifacts = artifacts(entry, reading),
            "cache" => buildspec.cache = cache(value, reading),
            _ => reading.unknown(entry, "", TOP),
        }
    }
    if !phases_there && buildspec.batch.is_none() {
        reading.warn(Problem::new(start, "there are no `phases`: nothing runs").cure("add `phases` with at least `build`"));
    }
    buildspec.phases.sort_by_key(|phase| phase.name);
    buildspec
}

fn version(entry: &Entry, reading: &mut Reading) -> Option<Version> {
    let text = reading.text(&entry.value, "version")?;
    match text.trim() {
        "0.2" => Some(Version::V02),
        "0.1" => Some(Version::V01),
        "" => {
            reading.refuse(Problem::new(entry.place, "`version` has no value").cure("write `version: 0.2`"));
            None
        }
        other => {
            let problem = Problem::new(place_of(entry), format!("`version: {other}` is no version of buildspecs"));
            reading.refuse(problem.cure("write `version: 0.2`; 0.1 and 0.2 are all that there are"));
            None
        }
    }
}

fn env(node: &Node, env: &mut Env, reading: &mut Reading) {
    for entry in reading.mapping(node, "env") {
        let value = &entry.value;
        match entry.key.as_str() {
            "shell" => env.shell = reading.some_text(value, "env/shell"),
            "variables" => env.variables.extend(named(entry, "env/variables", reading)),
            "parameter-store" => env.parameter_store = named(entry, "env/parameter-store", reading),
            "secrets-manager" => env.secrets_manager = secrets(entry, reading),
            "exported-variables" => env.exported_variables = exported(value, reading),
            "git-credential-helper" => {
                reading.yes(value, "env/git-credential-helper");
            }
            _ => reading.unknown(entry, "env", ENV),
        }
    }
}

/// Variables, with a warning for names that are `CodeBuild`'s own.
fn named(entry: &Entry, what: &str, reading: &mut Reading) -> Vec<(String, String)> {
    for own in entry.value.entries().iter().filter(|own| own.key.starts_with("CODEBUILD_")) {
        let problem = Problem::new(own.place, format!("`{}`: names that begin with `CODEBUILD_` are CodeBuild's own", own.key));
        reading.warn(problem.cure("give the variable another name").rule("reserved-name"));
    }
    reading.variables(&entry.value, what)
}

fn secrets(entry: &Entry, reading: &mut Reading) -> Vec<(String, SecretReference)> {
    let mut secrets = Vec::new();
    for (name, text) in named(entry, "env/secrets-manager", reading) {
        let secret = SecretReference::parse(&text);
        let place = entry.value.entries().iter().find(|own| own.key == name).map_or(entry.place, |own| own.value.place);
        if secret.secret_id.is_empty() {
            let problem = Problem::new(place, format!("`{name}` names no secret"));
            reading.refuse(problem.cure("write `secret-id`, or `secret-id:json-key`"));
        } else if secret.version_stage.is_some() && secret.version_id.is_some() {
            let problem = Problem::new(place, format!("`{name}` names both a version stage and a version id"));
            reading.refuse(problem.cure("leave one of them out: `secret-id:json-key:stage` or `secret-id:json-key::id`"));
        }
        secrets.push((name, secret));
    }
    secrets
}

fn exported(node: &Node, reading: &mut Reading) -> Vec<String> {
    let names = reading.texts(node, "env/exported-variables");
    for name in names.iter().filter(|name| name.starts_with("AWS_")) {
        let problem = Problem::new(node.place, format!("`{name}` is not exported: no variable whose name begins with `AWS_` is"));
        reading.warn(problem.cure("export it under another name").rule("exported-name"));
    }
    names
}

/// `environment_variables/plaintext` of 0.1, which also stands in files of 0.2.
fn old_variables(entry: &Entry, version: Version, env: &mut Env, reading: &mut Reading) {
    if version == Version::V02 {
        let problem = Problem::new(entry.place, "`environment_variables` is a key of version 0.1; its variables are set all the same");
        reading.warn(problem.cure("write them as `env/variables`").rule("old-key"));
    }
    for inner in reading.mapping(&entry.value, "environment_variables") {
        match inner.key.as_str() {
            "plaintext" => {
                let older: Vec<_> = named(inner, "environment_variables/plaintext", reading)
                    .into_iter()
                    .filter(|(name, _)| !env.variables.iter().any(|(known, _)| known == name))
                    .collect();
                env.variables.extend(older);
            }
            _ => reading.unknown(inner, "environment_variables", &["plaintext"]),
        }
    }
}

fn proxy(node: &Node, reading: &mut Reading) {
    for entry in reading.mapping(node, "proxy") {
        match entry.key.as_str() {
            "upload-artifacts" | "logs" => {
                reading.yes(&entry.value, &entry.key);
            }
            _ => reading.unknown(entry, "proxy", &["upload-artifacts", "logs"]),
        }
    }
}

fn phases(node: &Node, phases: &mut Vec<Phase>, reading: &mut Reading) {
    for entry in reading.mapping(node, "phases") {
        if let Some(name) = PhaseName::ALL.into_iter().find(|name| name.key() == entry.key) {
            phases.push(phase(name, &entry.value, reading));
            continue;
        }
        let keys = PhaseName::ALL.map(PhaseName::key);
        let near = keys.iter().map(|key| (strsim::jaro_winkler(key, &entry.key), *key)).max_by(|a, b| a.0.total_cmp(&b.0));
        let near = near.filter(|(score, _)| *score > 0.8).map_or(String::new(), |(_, key)| format!("; did you mean `{key}`?"));
        let problem = Problem::new(entry.place, format!("`{}` is no phase{near}", entry.key));
        let words = format!("Invalid buildspec phase name: {}. Expecting: BUILD,INSTALL,POST_BUILD,PRE_BUILD", entry.key.to_uppercase());
        reading.refuse(problem.cure("the phases are install, pre_build, build and post_build").codebuild(words));
    }
}

fn phase(name: PhaseName, node: &Node, reading: &mut Reading) -> Phase {
    let mut phase = Phase { name, commands: Vec::new(), finally: Vec::new(), run_as: None, on_failure: None, runtime_versions: Vec::new() };
    let known = if name == PhaseName::Install { INSTALL } else { PHASE };
    for entry in reading.mapping(node, name.key()) {
        let value = &entry.value;
        match entry.key.as_str() {
            "commands" => phase.commands = commands(value, name, "Commands", reading),
            "finally" => phase.finally = commands(value, name, "Finally", reading),
            "run-as" => phase.run_as = reading.some_text(value, "run-as"),
            "on-failure" => phase.on_failure = on_failure(value, reading),
            "runtime-versions" if name == PhaseName::Install => {
                phase.runtime_versions = reading.variables(value, "runtime-versions");
            }
            _ => reading.unknown(entry, &format!("phases/{}", name.key()), known),
        }
    }
    phase
}

fn commands(node: &Node, phase: PhaseName, list: &str, reading: &mut Reading) -> Vec<Command> {
    let items = match &node.value {
        Value::Null => return Vec::new(),
        Value::Sequence(items) => items.as_slice(),
        Value::Scalar { text, .. } => {
            let problem =
                Problem::new(node.place, format!("`{}` of `{}` is one text where a list belongs", list.to_lowercase(), phase.key()));
            reading.warn(problem.cure("write it as a list of one: `- …`").rule("no-list"));
            return vec![Command { text: text.clone(), place: node.place }];
        }
        Value::Mapping(_) => {
            let problem =
                Problem::new(node.place, format!("`{}` of `{}` is a mapping where a list belongs", list.to_lowercase(), phase.key()));
            reading.refuse(problem.cure("begin every command with `- `"));
            return Vec::new();
        }
    };
    let mut commands = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match &item.value {
            Value::Scalar { text, .. } => commands.push(Command { text: text.trim_end_matches('\n').to_owned(), place: item.place }),
            Value::Null => {
                let problem = Problem::new(item.place, format!("command {} of `{}` is empty, and is passed over", index + 1, phase.key()));
                reading.warn(problem.cure("remove the `-`, or write the command after it").rule("empty-command"));
            }
            Value::Mapping(entries) => reading.refuse(colon(index, phase, list, item, entries)),
            Value::Sequence(_) => {
                let problem = Problem::new(item.place, format!("command {} of `{}` is a list", index + 1, phase.key()));
                let problem = problem.cure("take its items into the list around it; a command that begins with `[` or `- ` needs quotes");
                reading.refuse(problem.codebuild(expected(list, index, item.place)));
            }
        }
    }
    commands
}

/// By far the most common mistake: a command with a `: ` in it is a key and a value to YAML.
fn colon(index: usize, phase: PhaseName, list: &str, item: &Node, entries: &[Entry]) -> Problem {
    let key = entries.first().map(|entry| entry.key.as_str()).unwrap_or_default();
    let (message, cure) = match entries.first() {
        Some(Entry { value: Node { value: Value::Scalar { text, .. }, .. }, .. }) => {
            let whole = format!("{key}: {text}");
            let quoted = if whole.contains('\'') { format!("- |\n          {whole}") } else { format!("- '{whole}'") };
            (format!("YAML reads it as a key and a value, because of the `: ` after `{key}`"), format!("quote the whole command: {quoted}"))
        }
        _ => (
            format!("YAML reads it as a mapping, because of the colon after `{key}` or a `{{` at its start"),
            "quote the whole command, or write it below `- |`".to_owned(),
        ),
    };
    let problem = Problem::new(item.place, format!("command {} of `{}` is no text: {message}", index + 1, phase.key()));
    problem.cure(cure).codebuild(expected(list, index, item.place)).rule("colon")
}

fn expected(list: &str, index: usize, place: Place) -> String {
    let above = place.line.saturating_sub(1);
    format!(
        "Expected {list}[{index}] to be of string type: found subkeys instead at line {}, value of the key tag on line {above} might be empty",
        place.line
    )
}

fn on_failure(node: &Node, reading: &mut Reading) -> Option<OnFailure> {
    let text = reading.some_text(node, "on-failure")?;
    let upper = text.to_ascii_uppercase();
    let parsed = match upper.as_str() {
        "ABORT" => Some(OnFailure::Abort),
        "CONTINUE" => Some(OnFailure::Continue),
        "RETRY" => Some(OnFailure::Retry { count: 3, pattern: None }),
        _ if upper.starts_with("RETRY-") => Some(retry(&text["RETRY-".len()..])),
        _ => None,
    };
    match &parsed {
        None => {
            let problem = Problem::new(node.place, format!("`on-failure: {text}` is not one of its forms"));
            reading.refuse(problem.cure("ABORT, CONTINUE, RETRY, RETRY-count, RETRY-regex or RETRY-count-regex"));
        }
        Some(OnFailure::Retry { count, .. }) if *count > 100 => {
            reading
                .refuse(Problem::new(node.place, format!("`on-failure: {text}` retries more than 100 times")).cure("0 to 100 is allowed"));
        }
        Some(OnFailure::Retry { pattern: Some(pattern), .. }) => {
            if let Err(error) = regex::Regex::new(pattern) {
                let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                let problem = Problem::new(node.place, format!("`{pattern}` in `on-failure` is no regular expression: {why}"));
                reading.refuse(problem.cure("correct the expression, or leave it out"));
            }
        }
        Some(_) => {}
    }
    parsed
}

/// `count`, `regex` or `count-regex`.
fn retry(text: &str) -> OnFailure {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let (count, pattern) = match (number.is_empty(), rest.strip_prefix('-')) {
        (false, Some(pattern)) => (number.parse().unwrap_or(u32::MAX), pattern),
        (false, None) if rest.is_empty() => (number.parse().unwrap_or(u32::MAX), ""),
        _ => (3, text),
    };
    OnFailure::Retry { count, pattern: Some(pattern).filter(|pattern| !pattern.is_empty()).map(str::to_owned) }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
