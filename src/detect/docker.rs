//! Dockerfiles: what each says of its service, and which directory it is built from.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::tree::Tree;
use super::{Place, path};

/// A Dockerfile, as far as it says something about a service.
#[derive(Debug, Clone, Default)]
pub(super) struct Dockerfile {
    /// The file, from the checkout's root.
    pub(super) file: String,
    /// The stages: name (lower case; empty if none), image, line.
    pub(super) stages: Vec<Stage>,
    /// The platform of a `FROM`, and its line.
    pub(super) platform: Option<(String, usize)>,
    /// What it copies out of its context.
    pub(super) sources: Vec<String>,
    /// What holds at the end of the stage that is built.
    pub(super) end: End,
}

/// A stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) line: usize,
    end: End,
}

/// What holds at the end of a stage.
#[derive(Debug, Clone, Default)]
pub(super) struct End {
    /// What it exposes, and the line.
    pub(super) port: Option<(u16, usize)>,
    /// `CMD` or `ENTRYPOINT`, and the line.
    pub(super) command: Option<(String, usize)>,
    /// Variables of the image, with their lines.
    pub(super) env: BTreeMap<String, (String, usize)>,
    /// What it copies: from the context, to the image.
    pub(super) copies: Vec<(String, String)>,
    /// The directory that commands start in.
    pub(super) workdir: String,
    /// The line that runs `collectstatic`.
    pub(super) collects: Option<usize>,
    /// The path that its `HEALTHCHECK` asks for, and the line.
    pub(super) health: Option<(String, usize)>,
}

impl Dockerfile {
    pub(super) fn at(&self, line: usize) -> Place {
        Place::line(&self.file, line)
    }

    /// Takes the named stage for the one that is built; the last one is, otherwise.
    pub(super) fn select(&mut self, target: Option<&str>) {
        let stage = target.and_then(|target| self.stages.iter().find(|stage| stage.name == target));
        if let Some(stage) = stage.or(self.stages.last()) {
            self.end = stage.end.clone();
        }
    }

    /// Every Dockerfile of the checkout.
    pub(super) fn all(tree: &Tree) -> Vec<Self> {
        tree.files().filter(|file| is_dockerfile(path::name(file))).filter_map(|file| Some(parse(file, &tree.text(file)?))).collect()
    }

    /// The directory that it is built from: the nearest at or above its own in which all is that it copies.
    pub(super) fn context(&self, tree: &Tree) -> String {
        let own = path::parent(&self.file);
        let holds = |directory: &str| {
            self.sources.iter().all(|source| {
                // Patterns and variables say nothing.
                source.contains(['*', '?', '$', '['])
                    || path::normal(&format!("{directory}/{source}")).is_some_and(|file| tree.exists(&file))
            })
        };
        // What a build at the checkout's root has made of this directory.
        if own != "." && self.sources.iter().any(|source| source.trim_end_matches('/').ends_with(&format!("/{own}"))) {
            return ".".to_owned();
        }
        // `docker/api/Dockerfile` copies all of the directory above; the nearest would be the wrong one.
        let bare = !self.sources.is_empty() && self.sources.iter().all(|source| matches!(source.as_str(), "." | "./"));
        let alone = tree.inside(own).all(|file| is_dockerfile(path::name(file)) || path::name(file).starts_with('.'));
        let none_below = tree.below(own).all(|file| is_dockerfile(path::name(file)) || path::name(file).starts_with('.'));
        let up = path::upwards(own);
        let skip = usize::from(bare && alone && none_below && own != ".");
        let skip = if skip == 1 && path::name(path::parent(own)).contains("docker") { 2.min(up.len() - 1) } else { skip };
        up.iter().skip(skip).find(|directory| holds(directory)).cloned().unwrap_or_else(|| own.to_owned())
    }

    /// Where a directory of the context comes to lie in the image.
    pub(super) fn inside(&self, context: &str, directory: &str) -> Option<String> {
        let relative = path::from(context, directory);
        self.end.copies.iter().rev().find_map(|(from, to)| {
            let from = path::normal(from)?;
            path::within(&relative, &from).then(|| {
                let rest = path::from(&from, &relative);
                let to = absolute(&self.end.workdir, to);
                if rest == "." { to } else { format!("{}/{rest}", to.trim_end_matches('/')) }
            })
        })
    }
}

