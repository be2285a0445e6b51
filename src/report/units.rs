//! What a run has made of each unit: what was live before, and what is live now, as far as it is known.

use crate::event::{Outcome, StepRan};
use crate::journal::Record;
use crate::model::{Exit, ImageRef, Stage, UnitKind, UnitName};
use crate::plan::Plan;
use crate::service::plan::Action;

use super::{bytes, count};

/// What became of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It failed in between: what is live has to be looked at.
    Unsure,
    /// It is new.
    Changed,
    /// It was to be changed, and is not yet.
    Waiting,
    /// There was nothing to change.
    Unchanged,
    /// It was tried, failed, and is known to have changed nothing.
    Untouched,
}

/// One unit before and after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitChange {
    pub(super) kind: UnitKind,
    pub(super) name: UnitName,
    /// What was live.
    pub(super) before: String,
    /// What is, or was to be.
    pub(super) after: String,
    pub(super) state: State,
    /// Is it one of those that the run has failed at?
    pub(super) failed: bool,
}

impl UnitChange {
    /// What is live, in a line.
    pub(super) fn text(&self) -> String {
        match self.state {
            State::Changed => format!("{}; before: {}", self.after, self.before),
            State::Unchanged => format!("{}, unchanged", self.before),
            State::Waiting => format!("{}, still", self.before),
            State::Untouched => format!("{}, still: what failed has applied nothing", self.before),
            State::Unsure if self.kind == UnitKind::Migration => {
                format!("its migration failed: the schema may have changed in part; before: {}", self.before)
            }
            State::Unsure => format!("{} or {}: `windlass status` says", self.before, self.after),
        }
    }
}

/// What a migration has applied, in a line that is no longer than a screen is wide: a first one of Django applies twenty.
fn few(detail: &str) -> String {
    let Some((words, names)) = detail.rsplit_once("applied ") else { return detail.to_owned() };
    let names: Vec<&str> = names.split(", ").collect();
    match names.as_slice() {
        [first, .., last] if names.len() > 4 => format!("{words}applied {} migrations, {first} to {last}", names.len()),
        _ => detail.to_owned(),
    }
}

