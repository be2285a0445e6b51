//! The story of a release, readable from top to bottom.
//!
//! Every verb begins alike: connect, see whose account it is, look for all that the units need, build the sites, look at what is
//! live, draw the plan. `plan` stops there; `release` and `stage` go on stage by stage, each a barrier. Nothing is written before
//! the plan is drawn, and nothing at all where it is empty.
//!
//! Deliberately absent: any choice about what is written. That is the plan's.

mod ahead;
mod build;
mod buildspec;
mod commit;
mod from_image;
mod history;
mod lease;
mod looks;
mod migrations;
mod older;
mod parts;
mod preflight;
mod prepare;
mod promote;
mod promote_sites;
mod rollback;
mod run;
mod same;
mod saved;
mod scope;
mod services;
mod stages;
mod status;
mod witness;
mod world;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use tokio::sync::watch;

use crate::aws::Access;
use crate::config::Project;
use crate::event::Events;
use crate::journal::Record;
use crate::model::{CiSystem, Exit, Failure, ReleaseId, Stage, Status, UnitName, Verification};
use crate::plan::Plan;
use crate::site::observe::Look;

pub use lease::Hold;
pub use saved::Saved;
pub use witness::{Account, ServiceImage, SiteUrl, Units, Witness};
pub use world::World;

/// What a verb is asked to do, for whom, from where.
#[derive(Debug, Clone)]
pub struct Request {
    /// The configuration.
    pub project: Project,
    /// How AWS is reached.
    pub access: Access,
    /// The units to release; all if empty.
    pub units: Vec<UnitName>,
    /// How sites are looked at.
    pub look: Look,
    /// What builds inherit, less every cloud credential.
    pub environment: Vec<(OsString, OsString)>,
    /// Where this runs.
    pub origin: Origin,
    /// How the lock is held.
    pub hold: Hold,
    /// Is what goes on in AWS stopped when a signal ends the run?
    pub stop_on_abort: bool,
    /// Sees what the run does.
    pub witness: Witness,
}

/// Where a release is run, for its record and for whoever finds its lock.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// A build's URL or id, or the machine's name.
    pub at: String,
    /// The pipeline's execution, if one is known.
    pub pipeline: Option<String>,
    /// The system that runs it, if one does.
    pub system: Option<CiSystem>,
    /// Where in that system people can look: `build`, `pipeline`, `log`, `commit`, `change`.
    pub links: BTreeMap<String, String>,
}

/// What a release came to.
#[derive(Debug)]
pub struct Released {
    /// Its id; none if there was nothing to do.
    pub release: Option<ReleaseId>,
    /// What was done.
    pub plan: Arc<Plan>,
}

/// Whether somebody wants the run to stop, and by which signal.
#[derive(Debug, Clone)]
pub struct Stop(pub watch::Receiver<Option<Exit>>);

impl Stop {
    /// Waits until somebody does.
    async fn wanted(&mut self) -> Exit {
        match self.0.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Interrupted),
            // Nobody can ask any more.
            Err(_) => std::future::pending().await,
        }
    }

    fn now(&self) -> Option<Exit> {
        *self.0.borrow()
    }

    /// Runs work that may be dropped at any moment without harm, until it is done or the run is to stop.
    async fn or<T>(&self, what: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut stop = self.clone();
        tokio::select! {
            biased;
            exit = stop.wanted() => Err(stopped(exit, what)),
            result = work => result,
        }
    }
}

fn stopped(exit: Exit, what: &str) -> Failure {
    Failure::new(exit, format!("stopped during {what}")).hint("what is done stays done: run the same command again to go on")
}

/// Draws the plan of the given stages, and writes nothing.
///
/// # Errors
/// The configuration, preflight or a build is refused or fails; see [`Exit`].
pub async fn plan(request: &Request, stages: &[Stage], events: &Events, stop: &Stop) -> Result<Plan, Failure> {
    let (world, mut plan) = prepare::prepare(request, stages, None, prepare::Purpose::Free, events, stop).await?;
    if plan.account.is_none() {
        // A plan says where it would be carried out, also when there is nothing to do.
        plan.account = Some(preflight::identify(request, &world.aws, events).await?.account);
    }
    Ok(plan)
}

/// Releases: all five stages, or nothing where nothing has changed.
///
/// # Errors
/// As [`plan`], and whatever a stage fails with.
pub async fn release(request: &Request, events: &Events, stop: &Stop) -> Result<Released, Failure> {
    run::run(request, &Stage::ALL, None, events, stop).await
}

