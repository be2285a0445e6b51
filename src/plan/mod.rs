//! The plan of a release: what the features' plans add up to, with the order of its stages.
//!
//! [`draw`] is a pure function: the same intent and the same observation give the same bytes. What `plan` prints is the value
//! that `release` executes. Deliberately absent: the release's id and any clock, which differ from run to run.

pub mod back;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cdn::plan::{Changed, Invalidation, PageCheck};
use crate::config::{Config, Image, OnFailedMigration, OnFailure, OnTimeout, Site, Strategy};
use crate::image::plan::ImagePlan;
use crate::migration::plan::{MigrationPlan, Runs, Stops};
use crate::model::{Commit, Failure, ImageRef, ImageUri, Promoted, ReleaseId, Stage, UnitName};
use crate::service::plan::ServicePlan;
use crate::site::plan::{SitePlan, Tagging};
use crate::{cdn, image, migration, service, site};

/// The version of a plan's JSON.
pub const FORMAT: u32 = 1;

/// All that a release does, stage by stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// The application.
    pub app: UnitName,
    /// The environment's name; empty without environments.
    pub environment: String,
    /// The account; `None` if there was nothing to do in it, and so no reason to ask.
    pub account: Option<String>,
    /// The region.
    pub region: String,
    /// The commit of the working tree, if it is one.
    pub commit: Option<Commit>,
    /// Has the working tree changes that are in no commit?
    pub dirty: bool,
    /// The release whose state it brings back, if it is a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<ReleaseId>,
    /// The release of another environment that it brings to this one, if it is a promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotes: Option<Promoted>,
    /// What a rollback leaves as it is, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stays: Vec<String>,
    /// The stages that it holds.
    pub stages: Vec<Stage>,
    /// `assets` and `publish`, by site.
    pub sites: BTreeMap<UnitName, SitePlan>,
    /// `images`, by service.
    pub images: BTreeMap<UnitName, ImagePlan>,
    /// `migrations`, by name.
    pub migrations: BTreeMap<UnitName, MigrationPlan>,
    /// `services`, by name.
    pub services: BTreeMap<UnitName, ServicePlan>,
    /// What the services have in common.
    #[serde(default)]
    pub services_policy: service::plan::Together,
    /// `publish`: by distribution.
    pub invalidations: BTreeMap<String, Invalidation>,
    /// `publish`: by site.
    pub checks: BTreeMap<UnitName, PageCheck>,
}

impl Plan {
    /// Does the stage hold any change?
    #[must_use]
    pub fn changes_in(&self, stage: Stage) -> bool {
        match stage {
            Stage::Assets => self.sites.values().any(|site| !site.upload.is_empty()),
            Stage::Images => self.images.values().any(|image| image.present.is_none() || image.unjudged),
            Stage::Migrations => self.migrations.values().any(|migration| !migration.applied),
            Stage::Services => self.services.values().any(|service| !service.is_empty()),
            // What is live is written down also where nothing is overwritten.
            Stage::Publish => self.sites.values().any(|site| !site.is_empty()),
        }
    }

    /// Is there nothing to do at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Bodies of what will be overwritten are kept by `assets`, for whichever machine publishes them.
        let keeps = self.stages.contains(&Stage::Assets) && self.sites.values().any(|site| !site.is_empty());
        !keeps && !self.stages.iter().any(|&stage| self.changes_in(stage))
    }

    /// Must an image be built?
    #[must_use]
    pub fn needs_engine(&self) -> bool {
        self.images.values().any(|image| image.present.is_none() && image.copy.is_none())
    }
}

