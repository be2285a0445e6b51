//! The packages of a Python project, and which tool installs them.

use std::sync::LazyLock;

use regex::Regex;

use super::tree::{Tree, line_at, place_of};
use super::{DetectError, Notes, Place, Topic, path};

/// A tool that installs a project's packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Pip,
    Uv,
    Poetry,
    Pdm,
    Pipenv,
}

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Uv => "uv",
            Self::Poetry => "poetry",
            Self::Pdm => "pdm",
            Self::Pipenv => "pipenv",
        }
    }
}

/// A package that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name, normal: lower case, with `-`. <https://packaging.python.org/en/latest/specifications/name-normalization/>
    pub(super) name: String,
    pub(super) extras: String,
    pub(super) at: Place,
}

/// What a project asks for, and how it is installed.
#[derive(Debug, Clone)]
pub(super) struct Requirements {
    pub(super) tool: Tool,
    /// The directory in which the lists lie.
    pub(super) directory: String,
    /// The list that is installed from, and what belongs to it.
    pub(super) files: Vec<String>,
    pub(super) locked: bool,
    pub(super) wanted: Vec<Wanted>,
    /// Directories of the checkout that are packages of the list.
    pub(super) local: Vec<String>,
    /// The member of a workspace that is installed, by its name; all of the project otherwise.
    pub(super) member: Option<String>,
}

impl Requirements {
    pub(super) fn has(&self, name: &str) -> Option<&Wanted> {
        self.wanted.iter().find(|wanted| wanted.name == name)
    }
}

static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?").ok());

/// What the project in `directory` asks for: the lists in it, or in the nearest directory above that has one.
pub(super) fn requirements(directory: &str, notes: &mut Notes<'_>) -> Result<Option<Requirements>, DetectError> {
    let tree = notes.tree;
    for place in path::upwards(directory) {
        let lists = lists(tree, &place)?;
        let Some((first, _)) = lists.first().cloned() else { continue };
        let answer = notes.answers.get(Topic::Python, directory).map(str::to_owned);
        let chosen = match answer {
            Some(answer) => lists.iter().find(|(tool, _)| tool.name() == answer).map_or(first, |(tool, _)| *tool),
            None if lists.len() > 1 => {
                let names: Vec<String> = lists.iter().map(|(_, file)| format!("`{}`", path::name(file))).collect();
                let what = format!("{} both list packages", names.join(" and "));
                let choices = lists.iter().map(|(tool, file)| (tool.name().to_owned(), Place::file(file))).collect();
                if !notes.questions.iter().any(|question| question.topic == Topic::Python && question.directory == place) {
                    notes.ask(Topic::Python, &place, what, choices);
                }
                first
            }
            None => first,
        };
        let file = lists.iter().find(|(tool, _)| *tool == chosen).map(|(_, file)| file.clone()).unwrap_or_default();
        return read(tree, chosen, &place, &file).map(Some);
    }
    Ok(None)
}

/// The tools that a directory has a list for, each with the file that says so.
fn lists(tree: &Tree, directory: &str) -> Result<Vec<(Tool, String)>, DetectError> {
    let mut found = Vec::new();
    let plain = ["production", "prod", "live", "deploy", "main", "base", "common", "requirements"];
    let plain = plain
        .iter()
        .flat_map(|name| [format!("requirements/{name}.txt"), format!("requirements-{name}.txt"), format!("requirements_{name}.txt")]);
    let plain: Vec<String> = std::iter::once("requirements.txt".to_owned()).chain(plain).collect();
    found.extend(tree.first(directory, &plain.iter().map(String::as_str).collect::<Vec<_>>()).map(|file| (Tool::Pip, file)));
    let project = path::join(directory, "pyproject.toml");
    if tree.has(&project) {
        let table = toml(tree, &project)?;
        for (tool, lock) in [(Tool::Uv, "uv.lock"), (Tool::Poetry, "poetry.lock"), (Tool::Pdm, "pdm.lock")] {
            let lock = path::join(directory, lock);
            found.extend(tree.has(&lock).then_some((tool, lock)));
        }
        let locked = found.iter().any(|(tool, _)| *tool != Tool::Pip);
        let tools = table.get("tool");
        let asked = |name: &str| tools.and_then(|tools| tools.get(name)).is_some();
        let lists = table.get("project").is_some_and(|project| project.get("dependencies").is_some());
        if !locked && asked("poetry") {
            found.push((Tool::Poetry, project));
        } else if !locked && lists && found.is_empty() {
            found.push((Tool::Uv, project));
        }
    }
    let pipfile = path::join(directory, "Pipfile");
    found.extend(tree.has(&pipfile).then_some((Tool::Pipenv, pipfile)));
    Ok(found)
}

