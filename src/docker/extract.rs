//! Takes a directory out of an image, without running anything of it.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, DownloadFromContainerOptions, RemoveContainerOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use tar::EntryType;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::engine::Engine;
use super::error::DockerError;
use super::pull::pull;
use super::push::Credentials;

/// What was taken out of an image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// How many files were written.
    pub files: u64,
    /// The symbolic links that would lead out of the directory, by their paths in it; they were left out.
    pub left_out: Vec<String>,
}

/// Writes what the directory `path` of an image holds into the directory `into`, which ought to be empty. An image that the engine does
/// not have is pulled, with `credentials`; name it by its digest, `REPOSITORY@sha256:…`, to be sure of what you get.
///
/// Regular files and directories are written, with this process's owner and mode; hard links become files of their own. Symbolic links
/// are made when all else is written, and only those that lead to another place in the directory, by their text: what they come to in
/// the end is for the reader to see. Pipes and devices are left out; `path` itself may be a link to a directory. No file is
/// overwritten, and nothing is written outside of `into`. The files are streamed; what was written before an error stays.
///
/// The image is looked at through a container that is never started. It is removed in any case, and after the future was dropped, if
/// the runtime lives on for long enough.
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerArchive>
///
/// # Errors
/// [`DockerError::NoDirectory`] when the image has no such directory; [`DockerError::Pull`]; [`DockerError::Write`];
/// [`DockerError::EntryOutside`]; or the engine fails.
pub async fn extract(
    engine: &Engine,
    image: &str,
    path: &str,
    into: &Path,
    credentials: Option<&Credentials>,
) -> Result<Extracted, DockerError> {
    let container = match Container::create(engine, image).await {
        Err(error) if error.is_image_absent() => {
            pull(engine, image, None, credentials).await?;
            Container::create(engine, image).await?
        }
        created => created?,
    };
    let written = download(engine, &container.id, image, path, into).await;
    let removed = container.remove().await;
    written.and_then(|written| removed.map(|()| written))
}

/// A container that is not running. Dropped, it is removed.
pub(super) struct Container {
    docker: Docker,
    image: String,
    pub(super) id: String,
    there: bool,
}

impl Container {
    pub(super) async fn create(engine: &Engine, image: &str) -> Result<Self, DockerError> {
        let (docker, image) = (engine.docker.clone(), image.to_owned());
        let what = format!("create a container of `{image}`");
        let failed = what.clone();
        let creating = async move {
            let config = ContainerCreateBody {
                image: Some(image.clone()),
                // An image without a command is refused, and this one is never run.
                cmd: Some(vec!["none".to_owned()]),
                ..ContainerCreateBody::default()
            };
            let created = docker.create_container(None::<CreateContainerOptions>, config).await;
            let id = created.map_err(|error| DockerError::request(failed, error))?.id;
            Ok(Self { docker, image, id, there: true })
        };
        // A task of its own hears the answer even if nobody waits for it any more; what it made is then dropped, and so removed.
        let created = tokio::spawn(creating).await;
        created.unwrap_or_else(|ended| Err(DockerError::Request { operation: what, status: None, source: ended.into() }))
    }

    pub(super) async fn remove(mut self) -> Result<(), DockerError> {
        let removed = remove(&self.docker, &self.id).await;
        self.there = false;
        removed.map_err(|error| DockerError::request(format!("remove the container `{}` of `{}`", self.id, self.image), error))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.there, tokio::runtime::Handle::try_current()) {
            let (docker, id) = (self.docker.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move { remove(&docker, &id).await });
        }
    }
}

async fn remove(docker: &Docker, id: &str) -> Result<(), Error> {
    // With the volumes that the image declares.
    let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    docker.remove_container(id, Some(options)).await
}

