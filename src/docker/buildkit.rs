//! Builds with the engine's `BuildKit`: side by side where steps do not depend on each other, with secrets that stay in no layer.
//!
//! bollard 0.21 serves a build no secret, and a secret that is not served is silently built without: so the session is ours.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::{Request, Response};
use prost::Message;

use crate::model::BuildStep;

use super::archive::Unread;
use super::build::{Build, Built, ImageId, TAIL, plain};
use super::context::within;
use super::engine::Engine;
use super::error::DockerError;
use super::filesync::Files;
use super::listener::Listener;
use super::session::{self, Offer};
use super::wire::{self, Lines};

/// Builds and tags an image; `None` if the engine has no `BuildKit`.
///
/// # Errors
/// As [`super::build()`].
pub(super) async fn build(engine: &Engine, build: &Build<'_>, listener: &mut impl Listener) -> Result<Option<Built>, DockerError> {
    let broken = |source: io::Error| DockerError::Request { operation: "build the image".into(), status: None, source: source.into() };
    let dockerfile = within(&build.recipe.dockerfile)?;
    let unread = Unread::default();
    let files = Files::of(build.context, &dockerfile, unread.clone());
    let mut logins = BTreeMap::new();
    for image in build.cache_from.iter().copied() {
        let login = build.logins.of_image(image).await?;
        logins.extend(login.map(|login| (super::login::host(image).to_owned(), login)));
    }
    let secrets = build.secrets.iter().map(|(id, value)| (id.clone(), value.clone())).collect();
    let offer = Offer { files, secrets, optional: build.optional_secrets.to_vec(), logins };
    let name = format!("{} {dockerfile}", build.context.root.display());
    let Some(session) = session::open(engine, &name, offer).await.map_err(broken)? else { return Ok(None) };

    let mut arguments = build.recipe.args.clone();
    // Its own layers say what they were made of, so that a builder elsewhere can take them from the registry.
    arguments.insert("BUILDKIT_INLINE_CACHE".to_owned(), "1".to_owned());
    let json = |value: &BTreeMap<String, String>| serde_json::to_string(value).unwrap_or_default();
    let (arguments, labels) = (json(&arguments), json(&build.labels));
    let cache_from = serde_json::to_string(build.cache_from).unwrap_or_default();
    let tags = build.tags.iter().map(|tag| ("t", tag.as_str()));
    let fixed = [
        ("version", "2"),
        ("session", session.id.as_str()),
        ("remote", "client-session"),
        ("dockerfile", &dockerfile),
        ("target", build.recipe.target.as_deref().unwrap_or_default()),
        ("platform", &build.recipe.platform),
        ("buildargs", &arguments),
        ("labels", &labels),
        ("cachefrom", &cache_from),
        ("nocache", if build.no_cache { "1" } else { "" }),
    ];
    let query = wire::query(fixed.into_iter().chain(tags).filter(|(_, value)| !value.is_empty()));
    let request = Request::post(format!("/build{query}")).body(Empty::<Bytes>::new()).map_err(|error| broken(io::Error::other(error)))?;
    let response = wire::request(&engine.route, request).await.map_err(broken)?;
    let mut trace = Trace::default();
    let id = follow(response, &mut trace, listener).await;
    if let Some(error) = unread.take() {
        return Err(error);
    }
    match id.map_err(broken)? {
        Ok(id) => Ok(Some(Built { id, steps: trace.timed(), buildkit: true })),
        Err(message) => Err(trace.failure(message)),
    }
}

/// Reads the engine's answer to its end: the image's id, or why there is none.
async fn follow(response: Response<Incoming>, trace: &mut Trace, listener: &mut impl Listener) -> io::Result<Result<ImageId, String>> {
    if !response.status().is_success() {
        return wire::refusal(response.into_body()).await.map(Err);
    }
    let mut lines = Lines::of(response.into_body());
    let mut id = None;
    while let Some(line) = lines.next().await? {
        let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
        if let Some(error) = line.error {
            return Ok(Err(error));
        }
        match (line.id.as_deref(), line.aux) {
            (Some("moby.buildkit.trace"), Some(serde_json::Value::String(text))) => {
                let update = STANDARD.decode(text).ok().and_then(|bytes| Update::decode(&bytes[..]).ok());
                trace.take(update.unwrap_or_default(), listener);
            }
            (_, Some(aux)) => id = aux.get("ID").and_then(|id| id.as_str()).map(str::to_owned).or(id),
            _ => {}
        }
    }
    Ok(id.map(ImageId).ok_or_else(|| "the engine ended the build without saying what it built".to_owned()))
}

#[derive(serde::Deserialize)]
struct Line {
    id: Option<String>,
    aux: Option<serde_json::Value>,
    error: Option<String>,
}

/// What is known of a build's steps so far.
#[derive(Default)]
struct Trace {
    steps: HashMap<String, Step>,
    order: Vec<String>,
}

