//! What a build would do, without doing any of it.

use super::batch_plan::plan;
use super::order::{Order, Source};
use super::problem::Problem;
use super::read::read;
use super::result::Refused;
use super::spec::{Buildspec, OnFailure, PhaseName};
use crate::model::{sensitive, yaml};

/// The lines of a plan; `None` of the values that they show is a secret's.
///
/// # Errors
/// The buildspec is refused.
pub fn outline(order: &Order, batch: bool) -> Result<String, Refused> {
    let (file, text) = match &order.buildspec {
        Source::Text { name, text } => (name.clone(), text.clone()),
        Source::File(name) => {
            let text = std::fs::read_to_string(order.source.join(name));
            let absent = |error: std::io::Error| {
                let problem = Problem::new(yaml::Place { line: 1, column: 1 }, format!("the buildspec cannot be read: {error}"));
                Refused { file: name.clone(), text: String::new(), problems: vec![problem.cure("name it with --buildspec")] }
            };
            (name.clone(), text.map_err(absent)?)
        }
    };
    let (buildspec, warnings) = read(&text).map_err(|problems| Refused { file: file.clone(), text, problems })?;
    let mut lines = vec![format!("{file} in {}", order.source.display())];
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    match order.container.as_ref() {
        Some(container) => lines.push(format!("runs in a container of {}", container.image)),
        None => lines.push("runs on this machine".to_owned()),
    }
    lines.push(format!("shell {}", buildspec.env.shell.as_deref().unwrap_or("sh")));
    lines.extend(variables(order, &buildspec));
    if batch {
        lines.extend(builds(order, &buildspec));
    }
    lines.extend(phases(&buildspec));
    lines.extend(outputs(&buildspec));
    lines.push("nothing was run".to_owned());
    Ok(order.mask.apply(&(lines.join("\n") + "\n")))
}

fn variables(order: &Order, buildspec: &Buildspec) -> Vec<String> {
    let shown = |name: &str, value: &str| if sensitive(name) { "***".to_owned() } else { value.replace('\n', "\\n") };
    let beaten =
        |name: &String| [&order.overrides, &order.project_variables].iter().any(|layer| layer.iter().any(|(known, _)| known == name));
    let env = &buildspec.env;
    let mut lines = Vec::new();
    let own = env.variables.iter().filter(|(name, _)| !beaten(name));
    lines.extend(own.map(|(name, value)| format!("variable {name}={}", shown(name, value))));
    lines.extend(
        env.parameter_store
            .iter()
            .filter(|(name, _)| !beaten(name))
            .map(|(name, parameter)| format!("variable {name} from the parameter {parameter}")),
    );
    let secrets = env.secrets_manager.iter().filter(|(name, _)| !beaten(name));
    lines.extend(secrets.map(|(name, secret)| {
        let key = secret.json_key.as_deref().map_or(String::new(), |key| format!(", key {key}"));
        format!("variable {name} from the secret {}{key}", secret.secret_id)
    }));
    for (layer, from) in [(&order.project_variables, "the project"), (&order.overrides, "the start of the build")] {
        let top = |name: &String| from != "the project" || !order.overrides.iter().any(|(known, _)| known == name);
        lines.extend(
            layer.iter().filter(|(name, _)| top(name)).map(|(name, value)| format!("variable {name}={} (from {from})", shown(name, value))),
        );
    }
    lines
}

fn builds(order: &Order, buildspec: &Buildspec) -> Vec<String> {
    let Some(batch) = &buildspec.batch else { return vec!["there is no batch".to_owned()] };
    let known = [&buildspec.env.variables, &order.project_variables, &order.overrides].into_iter().flatten();
    let known = known.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let line = |build: &super::batch_plan::Planned| {
        let after = if build.depend_on.is_empty() { String::new() } else { format!(" after {}", build.depend_on.join(", ")) };
        let image = build.image.as_deref().map_or(String::new(), |image| format!(", image {image}"));
        let file = build.buildspec.as_deref().map_or(String::new(), |file| format!(", {file}"));
        let names: Vec<String> =
            build.variables.iter().map(|(name, value)| format!(" {name}={}", if sensitive(name) { "***" } else { value })).collect();
        format!("build {}{after}{image}{file}{}", build.identifier, names.concat())
    };
    plan(batch, &known).iter().map(line).collect()
}

fn phases(buildspec: &Buildspec) -> Vec<String> {
    let mut lines = Vec::new();
    for phase in PhaseName::ALL.iter().filter_map(|name| buildspec.phase(*name)) {
        let user = phase.run_as.as_ref().or(buildspec.run_as.as_ref()).map_or(String::new(), |user| format!(" as {user}"));
        let failure = match &phase.on_failure {
            None => String::new(),
            Some(OnFailure::Abort) => ", ends the build if it fails".to_owned(),
            Some(OnFailure::Continue) => ", goes on if it fails".to_owned(),
            Some(OnFailure::Retry { count, .. }) => format!(", run again up to {count} time(s) if it fails"),
        };
        lines.push(format!("{}{user}{failure}", phase.name.api_name()));
        lines.extend(phase.runtime_versions.iter().map(|(name, version)| format!("  runtime {name} {version}")));
        for (mark, list) in [("$", &phase.commands), ("finally $", &phase.finally)] {
            lines.extend(list.iter().map(|command| format!("  {mark} {}", command.text.replace('\n', "\n    "))));
        }
    }
    lines
}

fn outputs(buildspec: &Buildspec) -> Vec<String> {
    let mut lines = Vec::new();
    for group in &buildspec.reports {
        lines.push(format!("report {} ({}): {}", group.name, group.format.api_name(), group.files.files.join(", ")));
    }
    let artifacts = buildspec.artifacts.iter();
    for artifacts in artifacts {
        let all = std::iter::once(("artifact".to_owned(), artifacts))
            .chain(artifacts.secondary.iter().map(|(name, one)| (format!("secondary artifact {name}"), one)));
        for (what, one) in all.filter(|(_, one)| !one.primary.files.is_empty()) {
            let base = one.primary.base_directory.as_deref().map_or(String::new(), |base| format!(" in {base}"));
            lines.push(format!("{what}: {}{base}", one.primary.files.join(", ")));
        }
    }
    if let Some(cache) = &buildspec.cache {
        let key = cache.key.as_deref().map_or(String::new(), |key| format!(" under {key}"));
        lines.push(format!("cache{key}: {}", cache.paths.join(", ")));
    }
    lines
}
