//! The digest of an image before it is built: what it would be built from.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{BaseImage, Sha256};

use super::context::{Context, Kind, within};
use super::error::DockerError;

/// Changes when the encoding or the way of building does, so that no image of another way is taken for this one.
const SCHEME: &[u8] = b"windlass build context 2";

/// How an image is built from its context.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The Dockerfile's path, from the context's root.
    pub dockerfile: String,
    /// Build arguments. They end up in the image's history: no place for secrets.
    pub args: BTreeMap<String, String>,
    /// The stage to stop at; the last one if `None`.
    pub target: Option<String>,
    /// The platform: "linux/amd64".
    pub platform: String,
}

/// The digest of `context`, `recipe` and `bases`: the same for the same files, wherever and whenever they are checked out.
///
/// It covers the Dockerfile, every entry with its path, kind, executable bit, link target and content, the build arguments, the target
/// and the platform, every base image with what it is today, and the `period`: a number that changes when an image has to be built again
/// although nothing else has. Each field has its length before it. Deliberately absent: times and owners; and what `apt-get upgrade`
/// would fetch, which only a build can tell.
///
/// # Errors
/// When the Dockerfile or a file of the context cannot be read.
pub fn digest(context: &Context, recipe: &Recipe, bases: &[BaseImage], period: Option<u64>) -> Result<Sha256, DockerError> {
    let dockerfile = within(&recipe.dockerfile)?;
    let path = context.root.join(&dockerfile);
    let recipe_text = fs::read(&path).map_err(|source| DockerError::Read { path, source })?;
    let hashes = hash_files(context)?;

    let mut encoded = Vec::new();
    let mut field = |bytes: &[u8]| {
        encoded.extend((bytes.len() as u64).to_le_bytes());
        encoded.extend(bytes);
    };
    field(SCHEME);
    field(dockerfile.as_bytes());
    field(&recipe_text);
    field(&(context.entries.len() as u64).to_le_bytes());
    for (entry, hash) in context.entries.iter().zip(&hashes) {
        field(entry.path.as_bytes());
        match &entry.kind {
            Kind::File { executable, .. } => {
                field(if *executable { b"executable" } else { b"file" });
                field(hash.as_ref().map_or(&[], |hash| hash.bytes().as_slice()));
            }
            Kind::Directory => field(b"directory"),
            Kind::Symlink { target } => {
                field(b"symlink");
                field(target.as_bytes());
            }
        }
    }
    field(&(recipe.args.len() as u64).to_le_bytes());
    for (name, value) in &recipe.args {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    field(recipe.target.as_deref().unwrap_or_default().as_bytes());
    field(recipe.platform.as_bytes());
    field(&(bases.len() as u64).to_le_bytes());
    for base in bases {
        field(base.image.as_bytes());
        field(base.platform.as_deref().unwrap_or_default().as_bytes());
        field(base.digest.as_bytes());
    }
    field(&period.map_or_else(Vec::new, |period| period.to_le_bytes().to_vec()));
    Ok(Sha256::of(&encoded))
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

type Contents = HashMap<Id, (Stamp, Sha256)>;

/// What this process has read: a plan asks for a context's digest, and the build after it for that of each of its files.
static READ: LazyLock<RwLock<Contents>> = LazyLock::new(RwLock::default);

/// A file's times are as fine as the kernel's tick: what was changed just now may change once more without another time.
const SETTLED: Duration = Duration::from_millis(100);

fn stamp(file: &Metadata) -> (Id, Stamp) {
    let stamp = Stamp { size: file.size(), modified: (file.mtime(), file.mtime_nsec()), changed: (file.ctime(), file.ctime_nsec()) };
    ((file.dev(), file.ino()), stamp)
}

fn is_settled(stamp: &Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = u64::try_from(stamp.changed.0).ok().zip(u32::try_from(stamp.changed.1).ok());
    changed.is_some_and(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds) + SETTLED < now)
}

/// What one thread has read: the place in the list, the content, and what is to be remembered of it.
type Hashed = (usize, Sha256, Option<(Id, Stamp)>);

/// The SHA-256 of every file, `None` for what is none. Several threads, because a cold disk answers many reads at once better than one.
/// A file that this process has read, and that nobody has touched since, is not read again.
pub(super) fn hash_files(context: &Context) -> Result<Vec<Option<Sha256>>, DockerError> {
    let entries = &context.entries;
    let threads = thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let next = AtomicUsize::new(0);
    let known = READ.read().unwrap_or_else(PoisonError::into_inner);
    let hash = |path: &Path, buffer: &mut [u8]| -> io::Result<(Sha256, Option<(Id, Stamp)>)> {
        let file = File::open(path)?;
        let (id, stamp) = stamp(&file.metadata()?);
        match known.get(&id) {
            Some((then, hash)) if *then == stamp => Ok((*hash, None)),
            _ => {
                let settled = is_settled(&stamp);
                Ok((Sha256::of_reader_through(buffer, file)?.0, settled.then_some((id, stamp))))
            }
        }
    };
    let work = || -> Result<Vec<Hashed>, DockerError> {
        let (mut done, mut buffer) = (Vec::new(), vec![0; 128 * 1024]);
        while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < entries.len()) {
            if matches!(entries[index].kind, Kind::File { .. }) {
                let path = context.root.join(&entries[index].path);
                let (hash, fresh) = hash(&path, &mut buffer).map_err(|source| DockerError::Read { path, source })?;
                done.push((index, hash, fresh));
            }
        }
        Ok(done)
    };
    let mut hashes = vec![None; entries.len()];
    let all = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<Vec<_>, _>>()
    });
    drop(known);
    let mut read = READ.write().unwrap_or_else(PoisonError::into_inner);
    for (index, hash, fresh) in all?.into_iter().flatten() {
        hashes[index] = Some(hash);
        read.extend(fresh.map(|(id, stamp)| (id, (stamp, hash))));
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::super::context::{scan, tests::plant};
    use super::*;

    fn recipe() -> Recipe {
        Recipe { dockerfile: "Dockerfile".into(), args: BTreeMap::new(), target: None, platform: "linux/amd64".into() }
    }

    fn of(root: &Path, recipe: &Recipe) -> Sha256 {
        digest(&scan(root, &recipe.dockerfile).unwrap(), recipe, &[], None).unwrap()
    }

    #[test]
    fn two_checkouts_of_one_commit_have_one_digest() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        plant(one.path());
        plant(two.path());
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::options().append(true).open(two.path().join("a.py")).unwrap().set_modified(long_ago).unwrap();
        fs::set_permissions(two.path().join("a.py"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(of(one.path(), &recipe()), of(two.path(), &recipe()));
        let dotted = Recipe { dockerfile: "./Dockerfile".into(), ..recipe() };
        assert_eq!(of(one.path(), &recipe()), of(two.path(), &dotted));
    }

    #[test]
    fn every_change_that_a_build_could_see_changes_the_digest() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        plant(root);
        symlink("foobar", root.join("link")).unwrap();
        let mut seen = vec![of(root, &recipe())];
        let changes: [&dyn Fn(); 7] = [
            &|| fs::write(root.join("a.py"), "changed").unwrap(),
            &|| fs::rename(root.join("a.py"), root.join("b.py")).unwrap(),
            &|| fs::set_permissions(root.join("b.py"), fs::Permissions::from_mode(0o755)).unwrap(),
            &|| fs::create_dir(root.join("another")).unwrap(),
            &|| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("x.log", root.join("link")).unwrap();
            },
            &|| fs::write(root.join("Dockerfile"), "FROM scratch\n").unwrap(),
            &|| fs::write(root.join(".dockerignore"), "*.log").unwrap(),
        ];
        for change in changes {
            change();
            seen.push(of(root, &recipe()));
        }
        let args = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for other in [
            Recipe { args: args("A", "bc"), ..recipe() },
            Recipe { args: args("Ab", "c"), ..recipe() },
            Recipe { target: Some("base".into()), ..recipe() },
            Recipe { platform: "linux/arm64".into(), ..recipe() },
            Recipe { dockerfile: "a/Dockerfile".into(), ..recipe() },
        ] {
            seen.push(of(root, &other));
        }
        let base = |image: &str, digest: &str| BaseImage {
            image: image.to_owned(),
            platform: None,
            digest: digest.to_owned(),
            from: crate::model::Authority::Registry,
        };
        let context = scan(root, "Dockerfile").unwrap();
        for (bases, period) in [
            (vec![base("a", "1")], None),
            (vec![base("a", "2")], None),
            (vec![base("a", "2"), base("b", "1")], None),
            (Vec::new(), Some(0)),
            (Vec::new(), Some(1)),
        ] {
            seen.push(digest(&context, &recipe(), &bases, period).unwrap());
        }
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn a_file_that_was_read_before_is_read_again_once_it_has_changed() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        let path = root.path().join("a.py");
        fs::write(&path, "one").unwrap();
        let hash = || {
            let context = scan(root.path(), "Dockerfile").unwrap();
            let at = context.entries.iter().position(|entry| entry.path == "a.py").unwrap();
            hash_files(&context).unwrap()[at].unwrap()
        };
        // Of the same length, and with the time that it had, as an archive would bring it.
        let long_ago = UNIX_EPOCH + Duration::from_secs(1);
        let rewrite = |content: &str| {
            fs::write(&path, content).unwrap();
            File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        };
        for content in ["two", "six", "ten"] {
            rewrite(content);
            assert_eq!(hash(), Sha256::of(content.as_bytes()));
            thread::sleep(SETTLED * 2);
            assert_eq!(hash(), Sha256::of(content.as_bytes()));
        }
    }

    #[test]
    fn a_file_that_vanished_is_named() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        let context = scan(root.path(), "Dockerfile").unwrap();
        fs::remove_file(root.path().join("a/b/c.py")).unwrap();
        assert!(digest(&context, &recipe(), &[], None).unwrap_err().to_string().contains("a/b/c.py"));
    }
}
