//! Which releases there were, and what they came to.

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::event::Events;
use crate::journal::{Journal, JournalError, Record};
use crate::model::{Exit, Failure, ReleaseId};
use crate::plan::Plan;

use super::{Request, parts, preflight, world};

/// So many records are read at a time.
const AT_ONCE: usize = 32;

/// The records of the newest `limit` releases, the newest first.
pub(super) async fn history(request: &Request, limit: usize, events: &Events) -> Result<Vec<Record>, Failure> {
    let journal = journal(request, events).await?;
    let unreadable = |error| world::unreadable(error, "records");
    let ids = journal.releases().await.map_err(unreadable)?;
    let records = ids.iter().take(limit).map(|id| journal.record_or_why(id));
    let records: Vec<_> = futures_util::stream::iter(records).buffered(AT_ONCE).try_collect().await.map_err(unreadable)?;
    let mut read = Vec::new();
    for record in records {
        match record {
            Ok(record) => read.extend(record),
            Err(why) => events.note(unreadable_record(why)),
        }
    }
    Ok(read)
}

/// Why a record is left out.
pub(super) fn unreadable_record(why: JournalError) -> String {
    let failure = world::unreadable(why, "record");
    [vec!["left out".to_owned()], failure.causes()].concat().join(": ")
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
    world::journal(&request.project.config, &aws).ok_or_else(|| {
        let failure = Failure::new(Exit::Preflight, "there is no history: `state: none` keeps none");
        failure.hint("name a bucket under `state`")
    })
}
