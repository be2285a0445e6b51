//! What a directory with a `package.json` is: a site that some tool builds, a service on Node, or neither.
//!
//! Configuration files are read as text and never run. The order of the questions is Railpack's and Heroku's: what serves beats what
//! bundles, since a server may be built by a bundler.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::package::Package;
use super::tree::{Tree, javascript, search};
use super::{Place, bundler, path};

/// What a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Files, and where they come to lie (from the package's directory); `None` where the configuration computes it.
    Site(Bundler),
    /// A server on Node.
    Service {
        /// Its framework.
        framework: &'static str,
        /// What says so.
        at: Place,
        /// The port that it listens on if nothing else is said.
        port: u16,
    },
    /// Something that is recognised and that windlass does not act upon.
    Other(String, Place),
    /// A site or a service: a person has to say.
    Either(String, Place),
    /// Nothing that is released: a library, a tool.
    Nothing,
}

/// How a site is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundler {
    /// The tool.
    pub(super) tool: &'static str,
    /// What says so.
    pub(super) at: Place,
    /// The directory that it writes, from the package's own, and what says so if not the tool's custom.
    pub(super) output: Option<(String, Option<Place>)>,
    /// The path that pages are served below, and what says so.
    pub(super) base: Option<(String, Place)>,
    /// Where that path is computed, which nobody can read.
    pub(super) computed: Option<Place>,
    /// The command where the package has no script `build`.
    pub(super) fallback: &'static str,
    /// How variables begin that it freezes into the pages.
    pub(super) frozen: &'static str,
}

/// Servers that can be told by one dependency, with their usual port.
const SERVERS: [(&str, &str, u16); 12] = [
    ("@nestjs/core", "NestJS", 3000),
    ("express", "Express", 3000),
    ("fastify", "Fastify", 3000),
    ("koa", "Koa", 3000),
    ("@hapi/hapi", "hapi", 3000),
    ("@hono/node-server", "Hono", 3000),
    ("restify", "Restify", 3000),
    ("@feathersjs/feathers", "Feathers", 3030),
    ("@adonisjs/core", "AdonisJS", 3333),
    ("@strapi/strapi", "Strapi", 1337),
    ("apollo-server", "Apollo Server", 4000),
    ("@apollo/server", "Apollo Server", 4000),
];
/// What renders on a server and has a build that windlass knows no more of.
const RENDERERS: [(&str, &str); 8] = [
    ("nuxt", "Nuxt"),
    ("@remix-run/node", "Remix"),
    ("@react-router/node", "React Router with a server"),
    ("@sveltejs/adapter-node", "SvelteKit with a server"),
    ("@solidjs/start", "SolidStart"),
    ("@tanstack/react-start", "TanStack Start"),
    ("@astrojs/node", "Astro with a server"),
    ("@angular/ssr", "Angular with a server"),
];

pub(super) fn pattern(text: &str) -> Regex {
    // Every pattern here is a constant that the tests compile.
    Regex::new(text).unwrap_or_else(|error| unreachable!("{error}"))
}

