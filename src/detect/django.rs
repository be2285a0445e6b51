//! Django projects: what they are served by, and what a Dockerfile for one has to do.

use std::sync::LazyLock;

use regex::Regex;

use super::django_settings::{Settings, module_file, pattern, settings};
use super::docker::Dockerfile;
use super::python::{self, Requirements, Tool};
use super::tree::{Tree, line_at, search};
use super::{DetectError, Notes, Place, Recipe, Topic, path};

/// The version of Python where none is named.
const PYTHON: &str = "3.13";

/// A Django project.
#[derive(Debug, Clone)]
pub(super) struct Project {
    /// The directory of its `manage.py`.
    pub(super) directory: String,
    pub(super) at: Place,
    pub(super) requirements: Option<Requirements>,
    pub(super) settings: Settings,
    /// `shop.wsgi:application`, or `shop.asgi:application`.
    pub(super) application: Option<String>,
    pub(super) asgi: bool,
}

static WSGI: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)^\s*WSGI_APPLICATION\s*=\s*["']([\w.]+)\.(?:application|app)["']"#));
static ASGI: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)^\s*ASGI_APPLICATION\s*=\s*["']([\w.]+)\.(?:application|app)["']"#));

/// Every Django project: a `manage.py` that runs Django, whose packages hold it.
pub(super) fn projects(dockerfiles: &[Dockerfile], notes: &mut Notes<'_>) -> Result<Vec<Project>, DetectError> {
    let tree = notes.tree;
    let mut found = Vec::new();
    for file in tree.files().filter(|file| path::name(file) == "manage.py") {
        let Some(text) = tree.text(file) else { continue };
        let Some(line) = text.find("DJANGO_SETTINGS_MODULE").or_else(|| text.find("django")).map(|at| line_at(&text, at)) else { continue };
        let directory = path::parent(file);
        let at = Place::line(file, line);
        match notes.answers.get(Topic::Kind, directory) {
            Some("skip") => {
                notes.unused(directory, "left out, as --as says", at);
                continue;
            }
            Some("site") => continue,
            _ => {}
        }
        let requirements = python::requirements(directory, notes)?;
        if let Some(requirements) = &requirements {
            let Some(django) =
                requirements.has("django").or_else(|| requirements.wanted.iter().find(|wanted| wanted.name.starts_with("django-")))
            else {
                notes.unused(directory, "a `manage.py`, and no Django among the packages", Place::file(&requirements.files[0]));
                continue;
            };
            notes.used(directory, "Django: a service", at.clone());
            notes.used(directory, format!("Django among the packages, installed by {}", requirements.tool.name()), django.at.clone());
        } else {
            notes.used(directory, "Django: a service", at.clone());
            notes.unused(directory, "no list of packages: neither requirements.txt nor pyproject.toml nor Pipfile", Place::file(file));
        }
        let settings = settings(directory, &text, file, dockerfiles, notes);
        let (application, asgi) = application(tree, directory, &settings, requirements.as_ref(), notes);
        found.push(Project { directory: directory.to_owned(), at, requirements, settings, application, asgi });
    }
    Ok(found)
}

/// What a server loads: by the settings, else the one file of that name.
fn application(
    tree: &Tree,
    directory: &str,
    settings: &Settings,
    requirements: Option<&Requirements>,
    notes: &mut Notes<'_>,
) -> (Option<String>, bool) {
    let has = |name: &str| requirements.is_some_and(|requirements| requirements.has(name).is_some());
    let asgi =
        !has("gunicorn") && !has("uwsgi") && !has("pyuwsgi") && (has("uvicorn") || has("daphne") || has("hypercorn") || has("granian"));
    let asgi = asgi || has("uvicorn-worker");
    let file = settings.module.as_deref().and_then(|module| module_file(tree, directory, module));
    let pattern = if asgi { &ASGI } else { &WSGI };
    let named = file.as_ref().and_then(|file| search(file, &tree.text(file)?, pattern));
    let stem = if asgi { "asgi.py" } else { "wsgi.py" };
    let found = named.or_else(|| {
        let mut files = tree.below(directory).filter(|file| path::name(file) == stem);
        let (file, other) = (files.next()?, files.next());
        if other.is_some() {
            return None;
        }
        Some((path::from(directory, file).trim_end_matches(".py").replace('/', "."), Place::file(file)))
    });
    let Some((module, at)) = found else { return (None, asgi) };
    notes.used(directory, format!("it is served as `{module}`"), at);
    (Some(format!("{module}:application")), asgi)
}

/// What a Dockerfile has to do; `None`, with a finding, where nothing says what is installed or served.
pub(super) fn recipe(project: &Project, context: &str, notes: &mut Notes<'_>) -> Option<Recipe> {
    let directory = project.directory.as_str();
    let Some(requirements) = &project.requirements else {
        notes.unused(directory, "without a list of packages no Dockerfile can be written", project.at.clone());
        return None;
    };
    let Some(application) = &project.application else {
        notes.unused(directory, "neither wsgi.py nor asgi.py, so no Dockerfile can be written", project.at.clone());
        return None;
    };
    let from_context = |file: &String| path::from(context, file);
    let mut remarks = Vec::new();
    let asked = python::version(notes.tree, directory, requirements);
    let version = if let Some((version, at)) = asked {
        notes.used(directory, format!("Python {version}"), at);
        version
    } else {
        remarks.push(format!("No file names a version of Python; {PYTHON} is one that every supported Django runs on."));
        PYTHON.to_owned()
    };
    let own_code = !requirements.local.is_empty() || requirements.member.is_some();
    let mut install = installation(requirements, context);
    let port = 8000;
    let ini = notes.tree.first(directory, &["uwsgi.ini"]);
    let (command, missing) = server(requirements, application, project.asgi, ini.is_some(), port);
    if let Some(missing) = missing {
        remarks.push(format!("No server is among the packages: add {missing} to them, and take its line out here."));
        notes.unused(directory, format!("no server among the packages: the Dockerfile installs {missing}"), project.at.clone());
        install.push(format!("pip install --no-cache-dir {missing}"));
    }
    let workdir = path::from(context, directory);
    let mut build = Vec::new();
    if let Some((_, at)) = &project.settings.static_root {
        let mut words: Vec<String> = project.settings.needed.iter().map(|(name, value)| format!("{name}={}", path::shell(value))).collect();
        words.extend(project.settings.module.iter().map(|module| format!("DJANGO_SETTINGS_MODULE={module}")));
        words.push("python manage.py collectstatic --no-input".to_owned());
        let into = if workdir == "." { String::new() } else { format!("cd {} && ", path::shell(&workdir)) };
        build.push(format!("{into}{}", words.join(" ")));
        notes.used(directory, "`STATIC_ROOT` is set: static files are collected in the image", at.clone());
    }
    let mut before = vec![("PYTHONUNBUFFERED".to_owned(), "1".to_owned()), ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned())];
    if requirements.tool != Tool::Pip {
        before.push(("VIRTUAL_ENV".to_owned(), "/opt/venv".to_owned()));
        before.push(("PATH".to_owned(), "/opt/venv/bin:$PATH".to_owned()));
    }
    let env = project.settings.module.iter().map(|module| ("DJANGO_SETTINGS_MODULE".to_owned(), module.clone())).collect();
    Some(Recipe {
        base: format!("python:{version}-slim-bookworm"),
        packages: system_packages(requirements),
        before,
        env,
        // A package of the checkout is installed from its code.
        manifests: if own_code { Vec::new() } else { requirements.files.iter().map(from_context).collect() },
        install,
        build,
        command,
        workdir,
        port,
        user: None,
        remarks,
        ignore: ["**/__pycache__", "**/*.pyc", "**/.venv", "**/venv", "**/node_modules"].map(str::to_owned).to_vec(),
    })
}

