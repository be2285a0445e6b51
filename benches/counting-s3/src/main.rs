//! An in-memory S3 server on the loopback interface that counts what its clients ask of it.
//!
//! It answers what windlass and its peers ask when they bring a directory to a bucket, counts every request by operation, and logs
//! each in the order in which they complete: what a client did, and in which order, is then a fact of the server and not a claim of
//! the client. Nothing is authenticated, and every bucket exists.
//!
//! - `store`: the objects, and the rules of S3 for writing them
//! - `ledger`: the counts, the log, and what is done to the clients on purpose (latency, 503s, a kill)
//! - `request`: a request as S3 means it, with the body decoded
//! - `service`: from a request to an operation; `object` and `bucket` hold those
//! - `admin`: `/__…`, by which a benchmark asks and steers
//! - `answer`: XML, dates, escapes
//! - `tls`: a certificate for 127.0.0.1
//!
//! ```text
//! counting-s3 127.0.0.1:9311 [--tls DIRECTORY]
//! ```
//!
//! With port 0 the system chooses one. The first line on stdout is the server's URL; with `--tls` the authority to trust is then in
//! `DIRECTORY/authority.pem`.

mod admin;
mod answer;
mod bucket;
mod ledger;
mod object;
mod request;
mod service;
mod store;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::service::Server;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// What the command line asks for.
struct Arguments {
    address: String,
    tls: Option<PathBuf>,
}

fn arguments() -> Option<Arguments> {
    let mut given = std::env::args().skip(1);
    let address = given.next().filter(|address| !address.starts_with('-'))?;
    let tls = match given.next() {
        None => None,
        Some(option) if option == "--tls" => Some(PathBuf::from(given.next()?)),
        Some(_) => return None,
    };
    given.next().is_none().then_some(Arguments { address, tls })
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: counting-s3 127.0.0.1:PORT [--tls DIRECTORY]");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counting-s3: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn run(arguments: &Arguments) -> Result<(), Trouble> {
    let acceptor = arguments.tls.as_deref().map(tls::acceptor).transpose()?;
    let listener = TcpListener::bind(&arguments.address).await?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    println!("{scheme}://{}", listener.local_addr()?);
    let server = Arc::new(Server::default());
    loop {
        let (stream, _) = listener.accept().await?;
        // Otherwise small answers wait for the client's acknowledgement, and latency would be measured that no S3 has.
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            server.ledger.connected();
            match acceptor {
                None => serve(server, stream).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(server, stream).await;
                    }
                }
            }
        });
    }
}

async fn serve(server: Arc<Server>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { server.answer(request).await }
    });
    // A client that goes away in the middle of a request is the client's business, and sometimes the benchmark's intent.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
