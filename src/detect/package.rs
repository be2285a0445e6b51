//! `package.json`, workspaces, and which package manager installs what.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tree::{Tree, place_of};
use super::{DetectError, Notes, Place, Topic, path};

/// A directory with a `package.json`.
#[derive(Debug, Clone)]
pub(super) struct Package {
    pub(super) directory: String,
    pub(super) file: String,
    pub(super) text: String,
    pub(super) json: Value,
}

impl Package {
    /// Reads every `package.json`.
    pub(super) fn all(tree: &Tree) -> Result<Vec<Self>, DetectError> {
        let files = tree.files().filter(|file| path::name(file) == "package.json");
        files.map(|file| Self::read(tree, file)).collect()
    }

    fn read(tree: &Tree, file: &str) -> Result<Self, DetectError> {
        let text = tree.text(file).unwrap_or_default();
        let json = serde_json::from_str(&text)
            .map_err(|error| DetectError::Wrong { at: Place::line(file, error.line()), what: format!("this is no JSON: {error}") })?;
        Ok(Self { directory: path::parent(file).to_owned(), file: file.to_owned(), text, json })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.json["name"].as_str()
    }

    pub(super) fn script(&self, name: &str) -> Option<&str> {
        self.json["scripts"][name].as_str()
    }

    /// A dependency's wanted version, whatever kind of dependency it is.
    pub(super) fn dependency(&self, name: &str) -> Option<&str> {
        ["dependencies", "devDependencies", "optionalDependencies"].into_iter().find_map(|kind| self.json[kind][name].as_str())
    }

    /// Is one of its dependencies a directory or a file of the checkout?
    pub(super) fn has_own_files(&self) -> bool {
        let kinds = ["dependencies", "devDependencies"].into_iter().filter_map(|kind| self.json[kind].as_object());
        let own = ["file:", "link:", "portal:"];
        kinds.flatten().filter_map(|(_, version)| version.as_str()).any(|version| own.iter().any(|scheme| version.starts_with(scheme)))
    }

    /// Every dependency's name.
    pub(super) fn dependencies(&self) -> impl Iterator<Item = &str> {
        let kinds = ["dependencies", "devDependencies"].into_iter();
        kinds.filter_map(|kind| self.json[kind].as_object()).flatten().map(|(name, _)| name.as_str())
    }

    /// Where `"key":` stands.
    pub(super) fn place(&self, key: &str) -> Place {
        let quoted = format!("\"{key}\"");
        let is_key = |(at, _): &(usize, &str)| self.text[at + quoted.len()..].trim_start().starts_with(':');
        let at = self.text.match_indices(&quoted).find(is_key).map(|(at, _)| at);
        at.map_or_else(|| Place::file(&self.file), |at| Place::line(&self.file, super::tree::line_at(&self.text, at)))
    }

    /// The patterns of `workspaces`.
    fn workspaces(&self, tree: &Tree) -> Vec<String> {
        let listed = if self.json["workspaces"].is_array() { &self.json["workspaces"] } else { &self.json["workspaces"]["packages"] };
        let mut patterns: Vec<String> = listed.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let file = path::join(&self.directory, "pnpm-workspace.yaml");
        if let Some(root) = tree.text(&file).and_then(|text| crate::model::yaml::parse(&text).ok())
            && let Some(crate::model::yaml::Value::Sequence(items)) = root.get("packages").map(|node| &node.value)
        {
            patterns.extend(items.iter().filter_map(scalar));
        }
        patterns
    }
}

fn scalar(node: &crate::model::yaml::Node) -> Option<String> {
    match &node.value {
        crate::model::yaml::Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Npm,
    Pnpm,
    Yarn,
    /// Yarn 2 and later.
    Berry,
    Bun,
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn | Self::Berry => "yarn",
            Self::Bun => "bun",
        }
    }
}

/// How the packages of a directory are installed.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    pub(super) tool: Tool,
    /// The version, if a file names one.
    pub(super) version: Option<String>,
    /// The directory in which packages are installed: a workspace's root, or the package's own.
    pub(super) root: String,
    /// Is there a lockfile to hold to?
    pub(super) locked: bool,
    /// Files that an installation reads, beside each `package.json`; and directories, with `/` at their end.
    pub(super) files: Vec<String>,
}

