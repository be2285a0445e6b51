//! What the stages of a run work with, and the state as they read and write it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use futures_util::future::try_join_all;

use crate::aws::Aws;
use crate::config::{Config, State};
use crate::docker::Engine;
use crate::journal::{Glimpse, Journal, JournalError, Live, Record};
use crate::model::{Exit, Failure, ObjectKey, ReleaseId, Stage, UnitName};
use crate::plan::Plan;
use crate::probe;
use crate::service::plan::Base;
use crate::site::plan::SitePlan;

use super::Request;

/// What the stages work with.
#[derive(Debug)]
pub struct World {
    pub(super) aws: Aws,
    pub(super) journal: Option<Journal>,
    /// The lock as it was when the plan was drawn, where it was looked at.
    pub(super) glimpse: Option<Glimpse>,
    pub(super) live: Live,
    pub(super) record: Option<Record>,
    pub(super) engine: Option<Engine>,
    /// The services whose image this run has built for a site's files: the stage `images` has only to push it.
    pub(super) built: BTreeSet<UnitName>,
    pub(super) probe: probe::Client,
    pub(super) root: PathBuf,
    /// The variables of this process, for what runs on this machine.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Who runs this; `None` where there is nothing to do.
    pub(super) caller: Option<String>,
    /// The entity tags of what `assets` has uploaded, by site.
    pub(super) etags: Etags,
    /// What the services' next revisions are made of.
    pub(super) bases: BTreeMap<UnitName, Base>,
    /// Is what goes on in AWS stopped when a signal ends the run?
    pub(super) stop_on_abort: bool,
    /// The account that a promotion brings images from.
    pub(super) source: Option<Aws>,
    /// When the commit of a promoted release was made: its checkout need not lie here.
    pub(super) committed: Option<i64>,
    /// Is any service written down as stopped?
    pub(super) stopped: bool,
    /// Where this runs, for whoever finds a lease.
    pub(super) at: String,
    /// How long somebody else's lease is waited for.
    pub(super) wait: std::time::Duration,
}

/// So many records are read side by side.
const RECORDS_AT_ONCE: usize = 32;

/// Entity tags by site and key.
pub(super) type Etags = BTreeMap<UnitName, BTreeMap<ObjectKey, String>>;

impl World {
    /// A world of which only this is known.
    pub(super) fn of(request: &Request, aws: Aws, journal: Option<Journal>, live: Live, caller: Option<String>) -> Result<Self, Failure> {
        let probe =
            probe::client(aws.endpoint_url()).map_err(|error| Failure::new(Exit::Bug, "making an HTTP client failed").because(error))?;
        let root = request.project.root.clone();
        Ok(Self {
            aws,
            journal,
            glimpse: None,
            live,
            record: None,
            engine: None,
            built: BTreeSet::new(),
            probe,
            root,
            environment: request.environment.clone(),
            caller,
            etags: Etags::new(),
            bases: BTreeMap::new(),
            stop_on_abort: request.stop_on_abort,
            source: None,
            committed: None,
            stopped: false,
            at: request.origin.at.clone(),
            wait: request.hold.wait,
        })
    }

    /// Keeps what a later `publish` on another machine writes into the manifest.
    pub(super) async fn save_etags(&self, release: &ReleaseId) -> Result<(), Failure> {
        match &self.journal {
            Some(journal) => {
                // Another machine may have uploaded other sites of the release.
                let mut all: Etags = journal.etags(release).await.map_err(|error| unreadable(error, "entity tags"))?.unwrap_or_default();
                all.extend(self.etags.clone());
                journal.set_etags(release, &all).await.map_err(|error| unwritable(error, "entity tags", Some(Stage::Assets)))
            }
            None => Ok(()),
        }
    }

