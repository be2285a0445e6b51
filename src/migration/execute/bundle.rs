//! Makes the zip of a migration function: a file that was made elsewhere, or the application's code with windlass's handler.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::aws::Function;
use crate::event::{Outcome, Step};
use crate::model::{Exit, Failure, Sha256, Stage};

use super::super::handler::Kind;
use super::super::plan::MadeOf;
use super::super::zip::{Files, UNPACKED};
use super::{One, derive};

/// The zip, for a function as it is configured.
pub(super) async fn made(one: &One<'_>, function: &Function, handler: Option<Kind>, of: &MadeOf) -> Result<Vec<u8>, Failure> {
    if let MadeOf::File(file, digest) = of {
        return given(one, &one.run.root.join(file), digest);
    }
    let step = Step::of(Stage::Migrations, one.name, "build");
    let work = async {
        let folder = tempfile::tempdir().map_err(|error| failed(one, &error.to_string()))?;
        let mut files = if let MadeOf::Prisma(directory) = of {
            derive::engine(one, &step, folder.path()).await?;
            prisma(&one.run.root.join(directory), folder.path()).map_err(|error| failed(one, &error.to_string()))?
        } else {
            let platform = if function.architecture == "arm64" { "linux/arm64" } else { "linux/amd64" };
            derive::bundle(one, &step, folder.path(), platform).await?;
            let mut files = Files::default();
            files.add_folder(folder.path(), "", |_| true).map_err(|error| failed(one, &error.to_string()))?;
            files
        };
        let configured = function.handler.as_deref().unwrap_or_default();
        for (path, text) in handler.and_then(|kind| kind.in_zip(configured)).into_iter().flatten() {
            files.add(path, text);
        }
        fits(one, &files, function, handler)?;
        let (count, size) = (files.paths().count(), files.size());
        let packed = tokio::task::spawn_blocking(move || files.pack()).await;
        let zip = packed.map_err(|error| failed(one, &error.to_string()))?.map_err(|error| failed(one, &error.to_string()))?;
        let detail = format!("{count} files, {} KB, as a zip of {} KB", size / 1024, zip.len() / 1024);
        Ok((zip, Outcome::Done, detail))
    };
    one.run.events.step(step.clone(), work).await
}

fn failed(one: &One<'_>, why: &str) -> Failure {
    let failure = Failure::new(Exit::Migration, format!("migration `{}`: making its zip failed", one.name)).because(why.to_owned());
    failure.hint("no migration was run and no service was rolled; run the same command again")
}

/// A zip that was made elsewhere, which is to be the one that was planned.
fn given(one: &One<'_>, path: &Path, digest: &Sha256) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(path).map_err(|error| failed(one, &format!("{}: {error}", path.display())))?;
    if Sha256::of(&bytes) == *digest {
        return Ok(bytes);
    }
    let failure = Failure::new(Exit::Migration, format!("migration `{}`: `{}` is not the zip that was planned", one.name, path.display()));
    Err(failure.because("it has changed since").hint("no migration was run and no service was rolled; run the same command again"))
}

/// Refuses what Lambda would refuse later, or what would not start.
fn fits(one: &One<'_>, files: &Files, function: &Function, handler: Option<Kind>) -> Result<(), Failure> {
    let refused = |why: String, cure: &str| {
        let failure =
            Failure::new(Exit::Migration, format!("migration `{}`: its zip does not fit the function `{}`", one.name, function.arn));
        Err(failure.because(why).hint(format!("no migration was run and no service was rolled; {cure}")))
    };
    if files.size() > UNPACKED {
        let why = format!("its files come to {} MB, and Lambda takes 250 MB", files.size() / 1024 / 1024);
        return refused(why, "use the driver `lambda-image` or `task`, which take images of 10 GB and more");
    }
    let runtime = function.runtime.as_deref().unwrap_or_default();
    if let Some((path, version)) = files.paths().find_map(|path| Some((path, native(path)?)))
        && runtime.starts_with("python")
        && runtime != format!("python3.{version}")
    {
        let why = format!("`{path}` is made for Python 3.{version}, and the function runs on {runtime}");
        return refused(why, &format!("give the function the runtime python3.{version}, or the image the Python of the function"));
    }
    let configured = function.handler.as_deref().unwrap_or_default();
    let module = configured.rsplit_once('.').map_or(configured, |(module, _)| module);
    let has = |end: &str| files.has(&format!("{module}{end}")) || files.has(&format!("{}{end}", module.replace('.', "/")));
    if handler.is_none() && ![".py", "/__init__.py", ".js", ".mjs", ".cjs"].into_iter().any(has) {
        let why = format!("the function's handler is `{configured}`, and the code has no such module");
        return refused(why, "correct the function's handler, or leave `handler: own` out: windlass brings one of its own");
    }
    Ok(())
}

