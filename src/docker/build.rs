//! Builds an image from a context: with the engine's `BuildKit`, else with its classic builder, which every engine has.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::Instant;

use bollard::errors::Error;
use bollard::query_parameters::{BuildImageOptions, RemoveImageOptions, TagImageOptions};
use futures_util::StreamExt as _;

use crate::model::BuildStep;

use super::archive::{Unread, pieces};
use super::buildkit;
use super::context::{Context, within};
use super::digest::Recipe;
use super::engine::Engine;
use super::error::DockerError;
use super::listener::Listener;
use super::login::Logins;

/// How many of the last lines of output an error keeps.
pub(super) const TAIL: usize = 20;

/// An image to build.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// The files.
    pub context: &'a Context,
    /// How to build them.
    pub recipe: &'a Recipe,
    /// The names that the image gets: `REPOSITORY:TAG`.
    pub tags: Vec<String>,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
    /// Build every step, whatever the builder remembers.
    pub no_cache: bool,
    /// Images in registries whose layers may be taken instead of being built, and what to log in there with.
    pub cache_from: &'a [&'a str],
    /// For them.
    pub logins: &'a Logins,
    /// Secrets that steps may mount, by id.
    pub secrets: &'a BTreeMap<String, Vec<u8>>,
    /// Secrets that they can do without.
    pub optional_secrets: &'a [String],
    /// Use the classic builder, whatever else there is.
    pub classic: bool,
}

/// What was built.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The image.
    pub id: ImageId,
    /// The steps of the Dockerfile, where the builder tells them apart.
    pub steps: Vec<BuildStep>,
    /// Was it `BuildKit`?
    pub buildkit: bool,
}

/// The id of an image in the engine, `sha256:…` of its configuration: not the digest that a registry knows it by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageId(pub(super) String);

impl ImageId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Builds and tags an image. `listener` hears of every step, and every line of the build's output, without its colours.
///
/// An engine without `BuildKit` builds with its classic builder, and the output says so. The context is
/// streamed, never held in memory. Dropping the future cancels the build.
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageBuild>
///
/// # Errors
/// [`DockerError::Build`] with the step and the last lines; [`DockerError::Read`] if the context changed under the build; secrets for a
/// builder that has none.
pub async fn build(engine: &Engine, build: Build<'_>, mut listener: impl Listener) -> Result<Built, DockerError> {
    if !build.classic
        && let Some(built) = buildkit::build(engine, &build, &mut listener).await?
    {
        return Ok(built);
    }
    if !build.secrets.is_empty() {
        let message = "it needs secrets, which only BuildKit can give it, and the engine has none".to_owned();
        return Err(DockerError::Build { step: Some("the build".to_owned()), message, tail: Vec::new() });
    }
    listener.line("without BuildKit: the engine's classic builder builds this");
    let id = classic(engine, build, listener).await?;
    Ok(Built { id, steps: Vec::new(), buildkit: false })
}

async fn classic(engine: &Engine, build: Build<'_>, mut listener: impl Listener) -> Result<ImageId, DockerError> {
    let owned = |map: &BTreeMap<String, String>| -> HashMap<String, String> { map.clone().into_iter().collect() };
    let options = BuildImageOptions {
        dockerfile: within(&build.recipe.dockerfile)?,
        t: build.tags.first().cloned(),
        buildargs: Some(owned(&build.recipe.args)),
        labels: Some(owned(&build.labels)),
        target: build.recipe.target.clone().unwrap_or_default(),
        platform: build.recipe.platform.clone(),
        nocache: build.no_cache,
        // Also the containers of a failed step.
        forcerm: true,
        ..BuildImageOptions::default()
    };
    let unread = Unread::default();
    let body = bollard::body_try_stream(pieces(build.context.clone(), unread.clone()));
    let mut answers = engine.docker.build_image(options, None, Some(body));
    let mut output = Output::default();
    let mut id = None;
    while let Some(answer) = answers.next().await {
        let info = match answer {
            Ok(info) => info,
            Err(error) if is_spurious(&error) => break,
            Err(error) => {
                output.end_step("failed", &mut listener);
                return Err(unread.take().unwrap_or_else(|| output.failure(error)));
            }
        };
        if let Some(text) = info.stream {
            output.take(&text, &mut listener);
        }
        // How a base image is pulled; the figures of its progress are left out.
        if let Some(status) = info.status.filter(|_| info.progress_detail.is_none_or(|detail| detail.current.is_none())) {
            let id = info.id.map(|id| format!("{id}: ")).unwrap_or_default();
            output.take(&format!("{id}{status}\n"), &mut listener);
        }
        // Every stage of the Dockerfile says its id; the last is the image's.
        id = info.aux.and_then(|aux| aux.id).or(id);
    }
    output.take("\n", &mut listener);
    output.end_step("done", &mut listener);
    let id = match (id, unread.take()) {
        (_, Some(error)) => return Err(error),
        (Some(id), None) => ImageId(id),
        (None, None) => {
            let message = "the engine ended the build without saying what it built".to_owned();
            return Err(DockerError::Build { step: output.step, message, tail: output.tail.into() });
        }
    };
    for name in build.tags.iter().skip(1) {
        let (repository, label) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((name, "latest"));
        tag(engine, id.as_str(), repository, label).await?;
    }
    Ok(id)
}

