//! A plan in a file: written by `plan --out`, carried out by `release --plan` if the world is still what it was drawn from.
//!
//! The plan is drawn anew and held against the file, which asks for no second build: what was built and has not changed is taken as it is.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::journal::Journal;
use crate::model::{Exit, Failure, ImageRef, Sha256, Stage, UnitName};
use crate::plan::{FORMAT, Plan};
use crate::site::plan::SitePlan;

use super::lease::LOCK;
use super::{run, world};

/// A plan as a file holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    /// 1.
    format: u32,
    /// The version of windlass that drew it.
    windlass: String,
    /// The units that were asked for; all if empty.
    units: Vec<UnitName>,
    /// Of all that it is to bring.
    intent: Sha256,
    plan: Plan,
}

/// So many differences are named.
const NAMED: usize = 6;

impl Saved {
    /// A plan that was drawn of `units`.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn of(plan: &Plan, units: &[UnitName]) -> Result<Self, Failure> {
        let windlass = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Self { format: FORMAT, windlass, units: units.to_vec(), intent: run::intent(plan)?, plan: plan.clone() })
    }

    /// Reads a plan's file.
    ///
    /// # Errors
    /// [`Exit::StalePlan`] if it is no plan, or one of a version that is not known here.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refused = |why: String| {
            let failure = Failure::new(Exit::StalePlan, "this is no plan that can be carried out; nothing was changed").because(why);
            failure.hint("draw it with this version: `windlass plan --out FILE`")
        };
        let saved: Self = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
        match saved.format {
            FORMAT => Ok(saved),
            other => Err(refused(format!("its format is {other}, and this version knows {FORMAT}"))),
        }
    }

    /// The units that were asked for.
    #[must_use]
    pub fn units(&self) -> &[UnitName] {
        &self.units
    }

    /// The stages that it holds.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.plan.stages
    }

    /// Refuses to go on if `drawn`, which is the plan now, is another one.
    ///
    /// # Errors
    /// [`Exit::StalePlan`], naming what differs.
    pub(super) async fn hold(&self, drawn: &Plan, journal: Option<&Journal>) -> Result<(), Failure> {
        let intent = run::intent(drawn)?;
        // What a run of this plan has written itself is no movement.
        if intent == self.intent && self.is_begun(journal).await? {
            return Ok(());
        }
        let mut moved = differences(&self.plan, drawn);
        if moved.is_empty() && intent != self.intent {
            moved.push("what is to be released is not what was planned".to_owned());
        }
        if moved.is_empty() {
            return Ok(());
        }
        let more = if moved.len() > NAMED { format!("\n   and {} more", moved.len() - NAMED) } else { String::new() };
        moved.truncate(NAMED);
        let failure = Failure::new(Exit::StalePlan, "the plan is stale: what it was drawn from has moved; nothing was changed");
        Err(failure.because(moved.join("\n   ") + &more).hint("draw it anew with `windlass plan --out FILE`, and look at it again"))
    }

    /// Was the lock last held for a run of this very plan?
    async fn is_begun(&self, journal: Option<&Journal>) -> Result<bool, Failure> {
        let unreadable = |error| world::unreadable(error, "record");
        let Some(journal) = journal else { return Ok(false) };
        for last in journal.held_for(LOCK).await.map_err(unreadable)? {
            if let Some(record) = journal.record(&last).await.map_err(unreadable)? {
                return Ok(record.intent == Some(self.intent));
            }
        }
        Ok(false)
    }
}

/// What differs between a plan and the same one as it is drawn now, in words.
fn differences(then: &Plan, now: &Plan) -> Vec<String> {
    let (mut all, mut all_sites) = (Vec::new(), Vec::new());
    let mut differs = |what: &str, then: &dyn std::fmt::Display, now: &dyn std::fmt::Display| {
        let (then, now) = (then.to_string(), now.to_string());
        if then != now {
            all.push(format!("{what}: it was {then}, and is {now}"));
        }
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    differs("the application", &then.app, &now.app);
    differs("the environment", &then.environment, &now.environment);
    differs("the region", &then.region, &now.region);
    if let (Some(then), Some(now)) = (&then.account, &now.account) {
        differs("the account", then, now);
    }
    differs("the commit", &or_none(then.commit.as_ref().map(ToString::to_string)), &or_none(now.commit.as_ref().map(ToString::to_string)));
    for name in then.sites.keys().chain(now.sites.keys()).collect::<BTreeSet<_>>() {
        let what = format!("site `{name}`");
        let show = |site: Option<&SitePlan>| {
            site.map_or("no part of it".to_owned(), |site| {
                let writes = (site.upload.len(), site.publish.len(), site.prune.len());
                format!("release {} of it, {} to upload, {} to publish, {} to delete", site.manifest.number, writes.0, writes.1, writes.2)
            })
        };
        differs(&what, &show(then.sites.get(name)), &show(now.sites.get(name)));
        if let (Some(then), Some(now)) = (then.sites.get(name), now.sites.get(name))
            && let Some(file) = other_file(then, now)
        {
            all_sites.push(format!("{what}: `{file}` is not what it was then"));
        }
    }
    for (name, then) in &then.images {
        differs(&format!("the image of `{name}`"), &then.tag, &or_none(now.images.get(name).map(|image| image.tag.clone())));
    }
    for (name, then) in &then.services {
        let now = now.services.get(name);
        differs(&format!("service `{name}`"), &then.from, &or_none(now.map(|service| service.from.clone())));
    }
    for (name, then) in &then.migrations {
        let show = |applied: bool| if applied { "applied" } else { "to be applied" };
        differs(
            &format!("migration `{name}`"),
            &show(then.applied),
            &now.migrations.get(name).map_or("no part of it", |now| show(now.applied)),
        );
    }
    all.extend(all_sites);
    all
}

/// The first file that only one of two plans writes, or that each writes otherwise.
fn other_file(then: &SitePlan, now: &SitePlan) -> Option<String> {
    let (then, now): (BTreeSet<_>, BTreeSet<_>) = (keys(then).into_iter().collect(), keys(now).into_iter().collect());
    then.symmetric_difference(&now).map(|(key, _)| (*key).to_owned()).next()
}

/// All that is written of a site.
fn keys(site: &SitePlan) -> Vec<(&str, Option<&Sha256>)> {
    let writes = site.upload.iter().chain(&site.publish).map(|write| (write.key.as_str(), Some(&write.sha256)));
    writes.chain(site.prune.iter().map(|prune| (prune.key.as_str(), None))).collect()
}

/// What an image is, in a plan that may not know it yet.
pub(super) fn image_of(plan: &Plan, reference: &ImageRef) -> String {
    match reference {
        ImageRef::FromStep(name) => plan.images.get(name).map_or_else(|| name.to_string(), |image| format!("{}:{}", image.uri, image.tag)),
        ImageRef::Known(uri) => {
            let built = plan.images.values().find(|image| image.uri == uri.repository && image.present == Some(uri.digest));
            built.map_or_else(|| uri.to_string(), |image| format!("{}:{}", image.uri, image.tag))
        }
    }
}