async fn download(engine: &Engine, container: &str, image: &str, path: &str, into: &Path) -> Result<Extracted, DockerError> {
    let failed = |error: Error| match error {
        // A file, rather than a directory, is a failure of the engine's in its own eyes.
        Error::DockerResponseServerError { status_code, message } if status_code == 404 || message.contains("not a directory") => {
            DockerError::NoDirectory { image: image.to_owned(), path: path.to_owned() }
        }
        error => DockerError::request(format!("read `{path}` of `{image}`"), error),
    };
    // The dot makes the engine follow a link, and begin every name with `./` instead of the directory's own.
    let options = DownloadFromContainerOptions { path: format!("/{}/.", path.trim_matches('/')) };
    let mut archive = engine.docker.download_from_container(container, Some(options)).boxed();
    let (to, mut received) = mpsc::channel::<io::Result<Bytes>>(8);
    let read = SyncIoBridge::new(StreamReader::new(stream::poll_fn(move |cx| received.poll_recv(cx))));
    let (root, from) = (into.to_owned(), PathBuf::from(format!("/{}", path.trim_matches('/'))));
    let unpacking = tokio::task::spawn_blocking(move || unpack(read, &from, &root));
    while let Some(piece) = archive.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                // An archive that just ended early could be taken for the whole.
                to.send(Err(io::Error::other("the engine's answer broke off"))).await.ok();
                return Err(failed(error));
            }
        };
        // Whoever reads no more has an error to tell, or has come to the archive's end.
        if to.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(to);
    unpacking.await.unwrap_or_else(|ended| Err(DockerError::Write { path: into.to_owned(), source: io::Error::other(ended) }))
}

/// Unpacks an archive whose names all begin with one directory, which is left out; in the image it is `from`.
fn unpack(archive: impl io::Read, from: &Path, into: &Path) -> Result<Extracted, DockerError> {
    let broken = |source| DockerError::Write { path: into.to_owned(), source };
    let mut extracted = Extracted::default();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::Symlink {
            let target = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
            links.push((inside(&entry.path().map_err(broken)?)?, target));
            continue;
        }
        if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Directory | EntryType::Link) {
            continue;
        }
        let to = into.join(inside(&entry.path().map_err(broken)?)?);
        let failed = |source| DockerError::Write { path: to.clone(), source };
        if kind.is_dir() {
            fs::create_dir_all(&to).map_err(failed)?;
            continue;
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        // `create_new` follows no link, either.
        let mut file = File::create_new(&to).map_err(failed)?;
        if kind == EntryType::Link {
            let first = entry.link_name().map_err(broken)?.unwrap_or_default();
            let first = into.join(inside(&first)?);
            let mut first = File::open(&first).map_err(|source| DockerError::Write { path: first, source })?;
            io::copy(&mut first, &mut file).map_err(failed)?;
        } else {
            io::copy(&mut entry, &mut file).map_err(failed)?;
        }
        extracted.files += 1;
    }
    // Last, so that nothing is written through them.
    for (path, target) in links {
        let Some(target) = within(from, &path, &target) else {
            extracted.left_out.push(path.to_string_lossy().into_owned());
            continue;
        };
        let to = into.join(path);
        let failed = |source| DockerError::Write { path: to.clone(), source };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        std::os::unix::fs::symlink(target, &to).map_err(failed)?;
    }
    Ok(extracted)
}

/// Where the link at `path` below the image's directory `from` leads, as a link among the unpacked files; `None` if it leads out.
fn within(from: &Path, path: &Path, target: &Path) -> Option<PathBuf> {
    let depth = path.components().count().saturating_sub(1);
    let relative = match target.strip_prefix(from) {
        Ok(below) => std::iter::repeat_n("..", depth).collect::<PathBuf>().join(below),
        Err(_) => target.to_owned(),
    };
    let mut depth = depth;
    for component in relative.components() {
        depth = match component {
            Component::Normal(_) => depth + 1,
            Component::CurDir => depth,
            Component::ParentDir => depth.checked_sub(1)?,
            Component::RootDir | Component::Prefix(_) => return None,
        };
    }
    Some(relative)
}

