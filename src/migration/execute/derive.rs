//! Makes images out of the release's own: with windlass's handler on top of it, or with the application copied to one folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::docker::{self, Build, Credentials, DockerError, Engine, Logins, Recipe};
use crate::event::{Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, Stage};
use crate::process::{self, Status};

use super::super::handler::{BUNDLE, BUNDLED, ENGINE, Kind};
use super::One;

/// How long the engine's packages may take to be fetched.
const FETCH: Duration = Duration::from_mins(5);

const CURE: &str = "no migration was run and no service was rolled; run the same command again";

/// The image of the release with the handler, pushed if the registry does not have it.
pub(super) async fn image(one: &One<'_>, kind: Kind, platform: &str) -> Result<ImageUri, Failure> {
    let (aws, base) = (one.run.aws, one.image);
    let repository = base.repository.split_once('/').map_or(base.repository.as_str(), |(_, repository)| repository);
    let what = || format!("migration `{}`: making the image with windlass's handler failed", one.name);
    let failed = |error| denied(what(), error);
    let made = |digest| ImageUri { repository: base.repository.clone(), digest };
    let mut with_engine = kind == Kind::Prisma;
    let tag = kind.tag(&base.digest, with_engine);
    if let Some(digest) = aws.image_digest(repository, &tag).await.map_err(failed)? {
        return Ok(made(digest));
    }
    let step = Step::of(Stage::Migrations, one.name, "build");
    let work = async {
        let broken = |error| broken(what(), error);
        let unwritten = |error: std::io::Error| Failure::new(Exit::Migration, what()).because(error).hint(CURE);
        let context = tempfile::tempdir().map_err(unwritten)?;
        if with_engine && let Err(failure) = engine(one, &step, context.path()).await {
            one.run.events.note(format!("{}: {}; the packages that the image has itself are used", one.name, failure.causes().join(": ")));
            with_engine = false;
        }
        let tag = kind.tag(&base.digest, with_engine);
        for file in kind.files() {
            std::fs::write(context.path().join(file.name), file.text).map_err(unwritten)?;
        }
        std::fs::write(context.path().join("Dockerfile"), kind.dockerfile(&base.to_string(), with_engine)).map_err(unwritten)?;
        let (engine, credentials) = base_there(one, what()).await?;
        build(one, &engine, &step, &context, format!("{}:{tag}", base.repository), platform).await.map_err(broken)?;
        match docker::push(&engine, &base.repository, &tag, Some(&credentials), |_| ()).await {
            // Somebody else has made the same in the meantime.
            Err(error) if error.is_tag_immutable() => {}
            pushed => drop(pushed.map_err(broken)?),
        }
        let digest = aws.image_digest(repository, &tag).await.map_err(failed)?;
        let digest =
            digest.ok_or_else(|| Failure::new(Exit::Migration, what()).because("the registry does not have what was pushed").hint(CURE))?;
        Ok((made(digest), Outcome::Done, format!("{} with windlass's handler for {kind:?} as {}", base.digest.short(), digest.short())))
    };
    one.run.events.step(step.clone(), work).await
}

/// Copies the application of the release's image, with the packages that it imports, into the folder `into`.
pub(super) async fn bundle(one: &One<'_>, step: &Step, into: &Path, platform: &str) -> Result<(), Failure> {
    let what = || format!("migration `{}`: taking the application out of its image failed", one.name);
    let broken = |error| broken(what(), error);
    let unwritten = |error: std::io::Error| Failure::new(Exit::Migration, what()).because(error).hint(CURE);
    let dockerfile = Kind::bundling(&one.image.to_string());
    let context = tempfile::tempdir().map_err(unwritten)?;
    std::fs::write(context.path().join(BUNDLE.name), BUNDLE.text).map_err(unwritten)?;
    std::fs::write(context.path().join("Dockerfile"), &dockerfile).map_err(unwritten)?;
    let (engine, _) = base_there(one, what()).await?;
    // Nobody else's: it is removed when all has been copied out of it.
    let name = format!("windlass-bundle:{}-{}", one.run.release, one.name);
    build(one, &engine, step, &context, name.clone(), platform).await.map_err(broken)?;
    let taken = docker::extract(&engine, &name, BUNDLED, into, None).await;
    if let Err(error) = docker::remove_image(&engine, &name).await {
        one.run.events.note(format!("{}: the image `{name}` stays on the engine: {error}", one.name));
    }
    taken.map(drop).map_err(broken)
}

