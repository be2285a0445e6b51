//! Invalidates, and waits a while for the edges.

use std::time::Duration;

use crate::aws::Aws;
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ReleaseId, Sha256, Stage};

use super::plan::Invalidation;

/// AWS names 25 s for nearly all invalidations; one that takes longer finishes by itself, so waiting longer helps nobody.
const PATIENCE: Duration = Duration::from_secs(90);

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
    let failed = |error: crate::aws::AwsError| {
        let hint = error.hint().unwrap_or_else(|| {
            "the new files are in the bucket, edges may serve old ones until their time is up; run the same command again".to_owned()
        });
        Failure::new(Exit::Publish, format!("invalidating {} paths of distribution `{id}` failed", plan.paths.len()))
            .because(error)
            .hint(hint)
    };
    events
        .step(step, async {
            let invalidation = aws.create_invalidation(id, &reference, &plan.paths).await.map_err(failed)?;
            let start = tokio::time::Instant::now();
            while start.elapsed() < PATIENCE {
                if aws.invalidation_done(id, &invalidation).await.map_err(failed)? {
                    return Ok(((), Outcome::Done, format!("{} (invalidation {invalidation})", plan.paths.join(" "))));
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Ok(((), Outcome::Done, format!("invalidation {invalidation} goes on at CloudFront after {} s", PATIENCE.as_secs())))
        })
        .await
}
