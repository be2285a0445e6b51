//! Which Dockerfile builds which service, and what it says of it.

use super::compose::{Composed, chief};
use super::docker::Dockerfile;
use super::tree::{line_at, without_comments};
use super::{Notes, Place, Topic, path};

/// Images that hold no part of an application.
const FOREIGN_IMAGES: [&str; 14] = [
    "postgres",
    "postgis",
    "mysql",
    "mariadb",
    "redis",
    "valkey",
    "rabbitmq",
    "memcached",
    "mongo",
    "elasticsearch",
    "opensearch",
    "localstack",
    "minio",
    "mailhog",
];
/// Names of stages that are not what is released.
pub(super) const NOT_RELEASED: [&str; 11] =
    ["dev", "develop", "development", "test", "tests", "testing", "debug", "lint", "ci", "local", "e2e"];

/// A Dockerfile with the directory that it is built from and the stage that is built.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) dockerfile: Dockerfile,
    pub(super) context: String,
    pub(super) target: Option<String>,
}

/// The Dockerfile of the unit in `directory`, out of those that nobody else has; `others` are the directories of the other units.
pub(super) fn choose(
    directory: &str,
    left: &mut Vec<Dockerfile>,
    others: &[String],
    composed: &[Composed],
    notes: &mut Notes<'_>,
) -> Option<Chosen> {
    if let Some(answer) = notes.answers.get(Topic::Dockerfile, directory).map(str::to_owned) {
        let named =
            |dockerfile: &Dockerfile| dockerfile.file == path::join(".", &answer) || dockerfile.file == path::join(directory, &answer);
        let at = left.iter().position(named)?;
        return Some(take(directory, left.remove(at), composed, notes));
    }
    let own = |dockerfile: &Dockerfile| path::parent(&dockerfile.file) == directory;
    for dockerfile in left.iter().filter(|dockerfile| own(dockerfile) && is_for_development(&dockerfile.file)) {
        let answer = path::name(&dockerfile.file);
        let what = format!("a Dockerfile for development, which is not built (`--dockerfile {directory}={answer}` takes it)");
        notes.unused(directory, what, Place::file(&dockerfile.file));
    }
    left.retain(|dockerfile| !own(dockerfile) || !is_for_development(&dockerfile.file));
    let own: Vec<usize> = (0..left.len()).filter(|at| own(&left[*at])).collect();
    let at = match own[..] {
        [] => elsewhere(directory, left, others, composed, notes),
        [one] => Some(one),
        _ => several(directory, &own, left, composed, notes),
    }?;
    for other in own.iter().filter(|other| **other != at) {
        notes.unused(directory, "another Dockerfile, which is not built", Place::file(&left[*other].file));
    }
    let dockerfile = left[at].clone();
    left.retain(|other| other.file != dockerfile.file && (own.is_empty() || path::parent(&other.file) != directory));
    Some(take(directory, dockerfile, composed, notes))
}

/// Which of several Dockerfiles of one directory.
fn several(directory: &str, own: &[usize], left: &[Dockerfile], composed: &[Composed], notes: &mut Notes<'_>) -> Option<usize> {
    let name = |at: usize| path::name(&left[at].file).to_ascii_lowercase();
    if let Some(plain) = own.iter().find(|at| matches!(name(**at).as_str(), "dockerfile" | "containerfile")) {
        return Some(*plain);
    }
    let production: Vec<&usize> = own.iter().filter(|at| name(**at).contains("prod")).collect();
    if let [one] = production[..] {
        return Some(*one);
    }
    if let [one] = own.iter().filter(|at| composed.iter().any(|service| service.dockerfile == left[**at].file)).collect::<Vec<_>>()[..] {
        return Some(*one);
    }
    let choices = own.iter().map(|at| (left[*at].file.clone(), Place::file(&left[*at].file))).collect();
    notes.ask(Topic::Dockerfile, directory, format!("`{directory}` has several Dockerfiles, and none is called `Dockerfile`"), choices);
    own.first().copied()
}

