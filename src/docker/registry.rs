//! A registry, spoken to without an engine: what it has, and what it is given, byte by byte as it is.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>; how it asks for a login:
//! <https://distribution.github.io/distribution/spec/auth/token/>
//!
//! Deliberately absent: choosing what is copied, which `copy` does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode, Url};

use crate::model::{ImageDigest, Sha256};

use super::push::Credentials;

/// How often a request is sent that may succeed another time.
const ATTEMPTS: u32 = 5;

/// How long a registry may say nothing.
const IDLE: Duration = Duration::from_mins(2);

/// The kinds of manifests that are understood.
pub(super) const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Why a registry did not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    what: String,
    status: Option<u16>,
    code: Option<String>,
    message: String,
}

impl RegistryError {
    pub(super) fn new(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self { what: what.into(), status: None, code: None, message: message.into() }
    }

    /// The registry does not let this login do it, or wants another one.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.status, Some(401 | 403)) || self.code.as_deref() == Some("DENIED")
    }

    /// There is no such repository or image.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }

    /// Another time it may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.status.is_none_or(|status| status == 429 || status >= 500)
    }

    /// The tag is another image's, and tags do not move there.
    #[must_use]
    pub fn is_tag_immutable(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        code == "TAG_INVALID" || self.message.contains("immutable") || self.message.contains("already exists")
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        if let Some(status) = self.status {
            write!(f, "HTTP {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        match (self.message.is_empty(), self.status) {
            (true, _) => Ok(()),
            (false, Some(_)) => write!(f, ": {}", self.message),
            (false, None) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for RegistryError {}

/// One registry, with what it is logged in to with.
#[derive(Debug)]
pub struct Registry {
    http: Client,
    base: Url,
    login: Option<Credentials>,
    /// Tokens that the registry has asked for, by repository.
    tokens: Mutex<BTreeMap<String, String>>,
}

/// A manifest, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) digest: ImageDigest,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

/// Where the bytes of a blob are to go.
pub(super) enum Upload {
    /// The registry has taken it from another of its repositories.
    Mounted,
    /// They are to be sent there.
    To(Url),
}

impl Registry {
    /// The registry at `host`. One on this machine is spoken to in plain HTTP, as Docker does.
    ///
    /// # Errors
    /// The host is no name of one; TLS cannot be set up.
    pub fn at(host: &str, login: Option<Credentials>) -> Result<Self, RegistryError> {
        static RING: Once = Once::new();
        // The only provider in this build; someone else's being first is just as well.
        RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let what = || format!("the registry `{host}`");
        let failed = |error: &dyn fmt::Display| RegistryError::new(what(), error.to_string());
        let name = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let near = name.starts_with("127.") || name.starts_with("localhost") || name.starts_with("[::1]");
        let base = Url::parse(&format!("{}://{name}/v2/", if near { "http" } else { "https" })).map_err(|error| failed(&error))?;
        let builder = Client::builder().user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")));
        let builder = builder.connect_timeout(Duration::from_secs(10)).read_timeout(IDLE);
        // What listens on this machine is not behind the company's proxy.
        let builder = if near { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| failed(&error))?;
        Ok(Self { http, base, login, tokens: Mutex::default() })
    }

    /// The digest of what a tag or a digest stands for; `None` if there is none.
    ///
    /// # Errors
    /// Not allowed; the registry does not answer.
    pub async fn find(&self, repository: &str, reference: &str) -> Result<Option<ImageDigest>, RegistryError> {
        let what = format!("looking for `{repository}` {reference}");
        let url = self.url(repository, &format!("manifests/{reference}"), &what)?;
        let answer = self.send(repository, &what, || self.http.head(url.clone()).header(ACCEPT, MANIFESTS)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = refused(answer, &what).await?;
        let digest = text(answer.headers(), "docker-content-digest").and_then(|digest| digest.parse().ok());
        match digest {
            Some(digest) => Ok(Some(digest)),
            // The header is a matter of courtesy: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>.
            None => self.manifest(repository, reference).await.map(|manifest| Some(manifest.digest)),
        }
    }

    /// A manifest, whose digest is that of its bytes.
    pub(super) async fn manifest(&self, repository: &str, reference: &str) -> Result<Manifest, RegistryError> {
        let what = format!("reading the manifest `{repository}` {reference}");
        let url = self.url(repository, &format!("manifests/{reference}"), &what)?;
        let answer = self.send(repository, &what, || self.http.get(url.clone()).header(ACCEPT, MANIFESTS)).await?;
        let answer = refused(answer, &what).await?;
        let media_type = text(answer.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        let bytes = answer.bytes().await.map_err(|error| RegistryError::new(&what, chain(&error)))?;
        let digest = format!("sha256:{}", Sha256::of(&bytes));
        let digest: ImageDigest = digest.parse().map_err(|error| RegistryError::new(&what, format!("{error}")))?;
        if reference.starts_with("sha256:") && reference != digest.to_string() {
            return Err(RegistryError::new(what, format!("the bytes that came are {digest}")));
        }
        Ok(Manifest { digest, media_type, bytes })
    }

    /// Gives a manifest to the registry, under a tag or its digest.
    pub(super) async fn put_manifest(&self, repository: &str, reference: &str, manifest: &Manifest) -> Result<(), RegistryError> {
        let what = format!("writing the manifest `{repository}` {reference}");
        let url = self.url(repository, &format!("manifests/{reference}"), &what)?;
        let put = || self.http.put(url.clone()).header(CONTENT_TYPE, &manifest.media_type).body(manifest.bytes.clone());
        let answer = self.send(repository, &what, put).await?;
        refused(answer, &what).await.map(drop)
    }

    /// Has it a blob?
    pub(super) async fn has_blob(&self, repository: &str, digest: &str) -> Result<bool, RegistryError> {
        let what = format!("looking for the layer `{repository}` {digest}");
        let url = self.url(repository, &format!("blobs/{digest}"), &what)?;
        let answer = self.send(repository, &what, || self.http.head(url.clone())).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        refused(answer, &what).await.map(|_| true)
    }

    /// The bytes of a blob, as they come.
    pub(super) async fn blob(&self, repository: &str, digest: &str) -> Result<Response, RegistryError> {
        let what = format!("reading the layer `{repository}` {digest}");
        let url = self.url(repository, &format!("blobs/{digest}"), &what)?;
        let answer = self.send(repository, &what, || self.http.get(url.clone())).await?;
        refused(answer, &what).await
    }

    /// Begins to give a blob to the registry; where `from` is another of its repositories that has it, it may take it from there.
    pub(super) async fn begin(&self, repository: &str, digest: &str, from: Option<&str>) -> Result<Upload, RegistryError> {
        let what = format!("beginning the layer `{repository}` {digest}");
        let mut url = self.url(repository, "blobs/uploads/", &what)?;
        if let Some(from) = from {
            url.query_pairs_mut().append_pair("mount", digest).append_pair("from", from);
        }
        let answer = self.send(repository, &what, || self.http.post(url.clone()).header(CONTENT_LENGTH, 0)).await?;
        let answer = refused(answer, &what).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(Upload::Mounted);
        }
        self.location(answer.headers(), &what).map(Upload::To)
    }

    /// Sends the bytes of a blob; they have to have this digest, and are refused by the registry otherwise.
    pub(super) async fn send_blob(
        &self,
        repository: &str,
        digest: &str,
        to: Url,
        bytes: Response,
        on_bytes: impl Fn(u64) + Send + 'static,
    ) -> Result<(), RegistryError> {
        let what = format!("sending the layer `{repository}` {digest}");
        // `reqwest` wants bodies that may be shared between threads, which a response under way may not.
        let (give, mut take) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, reqwest::Error>>(4);
        tokio::spawn(async move {
            let mut bytes = bytes;
            loop {
                let chunk = match bytes.chunk().await {
                    Ok(None) => break,
                    chunk => chunk.map(Option::unwrap_or_default),
                };
                let (size, failed) = (chunk.as_ref().map_or(0, Bytes::len), chunk.is_err());
                if give.send(chunk.map(Frame::data)).await.is_err() || failed {
                    break;
                }
                on_bytes(size as u64);
            }
        });
        let body = Body::wrap(StreamBody::new(stream::poll_fn(move |context| take.poll_recv(context))));
        let patch = self.http.patch(to).header(CONTENT_TYPE, "application/octet-stream").body(body);
        let answer = self.authorized(repository, patch).send().await.map_err(|error| RegistryError::new(&what, chain(&error)))?;
        let answer = refused(answer, &what).await?;
        let mut end = self.location(answer.headers(), &what)?;
        end.query_pairs_mut().append_pair("digest", digest);
        let answer = self.send(repository, &what, || self.http.put(end.clone()).header(CONTENT_LENGTH, 0)).await?;
        refused(answer, &what).await.map(drop)
    }

    fn url(&self, repository: &str, rest: &str, what: &str) -> Result<Url, RegistryError> {
        // Docker Hub keeps names without a slash in `library`.
        let hub = self.base.host_str() == Some("registry-1.docker.io") && !repository.contains('/');
        let repository = if hub { format!("library/{repository}") } else { repository.to_owned() };
        self.base.join(&format!("{repository}/{rest}")).map_err(|error| RegistryError::new(what, error.to_string()))
    }

    fn location(&self, headers: &HeaderMap, what: &str) -> Result<Url, RegistryError> {
        let location =
            text(headers, LOCATION.as_str()).ok_or_else(|| RegistryError::new(what, "the answer names no place for the bytes"))?;
        self.base.join(&location).map_err(|error| RegistryError::new(what, error.to_string()))
    }

    fn authorized(&self, repository: &str, request: RequestBuilder) -> RequestBuilder {
        let token = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(repository).cloned();
        match (token, &self.login) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(login)) => request.basic_auth(&login.username, Some(&login.password)),
            (None, None) => request,
        }
    }

    /// Sends a request until it has an answer that another attempt would not change; logs in where the registry asks for it.
    async fn send(&self, repository: &str, what: &str, request: impl Fn() -> RequestBuilder) -> Result<Response, RegistryError> {
        let mut asked = false;
        let mut attempt = 1;
        loop {
            let pause = Duration::from_millis(500 << attempt.min(6));
            match self.authorized(repository, request()).send().await {
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED && !asked => {
                    asked = true;
                    let Some(challenge) = text(answer.headers(), WWW_AUTHENTICATE.as_str()).filter(|text| is_bearer(text)) else {
                        return Ok(answer);
                    };
                    let token = self.token(&challenge, what).await?;
                    self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.to_owned(), token);
                }
                Ok(answer)
                    if attempt < ATTEMPTS && (answer.status() == StatusCode::TOO_MANY_REQUESTS || answer.status().is_server_error()) =>
                {
                    let wanted = text(answer.headers(), RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
                    tokio::time::sleep(wanted.unwrap_or(pause).min(Duration::from_secs(30))).await;
                    attempt += 1;
                }
                Ok(answer) => return Ok(answer),
                Err(_) if attempt < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                Err(error) => return Err(RegistryError::new(what, chain(&error))),
            }
        }
    }

    /// The token that a challenge asks for.
    async fn token(&self, challenge: &str, what: &str) -> Result<String, RegistryError> {
        let parts = parameters(challenge);
        let failed = |message: String| RegistryError::new(what, message);
        let realm = parts.get("realm").ok_or_else(|| failed("the registry does not say where to log in".to_owned()))?;
        let mut url = Url::parse(realm).map_err(|error| failed(error.to_string()))?;
        for name in ["service", "scope"] {
            if let Some(value) = parts.get(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let request = self.http.get(url);
        let request = match &self.login {
            Some(login) => request.basic_auth(&login.username, Some(&login.password)),
            None => request,
        };
        let answer = refused(request.send().await.map_err(|error| failed(chain(&error)))?, what).await?;
        let bytes = answer.bytes().await.map_err(|error| failed(chain(&error)))?;
        let answer: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        let token = ["token", "access_token"].iter().find_map(|name| answer.get(name)?.as_str());
        token.map(str::to_owned).ok_or_else(|| failed("the login was answered without a token".to_owned()))
    }
}

/// The answer, if it is a success.
async fn refused(answer: Response, what: &str) -> Result<Response, RegistryError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let bytes = answer.bytes().await.unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |name: &str| body.pointer(&format!("/errors/0/{name}")).and_then(|value| value.as_str()).map(str::to_owned);
    Err(RegistryError {
        what: what.to_owned(),
        status: Some(status.as_u16()),
        code: text("code"),
        message: text("message").unwrap_or_default(),
    })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn is_bearer(challenge: &str) -> bool {
    challenge.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "))
}

/// `Bearer realm="…",service="…",scope="…"` by its names.
fn parameters(challenge: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = challenge.get(7..).unwrap_or_default();
    while let Some((name, after)) = rest.split_once("=\"") {
        let Some((value, after)) = after.split_once('"') else { break };
        found.insert(name.trim_matches([' ', ',']).to_owned(), value.to_owned());
        rest = after;
    }
    found
}

/// Every cause once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let challenge = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:shop/api:pull,push""#;
        assert!(is_bearer(challenge) && !is_bearer("Basic realm=\"x\""));
        let parts = parameters(challenge);
        assert_eq!(parts["realm"], "https://auth.example/token");
        assert_eq!(parts["scope"], "repository:shop/api:pull,push");
    }

    #[test]
    fn names_are_put_together_as_docker_does() {
        let hub = Registry::at("docker.io", None).unwrap();
        assert_eq!(hub.url("python", "manifests/3", "").unwrap().as_str(), "https://registry-1.docker.io/v2/library/python/manifests/3");
        let near = Registry::at("127.0.0.1:5000", None).unwrap();
        assert_eq!(near.url("shop/api", "blobs/uploads/", "").unwrap().as_str(), "http://127.0.0.1:5000/v2/shop/api/blobs/uploads/");
    }
}
