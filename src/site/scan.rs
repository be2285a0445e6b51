//! Reads a build's output: every file with its digest, save what must not be published.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::model::{Exit, Failure, Sha256, UnitName};

/// What a build wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its files, sorted by path.
    pub files: Vec<OutputFile>,
    /// The paths that the build's own manifest names as fingerprinted, if it left one.
    pub fingerprinted: Option<BTreeSet<String>>,
    /// Files that stay behind, with the reason.
    pub left_out: Vec<(String, &'static str)>,
}

/// One file of a build's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputFile {
    /// From the output's root, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// Reads the output of `site` in `directory`.
///
/// # Errors
/// [`Exit::Build`] if the directory is missing, holds no `index.html`, or cannot be read.
pub fn scan(site: &UnitName, directory: &Path, with_source_maps: bool) -> Result<Output, Failure> {
    if !directory.is_dir() {
        let failure = Failure::new(Exit::Build, format!("site `{site}`: there is no build output"));
        let failure = failure.because(format!("`{}` is not a directory", directory.display()));
        return Err(
            failure.hint(format!("`sites.{site}.output` names the directory that the build writes, from `path`; is it another one?"))
        );
    }
    let real = directory.canonicalize().map_err(|error| unreadable(site, directory).because(error))?;
    let mut paths = Vec::new();
    let mut left_out = Vec::new();
    for entry in walkdir::WalkDir::new(directory).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| unreadable(site, directory).because(error))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let path = relative(site, directory, entry.path())?;
        if entry.path_is_symlink() && !entry.path().canonicalize().is_ok_and(|target| target.starts_with(&real)) {
            left_out.push((path, "a link that leads out of the build output"));
            continue;
        }
        match why_left_out(&path, with_source_maps) {
            Some(reason) => left_out.push((path, reason)),
            None => paths.push((path, entry.path().to_owned())),
        }
    }
    if !paths.iter().any(|(path, _)| path == "index.html") {
        let failure = Failure::new(Exit::Build, format!("site `{site}`: the build output has no `index.html`"));
        let found: Vec<&str> = paths.iter().map(|(path, _)| path.as_str()).take(5).collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        let failure = failure.because(format!("`{}` holds {found}", directory.display()));
        return Err(failure.hint("nothing was uploaded; a site needs an index document, or the page at `/` would be an error"));
    }
    let fingerprinted = vite_manifest(site, directory)?;
    paths.sort();
    Ok(Output { files: digests(site, &paths)?, fingerprinted, left_out })
}

fn unreadable(site: &UnitName, path: &Path) -> Failure {
    Failure::new(Exit::Build, format!("site `{site}`: reading the build output `{}` failed", path.display()))
}

fn relative(site: &UnitName, directory: &Path, path: &Path) -> Result<String, Failure> {
    let parts = path.strip_prefix(directory).unwrap_or(path).components().map(|part| part.as_os_str().to_str());
    let parts: Option<Vec<&str>> = parts.collect();
    parts.map(|parts| parts.join("/")).ok_or_else(|| {
        let failure = unreadable(site, path).because("the name is not UTF-8, and S3 takes no other");
        failure.hint("rename the file")
    })
}

/// Why a file is not published, if it is not.
fn why_left_out(path: &str, with_source_maps: bool) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name == ".env" || name.starts_with(".env.") {
        return Some("environment files may hold secrets");
    }
    if path.starts_with(".vite/") {
        return Some("the build's manifest is not for the public");
    }
    if path.split('/').any(|segment| segment == ".git") {
        return Some("Git's own files are not for the public");
    }
    if matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini" | ".gitkeep" | ".gitignore" | ".gitattributes") {
        return Some("not part of the site");
    }
    let map = Path::new(name).extension().is_some_and(|extension| extension == "map");
    (map && !with_source_maps).then_some("source maps are left out (`source_maps: upload` takes them in)")
}

/// The files that Vite's manifest names, which are those with a hash in their names.
///
/// <https://vite.dev/guide/backend-integration>
fn vite_manifest(site: &UnitName, directory: &Path) -> Result<Option<BTreeSet<String>>, Failure> {
    #[derive(Deserialize)]
    struct Chunk {
        file: String,
        #[serde(default)]
        css: Vec<String>,
        #[serde(default)]
        assets: Vec<String>,
    }
    let path = directory.join(".vite/manifest.json");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(|error| unreadable(site, &path).because(error))?;
    let chunks: std::collections::BTreeMap<String, Chunk> =
        serde_json::from_slice(&text).map_err(|error| unreadable(site, &path).because(error))?;
    let files = chunks.into_values().flat_map(|chunk| [vec![chunk.file], chunk.css, chunk.assets].concat());
    Ok(Some(files.filter(|file| Path::new(file).extension().is_none_or(|extension| extension != "html")).collect()))
}

/// Hashes the files, on as many threads as there are cores.
fn digests(site: &UnitName, paths: &[(String, PathBuf)]) -> Result<Vec<OutputFile>, Failure> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    let worker = || -> Result<Vec<(usize, OutputFile)>, Failure> {
        let mut done = Vec::new();
        while let Some((at, (path, full))) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, paths.get(at)?))) {
            let hashed = File::open(full).and_then(Sha256::of_reader);
            let (sha256, length) = hashed.map_err(|error| unreadable(site, full).because(error))?;
            done.push((at, OutputFile { path: path.clone(), size: length, sha256 }));
        }
        Ok(done)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut files = Vec::with_capacity(paths.len());
    for result in results {
        files.extend(result.map_err(|_| unreadable(site, Path::new(".")).because("a hashing thread panicked"))??);
    }
    files.sort_by_key(|(at, _)| *at);
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        root
    }

    #[test]
    fn what_must_not_be_public_stays_behind_and_well_known_goes_along() {
        let root =
            tree(&["index.html", ".env.production", ".vite/manifest.json", ".well-known/x", "assets/a.js", "assets/a.js.map", "ü #1.svg"]);
        std::fs::write(root.path().join(".vite/manifest.json"), r#"{"index.html":{"file":"assets/a.js","css":["assets/a.css"]}}"#).unwrap();
        let output = scan(&"web".parse().unwrap(), root.path(), false).unwrap();
        let paths: Vec<&str> = output.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".well-known/x", "assets/a.js", "index.html", "ü #1.svg"]);
        assert_eq!(output.left_out.len(), 3);
        assert_eq!(output.fingerprinted.unwrap().into_iter().collect::<Vec<_>>(), ["assets/a.css", "assets/a.js"]);
        assert_eq!(output.files[2].sha256, Sha256::of(b"index.html"));
    }

    #[test]
    fn an_output_without_an_index_document_is_refused() {
        let root = tree(&["about.html"]);
        let failure = scan(&"web".parse().unwrap(), root.path(), false).unwrap_err();
        assert_eq!((failure.exit(), failure.causes()[0].ends_with("holds about.html")), (Exit::Build, true));
        let failure = scan(&"web".parse().unwrap(), &root.path().join("dist"), false).unwrap_err();
        assert_eq!(failure.exit(), Exit::Build);
    }
}
