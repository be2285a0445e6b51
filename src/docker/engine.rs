//! A connection to the engine.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};

use super::endpoint::{Endpoint, candidates};
use super::error::DockerError;
use super::wire::{self, Route};

/// How long an engine may take to say its version, in seconds.
const GREETING: u64 = 5;
/// The same over SSH, which has to log in first.
const SSH_GREETING: u64 = 40;
/// How long until the head of an answer, in seconds. A build answers only when it has the whole context.
const ANSWER: Duration = Duration::from_mins(30);

/// A Docker engine that has answered.
#[derive(Clone)]
pub struct Engine {
    pub(super) docker: Docker,
    /// For what the client does not carry.
    pub(super) route: Route,
    endpoint: String,
    version: String,
}

impl Engine {
    /// Its address, as a `unix://` or `tcp://` URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its version: "20.10.24".
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("endpoint", &self.endpoint).field("version", &self.version).finish_non_exhaustive()
    }
}

/// Finds the engine and hears that it answers.
///
/// The engine is the one that `DOCKER_HOST` names; else that of the Docker context chosen by `DOCKER_CONTEXT` or by
/// `docker context use`; else the first to answer at the default socket, Docker Desktop's, and Podman's.
///
/// # Errors
/// [`DockerError::is_engine_absent`] when none answers. What was chosen is never silently replaced by another.
pub async fn connect() -> Result<Engine, DockerError> {
    let candidates = candidates(|name| std::env::var(name).ok())?;
    connect_to(&candidates).await
}

async fn connect_to(candidates: &[Endpoint]) -> Result<Engine, DockerError> {
    let mut tried = Vec::new();
    let mut cause = None;
    for candidate in candidates {
        let shown = format!("`{}` ({})", candidate.address, candidate.named_by);
        match greet(candidate).await {
            Ok(engine) => return Ok(engine),
            Err(Refusal::Unsupported(why)) => return Err(DockerError::EndpointUnsupported { endpoint: shown, why }),
            // A socket that is not there says less than one where nobody listens.
            Err(Refusal::Silent(source @ bollard::errors::Error::SocketNotFoundError(_))) if cause.is_some() => drop(source),
            Err(Refusal::Silent(source)) => cause = Some(source),
        }
        tried.push(shown);
    }
    let source = cause.map_or_else(|| "there is nothing to try".into(), Into::into);
    Err(DockerError::EngineAbsent { endpoint: tried.join(", "), source })
}

enum Refusal {
    Unsupported(String),
    Silent(bollard::errors::Error),
}

async fn greet(endpoint: &Endpoint) -> Result<Engine, Refusal> {
    let address = endpoint.address.as_str();
    let route = route(endpoint)?;
    let docker = match &route {
        Route::Unix(_) => Docker::connect_with_unix(address, GREETING, API_DEFAULT_VERSION),
        Route::Tcp(_) => Docker::connect_with_http(address, GREETING, API_DEFAULT_VERSION),
        Route::Tls { .. } | Route::Ssh(_) => {
            let by = route.clone();
            let transport = move |request: BollardRequest| {
                let by = by.clone();
                async move { wire::request(&by, request).await.map_err(|err| Error::IOError { err }) }
            };
            let greeting = if matches!(route, Route::Ssh(_)) { SSH_GREETING } else { GREETING };
            Docker::connect_with_custom_transport(transport, Some("http://docker"), greeting, API_DEFAULT_VERSION)
        }
    };
    let docker = docker.map_err(Refusal::Silent)?;
    let version = docker.version().await.map_err(Refusal::Silent)?;
    Ok(Engine {
        docker: url_safe_credentials(docker.with_timeout(ANSWER)),
        route,
        endpoint: address.to_owned(),
        version: version.version.unwrap_or_else(|| "unknown".into()),
    })
}

/// The way to an endpoint. TLS is for addresses of the network: a client that left it out would quietly speak in clear to a port that
/// wants it.
fn route(endpoint: &Endpoint) -> Result<Route, Refusal> {
    let address = endpoint.address.as_str();
    if let Some(path) = address.strip_prefix("unix://") {
        return Ok(Route::Unix(PathBuf::from(path)));
    }
    if address.starts_with("ssh://") {
        return Ok(Route::Ssh(address.to_owned()));
    }
    let Some(host) = ["tcp://", "http://"].iter().find_map(|scheme| address.strip_prefix(scheme)) else {
        return Err(Refusal::Unsupported("only `unix://`, `tcp://` and `ssh://` are supported".to_owned()));
    };
    let host = host.trim_end_matches('/');
    let Some(tls) = &endpoint.tls else { return Ok(Route::Tcp(host.to_owned())) };
    let config = super::tls::config(tls).map_err(|why| Refusal::Unsupported(format!("TLS: {why}")))?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']).to_owned();
    let name = name.try_into().map_err(|error| Refusal::Unsupported(format!("TLS: {error}")))?;
    Ok(Route::Tls { host: host.to_owned(), name, config })
}

/// The engine reads `X-Registry-Auth` as base64 for URLs (RFC 4648, section 5), bollard 0.21 writes the other alphabet: a password
/// that happens to need `+` or `/` would be refused with "no basic auth credentials".
///
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#section/Authentication>
fn url_safe_credentials(docker: Docker) -> Docker {
    docker.with_request_modifier(|mut request| {
        for name in ["x-registry-auth", "x-registry-config"] {
            if let Some(value) = request.headers_mut().get_mut(name)
                && let Some(text) = value.to_str().ok().map(|text| text.replace('+', "-").replace('/', "_"))
                && let Ok(mut fixed) = text.parse()
            {
                std::mem::swap(value, &mut fixed);
                value.set_sensitive(true);
            }
        }
        request
    })
}

#[cfg(test)]
mod tests {
    use super::super::tls::Tls;
    use super::*;

    fn endpoint(address: &str, tls: Option<Tls>) -> Endpoint {
        Endpoint { address: address.into(), named_by: "DOCKER_HOST".into(), tls }
    }

    #[tokio::test]
    async fn an_absent_engine_says_what_was_tried_and_what_to_do() {
        let error = connect_to(&[endpoint("unix:///nowhere/docker.sock", None), endpoint("tcp://127.0.0.1:1", None)]).await.unwrap_err();
        assert!(error.is_engine_absent());
        assert!(error.to_string().contains("/nowhere/docker.sock") && error.to_string().contains("127.0.0.1:1"), "{error}");
        assert!(error.hint().unwrap().contains("systemctl start docker"));
    }

    #[tokio::test]
    async fn an_engine_behind_tls_is_refused_rather_than_spoken_to_in_clear() {
        let nowhere = |verify| Some(Tls { folder: "/nowhere".into(), verify });
        for (address, tls, why) in [
            ("tcp://127.0.0.1:2376", nowhere(true), "/nowhere/ca.pem"),
            ("tcp://127.0.0.1:2376", nowhere(false), "DOCKER_TLS_VERIFY=1"),
            ("fd://x", None, "unix://"),
        ] {
            let error = connect_to(&[endpoint(address, tls)]).await.unwrap_err();
            assert!(matches!(error, DockerError::EndpointUnsupported { .. }) && error.to_string().contains(why), "{error}");
        }
    }
}
