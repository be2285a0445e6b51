//! How a file is to be served: may a browser keep it for ever, and what is it?
//!
//! The rules are those of the build tools: Vite, Create React App, Next and Django's manifest storage put a hash of the content
//! into the names of the files that their pages refer to. Where Vite left its manifest, that decides and no rule guesses.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{Glob, Headers};

/// For files whose name changes with their content.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For entry documents, and whatever has to be asked for each time.
pub const REVALIDATE: &str = "public, max-age=0, must-revalidate";
/// For other files: short in the browser, and invalidated at the edge when they change.
pub const SHORT: &str = "public, max-age=300";

/// What a change of a file means to those who read the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Its name holds a hash of its content: another content is another file.
    Fingerprinted,
    /// It keeps its name when it changes.
    Plain,
    /// A page: it names the others, so it goes last.
    Entry,
}

/// How fingerprints were recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fingerprints {
    /// By the build's own manifest.
    Manifest,
    /// By the form of the names.
    Rule,
}

/// A configured change to the headers of the files that match.
#[derive(Debug, Clone)]
pub struct HeaderRule<'a> {
    /// Which files, by their path in the output.
    pub pattern: &'a Glob,
    /// `Cache-Control`, if it is to change.
    pub cache_control: Option<&'a str>,
    /// `Content-Type`, if it is to change.
    pub content_type: Option<&'a str>,
}

/// The class of the file at `path` (from the output's root); `manifest` holds the fingerprinted files, if the build said which.
#[must_use]
pub fn class(path: &str, manifest: Option<&BTreeSet<String>>) -> Class {
    let extension = extension(path);
    if matches!(extension.as_str(), "html" | "htm") {
        return Class::Entry;
    }
    let fingerprinted = match manifest {
        Some(files) => files.contains(path) || files.contains(path.trim_end_matches(".map")),
        None => in_asset_directory(path) && has_fingerprint(path),
    };
    if fingerprinted { Class::Fingerprinted } else { Class::Plain }
}

/// The headers of the file at `path`; the last matching rule wins, key by key.
#[must_use]
pub fn headers(path: &str, class: Class, rules: &[HeaderRule<'_>]) -> Headers {
    let (content_type, content_encoding) = content_type(path);
    let cache_control = match class {
        Class::Fingerprinted => IMMUTABLE,
        Class::Entry => REVALIDATE,
        Class::Plain if must_revalidate(path) => REVALIDATE,
        Class::Plain => SHORT,
    };
    let mut headers = Headers { content_encoding, ..Headers::of(content_type, cache_control) };
    for rule in rules.iter().filter(|rule| rule.pattern.is_match(path)) {
        if let Some(value) = rule.cache_control {
            headers.cache_control = Cow::Owned(value.to_owned());
        }
        if let Some(value) = rule.content_type {
            headers.content_type = Cow::Owned(value.to_owned());
        }
    }
    headers
}

/// Does a file shrink when it is compressed, by what it is? What is stored compressed already does not.
#[must_use]
pub fn compresses(path: &str) -> bool {
    let (content_type, encoding) = content_type(path);
    let known =
        ["application/json", "application/wasm", "application/xml", "application/javascript", "application/manifest+json", "font/ttf"];
    let plain = content_type.starts_with("text/") || known.contains(&&*content_type);
    encoding.is_none() && (plain || content_type.ends_with("+xml") || content_type.ends_with("+json"))
}

/// Files that describe the site to browsers and crawlers: a stale copy of them breaks the site, or hides the new one.
fn must_revalidate(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with(".well-known/")
        || matches!(name, "robots.txt" | "asset-manifest.json" | "manifest.json" | "service-worker.js" | "registerSW.js")
        // Workers of all makes: `sw.js`, `firebase-messaging-sw.js`, and Angular's, whose list of files is `ngsw.json`.
        || matches!(name, "ngsw.json" | "ngsw-worker.js" | "safety-worker.js" | "OneSignalSDKWorker.js")
        || name == "sw.js"
        || name.ends_with("-sw.js")
        || extension(path) == "webmanifest"
}

/// The directories that build tools keep for files with a hash in their names.
fn in_asset_directory(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "assets" | "static" | "_next" | "immutable" | "_app" | "chunks"))
}