static EXPORT: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\boutput\s*:\s*["'`](export)["'`]"#));
/// A configuration that may export, or not.
static MAY_EXPORT: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\b(output)\s*:\s*[^\s"'`,}][^,\n}]*["'`]export["'`]"#));
/// `standalone`, also as what is built where nothing is exported.
static STANDALONE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\boutput\s*:\s*(?:[^,\n}]*\?\s*["'`]export["'`]\s*:\s*)?["'`](standalone)["'`]"#));
static DIST_DIR: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\bdistDir\s*:\s*["'`]([^"'`$]+)["'`]"#));
static BASE_PATH_AT_ALL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\b(basePath)\s*:\s*[^\s"'`]"#));
static BASE_PATH: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\bbasePath\s*:\s*["'`](/[^"'`$]*)["'`]"#));
static OUTPUT_DIR: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\boutputDir\s*:\s*["'`]([^"'`$]+)["'`]"#));
static SERVER_OUTPUT: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\boutput\s*:\s*["'`](server|hybrid)["'`]"#));
/// <https://reactrouter.com/how-to/spa>
static NO_SERVER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bssr\s*:\s*(false)\b"));
static ADAPTER_DIR: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\bpages\s*:\s*["'`]([^"'`$]+)["'`]"#));

/// A configuration file's text without its comments.
pub(super) fn script(tree: &Tree, directory: &str, stem: &str) -> Option<(String, String)> {
    let endings = ["ts", "js", "mjs", "mts", "cjs", "cts"];
    let file = endings.iter().map(|ending| path::join(directory, &format!("{stem}.{ending}"))).find(|file| tree.has(file))?;
    Some((javascript(&tree.text(&file)?), file))
}

/// The configuration of Next.js, and whether it asks for a server that brings its own packages.
pub(super) fn next_standalone(tree: &Tree, directory: &str) -> Option<Place> {
    let (text, file) = script(tree, directory, "next.config")?;
    search(&file, &text, &STANDALONE).map(|(_, at)| at)
}

/// What a package is; `wanted` is what a person has said of it: `site` or `service`.
pub(super) fn kind(tree: &Tree, package: &Package, wanted: Option<&str>) -> Kind {
    let directory = package.directory.as_str();
    let has = |name: &str| package.dependency(name).is_some();
    if has("next") {
        return next(tree, package, wanted);
    }
    if has("@nestjs/core") {
        return Kind::Service { framework: "NestJS", at: package.place("@nestjs/core"), port: 3000 };
    }
    if let Some(site) = site_tool(tree, package) {
        return site;
    }
    if let Some((name, framework)) = RENDERERS.iter().find(|(name, _)| has(name)) {
        let at = package.place(name);
        return Kind::Service { framework, at, port: if *framework == "Angular with a server" { 4000 } else { 3000 } };
    }
    let serves = served_by(package);
    if let Some((name, framework, port)) = SERVERS.iter().find(|(name, ..)| package.json["dependencies"][name].is_string())
        && (serves.is_some() || !is_vite(tree, package))
    {
        return Kind::Service { framework, at: package.place(name), port: *port };
    }
    if has("react-scripts") {
        return Kind::Site(bundler::react_scripts(tree, package));
    }
    if is_vite(tree, package) && serves.is_none() {
        return bundler::vite(tree, package);
    }
    match serves {
        // A workspace's root runs its members.
        Some(at) if !tree.has(&path::join(directory, "pnpm-workspace.yaml")) && package.json["workspaces"].is_null() => {
            Kind::Service { framework: "Node", at, port: 3000 }
        }
        _ if has("webpack") && package.script("build").is_some() => {
            let what = "webpack, whose output its configuration computes: add the site to windlass.yml by hand, or answer with --output";
            Kind::Other(what.to_owned(), package.place("webpack"))
        }
        _ => Kind::Nothing,
    }
}

/// The script `start` (or `start:prod`) that runs a program of one's own.
fn served_by(package: &Package) -> Option<Place> {
    let name = ["start:prod", "start"].into_iter().find(|name| package.script(name).is_some())?;
    let command = package.script(name)?;
    let own = ["node ", "node\t", "tsx ", "ts-node", "pm2", "bun ", "nodemon"].iter().any(|tool| command.contains(tool));
    own.then(|| package.place(name))
}

fn is_vite(tree: &Tree, package: &Package) -> bool {
    let built = package.script("build").is_some_and(|command| command.split_whitespace().any(|word| word == "vite"));
    let named = package.dependency("vite").is_some() || package.dependency("rolldown-vite").is_some();
    // A library's tests bring vite along; what is built by it says so.
    built || (named && (package.script("build").is_none() || script(tree, &package.directory, "vite.config").is_some()))
}

fn next(tree: &Tree, package: &Package, wanted: Option<&str>) -> Kind {
    let config = script(tree, &package.directory, "next.config");
    let at = package.place("next");
    let Some((text, file)) = config else { return Kind::Service { framework: "Next.js", at, port: 3000 } };
    let maybe = search(&file, &text, &MAY_EXPORT).map(|(_, at)| at);
    let export = match (search(&file, &text, &EXPORT), maybe, wanted) {
        (Some((_, at)), ..) | (None, Some(at), Some("site")) => at,
        (None, Some(at), None) => {
            return Kind::Either("Next.js that is exported or serves, as its configuration computes".to_owned(), at);
        }
        _ => return Kind::Service { framework: "Next.js", at, port: 3000 },
    };
    let output = search(&file, &text, &DIST_DIR).map_or_else(|| ("out".to_owned(), None), |(directory, at)| (directory, Some(at)));
    Kind::Site(Bundler {
        tool: "Next.js, exported",
        at: export,
        output: Some(output),
        base: search(&file, &text, &BASE_PATH),
        computed: search(&file, &text, &BASE_PATH_AT_ALL).map(|(_, at)| at),
        fallback: "next build",
        frozen: "NEXT_PUBLIC_",
    })
}

/// Tools that make a site and are told by one dependency.
fn site_tool(tree: &Tree, package: &Package) -> Option<Kind> {
    let directory = package.directory.as_str();
    let has = |name: &str| package.dependency(name).is_some();
    let made = |tool, name: &str, output: (String, Option<Place>), fallback, frozen| {
        Some(Kind::Site(Bundler { tool, at: package.place(name), output: Some(output), base: None, computed: None, fallback, frozen }))
    };
    let plain = |output: &str| (output.to_owned(), None);
    if has("@angular/core") && tree.has(&path::join(directory, "angular.json")) && !has("@angular/ssr") {
        return Some(angular(tree, package));
    }
    if has("@vue/cli-service") {
        let config = script(tree, directory, "vue.config");
        let output = config.and_then(|(text, file)| search(&file, &text, &OUTPUT_DIR)).map(|(output, at)| (output, Some(at)));
        return made("Vue CLI", "@vue/cli-service", output.unwrap_or_else(|| plain("dist")), "vue-cli-service build", "VUE_APP_");
    }
    if has("astro") {
        let (text, file) = script(tree, directory, "astro.config").unwrap_or_default();
        if let Some((_, at)) = search(&file, &text, &SERVER_OUTPUT) {
            return Some(Kind::Service { framework: "Astro with a server", at, port: 4321 });
        }
        let output = bundler::out_dir(&file, &text).map_or_else(|| plain("dist"), |(output, _, at)| (output, Some(at)));
        return made("Astro", "astro", output, "astro build", "PUBLIC_");
    }
    if has("@sveltejs/adapter-static") {
        let (text, file) = script(tree, directory, "svelte.config").unwrap_or_default();
        let output = search(&file, &text, &ADAPTER_DIR).map_or_else(|| plain("build"), |(output, at)| (output, Some(at)));
        return made("SvelteKit, exported", "@sveltejs/adapter-static", output, "vite build", "PUBLIC_");
    }
    if has("nuxt") && package.script("build").or(package.script("generate")).is_some_and(|command| command.contains("generate")) {
        return made("Nuxt, generated", "nuxt", plain(".output/public"), "nuxt generate", "NUXT_PUBLIC_");
    }
    if has("@react-router/dev")
        && let Some((text, file)) = script(tree, directory, "react-router.config")
        && let Some((_, at)) = search(&file, &text, &NO_SERVER)
    {
        let output = Some(("build/client".to_owned(), None));
        let (tool, fallback) = ("React Router without a server", "react-router build");
        return Some(Kind::Site(Bundler { tool, at, output, base: None, computed: None, fallback, frozen: "VITE_" }));
    }
    let others = [
        ("gatsby", "Gatsby", "public", "gatsby build", "GATSBY_"),
        ("@docusaurus/core", "Docusaurus", "build", "docusaurus build", "DOCUSAURUS_"),
        ("@11ty/eleventy", "Eleventy", "_site", "eleventy", "ELEVENTY_"),
        ("parcel", "Parcel", "dist", "parcel build", "PARCEL_"),
    ];
    let (name, tool, output, fallback, frozen) = others.into_iter().find(|(name, ..)| has(name))?;
    made(tool, name, plain(output), fallback, frozen)
}

/// <https://angular.dev/reference/configs/workspace-config>: since version 17 the pages lie in `browser` below the output.
fn angular(tree: &Tree, package: &Package) -> Kind {
    let file = path::join(&package.directory, "angular.json");
    let text = tree.text(&file).unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let applications = json["projects"].as_object().into_iter().flatten().filter(|(_, project)| project["projectType"] != "library");
    let mut applications: Vec<(&String, &Value)> = applications.collect();
    if let Some(default) = json["defaultProject"].as_str() {
        applications.retain(|(name, _)| *name == default);
    }
    let [(name, project)] = applications[..] else {
        return Kind::Other(
            format!("Angular with {} applications: name the output of one with --output", applications.len()),
            Place::file(&file),
        );
    };
    let build = &project["architect"]["build"];
    let modern = build["builder"].as_str().is_some_and(|builder| builder.ends_with(":application"));
    let output = &build["options"]["outputPath"];
    let base = output["base"].as_str().or_else(|| output.as_str()).map_or_else(|| format!("dist/{name}"), str::to_owned);
    let browser = output["browser"].as_str().unwrap_or(if modern { "browser" } else { "" });
    let directory = path::normal(&format!("{base}/{browser}"));
    let line = super::tree::place_of(&file, &text, "\"outputPath\"");
    Kind::Site(Bundler {
        tool: "Angular",
        at: package.place("@angular/core"),
        output: directory.map(|directory| (directory, Some(line))),
        base: None,
        computed: None,
        fallback: "ng build",
        frozen: "NG_APP_",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_an_export_that_is_computed_is_told() {
        let all = [
            &EXPORT,
            &MAY_EXPORT,
            &STANDALONE,
            &DIST_DIR,
            &BASE_PATH,
            &BASE_PATH_AT_ALL,
            &OUTPUT_DIR,
            &SERVER_OUTPUT,
            &NO_SERVER,
            &ADAPTER_DIR,
        ];
        assert_eq!(all.iter().filter(|pattern| pattern.as_str().is_empty()).count(), 0);
        let told = |text: &str| (MAY_EXPORT.is_match(text), STANDALONE.is_match(text));
        assert_eq!(told("output: 'standalone',"), (false, true));
        assert_eq!(told("output: 'export',"), (false, false));
        assert_eq!(told("output: process.env.E === '1' ? 'export' : 'standalone'"), (true, true));
        assert_eq!(told("output: isExport ? 'export' : 'standalone'"), (true, true));
        assert_eq!(told("output: process.env.SERVE ? 'standalone' : 'export'"), (true, false));
        assert_eq!(told("output: process.env.A ? \"export\" : undefined"), (true, false));
        assert_eq!(told("output: process.env.A ? \"standalone\" : undefined"), (false, false));
    }
}
