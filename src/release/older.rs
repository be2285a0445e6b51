//! Refuses to put something older in the place of something newer, unless that is asked for.

use crate::event::Events;
use crate::journal::Live;
use crate::model::{Commit, Exit, Failure, ReleaseId, UnitName};
use crate::plan::Plan;
use crate::service::plan::Action;

use super::{Request, World, commit};

/// What is live of a unit: the release and its commit.
type Now<'a> = (&'a UnitName, &'a ReleaseId, Option<&'a Commit>);

/// What is live of the units that the plan changes.
fn replaced<'a>(plan: &'a Plan, live: &'a Live) -> Vec<Now<'a>> {
    let sites = plan.sites.iter().filter(|(_, site)| !site.is_empty());
    let sites = sites.filter_map(|(name, _)| live.sites.get(name).map(|live| (name, &live.release, live.commit.as_ref())));
    let migrations = plan.migrations.iter().filter(|(_, migration)| !migration.applied);
    let migrations = migrations.filter_map(|(name, _)| live.migrations.get(name).map(|live| (name, &live.release, live.commit.as_ref())));
    let services = plan.services.iter().filter(|(_, service)| service.action != Action::Nothing);
    let services = services.filter_map(|(name, _)| live.services.get(name).map(|live| (name, &live.release, live.commit.as_ref())));
    sites.chain(migrations).chain(services).collect()
}

/// Refuses a plan whose commit lies behind that of a unit which it changes, or whose release a newer one has superseded. `going_on` is the
/// release that is gone on with, if it is.
pub(super) async fn refuse(
    request: &Request,
    world: &World,
    live: &Live,
    plan: &Plan,
    going_on: Option<&ReleaseId>,
    events: &Events,
) -> Result<(), Failure> {
    for (unit, release, live) in replaced(plan, live) {
        let why = match (going_on, &plan.commit, live) {
            (Some(going_on), ..) if going_on < release => {
                Some(format!("`{unit}` is live from release {release}, which is newer than {going_on}"))
            }
            (_, Some(ours), Some(live)) if ours != live => behind(request, world, ours, live, release)
                .await
                .map(|how| format!("`{unit}` is live at commit {} (release {release}), and {} {how}", live.short(), ours.short())),
            _ => None,
        };
        let Some(why) = why else { continue };
        if request.hold.allow_older {
            events.note(format!("{why}: released all the same (--allow-older)"));
            continue;
        }
        let failure = Failure::new(Exit::Older, "this is older than what is live; nothing was changed").because(why);
        return Err(failure.hint("release a newer commit; go back with `windlass rollback`; or insist with --allow-older"));
    }
    Ok(())
}

/// As [`refuse`], by what was read for the plan: so that nobody takes a lock, or waits for one, only to be refused.
pub(super) async fn refuse_early(request: &Request, world: &World, plan: &Plan, events: &Events) -> Result<(), Failure> {
    if plan.restores.is_some() || request.hold.allow_older {
        return Ok(());
    }
    let mut live = world.live.clone();
    live.sites.extend(world.journal.as_ref().map(crate::journal::Journal::sites_seen).unwrap_or_default());
    let going_on = world.record.as_ref().map(|record| &record.release);
    refuse(request, world, &live, plan, going_on, events).await
}

/// How a commit lies behind another, if it does: by Git, or by its time where this checkout does not have the other.
async fn behind(request: &Request, world: &World, ours: &Commit, live: &Commit, release: &ReleaseId) -> Option<String> {
    match commit::is_behind(&request.project, &request.environment, ours, live).await {
        Some(true) => return Some("lies behind it".to_owned()),
        Some(false) => return None,
        None => {}
    }
    let made = match world.committed {
        Some(made) => made,
        None => commit::made(&request.project, &request.environment).await?,
    };
    let record = world.journal.as_ref()?.record(release).await.ok()??;
    (made < record.committed?).then(|| "was made before it".to_owned())
}
