//! What no type can say: that a name refers to something, and that one thing is said once.

use std::collections::BTreeMap;

use crate::model::yaml::{Node, Place};
use crate::model::{Mask, UnitName, sensitive};

use super::read::Problem;
use super::{Config, Image, Service, Site, SiteSource};

/// Finds where a configuration contradicts itself or names what is not there.
pub(super) fn references(config: &Config, file: &Node, problems: &mut Vec<Problem>) {
    names_are_unique(config, file, problems);
    for (name, site) in &config.sites {
        problems.extend(self::site(config, file, name, site).err());
    }
    problems.extend(same_keys_twice(config, file).err());
    problems.extend(same_service_twice(config, file).err());
    if let Some(registry) = config.registry.as_ref().filter(|registry| registry.contains("://") || registry.ends_with('/')) {
        let problem = Problem::new(place(file, &["registry"]), format!("`{registry}` is no registry's host"));
        let host = registry.rsplit("://").next().unwrap_or(registry).trim_end_matches('/');
        problems.push(problem.hint(format!("write it without a scheme, and without `/` at its end: `{host}`")));
    }
    for (name, service) in &config.services {
        problems.extend(self::service(config, file, name, service).err());
    }
    for (name, migration) in &config.migrations {
        problems.extend(super::check_migration::migration(config, file, name, migration).err());
    }
    if config.sites.is_empty() && config.services.is_empty() && config.migrations.is_empty() {
        let problem = Problem::new(file.place, "the configuration names nothing to release");
        problems.push(problem.hint("add `sites`, `services` or `migrations`; `windlass schema` prints what they hold"));
    }
}

/// The place of `path`'s last key that is in the file.
pub(super) fn place(file: &Node, path: &[&str]) -> Place {
    let mut node = file;
    let mut place = file.place;
    for key in path {
        let Some(entry) = node.entries().iter().find(|entry| entry.key == *key) else { break };
        place = entry.place;
        node = &entry.value;
    }
    place
}

/// Units are selected by name alone (`windlass release web api`).
fn names_are_unique(config: &Config, file: &Node, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&UnitName, &str> = BTreeMap::new();
    let all = (config.sites.keys().map(|name| ("sites", name)))
        .chain(config.services.keys().map(|name| ("services", name)))
        .chain(config.migrations.keys().map(|name| ("migrations", name)));
    for (section, name) in all {
        if let Some(first) = seen.insert(name, section) {
            let message = format!("`{name}` stands under `{first}` and under `{section}`");
            let problem = Problem::new(place(file, &[section, name.as_str()]), message);
            problems.push(problem.hint("give each unit a name of its own: units are selected by it"));
        }
    }
}

fn site(config: &Config, file: &Node, name: &UnitName, site: &Site) -> Result<(), Problem> {
    let at = |key| place(file, &["sites", name.as_str(), key]);
    match site.source() {
        None => {
            let problem =
                Problem::new(at(""), format!("site `{name}` needs one of `build`, `buildspec`, `prebuilt: true` and `from_image`"));
            return Err(problem.hint(
                "name exactly one way in which its files come to be; an environment takes back the file's own by leaving that key empty",
            ));
        }
        Some(SiteSource::FromImage(from)) if !config.services.contains_key(&from.service) => {
            return Err(unknown(at("from_image"), "service", &from.service, config.services.keys()));
        }
        Some(SiteSource::FromImage(from)) if !from.path.starts_with('/') || from.path.split('/').any(|part| part == "..") => {
            let problem = Problem::new(at("from_image"), format!("`{}` is no directory of an image", from.path));
            return Err(problem.hint("write the full path of it, without `..`: `/app/static`"));
        }
        Some(SiteSource::Build(_) | SiteSource::Buildspec(_) | SiteSource::Prebuilt | SiteSource::FromImage(_)) => {}
    }
    if site.prefix.starts_with('/') || site.prefix.ends_with('/') {
        return Err(Problem::new(at("prefix"), "a prefix has no `/` at its ends").hint("write `docs` for keys such as `docs/index.html`"));
    }
    if let Some(url) = site.url.as_ref().filter(|url| !url.is_empty() && !is_address(url)) {
        let problem = Problem::new(at("url"), format!("`{url}` is no address of a page"));
        let near = if url.contains("://") { "shop.example" } else { url.trim_start_matches('/') };
        return Err(problem.hint(format!("write it with its scheme and host: `https://{near}`")));
    }
    if let super::State::S3 { bucket, .. } = &config.state
        && *bucket == site.bucket
    {
        let problem = Problem::new(
            place(file, &["state"]),
            format!("the state lies in the bucket of site `{name}`, which is public through its distribution"),
        );
        return Err(problem.hint("name another private bucket for `state`"));
    }
    Ok(())
}