fn toml(tree: &Tree, file: &str) -> Result<toml::Table, DetectError> {
    let text = tree.text(file).unwrap_or_default();
    text.parse().map_err(|error: toml::de::Error| DetectError::Wrong {
        at: Place::line(file, error.span().map_or(1, |span| line_at(&text, span.start.min(text.len())))),
        what: format!("this is no TOML: {}", error.message()),
    })
}

fn read(tree: &Tree, tool: Tool, directory: &str, file: &str) -> Result<Requirements, DetectError> {
    let mut files = vec![file.to_owned()];
    let (mut wanted, mut paths) = (Vec::new(), Vec::new());
    let (mut root, mut member) = (directory.to_owned(), None);
    match tool {
        Tool::Pip => {
            files.clear();
            listed(tree, file, &mut files, &mut wanted, &mut paths);
        }
        Tool::Pipenv => {
            let lock = path::join(directory, "Pipfile.lock");
            files.extend(tree.has(&lock).then_some(lock));
            let table = toml(tree, file)?;
            keys(tree, file, table.get("packages"), &mut wanted);
            paths.extend(paths_of(table.get("packages")));
        }
        Tool::Uv | Tool::Poetry | Tool::Pdm => {
            let project = path::join(directory, "pyproject.toml");
            if !files.contains(&project) {
                files.insert(0, project.clone());
            }
            let table = toml(tree, &project)?;
            let text = tree.text(&project).unwrap_or_default();
            let list = table.get("project").and_then(|project| project.get("dependencies")).and_then(toml::Value::as_array);
            for line in list.into_iter().flatten().filter_map(toml::Value::as_str) {
                wanted.extend(parse(line, place_of(&project, &text, line)));
            }
            let tools = table.get("tool");
            let poetry = tools.and_then(|tools| tools.get("poetry")?.get("dependencies"));
            keys(tree, &project, poetry, &mut wanted);
            paths.extend(paths_of(poetry).into_iter().chain(paths_of(tools.and_then(|tools| tools.get("uv")?.get("sources")))));
            if let Some(workspace) = workspace(tree, directory).filter(|_| tool == Tool::Uv && path::ending(file) != "lock") {
                files = [path::join(&workspace, "pyproject.toml"), path::join(&workspace, "uv.lock"), project].into();
                root = workspace;
                member = table.get("project").and_then(|project| Some(project.get("name")?.as_str()?.to_owned()));
            }
        }
    }
    let local = paths.iter().filter_map(|local| path::normal(&format!("{directory}/{local}"))).collect();
    let locked = match tool {
        Tool::Pip => true,
        Tool::Pipenv => files.len() > 1,
        Tool::Uv | Tool::Poetry | Tool::Pdm => files.iter().any(|file| path::ending(file) == "lock"),
    };
    Ok(Requirements { tool, directory: root, files, locked, wanted, local, member })
}

/// The directory above whose `uv.lock` is that of a workspace. <https://docs.astral.sh/uv/concepts/projects/workspaces/>
fn workspace(tree: &Tree, directory: &str) -> Option<String> {
    let is_root = |place: &&String| {
        let table = toml(tree, &path::join(place, "pyproject.toml")).unwrap_or_default();
        tree.has(&path::join(place, "uv.lock"))
            && table.get("tool").is_some_and(|tools| tools.get("uv").is_some_and(|uv| uv.get("workspace").is_some()))
    };
    path::upwards(directory).iter().skip(1).find(is_root).cloned()
}

/// The directories that a table of packages names: `common = {path = "../common"}`.
fn paths_of(table: Option<&toml::Value>) -> Vec<String> {
    let all = table.and_then(toml::Value::as_table).into_iter().flatten();
    all.filter_map(|(_, value)| Some(value.get("path")?.as_str()?.to_owned())).collect()
}

fn keys(tree: &Tree, file: &str, table: Option<&toml::Value>, wanted: &mut Vec<Wanted>) {
    let text = tree.text(file).unwrap_or_default();
    for (name, value) in table.and_then(toml::Value::as_table).into_iter().flatten().filter(|(name, _)| *name != "python") {
        let extras = value.get("extras").and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_str);
        let extras = extras.collect::<Vec<_>>().join(",");
        let line = text.lines().position(|line| line.trim_start().trim_start_matches('"').starts_with(name.as_str()));
        let at = line.map_or_else(|| Place::file(file), |line| Place::line(file, line + 1));
        wanted.push(Wanted { name: normal(name), extras, at });
    }
}

