//! Invalidates, and waits a while for the edges.

use std::time::Duration;

use crate::aws::{Aws, AwsError};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ReleaseId, Sha256, Stage};

use super::plan::Invalidation;

/// AWS names 25 s for nearly all invalidations; one that takes longer finishes by itself, so waiting longer helps nobody.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long others' invalidations are waited for, where there are as many as there may be.
const FULL: Duration = Duration::from_mins(5);

/// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html>: at most 3,000 files and 15 patterns in progress.
fn is_full(error: &AwsError) -> bool {
    error.code() == Some("TooManyInvalidationsInProgress")
}

/// Invalidates the paths in a distribution.
///
/// The caller reference is made of the release and the paths, so that asking again after a lost answer is the same invalidation and no second one.
/// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_InvalidationBatch.html>
///
/// # Errors
/// [`Exit::Publish`] if it cannot be asked for. That it takes long is said, and is no failure.
pub async fn invalidate(aws: &Aws, release: &ReleaseId, id: &str, plan: &Invalidation, events: &Events) -> Result<(), Failure> {
    let step = Step::of(Stage::Publish, id, "invalidate");
    let reference = format!("{release}-{}", &Sha256::of(plan.paths.join("\n").as_bytes()).to_string()[..12]);
    let failed = |error: AwsError| {
        let hint = error.hint().unwrap_or_else(|| {
            "the new files are in the bucket, edges may serve old ones until their time is up; run the same command again".to_owned()
        });
        Failure::new(Exit::Publish, format!("invalidating {} paths of distribution `{id}` failed", plan.paths.len()))
            .because(error)
            .hint(hint)
    };
    events
        .step(step, async {
            let start = tokio::time::Instant::now();
            let mut said = false;
            let invalidation = loop {
                match aws.create_invalidation(id, &reference, &plan.paths).await {
                    Err(error) if is_full(&error) && start.elapsed() < FULL => {
                        if !said {
                            events.note(format!(
                                "{id}: CloudFront has as many invalidations in progress as it takes; waiting for one to end"
                            ));
                        }
                        said = true;
                        tokio::time::sleep(Duration::from_secs(3)).await;
                    }
                    made => break made.map_err(failed)?,
                }
            };
            let start = tokio::time::Instant::now();
            while start.elapsed() < PATIENCE {
                match aws.invalidation_done(id, &invalidation).await {
                    Ok(true) => return Ok(((), Outcome::Done, format!("{} (invalidation {invalidation})", plan.paths.join(" ")))),
                    Err(error) if error.is_denied() || error.is_expired_credentials() => return Err(failed(error)),
                    // It goes on whatever becomes of a look; one that was just made may not be known everywhere.
                    Ok(false) | Err(_) => {}
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Ok(((), Outcome::Done, format!("invalidation {invalidation} goes on at CloudFront after {} s", PATIENCE.as_secs())))
        })
        .await
}
