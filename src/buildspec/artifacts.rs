//! Takes the artifacts out of the source, and writes them as `CodeBuild` lays them out: `NAME/…` or `NAME.zip`, below
//! `S3-PREFIX/BUILD-ID/` if there is a prefix.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::files::{self, Found};
use super::log::Log;
use super::order::{Order, Packaging};
use super::result::{ArtifactResult, ArtifactsResult, PhaseResult};
use super::shell::Shell;
use super::spec::Artifacts;

/// Collects and writes all artifacts. A part that is there is kept in the result although another is missing.
pub(super) async fn upload(
    order: &Order,
    source: &Path,
    id: &str,
    artifacts: &Artifacts,
    shell: &mut Shell,
    log: &Log<'_>,
) -> (ArtifactsResult, Result<(), PhaseResult>) {
    let mut result = ArtifactsResult::default();
    let mut failure = None;
    if !artifacts.primary.files.is_empty() {
        match one(order, source, id, &order.project, artifacts, shell, log).await {
            Ok(primary) => result.primary = Some(primary),
            Err(failed) => failure = Some(failed),
        }
    }
    for (identifier, secondary) in &artifacts.secondary {
        match one(order, source, id, identifier, secondary, shell, log).await {
            Ok(secondary) => {
                result.secondary.insert(identifier.clone(), secondary);
            }
            Err(failed) => failure = failure.or(Some(failed)),
        }
    }
    (result, failure.map_or(Ok(()), Err))
}

async fn one(
    order: &Order,
    source: &Path,
    id: &str,
    default_name: &str,
    artifacts: &Artifacts,
    shell: &mut Shell,
    log: &Log<'_>,
) -> Result<ArtifactResult, PhaseResult> {
    let failed = |message: String| PhaseResult::failed("CLIENT_ERROR", message);
    let mut set = artifacts.primary.clone();
    let mut texts = vec![
        artifacts.name.clone().unwrap_or_else(|| default_name.to_owned()),
        set.base_directory.clone().unwrap_or_default(),
        artifacts.s3_prefix.clone().unwrap_or_default(),
    ];
    texts.extend(set.files.iter().cloned());
    texts.extend(set.exclude_paths.iter().cloned());
    let expanded = shell.expand(&texts, |line| log.output(line)).await;
    let mut expanded = expanded.map_err(|_| failed("the shell could not expand the artifact's paths".to_owned()))?.into_iter();
    let mut next = || expanded.next().unwrap_or_default();
    let name = next().trim().to_owned();
    let name = if name.is_empty() { default_name.to_owned() } else { name };
    let base = next();
    set.base_directory = Some(base).filter(|base| !base.is_empty());
    let prefix = next();
    set.files.iter_mut().for_each(|file| *file = next());
    set.exclude_paths.iter_mut().for_each(|path| *path = next());
    let outside = order.artifacts.as_ref().and_then(|path| path.canonicalize().ok());
    let found = files::find(source, &set, outside.as_deref(), &|words| log.agent(words)).map_err(failed)?;
    if found.is_empty() {
        return Err(failed("no matching artifact paths found".to_owned()));
    }
    if let Some(root) = &order.artifacts {
        let to = if prefix.is_empty() { PathBuf::from(&name) } else { Path::new(&prefix).join(id).join(&name) };
        if !to.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(failed(format!("the artifact's name {} leads out of its directory", to.display())));
        }
        let (found, to, packaging, links) = (found.clone(), root.join(to), order.packaging, set.enable_symlinks);
        let shown = to.display().to_string();
        let written = tokio::task::spawn_blocking(move || match packaging {
            Packaging::None => copy(&found, &to, links),
            Packaging::Zip => pack(&found, &archive_of(&to), links),
        });
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| failed(format!("writing the artifact to {shown} failed: {error}")))?;
    }
    Ok(ArtifactResult { name, files: found.into_keys().collect() })
}

/// `a` and `a.zip` both become `a.zip`.
fn archive_of(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|own| own == "zip") {
        return path.to_owned();
    }
    let mut path = path.to_owned().into_os_string();
    path.push(".zip");
    path.into()
}

fn copy(found: &Found, to: &Path, links: bool) -> io::Result<()> {
    for (name, path) in found {
        let to = to.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        if links && path.is_symlink() {
            match fs::remove_file(&to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => std::os::unix::fs::symlink(fs::read_link(path)?, &to)?,
            }
        } else {
            fs::copy(path, &to)?;
        }
    }
    Ok(())
}

/// Files sorted by name, deflated, with their modes.
fn pack(found: &Found, to: &Path, links: bool) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    // Whoever reads it while it is being written sees the old one.
    let part = tempfile::NamedTempFile::new_in(to.parent().unwrap_or(Path::new(".")))?;
    let mut archive = ZipWriter::new(part.as_file().try_clone()?);
    for (name, path) in found {
        if links && path.is_symlink() {
            archive.add_symlink(name, fs::read_link(path)?.to_string_lossy(), SimpleFileOptions::default()).map_err(io::Error::other)?;
            continue;
        }
        let metadata = fs::metadata(path)?;
        let options = SimpleFileOptions::default().unix_permissions(metadata.permissions().mode() & 0o777);
        let options = options.large_file(metadata.len() >= u64::from(u32::MAX));
        archive.start_file(name, options).map_err(io::Error::other)?;
        io::copy(&mut File::open(path)?, &mut archive)?;
    }
    archive.finish().map_err(io::Error::other)?;
    part.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    part.persist(to).map_err(|error| error.error)?;
    Ok(())
}
