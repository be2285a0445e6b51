//! Builds an image from a context, with the engine's classic builder.
//!
//! The classic builder is part of every engine, gives its output line by line and needs no session; `BuildKit` over the same API would
//! silently build a secret's `RUN` without the secret (bollard 0.21), which is worse than to be refused.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::errors::Error;
use bollard::query_parameters::{BuildImageOptions, TagImageOptions};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::context::{Context, Kind, within};
use super::digest::Recipe;
use super::engine::Engine;
use super::error::DockerError;

/// How many of the last lines of output an error keeps.
const TAIL: usize = 20;
/// The size of one piece of the context on its way to the engine, in bytes; eight of them may wait.
const PIECE: usize = 64 * 1024;

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
}

/// The id of an image in the engine, `sha256:…` of its configuration: not the digest that a registry knows it by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageId(String);

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

/// Builds and tags an image. `on_line` gets every line of the build's output, without its colours.
///
/// The context is streamed: neither a file nor more than a few hundred KiB of memory holds it. Dropping the future cancels the build.
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageBuild>
///
/// # Errors
/// [`DockerError::Build`] with the step and the last lines; [`DockerError::Read`] if the context changed under the build.
pub async fn build(engine: &Engine, build: Build<'_>, mut on_line: impl FnMut(&str) + Send) -> Result<ImageId, DockerError> {
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
            Err(error) => return Err(unread.take().unwrap_or_else(|| output.failure(error))),
        };
        if let Some(text) = info.stream {
            output.take(&text, &mut on_line);
        }
        // How a base image is pulled; the figures of its progress are left out.
        if let Some(status) = info.status.filter(|_| info.progress_detail.is_none_or(|detail| detail.current.is_none())) {
            let id = info.id.map(|id| format!("{id}: ")).unwrap_or_default();
            output.take(&format!("{id}{status}\n"), &mut on_line);
        }
        // Every stage of the Dockerfile says its id; the last is the image's.
        id = info.aux.and_then(|aux| aux.id).or(id);
    }
    output.take("\n", &mut on_line);
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
    tail: VecDeque<String>,
}

impl Output {
    fn take(&mut self, text: &str, on_line: &mut impl FnMut(&str)) {
        for c in text.chars() {
            if c != '\n' && c != '\r' {
                self.line.push(c);
                continue;
            }
            let line = plain(&std::mem::take(&mut self.line));
            if line.is_empty() {
                continue;
            }
            if is_step(&line) {
                self.step = Some(line.clone());
            }
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            on_line(&line);
            self.tail.push_back(line);
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
fn plain(line: &str) -> String {
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

/// Why the context could not be read, kept beside the stream: the engine would only say "unexpected EOF".
#[derive(Clone, Default)]
struct Unread(Arc<Mutex<Option<DockerError>>>);

impl Unread {
    fn put(&self, error: DockerError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<DockerError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The context as an archive in pieces, packed by a thread that stops as soon as nobody reads on.
fn pieces(context: Context, unread: Unread) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (to, mut received) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        let mut archive = BufWriter::with_capacity(PIECE, Pieces(to.clone()));
        let done = pack(&context, &mut archive).and_then(|()| archive.flush().map_err(|source| (context.root.clone(), source)));
        if let Err((path, source)) = done
            && source.kind() != io::ErrorKind::BrokenPipe
        {
            // An archive that just ended early would be taken for the whole.
            let told = io::Error::new(source.kind(), "the build context could not be read");
            unread.put(DockerError::Read { path, source });
            drop(to.blocking_send(Err(told)));
        }
    });
    stream::poll_fn(move |cx| received.poll_recv(cx))
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the context as a tar archive, with owner 0 and two modes.
fn pack(context: &Context, to: &mut impl Write) -> Result<(), (PathBuf, io::Error)> {
    let mut archive = tar::Builder::new(to);
    for entry in &context.entries {
        let path = context.root.join(&entry.path);
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let done = match &entry.kind {
            Kind::File { size, executable, modified } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mtime(*modified);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                File::open(&path).and_then(|file| archive.append_data(&mut header, &entry.path, Exactly { file, left: *size }))
            }
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, &entry.path, io::empty())
            }
            Kind::Symlink { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                archive.append_link(&mut header, &entry.path, target)
            }
        };
        done.map_err(|error| (path, error))?;
    }
    archive.finish().map_err(|error| (context.root.clone(), error))
}

/// Reads as many bytes as the file had when it was listed: the archive has said so already.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        match (read as u64, self.left) {
            (0, 0) => Ok(0),
            (0, _) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read")),
            (more, left) if more > left => Err(io::Error::other("it became longer while it was read")),
            (some, left) => {
                self.left = left - some;
                Ok(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{scan, tests::plant};
    use super::*;

    #[test]
    fn output_is_split_into_lines_and_the_step_is_remembered() {
        let mut output = Output::default();
        let mut lines = Vec::new();
        for text in ["Step 1/2 : FROM x\n", " ---> 1", "23\n", "\u{1b}[91mred\u{1b}[0m\n10%\r20%\r\n", "Step by : step\n"] {
            output.take(text, &mut |line: &str| lines.push(line.to_owned()));
        }
        assert_eq!(lines, ["Step 1/2 : FROM x", " ---> 123", "red", "10%", "20%", "Step by : step"]);
        assert_eq!(output.step.as_deref(), Some("Step 1/2 : FROM x"));
        for n in 0..30 {
            output.take(&format!("{n}\n"), &mut |_: &str| ());
        }
        assert_eq!((output.tail.len(), output.tail[0].as_str()), (TAIL, "10"));
    }

    #[test]
    fn two_archives_of_one_context_are_equal_and_long_names_survive() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        std::fs::create_dir(root.path().join("d".repeat(120))).unwrap();
        std::fs::write(root.path().join(&long), "x").unwrap();
        let context = scan(root.path(), "Dockerfile").unwrap();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        pack(&context, &mut one).unwrap();
        pack(&context, &mut two).unwrap();
        assert_eq!(one, two);
        let mut archive = tar::Archive::new(&one[..]);
        let paths: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        let listed: Vec<_> = context.entries.iter().map(|entry| entry.path.clone()).collect();
        assert_eq!(paths, listed);
        assert!(paths.contains(&long));
    }

    #[test]
    fn a_file_that_changed_under_the_build_is_named() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        let context = scan(root.path(), "Dockerfile").unwrap();
        for content in ["a", "much longer than before"] {
            std::fs::write(root.path().join("a.py"), content).unwrap();
            let (path, error) = pack(&context, &mut Vec::new()).unwrap_err();
            assert!(path.ends_with("a.py") && error.to_string().contains("while it was read"), "{error}");
        }
    }
}
