//! Reads a directory as a build context: lists it and hashes its files at the same time, with every processor.
//!
//! A file costs four calls of the system, as many as to read it: it is opened from its directory, which is open already, and what is
//! told of it, its length too, is told of what was opened. Deliberately absent: an order, which the caller makes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, openat};

use super::context::{Content, Entry, Kind};
use super::error::DockerError;
use super::ignore::{Matched, Patterns};

/// What windlass leaves in a checkout, and beside what it has built: an image would be another one after each release.
const OWN: [&str; 2] = [".windlass", ".windlass-build.json"];
/// So many files of a directory are read by one thread in a row.
const ROW: usize = 64;
const BUFFER: usize = 128 * 1024;

/// Everything below `root` that `patterns` do not leave out, in no order.
///
/// # Errors
/// What cannot be read: of several, the first by its path. A name that is not UTF-8.
pub(super) fn walk(root: &Path, patterns: &Patterns) -> Result<Vec<Entry>, DockerError> {
    let known = READ.read().unwrap_or_else(PoisonError::into_inner);
    let walk = Walk { root, patterns, known: &known, jobs: Mutex::default(), ready: Condvar::new() };
    walk.push(Job::List { path: String::new(), matched: None });
    let threads = thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let all = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| walk.work())).collect();
        let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(walk.work()).chain(joined).collect::<Vec<_>>()
    });
    drop(known);
    let (mut entries, mut failed) = (Vec::new(), Vec::new());
    let mut read = READ.write().unwrap_or_else(PoisonError::into_inner);
    for done in all {
        entries.extend(done.entries);
        read.extend(done.fresh);
        failed.extend(done.failed);
    }
    failed.sort_by(|(a, _), (b, _)| a.cmp(b));
    failed.into_iter().next().map_or(Ok(entries), |(_, error)| Err(error))
}

/// A file on this machine: its device and its number there.
type Id = (u64, u64);

/// What changes with whatever is written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

type Contents = HashMap<Id, (Stamp, Content)>;

/// What this process has read: a plan asks for a context's digest, and the build after it for that of each of its files.
static READ: LazyLock<RwLock<Contents>> = LazyLock::new(RwLock::default);

/// A file's times are as fine as the kernel's tick: what was changed just now may change once more without another time.
pub(super) const SETTLED: Duration = Duration::from_millis(100);

fn stamp(file: &Metadata) -> (Id, Stamp) {
    let stamp = Stamp { size: file.size(), modified: (file.mtime(), file.mtime_nsec()), changed: (file.ctime(), file.ctime_nsec()) };
    ((file.dev(), file.ino()), stamp)
}

fn is_settled(stamp: &Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = u64::try_from(stamp.changed.0).ok().zip(u32::try_from(stamp.changed.1).ok());
    changed.is_some_and(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds) + SETTLED < now)
}

/// A directory on the way: open, with its path from the root (`a/b/`), and what of the patterns it matches.
struct Folder {
    open: File,
    path: String,
    matched: Option<Matched>,
}

enum Job {
    /// A directory, by its path from the root (`a/b`), to be listed.
    List { path: String, matched: Option<Matched> },
    /// Regular files of a directory, by their names, to be read.
    Read(Arc<Folder>, Vec<OsString>),
}

struct Walk<'a> {
    root: &'a Path,
    patterns: &'a Patterns,
    known: &'a Contents,
    jobs: Mutex<Jobs>,
    ready: Condvar,
}

/// What waits, the newest last, and how many are not done. The newest is taken first, so that few directories are open at a time.
#[derive(Default)]
struct Jobs {
    waiting: Vec<Job>,
    undone: usize,
}

/// What one thread has found.
#[derive(Default)]
struct Done {
    entries: Vec<Entry>,
    fresh: Vec<(Id, (Stamp, Content))>,
    failed: Vec<(PathBuf, DockerError)>,
}

type Failed = (PathBuf, DockerError);

fn unread(path: PathBuf) -> impl FnOnce(io::Error) -> Failed {
    |source| (path.clone(), DockerError::Read { path, source })
}

fn text(name: OsString, folder: &str) -> Result<String, Failed> {
    name.into_string().map_err(|name| {
        let path = Path::new(folder).join(name);
        (path.clone(), DockerError::PathNotText { path })
    })
}

