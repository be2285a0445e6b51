//! Django's settings, read as text: which module, static files, databases, and what they cannot be imported without.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::docker::Dockerfile;
use super::tree::{Tree, line_at, search, without_comments};
use super::{Notes, Place, Topic, path};

/// What is known of a project's settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// The module, as a person has chosen it.
    pub(super) chosen: Option<String>,
    /// The module, however it is known.
    pub(super) module: Option<String>,
    /// `STATIC_ROOT`: from the checkout's root, or absolute in the image.
    pub(super) static_root: Option<(StaticRoot, Place)>,
    /// `STATIC_URL` without its slashes.
    pub(super) static_url: Option<String>,
    /// Who serves static files by itself, if anybody.
    pub(super) served: Option<(&'static str, Place)>,
    /// `DATABASES`, and aliases beside `default`.
    pub(super) databases: Option<(Place, Vec<String>)>,
    /// Variables without which the settings cannot be imported, each with a value that it can be.
    pub(super) needed: BTreeMap<String, String>,
}

/// Where static files are collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StaticRoot {
    /// In the checkout.
    Inside(String),
    /// In the image.
    Absolute(String),
    /// Where a variable or a program says.
    Computed,
}

pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("{error}"))
}

static MODULE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"DJANGO_SETTINGS_MODULE["'][^\n]*?["']([A-Za-z_]\w*(?:\.\w+)+)["']"#));
/// A value, also one whose parentheses end lines below.
const VALUE: &str = r"\s*(?::\s*\w+\s*)?=\s*([^\n(]*\((?:[^()]|\([^()]*\))*\)[^\n]*|[^\n]+)";
static ROOT: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"(?m)^[ \t]*STATIC_ROOT{VALUE}")));
static URL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)^\s*STATIC_URL\s*=\s*["']([^"']+)["']"#));
/// What may be a directory: `BASE_DIR = Path(__file__).resolve().parent.parent`.
static NAMED: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"(?m)^[ \t]*([A-Z][A-Z0-9_]*){VALUE}")));
static WORD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-Z][A-Z0-9_]*\b"));
/// `environ.Path(__file__) - 3`.
static LESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\)\s*-\s*(\d)\b"));
static QUOTED: LazyLock<Regex> = LazyLock::new(|| pattern(r#"["']([^"']+)["']"#));
static DATABASES: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^\s*(DATABASES)\b\s*(?::[^=\n]+)?="));
/// `int(os.environ["X"])`, `env.int("X")`, `config("X", cast=Csv())`: what is made of it, how it is asked for, its name, what else is said.
static NEEDED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?:\b(int|float|bool)\(\s*)?\b(?:(?:os\.)?environ\[\s*["'](\w+)["']\s*\]|(?:env|config|environ)((?:\.\w+)?)\(\s*["'](\w+)["']((?:\s*,[^)]*)?)\s*\))"#,
    )
});
static CAST: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bcast\s*=\s*(\w+)"));

/// The settings module, and what its files say.
pub(super) fn settings(directory: &str, manage: &str, file: &str, dockerfiles: &[Dockerfile], notes: &mut Notes<'_>) -> Settings {
    let tree = notes.tree;
    let manage = search(file, manage, &MODULE);
    let mut said: Vec<(String, Place)> = manage.clone().into_iter().collect();
    let entries: Vec<&str> = tree.below(directory).filter(|file| matches!(path::name(file), "wsgi.py" | "asgi.py")).collect();
    for entry in entries {
        let hit = search(entry, &tree.text(entry).unwrap_or_default(), &MODULE);
        said.extend(hit.filter(|(module, _)| !said.iter().any(|(other, _)| other == module)));
    }
    let image = dockerfiles.iter().filter(|dockerfile| path::within(directory, path::parent(&dockerfile.file)));
    let mut image = image.filter_map(|dockerfile| {
        dockerfile.end.env.get("DJANGO_SETTINGS_MODULE").map(|(module, line)| (module.clone(), dockerfile.at(*line)))
    });
    let image = image.next_back();
    let chosen = notes.answers.get(Topic::Settings, directory).map(str::to_owned);
    let first = said.first().map(|(module, _)| module.clone());
    if chosen.is_none() && image.is_none() {
        let siblings = first.as_deref().map_or_else(Vec::new, |module| siblings(tree, directory, module));
        let last = first.as_deref().and_then(|module| module.rsplit('.').next()).unwrap_or_default();
        let for_a_laptop = ["dev", "develop", "development", "local", "test", "debug"].contains(&last);
        let bare = first.as_deref().is_some_and(|module| is_bare_package(tree, directory, module));
        if said.len() > 1 {
            let what = format!("`{directory}` names {} settings modules: its commands use one, its server another", said.len());
            notes.ask(Topic::Settings, directory, what, said.clone());
        } else if bare && siblings.len() > 1 {
            notes.ask(Topic::Settings, directory, format!("the settings of `{directory}` are a package with several modules"), siblings);
        } else if for_a_laptop && siblings.iter().any(|(module, _)| is_for_production(module)) {
            let what =
                format!("`{directory}` names the settings `{}`, and there are others for production", first.as_deref().unwrap_or_default());
            notes.ask(Topic::Settings, directory, what, siblings);
        }
    }
    if let Some(module) = chosen.as_deref().filter(|module| !is_anywhere(tree, module)) {
        let siblings = first.as_deref().map_or_else(Vec::new, |first| siblings(tree, directory, first));
        let choices = if siblings.is_empty() { said.clone() } else { siblings };
        notes.ask(Topic::Settings, directory, format!("no file of `{directory}` is the settings module `{module}`"), choices);
    }
    if let Some((module, at)) = &image {
        notes.used(directory, format!("the image's settings are `{module}`"), at.clone());
    } else if let Some((module, at)) = manage.filter(|_| chosen.is_none()) {
        notes.used(directory, format!("its settings are `{module}`"), at);
    }
    let module = chosen.clone().or(image.map(|(module, _)| module)).or(first);
    if let Some((what, at)) = module.as_deref().and_then(|module| chooses(tree, directory, module)) {
        notes.unused(directory, what, at);
    }
    let mut found = Settings { chosen, module, ..Settings::default() };
    if let Some(module) = found.module.clone() {
        read(tree, directory, &module, &mut found);
    }
    if let Some((at, others)) = &found.databases
        && !others.is_empty()
    {
        let what = format!("`DATABASES` holds {}, too: name under `databases` of its migration what is to be migrated", others.join(", "));
        notes.unused(directory, what, at.clone());
    }
    found
}

fn is_for_production(module: &str) -> bool {
    module.rsplit('.').next().is_some_and(|last| ["prod", "production", "live", "aws", "deploy"].contains(&last))
}

/// The file of a module.
pub(super) fn module_file(tree: &Tree, directory: &str, module: &str) -> Option<String> {
    let stem = path::join(directory, &module.replace('.', "/"));
    let files = [format!("{stem}.py"), format!("{stem}/__init__.py")];
    files.into_iter().find(|file| tree.has(file))
}

/// Is there such a module, from whatever directory it is imported?
fn is_anywhere(tree: &Tree, module: &str) -> bool {
    let stem = module.replace('.', "/");
    tree.files().any(|file| {
        let own = file.strip_suffix("/__init__.py").or_else(|| file.strip_suffix(".py"));
        own.is_some_and(|own| own == stem || own.ends_with(&format!("/{stem}")))
    })
}

/// The modules beside a settings module, and in it where it is a package, that hold settings.
fn siblings(tree: &Tree, directory: &str, module: &str) -> Vec<(String, Place)> {
    let Some(file) = module_file(tree, directory, module) else { return Vec::new() };
    let folder = path::parent(&file);
    let package = if path::name(&file) == "__init__.py" { module } else { module.rsplit_once('.').map_or("", |(package, _)| package) };
    if !package.rsplit('.').next().is_some_and(|last| last.contains("settings") || last == "conf") {
        return Vec::new();
    }
    let files = tree
        .inside(folder)
        .filter(|file| path::ending(file) == "py" && !matches!(path::name(file), "__init__.py" | "base.py" | "common.py"));
    files.map(|file| (format!("{package}.{}", path::name(file).trim_end_matches(".py")), Place::file(file))).collect()
}

/// A package whose `__init__.py` sets and imports nothing is no settings.
fn is_bare_package(tree: &Tree, directory: &str, module: &str) -> bool {
    let file = module_file(tree, directory, module).filter(|file| path::name(file) == "__init__.py");
    let text = file.and_then(|file| tree.text(&file));
    text.is_some_and(|text| without_comments(&text, "#", None).lines().all(|line| !line.contains("import") && !line.contains('=')))
}

/// A package of settings whose `__init__.py` takes one of several by a variable.
fn chooses(tree: &Tree, directory: &str, module: &str) -> Option<(String, Place)> {
    static TAKES: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^[ \t]+from\s+\.(\w+)\s+import"));
    static BY: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(environ|getenv|env\(|config\()"));
    let file = module_file(tree, directory, module).filter(|file| path::name(file) == "__init__.py")?;
    let text = without_comments(&tree.text(&file)?, "#", None);
    let taken: Vec<String> = TAKES.captures_iter(&text).map(|found| format!("`{}`", &found[1])).collect();
    let (_, at) = search(&file, &text, &BY)?;
    let what = format!("its settings choose among {} by themselves: what they go by belongs into the task definition", taken.join(" and "));
    (taken.len() > 1).then_some((what, at))
}

fn read(tree: &Tree, directory: &str, module: &str, found: &mut Settings) {
    let Some(main) = module_file(tree, directory, module) else { return };
    // What a module takes over from the ones beside it counts; the module's own words win.
    let beside = tree.inside(path::parent(&main)).filter(|file| path::ending(file) == "py" && **file != main);
    let is_settings = |file: &str| {
        let name = path::name(file).trim_end_matches(".py");
        path::name(path::parent(&main)).contains("settings") && ["base", "common", "shared", "defaults", "__init__"].contains(&name)
            || name.starts_with("settings")
    };
    let files: Vec<String> = std::iter::once(main.clone()).chain(beside.filter(|file| is_settings(file)).map(str::to_owned)).collect();
    let texts: Vec<(String, String)> =
        files.iter().filter_map(|file| Some((file.clone(), without_comments(&tree.text(file)?, "#", None)))).collect();
    let first = |pattern: &Regex| texts.iter().find_map(|(file, text)| search(file, text, pattern));
    let directories = directories(&texts);
    found.static_root = texts.iter().find_map(|(file, text)| {
        let (value, at) = search(file, text, &ROOT)?;
        Some((static_root(&value, file, directory, &directories)?, at))
    });
    found.static_url = first(&URL).map(|(url, _)| url.trim_matches('/').to_owned()).filter(|url| !url.contains("://"));
    let says =
        |needle: &str| texts.iter().find(|(_, text)| text.contains(needle)).map(|(file, text)| super::tree::place_of(file, text, needle));
    let bucket = ["storages.backends.s3", "S3StaticStorage", "S3ManifestStaticStorage"].into_iter().find_map(says);
    found.served = says("whitenoise").map(|at| ("WhiteNoise", at)).or(bucket.map(|at| ("django-storages", at)));
    found.databases = texts.iter().find_map(|(file, text)| {
        let hit = DATABASES.captures(text)?.get(1)?;
        Some((Place::line(file, line_at(text, hit.start())), aliases(&text[hit.end()..])))
    });
    for (_, text) in &texts {
        found.needed.extend(needed(text));
    }
}

/// Variables that a text reads and has no default for, each with a stand-in.
fn needed(text: &str) -> BTreeMap<String, String> {
    let hits = NEEDED.captures_iter(text).filter_map(|hit| {
        let group = |number: usize| hit.get(number).map_or("", |group| group.as_str());
        let rest = text[hit.get(0)?.end()..].trim_start();
        let is_set = rest.starts_with('=') && !rest.starts_with("==");
        // The second word is a default, unless it says what it is. `environ.get` gives `None`.
        let said = group(5).trim_start_matches([',', ' ', '\n']);
        let has_default = said.contains("default") || (!said.is_empty() && !said.split(',').next()?.contains('='));
        let cast = CAST.captures(said).and_then(|found| found.get(1)).map_or("", |cast| cast.as_str());
        let kind = [cast, group(3), group(1)].into_iter().find(|kind| !kind.is_empty()).unwrap_or_default();
        let name = if group(2).is_empty() { group(4) } else { group(2) };
        (kind != ".get" && !has_default && !is_set).then(|| (name.to_owned(), stand_in(name, kind.trim_start_matches('.'))))
    });
    hits.collect()
}

/// A value with which settings can be imported while an image is built.
fn stand_in(name: &str, kind: &str) -> String {
    let url = matches!(kind, "db" | "db_url" | "dj_db_url") || name.ends_with("DATABASE_URL");
    let number = matches!(kind, "int" | "float" | "bool") || name.ends_with("PORT") || name == "DEBUG";
    match (url, number) {
        (true, _) => "sqlite://:memory:".to_owned(),
        (_, true) => "0".to_owned(),
        _ if kind == "cache" || kind == "cache_url" => "locmemcache://".to_owned(),
        _ if name.ends_with("_URL") => "http://localhost".to_owned(),
        _ => "unused".to_owned(),
    }
}

/// The directories that settings have names for, from the checkout's root: `BASE_DIR`, and those that follow from it.
fn directories(texts: &[(String, String)]) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    // One name may follow from another, which another file says.
    for _ in 0..4 {
        for (file, text) in texts {
            for found in NAMED.captures_iter(text).filter(|found| !known.contains_key(&found[1])).collect::<Vec<_>>() {
                if let Some(directory) = directory(&found[2], file, &known) {
                    known.insert(found[1].to_owned(), directory);
                }
            }
        }
    }
    known
}

/// The directory that `Path(__file__).resolve().parent.parent` is, or the same by `dirname`, or by another name that is known.
fn directory(value: &str, file: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let named = || WORD.find_iter(value).find_map(|word| known.get(word.as_str()));
    let mut at = if value.contains("__file__") { file } else { named()? };
    let parents =
        value.split(".parents[").nth(1).and_then(|rest| rest.split(']').next()?.trim().parse::<usize>().ok()).map_or(0, |n| n + 1);
    let plain = value.matches(".parent").count() - value.matches(".parents[").count();
    let less = LESS.captures(value).filter(|_| value.contains("__file__")).and_then(|found| found[1].parse().ok()).unwrap_or(0);
    for _ in 0..parents + plain + less + value.matches("dirname(").count() {
        at = path::parent(at);
    }
    let parts: Vec<&str> = QUOTED.captures_iter(value).filter_map(|found| Some(found.get(1)?.as_str())).collect();
    let is_file = at == file && value.contains("__file__");
    path::normal(&format!("{at}/{}", parts.join("/"))).filter(|_| !is_file && !is_computed(value))
}

fn is_computed(value: &str) -> bool {
    ["environ[", "environ.get", "getenv", "env(", "env.", "config(", "f\"", "f'", " if "].iter().any(|part| value.contains(part))
}

/// Where static files are collected; `project` is where its commands start.
fn static_root(value: &str, file: &str, project: &str, known: &BTreeMap<String, String>) -> Option<StaticRoot> {
    let value = value.trim();
    if matches!(value, "None" | "\"\"" | "''") {
        return None;
    }
    let parts: Vec<&str> = QUOTED.captures_iter(value).filter_map(|found| Some(found.get(1)?.as_str())).collect();
    let found = match parts[..] {
        _ if is_computed(value) => None,
        [one, ..] if one.starts_with('/') => Some(StaticRoot::Absolute(parts.join("/"))),
        [one] if value.trim_matches(['"', '\'']) == one => path::normal(&format!("{project}/{one}")).map(StaticRoot::Inside),
        _ => directory(value, file, known).map(StaticRoot::Inside),
    };
    Some(found.unwrap_or(StaticRoot::Computed))
}

/// The aliases of a dictionary of databases, but for `default`.
fn aliases(text: &str) -> Vec<String> {
    let Some(open) = text.find('{').filter(|at| text[..*at].trim().trim_start_matches('=').trim().is_empty()) else { return Vec::new() };
    let (mut depth, mut found, mut rest) = (0_usize, Vec::new(), &text[open..]);
    while let Some(c) = rest.chars().next() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            '"' | '\'' => {
                let Some(end) = rest[1..].find(c) else { break };
                let word = &rest[1..=end];
                rest = &rest[end + 2..];
                if depth == 1 && rest.trim_start().starts_with(':') && word != "default" {
                    found.push(word.to_owned());
                }
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        rest = &rest[c.len_utf8()..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_static_files_are_collected_is_read_in_its_forms() {
        let root = |text: &str, value: &str| {
            let file = "api/shop/settings/base.py".to_owned();
            static_root(value, &file.clone(), "api", &directories(&[(file, text.to_owned())]))
        };
        let inside = |directory: &str| Some(StaticRoot::Inside(directory.to_owned()));
        let base = "BASE_DIR = Path(__file__).resolve().parent.parent.parent\n";
        for (text, value, directory) in [
            (base, "BASE_DIR / \"staticfiles\"", "api/staticfiles"),
            (base, "os.path.join(BASE_DIR, 'public', 'static')", "api/public/static"),
            (base, "os.path.join(\n    BASE_DIR,\n    'static',\n)", "api/static"),
            (base, "str(BASE_DIR.joinpath(\"static\"))", "api/static"),
            (base, "BASE_DIR.parent / \"static\"", "static"),
            ("BASE_DIR = Path(__file__).resolve().parents[2]", "BASE_DIR / 'static'", "api/static"),
            // Wagtail's own.
            (
                "PROJECT_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))\nBASE_DIR = os.path.dirname(PROJECT_DIR)",
                "os.path.join(BASE_DIR, \"static\")",
                "api/static",
            ),
            ("ROOT_DIR = environ.Path(__file__) - 3", "str(ROOT_DIR('staticfiles'))", "api/staticfiles"),
            ("", "'staticfiles/'", "api/staticfiles"),
        ] {
            assert_eq!(root(text, value), inside(directory), "{value}");
        }
        assert_eq!(root("", "'/srv/static'"), Some(StaticRoot::Absolute("/srv/static".into())));
        assert_eq!(root(base, "os.environ['STATIC_ROOT']"), Some(StaticRoot::Computed));
        assert_eq!(root(base, "env('STATIC_ROOT', default=BASE_DIR / 'x')"), Some(StaticRoot::Computed));
        assert_eq!(root(base, "None"), None);
    }

    #[test]
    fn aliases_of_databases_are_the_keys_of_the_outermost_level() {
        assert_eq!(aliases(" = {\"default\": {\"NAME\": \"a\"}, 'replica': env.db('X')}\nOTHER = {'x': 1}"), ["replica"]);
        assert_eq!(aliases(" = {\"default\": dj_database_url.config()}"), [""; 0]);
    }

    #[test]
    fn variables_that_settings_cannot_do_without_are_named() {
        let text = "SECRET_KEY = os.environ[\"SECRET_KEY\"]\nX = env('X', default=1)\nD = env.db('DATABASE_URL')\nP = config('PORT', cast=int)\nE = os.environ.get('E')";
        assert_eq!(needed(text).into_keys().collect::<Vec<_>>(), ["DATABASE_URL", "PORT", "SECRET_KEY"]);
        for (text, stand_in) in [
            ("TIMEOUT = int(os.environ['A'])", Some("0")),
            ("A = environ[\"A\"]", Some("unused")),
            ("HOSTS = config('A', cast=Csv())", Some("unused")),
            ("HOSTS = config('A', cast=lambda v: [s.strip() for s in v.split(',')])", Some("unused")),
            ("KEY = env.str(\n    \"A\",\n    multiline=True,\n)", Some("unused")),
            ("A = env(\n    \"A\",\n)", Some("unused")),
            ("DEBUG = env.bool('A', False)", None),
            ("A = config('A', 'x')", None),
            ("A = config('A', cast=int, default=3)", None),
            ("os.environ['A'] = 'x'", None),
        ] {
            assert_eq!(needed(text).get("A").map(String::as_str), stand_in, "{text}");
        }
        assert_eq!((stand_in("DATABASE_URL", "db"), stand_in("PORT", "int")), ("sqlite://:memory:".to_owned(), "0".to_owned()));
    }
}