/// Two sites that write the same keys would undo each other's releases. One below a folder of the other is another matter: see [`inner`].
fn same_keys_twice(config: &Config, file: &Node) -> Result<(), Problem> {
    let sites: Vec<(&UnitName, &super::Site)> = config.sites.iter().collect();
    for (at, (name, site)) in sites.iter().enumerate() {
        let same = |other: &super::Site| other.bucket == site.bucket && other.prefix == site.prefix;
        let Some((first, _)) = sites[..at].iter().find(|(_, other)| same(other)) else { continue };
        let message = format!("sites `{first}` and `{name}` have the same bucket and prefix");
        let problem = Problem::new(place(file, &["sites", name.as_str(), "bucket"]), message);
        return Err(problem.hint("give each of them a `prefix` of its own, or a bucket"));
    }
    Ok(())
}

/// Two units that roll the same service on ECS would take each other's place, each with the other's old image.
fn same_service_twice(config: &Config, file: &Node) -> Result<(), Problem> {
    // Either may be written as an ARN, which ends with the name.
    let name_of = |text: &str| text.rsplit('/').next().unwrap_or(text).to_owned();
    let mut seen: BTreeMap<(String, String), &UnitName> = BTreeMap::new();
    for (name, service) in &config.services {
        let on_ecs = (name_of(&service.cluster), name_of(&service.service));
        if let Some(first) = seen.insert(on_ecs, name) {
            let message = format!("services `{first}` and `{name}` are the same service `{}` on ECS", service.service);
            let problem = Problem::new(place(file, &["services", name.as_str(), "service"]), message);
            return Err(problem.hint("make them one: a service on ECS is rolled by one unit, which brings one container's image"));
        }
    }
    Ok(())
}

/// The prefixes of other sites that lie within that of `site`, in the same bucket. The whole bucket is above every folder.
pub(super) fn inner(config: &Config, site: &Site) -> BTreeMap<String, UnitName> {
    let within = |other: &Site| match other.prefix.strip_prefix(&site.prefix) {
        Some(rest) if site.prefix.is_empty() => !rest.is_empty(),
        Some(rest) => rest.starts_with('/'),
        None => false,
    };
    let others = config.sites.iter().filter(|(_, other)| other.bucket == site.bucket && within(other));
    others.map(|(name, other)| (other.prefix.clone(), name.clone())).collect()
}

fn service(config: &Config, file: &Node, name: &UnitName, service: &Service) -> Result<(), Problem> {
    let at = |key| place(file, &["services", name.as_str(), key]);
    if let Some(name) = service.env.keys().find(|name| sensitive(name)) {
        let problem = Problem::new(at("env"), format!("the variable `{name}` looks secret, and would stand in plans and revisions"));
        return Err(problem.hint("put it under `secrets` in the task definition, from Secrets Manager or Parameter Store"));
    }
    if let Some(after) = service.after.iter().find(|after| !config.services.contains_key(after)) {
        return Err(unknown(at("after"), "service", after, config.services.keys()));
    }
    if waits_for_itself(config, name) {
        return Err(Problem::new(at("after"), format!("service `{name}` waits for itself")).hint("break the circle in `after`"));
    }
    if let Some(health) = service.health.as_ref().filter(|health| !health.is_empty())
        && !(health.starts_with('/') || is_address(health))
    {
        return Err(Problem::new(at("health"), format!("`{health}` is neither a path nor a URL")).hint("write `/healthz` or `https://…`"));
    }
    Ok(())
}

/// Has it a scheme that is asked over HTTP, and a host?
fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':']) && !rest.contains(char::is_whitespace))
}

/// Build arguments stay readable in the image's history and in the plan: nothing secret may be among them, by its name or its value.
pub(super) fn arguments(config: &Config, file: &Node, secrets: &Mask, problems: &mut Vec<Problem>) {
    for (name, service) in &config.services {
        let Image::Build(image) = &service.image else { continue };
        let secret = |(name, value): &(&String, &String)| (sensitive(name) && !value.is_empty()) || secrets.apply(value) != **value;
        if let Some((argument, _)) = image.args.iter().find(secret) {
            let at = place(file, &["services", name.as_str(), "image", "args", argument]);
            let what =
                format!("the build argument `{argument}` looks secret, and would stay readable in the image's history and in the plan");
            let hint = "fetch it at run time from Secrets Manager, or rename the argument if it is no secret";
            problems.push(Problem::new(at, what).hint(hint));
        }
    }
}

fn waits_for_itself(config: &Config, start: &UnitName) -> bool {
    let mut open: Vec<&UnitName> = config.services[start].after.iter().collect();
    let mut seen = Vec::new();
    while let Some(name) = open.pop() {
        if name == start {
            return true;
        }
        if !seen.contains(&name) {
            seen.push(name);
            open.extend(config.services.get(name).into_iter().flat_map(|service| &service.after));
        }
    }
    false
}

pub(super) fn unknown<'a>(place: Place, what: &str, name: &UnitName, known: impl Iterator<Item = &'a UnitName>) -> Problem {
    let known: Vec<&str> = known.map(UnitName::as_str).collect();
    let near = super::read::nearest(name.as_str(), &known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let problem = Problem::new(place, format!("there is no {what} `{name}`{near}"));
    problem.hint(format!("the file has: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") }))
}