/// `Dockerfile`, `Dockerfile.prod`, `api.Dockerfile`, `Containerfile`.
pub(super) fn is_dockerfile(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let named = lower == "dockerfile" || lower == "containerfile" || lower.starts_with("dockerfile.") || lower.ends_with(".dockerfile");
    named && !matches!(path::ending(&lower), "dockerignore" | "md" | "j2")
}

/// A path of the image.
pub(super) fn absolute(workdir: &str, to: &str) -> String {
    let full = if to.starts_with('/') { to.to_owned() } else { format!("{workdir}/{to}") };
    match path::normal(&full).as_deref() {
        None | Some(".") => "/".to_owned(),
        Some(normal) => format!("/{normal}"),
    }
}

fn parse(file: &str, text: &str) -> Dockerfile {
    let mut found = Dockerfile { file: file.to_owned(), ..Dockerfile::default() };
    let mut arguments: BTreeMap<String, String> = BTreeMap::new();
    for (line, name, rest) in instructions(text) {
        if name == "ARG" {
            let rest = expanded(&rest, &arguments);
            arguments.extend(variables(&rest));
            continue;
        }
        // A command's variables are those of its container.
        let rest = if matches!(name.as_str(), "RUN" | "CMD" | "ENTRYPOINT" | "HEALTHCHECK") { rest } else { expanded(&rest, &arguments) };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let plain: Vec<&str> = words.iter().filter(|word| !word.starts_with("--")).copied().collect();
        if name == "FROM" {
            let platform = words.iter().find_map(|word| word.strip_prefix("--platform=")).filter(|platform| platform.starts_with("linux/"));
            found.platform = platform.map(|platform| (platform.to_owned(), line)).or(found.platform);
            let stage = plain.get(2).filter(|_| plain.get(1).is_some_and(|word| word.eq_ignore_ascii_case("as")));
            let image = plain.first().copied().unwrap_or_default();
            // A stage goes on where the one that it is made of has stopped.
            let base = found.stages.iter().rev().find(|stage| !stage.name.is_empty() && stage.name == image.to_lowercase());
            let end = base.map_or_else(|| End { workdir: "/".to_owned(), ..End::default() }, |base| base.end.clone());
            found.stages.push(Stage { name: stage.map_or(String::new(), |name| name.to_lowercase()), image: image.to_owned(), line, end });
            continue;
        }
        let Dockerfile { stages, sources, .. } = &mut found;
        let Some(Stage { end, .. }) = stages.last_mut() else { continue };
        match name.as_str() {
            "WORKDIR" => end.workdir = absolute(&end.workdir, rest.trim_matches('"')),
            "EXPOSE" => {
                let port = words.first().and_then(|word| word.split('/').next()?.parse().ok());
                end.port = port.map(|port| (port, line)).or(end.port);
            }
            "CMD" => end.command = Some((rest, line)),
            "ENTRYPOINT" if end.command.is_none() => end.command = Some((rest, line)),
            "ENV" => {
                arguments.extend(variables(&rest));
                end.env.extend(variables(&rest).into_iter().map(|(name, value)| (name, (value, line))));
            }
            "RUN" if rest.contains("collectstatic") => end.collects = Some(line),
            "COPY" | "ADD" if words.iter().any(|word| word.starts_with("--from=")) => {
                // What another stage has built may be the very directory that was copied into it.
                if let [_, to] = plain[..]
                    && absolute(&end.workdir, to) == end.workdir
                {
                    end.copies.push((".".to_owned(), to.to_owned()));
                }
            }
            "COPY" | "ADD" => copy(end, sources, &rest, &plain),
            "HEALTHCHECK" => {
                let url = rest.split(['"', '\'', ' ', ',']).find(|word| word.contains("://localhost") || word.contains("://127.0.0.1"));
                let path = url.and_then(|url| url.split_once("://")).and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
                end.health = path.filter(|path| path.len() > 1).map(|path| (path.to_owned(), line)).or(end.health.take());
            }
            _ => {}
        }
    }
    found.select(None);
    found
}

