//! A reverse proxy in front of the local cloud: it records every request, and fails those that a test says it should.
//!
//! It runs in a thread of its own, so that a test without a runtime can use it while the binary under test talks through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::request::Recorded;
use super::scene::until;

/// What is done with a request instead of passing it on and passing the answer back.
pub(crate) enum Fault {
    /// It is answered here and never reaches the cloud.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The connection is closed and nothing reaches the cloud.
    Refuse,
    /// It is passed on and done; then the connection is closed without an answer.
    LoseAnswer,
    /// It waits this long and is passed on.
    Delay(Duration),
    /// It waits until the test opens the gate and is passed on.
    Hold(Gate),
    /// The answer's status and body are replaced by what this makes of them.
    Rewrite(Box<dyn Fn(u16, String) -> (u16, String) + Send>),
    /// This is done, at the moment when the request arrives; then it is passed on. It may kill the program under test.
    First(Box<dyn Fn() + Send>),
}

impl Fault {
    /// What the JSON services answer when they refuse: `Fault::json(400, "ThrottlingException", "Rate exceeded")`.
    pub(crate) fn json(status: u16, code: &str, message: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type", "application/x-amz-json-1.1".to_owned()), ("x-amzn-errortype", code.to_owned())],
            body: serde_json::json!({ "__type": code, "message": message }).to_string(),
        }
    }

    /// What S3 answers when it refuses: `Fault::xml(503, "SlowDown", "Please reduce your request rate.")`.
    pub(crate) fn xml(status: u16, code: &str, message: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type", "application/xml".to_owned())],
            body: format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"),
        }
    }
}

/// What requests are held back by. Clones are one gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// Lets pass what waits, and all that comes.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        self.0.subscribe().wait_for(|is_open| *is_open).await.ok();
    }
}

struct Rule {
    matches: Box<dyn Fn(&Recorded) -> bool + Send>,
    times: usize,
    fault: Fault,
}

/// What the rule that a request meets does with it, for as long as nobody holds the rules.
enum Step {
    Pass,
    Answer(Response<Full<Bytes>>),
    Refuse,
    LoseAnswer,
    Delay(Duration),
    Hold(Gate),
    Rewrite(usize),
}

#[derive(Default)]
struct State {
    requests: Vec<Recorded>,
    rules: Vec<Rule>,
    /// So many requests are on their way.
    under_way: usize,
}

/// A request on its way, until this is dropped.
struct UnderWay(Arc<Mutex<State>>);

impl UnderWay {
    fn begin(state: &Arc<Mutex<State>>) -> Self {
        lock(state).under_way += 1;
        Self(Arc::clone(state))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.0).under_way -= 1;
    }
}

/// A running proxy; it ends when this is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
}

type Upstream = Client<HttpConnector, Full<Bytes>>;

impl Proxy {
    /// Starts a proxy in front of `upstream`: `http://127.0.0.1:4566`.
    pub(crate) fn start(upstream: &str) -> Self {
        let upstream: Uri = upstream.parse().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, upstream, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop) }
    }

    /// Where the program under test is to send its requests.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request since the start, or since the last [`Proxy::clear`], those that were failed included.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    /// The requests that change something.
    pub(crate) fn writes(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| request.is_write).collect()
    }

    /// The operations of the writes, in their order.
    pub(crate) fn written(&self) -> Vec<String> {
        self.writes().into_iter().map(|request| request.operation).collect()
    }

    /// Forgets the requests. Rules stay.
    pub(crate) fn clear(&self) {
        lock(&self.state).requests.clear();
    }

    /// Does `fault` to the next `times` requests that `matches` holds for. An older rule goes before a newer one.
    pub(crate) fn fail_next(&self, matches: impl Fn(&Recorded) -> bool + Send + 'static, times: usize, fault: Fault) {
        lock(&self.state).rules.push(Rule { matches: Box::new(matches), times, fault });
    }

    /// Waits until the cloud has answered all that was asked. What a program has sent whose process is gone may still be on its way there.
    #[track_caller]
    pub(crate) fn settle(&self) {
        until("the cloud has answered", || lock(&self.state).under_way == 0);
    }

    /// How often rules are still to be applied: 0 when every fault has happened.
    pub(crate) fn faults_left(&self) -> usize {
        lock(&self.state).rules.iter().map(|rule| rule.times).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, upstream: Uri, state: Arc<Mutex<State>>) {
    let client: Upstream = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (client, upstream, state) = (client.clone(), upstream.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, client.clone(), upstream.clone(), Arc::clone(&state)));
            // An error here is a connection that a fault has closed, or the other side.
            http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.ok();
        });
    }
}

