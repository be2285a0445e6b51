//! What `docker-compose.yml` says of services that are built in the checkout.
//!
//! It describes a developer's machine: names, contexts and targets are taken from it, nothing else.

use crate::model::yaml::{Node, Value, parse};

use super::tree::Tree;
use super::{Place, path};

/// A service that is built from the checkout.
#[derive(Debug, Clone)]
pub(super) struct Composed {
    pub(super) name: String,
    pub(super) context: String,
    /// The Dockerfile, from the checkout's root.
    pub(super) dockerfile: String,
    pub(super) target: Option<String>,
    pub(super) command: Option<String>,
    pub(super) at: Place,
}

/// Every service with a `build`, and those images that are no part of the application, by their place.
pub(super) fn read(tree: &Tree) -> (Vec<Composed>, Vec<(String, Place)>) {
    let (mut built, mut images): (Vec<Composed>, Vec<(String, Place)>) = (Vec::new(), Vec::new());
    let mut files: Vec<&str> = tree.files().filter(|file| is_compose(path::name(file))).collect();
    // What is said of production counts first.
    files.sort_by_key(|file| !path::name(file).contains("prod"));
    for file in files {
        let Some(root) = tree.text(file).and_then(|text| parse(&text).ok()) else { continue };
        let Some(services) = root.get("services") else { continue };
        for entry in services.entries() {
            let at = Place::line(file, entry.place.line);
            // `<<: *django`: what another service says holds here, too.
            let how = entry.value.get("build").or_else(|| entry.value.get("<<")?.get("build"));
            match (how, entry.value.get("image").and_then(text)) {
                (Some(how), _) => {
                    let directory = path::parent(file);
                    let context = text(how).or_else(|| how.get("context").and_then(text)).unwrap_or(".");
                    let Some(context) = path::normal(&format!("{directory}/{context}")) else { continue };
                    let dockerfile = how.get("dockerfile").and_then(text).unwrap_or("Dockerfile");
                    let Some(dockerfile) = path::normal(&format!("{context}/{dockerfile}")) else { continue };
                    let target = how.get("target").and_then(text).map(str::to_owned);
                    let command = entry.value.get("command").and_then(words);
                    if !built.iter().any(|other| other.name == entry.key) {
                        built.push(Composed { name: entry.key.clone(), context, dockerfile, target, command, at });
                    }
                }
                (None, Some(image)) => images.push((image.to_owned(), at)),
                (None, None) => {}
            }
        }
    }
    (built, images)
}

/// `compose.yaml`, `docker-compose.production.yml`; those of a laptop and of tests say nothing of a release.
fn is_compose(name: &str) -> bool {
    let stem = name.strip_suffix(".yml").or_else(|| name.strip_suffix(".yaml")).unwrap_or_default();
    let stem = stem.strip_prefix("docker-").unwrap_or(stem);
    matches!(stem, "compose" | "compose.prod" | "compose.production" | "compose-prod" | "compose-production")
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn words(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        Value::Sequence(items) => Some(items.iter().filter_map(text).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}
