//! Makes the image of a migration function: the release's own, with windlass's handler on top of it.

use std::collections::BTreeMap;

use crate::docker::{self, Build, Credentials, DockerError, Logins, Recipe};
use crate::event::{Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, Stage};

use super::super::handler::Kind;
use super::One;

/// The image of the release with the handler, pushed if the registry does not have it.
pub(super) async fn image(one: &One<'_>, kind: Kind, platform: &str) -> Result<ImageUri, Failure> {
    let (aws, base) = (one.run.aws, one.image);
    let tag = kind.tag(&base.digest);
    let repository = base.repository.split_once('/').map_or(base.repository.as_str(), |(_, repository)| repository);
    let what = || format!("migration `{}`: making the image with windlass's handler failed", one.name);
    let cure = "no migration was run and no service was rolled; run the same command again";
    let failed = |error: crate::aws::AwsError| {
        let hint = error.hint().unwrap_or_else(|| cure.to_owned());
        Failure::new(Exit::Migration, what()).because(error).hint(hint)
    };
    let made = |digest| ImageUri { repository: base.repository.clone(), digest };
    if let Some(digest) = aws.image_digest(repository, &tag).await.map_err(failed)? {
        return Ok(made(digest));
    }
    let broken = |error: DockerError| {
        let hint = error.hint().unwrap_or_else(|| cure.to_owned());
        Failure::new(Exit::Migration, what()).because(error).hint(hint)
    };
    let step = Step::of(Stage::Migrations, one.name, "build");
    let work = async {
        let engine = docker::connect().await.map_err(broken)?;
        let unwritten = |error: std::io::Error| Failure::new(Exit::Migration, what()).because(error).hint(cure);
        let context = tempfile::tempdir().map_err(unwritten)?;
        for file in kind.files() {
            std::fs::write(context.path().join(file.name), file.text).map_err(unwritten)?;
        }
        std::fs::write(context.path().join("Dockerfile"), kind.dockerfile(&base.to_string())).map_err(unwritten)?;
        let files = docker::scan(context.path(), "Dockerfile").map_err(broken)?;
        let recipe = Recipe { dockerfile: "Dockerfile".to_owned(), args: BTreeMap::default(), target: None, platform: platform.to_owned() };
        let labels = [("org.opencontainers.image.base.digest".to_owned(), base.digest.to_string())];
        let token = aws.registry_credentials().await.map_err(failed)?;
        let credentials = Credentials { username: token.username, password: token.password };
        // The base is in the registry by its digest; an engine that has not built it itself fetches it.
        docker::fetch(&engine, &base.to_string(), Some(&credentials)).await.map_err(broken)?;
        let build = Build {
            context: &files,
            recipe: &recipe,
            tags: vec![format!("{}:{tag}", base.repository)],
            labels: labels.into(),
            no_cache: false,
            cache_from: &[],
            logins: &Logins::default(),
            secrets: &BTreeMap::new(),
            optional_secrets: &[],
            classic: std::env::var("DOCKER_BUILDKIT").as_deref() == Ok("0"),
        };
        docker::build(&engine, build, |line| one.run.events.output(&step, line)).await.map_err(broken)?;
        match docker::push(&engine, &base.repository, &tag, Some(&credentials), |_| ()).await {
            // Somebody else has made the same in the meantime.
            Err(error) if error.is_tag_immutable() => {}
            pushed => drop(pushed.map_err(broken)?),
        }
        let digest = aws.image_digest(repository, &tag).await.map_err(failed)?;
        let digest =
            digest.ok_or_else(|| Failure::new(Exit::Migration, what()).because("the registry does not have what was pushed").hint(cure))?;
        Ok((made(digest), Outcome::Done, format!("{} with windlass's handler for {kind:?} as {}", base.digest.short(), digest.short())))
    };
    one.run.events.step(step.clone(), work).await
}
