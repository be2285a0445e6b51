//! The session of a build: `BuildKit` asks its client for files, secrets and logins while it builds.
//!
//! The client serves gRPC to the engine over a connection that it has opened itself and had turned around. The messages are those of
//! <https://github.com/moby/buildkit/tree/master/session> and <https://github.com/tonistiigi/fsutil>.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::task::JoinHandle;

use super::engine::Engine;
use super::filesync::{self, Files};
use super::grpc::{Answer, FAILED_PRECONDITION, Messages, NOT_FOUND, Status, UNIMPLEMENTED, framed, unary};
use super::push::Credentials;
use super::wire;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const LOGIN: &str = "/moby.filesync.v1.Auth/Credentials";
const FILES: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// What a build may ask for.
pub(super) struct Offer {
    /// The files.
    pub(super) files: Files,
    /// Secrets by id.
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    /// Secrets that the Dockerfile can do without.
    pub(super) optional: Vec<String>,
    /// Logins by registry.
    pub(super) logins: BTreeMap<String, Credentials>,
}

/// A session that is being served. It ends when this is dropped.
pub(super) struct Session {
    /// Its id, which the build names.
    pub(super) id: String,
    server: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Opens a session and serves it; `None` where the engine has none to open, because it has no `BuildKit`.
///
/// # Errors
/// The engine cannot be reached.
pub(super) async fn open(engine: &Engine, name: &str, offer: Offer) -> io::Result<Option<Session>> {
    let id = unique(name);
    let mut request = Request::post("/session")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "h2c")
        .header("X-Docker-Expose-Session-Uuid", &id)
        .header("X-Docker-Expose-Session-Name", "windlass")
        // What the engine has kept of an earlier build of this name is brought up to date rather than sent anew.
        .header("X-Docker-Expose-Session-Sharedkey", key(name));
    for method in [HEALTH, SECRET, LOGIN, FILES] {
        request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let response = wire::request(&engine.route, request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
    let offer = Arc::new(offer);
    let service = service_fn(move |request| {
        let offer = Arc::clone(&offer);
        async move { Ok::<_, Infallible>(answer(&offer, request).await) }
    });
    let server = tokio::spawn(async move {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 22);
        // It ends with the engine's side of it; what went wrong, the build says.
        drop(builder.serve_connection(TokioIo::new(TokioIo::new(upgraded)), service).await);
    });
    Ok(Some(Session { id, server }))
}

/// An id that no other session has.
fn unique(name: &str) -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    key(&format!("{name} {now} {count} {}", std::process::id()))
}

fn key(name: &str) -> String {
    let mut key = crate::model::Sha256::of(name.as_bytes()).to_string();
    key.truncate(32);
    key
}

async fn answer(offer: &Offer, request: Request<Incoming>) -> Answer {
    match request.uri().path() {
        HEALTH => unary(Ok(framed(&Health { status: 1 }))),
        SECRET => unary(secret(offer, Messages::of(request).next().await.unwrap_or_default())),
        LOGIN => {
            let asked: Asked = Messages::of(request).next().await.unwrap_or_default();
            let host = if asked.name == "registry-1.docker.io" { "docker.io" } else { &asked.name };
            let login = offer.logins.get(host);
            let login =
                login.map_or_else(Login::default, |login| Login { username: login.username.clone(), secret: login.password.clone() });
            unary(Ok(framed(&login)))
        }
        FILES => filesync::answer(&offer.files, request),
        other => unary(Err(Status(UNIMPLEMENTED, format!("unknown method {other}")))),
    }
}

fn secret(offer: &Offer, asked: Asked) -> Result<Bytes, Status> {
    let id = asked.name;
    match offer.secrets.get(&id) {
        Some(value) => Ok(framed(&Secret { data: value.clone() })),
        None if offer.optional.contains(&id) => Err(Status(NOT_FOUND, format!("secret {id}: not found"))),
        // "Not found" would be taken for permission to build without it.
        None => Err(Status(FAILED_PRECONDITION, format!("`image.secrets` does not have the secret `{id}`"))),
    }
}

#[derive(Clone, PartialEq, Message)]
struct Health {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// A request for one thing by its name: a secret, or a registry's login.
#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Login {
    #[prost(string, tag = "1")]
    username: String,
    #[prost(string, tag = "2")]
    secret: String,
}