impl Walk<'_> {
    fn jobs(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        let mut jobs = self.jobs();
        jobs.waiting.push(job);
        jobs.undone += 1;
        drop(jobs);
        self.ready.notify_one();
    }

    /// The next job; none once every job is done, as only a job can make another.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs();
        loop {
            if let Some(job) = jobs.waiting.pop() {
                return Some(job);
            }
            if jobs.undone == 0 {
                return None;
            }
            jobs = self.ready.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end_one(&self) {
        let mut jobs = self.jobs();
        jobs.undone -= 1;
        if jobs.undone == 0 {
            drop(jobs);
            self.ready.notify_all();
        }
    }

    fn work(&self) -> Done {
        let (mut done, mut buffer) = (Done::default(), vec![0; BUFFER]);
        while let Some(job) = self.next() {
            let worked = match job {
                Job::List { path, matched } => self.list(path, matched, &mut done),
                Job::Read(folder, names) => names.into_iter().try_for_each(|name| self.read(&folder, name, &mut buffer, &mut done)),
            };
            done.failed.extend(worked.err());
            self.end_one();
        }
        done
    }

    fn list(&self, mut path: String, matched: Option<Matched>, done: &mut Done) -> Result<(), Failed> {
        let full = if path.is_empty() { self.root.to_owned() } else { self.root.join(&path) };
        let open = File::open(&full).map_err(unread(full.clone()))?;
        if !path.is_empty() {
            path.push('/');
        }
        let folder = Arc::new(Folder { open, path, matched });
        let mut row = Vec::with_capacity(ROW);
        for found in fs::read_dir(&full).map_err(unread(full.clone()))? {
            let found = found.map_err(unread(full.clone()))?;
            let kind = found.file_type().map_err(unread(found.path()))?;
            let name = found.file_name();
            if OWN.iter().any(|own| name == *own) {
                continue;
            }
            if kind.is_file() {
                row.push(name);
                if row.len() == ROW {
                    self.push(Job::Read(Arc::clone(&folder), std::mem::replace(&mut row, Vec::with_capacity(ROW))));
                }
                continue;
            }
            let path = format!("{}{}", folder.path, text(name, &folder.path)?);
            let (excluded, matched) = self.patterns.excludes(&path, folder.matched.as_ref());
            if kind.is_dir() {
                if !excluded {
                    done.entries.push(Entry { path: path.clone(), kind: Kind::Directory });
                }
                if !excluded || self.patterns.may_keep_below(&path) {
                    self.push(Job::List { path, matched: Some(matched) });
                }
            } else if kind.is_symlink() && !excluded {
                let target = fs::read_link(found.path()).map_err(unread(found.path()))?;
                let target = text(target.into_os_string(), "")?;
                done.entries.push(Entry { path, kind: Kind::Symlink { target } });
            }
        }
        if !row.is_empty() {
            self.push(Job::Read(folder, row));
        }
        Ok(())
    }

    /// What there is to say of a regular file. One that this process has read, and that nobody has touched since, is not read again.
    fn read(&self, folder: &Folder, name: OsString, buffer: &mut [u8], done: &mut Done) -> Result<(), Failed> {
        let name = text(name, &folder.path)?;
        let path = [folder.path.as_str(), &name].concat();
        if self.patterns.leaves_out(&path, folder.matched.as_ref()) {
            return Ok(());
        }
        let failed = |source: io::Error| unread(self.root.join(&path))(source);
        // Whatever has come into the file's place since it was listed: a link is not followed, and a pipe not waited for.
        let how = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(&folder.open, name.as_str(), how, Mode::empty()).map_err(|error| failed(error.into()))?;
        let mut file = File::from(file);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it was replaced while it was read")));
        }
        let (id, stamp) = stamp(&metadata);
        let content = match self.known.get(&id) {
            Some((then, content)) if *then == stamp => *content,
            _ => {
                let content = content(&mut file, stamp.size, buffer).map_err(failed)?;
                done.fresh.extend(is_settled(&stamp).then_some((id, (stamp, content))));
                content
            }
        };
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let modified = u64::try_from(stamp.modified.0).unwrap_or_default();
        done.entries.push(Entry { path, kind: Kind::File { size: stamp.size, executable, modified, content } });
        Ok(())
    }
}

/// The BLAKE3 of a file of `size` bytes. A read that ends before the buffer does, and at the size, was the last one.
fn content(file: &mut File, size: u64, buffer: &mut [u8]) -> io::Result<Content> {
    let mut first = 0;
    loop {
        let read = match file.read(&mut buffer[first..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        first += read;
        if first == buffer.len() {
            break;
        }
        if read == 0 || first as u64 == size {
            return Ok(Content(*blake3::hash(&buffer[..first]).as_bytes()));
        }
    }
    let mut hash = blake3::Hasher::new();
    hash.update(buffer);
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(Content(*hash.finalize().as_bytes())),
            Ok(read) => drop(hash.update(&buffer[..read])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{scan, tests::plant};
    use super::*;

    fn content_of(entry: &Entry) -> Option<Content> {
        if let Kind::File { content, .. } = entry.kind { Some(content) } else { None }
    }

    fn of(bytes: &[u8]) -> Content {
        Content(*blake3::hash(bytes).as_bytes())
    }

    #[test]
    fn a_file_that_was_read_before_is_read_again_once_it_has_changed() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        let path = root.path().join("a.py");
        fs::write(&path, "one").unwrap();
        let hash = || {
            let context = scan(root.path(), "Dockerfile").unwrap();
            context.entries.iter().find(|entry| entry.path == "a.py").and_then(content_of).unwrap()
        };
        // Of the same length, and with the time that it had, as an archive would bring it.
        let long_ago = UNIX_EPOCH + Duration::from_secs(1);
        let rewrite = |content: &str| {
            fs::write(&path, content).unwrap();
            File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        };
        for content in ["two", "six", "ten"] {
            rewrite(content);
            assert_eq!(hash(), of(content.as_bytes()));
            thread::sleep(SETTLED * 2);
            assert_eq!(hash(), of(content.as_bytes()));
        }
    }

    #[test]
    fn files_of_every_length_are_read_to_their_end() {
        let root = tempfile::tempdir().unwrap();
        for length in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER, 3 * BUFFER + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect();
            fs::write(root.path().join("one"), &bytes).unwrap();
            let found = walk(root.path(), &Patterns::default()).unwrap();
            assert_eq!(content_of(&found[0]), Some(of(&bytes)), "{length}");
        }
    }

    #[test]
    fn of_what_cannot_be_read_the_first_is_named() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..500 {
            fs::create_dir_all(root.path().join(format!("{}", number % 7))).unwrap();
            fs::write(root.path().join(format!("{}/{number}", number % 7)), "x").unwrap();
        }
        // A name that no UTF-8 is.
        for folder in ["1", "3"] {
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
            fs::write(root.path().join(folder).join(name), "x").unwrap();
        }
        let error = walk(root.path(), &Patterns::default()).unwrap_err();
        assert!(matches!(&error, DockerError::PathNotText { path } if path.starts_with("1")), "{error:?}");
    }
}
