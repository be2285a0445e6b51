//! Base images: what each is today, and having it in the engine before a build.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;

use crate::model::{Authority, BaseImage, ImageDigest};

use super::build::tag;
use super::dockerfile::Base;
use super::engine::Engine;
use super::error::DockerError;
use super::login::Logins;
use super::pull::{pull, split};
use super::push::Credentials;

/// How long a registry may take to say what a tag is.
const ANSWER: Duration = Duration::from_secs(30);

/// What a pinned base is, which nobody has to be asked for.
#[must_use]
pub fn pinned(base: &Base) -> Option<BaseImage> {
    let (_, digest) = base.image.split_once('@')?;
    let (image, platform) = (base.image.clone(), base.platform.clone());
    Some(BaseImage { image, platform, digest: digest.to_owned(), from: Authority::Name })
}

/// Asks what `base` is today.
///
/// The registry decides, and is asked through the engine, which knows its mirrors and proxies. An image that was made on the engine and
/// never came from a registry is known by its own id; so is one whose registry does not answer.
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Distribution/operation/DistributionInspect>
///
/// # Errors
/// [`DockerError::Base`] when neither the registry nor the engine knows it.
pub async fn resolve(engine: &Engine, base: &Base, logins: &Logins) -> Result<BaseImage, DockerError> {
    if let Some(resolved) = pinned(base) {
        return Ok(resolved);
    }
    let (image, platform) = (base.image.clone(), base.platform.clone());
    let local = match engine.docker.inspect_image(&image).await {
        Ok(found) => Some((found.id.unwrap_or_default(), found.repo_digests.unwrap_or_default())),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => None,
        Err(error) => return Err(DockerError::request(format!("inspect image `{image}`"), error)),
    };
    if let Some((id, digests)) = &local
        && digests.is_empty()
    {
        return Ok(BaseImage { image, platform, digest: id.clone(), from: Authority::Engine });
    }
    let login = logins.of_image(&image).await?;
    let asked = engine.docker.inspect_registry_image(&image, login.map(DockerCredentials::from));
    let message = match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(found)) => match found.descriptor.digest {
            Some(digest) => return Ok(BaseImage { image, platform, digest, from: Authority::Registry }),
            None => "the registry's answer holds no digest".to_owned(),
        },
        Ok(Err(Error::DockerResponseServerError { message, .. })) => message,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing was heard for {} s", ANSWER.as_secs()),
    };
    match local {
        Some((id, digests)) => {
            let digest = digests.iter().find_map(|name| Some(name.split_once('@')?.1.to_owned())).unwrap_or(id);
            Ok(BaseImage { image, platform, digest, from: Authority::EngineInstead })
        }
        None => Err(DockerError::Base { image, line: base.line, message }),
    }
}

/// Brings a base into the engine under the name that the Dockerfile has for it, as the very image that was resolved. Both builders take
/// what the engine has.
///
/// # Errors
/// [`DockerError::Pull`]; [`DockerError::Build`] where the engine alone has it, and for other machines; or the engine fails.
pub async fn provide(
    engine: &Engine,
    base: &BaseImage,
    platform: &str,
    logins: &Logins,
    on_line: &mut (impl FnMut(&str) + Send),
) -> Result<(), DockerError> {
    let platform = base.platform.as_deref().unwrap_or(platform);
    let engines = matches!(base.from, Authority::Engine | Authority::EngineInstead);
    if let Ok(found) = engine.docker.inspect_image(&base.image).await {
        let same = engines || found.repo_digests.unwrap_or_default().iter().any(|name| name.ends_with(&base.digest));
        let built_for = format!("{}/{}", found.os.unwrap_or_default(), found.architecture.unwrap_or_default());
        if same && platform.starts_with(&built_for) {
            return Ok(());
        }
        if engines {
            // BuildKit would look for it in a registry that never had it.
            let message = format!("on this engine it is for {built_for}, and does not match the specified platform {platform}");
            return Err(DockerError::Build { step: Some(format!("FROM {}", base.image)), message, tail: Vec::new() });
        }
    } else if engines {
        return Ok(());
    }
    let (repository, version) = split(&base.image);
    let exact = format!("{repository}@{}", base.digest);
    on_line(&format!("pulling {exact}"));
    pull(engine, &exact, Some(platform), logins.of_image(&exact).await?.as_ref()).await?;
    if base.from == Authority::Registry {
        tag(engine, &exact, repository, version).await?;
    }
    Ok(())
}

/// What a registry has by a name: its digest, and its platforms. `Err(None)` if it has nothing, else why it did not say.
///
/// # Errors
/// As above.
pub async fn ask_registry(engine: &Engine, image: &str, login: Option<Credentials>) -> Result<(ImageDigest, Vec<String>), Option<String>> {
    let asked = engine.docker.inspect_registry_image(image, login.map(DockerCredentials::from));
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(found)) => {
            let digest = found.descriptor.digest.and_then(|digest| digest.parse().ok());
            let digest = digest.ok_or_else(|| Some("the registry's answer holds no digest".to_owned()))?;
            let platforms = found.platforms.into_iter().filter_map(|platform| Some(format!("{}/{}", platform.os?, platform.architecture?)));
            Ok((digest, platforms.filter(|platform| !platform.contains("unknown")).collect()))
        }
        Ok(Err(Error::DockerResponseServerError { message, .. })) if message.contains("manifest unknown") => Err(None),
        Ok(Err(Error::DockerResponseServerError { message, .. })) => Err(Some(message)),
        Ok(Err(error)) => Err(Some(error.to_string())),
        Err(_) => Err(Some(format!("nothing was heard for {} s", ANSWER.as_secs()))),
    }
}
