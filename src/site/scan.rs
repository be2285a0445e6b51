//! Reads a build's output: every file with its digest, save what must not be published.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::model::{Exit, Failure, Sha256, UnitName};

use super::compress::Stored;

/// What a build wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Where it lies: from the configuration's directory, or absolute.
    pub directory: String,
    /// Its files, sorted by path.
    pub files: Vec<OutputFile>,
    /// The paths that the build's own manifest names as fingerprinted, if it left one.
    pub fingerprinted: Option<BTreeSet<String>>,
    /// Files that stay behind, with the reason.
    pub left_out: Vec<(String, &'static str)>,
}

/// Why a link of an output stays behind.
pub const LEADS_OUT: &str = "a link that leads out of the build output";

/// What is asked of an output.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Are source maps part of it?
    pub source_maps: bool,
    /// Must there be an `index.html`? The files of an image may be there for other pages to name.
    pub index: bool,
}

impl Output {
    /// The digest of all its files, with their paths.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        let text = self.files.iter().fold(String::new(), |text, file| text + &file.sha256.to_string() + " " + &file.path + "\n");
        Sha256::of(text.as_bytes())
    }
}

impl Output {
    /// Takes out of the fingerprinted files those that the build tool has merely copied from `public`, whose names are people's own:
    /// `assets/report-20240101.pdf`. Vite, Create React App and Next copy that directory as it is. Where the build left a manifest, that
    /// says it better.
    #[must_use]
    pub fn without_copied(mut self, public: &Path) -> Self {
        let copied = |path: &str| public.join(path).is_file();
        let by_rule = |file: &&OutputFile| super::classify::class(&file.path, None) == super::classify::Class::Fingerprinted;
        if self.fingerprinted.is_none() && self.files.iter().filter(by_rule).any(|file| copied(&file.path)) {
            let own = self.files.iter().filter(by_rule).filter(|file| !copied(&file.path));
            self.fingerprinted = Some(own.map(|file| file.path.clone()).collect());
        }
        self
    }
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
    /// What is stored in its place.
    #[serde(skip)]
    pub stored: Option<Stored>,
}

/// Reads the output of `site` in `at`, from `root` (or absolute). `on_file` hears how many files have been read, and how many there are.
///
/// # Errors
/// [`Exit::Build`] if the directory is missing or empty, holds no `index.html` where one is wanted, or cannot be read.
pub fn scan(site: &UnitName, root: &Path, at: &str, wanted: Wanted, on_file: impl Fn(u64, u64) + Sync) -> Result<Output, Failure> {
    let directory = &root.join(at);
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
    let mut walk = walkdir::WalkDir::new(directory).min_depth(1).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| unreadable_entry(site, directory, &error))?;
        if entry.path_is_symlink() && !entry.path().canonicalize().is_ok_and(|target| target.starts_with(&real)) {
            left_out.push((relative(site, directory, entry.path())?, LEADS_OUT));
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        if !entry.file_type().is_file() {
            continue;
        }
        let path = relative(site, directory, entry.path())?;
        match why_left_out(&path, wanted.source_maps) {
            Some(reason) => left_out.push((path, reason)),
            None => paths.push(path),
        }
    }
    if paths.is_empty() || (wanted.index && !paths.iter().any(|path| path == "index.html")) {
        let what = if wanted.index { "the build output has no `index.html`" } else { "there are no files" };
        let failure = Failure::new(Exit::Build, format!("site `{site}`: {what}"));
        let found: Vec<&str> = paths.iter().map(String::as_str).take(5).collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        let failure = failure.because(format!("`{}` holds {found}", directory.display()));
        return Err(failure.hint("nothing was uploaded; a site needs an index document, or the page at `/` would be an error"));
    }
    let fingerprinted = match vite_manifest(site, directory)? {
        None => django_manifest(site, directory)?,
        files => files,
    };
    paths.sort();
    Ok(Output { directory: at.to_owned(), files: digests(site, directory, paths, &on_file)?, fingerprinted, left_out })
}

/// A link that leads nowhere is a file that the build meant to be there.
fn unreadable_entry(site: &UnitName, directory: &Path, error: &walkdir::Error) -> Failure {
    let path = error.path().unwrap_or(directory);
    let cause = error.to_string();
    match std::fs::read_link(path) {
        Ok(target) if !path.exists() => {
            let failure = unreadable(site, path).because(format!("it is a link to `{}`, which is not there", target.display()));
            failure.hint("nothing was uploaded; remove the link, or let the build write what it leads to")
        }
        Ok(target) => {
            let failure = unreadable(site, path).because(format!("it is a link to `{}`: {cause}", target.display()));
            failure.hint("nothing was uploaded; remove the link, or keep it out of the build output")
        }
        _ => unreadable(site, path).because(cause),
    }
}