    /// Keeps the plan; of a release that goes on, beside what is kept of other sites.
    pub(super) async fn save_plan(&self, release: &ReleaseId, plan: &Plan, goes_on: bool) -> Result<(), Failure> {
        match &self.journal {
            // A later stage's own plan must not hide what `publish` goes by.
            Some(journal) if plan.stages.contains(&Stage::Assets) => {
                let known: Option<Plan> =
                    if goes_on { journal.plan(release).await.map_err(|error| unreadable(error, "plan"))? } else { None };
                let others: BTreeMap<UnitName, SitePlan> =
                    known.into_iter().flat_map(|known| known.sites).filter(|(name, _)| !plan.sites.contains_key(name)).collect();
                let saved = if others.is_empty() {
                    journal.set_plan(release, plan).await
                } else {
                    let mut all = plan.clone();
                    all.sites.extend(others);
                    journal.set_plan(release, &all).await
                };
                saved.map_err(|error| unwritable(error, "plan", None))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn save_record(&self, record: &Record, after: Option<Stage>) -> Result<(), Failure> {
        match &self.journal {
            Some(journal) => journal.set_record(record).await.map_err(|error| unwritable(error, "record", after)),
            None => Ok(()),
        }
    }

    /// Every revision that a record of a release names: a way back may lead to it.
    pub(super) async fn named_revisions(&self, record: &Record) -> Result<BTreeSet<String>, JournalError> {
        let mut records = vec![record.clone()];
        if let Some(journal) = &self.journal {
            let ids = journal.releases().await?;
            for some in ids.chunks(RECORDS_AT_ONCE) {
                records.extend(try_join_all(some.iter().map(|id| journal.record(id))).await?.into_iter().flatten());
            }
        }
        let lives = records.iter().flat_map(|record| [&record.before, &record.after]).chain([&self.live]);
        let live = lives.flat_map(|live| live.services.values()).map(|service| &service.revision);
        let served = records.iter().flat_map(|record| record.served.values()).map(|served| &served.revision);
        Ok(live.chain(served).cloned().collect())
    }

    pub(super) async fn save_live(&self, after: Stage) -> Result<(), Failure> {
        match &self.journal {
            Some(journal) => journal.set_live(&self.live).await.map_err(|error| unwritable(error, "what is live", Some(after))),
            None => Ok(()),
        }
    }
}

/// The state could not be written, before the first stage or after one that may have changed something.
pub(super) fn unwritable(error: JournalError, what: &str, after: Option<Stage>) -> Failure {
    let (exit, so_far) = match after {
        _ if error.is_lost() => (Exit::LeaseLost, "another release has taken over".to_owned()),
        None => (Exit::Preflight, "nothing was changed".to_owned()),
        Some(Stage::Assets) => (Exit::Assets, "nothing live has changed".to_owned()),
        Some(Stage::Images) => (Exit::Images, "nothing live has changed".to_owned()),
        Some(stage @ Stage::Publish) => (Exit::Publish, format!("the stage `{stage}` is done, and the record does not say so")),
        Some(stage) => (Exit::Bug, format!("the stage `{stage}` is done, and the record does not say so")),
    };
    let hint = error.hint();
    let failure = Failure::new(exit, format!("writing the state ({what}) failed")).because(error);
    let hint = hint.unwrap_or_else(|| "allow `s3:PutObject` on the state's prefix".to_owned());
    failure.hint(format!("{so_far}; {hint}, and run the same command again"))
}

/// It could not be written down that a site is written over, which therefore is not.
pub(super) fn unbegun(error: JournalError, site: &UnitName) -> Failure {
    if error.is_lost() {
        return unwritable(error, "manifest", Some(Stage::Publish));
    }
    let hint = error.hint().unwrap_or_else(|| "allow `s3:GetObject` and `s3:PutObject` on the state's prefix".to_owned());
    let failure = Failure::new(Exit::Publish, format!("site `{site}`: writing the state (manifest) failed")).because(error);
    failure.hint(format!("no page of `{site}` was written; {hint}, and run the same command again"))
}

pub(super) fn unreadable(error: JournalError, what: &str) -> Failure {
    let hint = error.hint().unwrap_or_else(|| "allow `s3:GetObject` on the state's prefix, or correct `state`".to_owned());
    Failure::new(Exit::Preflight, format!("reading the state ({what}) failed")).because(error).hint(format!("nothing was changed; {hint}"))
}

/// The state of the application, if it keeps one.
pub(super) fn journal(config: &Config, aws: &Aws) -> Option<Journal> {
    let environment = config.environment.as_ref().map_or("default", |environment| environment.name.as_str());
    match &config.state {
        State::S3 { bucket, prefix } => Some(Journal::new(aws, bucket.as_str(), prefix, &config.app, environment)),
        State::None => None,
    }
}
