//! Which units a command is about.

use std::collections::BTreeSet;

use crate::config::{Config, Image, Migration, SiteSource};
use crate::model::{Exit, Failure, Stage, UnitName};

/// The units that the stages asked for are about.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// To be uploaded and published.
    pub(super) sites: BTreeSet<UnitName>,
    /// Services whose image is needed: to roll them, to migrate with it, or because a site's files lie in it.
    pub(super) images: BTreeSet<UnitName>,
    /// To be migrated.
    pub(super) migrations: BTreeSet<UnitName>,
    /// To be rolled.
    pub(super) services: BTreeSet<UnitName>,
}

/// The scope of `units` (all if empty). A service brings the migrations of its code along: it never rolls past them.
pub(super) fn scope(config: &Config, units: &[UnitName], stages: &[Stage]) -> Result<Scope, Failure> {
    let known: Vec<&UnitName> = config.sites.keys().chain(config.services.keys()).chain(config.migrations.keys()).collect();
    if let Some(unknown) = units.iter().find(|unit| !known.contains(unit)) {
        let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
        let failure = Failure::new(Exit::Config, format!("there is no unit `{unknown}` in the configuration"));
        return Err(failure.hint(format!("it has: {}", names.join(", "))));
    }
    let chosen = |name: &UnitName| units.is_empty() || units.contains(name);
    let has = |wanted: &[Stage]| wanted.iter().any(|stage| stages.contains(stage));
    let brought = |migration: &Migration| chosen(&migration.from) || migration.services.iter().any(chosen);
    let mut scope = Scope::default();
    if has(&[Stage::Assets, Stage::Publish]) {
        scope.sites = config.sites.keys().filter(|name| chosen(name)).cloned().collect();
    }
    if has(&[Stage::Migrations]) {
        let with_its_service = config.migrations.iter().filter(|(name, migration)| chosen(name) || brought(migration));
        scope.migrations = with_its_service.map(|(name, _)| name.clone()).collect();
    }
    if has(&[Stage::Services]) {
        scope.services = config.services.keys().filter(|name| chosen(name)).cloned().collect();
    }
    // A service that shares a database with others is migrated by the code of one that may not have been chosen, and does not roll.
    let before = has(&[Stage::Images, Stage::Migrations]);
    let migrated = config
        .migrations
        .iter()
        .filter(|(name, migration)| (chosen(name) || before && brought(migration)) && migration.image.is_none())
        .map(|(_, migration)| &migration.from);
    if has(&[Stage::Images, Stage::Migrations, Stage::Services]) {
        scope.images = config.services.keys().filter(|name| chosen(name)).chain(migrated).cloned().collect();
    }
    if has(&[Stage::Assets, Stage::Images]) {
        for (_, site) in config.sites.iter().filter(|(name, _)| chosen(name)) {
            if let Some(SiteSource::FromImage(from)) = site.source() {
                scope.images.insert(from.service.clone());
            }
        }
    }
    Ok(scope)
}

impl Scope {
    /// The services whose image is built from the working tree.
    pub(super) fn built<'a>(
        &'a self,
        config: &'a Config,
    ) -> impl Iterator<Item = (&'a UnitName, &'a crate::config::Service, &'a crate::config::BuildImage)> {
        self.images.iter().filter_map(|name| match &config.services[name].image {
            Image::Build(image) => Some((name, &config.services[name], image)),
            Image::Prebuilt(_) | Image::Tag(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_brings_the_image_along_that_migrates_its_database() {
        let service =
            |name: &str| serde_json::json!({ "image": { "repository": name }, "cluster": "shop", "service": name, "container": "web" });
        let config: Config = serde_json::from_value(serde_json::json!({
            "app": "shop",
            "state": "none",
            "services": { "api": service("api"), "mails": service("mails"), "other": service("other") },
            "migrations": { "main": { "framework": "django", "driver": "task", "from": "api", "services": ["mails"] } },
        }))
        .unwrap();
        let of = |unit: &str, stages: &[Stage]| {
            let scope = scope(&config, &[unit.parse().unwrap()], stages).unwrap();
            let names = |names: BTreeSet<UnitName>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            (names(scope.images), names(scope.migrations), names(scope.services))
        };
        let text = |images: &str, migrations: &str, services: &str| (images.to_owned(), migrations.to_owned(), services.to_owned());
        assert_eq!(of("mails", &Stage::ALL), text("api mails", "main", "mails"), "and does not roll it");
        assert_eq!(of("mails", &[Stage::Images]), text("api mails", "", ""));
        assert_eq!(of("mails", &[Stage::Services]), text("mails", "", "mails"));
        assert_eq!(of("main", &Stage::ALL), text("api", "main", ""));
        assert_eq!(of("other", &Stage::ALL), text("other", "", "other"));
    }
}
