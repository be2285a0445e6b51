//! Builds and pushes one image.

use std::path::Path;
use std::time::Duration;

use crate::aws::Aws;
use crate::docker::{self, Build, Credentials, DockerError, Engine, Recipe};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageDigest, ImageUri, Stage, UnitName};

use super::plan::ImagePlan;

/// How often a push is begun again after a failure that may pass. Layers that have arrived are not sent again.
const PUSHES: u32 = 5;

/// Builds the image and pushes it, unless the registry has it; `built` if this run has built it already.
///
/// # Errors
/// [`Exit::Images`]; nothing live has changed.
pub async fn image(
    aws: &Aws,
    engine: Option<&Engine>,
    root: &Path,
    name: &UnitName,
    plan: &ImagePlan,
    built: bool,
    events: &Events,
) -> Result<ImageUri, Failure> {
    let uri = |digest| ImageUri { repository: plan.uri.clone(), digest };
    let Some(engine) = engine.filter(|_| plan.present.is_none()) else {
        let step = Step::of(Stage::Images, name, "image");
        let known = async {
            let digest =
                plan.present.ok_or_else(|| Failure::new(Exit::Bug, format!("service `{name}`: no engine was connected for a build")))?;
            Ok((uri(digest), Outcome::Unchanged, format!("{} is in the registry", plan.tag)))
        };
        return events.step(step, known).await;
    };
    if !built {
        build(engine, root, name, plan, Step::of(Stage::Images, name, "build"), events).await?;
    }
    let step = Step::of(Stage::Images, name, "push");
    events
        .step(step.clone(), async {
            let digest = push(aws, engine, name, plan, &step, events).await?;
            Ok((uri(digest), Outcome::Done, format!("{} as {}", plan.tag, digest.short())))
        })
        .await
}

/// Builds the image and names it as it is to be pushed.
///
/// # Errors
/// [`Exit::Images`]; nothing live has changed.
pub async fn build(engine: &Engine, root: &Path, name: &UnitName, plan: &ImagePlan, step: Step, events: &Events) -> Result<(), Failure> {
    let failed = |error: DockerError| {
        let hint =
            error.hint().unwrap_or_else(|| "nothing live has changed; correct the Dockerfile or what it copies, and run again".to_owned());
        Failure::new(Exit::Images, format!("service `{name}`: building the image failed")).because(error).hint(hint)
    };
    events
        .step(step.clone(), async {
            let recipe = Recipe {
                dockerfile: plan.dockerfile.clone(),
                args: plan.args.clone(),
                target: plan.target.clone(),
                platform: plan.platform.clone(),
            };
            let context = docker::scan(&root.join(&plan.context), &plan.dockerfile).map_err(failed)?;
            let tag = format!("{}:{}", plan.uri, plan.tag);
            let build = Build { context: &context, recipe: &recipe, tags: vec![tag.clone()], labels: plan.labels.clone() };
            docker::build(engine, build, |line| events.output(&step, line)).await.map_err(failed)?;
            let built_for = docker::architecture(engine, &tag).await.map_err(failed)?;
            if built_for != plan.platform {
                let failure =
                    Failure::new(Exit::Images, format!("service `{name}`: the image is for {built_for}, not for {}", plan.platform));
                return Err(failure.hint("use a base image of the right platform, or correct `platform`"));
            }
            Ok(((), Outcome::Done, format!("from {} files for {built_for}", context.entries.len())))
        })
        .await
}

async fn push(aws: &Aws, engine: &Engine, name: &UnitName, plan: &ImagePlan, step: &Step, events: &Events) -> Result<ImageDigest, Failure> {
    let what = || format!("service `{name}`: pushing to `{}` failed", plan.uri);
    let aws_failed = |error: crate::aws::AwsError| {
        let hint = error.hint();
        let failure = Failure::new(Exit::Images, what()).because(error);
        failure.hint(hint.unwrap_or_else(|| "nothing live has changed; run again".to_owned()))
    };
    let mut attempt = 0;
    let mut refreshed = false;
    let pushed = loop {
        attempt += 1;
        // Asked for just in time and never written anywhere.
        let token = aws.registry_credentials().await.map_err(aws_failed)?;
        let credentials = Credentials { username: token.username, password: token.password };
        let on_progress = |progress: docker::Progress| {
            if let Some((done, total)) = progress.bytes {
                events.progress(step, done.min(total), total, "B");
            }
        };
        match docker::push(engine, &plan.uri, &plan.tag, Some(&credentials), on_progress).await {
            Ok(digest) => break Some(digest),
            // Somebody pushed the same content in the meantime: what the registry has by this tag is as good as ours.
            Err(error) if error.is_tag_immutable() => break None,
            Err(error) if error.is_unauthorized() && !refreshed => refreshed = true,
            Err(error) if error.is_transient() && attempt < PUSHES => {
                events.note(format!("{name}: push attempt {attempt} of {PUSHES} failed ({error}), trying again"));
                tokio::time::sleep(Duration::from_secs(1 << attempt.min(5))).await;
            }
            Err(error) => {
                let hint = error
                    .hint()
                    .unwrap_or_else(|| "nothing live has changed; run again: layers that have arrived are not sent again".to_owned());
                return Err(Failure::new(Exit::Images, what()).because(error).hint(hint));
            }
        }
    };
    let registered = aws.image_digest(&plan.repository, &plan.tag).await.map_err(aws_failed)?;
    match (pushed, registered) {
        (Some(pushed), Some(registered)) if pushed == registered => Ok(pushed),
        (None, Some(registered)) => Ok(registered),
        (pushed, registered) => {
            let show = |digest: Option<ImageDigest>| digest.map_or("nothing".to_owned(), |digest| digest.to_string());
            let failure = Failure::new(Exit::Images, what());
            let failure =
                failure.because(format!("{} was pushed as {}, but the registry has {}", plan.tag, show(pushed), show(registered)));
            Err(failure.hint("does `registry` name the registry of this account's ECR?"))
        }
    }
}