/// Fetches Prisma's engine into `node_modules` of the folder.
pub(super) async fn engine(one: &One<'_>, step: &Step, folder: &Path) -> Result<(), Failure> {
    let failed = |why: String| {
        let failure = Failure::new(Exit::Migration, format!("migration `{}`: fetching Prisma's engine by npm failed", one.name));
        failure.because(why).hint(format!("npm has to be installed here and to reach its registry; {CURE}"))
    };
    for file in ENGINE {
        std::fs::write(folder.join(file.name), file.text).map_err(|error| failed(error.to_string()))?;
    }
    let command = process::Command {
        script: "exec npm ci --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error".to_owned(),
        directory: folder.to_owned(),
        environment: process::without_cloud_credentials(one.run.environment.iter().cloned()),
        deadline: Some(FETCH),
    };
    let mut last = String::new();
    let ended = process::run(&command, |_, line| {
        if !line.trim().is_empty() {
            line.clone_into(&mut last);
        }
        one.run.events.output(step, line);
    });
    match ended.await.map_err(|error| failed(error.to_string()))?.status {
        Status::Exited(0) => Ok(()),
        Status::Exited(code) => Err(failed(format!("npm exited with {code}: {last}"))),
        Status::Signaled(signal) => Err(failed(format!("npm was ended by signal {signal}"))),
    }
}

/// An engine that has the release's image, and the registry's password. An engine that has not built it itself fetches it.
async fn base_there(one: &One<'_>, what: String) -> Result<(Engine, Credentials), Failure> {
    let engine = docker::connect().await.map_err(|error| broken(what.clone(), error))?;
    let token = one.run.aws.registry_credentials().await.map_err(|error| denied(what.clone(), error))?;
    let credentials = Credentials { username: token.username, password: token.password };
    docker::fetch(&engine, &one.image.to_string(), Some(&credentials)).await.map_err(|error| broken(what, error))?;
    Ok((engine, credentials))
}

async fn build(one: &One<'_>, engine: &Engine, step: &Step, context: &TempDir, tag: String, platform: &str) -> Result<(), DockerError> {
    let files = docker::scan(context.path(), "Dockerfile")?;
    let recipe = Recipe { dockerfile: "Dockerfile".to_owned(), args: BTreeMap::default(), target: None, platform: platform.to_owned() };
    let labels = [("org.opencontainers.image.base.digest".to_owned(), one.image.digest.to_string())];
    let build = Build {
        context: &files,
        recipe: &recipe,
        tags: vec![tag],
        labels: labels.into(),
        no_cache: false,
        cache_from: &[],
        logins: &Logins::default(),
        secrets: &BTreeMap::new(),
        optional_secrets: &[],
        classic: std::env::var("DOCKER_BUILDKIT").as_deref() == Ok("0"),
    };
    docker::build(engine, build, |line: &str| one.run.events.output(step, line)).await.map(drop)
}

fn denied(what: String, error: crate::aws::AwsError) -> Failure {
    let hint = error.hint().unwrap_or_else(|| CURE.to_owned());
    Failure::new(Exit::Migration, what).because(error).hint(hint)
}

fn broken(what: String, error: DockerError) -> Failure {
    let hint = error.hint().unwrap_or_else(|| CURE.to_owned());
    Failure::new(Exit::Migration, what).because(error).hint(hint)
}