/// The minor version of Python that a native module is made for: 11 of `x.cpython-311-x86_64-linux-gnu.so`.
fn native(path: &str) -> Option<&str> {
    let (_, rest) = path.strip_suffix(".so")?.rsplit_once(".cpython-3")?;
    rest.split_once('-').map(|(version, _)| version)
}

/// Prisma's files of a checkout, and the engine that lies in `engine`.
fn prisma(directory: &Path, engine: &Path) -> io::Result<Files> {
    let mut files = Files::default();
    // Types, maps and documents are half of it, and nothing that runs.
    let runs = |path: &str| {
        let foreign = ["@types/", "undici-types/", ".bin/", ".package-lock.json"].iter().any(|start| path.starts_with(start));
        !foreign && ![".d.ts", ".d.mts", ".d.cts", ".map", ".md"].iter().any(|end| path.ends_with(end))
    };
    files.add_folder(&engine.join("node_modules"), "node_modules/", runs)?;
    let mut text = String::new();
    for name in ["ts", "mts", "mjs", "js", "cjs"].iter().flat_map(|end| [format!("prisma.config.{end}"), format!(".config/prisma.{end}")]) {
        if let Ok(config) = std::fs::read_to_string(directory.join(&name)) {
            text += &config;
            files.add(name, config);
        }
    }
    let package: serde_json::Value =
        std::fs::read(directory.join("package.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let own = package.get("prisma");
    if let Some(own) = own {
        files.add("package.json", serde_json::json!({ "prisma": own }).to_string());
    }
    let named = own.and_then(|own| own.get("schema")).and_then(serde_json::Value::as_str).map(str::to_owned);
    let mut wanted: Vec<PathBuf> = ["prisma", "schema.prisma", "migrations"].map(PathBuf::from).to_vec();
    for path in named.into_iter().chain(configured(&text)) {
        let path = PathBuf::from(path.trim_start_matches("./"));
        // Migrations lie beside their schema, unless something says otherwise.
        wanted.extend(path.parent().filter(|parent| *parent != Path::new("")).map(Path::to_owned));
        wanted.push(path);
    }
    for path in wanted {
        let Some(name) = path.to_str().filter(|_| path.components().all(|part| matches!(part, std::path::Component::Normal(_)))) else {
            continue;
        };
        let there = directory.join(&path);
        if there.is_dir() {
            let keep = |path: &str| !path.split('/').any(|part| part == "node_modules" || part.starts_with(".env")) && is_prismas(path);
            files.add_folder(&there, &format!("{name}/"), keep)?;
        } else if let Ok(body) = std::fs::read(&there) {
            files.add(name, body);
        }
    }
    if files.paths().any(|path| path.ends_with(".prisma")) {
        return Ok(files);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no Prisma schema in `{}`", directory.display())))
}

/// Of a folder that may hold more than Prisma's files, those.
fn is_prismas(path: &str) -> bool {
    [".prisma", "/migration.sql", "migration_lock.toml"].iter().any(|end| path.ends_with(end))
}

/// The paths of `schema` and `migrations` in a text of `prisma.config.ts`.
fn configured(text: &str) -> Vec<String> {
    static PATHS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("\\b(?:schema|path)\\s*:\\s*[\"'`]([^\"'`]+)").ok());
    PATHS.iter().flat_map(|paths| paths.captures_iter(text)).filter_map(|found| found.get(1)).map(|path| path.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_module_says_its_python() {
        assert_eq!(native("psycopg_binary/_psycopg.cpython-311-x86_64-linux-gnu.so"), Some("11"));
        assert_eq!(native("x.abi3.so"), None);
    }

    #[test]
    fn prismas_files_are_taken_from_where_they_are_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("engine/node_modules/pg/lib/index.js", "");
        write("engine/node_modules/pg/README.md", "");
        write("app/prisma.config.ts", "export default { schema: './db/schema.prisma', migrations: { path: \"db/changes\" } }");
        write("app/db/schema.prisma", "");
        write("app/db/changes/1_init/migration.sql", "");
        write("app/db/.env", "SECRET=1");
        write("app/src/main.ts", "");
        let files = prisma(&folder.path().join("app"), &folder.path().join("engine")).unwrap();
        let paths: Vec<&str> = files.paths().collect();
        assert_eq!(paths, ["db/changes/1_init/migration.sql", "db/schema.prisma", "node_modules/pg/lib/index.js", "prisma.config.ts"]);
        assert!(prisma(&folder.path().join("engine"), &folder.path().join("engine")).is_err());
    }
}
