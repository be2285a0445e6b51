//! What a site's build may read outside of the site's directory: packages of its workspace, and what its sources name by `../`.
//!
//! What a build reads nobody can know beforehand. So this takes in rather more than less: a build that is run once too often costs
//! time, one that is left out leaves an old site live. What is named neither by a workspace nor by `../` is not found.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// Larger files are no sources that name others.
const LARGEST: u64 = 1 << 20;

/// Files of a workspace's tools, which know of packages that no `package.json` names.
const OWN_GRAPH: &[&str] = &["nx.json", "rush.json", "moon.yml", ".moon"];

/// What builds fill, by convention; it follows from the rest where Git passes over it too.
const BUILT: &[&str] = &["dist", "build", "out", "lib", "target", ".venv", "venv", "__pycache__", "tmp"];

/// Endings of files in which a command, rather than an import, is what names a path: it counts from where the build runs.
const SCRIPTS: &[&str] = &["sh", "bash", "yml", "yaml", "mk", "Makefile", "makefile", "justfile", "package.json"];

/// Endings of files that name others.
const SOURCES: &[&str] = &[
    "js",
    "cjs",
    "mjs",
    "jsx",
    "ts",
    "cts",
    "mts",
    "tsx",
    "vue",
    "svelte",
    "astro",
    "css",
    "scss",
    "sass",
    "less",
    "styl",
    "html",
    "htm",
    "json",
    "jsonc",
    "json5",
    "toml",
    "mdx",
    "pug",
    "graphql",
    "gql",
    "proto",
    "env",
    "babelrc",
    "swcrc",
    "postcssrc",
];

/// The files and directories in `root`, outside of `directory`, that its build may read, none within another; `root` itself where that
/// cannot be told. `skipped` are the entries that follow from others.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn outside(root: &Path, directory: &Path, command: &str, skipped: &dyn Fn(&DirEntry) -> bool) -> io::Result<BTreeSet<PathBuf>> {
    let (root, directory) = (cleaned(root)?, cleaned(directory)?);
    if directory == root || !directory.starts_with(&root) {
        return Ok(BTreeSet::new());
    }
    let mut search = Search { root, directory: directory.clone(), found: BTreeSet::new(), open: vec![directory.clone()] };
    for name in named(command) {
        search.refers(&directory, name);
    }
    search.workspace(skipped)?;
    while let Some(top) = search.open.pop() {
        for entry in WalkDir::new(&top).into_iter().filter_entry(|entry| !skipped(entry)) {
            let entry = entry.map_err(io::Error::other)?;
            let link = entry.path_is_symlink();
            if link {
                let target = std::fs::read_link(entry.path())?.to_string_lossy().into_owned();
                search.refers(entry.path().parent().unwrap_or(&top), &target);
            }
            let (is_source, is_script) = (ends(entry.path(), SOURCES), ends(entry.path(), SCRIPTS));
            let small = entry.metadata().is_ok_and(|metadata| metadata.len() <= LARGEST);
            if link || !entry.file_type().is_file() || !(is_source || is_script) || !small {
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
            for name in named(&text) {
                search.refers(entry.path().parent().unwrap_or(&top), name);
                if is_script {
                    search.refers(&directory, name);
                }
            }
            if entry.depth() == 0 && search.root == *entry.path().parent().unwrap_or(&top) && text.contains("\"paths\"") {
                // Aliases of TypeScript for packages that nobody names otherwise.
                search.found.insert(search.root.clone());
            }
            if search.found.contains(&search.root) {
                return Ok(BTreeSet::from([search.root]));
            }
        }
    }
    Ok(search.found)
}

/// Does what is there at the top of a workspace reach every build in it? A plan or a result that was written there does not.
pub(super) fn configures(name: &str) -> bool {
    let stem = name.trim_start_matches('.');
    name == "package.json"
        || name.starts_with(".env")
        || stem.contains(".config.")
        || stem.split('.').next().is_some_and(|stem| stem.ends_with("rc") || stem.starts_with("tsconfig") || stem.starts_with("jsconfig"))
        || matches!(name, "nx.json" | "turbo.json" | "lerna.json" | "rush.json" | "deno.json" | "Makefile" | "makefile" | "justfile")
        || ends(Path::new(name), &["sh", "bash", "mk"])
}