/// A Dockerfile that lies elsewhere: named by Compose, by what it copies, by its own name, or above the only unit that it can be for.
fn elsewhere(directory: &str, left: &[Dockerfile], others: &[String], composed: &[Composed], notes: &mut Notes<'_>) -> Option<usize> {
    let name = path::name(directory).to_ascii_lowercase();
    // Compose builds proxies and databases from the same directory.
    let image = |dockerfile: &Dockerfile| dockerfile.stages.last().map(|stage| stage.image.to_lowercase()).unwrap_or_default();
    let fits = |one: &Dockerfile| !is_foreign(&image(one)) && !is_proxy(&image(one)) && !is_for_development(&one.file);
    let position = |is: &dyn Fn(&Dockerfile) -> bool| left.iter().position(|one| fits(one) && is(one));
    let by_compose = position(&|dockerfile| {
        composed.iter().any(|service| {
            service.dockerfile == dockerfile.file && (service.context == directory || service.name.eq_ignore_ascii_case(&name))
        })
    });
    let by_copies = || {
        position(&|dockerfile| {
            let up = path::upwards(path::parent(&dockerfile.file));
            let mut sources = dockerfile.sources.iter().filter(|source| !matches!(source.as_str(), "." | "./"));
            let other = |full: &str| others.iter().any(|other| other != directory && other != "." && path::within(full, other));
            let full = |source: &String| {
                up.iter().find_map(|base| path::normal(&format!("{base}/{source}")).filter(|full| path::within(full, directory)))
            };
            directory != "."
                && sources.clone().any(|source| full(source).is_some())
                && !sources.any(|source| up.iter().any(|base| path::normal(&format!("{base}/{source}")).is_some_and(|full| other(&full))))
        })
    };
    let by_name = || {
        position(&|dockerfile| {
            let file = path::name(&dockerfile.file).to_ascii_lowercase();
            let folder = path::name(path::parent(&dockerfile.file)).to_ascii_lowercase();
            file == format!("dockerfile.{name}") || file == format!("{name}.dockerfile") || (folder == name && file == "dockerfile")
        })
    };
    let above = || {
        let up = path::upwards(directory);
        up.iter().skip(1).find_map(|above| {
            let alone = !others.iter().any(|other| other != directory && path::within(other, above));
            left.iter().position(|dockerfile| alone && path::parent(&dockerfile.file) == above)
        })
    };
    let found = by_compose.or_else(by_copies).or_else(by_name).or_else(above);
    if found.is_some() || directory != "." {
        return found;
    }
    // `docker/web.Dockerfile`, which is built from the checkout's root.
    let place = ["docker", "deploy", "compose", "infra", "ops", "build"];
    let apart = |one: &Dockerfile| one.file.split('/').any(|part| place.iter().any(|place| part.contains(place)));
    let from_here = |one: &Dockerfile| fits(one) && apart(one) && !one.sources.is_empty() && one.context(notes.tree) == directory;
    let all: Vec<usize> = (0..left.len()).filter(|at| from_here(&left[*at])).collect();
    let serving: Vec<usize> = all.iter().copied().filter(|at| serves(&left[*at])).collect();
    match (&all[..], &serving[..]) {
        ([], _) => None,
        ([one], _) | (_, [one]) => Some(*one),
        _ => {
            let choices = all.iter().map(|at| (left[*at].file.clone(), Place::file(&left[*at].file))).collect();
            notes.ask(Topic::Dockerfile, directory, format!("`{directory}` can be built by several Dockerfiles"), choices);
            all.first().copied()
        }
    }
}

/// Does it say a port, or start a server?
fn serves(dockerfile: &Dockerfile) -> bool {
    let servers = ["gunicorn", "uvicorn", "uwsgi", "daphne", "hypercorn", "granian", "waitress", "runserver"];
    let command = dockerfile.end.command.as_ref().map_or("", |(command, _)| command.as_str());
    dockerfile.end.port.is_some() || servers.iter().any(|server| command.contains(server))
}

/// `Dockerfile.dev`, `local.Dockerfile`, `compose/local/django/Dockerfile`.
fn is_for_development(file: &str) -> bool {
    let name = path::name(file).to_ascii_lowercase();
    let own = name.strip_prefix("dockerfile.").or_else(|| name.strip_suffix(".dockerfile")).unwrap_or_default();
    let docker = file.split('/').any(|part| part.contains("docker") || part == "compose") && path::parent(file) != ".";
    NOT_RELEASED.contains(&own) || (docker && path::parent(file).split('/').any(|part| NOT_RELEASED.contains(&part)))
}