/// The path of an entry below the archive's directory.
fn inside(path: &Path) -> Result<PathBuf, DockerError> {
    let mut components = path.components();
    let outside = || DockerError::EntryOutside { path: path.to_owned() };
    if !matches!(components.next(), Some(Component::CurDir | Component::Normal(_))) {
        return Err(outside());
    }
    let rest = components.as_path();
    if components.all(|component| matches!(component, Component::Normal(_))) { Ok(rest.to_owned()) } else { Err(outside()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_inside_or_is_refused() {
        for (path, rest) in [("./", ""), ("./a.txt", "a.txt"), ("static/sub/b.js", "sub/b.js"), ("./a/./b", "a/b"), ("..a/b", "b")] {
            assert_eq!(inside(Path::new(path)).unwrap(), Path::new(rest), "{path}");
        }
        for path in ["../a", "./../a", "/etc/passwd", "a/b/../../../c", "", "./a/.."] {
            assert!(matches!(inside(Path::new(path)), Err(DockerError::EntryOutside { .. })), "{path}");
        }
    }

    /// An archive as the engine would never send it: the names are written past the checks of the `tar` crate.
    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            let linked = matches!(kind, EntryType::Link | EntryType::Symlink);
            if linked {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            let content = if linked { "" } else { content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn only_files_and_directories_are_unpacked_and_a_second_name_is_a_second_file() {
        let root = tempfile::tempdir().unwrap();
        let archive = archive(&[
            ("./", EntryType::Directory, ""),
            ("./a.txt", EntryType::Regular, "a"),
            ("./deep/er/b.txt", EntryType::Regular, "b"),
            ("./empty/", EntryType::Directory, ""),
            ("./hard.txt", EntryType::Link, "./a.txt"),
            ("./soft.txt", EntryType::Symlink, "/etc/passwd"),
            ("./deep/out", EntryType::Symlink, "../../secret"),
            ("./deep/in", EntryType::Symlink, "../a.txt"),
            ("./deep/own", EntryType::Symlink, "/app/static/deep/er"),
            ("./null", EntryType::Char, ""),
            ("./pipe", EntryType::Fifo, ""),
        ]);
        let extracted = unpack(&archive[..], Path::new("/app/static"), root.path()).unwrap();
        assert_eq!(extracted, Extracted { files: 3, left_out: vec!["soft.txt".to_owned(), "deep/out".to_owned()] });
        let read = |name| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!((read("a.txt"), read("deep/er/b.txt"), read("hard.txt")), ("a".into(), "b".into(), "a".into()));
        assert_eq!((read("deep/in"), read("deep/own/b.txt")), ("a".into(), "b".into()), "links that stay inside are made");
        assert!(root.path().join("empty").is_dir());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4);
        let again = unpack(&archive[..], Path::new("/"), root.path()).unwrap_err();
        assert!(matches!(&again, DockerError::Write { path, .. } if path.ends_with("a.txt")), "{again:?}");
    }

    #[test]
    fn an_archive_that_reaches_outside_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        for (path, kind, content) in [
            ("./../x", EntryType::Regular, "x"),
            ("/x", EntryType::Regular, "x"),
            ("./a/../../x", EntryType::Directory, ""),
            ("./x", EntryType::Link, "./../secret"),
        ] {
            let root = tempfile::tempdir_in(outer.path()).unwrap();
            let error = unpack(&archive(&[(path, kind, content)])[..], Path::new("/"), root.path()).unwrap_err();
            assert!(matches!(error, DockerError::EntryOutside { .. }), "{path}: {error:?}");
            assert!(!outer.path().join("x").exists());
        }
    }

    #[test]
    fn an_archive_that_breaks_off_is_no_success() {
        let root = tempfile::tempdir().unwrap();
        let whole = archive(&[("./a.txt", EntryType::Regular, "much")]);
        assert!(unpack(&whole[..514], Path::new("/"), root.path()).is_err());
    }
}
