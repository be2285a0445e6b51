//! `runtime-versions`: by what the image says (`runtimes.yml`), else by what the machine has.
//!
//! AWS's images name for every version of a runtime the commands that select it; they run in `DOWNLOAD_SOURCE`, before the phases.
//! <https://github.com/aws/aws-codebuild-docker-images/blob/master/ubuntu/standard/7.0/runtimes.yml>
//! Elsewhere the program on the `PATH` is taken if its version fits, then what mise, asdf, nvm, pyenv, rbenv or goenv have. What nobody has
//! is a warning, as in `CodeBuild` with an image that has no `runtimes.yml`; or a failure where the order says so.

use std::path::Path;

use super::order::Order;
use super::result::{PhaseResult, Status};
use super::run::{Build, ended};
use super::spec::{Command, Phase, PhaseName};
use crate::model::yaml::{self, Node, Place};

/// Where AWS's images have it.
const RUNTIMES: &str = "/codebuild/image/config/runtimes.yml";
const SELECT: &str = include_str!("tools/select-runtime");

/// Selects the runtimes for the commands to come.
///
/// # Errors
/// A runtime or version that the image does not know, in the words of `CodeBuild`; a command that fails; or a runtime that is not there
/// and has to be.
pub(super) async fn select(build: &mut Build<'_>) -> Result<(), PhaseResult> {
    let wanted: Vec<(String, String)> = build.buildspec.phases.iter().flat_map(|phase| phase.runtime_versions.clone()).collect();
    if wanted.is_empty() {
        build.log.agent("No runtime version selected in buildspec.");
        return Ok(());
    }
    let log = build.log;
    let versions: Vec<String> = wanted.iter().map(|(_, version)| version.clone()).collect();
    let versions = build.shell.expand(&versions, |line| log.output(line)).await.unwrap_or(versions);
    let wanted: Vec<(String, String)> = wanted.into_iter().map(|(name, _)| name).zip(versions).collect();
    let Some(known) = known(build).await else { return by_the_machine(build, &wanted).await };
    let mut selected: Vec<(String, String)> = Vec::new();
    for (name, version) in &wanted {
        choose(&known, name, version, &mut selected)?;
    }
    for (name, version) in selected {
        log.agent(format!("Selecting '{name}' runtime version '{version}' based on manual selections..."));
        for text in commands(&known, &name, &version) {
            run(build, &text).await?;
        }
    }
    Ok(())
}

/// The image's own list.
async fn known(build: &mut Build<'_>) -> Option<Node> {
    let text = match build.order {
        Order { runtimes: Some(path), .. } => std::fs::read_to_string(path).ok(),
        Order { container: None, .. } => std::fs::read_to_string(Path::new(RUNTIMES)).ok(),
        _ => {
            let mut text = String::new();
            let script = format!("cat {RUNTIMES} 2>/dev/null || true\n");
            let read = build.shell.own(script.as_bytes(), std::future::pending(), |line| text.extend([line, "\n"])).await;
            read.ok().map(|()| text).filter(|text| !text.trim().is_empty())
        }
    };
    yaml::parse(&text?).ok()?.get("runtimes").cloned()
}

/// Adds a runtime, after what it requires.
fn choose(known: &Node, name: &str, version: &str, selected: &mut Vec<(String, String)>) -> Result<(), PhaseResult> {
    let refused = |message: String| PhaseResult::failed("YAML_FILE_ERROR", message);
    let names = |node: &Node| node.entries().iter().map(|entry| entry.key.clone()).collect::<Vec<_>>().join(", ");
    let Some(runtime) = known.get(name) else {
        return Err(refused(format!("Unknown runtime named '{name}'. This build image has the following runtimes: {}", names(known))));
    };
    let empty = Node { place: Place { line: 1, column: 1 }, value: yaml::Value::Null };
    let versions = runtime.get("versions").unwrap_or(&empty);
    let Some(version) = fitting(versions, version) else {
        let has = names(versions);
        let message = format!("Unknown runtime version named '{version}' of {name}. This build image has the following versions: {has}");
        return Err(refused(message));
    };
    if selected.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let requires = versions.get(&version).and_then(|entry| entry.get("requires"));
    for entry in requires.map(Node::entries).unwrap_or_default() {
        if !selected.iter().any(|(known, _)| *known == entry.key)
            && let yaml::Value::Sequence(any) = &entry.value.value
            && let Some(yaml::Value::Scalar { text, .. }) = any.first().map(|item| &item.value)
        {
            choose(known, &entry.key, text, selected)?;
        }
    }
    selected.push((name.to_owned(), version));
    Ok(())
}

