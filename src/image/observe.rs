//! What goes into an image, and whether the registry has it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;

use crate::aws::Aws;
use crate::config::{BuildImage, Service};
use crate::docker::{self, Credentials, Dockerfile, Engine, Logins, Recipe};
use crate::model::{BaseImage, Exit, Failure, Refusal, Sha256, UnitName};

use super::plan::{Built, Found};

/// Looks for an image's repository. One that is still to be created has an address too.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn repository(aws: &Aws, account: &str, image: &BuildImage) -> Result<Option<Found>, Failure> {
    let name = &image.repository;
    let found = aws.repository(name).await;
    let found =
        found.map_err(|error| Failure::new(Exit::Preflight, format!("looking for the repository `{name}` failed")).because(error))?;
    Ok(match found {
        Some(repository) => Some(Found { uri: repository.uri, exists: true }),
        None if image.create => Some(super::plan::to_be_created(account, aws.region(), name)),
        None => None,
    })
}

/// What is built, as it lies in the working tree.
#[derive(Debug)]
pub struct Source {
    directory: PathBuf,
    recipe: Recipe,
    dockerfile: Dockerfile,
}

impl Source {
    /// Must somebody be asked what a base image is today?
    #[must_use]
    pub fn floats(&self) -> bool {
        self.dockerfile.bases.iter().any(|base| !base.is_pinned())
    }

    /// Why it cannot be built as it is configured, if it cannot.
    #[must_use]
    pub fn refusal(&self, name: &UnitName, image: &BuildImage) -> Option<Refusal> {
        let secrets: Vec<_> = self.dockerfile.secrets.iter().map(|secret| (secret.id.clone(), secret.optional, secret.line)).collect();
        super::plan::mounts_refusal(name, image, &secrets, self.dockerfile.ssh)
    }
}

/// Reads the Dockerfile: what is wrong with it is known before anything else is built.
///
/// # Errors
/// [`Exit::Config`]: the configuration names a file that does not exist, or a Dockerfile that makes no sense.
pub fn source(root: &Path, name: &UnitName, service: &Service, image: &BuildImage) -> Result<Source, Failure> {
    let directory = root.join(&service.path);
    let path = directory.join(&image.dockerfile);
    if !path.is_file() {
        let failure = Failure::new(Exit::Config, format!("service `{name}`: there is no Dockerfile"));
        let failure = failure.because(format!("`{}` is not a file", path.display()));
        return Err(
            failure.hint(format!("correct `services.{name}.path` or `image.dockerfile` (it counts from `path`), or write the file"))
        );
    }
    let recipe = Recipe {
        dockerfile: image.dockerfile.clone(),
        args: image.args.clone(),
        target: (!image.target.is_empty()).then(|| image.target.clone()),
        platform: image.platform.to_string(),
    };
    let dockerfile = docker::dockerfile(&directory, &recipe).map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| format!("correct `{}`; nothing was changed", path.display()));
        Failure::new(Exit::Config, format!("service `{name}`: the Dockerfile was refused")).because(error).hint(hint)
    })?;
    Ok(Source { directory, recipe, dockerfile })
}

/// The images that an image begins with, as they are written; none where there is no Dockerfile, or none that makes sense.
#[must_use]
pub fn bases(root: &Path, name: &UnitName, service: &Service, image: &BuildImage) -> Vec<String> {
    let source = source(root, name, service, image).ok();
    source.into_iter().flat_map(|source| source.dockerfile.bases).map(|base| base.image).collect()
}

