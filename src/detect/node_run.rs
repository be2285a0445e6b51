//! What the Dockerfile of a service on Node has to do, where it has none.

use std::sync::LazyLock;

use regex::Regex;

use super::node::{NodeService, builds};
use super::package::{Manager, Package, Packages, Tool, node_version};
use super::tree::{Tree, javascript};
use super::{Notes, Place, Recipe, path};

/// The newest release of Node with long-term support that this version of windlass knows of.
const NODE: u32 = 24;

static PORT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:listen\(|PORT\)?\s*(?:\?\?|\|\|)\s*|\bport\s*[:=]\s*)[^\n;)]{0,40}?\b([1-9][0-9]{3,4})\b").ok());

static NEEDED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"\benv\(\s*["'](\w+)["']\s*\)"#).ok());

/// The recipe; `None`, with a finding, where nothing says how it is started.
pub(super) fn recipe(packages: &Packages, service: &NodeService, prisma: Option<&str>, notes: &mut Notes<'_>) -> Option<Recipe> {
    let directory = service.directory.as_str();
    let package = packages.at(directory)?;
    let manager = &service.manager;
    let own = path::from(&manager.root, directory);
    let standalone = super::node_kind::next_standalone(notes.tree, directory).filter(|_| service.framework == "Next.js");
    let Some(command) = command(service, package, standalone.is_some(), &own, notes) else {
        notes.unused(directory, "no script `start`, so no Dockerfile can be written: add the script, or a Dockerfile", service.at.clone());
        return None;
    };
    let local = packages.local(package);
    let members: Vec<&Package> =
        packages.all.iter().filter(|other| packages.root(&other.directory) == Some(manager.root.as_str())).collect();
    let root = packages.at(&manager.root).unwrap_or(package);
    let mut installed: Vec<&Package> = vec![root];
    installed.extend(members.iter().filter(|member| member.directory != root.directory));
    // A script that runs while packages are installed may need any file.
    let hooks = ["preinstall", "install", "postinstall", "prepare"];
    let hooked = installed.iter().any(|package| hooks.iter().any(|hook| package.script(hook).is_some()));
    let hooked = hooked || installed.iter().any(|package| package.has_own_files());
    let from_root = |file: &str| format!("{}{}", path::from(&manager.root, file), if file.ends_with('/') { "/" } else { "" });
    let mut manifests: Vec<String> = installed.iter().map(|package| from_root(&package.file)).collect();
    manifests.extend(manager.files.iter().map(|file| from_root(file)));
    if hooked {
        manifests.clear();
    }
    let program = manager.tool.name();
    let mut install: Vec<String> = manager.global().into_iter().collect();
    let stand_ins = prisma.map_or(String::new(), |schema| stand_ins(notes.tree, packages, schema));
    let unchecked = unchecked(notes.tree, directory);
    install.push(format!("{}{program} {}", if hooked { &stand_ins } else { "" }, manager.install()));
    let mut build = Vec::new();
    build.extend(prisma.map(|schema| generate(packages, manager, schema, &stand_ins)));
    build.extend(
        builds(manager, package, &local, notes.tree)
            .into_iter()
            .map(|(arguments, _)| format!("{unchecked}{stand_ins}{program} {arguments}")),
    );
    if package.script("build").is_none() && service.framework == "Next.js" {
        build.push(format!("{}npx --no-install next build", if own == "." { String::new() } else { format!("cd {own} && ") }));
    }
    let mut remarks = Vec::new();
    if standalone.is_some() {
        let into = |part: &str| if own == "." { part.to_owned() } else { format!("{own}/{part}") };
        let server = if own == "." { ".next/standalone".to_owned() } else { format!("{own}/.next/standalone/{own}") };
        build.push(format!("cp -r {} {server}/.next/static", into(".next/static")));
        build.push(format!("if [ -d {0} ]; then cp -r {0} {server}/public; fi", into("public")));
    } else if prisma.is_some() {
        remarks.push("The packages for development stay: `prisma`, which migrates, is most often one of them.".to_owned());
    } else if own == "." && service.framework != "Next.js" {
        match manager.tool {
            Tool::Npm => build.push("npm prune --omit=dev".to_owned()),
            Tool::Pnpm => build.push("CI=true pnpm prune --prod".to_owned()),
            Tool::Yarn | Tool::Berry | Tool::Bun => {}
        }
    }
    let asked = node_version(notes.tree, &[package, root], NODE);
    let version = match &asked {
        Some((version, at)) => {
            notes.used(directory, format!("Node {version}"), at.clone());
            *version
        }
        None => NODE,
    };
    if asked.is_none() {
        remarks.push(format!("No file names a version of Node; {NODE} is the one with long-term support."));
    }
    let port = port(service, notes);
    let mut env = vec![("NODE_ENV".to_owned(), "production".to_owned()), ("PORT".to_owned(), port.to_string())];
    if service.framework == "Next.js" {
        env.push(("HOSTNAME".to_owned(), "0.0.0.0".to_owned()));
    }
    let mut ignore: Vec<String> = ["**/node_modules", "**/dist", "**/.next", "**/coverage"].map(str::to_owned).to_vec();
    ignore.extend(frozen(service, &manager.root, notes));
    let mut before = Vec::new();
    let rc = notes.tree.text(&path::join(&manager.root, ".yarnrc.yml")).unwrap_or_default();
    if manager.tool == Tool::Berry && !rc.lines().any(|line| line.starts_with("nodeLinker:") && !line.contains("pnp")) {
        // With Plug'n'Play only what Yarn itself starts finds its packages, which lie in root's home.
        before.push(("YARN_NODE_LINKER".to_owned(), "node-modules".to_owned()));
    }
    let packages = if prisma.is_some() { vec!["ca-certificates", "openssl"] } else { Vec::new() };
    Some(Recipe {
        base: format!("node:{version}-bookworm-slim"),
        packages,
        before,
        env,
        manifests,
        install,
        build,
        command,
        workdir: own,
        port,
        user: Some("node"),
        remarks,
        ignore,
    })
}