/// Does the name hold a hash: a part after `-` or `.` of at least eight characters that no word has?
fn has_fingerprint(path: &str) -> bool {
    if let Some(rest) = path.strip_prefix("_next/static/") {
        // The build id's own directory and the chunks beside it are new with each build.
        return !rest.is_empty();
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((mut stem, _)) = name.rsplit_once('.') else { return false };
    while let Some(shorter) = [".chunk", ".LICENSE", ".js", ".css"].iter().find_map(|suffix| stem.strip_suffix(suffix)) {
        stem = shorter;
    }
    let hex = |part: &str| part.len() >= 8 && part.bytes().all(|b| b.is_ascii_hexdigit()) && part.bytes().any(|b| b.is_ascii_digit());
    let hex = |part: &str| hex(part) && !is_date(part);
    let tail = |separator| stem.rsplit(separator).next().filter(|tail| tail.len() < stem.len());
    if tail('.').is_some_and(hex) || tail('-').is_some_and(hex) {
        return true;
    }
    // Vite writes eight characters of base64url, in which `-` and `_` may stand too.
    let Some((before, hash)) = stem.len().checked_sub(8).and_then(|at| stem.split_at_checked(at)) else { return false };
    let base64url = hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let no_word =
        !is_date(hash) && hash.bytes().any(|b| b.is_ascii_digit() || b == b'_') || hash.bytes().skip(1).any(|b| b.is_ascii_uppercase());
    before.ends_with('-') && base64url && no_word
}

/// Is it a day, such as people name files by: `20240131`?
fn is_date(part: &str) -> bool {
    let number = |from: usize, to: usize| part.get(from..to).and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(0);
    part.len() == 8
        && part.bytes().all(|b| b.is_ascii_digit())
        && (1970..2100).contains(&number(0, 4))
        && (1..=12).contains(&number(4, 6))
        && (1..=31).contains(&number(6, 8))
}

fn extension(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// `Content-Type` with its charset, and `Content-Encoding` for files that are stored compressed.
///
/// Registered types: <https://www.iana.org/assignments/media-types/media-types.xhtml>
fn content_type(path: &str) -> (Cow<'static, str>, Option<Cow<'static, str>>) {
    let encoding = match extension(path).as_str() {
        "br" => Some("br"),
        "gz" => Some("gzip"),
        _ => None,
    };
    if let Some(encoding) = encoding {
        let inner = path.rsplit_once('.').map_or(path, |(inner, _)| inner);
        // An archive or a data file is a download, which the browser must not unpack on its way.
        let download = encoding == "gzip" && matches!(extension(inner).as_str(), "" | "tar" | "json" | "csv" | "xml");
        return if download { (Cow::Borrowed("application/gzip"), None) } else { (content_type(inner).0, Some(Cow::Borrowed(encoding))) };
    }
    let known = match extension(path).as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" | "cjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "avif" => "image/avif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "xml" => "application/xml",
        "txt" | "md" => "text/plain; charset=utf-8",
        "" if path.starts_with(".well-known/") || path.contains("/.well-known/") || path.ends_with("apple-app-site-association") => {
            "application/json"
        }
        _ => {
            let guess = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
            if guess.starts_with("text/") {
                return (Cow::Owned(format!("{guess}; charset=utf-8")), None);
            }
            guess
        }
    };
    (Cow::Borrowed(known), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_told_from_words() {
        for path in [
            "assets/main-3xaATb-9.js",
            "assets/index-DnM2z4kP.css",
            "assets/urchin çağ-3xaATb-9.png",
            "assets/main-3xaATb-9.js.map",
            "static/js/main.4f2c8a1b.js",
            "static/js/453.8ab44547.chunk.js",
            "static/js/main.4f2c8a1b.js.LICENSE.txt",
            "static/media/céladon 2.6ce24c58023cc2f8fd88.png",
            "_next/static/chunks/app-0a1b2c3d.js",
            "static/look.8f6cfc7b001d.css",
        ] {
            assert_eq!(class(path, None), Class::Fingerprinted, "{path}");
        }
        for path in [
            "favicon.svg",
            "assets/app.js",
            "assets/hello-password.js",
            "robots.txt",
            "main-3xaATb-9.js",
            "assets/my-landscape.png",
            "static/report-20240131.pdf",
            "assets/groß & 100%.txt",
            "assets/12345678.js",
            "assets/ü2345678.js",
            "assets/2ü345678.js",
        ] {
            assert_eq!(class(path, None), Class::Plain, "{path}");
        }
        assert_eq!(class("about/index.html", None), Class::Entry);
        let manifest = BTreeSet::from(["assets/main-abcdefgh.js".to_owned()]);
        assert_eq!(class("assets/main-abcdefgh.js", Some(&manifest)), Class::Fingerprinted, "the manifest knows");
        assert_eq!(class("assets/photo-20240101.png", Some(&manifest)), Class::Plain, "what it does not name is plain");
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_classified(name in "[-_.a-zA-Z0-9äß€𝄞/ ]{0,14}") {
            let path = format!("assets/{name}");
            proptest::prop_assert!(!headers(&path, class(&path, None), &[]).content_type.is_empty());
        }
    }

    #[test]
    fn content_types_are_those_that_browsers_ask_for() {
        for (path, wanted, encoding) in [
            ("index.html", "text/html; charset=utf-8", None),
            ("a.mjs", "text/javascript; charset=utf-8", None),
            ("a.js.map", "application/json", None),
            ("a.webmanifest", "application/manifest+json", None),
            ("a.wasm", "application/wasm", None),
            ("a.avif", "image/avif", None),
            ("a.svg", "image/svg+xml", None),
            ("a.pdf", "application/pdf", None),
            ("a.csv", "text/csv; charset=utf-8", None),
            ("a.js.br", "text/javascript; charset=utf-8", Some("br")),
            ("a.css.gz", "text/css; charset=utf-8", Some("gzip")),
            ("a.tar.gz", "application/gzip", None),
            ("data.json.gz", "application/gzip", None),
            (".well-known/apple-app-site-association", "application/json", None),
            ("LICENSE", "application/octet-stream", None),
        ] {
            let headers = headers(path, Class::Plain, &[]);
            assert_eq!((headers.content_type.as_ref(), headers.content_encoding.as_deref()), (wanted, encoding), "{path}");
        }
    }

    #[test]
    fn workers_of_all_makes_are_asked_for_each_time() {
        for path in ["sw.js", "firebase-messaging-sw.js", "app/ngsw.json", "ngsw-worker.js", "service-worker.js", "registerSW.js"] {
            assert_eq!(headers(path, class(path, None), &[]).cache_control, REVALIDATE, "{path}");
        }
        assert_eq!(headers("answer.js", Class::Plain, &[]).cache_control, SHORT);
    }

    #[test]
    fn the_last_matching_rule_wins() {
        let (all, legal): (Glob, Glob) = ("**".parse().unwrap(), "legal/**".parse().unwrap());
        let rule = |pattern, value| HeaderRule { pattern, cache_control: Some(value), content_type: None };
        let rules = [rule(&all, "no-store"), rule(&legal, "public, max-age=300")];
        assert_eq!(headers("legal/a.html", Class::Entry, &rules).cache_control, "public, max-age=300");
        assert_eq!(headers("a.html", Class::Entry, &rules).cache_control, "no-store");
    }
}
