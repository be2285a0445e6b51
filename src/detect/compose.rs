//! What `docker-compose.yml` says of services that are built in the checkout.
//!
//! It describes a developer's machine: names, contexts and targets are taken from it, and which of its services are made of one image;
//! nothing else.

use crate::model::merge_keys::merged;
use crate::model::yaml::{Node, Value, parse};

use super::container::NOT_RELEASED;
use super::tree::Tree;
use super::{Place, path};

/// A service that is built from the checkout.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Composed {
    pub(super) name: String,
    pub(super) context: String,
    /// The Dockerfile, from the checkout's root.
    pub(super) dockerfile: String,
    pub(super) target: Option<String>,
    pub(super) command: Option<String>,
    /// Does it say a port that others reach it on?
    pub(super) ports: bool,
    /// Why it is nothing that runs all the time, if it is not.
    pub(super) once: Option<&'static str>,
    pub(super) at: Place,
}

/// Every service with a `build`, and those images that are no part of the application, by their place.
pub(super) fn read(tree: &Tree) -> (Vec<Composed>, Vec<(String, Place)>) {
    let (mut built, mut images): (Vec<Composed>, Vec<(String, Place)>) = (Vec::new(), Vec::new());
    let mut files: Vec<&str> = tree.files().filter(|file| is_compose(path::name(file))).collect();
    // What is said of production counts first.
    files.sort_by_key(|file| !path::name(file).contains("prod"));
    for file in files {
        // `<<: *django`: what another service says holds here, too.
        let Some(root) = tree.text(file).and_then(|text| parse(&text).ok()).map(|root| merged(root, &mut |_| ())) else { continue };
        let Some(services) = root.get("services") else { continue };
        let awaited: Vec<&str> = services.entries().iter().flat_map(|entry| awaited(&entry.value)).collect();
        for entry in services.entries() {
            let at = Place::line(file, entry.place.line);
            let (own, image) = (entry.value.get("build"), entry.value.get("image").and_then(text));
            // `extends: web`, or the image that another one builds.
            let like = || {
                let from = entry.value.get("extends");
                let other = from.and_then(|from| text(from).or_else(|| from.get("service").and_then(text)));
                let other = other.and_then(|other| services.get(other)).and_then(|other| other.get("build"));
                let makes = |other: &&Node| image.is_some() && other.get("image").and_then(text) == image;
                other.or_else(|| services.entries().iter().map(|other| &other.value).filter(makes).find_map(|other| other.get("build")))
            };
            match (own.or_else(like), image) {
                (Some(how), _) => {
                    let directory = path::parent(file);
                    let context = text(how).or_else(|| how.get("context").and_then(text)).unwrap_or(".");
                    let Some(context) = path::normal(&format!("{directory}/{context}")) else { continue };
                    let dockerfile = how.get("dockerfile").and_then(text).unwrap_or("Dockerfile");
                    let Some(dockerfile) = path::normal(&format!("{context}/{dockerfile}")) else { continue };
                    let target = how.get("target").and_then(text).map(str::to_owned);
                    let command = entry.value.get("command").and_then(words);
                    let ports = ["ports", "expose"].iter().any(|key| listed(&entry.value, key));
                    let name = entry.key.clone();
                    let once = if awaited.contains(&name.as_str()) {
                        Some("ends before others begin")
                    } else {
                        once(&name, &entry.value, command.as_deref(), ports)
                    };
                    if !built.iter().any(|other| other.name == entry.key) {
                        built.push(Composed { name, context, dockerfile, target, command, ports, once, at });
                    }
                }
                (None, Some(image)) => images.push((image.to_owned(), at)),
                (None, None) => {}
            }
        }
    }
    (built, images)
}

/// The service that stands for all that are made of a Dockerfile: the one that is reached, else one that runs what the image says.
pub(super) fn chief<'a>(composed: &'a [Composed], dockerfile: &str) -> Option<&'a Composed> {
    let of_it = || composed.iter().filter(|service| service.dockerfile == dockerfile);
    let rank = |service: &&Composed| (service.once.is_some(), !service.ports, service.command.is_some());
    // The first of those that are equal.
    of_it().min_by_key(rank)
}

/// Services that a service waits for until they have ended well.
fn awaited(service: &Node) -> impl Iterator<Item = &str> {
    let waits = service.get("depends_on").map(Node::entries).unwrap_or_default();
    let ended = |node: &Node| node.get("condition").and_then(text) == Some("service_completed_successfully");
    waits.iter().filter(move |entry| ended(&entry.value)).map(|entry| entry.key.as_str())
}

/// Does a service list something there?
fn listed(service: &Node, key: &str) -> bool {
    matches!(service.get(key), Some(Node { value: Value::Sequence(items), .. }) if !items.is_empty())
}

/// Why a service does not run all the time: it does one thing and ends, or is there for whoever asks for it.
fn once(name: &str, service: &Node, command: Option<&str>, ports: bool) -> Option<&'static str> {
    if listed(service, "profiles") {
        return Some("runs only where its profile is asked for");
    }
    if ports {
        return None;
    }
    if service.get("restart").and_then(text) == Some("no") {
        return Some("is not started again");
    }
    let named = |part: &str| {
        NOT_RELEASED.contains(&part)
            || matches!(part, "migrate" | "migration" | "migrations" | "migrator" | "seed" | "init" | "setup" | "shell" | "collectstatic")
    };
    if name.split(['-', '_', '.']).any(named) {
        return Some("is called like something that ends");
    }
    let command = command?;
    let serves = ["gunicorn", "uvicorn", "daphne", "runserver", "worker", "beat", "&& exec"].iter().any(|word| command.contains(word));
    let ends = ["migrate", "collectstatic", "loaddata", "createsuperuser", "pytest", "manage.py test", "npm test", "run test", "run seed"];
    (!serves && ends.iter().any(|word| command.contains(word))).then_some("runs something that ends")
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
