//! Services of Compose that are made of another service's image: workers, and one code that serves as several.
//!
//! Each is a service of its own on ECS, and would stay with the old code, beside a new schema, if a release passed it over.

use super::compose::{Composed, chief};
use super::container::NOT_RELEASED;
use super::naming::plain;
use super::units::Built;
use super::{Notes, Place, Topic};

/// Adds them behind the services that Dockerfiles were found for. Names are still to be given.
pub(super) fn add(services: &mut Vec<Built>, composed: &[Composed], notes: &mut Notes<'_>) {
    let mut found = Vec::new();
    for built in services.iter_mut() {
        let Some(chief) = built.chosen.as_ref().and_then(|chosen| chief(composed, &chosen.dockerfile.file)) else { continue };
        for service in composed.iter().filter(|service| service.dockerfile == chief.dockerfile && service.name != chief.name) {
            if !wanted(service, &built.service.directory, notes) {
                continue;
            }
            // One that runs what the image says is of the same rank, and the directory's name says nothing of either.
            if service.command.is_none() {
                built.said = Some(plain(&chief.name));
            }
            found.extend(sibling(built, service, notes));
        }
    }
    services.extend(found);
}

/// Is it one that a release rolls?
fn wanted(service: &Composed, directory: &str, notes: &mut Notes<'_>) -> bool {
    let name = &service.name;
    let why = match (notes.answers.get(Topic::Kind, name), service.once) {
        (Some("service"), _) | (None, None) => return true,
        (Some(_), _) => format!("Compose's `{name}`: left out, as --as says"),
        (None, Some(why)) => {
            format!("Compose's `{name}` has the same image, and {why}: no service of a release (`--as {name}=service` takes it)")
        }
    };
    notes.unused(directory, why, service.at.clone());
    false
}

fn sibling(built: &Built, service: &Composed, notes: &mut Notes<'_>) -> Option<Built> {
    let mut chosen = built.chosen.clone()?;
    let last = chosen.dockerfile.stages.last().map(|stage| stage.name.clone()).unwrap_or_default();
    let target = match service.target.clone().filter(|target| !NOT_RELEASED.contains(&target.as_str())) {
        Some(target) => Some(target).filter(|target| *target != last),
        None if NOT_RELEASED.contains(&last.as_str()) => built.service.target.clone(),
        None => None,
    };
    let runs = service.command.as_ref().map_or(String::new(), |command| format!(", and runs `{command}`"));
    let what = match &target {
        Some(target) if built.service.target.as_ref() != Some(target) => format!("is its stage `{target}`{runs}"),
        _ => format!("has the same image{runs}"),
    };
    notes.used(&built.service.directory, format!("Compose's `{}` {what}: a service", service.name), service.at.clone());
    chosen.target.clone_from(&target);
    chosen.context.clone_from(&service.context);
    chosen.dockerfile.select(target.as_deref());
    let reached = service.command.is_none() || service.ports;
    let mut own = built.service.clone();
    own.at = service.at.clone();
    own.path.clone_from(&service.context);
    own.target = target;
    own.reached = reached;
    own.health = own.health.filter(|_| reached);
    own.port = chosen.dockerfile.end.port.filter(|_| reached).map(|(port, line)| (port, Place::line(&chosen.dockerfile.file, line)));
    Some(Built { service: own, project: None, chosen: Some(chosen), said: Some(plain(&service.name)), like: true })
}

/// Once they have names: whose image each of them has.
pub(super) fn share(services: &mut [Built]) {
    for at in 1..services.len() {
        let (before, rest) = services.split_at_mut(at);
        let own = &mut rest[0];
        if !own.like {
            continue;
        }
        let same = |other: &&Built| {
            let (one, other) = (&own.service, &other.service);
            one.dockerfile == other.dockerfile && one.path == other.path && one.target == other.target
        };
        own.service.image_of = before.iter().find(same).map(|other| other.service.name.clone());
    }
}

/// The names of those that were found with a service, whose code they run.
pub(super) fn names(service: &Built, services: &[Built]) -> Vec<String> {
    let of_it = |other: &&Built| other.like && other.service.dockerfile == service.service.dockerfile;
    services.iter().filter(of_it).map(|other| other.service.name.clone()).collect()
}
