//! Probe: asks for a page the way a visitor does, for health checks and to see that what was published is served.
//!
//! One request is one question: repeating it, waiting between and deciding what an answer means belong to the rooms above.
//!
//! Deliberately absent: AWS, cookies, scripts, and caches of its own.

mod html;

use std::fmt;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};

pub use html::references;

/// For one page, redirects included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// For a connection alone: a server that takes none is told from one that takes it and is silent.
const CONNECT: Duration = Duration::from_secs(5);

/// The most that is read of one body, in bytes.
const LIMIT: usize = 4 * 1024 * 1024;

/// The most redirects that are followed.
const REDIRECTS: usize = 5;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The address that answered, after redirects.
    pub url: String,
    /// The HTTP status. A redirect to another host is not followed and shows here.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`: none is asked for, so that this is how the file is stored; the body is as it was sent.
    pub content_encoding: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `ETag`, with its quotes.
    pub etag: Option<String>,
    /// `X-Cache`, in which CloudFront says whether it had the page: `Hit from cloudfront`.
    pub x_cache: Option<String>,
    /// `Location`, when the status is a redirect.
    pub location: Option<String>,
    /// The body, at most 4 MiB.
    pub body: Bytes,
    /// Was there more of the body?
    pub cut: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// The address that was asked.
    pub url: String,
    /// What kind of failure it is.
    pub kind: ProbeErrorKind,
    message: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeErrorKind {
    /// The address is none, or not of `http` or `https`.
    BadUrl,
    /// No connection: the name, the port, the certificate, or none within 5 s.
    Unreachable,
    /// Connected, and no complete answer within 10 s.
    Timeout,
    /// The answer broke off, or is not HTTP.
    Broken,
    /// It redirects round and round.
    Redirects,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.message)
    }
}

impl std::error::Error for ProbeError {}

/// Asks for pages; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// Made when it is first needed: it reads all that the machine trusts.
    http: Arc<OnceLock<reqwest::Client>>,
    via: Option<Url>,
}

/// Makes a client.
///
/// With `via`, a base URL, every request goes there and keeps the host that it is meant for in its `Host` header: for a server whose
/// names do not resolve (an address, or `localhost`, is asked directly). The scheme that it is meant for goes along as `X-Forwarded-Proto`, as from a proxy that ends TLS.
///
/// # Errors
/// `via` is no URL.
pub fn client(via: Option<&str>) -> Result<Client, ProbeError> {
    static RING: Once = Once::new();
    // The only provider in this build; someone else's being first is just as well.
    RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));

    Ok(Client { http: Arc::default(), via: via.map(parse).transpose()? })
}

impl Client {
    fn http(&self, url: &Url) -> Result<&reqwest::Client, ProbeError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let agent = concat!("windlass/", env!("CARGO_PKG_VERSION"));
        let builder = reqwest::Client::builder().user_agent(agent).redirect(Policy::none()).connect_timeout(CONNECT).timeout(TIMEOUT);
        // What listens on this machine is not behind the company's proxy.
        let builder = if self.via.is_some() { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| failure(url, &error))?;
        Ok(self.http.get_or_init(|| http))
    }

    /// Asks for `url` and follows up to five redirects on the same host, all within 10 s. Any status is an answer.
    ///
    /// # Errors
    /// The address is none; TLS cannot be set up; no connection; no complete answer in time; redirects without end.
    pub async fn get(&self, url: &str) -> Result<Page, ProbeError> {
        let asked = parse(url)?;
        match tokio::time::timeout(TIMEOUT, self.follow(asked)).await {
            Ok(answer) => answer,
            Err(_) => Err(ProbeError { url: url.to_owned(), kind: ProbeErrorKind::Timeout, message: silent() }),
        }
    }

    async fn follow(&self, asked: Url) -> Result<Page, ProbeError> {
        let mut url = asked.clone();
        let http = self.http(&url)?;
        for _ in 0..=REDIRECTS {
            let answer = self.ask(http, &url).await.map_err(|error| failure(&url, &error))?;
            match redirect(&url, &answer) {
                Some(next) if next.host_str() == url.host_str() => url = next,
                _ => return page(url, answer).await,
            }
        }
        Err(ProbeError {
            url: asked.to_string(),
            kind: ProbeErrorKind::Redirects,
            message: format!("more than {REDIRECTS} redirects, the last to {url}"),
        })
    }

    async fn ask(&self, http: &reqwest::Client, url: &Url) -> reqwest::Result<Response> {
        let Some(via) = self.via.as_ref().filter(|_| !is_here(url)) else { return http.get(url.clone()).send().await };
        let mut there = via.clone();
        there.set_path(url.path());
        there.set_query(url.query());
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        http.get(there).header(HOST, host).header("x-forwarded-proto", url.scheme()).send().await
    }
}

/// Is it an address, or this machine's own name? Then nothing has to stand in for its resolution.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

fn redirect(url: &Url, answer: &Response) -> Option<Url> {
    // 304 and 300 name no single place.
    matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308).then_some(())?;
    url.join(&header(answer.headers(), &LOCATION)?).ok()
}

async fn page(url: Url, mut answer: Response) -> Result<Page, ProbeError> {
    let headers = answer.headers();
    let mut page = Page {
        status: answer.status().as_u16(),
        content_type: header(headers, &CONTENT_TYPE),
        content_encoding: header(headers, &CONTENT_ENCODING),
        cache_control: header(headers, &CACHE_CONTROL),
        etag: header(headers, &ETAG),
        x_cache: header(headers, &HeaderName::from_static("x-cache")),
        location: header(headers, &LOCATION),
        url: url.to_string(),
        body: Bytes::new(),
        cut: false,
    };
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&url, &error))? {
        let room = LIMIT - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            page.cut = true;
            break;
        }
        body.extend_from_slice(&chunk);
    }
    page.body = body.freeze();
    Ok(page)
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn parse(text: &str) -> Result<Url, ProbeError> {
    let bad = |message: String| ProbeError { url: text.to_owned(), kind: ProbeErrorKind::BadUrl, message };
    let url = Url::parse(text).map_err(|error| bad(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(format!("`{}` is neither http nor https", url.scheme())));
    }
    Ok(url)
}

fn failure(url: &Url, error: &reqwest::Error) -> ProbeError {
    let (kind, message) = match error {
        error if error.is_connect() && error.is_timeout() => {
            (ProbeErrorKind::Unreachable, format!("no connection within {} s", CONNECT.as_secs()))
        }
        error if error.is_connect() => (ProbeErrorKind::Unreachable, text_of(error)),
        // The client's own limit may be the first of the two to be noticed.
        error if error.is_timeout() => (ProbeErrorKind::Timeout, silent()),
        _ => (ProbeErrorKind::Broken, text_of(error)),
    };
    ProbeError { url: url.to_string(), kind, message }
}

fn silent() -> String {
    format!("no complete answer within {} s", TIMEOUT.as_secs())
}

/// The innermost cause says what happened; the layers above it only that something did.
fn text_of(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |&error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_before_anything_is_sent() {
        for url in ["shop.example", "ftp://shop.example/", ""] {
            assert_eq!(parse(url).unwrap_err().kind, ProbeErrorKind::BadUrl, "{url}");
        }
        assert!(client(Some("nowhere")).is_err());
    }
}