/// <https://pip.pypa.io/en/stable/reference/requirements-file-format/>
fn listed(tree: &Tree, file: &str, files: &mut Vec<String>, wanted: &mut Vec<Wanted>, paths: &mut Vec<String>) {
    if files.iter().any(|known| known == file) {
        return;
    }
    let Some(text) = tree.text(file) else { return };
    files.push(file.to_owned());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let other = ["-r ", "--requirement ", "-c ", "--constraint "].iter().find_map(|flag| line.strip_prefix(flag));
        if let Some(other) = other.and_then(|other| path::normal(&format!("{}/{}", path::parent(file), other.trim()))) {
            listed(tree, &other, files, wanted, paths);
        } else if let Some(local) = local(line) {
            paths.push(local);
        } else if !line.starts_with(['-', '#']) {
            wanted.extend(parse(line, Place::line(file, number + 1)));
        }
    }
}

/// The directory that a line names: `-e ../common`, `./common`, `common @ file:../common`.
fn local(line: &str) -> Option<String> {
    let flag = ["-e ", "--editable ", "--editable="].iter().find_map(|flag| line.strip_prefix(flag));
    let path = flag.or_else(|| line.split_once(" @ ").map(|(_, url)| url)).unwrap_or(line).trim();
    let path = path.strip_prefix("file:").unwrap_or(path);
    let path = path.split(['[', '#', ';', ' ']).next().unwrap_or(path);
    let is_path = path == "."
        || path.starts_with("./")
        || path.starts_with("../")
        || (flag.is_some() && !path.contains("://") && !path.starts_with('/'));
    is_path.then(|| path.to_owned())
}

fn parse(line: &str, at: Place) -> Option<Wanted> {
    let found = NAME.as_ref()?.captures(line.trim())?;
    Some(Wanted { name: normal(&found[1]), extras: found.get(2).map_or("", |extras| extras.as_str()).to_owned(), at })
}

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// The version of Python that a project asks for, and where that stands.
pub(super) fn version(tree: &Tree, directory: &str, requirements: &Requirements) -> Option<(String, Place)> {
    let short = |text: &str| {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let mut parts = text[start..].split(|c: char| !c.is_ascii_digit());
        let (major, minor) = (parts.next()?, parts.next()?);
        (major == "3" && !minor.is_empty()).then(|| format!("3.{minor}"))
    };
    let mut places = path::upwards(directory);
    places.dedup();
    for place in &places {
        for name in [".python-version", "runtime.txt"] {
            let file = path::join(place, name);
            if let Some(version) = tree.text(&file).as_deref().and_then(short) {
                return Some((version, Place::line(&file, 1)));
            }
        }
    }
    let project = path::join(&requirements.directory, "pyproject.toml");
    let pipfile = path::join(&requirements.directory, "Pipfile");
    let text = tree.text(&project).unwrap_or_default();
    let pattern = Regex::new(r#"(?m)^\s*(?:requires-python|python)\s*=\s*["']([^"']+)["']"#).ok()?;
    let pip = Regex::new(r#"(?m)^\s*python(?:_full)?_version\s*=\s*["']([^"']+)["']"#).ok()?;
    let hit = super::tree::search(&project, &text, &pattern)
        .or_else(|| super::tree::search(&pipfile, &tree.text(&pipfile).unwrap_or_default(), &pip))?;
    // `>=3.10` names the oldest: it is the one that surely works.
    Some((short(&hit.0)?, hit.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_its_name() {
        let wanted = |line: &str| parse(line, Place::file("x")).map(|wanted| (wanted.name, wanted.extras));
        assert_eq!(wanted("Django>=5.2,<6 # web"), Some(("django".into(), String::new())));
        assert_eq!(wanted("psycopg[binary]==3.2"), Some(("psycopg".into(), "binary".into())));
        assert_eq!(wanted("django_stubs"), Some(("django-stubs".into(), String::new())));
        assert_eq!(wanted(""), None);
        let local = |line: &str| local(line);
        assert_eq!((local("-e ../../libs/common[s3]"), local("./thing ; x")), (Some("../../libs/common".into()), Some("./thing".into())));
        assert_eq!((local("-e git+https://x/y#egg=y"), local("common @ file:../c"), local("django")), (None, Some("../c".into()), None));
    }
}