fn unreadable(site: &UnitName, path: &Path) -> Failure {
    Failure::new(Exit::Build, format!("site `{site}`: reading the build output `{}` failed", path.display()))
}

fn relative(site: &UnitName, directory: &Path, path: &Path) -> Result<String, Failure> {
    let parts = path.strip_prefix(directory).unwrap_or(path).components().map(|part| part.as_os_str().to_str());
    let parts: Option<Vec<&str>> = parts.collect();
    let path = parts.map(|parts| parts.join("/")).ok_or_else(|| {
        let failure = unreadable(site, path).because("the name is not UTF-8, and S3 takes no other");
        failure.hint("rename the file")
    })?;
    // S3 takes them, but its listings are XML, which cannot tell of them.
    if path.contains(|c: char| c.is_control()) {
        let failure = Failure::new(Exit::Build, format!("site `{site}`: the name of {path:?} holds a control character"));
        return Err(failure.hint("nothing was uploaded; rename the file, or keep it out of the build output"));
    }
    Ok(path)
}

/// Why a file is not published, if it is not.
fn why_left_out(path: &str, with_source_maps: bool) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name == ".env" || name.starts_with(".env.") {
        return Some("environment files may hold secrets");
    }
    if matches!(name, ".npmrc" | ".netrc" | ".htpasswd") {
        return Some("it may hold secrets");
    }
    if path == "windlass.yml" {
        return Some("the configuration is not for the public");
    }
    if path == super::frozen::RECORD {
        return Some(super::frozen::STAYS);
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

/// The files that Django's manifest names: hashed copies, each beside a file that keeps its name.
///
/// <https://docs.djangoproject.com/en/5.2/ref/contrib/staticfiles/#manifeststaticfilesstorage>
fn django_manifest(site: &UnitName, directory: &Path) -> Result<Option<BTreeSet<String>>, Failure> {
    #[derive(Deserialize)]
    struct Manifest {
        paths: std::collections::BTreeMap<String, String>,
    }
    let path = directory.join("staticfiles.json");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(|error| unreadable(site, &path).because(error))?;
    // Another tool's file of this name says nothing about fingerprints.
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { return Ok(None) };
    // Without a hash in it (as with `keep_intermediate_files`) a name is its own.
    Ok(Some(manifest.paths.into_iter().filter(|(name, hashed)| name != hashed).map(|(_, hashed)| hashed).collect()))
}

/// Hashes the files below `directory`, on as many threads as there are cores.
fn digests(
    site: &UnitName,
    directory: &Path,
    paths: Vec<String>,
    on_file: &(impl Fn(u64, u64) + Sync),
) -> Result<Vec<OutputFile>, Failure> {
    let next = AtomicUsize::new(0);
    let read = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    let worker = || -> Result<Vec<(usize, Sha256, u64)>, Failure> {
        let mut done = Vec::with_capacity(paths.len());
        let mut buffer = vec![0; 128 * 1024];
        while let Some((at, path)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, paths.get(at)?))) {
            let full = directory.join(path);
            let hashed = File::open(&full).and_then(|file| Sha256::of_reader_through(&mut buffer, file));
            let (sha256, bytes) = hashed.map_err(|error| unreadable(site, &full).because(error))?;
            done.push((at, sha256, bytes));
            on_file(read.fetch_add(1, Ordering::Relaxed) + 1, paths.len() as u64);
        }
        Ok(done)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut hashed = Vec::with_capacity(paths.len());
    for result in results {
        hashed.extend(result.map_err(|_| unreadable(site, Path::new(".")).because("a hashing thread panicked"))??);
    }
    hashed.sort_unstable_by_key(|(at, ..)| *at);
    Ok(paths.into_iter().zip(hashed).map(|(path, (_, sha256, size))| OutputFile { path, size, sha256, stored: None }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Wanted = Wanted { source_maps: false, index: true };

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
    fn what_was_copied_from_public_has_no_hash_in_its_name() {
        let root = tempfile::tempdir().unwrap();
        for path in ["public/assets/hero-mobile02.png", "dist/assets/hero-mobile02.png", "dist/assets/main-3xaATb-9.js", "dist/index.html"]
        {
            std::fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(path), path).unwrap();
        }
        let wanted = Wanted { source_maps: false, index: true };
        let output = || scan(&"web".parse().unwrap(), root.path(), "dist", wanted, |_, _| {}).unwrap();
        let known = output().without_copied(&root.path().join("public")).fingerprinted.unwrap();
        assert_eq!(known.into_iter().collect::<Vec<_>>(), ["assets/main-3xaATb-9.js"]);
        assert_eq!(output().without_copied(&root.path().join("static")).fingerprinted, None, "the rule stays where it does no harm");
    }

    #[test]
    fn what_must_not_be_public_stays_behind_and_well_known_goes_along() {
        let root = tree(&[
            "index.html",
            ".env.production",
            ".npmrc",
            "windlass.yml",
            ".vite/manifest.json",
            ".well-known/x",
            "assets/a.js",
            "assets/a.js.map",
            "ü #1.svg",
        ]);
        std::fs::write(root.path().join(".vite/manifest.json"), r#"{"index.html":{"file":"assets/a.js","css":["assets/a.css"]}}"#).unwrap();
        let output = scan(&"web".parse().unwrap(), root.path(), ".", PAGE, |_, _| {}).unwrap();
        let paths: Vec<&str> = output.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".well-known/x", "assets/a.js", "index.html", "ü #1.svg"]);
        assert_eq!(output.left_out.len(), 5);
        assert_eq!(output.fingerprinted.unwrap().into_iter().collect::<Vec<_>>(), ["assets/a.css", "assets/a.js"]);
        assert_eq!(output.files[2].sha256, Sha256::of(b"index.html"));
    }

    #[test]
    fn an_output_without_an_index_document_is_refused() {
        let root = tree(&["about.html"]);
        let web = "web".parse().unwrap();
        let failure = scan(&web, root.path(), ".", PAGE, |_, _| {}).unwrap_err();
        assert_eq!((failure.exit(), failure.causes()[0].ends_with("holds about.html")), (Exit::Build, true));
        let failure = scan(&web, root.path(), "dist", PAGE, |_, _| {}).unwrap_err();
        assert_eq!(failure.exit(), Exit::Build);
        let parts = Wanted { index: false, ..PAGE };
        assert_eq!(scan(&web, root.path(), ".", parts, |_, _| {}).unwrap().files.len(), 1);
        assert_eq!(scan(&web, tree(&[]).path(), ".", parts, |_, _| {}).unwrap_err().to_string(), "site `web`: there are no files");
    }

    #[test]
    fn a_link_is_followed_as_long_as_it_stays_inside() {
        use std::os::unix::fs::symlink;
        let outside = tree(&["secret/key", "page.html"]);
        let root = tree(&["index.html", "assets/a.js"]);
        symlink(outside.path().join("secret"), root.path().join("directory")).unwrap();
        symlink(outside.path().join("page.html"), root.path().join("page.html")).unwrap();
        symlink("assets", root.path().join("static")).unwrap();
        let web = "web".parse().unwrap();
        let output = scan(&web, root.path(), ".", PAGE, |_, _| {}).unwrap();
        let paths: Vec<&str> = output.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["assets/a.js", "index.html", "static/a.js"]);
        assert_eq!(output.left_out, [("directory".to_owned(), LEADS_OUT), ("page.html".to_owned(), LEADS_OUT)]);
        symlink("gone", root.path().join("old.html")).unwrap();
        let failure = scan(&web, root.path(), ".", PAGE, |_, _| {}).unwrap_err();
        assert!(failure.causes()[0].contains("a link to `gone`, which is not there"), "{:?}", failure.causes());
        std::fs::remove_file(root.path().join("old.html")).unwrap();
        symlink(".", root.path().join("loop")).unwrap();
        let failure = scan(&web, root.path(), ".", PAGE, |_, _| {}).unwrap_err();
        assert!(failure.causes()[0].starts_with("it is a link to `.`: ") && failure.hint_text().is_some(), "{:?}", failure.causes());
    }

    #[test]
    fn a_name_that_no_listing_can_tell_is_refused() {
        let root = tree(&["index.html", "new\nline.txt"]);
        let failure = scan(&"web".parse().unwrap(), root.path(), ".", PAGE, |_, _| ()).unwrap_err();
        assert_eq!(failure.to_string(), "site `web`: the name of \"new\\nline.txt\" holds a control character");
    }

    #[test]
    fn djangos_manifest_says_which_names_hold_a_hash() {
        let root = tree(&["css/look.8f6cfc7b001d.css", "css/look.css", "staticfiles.json"]);
        let manifest = r#"{"paths": {"css/look.css": "css/look.8f6cfc7b001d.css"}, "version": "1.1", "hash": "1d32f7b0d0cd"}"#;
        std::fs::write(root.path().join("staticfiles.json"), manifest).unwrap();
        let output = scan(&"web".parse().unwrap(), root.path(), ".", Wanted { index: false, ..PAGE }, |_, _| {}).unwrap();
        assert_eq!(output.fingerprinted.unwrap().into_iter().collect::<Vec<_>>(), ["css/look.8f6cfc7b001d.css"]);
    }
}