/// The commands that install exactly what is locked. A tool of its own has its own place, so that its packages do not mix with these.
fn installation(requirements: &Requirements, context: &str) -> Vec<String> {
    let into = path::from(context, &requirements.directory);
    let within = if into == "." { String::new() } else { format!("cd {} && ", path::shell(&into)) };
    let tool = requirements.tool.name();
    let own = format!("python -m venv /opt/venv && python -m venv /opt/{tool} && /opt/{tool}/bin/pip install --no-cache-dir {tool}");
    if let Some(member) = &requirements.member {
        // What other members it needs is installed from their code.
        let arguments = format!("sync --active --locked --no-dev --no-install-project --no-cache --package {}", path::shell(member));
        return vec![own, format!("{within}/opt/{tool}/bin/{tool} {arguments}")];
    }
    let arguments = match (requirements.tool, requirements.locked) {
        (Tool::Pip, _) => {
            // pip takes paths in a list from where it runs.
            let (within, from) =
                if requirements.local.is_empty() { (String::new(), context) } else { (within, requirements.directory.as_str()) };
            return vec![format!("{within}pip install --no-cache-dir -r {}", path::shell(&path::from(from, &requirements.files[0])))];
        }
        (Tool::Uv, true) => "sync --active --locked --no-dev --no-install-project --no-cache",
        (Tool::Uv, false) => "sync --active --no-dev --no-install-project --no-cache",
        (Tool::Poetry, _) => "install --only main --no-root --no-interaction --no-cache",
        (Tool::Pdm, true) => "sync --prod --no-self",
        (Tool::Pdm, false) => "install --prod --no-self",
        (Tool::Pipenv, true) => "sync",
        (Tool::Pipenv, false) => "install --skip-lock",
    };
    vec![own, format!("{within}/opt/{tool}/bin/{tool} {arguments}")]
}

