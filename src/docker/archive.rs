//! The build context as a tar archive, for the classic builder.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc;

use super::context::{Context, Kind};
use super::error::DockerError;

/// The size of one piece of the context on its way to the engine, in bytes; eight of them may wait.
const PIECE: usize = 64 * 1024;

/// Why the context could not be read, kept beside the stream: the engine would only say "unexpected EOF".
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<DockerError>>>);

impl Unread {
    pub(super) fn put(&self, error: DockerError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn take(&self) -> Option<DockerError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The context as an archive in pieces, packed by a thread that stops as soon as nobody reads on.
pub(super) fn pieces(context: Context, unread: Unread) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
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
            Kind::File { size, executable, modified, .. } => {
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
pub(super) struct Exactly {
    pub(super) file: File,
    pub(super) left: u64,
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
