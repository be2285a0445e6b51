//! What goes into an image, and whether the registry has it.

use std::path::Path;

use crate::aws::Aws;
use crate::config::{BuildImage, Service};
use crate::docker::{self, Recipe};
use crate::model::{Exit, Failure, UnitName};

use super::plan::{Found, Observed};

/// Looks for an image's repository.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn repository(aws: &Aws, name: &str) -> Result<Option<Found>, Failure> {
    let found = aws.repository(name).await;
    let found =
        found.map_err(|error| Failure::new(Exit::Preflight, format!("looking for the repository `{name}` failed")).because(error))?;
    Ok(found.map(|repository| Found { uri: repository.uri }))
}

/// Refuses a build whose Dockerfile is not there: that is known without building anything else first.
///
/// # Errors
/// [`Exit::Config`]: the configuration names a file that does not exist.
pub fn dockerfile(root: &Path, name: &UnitName, service: &Service, image: &BuildImage) -> Result<(), Failure> {
    let path = root.join(&service.path).join(&image.dockerfile);
    if path.is_file() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Config, format!("service `{name}`: there is no Dockerfile"));
    let failure = failure.because(format!("`{}` is not a file", path.display()));
    Err(failure.hint(format!("correct `services.{name}.path` or `image.dockerfile` (it counts from `path`), or write the file")))
}

/// The digest of all that goes into the image, and what the registry has by it.
///
/// # Errors
/// [`Exit::Images`] if the context cannot be read; [`Exit::Preflight`] if AWS fails.
pub async fn image(
    aws: &Aws,
    root: &Path,
    name: &UnitName,
    service: &Service,
    image: &BuildImage,
    uri: String,
) -> Result<Observed, Failure> {
    let directory = root.join(&service.path);
    let recipe = Recipe {
        dockerfile: image.dockerfile.clone(),
        args: image.args.clone(),
        target: (!image.target.is_empty()).then(|| image.target.clone()),
        platform: image.platform.to_string(),
    };
    let hashed = tokio::task::spawn_blocking(move || docker::digest(&docker::scan(&directory, &recipe.dockerfile)?, &recipe)).await;
    let what = || format!("service `{name}`: reading the build context failed");
    let context = hashed.map_err(|error| Failure::new(Exit::Bug, what()).because(error))?;
    let context = context.map_err(|error| {
        let hint = error.hint();
        let failure = Failure::new(Exit::Images, what()).because(error);
        failure.hint(hint.unwrap_or_else(|| "nothing was changed; make the file readable, or name it in `.dockerignore`".to_owned()))
    })?;
    let present = aws.image_digest(&image.repository, &super::plan::tag(&context)).await;
    let present = present
        .map_err(|error| Failure::new(Exit::Preflight, format!("service `{name}`: asking ECR for its image failed")).because(error))?;
    Ok(Observed { context, uri, present })
}