fn take(directory: &str, mut dockerfile: Dockerfile, composed: &[Composed], notes: &mut Notes<'_>) -> Chosen {
    let said = chief(composed, &dockerfile.file);
    let context = match said {
        Some(service) => {
            notes.used(directory, format!("Compose builds it as `{}`", service.name), service.at.clone());
            service.context.clone()
        }
        None => dockerfile.context(notes.tree),
    };
    let target = target(directory, &dockerfile, said, composed, notes);
    dockerfile.select(target.as_deref());
    let mut words = vec![format!("built by this Dockerfile from `{context}`")];
    words.extend(dockerfile.platform.as_ref().map(|(platform, _)| format!("for {platform}")));
    words.extend(target.as_ref().map(|target| format!("as far as its stage `{target}`")));
    let stage = target.as_ref().and_then(|target| dockerfile.stages.iter().find(|stage| stage.name == *target));
    let line = stage.or(dockerfile.stages.last()).map_or(1, |stage| stage.line);
    notes.used(directory, words.join(", "), dockerfile.at(line));
    if let Some((port, line)) = dockerfile.end.port {
        notes.used(directory, format!("it listens on port {port}"), dockerfile.at(line));
    }
    let made =
        |source: &&String| matches!(source.split('/').find(|part| *part != ".").unwrap_or_default(), "dist" | "build" | "target" | "out");
    if let Some(source) = dockerfile.sources.iter().find(|source| made(source) && !notes.tree.exists(&path::join(&context, source))) {
        let what =
            format!("it copies `{source}`, which a build has to make first: build it in a stage of the Dockerfile, or before the release");
        notes.unused(directory, what, Place::file(&dockerfile.file));
    }
    match &dockerfile.end.command {
        Some((command, line)) => {
            notes.used(directory, format!("it runs {command}"), dockerfile.at(*line));
            if let Some(at) = migrates(command, dockerfile.at(*line), &context, notes) {
                let what = "it migrates when it starts: so does each task, side by side; a release does it once, before: take it out";
                notes.unused(directory, what, at);
            }
        }
        None => {
            notes.unused(
                directory,
                "the Dockerfile says no `CMD`: the base image's runs, or the task definition's",
                Place::file(&dockerfile.file),
            );
        }
    }
    Chosen { dockerfile, context, target }
}

/// Where a container's command migrates the database: itself, a script of the context that it names, or one of `package.json`.
fn migrates(command: &str, at: Place, context: &str, notes: &Notes<'_>) -> Option<Place> {
    let says = |text: &str| ["manage.py migrate", "prisma migrate deploy", "migration:run"].iter().find_map(|words| text.find(words));
    if says(command).is_some() {
        return Some(at);
    }
    let words = command.split(['"', '\'', ' ', ',', '[', ']', ';']).filter(|word| !word.is_empty());
    let named: Vec<&str> = words.map(path::name).collect();
    let package = path::join(context, "package.json");
    let files = notes.tree.below(context).filter(|file| path::ending(file) == "sh" || path::name(file).contains("entrypoint"));
    files
        .filter(|file| named.contains(&path::name(file)))
        .find_map(|file| {
            let text = without_comments(&notes.tree.text(file)?, "#", None);
            Some(Place::line(file, line_at(&text, says(&text)?)))
        })
        .or_else(|| {
            let text = notes.tree.text(&package)?;
            let json: serde_json::Value = serde_json::from_str(&text).ok()?;
            let script = named.iter().find(|word| json["scripts"][**word].as_str().is_some_and(|script| says(script).is_some()))?;
            Some(super::tree::place_of(&package, &text, &format!("\"{script}\"")))
        })
}

/// The stage to build: the last, unless its name says that it is not what is released.
fn target(
    directory: &str,
    dockerfile: &Dockerfile,
    said: Option<&Composed>,
    composed: &[Composed],
    notes: &mut Notes<'_>,
) -> Option<String> {
    if let Some(answer) = notes.answers.get(Topic::Target, directory) {
        return Some(answer.to_owned());
    }
    let last = dockerfile.stages.last()?;
    // Where another service is the last stage, this one is its own.
    let other = |service: &Composed| service.dockerfile == dockerfile.file && service.target.as_ref() == Some(&last.name);
    let own = said.is_some_and(|service| service.target.as_ref() != Some(&last.name)) && composed.iter().any(other);
    if !own && !NOT_RELEASED.contains(&last.name.as_str()) {
        return None;
    }
    if let Some(service) = said
        && let Some(target) = service.target.as_ref().filter(|target| !NOT_RELEASED.contains(&target.as_str()))
    {
        notes.used(directory, format!("Compose builds its stage `{target}`"), service.at.clone());
        return Some(target.clone());
    }
    if !NOT_RELEASED.contains(&last.name.as_str()) {
        return None;
    }
    let choices: Vec<(String, Place)> = dockerfile
        .stages
        .iter()
        .filter(|stage| !stage.name.is_empty())
        .map(|stage| (stage.name.clone(), dockerfile.at(stage.line)))
        .collect();
    notes.ask(
        Topic::Target,
        directory,
        format!("the last stage of `{}` is `{}`, which is hardly what is released", dockerfile.file, last.name),
        choices,
    );
    None
}

/// Is it the image of a database or of some other part that is not the application's?
pub(super) fn is_foreign(image: &str) -> bool {
    let name = image.split(['@', ':']).next().unwrap_or(image).rsplit('/').next().unwrap_or(image);
    FOREIGN_IMAGES.contains(&name)
}

/// Is it the image of a server or proxy that a load balancer and a CDN stand for?
pub(super) fn is_proxy(image: &str) -> bool {
    ["nginx", "httpd", "caddy", "traefik", "haproxy", "envoy"].iter().any(|name| image.contains(name))
}