impl Manager {
    /// The program: what a machine that has Node alone can run. <https://docs.npmjs.com/cli/commands/npx>
    pub(super) fn program(&self) -> String {
        let version = |default: &str| self.version.clone().unwrap_or_else(|| default.to_owned());
        match self.tool {
            Tool::Npm => "npm".to_owned(),
            Tool::Pnpm => format!("npx --yes pnpm@{}", version("10")),
            Tool::Yarn => format!("npx --yes yarn@{}", version("1")),
            Tool::Berry => format!("npx --yes --package=@yarnpkg/cli-dist@{} yarn", version("4")),
            Tool::Bun => format!("npx --yes bun@{}", version("1")),
        }
    }

    /// What an image needs to have the program; `None` where Node brings it.
    pub(super) fn global(&self) -> Option<String> {
        let package = match self.tool {
            Tool::Npm => return None,
            Tool::Pnpm => format!("pnpm@{}", self.version.as_deref().unwrap_or("10")),
            Tool::Yarn => format!("yarn@{}", self.version.as_deref().unwrap_or("1")),
            Tool::Berry => format!("@yarnpkg/cli-dist@{}", self.version.as_deref().unwrap_or("4")),
            Tool::Bun => format!("bun@{}", self.version.as_deref().unwrap_or("1")),
        };
        // The official image brings a yarn of its own.
        Some(format!("npm install --global --force {package}"))
    }

    /// The arguments that install exactly what is locked; what a build needs counts, too.
    pub(super) fn install(&self) -> &'static str {
        match (self.tool, self.locked) {
            (Tool::Npm, true) => "ci",
            (Tool::Npm | Tool::Bun | Tool::Yarn, false) => "install",
            (Tool::Pnpm | Tool::Yarn | Tool::Bun, true) => "install --frozen-lockfile",
            (Tool::Pnpm, false) => "install --no-frozen-lockfile",
            (Tool::Berry, true) => "install --immutable",
            // In CI, which forbids it otherwise.
            (Tool::Berry, false) => "install --no-immutable",
        }
    }
}

/// The packages of a checkout, with the workspaces that they make up.
pub(super) struct Packages {
    pub(super) all: Vec<Package>,
    /// The workspace's root for each member.
    roots: BTreeMap<String, String>,
}

