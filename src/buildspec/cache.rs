//! The cache: archives of paths, kept from one build to the next.
//!
//! With a key, what is kept under it is never written again, and a fallback key finds the newest entry whose key begins with it. Without
//! one, each build that succeeds replaces what the one before it kept. An entry is a tar archive: `s/…` are paths from the source,
//! `a/…` those from the root.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use walkdir::WalkDir;

use super::files;
use super::log::Log;
use super::order::{CacheStore, Order};
use super::shell::Shell;
use super::spec::{Cache, CacheAction};
use crate::aws::{self, Aws};
use crate::model::{Headers, Sha256};

/// A cache whose key and paths have been worked out.
pub(super) struct Opened {
    store: Store,
    key: String,
    fallbacks: Vec<String>,
    paths: Vec<String>,
    action: CacheAction,
    /// The entry that was found under the very key.
    hit: bool,
}

enum Store {
    Local(PathBuf),
    S3 { aws: Aws, bucket: String, prefix: String },
}

/// The entry's name where there is no key.
const UNKEYED: &str = "project";

/// Works out key and paths by the shell, and restores what is there. A cache that cannot be had is a warning, not a failure.
pub(super) async fn open(order: &Order, source: &Path, cache: &Cache, shell: &mut Shell, log: &Log<'_>) -> Option<Opened> {
    let place = order.cache.as_ref()?;
    let mut texts = vec![cache.key.clone().unwrap_or_default()];
    texts.extend(cache.fallback_keys.iter().cloned());
    texts.extend(cache.paths.iter().map(|path| path.strip_prefix("~/").map_or_else(|| path.clone(), |rest| format!("$HOME/{rest}"))));
    let expanded = shell.expand(&texts, |line| log.output(line)).await;
    let Ok(expanded) = expanded else {
        log.warn("the shell could not expand the cache's key or paths: there is no cache in this build");
        return None;
    };
    let (keys, paths) = expanded.split_at(1 + cache.fallback_keys.len());
    let project = encoded(&order.project);
    let store = match place {
        CacheStore::Local(folder) => Store::Local(folder.join(project)),
        CacheStore::S3 { bucket, prefix } => match aws::connect(&order.access).await {
            Ok(aws) => {
                let prefix = [prefix.as_str(), &project].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
                Store::S3 { aws, bucket: bucket.clone(), prefix }
            }
            Err(error) => {
                log.warn(format!("there is no cache in this build: {error}"));
                return None;
            }
        },
    };
    let key = keys[0].trim().to_owned();
    let mut opened = Opened {
        store,
        fallbacks: keys[1..].iter().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty() && cache.key.is_some()).collect(),
        key: if cache.key.is_some() { format!("key-{key}") } else { UNKEYED.to_owned() },
        paths: paths.to_vec(),
        action: cache.action,
        hit: false,
    };
    if cache.action != CacheAction::Save
        && let Err(error) = opened.restore(source, log).await
    {
        log.warn(format!("the cache could not be restored: {error}"));
    }
    Some(opened)
}