/// Carries out a plan that was saved, of its own units and stages.
///
/// # Errors
/// [`Exit::StalePlan`] if what it was drawn from has moved; else as [`release`].
pub async fn release_saved(request: &Request, saved: &Saved, events: &Events, stop: &Stop) -> Result<Released, Failure> {
    let draw = async || {
        let (world, plan) = Box::pin(prepare::prepare(request, saved.stages(), None, prepare::Purpose::Locked, events, stop)).await?;
        saved.hold(&plan, world.journal.as_ref()).await?;
        Ok((world, plan))
    };
    run::under_lock(request, draw, None, events, stop).await
}

/// Which release a stage belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoOn {
    /// One of its own, if there is anything to do.
    Begin,
    /// This one.
    With(ReleaseId),
    /// The newest one of the checkout's commit.
    OfCommit,
}

/// Begins a release that several machines go on with: its record is written, and nothing else.
///
/// # Errors
/// AWS cannot be reached or refuses; no state is kept.
pub async fn begin(request: &Request, events: &Events) -> Result<ReleaseId, Failure> {
    parts::begin(request, events).await
}

/// Runs one stage, perhaps of a release that another machine has begun.
///
/// # Errors
/// As [`release`]; [`Exit::Preflight`] if the release is unknown.
pub async fn stage(request: &Request, stage: Stage, release: GoOn, events: &Events, stop: &Stop) -> Result<Released, Failure> {
    let release = match release {
        GoOn::Begin => None,
        GoOn::With(id) => Some(id),
        GoOn::OfCommit => Some(parts::of_commit(request, events).await?),
    };
    if let (Stage::Images, Some(id)) = (stage, &release) {
        return parts::images(request, id, events, stop).await;
    }
    let stages: &[Stage] = match stage {
        Stage::Assets => &[Stage::Assets],
        Stage::Images => &[Stage::Images],
        Stage::Migrations => &[Stage::Migrations],
        Stage::Services => &[Stage::Services],
        // Without a release to go on with, what the pages name has to be uploaded too.
        Stage::Publish if release.is_none() => &[Stage::Assets, Stage::Publish],
        Stage::Publish => &[Stage::Publish],
    };
    run::run(request, stages, release, events, stop).await
}

/// Goes back to what the release `to` left live, or the one before what is live; of the units that are asked for.
///
/// # Errors
/// [`Exit::Preflight`] if there is no way back; else as [`release`].
pub async fn rollback(request: &Request, to: Option<&ReleaseId>, events: &Events, stop: &Stop) -> Result<Released, Failure> {
    rollback::rollback(request, to, events, stop).await
}

/// The plan of [`rollback`]; writes nothing.
///
/// # Errors
/// As [`rollback`].
pub async fn plan_rollback(request: &Request, to: Option<&ReleaseId>, events: &Events) -> Result<Plan, Failure> {
    Ok(rollback::prepare(request, to, events).await?.1)
}

/// Brings what `release` left live in one environment to the request's own: it is looked for in the state of each of `sources`.
///
/// # Errors
/// [`Exit::Preflight`] if no source has it, or it cannot be promoted; else as [`release`].
pub async fn promote(
    request: &Request,
    sources: &[Request],
    release: &ReleaseId,
    events: &Events,
    stop: &Stop,
) -> Result<Released, Failure> {
    promote::promote(request, sources, release, events, stop).await
}

/// The plan of [`promote`]; writes nothing.
///
/// # Errors
/// As [`promote`].
pub async fn plan_promotion(
    request: &Request,
    sources: &[Request],
    release: &ReleaseId,
    events: &Events,
    stop: &Stop,
) -> Result<Plan, Failure> {
    Ok(Box::pin(promote::prepare(request, sources, release, false, events, stop)).await?.1)
}

/// The records of the newest `limit` releases, the newest first.
///
/// # Errors
/// AWS cannot be reached or refuses; no state is kept.
pub async fn history(request: &Request, limit: usize, events: &Events) -> Result<Vec<Record>, Failure> {
    history::history(request, limit, events).await
}

/// One release's record, and its plan if that is kept.
///
/// # Errors
/// AWS cannot be reached or refuses; no state is kept; there is no such release.
pub async fn recorded(request: &Request, id: &ReleaseId, events: &Events) -> Result<(Record, Option<Plan>), Failure> {
    history::recorded(request, id, events).await
}

/// Says what is live.
///
/// # Errors
/// AWS cannot be reached, or refuses.
pub async fn status(request: &Request, events: &Events) -> Result<Status, Failure> {
    status::status(request, events).await
}

/// Preflight alone: everything that a release would refuse, without a build.
///
/// # Errors
/// AWS cannot be reached, or another account is behind the credentials.
pub async fn verify(request: &Request, events: &Events) -> Result<Verification, Failure> {
    preflight::verify(request, events).await
}