/// The version itself, the newest of `18.x`, or of all for `latest`.
fn fitting(versions: &Node, wanted: &str) -> Option<String> {
    let wanted = wanted.trim();
    if versions.get(wanted).is_some() {
        return Some(wanted.to_owned());
    }
    let begins = wanted.strip_suffix(".x");
    let fits =
        |version: &str| wanted == "latest" || begins.is_some_and(|begins| version == begins || version.starts_with(&format!("{begins}.")));
    let numbers = |version: &str| version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect::<Vec<u64>>();
    let all = versions.entries().iter().map(|entry| entry.key.as_str()).filter(|version| fits(version));
    all.max_by_key(|version| numbers(version)).map(str::to_owned)
}

fn commands(known: &Node, name: &str, version: &str) -> Vec<String> {
    let entry = known.get(name).and_then(|runtime| runtime.get("versions")?.get(version)?.get("commands"));
    let Some(yaml::Value::Sequence(items)) = entry.map(|entry| &entry.value) else { return Vec::new() };
    let text = |item: &Node| match &item.value {
        yaml::Value::Scalar { text, .. } => Some(text.trim_end().to_owned()),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

/// Runs a command of the image's list as one of the build's.
async fn run(build: &mut Build<'_>, text: &str) -> Result<(), PhaseResult> {
    let command = Command { text: text.to_owned(), place: Place { line: 1, column: 1 } };
    let phase = Phase {
        name: PhaseName::Install,
        commands: vec![command],
        finally: Vec::new(),
        run_as: Some("root".to_owned()).filter(|_| build.order.container.is_some()),
        on_failure: None,
        runtime_versions: Vec::new(),
    };
    let ran = super::phase::run(build, &phase).await;
    if ran.result.status == Status::Succeeded { Ok(()) } else { Err(ran.result) }
}

async fn by_the_machine(build: &mut Build<'_>, wanted: &[(String, String)]) -> Result<(), PhaseResult> {
    let log = build.log;
    for (name, version) in wanted {
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        let mut answer = String::new();
        if plain(name) && plain(version) {
            let script = format!("wanted_name={name} wanted_version={version}\n{SELECT}");
            let asked = build.shell.own(script.as_bytes(), std::future::pending(), |line| line.clone_into(&mut answer)).await;
            asked.map_err(|failure| ended(failure, "select-runtime"))?;
        }
        match answer.split_once(' ').unwrap_or(("none", "")) {
            ("have", version) => log.agent(format!("Using {name} {version} of the PATH")),
            ("path", folder) => {
                log.agent(format!("Using {name} {version} of {folder}"));
                build
                    .shell
                    .prepend_path(folder, (name == "java").then_some("JAVA_HOME"))
                    .map_err(|error| ended(error.into(), "select-runtime"))?;
            }
            (_, other) => {
                let has = if other.is_empty() { "there is none".to_owned() } else { format!("the PATH has {other}") };
                let message =
                    format!("{name} {version} is not here: {has}, and no version manager (mise, asdf, nvm, pyenv, rbenv, goenv) has it");
                if build.order.require_runtimes {
                    return Err(PhaseResult::failed("CLIENT_ERROR", message));
                }
                log.warn(format!("Skipping install of runtimes. {message}; install it, run with --image, or fail by --require-runtimes"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "android:\n  versions:\n    29:\n      requires: {java: [corretto8]}\n      commands: [a29]\njava:\n  versions:\n    corretto8:\n      commands: [j8]\n    corretto11:\n      commands: [j11]\npython:\n  versions:\n    3.9: {commands: [p9]}\n    3.10: {commands: [p10]}\n    3.8: {commands: [p8]}\n";

    fn chosen(name: &str, version: &str) -> Result<Vec<String>, String> {
        let mut selected = Vec::new();
        let known = yaml::parse(IMAGE).unwrap();
        choose(&known, name, version, &mut selected).map_err(|failed| failed.message)?;
        Ok(selected.iter().flat_map(|(name, version)| commands(&known, name, version)).collect())
    }

    #[test]
    fn a_version_is_a_text_and_may_be_the_newest() {
        assert_eq!(chosen("python", "3.10").unwrap(), ["p10"]);
        assert_eq!(chosen("python", "3.x").unwrap(), ["p10"]);
        assert_eq!(chosen("python", "latest").unwrap(), ["p10"]);
        assert_eq!(chosen("java", "corretto11").unwrap(), ["j11"]);
        assert_eq!(chosen("android", "29").unwrap(), ["j8", "a29"]);
    }

    #[test]
    fn what_the_image_does_not_know_is_refused_in_codebuilds_words() {
        assert_eq!(
            chosen("docker", "19").unwrap_err(),
            "Unknown runtime named 'docker'. This build image has the following runtimes: android, java, python"
        );
        assert_eq!(
            chosen("python", "3.1").unwrap_err(),
            "Unknown runtime version named '3.1' of python. This build image has the following versions: 3.9, 3.10, 3.8"
        );
    }
}
