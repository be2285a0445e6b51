//! Where the schema is ahead of the code that a rollback brings back: which migrations stay, and whether the policy lets that be.
//!
//! Deliberately absent: undoing a migration. What it has dropped, nobody brings back.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::{Config, Framework, Migration, RollbackPastMigrations};
use crate::event::{Outcome, StepRan};
use crate::journal::{Live, Record};
use crate::migration::verdict::named;
use crate::model::{Refusal, ReleaseId, UnitName};

/// A database whose schema is ahead of the code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// The migration.
    name: UnitName,
    /// The release that has migrated it last.
    by: Option<ReleaseId>,
    /// What later releases have applied; empty where nobody knows.
    applied: Vec<String>,
    /// Those that may have applied a part, and failed.
    failed: Vec<ReleaseId>,
}

/// Which databases are ahead of what was live `then`. `newer` are the records of all releases since, the newest first.
pub(super) fn ahead(live: &Live, then: &Live, newer: &[Record]) -> Vec<Ahead> {
    let tried = newer.iter().flat_map(|record| &record.steps).filter(|step| step.action == "migrate");
    let names: BTreeSet<UnitName> = live.migrations.keys().cloned().chain(tried.filter_map(|step| step.unit.parse().ok())).collect();
    let one = |name: &UnitName| {
        let now = live.migrations.get(name);
        let moved = now.is_some_and(|now| then.migrations.get(name).is_none_or(|then| then.image != now.image || then.code != now.code));
        let mut steps = Vec::new();
        for record in newer.iter().rev() {
            let ours = record.steps.iter().filter(|step| step.unit == name.as_str() && step.action == "migrate");
            steps.extend(ours.map(|step| (&record.release, step)));
        }
        let (mut applied, mut failed) = (Vec::new(), Vec::new());
        for (release, step) in &steps {
            match step.outcome {
                Outcome::Done => applied.extend(step.detail.split_once("applied ").map(|(_, names)| names.to_owned())),
                // Each run of a release that fails again leaves a step.
                Outcome::Failed if may_have_applied(step) && !failed.contains(*release) => failed.push((*release).clone()),
                _ => {}
            }
        }
        // Another image with the same migrations changes no schema.
        let unchanged = !steps.is_empty() && failed.is_empty() && steps.iter().all(|(_, step)| step.outcome != Outcome::Done);
        ((moved && !unchanged) || !failed.is_empty()).then(|| Ahead {
            name: name.clone(),
            by: now.filter(|_| moved).map(|now| now.release.clone()),
            applied,
            failed,
        })
    };
    names.iter().filter_map(one).collect()
}

/// Is it not known of a failed migration that it has applied nothing?
fn may_have_applied(step: &StepRan) -> bool {
    !step.why.as_ref().is_some_and(|why| why.changed_nothing)
}

/// What a failed migration of Prisma's leaves behind, in words: until somebody marks it, Prisma applies nothing more. `newer` are the records
/// of all releases since, the newest first.
///
/// <https://www.prisma.io/docs/orm/prisma-migrate/workflows/patching-and-hotfixing#failed-migration>
pub(super) fn blocked(config: &Config, newer: &[Record]) -> Vec<String> {
    let last = |name: &UnitName| {
        let of = |record: &Record| {
            let ours = |step: &&StepRan| step.unit == name.as_str() && step.action == "migrate" && step.outcome != Outcome::Unchanged;
            record.steps.iter().rev().find(ours).map(|step| (record.release.clone(), step.clone()))
        };
        newer.iter().find_map(of)
    };
    let one = |(name, migration): (&UnitName, &Migration)| {
        let (release, step) = last(name).filter(|(_, step)| step.outcome == Outcome::Failed)?;
        let said = step.why.iter().flat_map(|why| &why.causes).chain([&step.detail]).map(String::as_str).collect::<Vec<_>>().join(" ");
        let stands = said.contains("P3018") || said.contains("P3009");
        let cure = |named: &str| {
            format!(
                "nothing more is applied to it (P3009) until `prisma migrate resolve --rolled-back {named}` (or `--applied {named}`) has marked it"
            )
        };
        (migration.framework == Framework::Prisma && (stands || may_have_applied(&step))).then(|| match named(&said) {
            Some(named) if stands => format!("`{named}` of release {release} stands as failed in the database of `{name}`: {}", cure(named)),
            _ => format!(
                "a migration of release {release} may stand as failed in the database of `{name}`: then {}; `prisma migrate status` names it",
                cure("NAME")
            ),
        })
    };
    config.migrations.iter().filter_map(one).collect()
}

impl Ahead {
    /// Why a rollback of these services is refused, if the policy asks for it. Pages alone do not meet the schema.
    pub(super) fn refusal(&self, config: &Config, services: &BTreeSet<UnitName>) -> Option<Refusal> {
        let meets = match config.migrations.get(&self.name) {
            Some(migration) => std::iter::once(&migration.from).chain(&migration.services).any(|unit| services.contains(unit)),
            None => !services.is_empty(),
        };
        (config.policy.rollback_past_migrations == RollbackPastMigrations::Refuse && meets).then(|| {
            Refusal::new(
                format!("{self}; `policy.rollback_past_migrations` is `refuse`"),
                "see whether the old code gets along with these migrations: if so, write `rollback_past_migrations: warn` for this \
                 rollback; if not, release a commit that mends it",
            )
        })
    }
}

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, by, applied, failed } = self;
        match by {
            Some(by) => write!(f, "the migrations of `{name}` stay as release {by} has left them, the schema is ahead of the code")?,
            None => write!(f, "the schema of `{name}` may be ahead of the code")?,
        }
        if !applied.is_empty() {
            write!(f, ": {}", applied.join(", "))?;
        }
        if !failed.is_empty() {
            let failed: Vec<&str> = failed.iter().map(ReleaseId::as_str).collect();
            write!(f, " (a migration of {} failed, and may have applied a part)", failed.join(", "))?;
        }
        Ok(())
    }
}