#[derive(Default)]
struct Step {
    name: String,
    said: bool,
    ended: bool,
    cached: bool,
    seconds: f64,
    error: String,
    line: String,
    tail: VecDeque<String>,
    /// What it fetches, by the builder's ids: so many bytes of so many.
    amounts: HashMap<String, (i64, i64)>,
}

impl Trace {
    fn take(&mut self, update: Update, listener: &mut impl Listener) {
        // Before the steps: what one has said last comes with its end.
        for log in update.logs {
            let step = self.steps.entry(log.vertex).or_default();
            for c in String::from_utf8_lossy(&log.msg).chars() {
                if c == '\n' || c == '\r' {
                    step.end_line(listener);
                } else {
                    step.line.push(c);
                }
            }
        }
        for vertex in update.vertexes {
            if !self.order.contains(&vertex.digest) {
                self.order.push(vertex.digest.clone());
            }
            let step = self.steps.entry(vertex.digest).or_default();
            step.name.clone_from(&vertex.name);
            step.cached |= vertex.cached;
            if let (Some(started), Some(completed)) = (&vertex.started, &vertex.completed) {
                step.seconds = completed.seconds() - started.seconds();
                if !step.ended {
                    step.ended = true;
                    step.end_line(listener);
                    let how = match (step.cached, vertex.error.is_empty()) {
                        (_, false) => "failed".to_owned(),
                        (true, true) => "cached".to_owned(),
                        (false, true) => format!("{:.1} s", step.seconds),
                    };
                    if step.is_shown() {
                        listener.ended(&step.name, &how);
                    }
                }
            } else if vertex.started.is_some() && !step.said && !step.cached && step.is_shown() {
                step.said = true;
                listener.began(&step.name);
            }
            if !vertex.error.is_empty() {
                step.error = vertex.error;
            }
        }
        // What a step fetches: layers, the context.
        for status in update.statuses {
            if let Some(step) = self.steps.get_mut(&status.vertex).filter(|step| step.said && !step.ended) {
                step.amounts.insert(status.id, (status.current, status.total));
                let sum = step.amounts.values().fold((0, 0), |sum, (current, total)| (sum.0 + current, sum.1 + total));
                let [done, total] = [sum.0, sum.1].map(|bytes| u64::try_from(bytes).unwrap_or_default());
                listener.amount(&step.name, done, total);
            }
        }
    }

    fn timed(mut self) -> Vec<BuildStep> {
        let steps = self.order.iter().filter_map(|digest| self.steps.remove(digest));
        let steps = steps.filter(|step| step.ended && step.name.starts_with('[') && step.is_shown());
        steps.map(|step| BuildStep { name: step.name, seconds: step.seconds, cached: step.cached }).collect()
    }

    fn failure(mut self, message: String) -> DockerError {
        let failed = self
            .order
            .iter()
            .find(|digest| self.steps.get(*digest).is_some_and(|step| !step.error.is_empty() && !step.error.contains("context canceled")));
        let Some(mut step) = failed.and_then(|digest| self.steps.remove(digest)) else {
            return DockerError::Build { step: None, message, tail: Vec::new() };
        };
        step.end_line(&mut |_: &str| ());
        // The whole command is in the step's name already.
        let exit = message.rsplit_once("exit code: ").map(|(_, code)| format!("exited with {code}"));
        DockerError::Build { step: Some(step.name), message: exit.unwrap_or(message), tail: step.tail.into() }
    }
}

impl Step {
    /// The builder's own work is not shown.
    fn is_shown(&self) -> bool {
        !self.name.starts_with("[internal]")
    }

    fn end_line(&mut self, listener: &mut impl Listener) {
        let line = plain(&std::mem::take(&mut self.line));
        if line.is_empty() {
            return;
        }
        listener.output(&self.name, &line);
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

/// `StatusResponse` of <https://github.com/moby/buildkit/blob/master/api/services/control/control.proto>, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Update {
    #[prost(message, repeated, tag = "1")]
    vertexes: Vec<Vertex>,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<Amount>,
    #[prost(message, repeated, tag = "3")]
    logs: Vec<Log>,
}

/// `VertexStatus`
#[derive(Clone, PartialEq, Message)]
struct Amount {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    vertex: String,
    #[prost(int64, tag = "4")]
    current: i64,
    #[prost(int64, tag = "5")]
    total: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Vertex {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bool, tag = "4")]
    cached: bool,
    #[prost(message, optional, tag = "5")]
    started: Option<Time>,
    #[prost(message, optional, tag = "6")]
    completed: Option<Time>,
    #[prost(string, tag = "7")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct Log {
    #[prost(string, tag = "1")]
    vertex: String,
    #[prost(bytes = "vec", tag = "4")]
    msg: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    whole: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Time {
    #[expect(clippy::cast_precision_loss, reason = "only differences of a few hours are shown, in tenths of a second")]
    fn seconds(self) -> f64 {
        self.whole as f64 + f64::from(self.nanos) / 1e9
    }
}
