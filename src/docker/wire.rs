//! The engine's API by hand, for what bollard 0.21 does not carry: a build with a session of our own.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;

/// A connection to the engine.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The way to an engine.
#[derive(Clone)]
pub(super) enum Route {
    Unix(PathBuf),
    /// `HOST:PORT`; 2375 without a port.
    Tcp(String),
    /// `HOST:PORT`; 2376 without a port.
    Tls {
        host: String,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    },
    /// `ssh://USER@HOST`.
    Ssh(String),
}

/// Sends one request over a connection of its own, which may be upgraded.
///
/// # Errors
/// The engine cannot be reached, or the connection broke before it answered.
pub(super) async fn request<B>(route: &Route, request: Request<B>) -> io::Result<Response<Incoming>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = dial(route).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().map_err(io::Error::other)?;
    parts.headers.insert(HOST, hyper::header::HeaderValue::from_static("docker"));
    sender.send_request(Request::from_parts(parts, body)).await.map_err(io::Error::other)
}

async fn dial(route: &Route) -> io::Result<Box<dyn Duplex>> {
    let tcp = async |host: &str, port: u16| {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let stream = TcpStream::connect(if has_port { host.to_owned() } else { format!("{host}:{port}") }).await?;
        stream.set_nodelay(true)?;
        io::Result::Ok(stream)
    };
    Ok(match route {
        Route::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Route::Tcp(host) => Box::new(tcp(host, 2375).await?),
        Route::Tls { host, name, config } => {
            Box::new(TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp(host, 2376).await?).await?)
        }
        Route::Ssh(address) => Box::new(Ssh::start(address)?),
    })
}

/// The lines of an answer: the engine sends one document on each.
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
    ended: bool,
}

impl Lines {
    pub(super) fn of(body: Incoming) -> Self {
        Self { body, read: BytesMut::new(), ended: false }
    }

    /// The next line, without its end; `None` after the last.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1).freeze();
                return Ok(Some(line.slice(..end)));
            }
            if self.ended {
                let rest = self.read.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            match self.body.frame().await {
                Some(frame) => self.read.extend_from_slice(&frame.map_err(io::Error::other)?.into_data().unwrap_or_default()),
                None => self.ended = true,
            }
        }
    }
}

/// What the engine says when it refuses.
pub(super) async fn refusal(body: Incoming) -> io::Result<String> {
    #[derive(serde::Deserialize)]
    struct Refused {
        message: String,
    }
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(serde_json::from_slice::<Refused>(&bytes).map_or_else(|_| String::from_utf8_lossy(&bytes).into_owned(), |it| it.message))
}

/// An engine behind SSH, as the Docker command line reaches it. The connection ends with the child.
///
/// <https://docs.docker.com/engine/security/protect-access/#use-ssh-to-protect-the-docker-daemon-socket>
struct Ssh {
    _child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Ssh {
    fn start(address: &str) -> io::Result<Self> {
        let mut command = Command::new("ssh");
        // A question would wait for somebody who is not there.
        command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "--", address, "docker", "system", "dial-stdio"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| io::Error::other("`ssh` has no pipes"))?;
        Ok(Self { _child: child, stdin, stdout })
    }
}

impl AsyncRead for Ssh {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Ssh {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}

/// A query of names and values, encoded as RFC 3986 has it.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    text.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_query_is_encoded() {
        let pairs = [("t", "h:1/a:b"), ("labels", "{\"a\":\"ü &\"}")];
        assert_eq!(super::query(pairs), "?t=h:1/a:b&labels=%7B%22a%22:%22%C3%BC%20%26%22%7D");
    }
}
