//! The plan of a rollback: what brings back what an earlier release left live.
//!
//! The other way round than a release: pages first, then services. An old page got along with the new services while they rolled, which
//! nobody knows of a new page and old services.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::model::{Commit, ImageRef, ImageUri, ReleaseId, Stage, UnitName};
use crate::service::plan::FoundService;
use crate::{service, site};

use super::{FORMAT, Observed, Plan, published, rules, together};

/// The stages of a rollback, in their order. Migrations stay.
pub const STAGES: [Stage; 3] = [Stage::Assets, Stage::Publish, Stage::Services];

/// What is to be brought back.
#[derive(Debug)]
pub struct Back {
    /// The release whose state it is.
    pub release: ReleaseId,
    /// Its commit.
    pub commit: Option<Commit>,
    /// Sites.
    pub sites: BTreeMap<UnitName, site::back::Found>,
    /// Services.
    pub services: BTreeMap<UnitName, Served>,
    /// What stays as it is, in words.
    pub stays: Vec<String>,
}

/// What served of a service.
#[derive(Debug)]
pub struct Served {
    /// Its image.
    pub image: ImageUri,
    /// The ARN of its revision; `None` where it cannot be run again, and another is registered with the image.
    pub revision: Option<String>,
    /// The service as it is.
    pub found: FoundService,
}

/// Draws the plan. Of `observed` it takes the account, the region and the distributions.
#[must_use]
pub fn draw(config: &Config, observed: &Observed, back: &Back) -> Plan {
    let sites: BTreeMap<_, _> =
        back.sites.iter().map(|(name, found)| (name.clone(), site::back::draw(&config.sites[name], found))).collect();
    let service = |(name, served): (&UnitName, &Served)| {
        let (service, image) = (&config.services[name], ImageRef::Known(served.image.clone()));
        let plan = match &served.revision {
            Some(revision) => service::plan::draw_back(service, image, revision, &served.found, rules(config)),
            None => service::plan::draw(service, image, &served.found, rules(config)),
        };
        (name.clone(), plan)
    };
    let (invalidations, checks) = published(config, observed, &sites);
    Plan {
        format: FORMAT,
        app: config.app.clone(),
        environment: config.environment.as_ref().map(|environment| environment.name.clone()).unwrap_or_default(),
        account: observed.account.clone(),
        region: observed.region.clone(),
        commit: back.commit.clone(),
        dirty: false,
        restores: Some(back.release.clone()),
        promotes: None,
        stays: back.stays.clone(),
        stages: STAGES.to_vec(),
        sites,
        images: BTreeMap::new(),
        migrations: BTreeMap::new(),
        services: back.services.iter().map(service).collect(),
        services_policy: together(config),
        invalidations,
        checks,
    }
}