/// With the values of the variables that have one: `$NAME`, `${NAME}`, `${NAME:-else}`.
fn expanded(text: &str, values: &BTreeMap<String, String>) -> String {
    static VARIABLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))").ok());
    let Some(pattern) = VARIABLE.as_ref() else { return text.to_owned() };
    let value = |found: &regex::Captures<'_>| {
        let name = found.get(1).or_else(|| found.get(3)).map_or("", |name| name.as_str());
        let value = values.get(name).map(String::as_str).or_else(|| found.get(2).map(|other| other.as_str()));
        value.unwrap_or(&found[0]).to_owned()
    };
    pattern.replace_all(text, value).into_owned()
}

fn copy(end: &mut End, all: &mut Vec<String>, rest: &str, plain: &[&str]) {
    let listed: Vec<String> = match rest.find('[').filter(|_| plain.first().is_some_and(|word| word.starts_with('['))) {
        Some(at) => serde_json::from_str(&rest[at..]).unwrap_or_default(),
        None => plain.iter().map(|word| word.trim_matches('"').to_owned()).collect(),
    };
    let Some((to, sources)) = listed.split_last() else { return };
    if sources.iter().any(|source| source.starts_with("<<")) {
        return;
    }
    for source in sources.iter().filter(|source| !source.contains("://")) {
        all.push(source.clone());
        // Where it lies is said from the directory of that moment, which may be another one later.
        end.copies.push((source.clone(), absolute(&end.workdir, to)));
    }
}

fn variables(rest: &str) -> Vec<(String, String)> {
    if let Some((name, value)) = rest.split_once(char::is_whitespace).filter(|(name, _)| !name.contains('=')) {
        return vec![(name.to_owned(), value.trim().to_owned())];
    }
    let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// The instructions, each on one line: the line it begins on, its name and the rest.
fn instructions(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (start, mut joined) = open.take().unwrap_or((number + 1, String::new()));
        if let Some(begun) = trimmed.strip_suffix('\\') {
            joined.push_str(begun);
            joined.push(' ');
            open = Some((start, joined));
            continue;
        }
        joined.push_str(trimmed);
        if let Some((name, rest)) = joined.split_once(char::is_whitespace) {
            found.push((start, name.to_ascii_uppercase(), rest.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dockerfile_says_is_read() {
        let text = "FROM --platform=linux/arm64 python:3.12 AS build\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install \\\n  -r requirements.txt\nCOPY . .\nFROM build AS production\nENV DJANGO_SETTINGS_MODULE=shop.settings A=b\nRUN python manage.py collectstatic --no-input\nEXPOSE 8000/tcp\nHEALTHCHECK CMD curl -f http://localhost:8000/healthz || exit 1\nCMD [\"gunicorn\", \"shop.wsgi\"]\n";
        let file = parse("api/Dockerfile", text);
        assert_eq!(file.platform, Some(("linux/arm64".into(), 1)));
        assert_eq!((file.end.port, file.end.collects, file.end.workdir.as_str()), (Some((8000, 10)), Some(9), "/app"));
        assert_eq!(file.end.env["DJANGO_SETTINGS_MODULE"], ("shop.settings".into(), 8));
        assert_eq!(file.end.health, Some(("/healthz".into(), 11)));
        assert_eq!(file.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["build", "production"]);
        assert_eq!(file.inside("api", "api").as_deref(), Some("/app"));
        assert_eq!(file.inside("api", "api/static").as_deref(), Some("/app/static"));
        let file =
            parse("Dockerfile", "ARG HOME=/srv\nFROM x\nARG APP=$HOME/app\nWORKDIR ${APP}\nCOPY api ${APP}/api\nCOPY ${X:-web} $Y/\n");
        assert_eq!((file.end.workdir.as_str(), file.inside(".", "api").as_deref()), ("/srv/app", Some("/srv/app/api")));
        assert_eq!(file.sources, ["api", "web"]);
        assert!(is_dockerfile("Dockerfile.prod") && is_dockerfile("api.Dockerfile") && !is_dockerfile("Dockerfile.dockerignore"));
    }
}
