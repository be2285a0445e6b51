//! Pulls images into the engine.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;

use super::build::is_spurious;
use super::engine::Engine;
use super::error::DockerError;
use super::push::Credentials;

/// How long a pull may say nothing, as with a push.
const IDLE: Duration = Duration::from_mins(2);

/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageCreate>
pub(super) async fn pull(
    engine: &Engine,
    image: &str,
    platform: Option<&str>,
    credentials: Option<&Credentials>,
) -> Result<(), DockerError> {
    let failed = |message: String| DockerError::Pull { image: image.to_owned(), message };
    let (repository, version) = split(image);
    let options = CreateImageOptions {
        from_image: Some(repository.to_owned()),
        // Without one, every tag of the repository would be pulled.
        tag: Some(version.to_owned()),
        platform: platform.unwrap_or_default().to_owned(),
        ..CreateImageOptions::default()
    };
    let credentials = credentials.map(|credentials| DockerCredentials {
        username: Some(credentials.username.clone()),
        password: Some(credentials.password.clone()),
        serveraddress: repository.split_once('/').map(|(registry, _)| registry.to_owned()),
        ..DockerCredentials::default()
    });
    let mut answers = engine.docker.create_image(Some(options), None, credentials).boxed();
    loop {
        let answer = tokio::time::timeout(IDLE, answers.next()).await;
        match answer.map_err(|_| failed(format!("nothing was heard for {} s", IDLE.as_secs())))? {
            None => return Ok(()),
            Some(Ok(_)) => {}
            Some(Err(error)) if is_spurious(&error) => return Ok(()),
            Some(Err(Error::DockerStreamError { error } | Error::DockerResponseServerError { message: error, .. })) => {
                return Err(failed(error));
            }
            Some(Err(error)) => return Err(DockerError::request(format!("pull `{image}`"), error)),
        }
    }
}

/// A name's repository, and its digest or tag. The engine takes a digest for a tag here.
pub(super) fn split(image: &str) -> (&str, &str) {
    if let Some((named, digest)) = image.split_once('@') {
        return (split_tag(named).map_or(named, |(repository, _)| repository), digest);
    }
    split_tag(image).unwrap_or((image, "latest"))
}

/// A colon before a slash is that of a port.
fn split_tag(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_into_what_is_pulled() {
        for (image, parts) in [
            ("r.io/shop/api@sha256:12", ("r.io/shop/api", "sha256:12")),
            ("r.io:5000/api:v1@sha256:12", ("r.io:5000/api", "sha256:12")),
            ("r.io:5000/api:v1", ("r.io:5000/api", "v1")),
            ("r.io:5000/api", ("r.io:5000/api", "latest")),
            ("alpine", ("alpine", "latest")),
        ] {
            assert_eq!(split(image), parts, "{image}");
        }
    }
}
