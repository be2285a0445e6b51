//! A commit that changes nothing is still a release: the one that is live. That is written down, once, and said.

use serde::{Deserialize, Serialize};

use crate::event::Events;
use crate::model::{Commit, Failure, ReleaseId, Stage};
use crate::plan::Plan;

use super::{World, world};

/// `commits/COMMIT.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Same {
    format: u32,
    commit: Commit,
    /// The newest release among what is live.
    release: ReleaseId,
}

/// Writes down that the plan's commit is the newest release that is live of its units, unless it is that release's own commit. A stage alone
/// says nothing of the kind: what the others bring may not be live yet.
pub(super) async fn say(world: &World, plan: &Plan, events: &Events) -> Result<(), Failure> {
    let (Some(journal), Some(commit), false) =
        (&world.journal, &plan.commit, plan.dirty || plan.restores.is_some() || plan.stages.len() < Stage::ALL.len())
    else {
        return Ok(());
    };
    let sites = journal.sites_seen();
    let sites = sites.iter().filter(|(name, _)| plan.sites.contains_key(*name)).map(|(_, live)| (&live.release, &live.commit));
    let services = plan.services.keys().filter_map(|name| world.live.services.get(name)).map(|live| (&live.release, &live.commit));
    let migrations = plan.migrations.keys().filter_map(|name| world.live.migrations.get(name)).map(|live| (&live.release, &live.commit));
    let live: Vec<_> = sites.chain(services).chain(migrations).collect();
    let Some((release, _)) = live.iter().max_by_key(|(release, _)| *release) else { return Ok(()) };
    if live.iter().any(|(_, live)| live.as_ref() == Some(commit)) {
        return Ok(());
    }
    let same = Same { format: 1, commit: commit.clone(), release: (*release).clone() };
    let new = journal.set_same(commit, &same).await.map_err(|error| world::unwritable(error, "the commit", None))?;
    if new {
        events.note(format!("commit {} is release {release}: written down, nothing else changes", commit.short()));
    }
    Ok(())
}
