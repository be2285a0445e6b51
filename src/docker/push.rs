//! Pushes an image to a registry.

use std::fmt;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::PushImageOptions;
use futures_util::StreamExt as _;

use crate::model::ImageDigest;

use super::build::is_spurious;
use super::engine::Engine;
use super::error::DockerError;

/// How long the engine may say nothing. It has no timeout of its own: a registry that hangs would hang a release for ever.
const IDLE: Duration = Duration::from_mins(2);

/// What a registry wants to know. For ECR the name is `AWS` and the password a token that lives 12 hours.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The secret; `Debug` does not show it.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("password", &"…").finish()
    }
}

/// A sign of life of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The engine's word: "Pushing", "Layer already exists", "Retrying in 5 seconds".
    pub status: String,
    /// Of one layer, which the API does not name: how many bytes are sent, and how many there are before compression.
    pub bytes: Option<(u64, u64)>,
}

/// Pushes `repository:tag`, and returns the digest that the registry knows it by.
///
/// Layers that the registry has are not sent again. Dropping the future cancels the push.
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImagePush>
///
/// # Errors
/// [`DockerError::Push`], to be asked what it is; [`DockerError::PushStalled`] after two minutes of silence.
pub async fn push(
    engine: &Engine,
    repository: &str,
    tag: &str,
    credentials: Option<&Credentials>,
    mut on_progress: impl FnMut(Progress) + Send,
) -> Result<ImageDigest, DockerError> {
    let failed = |message: String| DockerError::Push { repository: repository.into(), tag: tag.into(), message };
    let options = PushImageOptions { tag: Some(tag.to_owned()), platform: None };
    let credentials = credentials.map(|credentials| DockerCredentials {
        username: Some(credentials.username.clone()),
        password: Some(credentials.password.clone()),
        serveraddress: repository.split_once('/').map(|(registry, _)| registry.to_owned()),
        ..DockerCredentials::default()
    });
    let mut answers = engine.docker.push_image(repository, Some(options), credentials).boxed();
    let mut digest = None;
    loop {
        let answer = tokio::time::timeout(IDLE, answers.next()).await;
        let answer = answer.map_err(|_| DockerError::PushStalled { repository: repository.into(), tag: tag.into(), after: IDLE })?;
        let info = match answer {
            None => break,
            Some(Ok(info)) => info,
            Some(Err(error)) if is_spurious(&error) => break,
            Some(Err(Error::DockerStreamError { error } | Error::DockerResponseServerError { message: error, .. })) => {
                return Err(failed(error));
            }
            Some(Err(error)) => return Err(DockerError::request(format!("push `{repository}:{tag}`"), error)),
        };
        let Some(status) = info.status else { continue };
        digest = digest_in(&status).or(digest);
        let bytes = info.progress_detail.and_then(|detail| {
            let (current, total) = (u64::try_from(detail.current?).ok()?, u64::try_from(detail.total?).ok()?);
            // The total is an estimate, and is passed.
            (total > 0).then_some((current.min(total), total))
        });
        on_progress(Progress { status, bytes });
    }
    digest.ok_or_else(|| failed("the engine ended the push without saying a digest".to_owned()))
}

/// `v1: digest: sha256:… size: 944`
fn digest_in(status: &str) -> Option<ImageDigest> {
    status.split_once("digest: ")?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_read_from_the_last_line() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(digest_in(&format!("v1: digest: sha256:{hex} size: 944")).unwrap().to_string(), format!("sha256:{hex}"));
        assert_eq!(digest_in("Pushed"), None);
        assert_eq!(digest_in("v1: digest: sha256:12 size: 1"), None);
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Credentials { username: "AWS".into(), password: "secret".into() });
        assert!(shown.contains("AWS") && !shown.contains("secret"), "{shown}");
    }
}
