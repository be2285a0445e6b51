//! Which releases there were, and what they came to.

use crate::event::Events;
use crate::journal::Record;
use crate::model::{Exit, Failure};

use super::{Request, preflight, prepare};

/// The records of the newest `limit` releases, the newest first.
pub(super) async fn history(request: &Request, limit: usize, events: &Events) -> Result<Vec<Record>, Failure> {
    let (aws, _) = preflight::connect_and_identify(request, events).await?;
    let Some(journal) = prepare::journal(&request.project.config, &aws) else {
        let failure = Failure::new(Exit::Preflight, "there is no history: `state: none` keeps none");
        return Err(failure.hint("name a bucket under `state`"));
    };
    let unreadable = |error| prepare::unreadable(error, "records");
    let ids = journal.releases().await.map_err(unreadable)?;
    let records = ids.iter().take(limit).map(|id| journal.record(id));
    let records = futures_util::future::try_join_all(records).await.map_err(unreadable)?;
    Ok(records.into_iter().flatten().collect())
}
