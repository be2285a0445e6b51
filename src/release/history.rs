//! Which releases there were, and what they came to.

use crate::event::Events;
use crate::journal::{Journal, Record};
use crate::model::{Exit, Failure, ReleaseId};
use crate::plan::Plan;

use super::{Request, parts, preflight, prepare};

/// The records of the newest `limit` releases, the newest first.
pub(super) async fn history(request: &Request, limit: usize, events: &Events) -> Result<Vec<Record>, Failure> {
    let journal = journal(request, events).await?;
    let unreadable = |error| prepare::unreadable(error, "records");
    let ids = journal.releases().await.map_err(unreadable)?;
    let records = ids.iter().take(limit).map(|id| journal.record(id));
    let records = futures_util::future::try_join_all(records).await.map_err(unreadable)?;
    Ok(records.into_iter().flatten().collect())
}

/// One release's record, and its plan if that is kept.
pub(super) async fn recorded(request: &Request, id: &ReleaseId, events: &Events) -> Result<(Record, Option<Plan>), Failure> {
    let journal = journal(request, events).await?;
    let record = parts::record(&journal, id).await?;
    let record = record.ok_or_else(|| {
        let failure = Failure::new(Exit::Preflight, format!("there is no release `{id}` in the state"));
        failure.hint("`windlass history` names those that there are")
    })?;
    // A record is worth more than nothing where the plan is of another version and cannot be read.
    let plan = journal.plan(id).await.unwrap_or_default();
    Ok((record, plan))
}

async fn journal(request: &Request, events: &Events) -> Result<Journal, Failure> {
    let (aws, _) = preflight::connect_and_identify(request, events).await?;
    prepare::journal(&request.project.config, &aws).ok_or_else(|| {
        let failure = Failure::new(Exit::Preflight, "there is no history: `state: none` keeps none");
        failure.hint("name a bucket under `state`")
    })
}