/// The error closes the connection.
async fn answer(
    request: Request<Incoming>,
    client: Upstream,
    upstream: Uri,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let under_way = UnderWay::begin(&state);
    let recorded = Recorded::new(&parts, &body);
    let step = next_step(&state, &recorded);
    match step {
        Step::Answer(answer) => return Ok(answer),
        Step::Refuse => return Err(std::io::Error::other("refused")),
        Step::Delay(duration) => tokio::time::sleep(duration).await,
        Step::Hold(ref gate) => gate.opened().await,
        Step::Pass | Step::LoseAnswer | Step::Rewrite(_) => {}
    }
    let mut forwarded = Request::from_parts(parts, Full::new(body));
    let mut uri = upstream.into_parts();
    uri.path_and_query = forwarded.uri().path_and_query().cloned();
    *forwarded.uri_mut() = Uri::from_parts(uri).map_err(std::io::Error::other)?;
    // The Host header stays: it is signed, and a CDN's pages are found by it.
    for hop_by_hop in [CONNECTION, TRANSFER_ENCODING, EXPECT] {
        forwarded.headers_mut().remove(hop_by_hop);
    }
    // In a task of its own: what was sent is done, though whoever has sent it be killed meanwhile.
    let passed_on = tokio::spawn(async move {
        let _under_way = under_way;
        let (parts, body) = client.request(forwarded).await.map_err(std::io::Error::other)?.into_parts();
        Ok::<_, std::io::Error>((parts, body.collect().await.map_err(std::io::Error::other)?.to_bytes()))
    });
    let (mut parts, body) = passed_on.await.map_err(std::io::Error::other)??;
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    match step {
        Step::LoseAnswer => Err(std::io::Error::other("the answer is lost")),
        Step::Rewrite(rule) => Ok(rewritten(&state, rule, parts.status.as_u16(), &body)),
        _ => Ok(Response::from_parts(parts, Full::new(body))),
    }
}

fn next_step(state: &Mutex<State>, recorded: &Recorded) -> Step {
    let mut state = lock(state);
    state.requests.push(recorded.clone());
    let found = state.rules.iter_mut().enumerate().find(|(_, rule)| rule.times > 0 && (rule.matches)(recorded));
    let Some((index, rule)) = found else { return Step::Pass };
    rule.times -= 1;
    match &rule.fault {
        Fault::Answer { status, headers, body } => {
            let mut answer = Response::builder().status(*status);
            for (name, value) in headers {
                answer = answer.header(*name, value);
            }
            Step::Answer(answer.body(Full::new(Bytes::from(body.clone()))).unwrap())
        }
        Fault::Refuse => Step::Refuse,
        Fault::LoseAnswer => Step::LoseAnswer,
        Fault::Delay(duration) => Step::Delay(*duration),
        Fault::Hold(gate) => Step::Hold(gate.clone()),
        Fault::Rewrite(_) => Step::Rewrite(index),
        Fault::First(act) => {
            act();
            Step::Pass
        }
    }
}

fn rewritten(state: &Mutex<State>, rule: usize, status: u16, body: &[u8]) -> Response<Full<Bytes>> {
    let state = lock(state);
    let Fault::Rewrite(rewrite) = &state.rules[rule].fault else { panic!("the rule rewrites") };
    let (status, body) = rewrite(status, String::from_utf8_lossy(body).into_owned());
    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
}