/// The command that makes Prisma's client.
fn generate(packages: &Packages, manager: &Manager, schema: &str, stand_ins: &str) -> String {
    let holder =
        packages.all.iter().filter(|package| path::within(schema, &package.directory)).max_by_key(|package| package.directory.len());
    let at = holder.map_or(".", |holder| holder.directory.as_str());
    let into = path::from(&manager.root, at);
    let prefix = if into == "." { String::new() } else { format!("cd {} && ", path::shell(&into)) };
    let own = path::from(at, schema);
    let known = packages.at(at).is_some_and(|holder| holder.json["prisma"]["schema"].is_string()) || own.starts_with("prisma/");
    let named = if known { String::new() } else { format!(" --schema={}", path::shell(&own)) };
    format!("{prefix}{stand_ins}npx --no-install prisma generate{named}")
}

/// Variables that Prisma's configuration cannot be read without, for commands that ask no database.
/// <https://www.prisma.io/docs/orm/reference/prisma-config-reference>
fn stand_ins(tree: &Tree, packages: &Packages, schema: &str) -> String {
    let directory = packages.all.iter().map(|package| package.directory.as_str()).filter(|directory| path::within(schema, directory));
    let directory = directory.max_by_key(|directory| directory.len()).unwrap_or(".");
    let file = tree.first(directory, &["prisma.config.ts", "prisma.config.mjs", "prisma.config.js"]);
    let text = file.and_then(|file| tree.text(&file)).map(|text| javascript(&text)).unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for hit in NEEDED.iter().flat_map(|pattern| pattern.captures_iter(&text)).filter_map(|hit| hit.get(1)) {
        if !names.contains(&hit.as_str()) {
            names.push(hit.as_str());
        }
    }
    names.iter().flat_map(|name| [*name, "=postgresql://unused:unused@localhost/unused "]).collect()
}