impl Opened {
    async fn restore(&mut self, source: &Path, log: &Log<'_>) -> Result<(), String> {
        let keys = match &self.store {
            Store::Local(folder) => local_keys(folder),
            Store::S3 { aws, bucket, prefix } => {
                let objects = aws.list_objects(bucket, &format!("{prefix}/")).await.map_err(|error| error.to_string())?;
                let name = |key: &str| Some(decoded(key.strip_prefix(prefix.as_str())?.strip_prefix('/')?.strip_suffix(".tar")?));
                objects.iter().filter_map(|object| name(&object.key)).collect()
            }
        };
        self.hit = keys.contains(&self.key);
        let fallback = || {
            let begins = |fallback: &String| keys.iter().rev().find(|key| key.starts_with(&format!("key-{fallback}"))).cloned();
            self.fallbacks.iter().find_map(begins)
        };
        let Some(key) = Some(self.key.clone()).filter(|_| self.hit).or_else(fallback) else {
            log.agent("Unable to download cache: there is none yet");
            return Ok(());
        };
        let archive = match &self.store {
            Store::Local(folder) => fs::read(folder.join(local_name(&key))).map_err(|error| error.to_string())?,
            Store::S3 { aws, bucket, prefix } => {
                let object = aws.get_object(bucket, &format!("{prefix}/{}.tar", encoded(&key))).await;
                let object = object.map_err(|error| error.to_string())?;
                object.ok_or("it has just been deleted")?.body.to_vec()
            }
        };
        let to = source.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || unpack(&archive, &to)).await;
        let files = unpacked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        log.agent(format!("Restored {files} file(s) of the cache from {}", key.strip_prefix("key-").unwrap_or("the last build")));
        Ok(())
    }

    /// Keeps the paths, if that is asked for and the key is not taken.
    pub(super) async fn save(&self, source: &Path, log: &Log<'_>) {
        if self.action == CacheAction::Restore || self.hit && self.key != UNKEYED {
            return;
        }
        match self.write(source).await {
            Ok(0) => log.agent("Nothing to cache: no path matches"),
            Ok(files) => log.agent(format!("Cached {files} file(s)")),
            Err(error) => log.warn(format!("the cache could not be saved: {error}")),
        }
    }

    async fn write(&self, source: &Path) -> Result<u64, String> {
        let (root, paths) = (source.to_owned(), self.paths.clone());
        let packed = tokio::task::spawn_blocking(move || pack(&root, &paths)).await;
        let (archive, files) = packed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if files == 0 {
            return Ok(0);
        }
        match &self.store {
            Store::Local(folder) => write_local(folder, &self.key, &archive).map_err(|error| error.to_string())?,
            Store::S3 { aws, bucket, prefix } => {
                let mut file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
                file.write_all(&archive).map_err(|error| error.to_string())?;
                let headers = Headers::of("application/x-tar", "private, no-store");
                let name = format!("{prefix}/{}.tar", encoded(&self.key));
                let (size, sha256) = (archive.len() as u64, Sha256::of(&archive));
                aws.put_file(bucket, &name, file.path(), size, sha256, &headers, |_| {}).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(files)
    }
}

/// Written whole and then renamed: builds that run at the same time find the one or the other.
fn write_local(folder: &Path, key: &str, archive: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let put = |name: &str, content: &[u8]| {
        let mut part = tempfile::NamedTempFile::new_in(folder)?;
        part.write_all(content)?;
        part.persist(folder.join(name)).map(drop).map_err(|error| error.error)
    };
    let name = local_name(key);
    put(&name, archive)?;
    put(&format!("{}.key", name.trim_end_matches(".tar")), key.as_bytes())
}

/// A key may be longer than a file's name.
fn local_name(key: &str) -> String {
    format!("{}.tar", Sha256::of(key.as_bytes()))
}

/// The keys in a folder, the newest last.
fn local_keys(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let key = |entry: fs::DirEntry| {
        let path = entry.path();
        let is_key = path.extension().is_some_and(|extension| extension == "key") && path.with_extension("tar").is_file();
        let time = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        is_key.then(|| fs::read_to_string(&path).ok()).flatten().map(|key| (time, key))
    };
    let mut keys: Vec<(SystemTime, String)> = entries.filter_map(Result::ok).filter_map(key).collect();
    keys.sort();
    keys.into_iter().map(|(_, key)| key).collect()
}

fn pack(source: &Path, patterns: &[String]) -> io::Result<(Vec<u8>, u64)> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    let mut files = 0;
    let mut seen = std::collections::BTreeSet::new();
    for pattern in patterns {
        let pattern = pattern.trim().trim_end_matches('/');
        let whole = source.join(pattern);
        let paths: Vec<PathBuf> = if whole.is_dir() {
            let entries = WalkDir::new(&whole).sort_by_file_name().into_iter().filter_map(Result::ok);
            entries.filter(|entry| !entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect()
        } else {
            files::matches(source, pattern.trim_start_matches("./"), false).into_iter().map(|(_, path)| path).collect()
        };
        for path in paths {
            let name = match path.strip_prefix(source) {
                Ok(inside) => Path::new("s").join(inside),
                Err(_) => Path::new("a").join(path.strip_prefix("/").unwrap_or(&path)),
            };
            if seen.insert(name.clone()) {
                archive.append_path_with_name(&path, name)?;
                files += 1;
            }
        }
    }
    Ok((archive.into_inner()?, files))
}

fn unpack(archive: &[u8], source: &Path) -> io::Result<u64> {
    let mut files = 0;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let (root, rest) = match (path.strip_prefix("s"), path.strip_prefix("a")) {
            (Ok(rest), _) => (source, rest.to_owned()),
            (_, Ok(rest)) => (Path::new("/"), rest.to_owned()),
            _ => continue,
        };
        if rest.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            continue;
        }
        let to = root.join(rest);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        entry.set_preserve_mtime(true);
        entry.unpack(&to)?;
        files += 1;
    }
    Ok(files)
}

/// As a part of an object's key: everything but letters, digits, `-`, `_` and `.` is escaped.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| std::str::from_utf8(tail.get(..2)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        if let Some(byte) = escaped.flatten() {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_way_into_a_name() {
        for key in ["plain", "a b/c%20:ü", "%", "%zz"] {
            assert_eq!(decoded(&encoded(key)), key);
        }
        assert_eq!(encoded("a/b"), "a%2Fb");
    }

    #[test]
    fn what_was_packed_comes_back_with_its_links_and_modes() {
        use std::os::unix::fs::PermissionsExt as _;
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("m/bin")).unwrap();
        fs::write(from.path().join("m/run"), "x").unwrap();
        fs::set_permissions(from.path().join("m/run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("../run", from.path().join("m/bin/run")).unwrap();
        let (archive, files) = pack(from.path(), &["m/**/*".into(), "m".into(), "gone/*".into()]).unwrap();
        assert_eq!((files, unpack(&archive, to.path()).unwrap()), (2, 2));
        assert_eq!(fs::read_link(to.path().join("m/bin/run")).unwrap(), Path::new("../run"));
        assert_eq!(fs::metadata(to.path().join("m/run")).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn the_newest_key_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        for key in ["key-b", "key-a"] {
            write_local(folder.path(), key, b"").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(local_keys(folder.path()), ["key-b", "key-a"]);
    }
}