/// What is known of the world when a plan is drawn. Units that are absent here are not part of the plan.
#[derive(Debug, Default)]
pub struct Observed {
    /// The account behind the credentials, if that was asked.
    pub account: Option<String>,
    /// The region.
    pub region: String,
    /// The commit of the working tree, and whether there are changes that are in no commit.
    pub commit: (Option<Commit>, bool),
    /// The stages that are asked for.
    pub stages: Vec<Stage>,
    /// Built sites, with what is live of each.
    pub sites: BTreeMap<UnitName, (site::scan::Output, site::plan::Observed)>,
    /// Distributions, by id.
    pub distributions: BTreeMap<String, cdn::plan::Found>,
    /// Images that are built from the working tree, or named by a tag.
    pub images: BTreeMap<UnitName, image::plan::Observed>,
    /// The labels that say where an image comes from.
    pub labels: BTreeMap<String, String>,
    /// Functions, by migration.
    pub functions: BTreeMap<UnitName, migration::plan::Found>,
    /// What is known of the databases, by migration.
    pub histories: BTreeMap<UnitName, migration::checkout::History>,
    /// What the record says each migration has applied.
    pub migrated: BTreeMap<UnitName, migration::plan::Migrated>,
    /// Services.
    pub services: BTreeMap<UnitName, service::plan::FoundService>,
    /// The tasks that services have now: those of the plan, and those that a migration stops.
    pub tasks: BTreeMap<UnitName, i32>,
    /// The tasks that services had before a migration stopped them.
    pub stopped: BTreeMap<UnitName, i32>,
    /// Images that an earlier stage of this release has pushed.
    pub pushed: BTreeMap<UnitName, ImageUri>,
    /// What the record says is live, by service.
    pub live_images: BTreeMap<UnitName, ImageUri>,
}

/// Draws the plan.
///
/// # Errors
/// A file's key is longer than S3 allows.
pub fn draw(config: &Config, observed: &Observed) -> Result<Plan, Failure> {
    let has = |stage| observed.stages.contains(&stage);
    let mut sites = BTreeMap::new();
    for (name, (output, live)) in &observed.sites {
        sites.insert(name.clone(), site::plan::draw(name, &config.sites[name], output, live, tagging(observed, &config.sites[name]))?);
    }
    let images: BTreeMap<UnitName, ImagePlan> = observed
        .images
        .iter()
        .filter_map(|(name, found)| {
            let plan = image::plan::draw(&config.services[name], found, &observed.labels, &config.policy)?;
            Some((name.clone(), plan.gated(observed.live_images.get(name), observed.pushed.get(name))))
        })
        .collect();
    let reference = |name: &UnitName| match (&config.services[name].image, observed.pushed.get(name)) {
        (Image::Prebuilt(uri), _) | (_, Some(uri)) => ImageRef::Known(uri.clone()),
        (_, None) => images.get(name).map_or_else(|| ImageRef::FromStep(name.clone()), |image| image.reference(name)),
    };
    let nothing = migration::checkout::History::default();
    let migrations: BTreeMap<_, _> = observed
        .functions
        .iter()
        .map(|(name, found)| {
            let migration = &config.migrations[name];
            let image = migration.image.clone().map_or_else(|| reference(&migration.from), ImageRef::Known);
            let service = &config.services[&migration.from];
            let history = observed.histories.get(name).unwrap_or(&nothing);
            let risky = config.policy.risky_migrations;
            let mut plan = migration::plan::draw(migration, service, image, found, observed.migrated.get(name), history, risky);
            if plan.database.is_empty() {
                plan.database = match plan.runs {
                    Runs::Local { .. } => format!("{}-{name}", config.app),
                    _ => format!("{}-{name}", plan.place()),
                };
            }
            if migration.strategy == Strategy::Stop && !plan.applied {
                let units: BTreeSet<&UnitName> = std::iter::once(&migration.from).chain(&migration.services).collect();
                plan.stops = units.into_iter().filter_map(|unit| stops(config, observed, unit)).collect();
                plan.stays_stopped = config.policy.on_failed_migration == OnFailedMigration::Leave;
            }
            (name.clone(), plan)
        })
        .collect();
    let stopping: BTreeMap<&UnitName, i32> =
        migrations.values().flat_map(|migration: &MigrationPlan| &migration.stops).map(|stops| (&stops.unit, stops.tasks)).collect();
    let services = observed
        .services
        .iter()
        .map(|(name, found)| {
            let plan = service::plan::draw(&config.services[name], reference(name), found, rules(config));
            let tasks = stopping.get(name).copied().or_else(|| stopped(observed, name));
            (name.clone(), tasks.map_or_else(|| plan.clone(), |tasks| plan.clone().stopped(tasks)))
        })
        .collect();
    let (invalidations, checks) = if has(Stage::Publish) { published(config, observed, &sites) } else { Default::default() };
    Ok(Plan {
        format: FORMAT,
        app: config.app.clone(),
        environment: config.environment.as_ref().map(|environment| environment.name.clone()).unwrap_or_default(),
        account: observed.account.clone(),
        region: observed.region.clone(),
        commit: observed.commit.0.clone(),
        dirty: observed.commit.1,
        restores: None,
        promotes: None,
        stays: Vec::new(),
        stages: observed.stages.clone(),
        sites,
        images: if has(Stage::Images) { images } else { BTreeMap::new() },
        migrations,
        services,
        services_policy: together(config),
        invalidations,
        checks,
    })
}

