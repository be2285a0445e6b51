//! The units of a checkout that are written for Node, and what builds them.

use std::sync::LazyLock;

use regex::Regex;

use super::node_kind::{self, Bundler, Kind};
use super::package::{Manager, Package, Packages, Tool};
use super::tree::{Tree, line_at};
use super::{Notes, Place, Site, Source, Topic, path};

/// A unit before it has its name: a site, or a service that still needs its Dockerfile.
pub(super) enum Unit {
    Site(Site),
    Service(NodeService),
}

/// A server on Node.
pub(super) struct NodeService {
    pub(super) directory: String,
    pub(super) framework: String,
    pub(super) at: Place,
    pub(super) manager: Manager,
    pub(super) port: u16,
}

static FROZEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let names = "(?:VITE|REACT_APP|NEXT_PUBLIC|VUE_APP|NUXT_PUBLIC|GATSBY|PUBLIC)_[A-Z0-9_]+";
    Regex::new(&format!(r"(?:import\.meta\.env|process\.env)(?:\.|\[['\x22])({names})")).ok()
});

/// Every unit of the packages.
pub(super) fn units(packages: &Packages, notes: &mut Notes<'_>) -> Vec<Unit> {
    let mut found = Vec::new();
    for package in &packages.all {
        let directory = package.directory.as_str();
        let wanted = notes.answers.get(Topic::Kind, directory).map(str::to_owned);
        if wanted.as_deref() == Some("skip") {
            notes.unused(directory, "left out, as --as says", Place::file(&package.file));
            continue;
        }
        if let Some(units) = super::nx::units(packages, package, notes) {
            found.extend(units);
            continue;
        }
        match (node_kind::kind(notes.tree, package, wanted.as_deref()), wanted.as_deref()) {
            (Kind::Site(bundler), None | Some("site")) => found.extend(site(packages, package, &bundler, notes).map(Unit::Site)),
            (Kind::Service { framework, at, port }, None | Some("service")) => {
                notes.used(directory, format!("{framework}: a service"), at.clone());
                if framework == "NestJS" {
                    applications(package, notes);
                }
                let manager = packages.manager(package, notes);
                let (directory, framework) = (directory.to_owned(), framework.to_owned());
                found.push(Unit::Service(NodeService { directory, framework, at, manager, port }));
            }
            (Kind::Other(what, at), None) if notes.answers.get(Topic::Output, directory).is_none() => notes.unused(directory, what, at),
            (Kind::Either(what, at), None) => {
                let choices = ["site", "service"].map(|kind| (kind.to_owned(), at.clone()));
                notes.ask(Topic::Kind, directory, format!("`{directory}` is {what}"), choices.to_vec());
            }
            (Kind::Nothing, None) => nothing(packages, package, notes),
            (Kind::Site(_) | Kind::Other(..) | Kind::Either(..) | Kind::Nothing, Some("service")) => {
                // Its Dockerfile is all that is needed, and the containers are looked at later.
                notes.used(directory, "a service, as --as says", Place::file(&package.file));
            }
            (Kind::Service { .. } | Kind::Other(..) | Kind::Either(..) | Kind::Nothing, _) => {
                let output = notes.answers.get(Topic::Output, directory).map(|output| (output.to_owned(), None));
                let (at, tool) = (Place::file(&package.file), "a site, as --as or --output says");
                let bundler = Bundler { tool, at, output, base: None, computed: None, fallback: "", frozen: "" };
                found.extend(site(packages, package, &bundler, notes).map(Unit::Site));
            }
            (Kind::Site(_), Some(_)) => {}
        }
    }
    found
}

