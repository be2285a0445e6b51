//! The packages that an image holds, by what its own package managers have written down. Nothing of the image is run.
//!
//! Read are dpkg's and apk's databases, the metadata of Python's packages, and the `package.json` of Node's in `node_modules`.
//! Deliberately absent: RPM's database, which is binary, and programs that were copied in or linked statically, of which nobody has
//! written anything down. [`Inventory::unread`] names what was seen and not read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::engine::Engine;
use super::error::DockerError;
use super::extract::Container;
use super::pull::pull;
use super::push::Credentials;

/// A database larger than this is none that a package manager has written.
const LARGEST: u64 = 64 << 20;

/// What wrote a package down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// Debian's and Ubuntu's.
    Dpkg,
    /// Alpine's.
    Apk,
    /// Python's.
    Python,
    /// Node's.
    Node,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Who has it written down.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it runs on, where that is said.
    pub architecture: Option<String>,
}

/// All that was found in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The distribution, by its `os-release`: `debian`, `12`.
    pub distribution: Option<(String, String)>,
    /// The packages, each once.
    pub packages: BTreeSet<Package>,
    /// Databases that are there and are not read.
    pub unread: BTreeSet<String>,
}

/// Reads what packages an image holds. One that the engine does not have is pulled, with `credentials`.
///
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerExport>
///
/// # Errors
/// [`DockerError::Pull`]; [`DockerError::Write`] if the engine's archive makes no sense; or the engine fails.
pub async fn packages(engine: &Engine, image: &str, credentials: Option<&Credentials>) -> Result<Inventory, DockerError> {
    let container = match Container::create(engine, image).await {
        Err(error) if error.is_image_absent() => {
            pull(engine, image, None, credentials).await?;
            Container::create(engine, image).await?
        }
        created => created?,
    };
    let read = export(engine, &container.id, image).await;
    let removed = container.remove().await;
    read.and_then(|read| removed.map(|()| read))
}

async fn export(engine: &Engine, container: &str, image: &str) -> Result<Inventory, DockerError> {
    let mut archive = engine.docker.export_container(container).boxed();
    let (to, mut received) = mpsc::channel::<io::Result<Bytes>>(8);
    let from = SyncIoBridge::new(StreamReader::new(stream::poll_fn(move |cx| received.poll_recv(cx))));
    let reading = tokio::task::spawn_blocking(move || read(from));
    while let Some(piece) = archive.next().await {
        let failed = |error| DockerError::request(format!("read the files of `{image}`"), error);
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                // An archive that just ended early could be taken for the whole.
                to.send(Err(io::Error::other("the engine's answer broke off"))).await.ok();
                return Err(failed(error));
            }
        };
        if to.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(to);
    let broken = |source: io::Error| DockerError::Write { path: image.into(), source };
    reading.await.map_err(|error| broken(io::Error::other(error)))?.map_err(broken)
}

fn read(archive: impl Read) -> io::Result<Inventory> {
    let mut found = Inventory::default();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(path) = entry.path()?.to_str().map(|path| path.trim_start_matches("./").to_owned()) else { continue };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if let Some(kind) = kind(&path) {
            let mut bytes = Vec::new();
            entry.by_ref().take(LARGEST).read_to_end(&mut bytes)?;
            found.take(kind, &path, &String::from_utf8_lossy(&bytes));
        }
    }
    Ok(found)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Release,
    Of(Manager),
    Unread,
}

/// What a file is, by its path.
fn kind(path: &str) -> Option<Kind> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parts: Vec<&str> = folder.split('/').collect();
    match path {
        "etc/os-release" | "usr/lib/os-release" => return Some(Kind::Release),
        "var/lib/dpkg/status" => return Some(Kind::Of(Manager::Dpkg)),
        "lib/apk/db/installed" | "usr/lib/apk/db/installed" => return Some(Kind::Of(Manager::Apk)),
        _ => {}
    }
    if ["var/lib/rpm", "usr/lib/sysimage/rpm"].contains(&folder) && name.starts_with("rpmdb") || path == "var/lib/rpm/Packages" {
        return Some(Kind::Unread);
    }
    // Images without a package manager keep one file for each package.
    if folder == "var/lib/dpkg/status.d" && !name.ends_with(".md5sums") {
        return Some(Kind::Of(Manager::Dpkg));
    }
    let last = parts.last().copied().unwrap_or_default();
    if name == "METADATA" && last.ends_with(".dist-info") || name == "PKG-INFO" && last.ends_with(".egg-info") {
        return Some(Kind::Of(Manager::Python));
    }
    let above = |count: usize| parts.len().checked_sub(count).and_then(|at| parts.get(at)).copied().unwrap_or_default();
    let in_modules = above(2) == "node_modules" && !last.starts_with('@') || above(3) == "node_modules" && above(2).starts_with('@');
    (name == "package.json" && in_modules).then_some(Kind::Of(Manager::Node))
}