/// The command that serves, and the server that is missing.
fn server(requirements: &Requirements, application: &str, asgi: bool, ini: bool, port: u16) -> (Vec<String>, Option<&'static str>) {
    let has = |name: &str| requirements.has(name).is_some();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line = match () {
        () if has("gunicorn") && has("uvicorn-worker") && asgi => {
            format!("gunicorn --bind 0.0.0.0:{port} --worker-class uvicorn_worker.UvicornWorker {application}")
        }
        () if has("gunicorn") => format!("gunicorn --bind 0.0.0.0:{port} {application}"),
        () if ini && (has("uwsgi") || has("pyuwsgi")) => "uwsgi --ini uwsgi.ini --die-on-term".to_owned(),
        () if has("uwsgi") || has("pyuwsgi") => {
            format!("uwsgi --http-socket 0.0.0.0:{port} --module {application} --master --die-on-term --need-app")
        }
        () if has("uvicorn") => format!("uvicorn {application} --host 0.0.0.0 --port {port}"),
        () if has("daphne") => format!("daphne -b 0.0.0.0 -p {port} {application}"),
        () if has("hypercorn") => format!("hypercorn --bind 0.0.0.0:{port} {application}"),
        () if has("granian") => {
            let interface = if asgi { "asgi" } else { "wsgi" };
            format!("granian --interface {interface} --host 0.0.0.0 --port {port} {application}")
        }
        () if has("waitress") => format!("waitress-serve --listen=0.0.0.0:{port} {application}"),
        () => return (words(&format!("gunicorn --bind 0.0.0.0:{port} {application}")), Some("gunicorn")),
    };
    (words(&line), None)
}

/// What packages without a wheel are compiled with, and libraries that wheels leave out.
fn system_packages(requirements: &Requirements) -> Vec<&'static str> {
    let mut found = Vec::new();
    let has = |name: &str| requirements.has(name);
    if has("psycopg2").is_some() {
        found.extend(["gcc", "libc6-dev", "libpq-dev"]);
    }
    if has("psycopg").is_some_and(|wanted| !wanted.extras.contains("binary")) {
        found.extend(if has("psycopg").is_some_and(|wanted| wanted.extras.contains('c')) {
            vec!["gcc", "libc6-dev", "libpq-dev"]
        } else {
            vec!["libpq5"]
        });
    }
    if has("mysqlclient").is_some() {
        found.extend(["default-libmysqlclient-dev", "gcc", "libc6-dev", "pkg-config"]);
    }
    if has("uwsgi").is_some() {
        found.extend(["gcc", "libc6-dev"]);
    }
    found.sort_unstable();
    found.dedup();
    found
}