/// The applications of a workspace of Nest's own share one `package.json`; the scripts start one of them.
/// <https://docs.nestjs.com/cli/monorepo>
fn applications(package: &Package, notes: &mut Notes<'_>) {
    let file = path::join(&package.directory, "nest-cli.json");
    let text = notes.tree.text(&file).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let all = json["projects"].as_object().into_iter().flatten().filter(|(_, project)| project["type"] == "application");
    let started = ["start:prod", "start"].into_iter().find_map(|name| package.script(name)).unwrap_or_default();
    let all: Vec<(&String, String)> =
        all.map(|(name, project)| (name, path::join(&package.directory, project["root"].as_str().unwrap_or(".")))).collect();
    for (name, directory) in all.iter().filter(|_| all.len() > 1) {
        let has_its_own = notes.tree.inside(directory).any(|file| super::docker::is_dockerfile(path::name(file)));
        if !has_its_own && !started.contains(&format!("/{name}/")) && json["root"].as_str() != Some(directory) {
            let what = format!("`{name}`, another application of this workspace: write a Dockerfile into `{directory}` to release it, too");
            notes.unused(&package.directory, what, super::tree::place_of(&file, &text, &format!("\"{name}\"")));
        }
    }
}

fn nothing(packages: &Packages, package: &Package, notes: &mut Notes<'_>) {
    let directory = package.directory.as_str();
    if packages.is_root(directory) {
        let members = packages.all.iter().filter(|member| packages.root(&member.directory) == Some(directory)).count();
        let pnpm = path::join(directory, "pnpm-workspace.yaml");
        let at = if notes.tree.has(&pnpm) { Place::file(&pnpm) } else { package.place("workspaces") };
        notes.used(directory, format!("a workspace of {members} packages"), at);
    } else if packages.root(directory).is_some() {
        notes.used(directory, "a package of the workspace, no unit of its own", Place::file(&package.file));
    } else {
        let what = "a package that neither builds a site nor serves: nothing is released of it";
        notes.unused(directory, what, Place::file(&package.file));
    }
}

/// A site; `None`, and a question, where nobody knows what its build writes.
fn site(packages: &Packages, package: &Package, bundler: &Bundler, notes: &mut Notes<'_>) -> Option<Site> {
    let directory = package.directory.as_str();
    notes.used(directory, format!("{}: a site", bundler.tool), bundler.at.clone());
    let manager = packages.manager(package, notes);
    let given = notes.answers.get(Topic::Output, directory).map(|output| (output.to_owned(), None));
    let Some((output, said)) = given.or_else(|| bundler.output.clone()) else {
        let what = format!("what the build of `{directory}` writes is computed by its configuration");
        notes.ask(Topic::Output, directory, what, Vec::new());
        return None;
    };
    let Some(full) = path::normal(&format!("{directory}/{output}")) else {
        let what = format!("the build of `{directory}` writes `{output}`, which lies outside of the checkout");
        notes.ask(Topic::Output, directory, what, said.into_iter().map(|at| (output.clone(), at)).collect());
        return None;
    };
    if let Some(at) = said {
        notes.used(directory, format!("its build writes `{output}`"), at);
    }
    let prefix = bundler.base.as_ref().map_or(String::new(), |(base, _)| base.trim_matches('/').to_owned());
    if let Some((base, at)) = &bundler.base
        && !prefix.is_empty()
    {
        notes.used(directory, format!("its pages are served below `{base}`"), at.clone());
    }
    if let Some(at) = &bundler.computed {
        let what = "the path that its pages are served below is computed: if it is not `/`, say it as the site's `prefix`";
        notes.unused(directory, what, at.clone());
    }
    // Packages of the workspace that it is made of count as its sources, and so does where its output leads.
    let local = packages.local(package);
    let whole = !local.is_empty() || !path::within(&full, directory);
    let place = if whole { packages.root(directory).filter(|_| path::within(&full, &manager.root)).unwrap_or(".") } else { directory };
    let unset = unset(notes.tree, directory, &full, bundler.frozen);
    for (name, at) in &unset {
        notes.unused(directory, format!("`{name}` is read and set in no file: put it under `env`, or its value is empty"), at.clone());
    }
    Some(Site {
        name: String::new(),
        directory: directory.to_owned(),
        kind: bundler.tool.to_owned(),
        at: bundler.at.clone(),
        path: place.to_owned(),
        source: Source::Build(command(&manager, package, &local, bundler, place, notes.tree)),
        output: path::from(place, &full),
        prefix,
        unset,
    })
}

