//! Takes a snapshot of the database before it is migrated, and waits until it could be restored.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::aws::{AwsError, SnapshotOf};
use crate::event::{Outcome, Step};
use crate::model::{Exit, Failure, Stage};

use super::{NOT_ROLLED, One};

/// How long RDS may take for it: the first one of a large database is a full copy.
const LONGEST: Duration = Duration::from_hours(2);
const LOOK: Duration = Duration::from_secs(5);
/// How long a database that is busy is asked again.
const BUSY: Duration = Duration::from_mins(5);

/// Takes the snapshot of this release's, or waits for the one that an earlier run of it has begun.
pub(super) async fn take(one: &One<'_>, instance: &str) -> Result<(), Failure> {
    let step = Step::of(Stage::Migrations, one.name, "snapshot");
    let failed = |error: AwsError| {
        let cure = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
        let failure =
            Failure::new(Exit::Migration, format!("migration `{}`: the snapshot of `{instance}` failed", one.name)).because(error);
        failure.hint(format!("nothing was migrated; {NOT_ROLLED}; {cure}"))
    };
    let ended = |why: String| {
        let failure = Failure::new(Exit::Migration, format!("migration `{}`: the snapshot of `{instance}` failed", one.name)).because(why);
        failure.hint(format!("nothing was migrated; {NOT_ROLLED}; look at the snapshot in RDS, and run the same command again"))
    };
    let work = async {
        let aws = one.run.aws;
        let found = aws.db_instances(Some(instance)).await.map_err(failed)?;
        let cluster = found.into_iter().next().and_then(|found| found.cluster);
        let of = cluster.map_or_else(|| SnapshotOf::Instance(instance.to_owned()), SnapshotOf::Cluster);
        let name = name(one);
        let began = Instant::now();
        if aws.db_snapshot(&of, &name).await.map_err(failed)?.is_none() {
            loop {
                match aws.create_db_snapshot(&of, &name).await {
                    Ok(()) => break,
                    // An attempt whose answer was lost has begun it.
                    Err(error) if error.is_conflict() => break,
                    // It is being backed up, or changed.
                    Err(error) if error.code().is_some_and(|code| code.contains("State")) && began.elapsed() < BUSY => sleep(LOOK).await,
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        loop {
            match aws.db_snapshot(&of, &name).await.map_err(failed)? {
                Some(snapshot) if snapshot.status == "available" => return Ok(((), Outcome::Done, format!("{name} can be restored"))),
                Some(snapshot) if snapshot.status == "failed" => return Err(ended(format!("RDS says that {name} has failed"))),
                Some(snapshot) => one.run.events.progress(&step, u64::try_from(snapshot.progress).unwrap_or_default(), 100, "%"),
                // What RDS answers lags behind what it was told.
                None => {}
            }
            if began.elapsed() > LONGEST {
                return Err(ended(format!("{name} was not done after {} s", LONGEST.as_secs())));
            }
            sleep(LOOK.min(began.elapsed() + Duration::from_millis(500))).await;
        }
    };
    one.run.events.step(step.clone(), work).await
}

/// Of the migration and the release: a second run takes no second one.
fn name(one: &One<'_>) -> String {
    let text = format!("windlass-{}-{}", one.name, one.run.release).to_lowercase();
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>().replace("--", "-")
}