/// The units of a plan, in the order of the stages. `record` is missing where nothing was begun, or no plan kept.
pub(super) fn units(plan: &Plan, record: Option<&Record>) -> Vec<UnitChange> {
    let steps: &[StepRan] = record.map_or(&[], |record| &record.steps);
    let last = |name: &UnitName, stage: Stage, actions: &[&str]| {
        let own = |step: &&StepRan| step.stage == Some(stage) && step.unit == name.as_str() && actions.contains(&step.action.as_str());
        steps.iter().rev().find(own)
    };
    // That it was brought back does not mend what failed.
    let failed = |name: &UnitName| {
        let own = |step: &&StepRan| step.stage.is_some() && step.unit == name.as_str() && step.action != "roll back";
        steps.iter().rev().find(own).is_some_and(|step| step.outcome == Outcome::Failed)
    };
    let mut changes = Vec::new();
    for (name, migration) in &plan.migrations {
        let before = record.and_then(|record| record.before.migrations.get(name));
        let before = before.map_or("no recorded migration".to_owned(), |live| format!("migrated with {}", live.image.digest.short()));
        let ran = last(name, Stage::Migrations, &["migrate"]);
        let planned = || format!("migrated with {}", image_of(&migration.image, record));
        let (state, after) = match ran.map(|step| (step.outcome, step)) {
            _ if migration.applied => (State::Unchanged, before.clone()),
            Some((Outcome::Failed, step)) if step.why.as_ref().is_some_and(|why| why.changed_nothing) => (State::Untouched, planned()),
            Some((Outcome::Failed, _)) => (State::Unsure, planned()),
            Some((_, step)) => (State::Changed, few(super::first_line(&step.detail))),
            None => (State::Waiting, planned()),
        };
        changes.push(UnitChange { kind: UnitKind::Migration, failed: failed(name), name: name.clone(), before, after, state });
    }
    for (name, service) in &plan.services {
        let now = record.and_then(|record| record.after.services.get(name));
        let now = now.filter(|live| record.is_some_and(|record| live.release == record.release));
        // An earlier run of the release has rolled it, or begun to: what this one has found was no longer what was live before.
        let was = record.and_then(|record| record.before.services.get(name));
        let brought = now.is_some_and(|live| record.is_some_and(|record| record.has_brought(name, live)));
        let earlier = brought && service.action == Action::Nothing;
        let watched = matches!(service.action, Action::Watch(_)) && was.is_some();
        // Whatever came last, of all runs.
        let tried = last(name, Stage::Services, &["roll", "roll back"]);
        let back = tried.filter(|step| step.action == "roll back").map(|step| step.outcome);
        let served = record.and_then(|record| record.served.get(name));
        let before = match (was, served) {
            _ if !earlier && !watched && (back.is_none() || service.action != Action::Nothing) => {
                format!("{} ({})", revision(&service.from), short(&service.from_image))
            }
            (Some(was), _) => format!("{} ({})", revision(&was.revision), was.image.digest.short()),
            (None, Some(served)) => revision(&served.revision).to_owned(),
            (None, None) => "no recorded release".to_owned(),
        };
        let planned = match &service.action {
            Action::Return(to) => format!("{} ({})", revision(to), image_of(&service.image, record)),
            _ => image_of(&service.image, record),
        };
        let rolled = now.map_or(planned.clone(), |live| format!("{} ({})", revision(&live.revision), live.image.digest.short()));
        let rolled_back = |step: &StepRan| step.why.as_ref().is_some_and(|why| why.exit == Exit::RolledBack.code());
        let state = match (tried, back) {
            (_, Some(Outcome::Failed)) => State::Unsure,
            (_, Some(_)) => State::Waiting,
            _ if earlier => State::Changed,
            _ if service.action == Action::Nothing => State::Unchanged,
            (Some(step), None) if step.outcome != Outcome::Failed => State::Changed,
            (Some(step), None) if !rolled_back(step) => State::Unsure,
            // A run that was told to end leaves to ECS what is under way.
            (None, None) if record.is_some_and(left_midway) => State::Unsure,
            _ => State::Waiting,
        };
        let after = if state == State::Changed { rolled } else { planned };
        changes.push(UnitChange { kind: UnitKind::Service, failed: failed(name), name: name.clone(), before, after, state });
    }
    for (name, site) in &plan.sites {
        let before = record.and_then(|record| record.before.sites.get(name));
        let before = before.map_or("no recorded release".to_owned(), |live| format!("release {}", live.release));
        let total: u64 = site.manifest.files.values().map(|file| file.size).sum();
        let size = format!("{}, {}", count(site.manifest.files.len(), "file"), bytes(total));
        let after = record.map_or(size.clone(), |record| format!("release {} ({size})", record.release));
        let published = last(name, Stage::Publish, &["publish"]).map(|step| step.outcome);
        let state = match published {
            _ if site.is_empty() => State::Unchanged,
            Some(Outcome::Failed) => State::Unsure,
            Some(_) => State::Changed,
            None => State::Waiting,
        };
        let before = if state == State::Unchanged && record.is_none() { size } else { before };
        changes.push(UnitChange { kind: UnitKind::Site, failed: failed(name), name: name.clone(), before, after, state });
    }
    changes
}

/// Was it told to end, or did it lose the lock, while services rolled?
fn left_midway(record: &Record) -> bool {
    let exits = [Exit::Interrupted, Exit::Terminated, Exit::LeaseLost].map(Exit::code);
    let exit = record.runs.last().and_then(|run| run.exit);
    let stage = record.stages.get(&Stage::Services).map(|ran| ran.outcome);
    stage == Some(Outcome::Failed) && exit.is_some_and(|exit| exits.contains(&exit))
}

/// An image; of one that the stage `images` yields, as much as is known by now.
fn image_of(image: &ImageRef, record: Option<&Record>) -> String {
    let unit = match image {
        ImageRef::Known(uri) => return uri.digest.short(),
        ImageRef::FromStep(unit) => unit,
    };
    let pushed = |ran: &StepRan| {
        let own = ran.stage == Some(Stage::Images) && ran.unit.split(", ").any(|name| name == unit.as_str());
        own && matches!(ran.action.as_str(), "push" | "copy") && ran.outcome != Outcome::Failed
    };
    match record.map(|record| (record.images.get(unit), record.steps.iter().any(pushed))) {
        Some((Some(image), _)) => image.digest.short(),
        Some((None, true)) => "an image that has been pushed".to_owned(),
        _ => "an image that was still to be built".to_owned(),
    }
}

fn revision(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn short(image: &str) -> String {
    image.parse::<crate::model::ImageUri>().map_or_else(|_| image.to_owned(), |uri| uri.digest.short())
}
