//! Pushes an image, and makes sure that the registry has what was built.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::aws::{Aws, AwsError, once_known};
use crate::docker::{self, Credentials, DockerError, Engine, ImageId};
use crate::event::{Events, Step};
use crate::model::{Exit, Failure, ImageDigest};

use super::plan::ImagePlan;

/// How often a push is begun after failures that may pass, and for how long, without a layer that arrives in between. Layers that have
/// arrived are not sent again. The engine itself tries a layer five times, over 50 s, when the registry answers with a 5xx.
const PUSHES: u32 = 6;
const LONGEST: Duration = Duration::from_secs(90);
/// A login that was refused sooner than this after it was given is no login at all; later it may have expired.
const EXPIRES: Duration = Duration::from_mins(1);

/// The layers of an image on their way, over every attempt.
#[derive(Debug, Default)]
struct Layers {
    /// How far each is in this attempt.
    under_way: BTreeMap<String, (u64, u64)>,
    sent: BTreeSet<String>,
    all: BTreeSet<String>,
}

impl Layers {
    fn take(&mut self, progress: docker::Progress, step: &Step, events: &Events) {
        let arrived = progress.arrived();
        let Some(layer) = progress.layer else { return };
        self.all.insert(layer.clone());
        if arrived == Some(true) {
            self.sent.insert(layer.clone());
        }
        let bytes = match (arrived, self.under_way.get(&layer)) {
            (Some(_), Some((_, total))) => Some((*total, *total)),
            _ => progress.bytes,
        };
        let Some((done, total)) = bytes else { return };
        events.part(step, &layer, done, total, "B");
        self.under_way.insert(layer, (done, total));
        let (done, total) = self.under_way.values().fold((0, 0), |sum, (done, total)| (sum.0 + done, sum.1 + total));
        events.progress(step, done, total, "B");
    }

    fn said(&self) -> String {
        format!("{} of {} layers sent", self.sent.len(), self.all.len())
    }
}

/// Pushes the image `id` by its tag, and returns the digest that the registry has it by, and what was sent.
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
) -> Result<(ImageDigest, String), Failure> {
    let what = || format!("service `{name}`: pushing to `{}` failed", plan.uri);
    let aws_failed = |error: AwsError| {
        let hint = error.hint().unwrap_or_else(|| "nothing live has changed; run again".to_owned());
        Failure::new(Exit::Images, what()).because(error).hint(hint)
    };
    let mut refused_once = false;
    let mut layers = Layers::default();
    let (mut attempt, mut since, mut arrived) = (0, Instant::now(), 0);
    let pushed = loop {
        attempt += 1;
        // Asked for just in time and never written anywhere.
        let token = aws.registry_credentials().await.map_err(aws_failed)?;
        let credentials = Credentials { username: token.username, password: token.password };
        let asked = Instant::now();
        layers.under_way.clear();
        let on_progress = |progress: docker::Progress| layers.take(progress, step, events);
        match docker::push(engine, &plan.uri, &plan.tag, Some(&credentials), on_progress).await {
            Ok(digest) => break Some(digest),
            Err(error) if error.is_tag_immutable() => break None,
            Err(error) if error.is_unauthorized() && (!refused_once || asked.elapsed() > EXPIRES) => {
                refused_once = true;
                events.note(format!("{name}: the registry wants another login ({error}), asking for one"));
            }
            Err(error) if error.is_transient() => {
                if layers.sent.len() > arrived {
                    (attempt, since, arrived) = (1, Instant::now(), layers.sent.len());
                }
                if attempt >= PUSHES || since.elapsed() > LONGEST {
                    let tried = format!("{}: {attempt} times in {} s", what(), since.elapsed().as_secs());
                    return Err(failed(tried, error));
                }
                events.note(format!("{name}: push attempt {attempt} of {PUSHES} failed ({error}), trying again"));
                tokio::time::sleep(Duration::from_secs(1 << (attempt - 1).min(4))).await;
            }
            Err(error) => return Err(failed(what(), error)),
        }
    };
    // The registry may know what ECR does not answer yet.
    let ask = async || aws.image_digest(&plan.repository, &plan.tag).await;
    let registered = once_known(ask, |found| matches!(found, Ok(None))).await.map_err(aws_failed)?;
    match (pushed, registered) {
        (Some(pushed), Some(registered)) if pushed == registered => Ok((pushed, layers.said())),
        (None, Some(registered)) => {
            let manifest = aws.image_manifest(None, &plan.repository, &plan.tag).await.map_err(aws_failed)?;
            // An engine knows an image by its configuration, or, with containerd's store, by its manifest.
            if registered.to_string() == id.as_str() {
                return Ok((registered, "another run has pushed it".to_owned()));
            }
            if manifest.is_some_and(|manifest| super::manifest::configuration(&manifest.json).as_deref() == Some(id.as_str())) {
                return Ok((registered, "another run has pushed it".to_owned()));
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
    let hint = error.hint().unwrap_or_else(|| {
        let so = if error.is_unauthorized() {
            "a fresh login of ECR's was not taken; does `registry` name the registry of this account's ECR?"
        } else {
            "run again: layers that have arrived are not sent again"
        };
        format!("nothing live has changed; {so}")
    });
    Failure::new(Exit::Images, what).because(error).hint(hint)
}