/// What goes into the image, and what the registry has of it.
///
/// `engine` is asked what floating bases are today. Where none answers they count as they were when the newest image of the same content
/// was built; if there is no such image, one has to be built, which needs an engine.
///
/// # Errors
/// [`Exit::Images`] if the context cannot be read; [`Exit::Preflight`] if AWS fails, or a base image is known to nobody.
pub async fn image(
    aws: &Aws,
    engine: Option<&Engine>,
    name: &UnitName,
    source: Source,
    image: &BuildImage,
    found: Found,
) -> Result<Built, Failure> {
    let floats = source.floats();
    let pinned: Vec<BaseImage> = source.dockerfile.bases.iter().filter_map(docker::pinned).collect();
    let optional_secrets = source.dockerfile.secrets.iter().filter(|secret| secret.optional).map(|secret| secret.id.clone()).collect();
    let floating = match engine {
        Some(engine) if floats => todays(aws, engine, name, &source.dockerfile, &found.uri).await?,
        _ => Vec::new(),
    };
    let age = image.max_age.map(|age| age.0.as_secs().max(1));
    let period = age.map(|age| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / age);
    let content = content(name, source, pinned.clone(), period).await?;
    let failed = |error| Failure::new(Exit::Preflight, format!("service `{name}`: asking ECR for its image failed")).because(error);
    let mut built = Built {
        tag: super::plan::tag(&content, &floating),
        found,
        present: None,
        bases: [pinned, floating.clone()].concat(),
        optional_secrets,
        aged: false,
        newest: None,
    };
    let repository = &image.repository;
    if !built.found.exists {
        return Ok(built);
    }
    if floats && engine.is_none() {
        if let Some(newest) = aws.newest_image(repository, &format!("{}-", built.tag)).await.map_err(failed)? {
            (built.tag, built.present) = (newest.tag, Some(newest.digest));
        }
        return Ok(built);
    }
    built.present = aws.image_digest(repository, &built.tag).await.map_err(failed)?;
    if built.present.is_none() {
        let newest = aws.newest_image(repository, "ctx-").await.map_err(failed)?;
        // What was built before this period began would bring its old layers along.
        let begins = age.zip(period).map(|(age, period)| age * period);
        built.aged = newest.as_ref().and_then(|newest| newest.pushed).zip(begins).is_some_and(|(pushed, begins)| pushed < begins);
        built.newest = newest.map(|newest| newest.digest);
    }
    Ok(built)
}

/// The digest of what goes into the image.
async fn content(name: &UnitName, source: Source, pinned: Vec<BaseImage>, period: Option<u64>) -> Result<Sha256, Failure> {
    let Source { directory, recipe, .. } = source;
    let work = move || docker::digest(&docker::scan(&directory, &recipe.dockerfile)?, &recipe, &pinned, period);
    let hashed = tokio::task::spawn_blocking(work).await;
    let what = || format!("service `{name}`: reading the build context failed");
    let hashed = hashed.map_err(|error| Failure::new(Exit::Bug, what()).because(error))?;
    hashed.map_err(|error: docker::DockerError| {
        let hint = error.hint();
        let failure = Failure::new(Exit::Images, what()).because(error);
        failure.hint(hint.unwrap_or_else(|| "nothing was changed; make the file readable, or name it in `.dockerignore`".to_owned()))
    })
}

/// What each floating base image is today.
async fn todays(aws: &Aws, engine: &Engine, name: &UnitName, dockerfile: &Dockerfile, uri: &str) -> Result<Vec<BaseImage>, Failure> {
    let failed = |error: docker::DockerError| {
        let hint = error.hint().unwrap_or_else(|| "nothing was changed; run again, or pin the base image by its digest".to_owned());
        Failure::new(Exit::Preflight, format!("service `{name}`: what its image begins with is not known")).because(error).hint(hint)
    };
    let floating: Vec<_> = dockerfile.bases.iter().filter(|base| !base.is_pinned()).collect();
    let own = docker::host(uri);
    let mut logins = Logins::of_this_user();
    if floating.iter().any(|base| docker::host(&base.image) == own) {
        logins = own_login(aws, logins, own).await?;
    }
    try_join_all(floating.into_iter().map(|base| docker::resolve(engine, base, &logins))).await.map_err(failed)
}

/// `logins` with the account's own for its registry `host`.
async fn own_login(aws: &Aws, logins: Logins, host: &str) -> Result<Logins, Failure> {
    let token = aws.registry_credentials().await.map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| "nothing was changed; run again".to_owned());
        Failure::new(Exit::Preflight, "asking ECR for a login failed").because(error).hint(hint)
    })?;
    Ok(logins.with(host, Credentials { username: token.username, password: token.password }))
}