impl Packages {
    pub(super) fn read(tree: &Tree) -> Result<Self, DetectError> {
        let all = Package::all(tree)?;
        let mut roots = BTreeMap::new();
        for root in &all {
            let patterns = root.workspaces(tree);
            let matches = |pattern: &str, member: &str| {
                let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
                let glob = globset::GlobBuilder::new(pattern).literal_separator(true).build();
                glob.is_ok_and(|glob| glob.compile_matcher().is_match(member))
            };
            for member in all.iter().filter(|member| member.directory != root.directory && path::within(&member.directory, &root.directory))
            {
                let from = path::from(&root.directory, &member.directory);
                let (out, into): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|pattern| pattern.starts_with('!'));
                if into.iter().any(|pattern| matches(pattern, &from)) && !out.iter().any(|pattern| matches(&pattern[1..], &from)) {
                    roots.insert(member.directory.clone(), root.directory.clone());
                }
            }
        }
        Ok(Self { all, roots })
    }

    pub(super) fn at(&self, directory: &str) -> Option<&Package> {
        self.all.iter().find(|package| package.directory == directory)
    }

    /// The root of the workspace that a directory is a member of.
    pub(super) fn root(&self, directory: &str) -> Option<&str> {
        self.roots.get(directory).map(String::as_str)
    }

    /// Is it a workspace's root?
    pub(super) fn is_root(&self, directory: &str) -> bool {
        self.roots.values().any(|root| root == directory)
    }

    /// The members of the same workspace that a package depends on, each after those that it depends on itself.
    pub(super) fn local<'a>(&'a self, package: &'a Package) -> Vec<&'a Package> {
        let Some(root) = self.root(&package.directory) else { return Vec::new() };
        let members: Vec<&Package> = self.all.iter().filter(|other| self.root(&other.directory) == Some(root)).collect();
        let mut found = Vec::new();
        add(package, &members, &mut found, &mut vec![package.directory.as_str()]);
        found
    }

    /// Which package manager installs a package, and what says so.
    pub(super) fn manager(&self, package: &Package, notes: &mut Notes<'_>) -> Manager {
        let tree = notes.tree;
        let root = self.root(&package.directory).unwrap_or(&package.directory).to_owned();
        let holder = self.at(&root).unwrap_or(package);
        let lockfiles = lockfiles(tree, &root);
        let mut tools: Vec<Tool> = lockfiles.iter().map(|(tool, _)| *tool).collect();
        tools.dedup();
        let field = holder.json["packageManager"].as_str().and_then(declared);
        let place = holder.place("packageManager");
        let choices: Vec<(String, Place)> = lockfiles.iter().map(|(tool, file)| (tool.name().to_owned(), Place::file(file))).collect();
        let answer =
            notes.answers.get(Topic::PackageManager, &package.directory).or_else(|| notes.answers.get(Topic::PackageManager, &root));
        let answered = answer.and_then(|answer| named(answer, &tools));
        let mut version = field.as_ref().and_then(|(_, version)| version.clone());
        let tool = match (answered, &field, &tools[..]) {
            (Some(tool), ..) => {
                version = version.filter(|_| field.as_ref().is_some_and(|(declared, _)| *declared == tool));
                tool
            }
            (None, Some((declared, _)), []) => {
                notes.used(&package.directory, format!("`packageManager` says {}", declared.name()), place);
                *declared
            }
            (None, Some((declared, _)), tools) if tools.contains(declared) => {
                notes.used(&package.directory, format!("`packageManager` says {}", declared.name()), place);
                for (other, file) in lockfiles.iter().filter(|(tool, _)| tool != declared) {
                    let what = format!("a lockfile of {} that `packageManager` overrules: remove it", other.name());
                    notes.unused(&package.directory, what, Place::file(file));
                }
                *declared
            }
            (None, Some((declared, _)), tools) => {
                let mut choices = choices;
                choices.insert(0, (declared.name().to_owned(), place));
                let what = format!("`packageManager` says {}, and the lockfile is one of {}", declared.name(), tools[0].name());
                ask_once(notes, &root, what, choices);
                *declared
            }
            (None, None, [tool]) => *tool,
            (None, None, []) => Tool::Npm,
            (None, None, [tool, ..]) => {
                let tool = *tool;
                let names: Vec<String> = lockfiles.iter().map(|(_, file)| format!("`{}`", path::name(file))).collect();
                ask_once(notes, &root, format!("{} lie side by side", names.join(" and ")), choices);
                tool
            }
        };
        let lock = lockfiles.iter().find(|(other, _)| *other == tool);
        if let Some((_, file)) = lock {
            notes.used(&package.directory, format!("{} installs what is locked", tool.name()), Place::file(file));
        } else {
            let what = format!("no lockfile: {} installs what is newest on that day; commit one", tool.name());
            notes.unused(&package.directory, what, Place::file(&holder.file));
        }
        if version.is_none() && tool == Tool::Pnpm {
            version = lock.and_then(|(_, file)| pnpm_version(&tree.text(file)?));
        }
        let extras = [".npmrc", "pnpm-workspace.yaml", ".pnpmfile.cjs", ".yarnrc.yml", ".yarnrc", "bunfig.toml"];
        let extras = extras.iter().map(|name| path::join(&root, name)).filter(|file| tree.has(file));
        let folders = folders(tool).iter().map(|name| path::join(&root, name)).filter(|folder| tree.exists(folder));
        let files =
            lock.map(|(_, file)| file.clone()).into_iter().chain(extras).chain(folders.map(|folder| format!("{folder}/"))).collect();
        Manager { tool, version, locked: lock.is_some(), root, files }
    }
}

/// Directories that an installation reads: the program itself, its plugins, and patches of packages.
fn folders(tool: Tool) -> &'static [&'static str] {
    match tool {
        Tool::Berry => &[".yarn/releases", ".yarn/plugins", ".yarn/patches"],
        Tool::Pnpm | Tool::Bun => &["patches"],
        Tool::Npm | Tool::Yarn => &[],
    }
}

fn ask_once(notes: &mut Notes<'_>, root: &str, what: String, choices: Vec<(String, Place)>) {
    if !notes.questions.iter().any(|question| question.topic == Topic::PackageManager && question.directory == root) {
        notes.ask(Topic::PackageManager, root, what, choices);
    }
}

fn add<'a>(package: &Package, members: &[&'a Package], found: &mut Vec<&'a Package>, open: &mut Vec<&'a str>) {
    for member in members.iter().filter(|member| member.name().is_some_and(|name| package.dependency(name).is_some())) {
        if !open.contains(&member.directory.as_str()) {
            open.push(&member.directory);
            add(member, members, found, open);
            found.push(member);
        }
    }
}

/// The lockfiles of a directory.
fn lockfiles(tree: &Tree, directory: &str) -> Vec<(Tool, String)> {
    let known = [
        ("package-lock.json", Tool::Npm),
        ("npm-shrinkwrap.json", Tool::Npm),
        ("pnpm-lock.yaml", Tool::Pnpm),
        ("yarn.lock", Tool::Yarn),
        ("bun.lock", Tool::Bun),
        ("bun.lockb", Tool::Bun),
    ];
    let there = known.iter().map(|(name, tool)| (*tool, path::join(directory, name))).filter(|(_, file)| tree.has(file));
    let berry = |file: &str| tree.text(file).is_some_and(|text| text.contains("__metadata:"));
    there.map(|(tool, file)| (if tool == Tool::Yarn && berry(&file) { Tool::Berry } else { tool }, file)).collect()
}

