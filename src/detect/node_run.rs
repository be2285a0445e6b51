//! What the Dockerfile of a service on Node has to do, where it has none.

use std::sync::LazyLock;

use regex::Regex;

use super::node::{NodeService, builds};
use super::package::{Package, Packages, Tool, node_version};
use super::{Notes, Place, Recipe, path};

/// The newest release of Node with long-term support that this version of windlass knows of.
const NODE: u32 = 24;

static PORT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:listen\(|PORT\s*(?:\?\?|\|\|)\s*|\bport\s*[:=]\s*)[^\n;)]{0,40}?\b([1-9][0-9]{3,4})\b").ok());

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
    let from_root = |file: &str| path::from(&manager.root, file);
    let mut manifests: Vec<String> = installed.iter().map(|package| from_root(&package.file)).collect();
    manifests.extend(manager.files.iter().map(|file| from_root(file)));
    if hooked {
        manifests.clear();
    }
    let program = manager.tool.name();
    let mut install: Vec<String> = manager.global().into_iter().collect();
    install.push(format!("{program} {}", manager.install()));
    let mut build = Vec::new();
    if let Some(schema) = prisma {
        let holder =
            packages.all.iter().filter(|package| path::within(schema, &package.directory)).max_by_key(|package| package.directory.len());
        let at = holder.map_or(".", |holder| holder.directory.as_str());
        let into = path::from(&manager.root, at);
        let prefix = if into == "." { String::new() } else { format!("cd {} && ", path::shell(&into)) };
        let named = if packages.at(at).is_some_and(|holder| holder.json["prisma"]["schema"].is_string())
            || path::from(at, schema).starts_with("prisma/")
        {
            String::new()
        } else {
            format!(" --schema={}", path::shell(&path::from(at, schema)))
        };
        build.push(format!("{prefix}npx --no-install prisma generate{named}"));
    }
    build.extend(builds(manager, package, &local, notes.tree).into_iter().map(|(arguments, _)| format!("{program} {arguments}")));
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
    let packages = if prisma.is_some() { vec!["ca-certificates", "openssl"] } else { Vec::new() };
    Some(Recipe {
        base: format!("node:{version}-bookworm-slim"),
        packages,
        before: Vec::new(),
        env,
        manifests,
        install,
        build,
        command,
        workdir: own,
        port,
        user: Some("node"),
        remarks,
        ignore: vec!["**/node_modules", "**/dist", "**/.next", "**/coverage"],
    })
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
        let simple = line.starts_with("node ") && plain;
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