/// Gives an image of the engine another name: `REPOSITORY:TAG`. `source` is an id or a name.
///
/// # Errors
/// [`DockerError::is_image_absent`] when there is no such image.
pub async fn tag(engine: &Engine, source: &str, repository: &str, tag: &str) -> Result<(), DockerError> {
    let options = TagImageOptions { repo: Some(repository.to_owned()), tag: Some(tag.to_owned()) };
    let done = engine.docker.tag_image(source, Some(options)).await;
    done.map_err(|error| DockerError::request(format!("tag image `{source}` as `{repository}:{tag}`"), error))
}

/// Takes an image's name away from the engine, and what no other name keeps. One that is not there is none.
///
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageDelete>
///
/// # Errors
/// The engine fails, or a container still has the image.
pub async fn remove_image(engine: &Engine, image: &str) -> Result<(), DockerError> {
    match engine.docker.remove_image(image, None::<RemoveImageOptions>, None).await {
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        removed => removed.map(drop).map_err(|error| DockerError::request(format!("remove image `{image}`"), error)),
    }
}

/// The id of an image of the engine.
///
/// # Errors
/// [`DockerError::is_image_absent`] when there is no such image.
pub async fn image_id(engine: &Engine, image: &str) -> Result<ImageId, DockerError> {
    let found = engine.docker.inspect_image(image).await;
    let found = found.map_err(|error| DockerError::request(format!("inspect image `{image}`"), error))?;
    Ok(ImageId(found.id.unwrap_or_default()))
}

/// What an image of the engine runs on, as `OS/ARCHITECTURE`: "linux/amd64".
///
/// # Errors
/// [`DockerError::is_image_absent`] when there is no such image.
pub async fn architecture(engine: &Engine, image: &str) -> Result<String, DockerError> {
    let found = engine.docker.inspect_image(image).await;
    let found = found.map_err(|error| DockerError::request(format!("inspect image `{image}`"), error))?;
    Ok(format!("{}/{}", found.os.unwrap_or_default(), found.architecture.unwrap_or_default()))
}

/// Does the error only say that the stream's end was cut in a bad place? bollard 0.21 keeps the `\r` of a `\r\n` that came in two reads.
pub(super) fn is_spurious(error: &Error) -> bool {
    matches!(error, Error::IOError { err } if err.to_string() == "bytes remaining on stream")
}

/// The output so far: the step that it is in, and its last lines.
#[derive(Default)]
struct Output {
    line: String,
    step: Option<String>,
    began: Option<Instant>,
    cached: bool,
    tail: VecDeque<String>,
}

impl Output {
    fn take(&mut self, text: &str, listener: &mut impl Listener) {
        for c in text.chars() {
            if c != '\n' && c != '\r' {
                self.line.push(c);
                continue;
            }
            let line = plain(&std::mem::take(&mut self.line));
            if line.is_empty() {
                continue;
            }
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            if is_step(&line) {
                self.end_step("done", listener);
                listener.began(&line);
                (self.step, self.began, self.cached) = (Some(line.clone()), Some(Instant::now()), false);
            } else if let (Some(step), true) = (&self.step, self.began.is_some()) {
                self.cached |= line == " ---> Using cache";
                listener.output(step, &line);
            } else {
                listener.line(&line);
            }
            self.tail.push_back(line);
        }
    }

    /// The classic builder says of a step when it begins, and nothing when it ends.
    fn end_step(&mut self, how: &str, listener: &mut impl Listener) {
        let (Some(began), Some(step)) = (self.began.take(), &self.step) else { return };
        match (how, self.cached) {
            ("done", true) => listener.ended(step, "cached"),
            ("done", false) => listener.ended(step, &format!("{:.1} s", began.elapsed().as_secs_f64())),
            _ => listener.ended(step, how),
        }
    }

    fn failure(self, error: Error) -> DockerError {
        match error {
            Error::DockerStreamError { error: message } | Error::DockerResponseServerError { message, .. } => {
                DockerError::Build { step: self.step, message: message.trim().to_owned(), tail: self.tail.into() }
            }
            error => DockerError::request("build the image", error),
        }
    }
}

/// `Step 3/12 : RUN …`
fn is_step(line: &str) -> bool {
    line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")).is_some_and(|(count, _)| {
        count.split_once('/').is_some_and(|(n, m)| [n, m].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit())))
    })
}

/// `line` without ECMA-48's control sequences: the engine colours what a step wrote to stderr.
pub(super) fn plain(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            kept.push(c);
        } else if rest.next() == Some('[') {
            rest.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
    }
    kept.truncate(kept.trim_end().len());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_split_into_lines_and_the_step_is_remembered() {
        let mut output = Output::default();
        let mut lines = Vec::new();
        for text in ["Step 1/2 : FROM x\n", " ---> 1", "23\n", "\u{1b}[91mred\u{1b}[0m\n10%\r20%\r\n", "Step by : step\n"] {
            output.take(text, &mut |line: &str| lines.push(line.to_owned()));
        }
        assert_eq!(lines, [" ---> 123", "red", "10%", "20%", "Step by : step"]);
        output.end_step("done", &mut |line: &str| lines.push(line.to_owned()));
        assert_eq!(lines.last().map(String::as_str), Some("Step 1/2 : FROM x: 0.0 s"));
        assert_eq!(output.step.as_deref(), Some("Step 1/2 : FROM x"));
        for n in 0..30 {
            output.take(&format!("{n}\n"), &mut |_: &str| ());
        }
        assert_eq!((output.tail.len(), output.tail[0].as_str()), (TAIL, "10"));
    }
}
