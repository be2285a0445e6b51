//! Nx workspaces whose projects share the root's packages: each has a `project.json` where others have a `package.json`.
//!
//! Sites are taken, since a command builds them; of servers only their Dockerfile says how they are built.
//! <https://nx.dev/reference/project-configuration>

use serde_json::Value;

use super::bundler::out_dir;
use super::node::Unit;
use super::node_kind::script;
use super::package::{Manager, Package, Packages, Tool};
use super::tree::place_of;
use super::{Notes, Place, Site, Source, Topic, path};

/// The units of the workspace that `root` is the package of; `None` if it is none of these.
pub(super) fn units(packages: &Packages, root: &Package, notes: &mut Notes<'_>) -> Option<Vec<Unit>> {
    let tree = notes.tree;
    let own = path::join(&root.directory, "nx.json");
    let directory = |file: &str| path::parent(file).to_owned();
    let is_project = |file: &&str| path::name(file) == "project.json" && packages.at(path::parent(file)).is_none();
    let files: Vec<String> = tree.below(&root.directory).filter(is_project).map(str::to_owned).collect();
    if !tree.has(&own) || files.is_empty() {
        return None;
    }
    notes.used(&root.directory, format!("an Nx workspace of {} projects", files.len()), Place::file(&own));
    let mut found = Vec::new();
    for file in &files {
        let text = tree.text(file).unwrap_or_default();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let directory = directory(file);
        if notes.answers.get(Topic::Kind, &directory) == Some("skip") {
            notes.unused(&directory, "left out, as --as says", Place::file(file));
        } else if json["projectType"] == "library" || path::name(&directory).ends_with("e2e") {
            notes.used(&directory, "a project of the workspace, no unit of its own", Place::file(file));
        } else {
            found.extend(project(packages, root, (file.as_str(), text.as_str(), &json), notes));
        }
    }
    Some(found)
}

fn project(packages: &Packages, root: &Package, (file, text, json): (&str, &str, &Value), notes: &mut Notes<'_>) -> Option<Unit> {
    let tree = notes.tree;
    let directory = path::parent(file).to_owned();
    let build = &json["targets"]["build"];
    let executor = build["executor"].as_str().unwrap_or_default();
    let page = |folder: &str| tree.inside(folder).any(|file| path::ending(file) == "html");
    let angular = executor.contains("angular");
    let kind = match () {
        () if executor.contains("next") || script(tree, &directory, "next.config").is_some() => None,
        () if angular => Some("Angular, built by Nx"),
        () if script(tree, &directory, "vite.config").is_some() && page(&directory) => Some("Vite, built by Nx"),
        () if page(&directory) || page(&path::join(&directory, "src")) => Some("a site that Nx builds"),
        () => None,
    };
    let at = place_of(file, text, "\"executor\"");
    let Some(kind) = kind else {
        if tree.has(&path::join(&directory, "Dockerfile")) {
            notes.used(&directory, "a server that Nx builds: its Dockerfile says the rest", at);
        } else {
            notes.unused(&directory, "a server that Nx builds, without a Dockerfile: write one, and run it again", at);
        }
        return None;
    };
    notes.used(&directory, format!("{kind}: a site"), at.clone());
    let manager = packages.manager(root, notes);
    let output = &build["options"]["outputPath"];
    let said = output.as_str().or_else(|| output["base"].as_str());
    let said = said.map(|said| said.replace("{workspaceRoot}", ".").replace("{projectRoot}", &path::from(&root.directory, &directory)));
    let config = || {
        let (text, config) = script(tree, &directory, "vite.config")?;
        let (output, _, at) = out_dir(&config, &text)?;
        Some((path::normal(&format!("{directory}/{output}"))?, at))
    };
    let by_project =
        said.and_then(|said| Some((path::normal(&format!("{}/{said}", root.directory))?, place_of(file, text, "\"outputPath\""))));
    let answer = notes.answers.get(Topic::Output, &directory).map(|output| (path::join(&directory, output), Place::file(file)));
    let (full, said) = answer.or(by_project).or_else(config).unwrap_or_else(|| (path::join(&directory, "dist"), at.clone()));
    // <https://angular.dev/reference/configs/workspace-config>
    let full = if angular && executor.ends_with(":application") { format!("{full}/browser") } else { full };
    let from_root = path::from(&root.directory, &full);
    notes.used(&directory, format!("its build writes `{from_root}`"), said);
    let build = command(&manager, json["name"].as_str().unwrap_or_else(|| path::name(&directory)));
    Some(Unit::Site(Site {
        name: String::new(),
        directory,
        kind: kind.to_owned(),
        at,
        path: root.directory.clone(),
        source: Source::Build(build),
        output: from_root,
        prefix: String::new(),
        unset: Vec::new(),
    }))
}

fn command(manager: &Manager, project: &str) -> String {
    let program = manager.program();
    let run = match manager.tool {
        Tool::Npm => "exec -- nx",
        Tool::Pnpm => "exec nx",
        Tool::Yarn | Tool::Berry => "nx",
        Tool::Bun => "x nx",
    };
    format!("{program} {} && {program} {run} build {}", manager.install(), path::shell(project))
}
