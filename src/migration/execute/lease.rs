//! Holds the lease of a database while it is migrated, and for as long as that may go on without windlass.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::journal::{Attempt, Database, Held, Holder, Lease, Process};
use crate::model::{Exit, Failure};

use super::One;

/// What comes on top of the migration's own limit: its start, and finding out what came of it.
const MARGIN: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_secs(1);

/// Takes the lease; `None` where no state is kept: there the database's own lock is all.
pub(super) async fn take(one: &One<'_>) -> Result<Option<Lease>, Failure> {
    let Some(journal) = one.run.journal else { return Ok(None) };
    let database = Database { name: one.plan.database.clone(), owner: one.name.to_string() };
    let holder = Holder {
        release: one.run.release.clone(),
        by: one.run.by.to_owned(),
        at: one.run.at.to_owned(),
        since: OffsetDateTime::now_utc(),
        process: Process::this(),
    };
    let lasts = Duration::from_secs(one.plan.timeout_seconds) + MARGIN;
    let start = Instant::now();
    let mut said = false;
    loop {
        let held = match journal.take_database(&database, &holder, lasts, None).await {
            Ok(Attempt::Taken(lease)) => return Ok(Some(lease)),
            Ok(Attempt::Held(held)) => held,
            Err(error) => {
                let failure = Failure::new(Exit::Migration, format!("migration `{}`: taking its database's lease failed", one.name));
                let cure =
                    "allow `s3:GetObject` and `s3:PutObject` below `databases` of the state's prefix, and run the same command again";
                return Err(failure.because(error).hint(format!("nothing was migrated and no service was rolled; {cure}")));
            }
        };
        if start.elapsed() >= one.run.wait {
            return Err(busy(one, &held));
        }
        if !said {
            one.run.events.note(format!("{}: waiting for the database `{}`: {}", one.name, database.name, held.who()));
            said = true;
        }
        sleep(LOOK).await;
    }
}

fn busy(one: &One<'_>, held: &Held) -> Failure {
    let end = held.ends_in().unwrap_or(held.lease).as_secs();
    let failure =
        Failure::new(Exit::Locked, format!("migration `{}`: another release migrates the database `{}`", one.name, one.plan.database));
    failure.because(held.who()).hint(format!(
        "nothing was migrated and no service was rolled; wait for it with --lock-wait 15m; if it was killed, its lease ends by itself in {end} s, as its migration may go on until then"
    ))
}

/// Lets go of the lease. That it ends by itself otherwise is no reason to fail.
pub(super) async fn let_go(one: &One<'_>, lease: Option<Lease>) {
    if let Some(lease) = lease
        && let Err(error) = lease.release().await
    {
        one.run.events.note(format!("{}: the database's lease could not be let go of ({error}): it ends by itself", one.name));
    }
}
