//! Which path says whether a service is well.

use std::sync::LazyLock;

use regex::Regex;

use super::docker::Dockerfile;
use super::tree::{javascript, line_at, without_comments};
use super::{Notes, Place, path};

static ROUTE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let name = r"(?:healthz|health|livez|healthcheck|health-check|health_check|_health|ping)/?";
    Regex::new(&format!(
        r#"(?:\bpath\(\s*|\.get\(\s*|\.use\(\s*|@Get\(\s*|@Controller\(\s*(?:\{{\s*path:\s*)?|path(?:_info)?\s*(?:==|in)\s*\(?\s*)r?["'`](/?{name})["'`]"#
    ))
    .ok()
});
/// A controller of NestJS with its path, if it has one.
static CONTROLLER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"@Controller\(\s*(?:\{[^}]*?\bpath:\s*)?(?:["'`]([^"'`]*)["'`])?"#).ok());
/// What stands before every path of an application in NestJS, and what is left out of that.
static PREFIX: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?s)\.setGlobalPrefix\(\s*["'`]([^"'`$]+)["'`]\s*(?:,\s*\{(.*?)\}\s*)?\)"#).ok());

/// The path that tells whether a service is well, where its code or its Dockerfile has one.
pub(super) fn health(directory: &str, dockerfile: Option<&Dockerfile>, notes: &Notes<'_>) -> Option<(String, Place)> {
    if let Some(dockerfile) = dockerfile
        && let Some((path, line)) = &dockerfile.end.health
    {
        return Some((path.clone(), dockerfile.at(*line)));
    }
    let tree = notes.tree;
    let mut found: Vec<(String, Place, bool)> = Vec::new();
    let mut prefix: Option<(String, String)> = None;
    for file in tree.below(directory) {
        let name = path::name(file);
        if name.contains(".spec.") || name.contains(".test.") || file.contains("/tests/") || name.starts_with("test_") {
            continue;
        }
        if matches!(name, "route.ts" | "route.js") && path::name(path::parent(file)).starts_with("health") && file.contains("/app/") {
            let route = path::parent(file).rsplit_once("/app/").map_or("", |(_, route)| route);
            found.push((format!("/{route}"), Place::file(file), false));
        }
        let text = match path::ending(name) {
            "py" => tree.text(file).map(|text| without_comments(&text, "#", None)),
            "js" | "ts" | "mjs" => tree.text(file).map(|text| javascript(&text)),
            _ => None,
        };
        let (Some(text), Some(pattern)) = (text, ROUTE.as_ref()) else { continue };
        for hit in pattern.captures_iter(&text) {
            let (Some(all), Some(own)) = (hit.get(0), hit.get(1)) else { continue };
            let nest = all.as_str().starts_with('@');
            let before = if all.as_str().starts_with("@Get") { controller(&text[..all.start()]) } else { None };
            found.push((joined(&[before.unwrap_or_default(), own.as_str()]), Place::line(file, line_at(&text, own.start())), nest));
        }
        if let Some(said) = PREFIX.as_ref().and_then(|pattern| pattern.captures(&text)) {
            prefix = Some((said[1].to_owned(), said.get(2).map_or_else(String::new, |but| but.as_str().to_owned())));
        }
    }
    // `/healthz` says most surely what it is for.
    let (path, at, nest) = found.into_iter().min_by_key(|(path, ..)| match path.trim_end_matches('/').rsplit('/').next() {
        Some("healthz") => 0,
        Some("livez") => 1,
        Some("ping") => 3,
        _ => 2,
    })?;
    let path = match prefix.filter(|_| nest) {
        Some((prefix, but)) if !but.contains(path.trim_matches('/')) => joined(&[&prefix, &path]),
        _ => path,
    };
    Some((path, at))
}

/// The path of the controller that stands last in `text`.
fn controller(text: &str) -> Option<&str> {
    CONTROLLER.as_ref()?.captures_iter(text).last()?.get(1).map(|path| path.as_str())
}

/// Pieces of a path as one; a slash at its end stays.
fn joined(pieces: &[&str]) -> String {
    let end = if pieces.last().is_some_and(|last| last.ends_with('/')) { "/" } else { "" };
    let pieces: Vec<&str> = pieces.iter().map(|piece| piece.trim_matches('/')).filter(|piece| !piece.is_empty()).collect();
    format!("/{}{end}", pieces.join("/"))
}
