//! What a text may hold, wherever it stands: something at all, and nothing secret where it would be kept or seen.

use crate::model::sensitive;
use crate::model::yaml::{Node, Place, Value};

use super::check::place;
use super::read::Problem;
use super::{Config, Given, Image};

/// Names that AWS or the engine is asked for. Empty ones come from variables that are set to nothing, and may mean something else there: an
/// empty name of a cluster is the cluster `default`.
pub(super) fn are_filled(config: &Config, file: &Node, problems: &mut Vec<Problem>) {
    let mut refuse = |path: &[&str], value: Option<&str>| {
        if value.is_some_and(|value| value.trim().is_empty()) {
            let key = path.last().copied().unwrap_or_default();
            problems.push(Problem::new(place(file, path), format!("`{key}` is empty")).hint("fill it in, or leave the key out"));
        }
    };
    refuse(&["registry"], config.registry.as_deref());
    for (name, site) in &config.sites {
        let texts = [("build", &site.build), ("buildspec", &site.buildspec), ("distribution", &site.distribution), ("url", &site.url)];
        for (key, value) in texts {
            refuse(&["sites", name.as_str(), key], value.as_deref());
        }
    }
    for (name, service) in &config.services {
        let repository = match &service.image {
            Image::Build(image) => Some(image.repository.as_str()),
            Image::Prebuilt(_) | Image::Tag(_) => None,
        };
        refuse(&["services", name.as_str(), "image", "repository"], repository);
        for (key, value) in [("cluster", &service.cluster), ("service", &service.service), ("container", &service.container)] {
            refuse(&["services", name.as_str(), key], Some(value));
        }
        for (key, value) in [("health", &service.health), ("task_definition", &service.task_definition)] {
            refuse(&["services", name.as_str(), key], value.as_deref());
        }
    }
    for (name, migration) in &config.migrations {
        let texts = [
            ("function", &migration.function),
            ("zip", &migration.zip),
            ("task_definition", &migration.task_definition),
            ("container", &migration.container),
            ("snapshot", &migration.snapshot),
        ];
        for (key, value) in texts {
            refuse(&["migrations", name.as_str(), key], value.as_deref());
        }
    }
}

/// Where a value comes into the plan, which is kept in the state, and what to do instead.
const KEPT: [(&str, &str, &str); 5] = [
    ("services", "env", "put it under `secrets` in the task definition, from Secrets Manager or Parameter Store"),
    ("services", "health", "give the health check an address that needs no secret"),
    ("services", "health_holds", "let it hold a text that is no secret, such as `${GIT_COMMIT}`"),
    ("migrations", "command", "write it as one line with `$$` for the `$`: the shell that runs it reads the variable itself"),
    ("sites", "url", "give the page an address that needs no secret"),
];

/// Refuses variables that look secret where the plan, the state or a list of processes would show their values. `file` is as it was
/// written, before they are put in.
pub(super) fn keep_secrets(file: &Node, given: &Given, problems: &mut Vec<Problem>) {
    for (section, key, hint) in KEPT {
        for unit in file.get(section).map(Node::entries).unwrap_or_default() {
            let mut texts = Vec::new();
            unit.value.get(key).into_iter().for_each(|node| all_texts(node, &mut texts));
            for (text, at) in texts {
                let is_secret = |name: &&str| sensitive(name) && given.variables.get(*name).is_some_and(|value| !value.is_empty());
                if let Some(name) = variables(text).find(is_secret) {
                    let what = format!("the variable `{name}` looks secret, and its value would stand in the plan and in the state");
                    problems.push(Problem::new(at, what).hint(hint));
                }
            }
        }
    }
}

fn all_texts<'a>(node: &'a Node, to: &mut Vec<(&'a str, Place)>) {
    match &node.value {
        Value::Scalar { text, .. } => to.push((text, node.place)),
        Value::Sequence(items) => items.iter().for_each(|item| all_texts(item, to)),
        Value::Mapping(entries) => entries.iter().for_each(|entry| all_texts(&entry.value, to)),
        Value::Null => {}
    }
}

/// The variables that a text names, but for `$${…}`, which is the text itself.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let names = text.match_indices("${").filter(|(at, _)| !text[..*at].ends_with('$'));
    names.filter_map(|(at, _)| text[at + 2..].split_once('}').map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_that_are_put_in() {
        assert_eq!(variables("${A} $${B} x${C").collect::<Vec<_>>(), ["A"]);
        assert_eq!(variables("psql ${URL}/${NAME}").collect::<Vec<_>>(), ["URL", "NAME"]);
    }
}