/// The command that builds a site, run in `place`.
fn command(manager: &Manager, package: &Package, local: &[&Package], bundler: &Bundler, place: &str, tree: &Tree) -> String {
    let mut steps = Vec::new();
    let program = manager.program();
    let to_root = path::from(place, &manager.root);
    if to_root != "." {
        steps.push(format!("cd {}", path::shell(&to_root)));
    }
    steps.push(format!("{program} {}", manager.install()));
    steps.extend(builds(manager, package, local, tree).into_iter().map(|(arguments, _)| format!("{program} {arguments}")));
    if package.script("build").is_none() && !bundler.fallback.is_empty() {
        let own = path::from(&manager.root, &package.directory);
        let into = if own == "." { String::new() } else { format!("cd {} && ", path::shell(&own)) };
        steps.push(format!("{into}npx --no-install {}", bundler.fallback));
    }
    steps.join(" && ")
}

/// The arguments of the package manager that build a package, after those of the workspace that it needs; and whose they are.
pub(super) fn builds<'a>(manager: &Manager, package: &'a Package, local: &[&'a Package], tree: &Tree) -> Vec<(String, &'a Package)> {
    let own = path::from(&manager.root, &package.directory);
    if package.script("build").is_none() {
        return Vec::new();
    }
    if own == "." {
        return vec![("run build".to_owned(), package)];
    }
    let name = package.name().unwrap_or(&own);
    if tree.has(&path::join(&manager.root, "turbo.json")) && !local.is_empty() {
        let arguments = match manager.tool {
            Tool::Npm => format!("exec -- turbo run build --filter={}", path::shell(name)),
            Tool::Pnpm => format!("exec turbo run build --filter={}", path::shell(name)),
            Tool::Yarn | Tool::Berry => format!("turbo run build --filter={}", path::shell(name)),
            Tool::Bun => format!("x turbo run build --filter={}", path::shell(name)),
        };
        return vec![(arguments, package)];
    }
    let one = |package: &'a Package| {
        let own = path::from(&manager.root, &package.directory);
        let arguments = match manager.tool {
            Tool::Npm => format!("run build --workspace={}", path::shell(&own)),
            Tool::Pnpm => format!("--filter {} run build", path::shell(&format!("./{own}"))),
            Tool::Yarn | Tool::Berry => format!("workspace {} run build", path::shell(package.name().unwrap_or(&own))),
            Tool::Bun => format!("run --filter {} build", path::shell(&format!("./{own}"))),
        };
        (arguments, package)
    };
    local.iter().copied().chain([package]).filter(|package| package.script("build").is_some()).map(one).collect()
}

/// Variables that a site's code reads, that its build would freeze, and that no file of its own sets.
fn unset(tree: &Tree, directory: &str, output: &str, prefix: &str) -> Vec<(String, Place)> {
    let Some(pattern) = FROZEN.as_ref().filter(|_| !prefix.is_empty()) else { return Vec::new() };
    let names = [".env", ".env.production"].map(|name| path::join(directory, name));
    let set = names.iter().filter_map(|file| tree.text(file)).collect::<Vec<_>>().join("\n");
    let is_set =
        |name: &str| set.lines().any(|line| line.trim().trim_start_matches("export ").split('=').next().map(str::trim) == Some(name));
    let mut found: Vec<(String, Place)> = Vec::new();
    let sources = tree.below(directory).filter(|file| !path::within(file, output) || output == directory);
    let code = ["js", "jsx", "ts", "tsx", "mjs", "vue", "svelte", "astro"];
    for file in sources.filter(|file| file.rsplit('.').next().is_some_and(|ending| code.contains(&ending)) && !is_test(file)) {
        let Some(text) = tree.text(file) else { continue };
        for hit in pattern.captures_iter(&text).filter_map(|hit| hit.get(1)) {
            let name = hit.as_str();
            if name.starts_with(prefix) && !is_set(name) && !found.iter().any(|(other, _)| other == name) {
                found.push((name.to_owned(), Place::line(file, line_at(&text, hit.start()))));
            }
        }
    }
    found
}

fn is_test(file: &str) -> bool {
    let name = path::name(file);
    name.contains(".test.") || name.contains(".spec.") || name.contains(".config.") || file.contains("__tests__/")
}