/// The directories of the tree at `root` that builds fill and that Git passes over.
pub(super) fn built(root: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let name = |line: &str| line.trim().trim_start_matches("**/").trim_matches('/').to_owned();
    let always = ["__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".tox"].map(str::to_owned);
    text.lines().map(name).filter(|name| BUILT.contains(&name.as_str())).chain(always).collect()
}

struct Search {
    root: PathBuf,
    directory: PathBuf,
    found: BTreeSet<PathBuf>,
    /// What is still to be looked through.
    open: Vec<PathBuf>,
}

impl Search {
    /// Takes in what `name` means, counted from `from`, if that is neither within the site nor outside of the root.
    fn refers(&mut self, from: &Path, name: &str) {
        let Ok(target) = cleaned(&from.join(name)) else { return };
        if target.starts_with(&self.directory) || !target.starts_with(&self.root) {
            return;
        }
        if self.directory.starts_with(&target) {
            // What is above the site is all that there is.
            self.found.insert(self.root.clone());
        } else if target.exists() {
            self.take(&target);
        } else if let (Some(parent), Some(stem)) = (target.parent(), target.file_name()) {
            // An import leaves the ending out.
            let stem = format!("{}.", stem.to_string_lossy());
            let siblings = std::fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
            for sibling in siblings.filter(|sibling| sibling.file_name().to_string_lossy().starts_with(&stem)) {
                self.take(&sibling.path());
            }
        }
    }

    /// Takes in a file or a directory: the whole package, if it is a piece of one.
    fn take(&mut self, target: &Path) {
        let packages = target.ancestors().skip(1).take_while(|above| **above != self.root && !self.directory.starts_with(above));
        let target = packages.filter(|above| above.join("package.json").is_file()).last().unwrap_or(target).to_owned();
        if !self.found.iter().any(|known| target.starts_with(known)) {
            self.found.retain(|known| !known.starts_with(&target));
            self.open.push(target.clone());
            self.found.insert(target);
        }
    }

    /// Takes in the packages of a workspace that the site's own package depends on, directly or through others.
    fn workspace(&mut self, skipped: &dyn Fn(&DirEntry) -> bool) -> io::Result<()> {
        let above = self.directory.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
        let Some(top) = above.filter(|above| is_workspace(above)).last().map(Path::to_owned) else { return Ok(()) };
        let own_graph = OWN_GRAPH.iter().any(|name| top.join(name).exists()) || names_paths(&top);
        let Some(own) = manifest(&self.directory).filter(|_| !own_graph) else {
            self.found.insert(self.root.clone());
            return Ok(());
        };
        let mut packages: BTreeMap<String, (PathBuf, serde_json::Value)> = BTreeMap::new();
        for entry in WalkDir::new(&top).into_iter().filter_entry(|entry| !skipped(entry)) {
            let entry = entry.map_err(io::Error::other)?;
            let folder = entry.path().parent().unwrap_or(&top);
            if entry.file_name() == "package.json"
                && let Some(package) = manifest(folder)
                && let Some(name) = package.get("name").and_then(serde_json::Value::as_str)
            {
                packages.insert(name.to_owned(), (folder.to_owned(), package));
            }
        }
        let mut waiting = dependencies(&own);
        while let Some(name) = waiting.pop() {
            if let Some((folder, package)) = packages.remove(&name).filter(|(folder, _)| *folder != self.directory && *folder != top) {
                waiting.extend(dependencies(&package));
                self.take(&folder);
            }
        }
        for name in std::fs::read_dir(&top)?.filter_map(Result::ok).map(|entry| entry.path()) {
            if name.is_file() && name.file_name().is_some_and(|name| configures(&name.to_string_lossy())) {
                self.take(&name);
            }
        }
        Ok(())
    }
}

/// npm's, Yarn's and Bun's workspaces stand in `package.json`, other tools have files of their own.
fn is_workspace(folder: &Path) -> bool {
    ["pnpm-workspace.yaml", "lerna.json", "turbo.json"].iter().chain(OWN_GRAPH).any(|name| folder.join(name).exists())
        || manifest(folder).is_some_and(|package| package.get("workspaces").is_some())
}

/// Do aliases of TypeScript stand at the top, for packages that nobody declares?
fn names_paths(top: &Path) -> bool {
    ["tsconfig.json", "tsconfig.base.json"]
        .iter()
        .any(|name| std::fs::read_to_string(top.join(name)).is_ok_and(|text| text.contains("\"paths\"")))
}

fn manifest(folder: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(folder.join("package.json")).ok()?).ok()
}

fn dependencies(package: &serde_json::Value) -> Vec<String> {
    ["dependencies", "devDependencies", "peerDependencies", "optionalDependencies"]
        .iter()
        .filter_map(|kind| package.get(kind)?.as_object())
        .flat_map(|names| names.keys().cloned())
        .collect()
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    endings.iter().any(|ending| name.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// The paths in a text that begin with `..`.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let begins = move |at: &usize| {
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        let after = bytes.get(at + 2).copied().unwrap_or(b' ');
        let word = |byte: u8| byte == b'.' || byte.is_ascii_alphanumeric();
        !word(before) && !word(after) && !text[..*at].ends_with("../")
    };
    text.match_indices("..").map(|(at, _)| at).filter(begins).map(|at| {
        let rest = &text[at..];
        let end = rest.find(|c: char| c.is_whitespace() || "'\"`()[]{}<>,;:|&*?$#\\=".contains(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}

/// An absolute path without `.` and `..`, without a look at the disk.
pub(super) fn cleaned(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    Ok(clean)
}
