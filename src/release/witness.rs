//! What a run has come to so far, for whoever reports it: also where it fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Config, Image, State};
use crate::journal::Record;
use crate::model::{ImageRef, ImageUri, UnitName};
use crate::plan::Plan;

/// Sees what a run does. Its clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Mutex<Account>>);

/// What a witness has seen.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// What was to be done, once it was known.
    pub plan: Option<Arc<Plan>>,
    /// What was done; none if there was nothing to do, or the run ended before.
    pub record: Option<Record>,
    /// Is a state kept?
    pub kept: bool,
    /// The units of the plan, as others may want to go on with them.
    pub units: Units,
}

/// What of the units somebody else may go on with.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Units {
    /// The images that are in the registry, by service.
    pub images: BTreeMap<UnitName, ServiceImage>,
    /// Where sites are served, as far as it is known.
    pub sites: BTreeMap<UnitName, SiteUrl>,
}

/// The image of a service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServiceImage {
    /// With its registry, by its digest.
    pub uri: ImageUri,
    /// The container that runs it.
    pub container: String,
}

/// Where a site is served.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SiteUrl {
    /// Its URL.
    pub url: String,
}

impl Witness {
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plan was drawn.
    pub(super) fn planned(&self, config: &Config, plan: &Arc<Plan>) {
        let mut account = self.lock();
        account.units = units(config, plan, account.record.as_ref());
        account.kept = config.state != State::None;
        account.plan = Some(Arc::clone(plan));
    }

    /// The record has grown.
    pub(super) fn recorded(&self, config: &Config, plan: &Plan, record: &Record) {
        let mut account = self.lock();
        account.units = units(config, plan, Some(record));
        account.record = Some(record.clone());
    }

    /// What was seen so far.
    #[must_use]
    pub fn account(&self) -> Account {
        self.lock().clone()
    }
}

fn units(config: &Config, plan: &Plan, record: Option<&Record>) -> Units {
    let image = |name: &UnitName| {
        let pushed = record.and_then(|record| record.images.get(name)).cloned();
        let planned = || match plan.services.get(name).map(|service| &service.image) {
            Some(ImageRef::Known(uri)) => Some(uri.clone()),
            _ => None,
        };
        let present = || {
            let image = plan.images.get(name)?;
            Some(ImageUri { repository: image.uri.clone(), digest: image.present? })
        };
        let given = || match &config.services.get(name)?.image {
            Image::Prebuilt(uri) => Some(uri.clone()),
            _ => None,
        };
        pushed.or_else(planned).or_else(present).or_else(given)
    };
    let services = config.services.iter().filter(|(name, _)| plan.services.contains_key(*name) || plan.images.contains_key(*name));
    let images = services.filter_map(|(name, service)| {
        let container = service.container.clone();
        Some((name.clone(), ServiceImage { uri: image(name)?, container }))
    });
    let sites = plan.sites.keys().filter_map(|name| {
        let url = config.sites.get(name)?.url.as_ref().map(ToString::to_string);
        let url = url.or_else(|| plan.checks.get(name).map(|check| check.url.clone()))?;
        Some((name.clone(), SiteUrl { url }))
    });
    Units { images: images.collect(), sites: sites.collect() }
}