impl Inventory {
    fn take(&mut self, kind: Kind, path: &str, text: &str) {
        match kind {
            Kind::Unread => drop(self.unread.insert(format!("/{path}"))),
            Kind::Release => {
                let value = |name: &str| {
                    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                    line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
                };
                let found = value("ID").map(|id| (id, value("VERSION_ID").unwrap_or_default()));
                self.distribution = found.or(self.distribution.take());
            }
            Kind::Of(manager @ Manager::Node) => {
                let Ok(page) = serde_json::from_str::<serde_json::Value>(text) else { return };
                let value = |name: &str| page.get(name)?.as_str();
                self.add(manager, value("name"), value("version"), None);
            }
            Kind::Of(manager @ Manager::Python) => {
                // The description that follows may say anything.
                let head = stanzas(text).next().unwrap_or_default();
                self.add(manager, head.get("Name").copied(), head.get("Version").copied(), None);
            }
            Kind::Of(manager @ Manager::Dpkg) => {
                for stanza in stanzas(text) {
                    // What was removed may have left its settings behind.
                    if stanza.get("Status").is_none_or(|status| status.ends_with(" installed")) {
                        self.add(
                            manager,
                            stanza.get("Package").copied(),
                            stanza.get("Version").copied(),
                            stanza.get("Architecture").copied(),
                        );
                    }
                }
            }
            Kind::Of(manager @ Manager::Apk) => {
                for stanza in stanzas(text) {
                    self.add(manager, stanza.get("P").copied(), stanza.get("V").copied(), stanza.get("A").copied());
                }
            }
        }
    }

    fn add(&mut self, manager: Manager, name: Option<&str>, version: Option<&str>, architecture: Option<&str>) {
        let Some((name, version)) = name.zip(version).filter(|(name, _)| !name.is_empty()) else { return };
        let (name, version, architecture) = (name.to_owned(), version.to_owned(), architecture.map(str::to_owned));
        self.packages.insert(Package { manager, name, version, architecture });
    }
}

/// Blocks of `Name: value`, with an empty line between two; the first of a name counts, and continued lines belong to none.
fn stanzas(text: &str) -> impl Iterator<Item = BTreeMap<&str, &str>> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        while lines.next_if(|line| line.trim().is_empty()).is_some() {}
        lines.peek()?;
        let mut stanza = BTreeMap::new();
        while let Some(line) = lines.next_if(|line| !line.trim().is_empty()) {
            if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.starts_with([' ', '\t'])) {
                stanza.entry(name).or_insert(value.trim());
            }
        }
        Some(stanza)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Inventory {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_entry_type(tar::EntryType::Regular);
            archive.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        read(&archive.into_inner().unwrap()[..]).unwrap()
    }

    #[test]
    fn packages_are_found_where_their_managers_write_them_down() {
        let all = found(&[
            ("etc/os-release", "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"),
            (
                "var/lib/dpkg/status",
                "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\nDescription: x\n Version: no\n\n\
                 Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
            ),
            ("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a\n"),
            ("lib/apk/db/installed", "C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nP:zlib\nV:1.3\n"),
            (
                "usr/lib/python3/site-packages/Django-5.0.dist-info/METADATA",
                "Metadata-Version: 2.1\nName: Django\nVersion: 5.0\n\nName: no\n",
            ),
            ("app/node_modules/@nestjs/core/package.json", r#"{"name": "@nestjs/core", "version": "10.0.0"}"#),
            ("app/node_modules/express/package.json", r#"{"name": "express", "version": "4.0.0"}"#),
            ("app/node_modules/express/lib/package.json", r#"{"type": "module"}"#),
            ("app/package.json", r#"{"name": "shop", "version": "1.0.0"}"#),
            ("var/lib/rpm/rpmdb.sqlite", "SQLite"),
        ]);
        let named: Vec<_> = all.packages.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
        let expected = [
            ("libc6", "2.36-9"),
            ("tzdata", "2024a"),
            ("musl", "1.2.5-r0"),
            ("zlib", "1.3"),
            ("Django", "5.0"),
            ("@nestjs/core", "10.0.0"),
            ("express", "4.0.0"),
        ];
        assert_eq!(named, expected);
        assert_eq!(all.distribution, Some(("debian".to_owned(), "12".to_owned())));
        assert_eq!(all.unread.into_iter().collect::<Vec<_>>(), ["/var/lib/rpm/rpmdb.sqlite"]);
    }
}