/// A service that is to be stopped; `None` where it has no tasks, or is not there.
fn stops(config: &Config, observed: &Observed, unit: &UnitName) -> Option<Stops> {
    let service = &config.services[unit];
    let tasks = observed.tasks.get(unit).copied().filter(|tasks| *tasks > 0).or_else(|| stopped(observed, unit))?;
    Some(Stops { unit: unit.clone(), cluster: service.cluster.clone(), service: service.service.clone(), tasks })
}

/// The tasks of a service that a migration has stopped and that has not been started since.
pub(crate) fn stopped(observed: &Observed, unit: &UnitName) -> Option<i32> {
    observed.stopped.get(unit).copied().filter(|_| observed.tasks.get(unit) == Some(&0))
}

fn rules(config: &Config) -> service::plan::Rules {
    service::plan::Rules { leave_after_timeout: config.policy.on_timeout == OnTimeout::Leave, keep_revisions: config.policy.keep_revisions }
}

fn together(config: &Config) -> service::plan::Together {
    service::plan::Together {
        at_once: config.policy.services_at_once.map_or(service::plan::AT_ONCE, |count| usize::try_from(count).unwrap_or(usize::MAX)),
        rollback_all: config.policy.on_failure == OnFailure::Rollback,
    }
}

/// The plan of `publish` on another machine than the one that built: `plan` with the sites of `saved`.
#[must_use]
pub fn publishing(config: &Config, observed: &Observed, plan: Plan, saved: Plan) -> Plan {
    let (invalidations, checks) = published(config, observed, &saved.sites);
    Plan { commit: saved.commit, dirty: saved.dirty, sites: saved.sites, invalidations, checks, ..plan }
}

/// Does the site's distribution look for cache tags?
fn tagging(observed: &Observed, site: &Site) -> Tagging {
    match site.distribution.as_ref().map(|id| observed.distributions.get(id)) {
        Some(None) => Tagging::Unknown,
        Some(Some(found)) if found.tagged => Tagging::On,
        _ => Tagging::Off,
    }
}

type Published = (BTreeMap<String, Invalidation>, BTreeMap<UnitName, PageCheck>);

/// What follows from publishing the sites: what is stale at the edges, and where to look.
fn published(config: &Config, observed: &Observed, sites: &BTreeMap<UnitName, SitePlan>) -> Published {
    let changed = sites.iter().map(|(name, plan)| {
        let site = &config.sites[name];
        let tag = plan.tag.as_ref().filter(|_| tagging(observed, site) == Tagging::On);
        Changed { site, paths: &plan.changed_paths, tag: tag.map(|tag| (&*tag.name, &tag.rest[..])) }
    });
    let invalidations = cdn::plan::draw(changed);
    let changed = sites.iter().filter(|(_, plan)| !plan.is_empty());
    let checks = changed.filter_map(|(name, plan)| {
        let site = &config.sites[name];
        let found = site.distribution.as_ref().and_then(|id| observed.distributions.get(id));
        Some((name.clone(), cdn::plan::page(site, found, &plan.checked()?.0)?))
    });
    (invalidations, checks.collect())
}
