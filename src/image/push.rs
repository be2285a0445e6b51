//! Pushes an image, and makes sure that the registry has what was built.

use std::time::{Duration, Instant};

use crate::aws::{Aws, AwsError};
use crate::docker::{self, Credentials, DockerError, Engine, ImageId};
use crate::event::{Events, Step};
use crate::model::{Exit, Failure, ImageDigest};

use super::plan::ImagePlan;

/// How often a push is begun again after a failure that may pass. Layers that have arrived are not sent again.
const PUSHES: u32 = 6;
/// A login that was refused sooner than this after it was given is no login at all; later it may have expired.
const EXPIRES: Duration = Duration::from_mins(1);

/// Pushes the image `id` by its tag, and returns the digest that the registry has it by.
///
/// # Errors
/// [`Exit::Images`]; nothing live has changed, and a second run sends what is missing.
pub(super) async fn push(
    aws: &Aws,
    engine: &Engine,
    name: &str,
    plan: &ImagePlan,
    id: &ImageId,
    step: &Step,
    events: &Events,
) -> Result<ImageDigest, Failure> {
    let what = || format!("service `{name}`: pushing to `{}` failed", plan.uri);
    let aws_failed = |error: AwsError| {
        let hint = error.hint().unwrap_or_else(|| "nothing live has changed; run again".to_owned());
        Failure::new(Exit::Images, what()).because(error).hint(hint)
    };
    let mut attempt = 0;
    let mut refused_once = false;
    let pushed = loop {
        attempt += 1;
        // Asked for just in time and never written anywhere.
        let token = aws.registry_credentials().await.map_err(aws_failed)?;
        let credentials = Credentials { username: token.username, password: token.password };
        let asked = Instant::now();
        let on_progress = |progress: docker::Progress| {
            if let Some((done, total)) = progress.bytes {
                events.progress(step, done.min(total), total, "B");
            }
        };
        match docker::push(engine, &plan.uri, &plan.tag, Some(&credentials), on_progress).await {
            Ok(digest) => break Some(digest),
            Err(error) if error.is_tag_immutable() => break None,
            Err(error) if error.is_unauthorized() && (!refused_once || asked.elapsed() > EXPIRES) => {
                refused_once = true;
                events.note(format!("{name}: the registry wants another login ({error}), asking for one"));
            }
            Err(error) if error.is_transient() && attempt < PUSHES => {
                events.note(format!("{name}: push attempt {attempt} of {PUSHES} failed ({error}), trying again"));
                tokio::time::sleep(Duration::from_secs(1 << (attempt - 1).min(4))).await;
            }
            Err(error) => return Err(failed(what(), error)),
        }
    };
    let registered = aws.image_digest(&plan.repository, &plan.tag).await.map_err(aws_failed)?;
    match (pushed, registered) {
        (Some(pushed), Some(registered)) if pushed == registered => Ok(pushed),
        (None, Some(registered)) => {
            let manifest = aws.image_manifest(None, &plan.repository, &plan.tag).await.map_err(aws_failed)?;
            // An engine knows an image by its configuration, or, with containerd's store, by its manifest.
            if registered.to_string() == id.as_str() {
                return Ok(registered);
            }
            if manifest.is_some_and(|manifest| super::manifest::configuration(&manifest.json).as_deref() == Some(id.as_str())) {
                return Ok(registered);
            }
            let failure = Failure::new(Exit::Images, what());
            let failure = failure.because(format!(
                "`{}` is taken by another image ({}), pushed by someone else since this run began, and the repository's tags never move",
                plan.tag,
                registered.short()
            ));
            Err(failure
                .hint("nothing live has changed; run again: an image that is there by this tag is of the same content, and is taken"))
        }
        (pushed, registered) => {
            let show = |digest: Option<ImageDigest>| digest.map_or("nothing".to_owned(), |digest| digest.to_string());
            let failure = Failure::new(Exit::Images, what());
            let failure =
                failure.because(format!("{} was pushed as {}, but the registry has {}", plan.tag, show(pushed), show(registered)));
            Err(failure.hint("does `registry` name the registry of this account's ECR?"))
        }
    }
}

fn failed(what: String, error: DockerError) -> Failure {
    let hint =
        error.hint().unwrap_or_else(|| "nothing live has changed; run again: layers that have arrived are not sent again".to_owned());
    Failure::new(Exit::Images, what).because(error).hint(hint)
}
