//! The lock of a release: taken when there is something to do, held by a lease, and what is said where it is not to be had or is lost.

use std::time::Duration;

use futures_util::future::try_join4;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::aws::AwsError;
use crate::event::Events;
use crate::journal::{Attempt, Held, Holder, Journal, JournalError, Lease, Live, Loss, Process};
use crate::model::{Exit, Failure, ReleaseId};
use crate::plan::Plan;
use crate::service;

use super::{Request, Stop, World};

/// How a release holds the lock.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// How long to wait for one that somebody else holds.
    pub wait: Duration,
    /// How long the lock outlives a run that was killed on another machine.
    pub lease: Duration,
    /// Release although what is live is newer.
    pub allow_older: bool,
}

impl Default for Hold {
    fn default() -> Self {
        Self { wait: Duration::ZERO, lease: Duration::from_mins(1), allow_older: false }
    }
}

/// Where the lock of an application in an environment lies.
pub(super) const LOCK: &str = "lock.json";

/// Takes the lock for `release`; `None` where no state is kept.
pub(super) async fn take(
    request: &Request,
    world: &World,
    release: &ReleaseId,
    events: &Events,
    stop: &Stop,
) -> Result<Option<Lease>, Failure> {
    let Some(journal) = &world.journal else { return Ok(None) };
    let holder = Holder {
        release: release.clone(),
        by: world.caller.clone().unwrap_or_default(),
        at: request.origin.at.clone(),
        since: OffsetDateTime::now_utc(),
        process: Process::this(),
    };
    let start = Instant::now();
    let mut watched: Option<(String, Instant)> = None;
    let mut glimpse = world.glimpse.as_ref();
    loop {
        let seen = watched.as_ref().filter(|(_, until)| *until <= Instant::now()).map(|(tag, _)| tag.as_str());
        let attempt = journal.take_lock(LOCK, &holder, request.hold.lease, seen, glimpse.take());
        let held = match attempt.await.map_err(untakeable)? {
            Attempt::Taken(lease) => return Ok(Some(lease)),
            Attempt::Held(held) => held,
        };
        // A holder that has missed renewals is most likely dead: the rest of its lease is waited for in any case.
        let rest = if held.is_late() { held.ends_in().unwrap_or_default() } else { Duration::ZERO };
        if rest.is_zero() && start.elapsed() >= request.hold.wait {
            return Err(locked(&held));
        }
        if watched.as_ref().is_none_or(|(tag, _)| *tag != held.tag) {
            if watched.is_none() {
                events.note(format!("waiting for the lock: {}", held.who()));
            }
            watched = Some((held.tag.clone(), Instant::now() + held.lease + Duration::from_secs(1)));
        }
        let pause = (held.lease / 8).min(Duration::from_secs(2));
        let pause = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        stop.or("the wait for the lock", pause).await?;
    }
}

/// Who is releasing now, if anybody is.
pub(super) async fn holder(journal: &Journal) -> Result<Option<String>, Failure> {
    let held = journal.lock_held(LOCK).await.map_err(|error| super::world::unreadable(error, "lock"))?;
    Ok(held.as_ref().map(Held::who))
}

fn untakeable(error: JournalError) -> Failure {
    let hint = match &error {
        JournalError::Aws(error) if error.is_unsupported() => {
            Some("this bucket's endpoint knows no conditional writes, which the lock is made of: name another under `state`".to_owned())
        }
        JournalError::Aws(error) if error.is_precondition_failed() || error.is_conflict() => {
            Some("this went on for longer than two releases race: run it again, and look at what else writes there".to_owned())
        }
        error => error.hint(),
    };
    let failure = Failure::new(Exit::Preflight, "taking the lock of the release failed").because(error);
    failure
        .hint(format!("nothing was changed; {}", hint.unwrap_or_else(|| "allow `s3:GetObject` and `s3:PutObject` on the state".to_owned())))
}

fn locked(held: &Held) -> Failure {
    let end = held.ends_in().unwrap_or(held.lease).as_secs();
    Failure::new(Exit::Locked, "another release holds the lock; nothing was changed")
        .because(held.who())
        .hint(format!("wait for it with --lock-wait 15m, or stop it where it runs; if it was killed, its lease ends by itself in {end} s"))
}

/// What has moved since the plan was drawn, now that nobody else of ours can move it; and what is live by the state as it is now. Whether
/// the lock is one is asked at the same time.
pub(super) async fn moved(
    request: &Request,
    world: &World,
    plan: &Plan,
    lease: Option<&Lease>,
) -> Result<(Vec<String>, Option<Live>), Failure> {
    let (Some(journal), Some(lease)) = (&world.journal, lease) else { return Ok((Vec::new(), None)) };
    let lock = async { lease.held_to_conditions().await.map_err(untakeable) };
    let state = async {
        let again = |error| Failure::new(Exit::Preflight, "looking at the state again failed").because(error);
        journal.moved().await.map_err(again)
    };
    let live = async { journal.live().await.map_err(|error| super::world::unreadable(error, "what is live")) };
    let services = &request.project.config.services;
    let planned: Vec<_> = plan.services.keys().filter_map(|name| services.get_key_value(name)).collect();
    let observed = async { service::observe::services(&world.aws, &planned).await };
    let ((), mut moved, live, observed) = try_join4(lock, state, live, observed).await?;
    for (name, found) in observed {
        match found {
            service::plan::Found::Service(found) if plan.services.get(&name).is_some_and(|planned| planned.from == found.revision) => {}
            service::plan::Found::Service(found) => moved.push(format!("service `{name}` runs {}", found.revision)),
            _ => moved.push(format!("service `{name}` is gone")),
        }
    }
    Ok((moved, Some(live)))
}

/// The failure of a run whose lease has ended: nothing more was written after that.
pub(super) fn ended(lease: &Lease, release: &ReleaseId, failure: Option<Failure>) -> Failure {
    let why = match lease.loss() {
        Some(Loss::Taken(holder)) => format!("{} has taken it at {}, for release {}", holder.by, holder.at, holder.release),
        Some(Loss::Gone) => "somebody has removed it".to_owned(),
        None => "it could not be renewed in time".to_owned(),
    };
    let during = failure.map_or(String::new(), |failure| format!("; it ended {failure}"));
    let failure = Failure::new(Exit::LeaseLost, format!("the lock was lost in the middle of release {release}"));
    let failure = failure.because(format!("{why}{during}"));
    failure.hint("nothing was written since; `windlass status` says what is live, and the same command goes on where this one stopped")
}

/// Was a write refused because the lease had ended, or somebody else's write found in the state?
pub(super) fn is_lost(failure: &Failure) -> bool {
    let mut next = std::error::Error::source(failure);
    while let Some(error) = next {
        let fenced = error.downcast_ref::<AwsError>().is_some_and(AwsError::is_fenced);
        if fenced || error.downcast_ref::<JournalError>().is_some_and(JournalError::is_lost) {
            return true;
        }
        next = error.source();
    }
    false
}
