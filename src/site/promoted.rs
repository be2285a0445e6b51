//! The files that a release of another environment has published of a site, as the output of a build that nobody has to run.

use std::path::PathBuf;

use crate::model::ObjectKey;

use super::compress::{Encoding, Stored};
use super::plan::Manifest;
use super::scan::{Output, OutputFile};

/// The bucket that a manifest's files were published to, and what every key of them begins with.
#[must_use]
pub fn place(manifest: &Manifest) -> (&str, &str) {
    manifest.place.split_once('/').unwrap_or((&manifest.place, ""))
}

/// The key of the file at `path` where it was published.
#[must_use]
pub fn key(manifest: &Manifest, path: &str) -> Option<ObjectKey> {
    let (_, prefix) = place(manifest);
    if prefix.is_empty() { path.parse().ok() } else { format!("{prefix}/{path}").parse().ok() }
}

/// The files of a manifest, as if they lay in `directory`; `None` if the content of one is unknown.
#[must_use]
pub fn output(manifest: &Manifest, directory: String) -> Option<Output> {
    let (_, prefix) = place(manifest);
    let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let files = manifest.files.iter().map(|(key, file)| {
        let path = key.as_str().strip_prefix(&below)?.to_owned();
        let Some(plain) = &file.plain else { return Some(OutputFile { path, size: file.size, sha256: file.sha256?, stored: None }) };
        // It is brought as it is stored: another version of the compressor would write other bytes.
        let encoding = match file.headers.content_encoding.as_deref() {
            Some("gzip") => Encoding::Gzip,
            _ => Encoding::Br,
        };
        let stored = Stored { encoding, size: file.size, sha256: file.sha256?, file: PathBuf::from(&path) };
        Some(OutputFile { path, size: plain.size, sha256: plain.sha256, stored: Some(stored) })
    });
    let mut files: Vec<OutputFile> = files.collect::<Option<_>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Some(Output { directory, files, fingerprinted: manifest.fingerprinted.clone(), left_out: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Headers, Sha256, SharedHeaders};
    use crate::site::compress::Plain;
    use crate::site::plan::LiveFile;

    #[test]
    fn files_are_known_by_their_paths_and_as_they_are_stored() {
        let headers = |encoding: Option<&str>| {
            let content_encoding = encoding.map(|encoding| encoding.to_owned().into());
            SharedHeaders::from(Headers { content_encoding, ..Headers::of("text/plain", "no-cache") })
        };
        let file =
            |body: &str| LiveFile { sha256: Some(Sha256::of(body.as_bytes())), size: 1, headers: headers(None), plain: None, etag: None };
        let plain = Some(Plain { size: 9, sha256: Sha256::of(b"plain") });
        let stored = LiveFile { plain, headers: headers(Some("gzip")), ..file("stored") };
        let files = [("app/index.html", file("page")), ("app/data.json", stored)];
        let mut manifest = Manifest {
            place: "shop-web/app".to_owned(),
            files: files.map(|(key, file)| (key.parse().unwrap(), file)).into(),
            ..Manifest::default()
        };
        let output_ = output(&manifest, "there".to_owned()).unwrap();
        let paths: Vec<_> = output_.files.iter().map(|file| (file.path.as_str(), file.size, file.stored.is_some())).collect();
        assert_eq!(paths, [("data.json", 9, true), ("index.html", 1, false)]);
        assert_eq!(output_.files[0].stored.as_ref().unwrap().encoding, Encoding::Gzip);
        assert_eq!((place(&manifest), key(&manifest, "index.html").unwrap().as_str()), (("shop-web", "app"), "app/index.html"));
        manifest.files.insert("app/x".parse().unwrap(), LiveFile { sha256: None, ..file("x") });
        assert!(output(&manifest, String::new()).is_none());
    }
}