/// `pnpm@9.1.0+sha512.…`. <https://nodejs.org/api/packages.html#packagemanager>
fn declared(field: &str) -> Option<(Tool, Option<String>)> {
    let (name, version) = field.split_once('@').map_or((field, None), |(name, version)| (name, Some(version)));
    let version = version.map(|version| version.split('+').next().unwrap_or(version).to_owned());
    let tool = match name {
        "npm" => Tool::Npm,
        "pnpm" => Tool::Pnpm,
        "bun" => Tool::Bun,
        "yarn" if version.as_ref().is_some_and(|version| !version.starts_with("1.") && version != "1") => Tool::Berry,
        "yarn" => Tool::Yarn,
        _ => return None,
    };
    Some((tool, version))
}

/// What a person calls it; which Yarn it is the lockfile says.
fn named(answer: &str, there: &[Tool]) -> Option<Tool> {
    match answer {
        "npm" => Some(Tool::Npm),
        "pnpm" => Some(Tool::Pnpm),
        "yarn" if there.contains(&Tool::Berry) => Some(Tool::Berry),
        "yarn" => Some(Tool::Yarn),
        "berry" => Some(Tool::Berry),
        "bun" => Some(Tool::Bun),
        _ => None,
    }
}

/// The oldest major version that reads a lockfile as it is. <https://github.com/pnpm/spec/tree/master/lockfile>
fn pnpm_version(lockfile: &str) -> Option<String> {
    let line = lockfile.lines().find_map(|line| line.strip_prefix("lockfileVersion:"))?;
    let format = line.trim().trim_matches(|c| c == '\'' || c == '"');
    let major = match format.split('.').next()? {
        "5" => "7",
        "6" => "8",
        _ => "10",
    };
    Some(major.to_owned())
}

/// The version of Node that a directory asks for: its major number, and where that stands. A range that is open takes `newest`.
pub(super) fn node_version(tree: &Tree, packages: &[&Package], newest: u32) -> Option<(u32, Place)> {
    for directory in packages.iter().map(|package| package.directory.as_str()).chain(["."]) {
        for name in [".nvmrc", ".node-version"] {
            let file = path::join(directory, name);
            let Some(text) = tree.text(&file) else { continue };
            let digits: String = text.trim().trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
            if let Ok(major) = digits.parse() {
                return Some((major, Place::line(&file, 1)));
            }
        }
    }
    packages.iter().find_map(|package| {
        let wanted = package.json["volta"]["node"].as_str().or_else(|| package.json["engines"]["node"].as_str())?;
        Some((major(wanted, newest)?, place_of(&package.file, &package.text, "\"node\"")))
    })
}

/// The newest major version that a range allows, and `newest` where nothing bounds it: `20 || 22`, `>=20.9`, `>=18 <23`.
fn major(range: &str, newest: u32) -> Option<u32> {
    let mut found = None;
    for part in range.split("||") {
        let number = |text: &str| text.trim_start_matches(['=', 'v', ' ']).split(['.', ' ', '-']).next()?.parse::<u32>().ok();
        let bound = part
            .split('<')
            .nth(1)
            .and_then(|rest| Some(if rest.starts_with('=') { number(rest)? } else { number(rest)?.checked_sub(1)? }));
        let open = part.contains('>') && bound.is_none();
        let least = number(part.trim().trim_start_matches(['^', '~', '>']));
        let best = bound.or(least.map(|least| if open { least.max(newest) } else { least }));
        found = found.max(best);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_names_tool_and_version() {
        assert_eq!(declared("pnpm@9.1.0+sha512.abc"), Some((Tool::Pnpm, Some("9.1.0".into()))));
        assert_eq!(declared("yarn@4.5.0").unwrap().0, Tool::Berry);
        assert_eq!(declared("yarn@1.22.22").unwrap().0, Tool::Yarn);
        assert_eq!(declared("deno@2"), None);
    }

    #[test]
    fn a_range_of_nodes_is_its_newest() {
        for (range, version) in
            [("22.x", 22), ("^20.11.0", 20), (">=18", 24), (">=20.9.0 <23", 22), ("18 || 20 || 22", 22), ("v22.1.0", 22), ("<=20", 20)]
        {
            assert_eq!(major(range, 24), Some(version), "{range}");
        }
    }
}
