//! Pushes an image to a registry.
//!
//! bollard 0.21 reads of a push neither which layer a line is about nor the digest at its end: so the stream is read here.

use std::time::Duration;
use std::{fmt, io};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;

use crate::model::ImageDigest;

use super::engine::Engine;
use super::error::DockerError;
use super::wire::{self, Lines};

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
    /// The layer: the first 12 digits of what it is before compression. None of what is said of the whole.
    pub layer: Option<String>,
    /// The engine's word: "Pushing", "Layer already exists", "Retrying in 5 seconds".
    pub status: String,
    /// How many of the layer's bytes are sent, and how many there are before compression.
    pub bytes: Option<(u64, u64)>,
}

impl Progress {
    /// Is the layer in the registry now? `Some(true)` if it was sent.
    #[must_use]
    pub fn arrived(&self) -> Option<bool> {
        match self.status.as_str() {
            "Pushed" => Some(true),
            status if status == "Layer already exists" || status.starts_with("Mounted from ") => Some(false),
            _ => None,
        }
    }
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
    let broken =
        |source: io::Error| DockerError::Request { operation: format!("push `{repository}:{tag}`"), status: None, source: source.into() };
    let stalled = |_| DockerError::PushStalled { repository: repository.into(), tag: tag.into(), after: IDLE };
    // Docker speaks in clear to registries of its own machine; Podman has to be allowed to.
    let near = ["127.", "localhost:", "[::1]"].iter().any(|near| repository.starts_with(near)).then_some(("tlsVerify", "false"));
    let query = wire::query([("tag", tag)].into_iter().chain(near));
    // The engine wants the header also where there is nothing to say.
    let login = credentials.map_or_else(
        || serde_json::json!({}),
        |credentials| {
            let host = repository.split_once('/').map(|(host, _)| host);
            serde_json::json!({"username": credentials.username, "password": credentials.password, "serveraddress": host})
        },
    );
    let mut login =
        hyper::header::HeaderValue::from_str(&URL_SAFE.encode(login.to_string())).map_err(|error| broken(io::Error::other(error)))?;
    login.set_sensitive(true);
    let request = Request::post(format!("/images/{repository}/push{query}")).header("X-Registry-Auth", login).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| broken(io::Error::other(error)))?;
    let asked = tokio::time::timeout(IDLE, wire::request(&engine.route, request)).await;
    let response = asked.map_err(stalled)?.map_err(broken)?;
    if !response.status().is_success() {
        return Err(failed(wire::refusal(response.into_body()).await.map_err(broken)?));
    }
    let mut lines = Lines::of(response.into_body());
    let mut digest = None;
    loop {
        let line = tokio::time::timeout(IDLE, lines.next()).await;
        let Some(line) = line.map_err(stalled)?.map_err(broken)? else { break };
        let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
        if let Some(error) = line.error {
            return Err(failed(error));
        }
        digest = line.aux.and_then(|aux| aux.digest?.parse().ok()).or(digest);
        let Some(status) = line.status else { continue };
        digest = digest_in(&status).or(digest);
        let bytes = line.detail.and_then(|detail| {
            let (current, total) = (detail.current?, detail.total?);
            // The total is an estimate, and is passed.
            (total > 0).then_some((current.min(total), total))
        });
        // Of the whole, the engine names the tag.
        on_progress(Progress { layer: line.id.filter(|id| id != tag), status, bytes });
    }
    digest.ok_or_else(|| failed("the engine ended the push without saying a digest".to_owned()))
}

/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImagePush>, as the engine writes it.
#[derive(serde::Deserialize)]
struct Line {
    id: Option<String>,
    status: Option<String>,
    #[serde(rename = "progressDetail")]
    detail: Option<Detail>,
    aux: Option<Aux>,
    error: Option<String>,
}

#[derive(serde::Deserialize)]
struct Detail {
    current: Option<u64>,
    total: Option<u64>,
}

#[derive(serde::Deserialize)]
struct Aux {
    #[serde(rename = "Digest")]
    digest: Option<String>,
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