/// What tells a build that the variables of the server are not there yet. <https://env.t3.gg/docs/customization>
fn unchecked(tree: &Tree, directory: &str) -> &'static str {
    let file = tree.first(directory, &["src/env.js", "src/env.mjs", "src/env.ts", "env.js", "env.mjs", "env.ts"]);
    let says = file.and_then(|file| tree.text(&file)).is_some_and(|text| javascript(&text).contains("SKIP_ENV_VALIDATION"));
    if says { "SKIP_ENV_VALIDATION=1 " } else { "" }
}

/// What lets the file of variables into the image that Next.js freezes into its pages: where it holds nothing else.
fn frozen(service: &NodeService, root: &str, notes: &mut Notes<'_>) -> Option<String> {
    let file = path::join(&service.directory, ".env.production");
    let text = notes.tree.text(&file).filter(|_| service.framework == "Next.js")?;
    let names =
        text.lines().map(|line| line.trim().trim_start_matches("export ")).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: Vec<&str> = names.filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
    if names.iter().all(|name| name.starts_with("NEXT_PUBLIC_")) {
        return Some(format!("!{}", path::from(root, &file)));
    }
    let public: Vec<&str> = names.into_iter().filter(|name| name.starts_with("NEXT_PUBLIC_")).collect();
    if !public.is_empty() {
        let what = format!(
            "it holds more than {}, so `.dockerignore` keeps it out of the image: set them there by `ARG` and the image's `args`, or they are empty",
            public.join(", ")
        );
        notes.unused(&service.directory, what, Place::file(&file));
    }
    None
}

/// The words of the command that serves: a program is run itself, so that it gets the signals.
fn command(service: &NodeService, package: &Package, standalone: bool, own: &str, notes: &mut Notes<'_>) -> Option<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if standalone {
        let server = if own == "." { ".next/standalone/server.js".to_owned() } else { format!(".next/standalone/{own}/server.js") };
        return Some(vec!["node".to_owned(), server]);
    }
    if let Some(name) = ["start:prod", "start"].into_iter().find(|name| package.script(name).is_some()) {
        let line = package.script(name)?;
        // `nest start` and the like compile first.
        if service.framework == "NestJS" && name == "start" && !line.starts_with("node ") {
            return Some(words("node dist/main.js"));
        }
        notes.used(&service.directory, format!("it is started by `{line}`"), package.place(name));
        let plain = !line.contains(['&', '|', ';', '$', '"', '\'', '>', '`', '*']);
        // npm ends with 1 where Next.js itself would end well. In a workspace it may be installed at the root.
        if plain && own == "." && (line == "next start" || line.starts_with("next start ")) {
            return Some(words(&format!("node_modules/.bin/{line}")));
        }
        let simple = (line.starts_with("node ") || line.starts_with("bun ")) && plain;
        return Some(if simple { words(line) } else { vec!["npm".to_owned(), "run".to_owned(), name.to_owned()] });
    }
    match service.framework.as_str() {
        "NestJS" => Some(words("node dist/main.js")),
        "Next.js" => Some(words("npx --no-install next start")),
        _ => {
            let main = package.json["main"].as_str()?;
            notes.tree.has(&path::join(&package.directory, main)).then(|| vec!["node".to_owned(), main.to_owned()])
        }
    }
}

/// The port in its code, else its framework's.
fn port(service: &NodeService, notes: &mut Notes<'_>) -> u16 {
    let names = ["main.ts", "main.js", "server.ts", "server.js", "index.ts", "index.js", "app.ts", "app.js"];
    let tree = notes.tree;
    let hit = tree
        .below(&service.directory)
        .filter(|file| names.contains(&path::name(file)))
        .find_map(|file| super::tree::search(file, &tree.text(file)?, PORT.as_ref()?))
        .and_then(|(port, at): (String, Place)| Some((port.parse().ok()?, at)));
    match hit {
        Some((port, at)) => {
            notes.used(&service.directory, format!("it listens on port {port}"), at);
            port
        }
        None => service.port,
    }
}
