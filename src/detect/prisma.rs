//! Prisma: where the schema is, and whose it is.

use std::sync::LazyLock;

use regex::Regex;

use super::package::{Package, Packages};
use super::tree::{javascript, search};
use super::{Notes, Place, path};

/// A schema of Prisma's with its migrations.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    /// The schema: a file or a directory of files.
    pub(super) file: String,
    /// The package that it belongs to.
    pub(super) package: String,
    pub(super) at: Place,
}

static CONFIGURED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"\bschema\s*:\s*["'`]([^"'`]+)["'`]"#).ok());
static PROVIDER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?s)datasource\s+\w+\s*\{[^}]*?provider\s*=\s*"(\w+)""#).ok());

/// Mappers that windlass has no driver of its own for.
const OTHERS: [(&str, &str); 6] = [
    ("typeorm", "TypeORM"),
    ("drizzle-orm", "Drizzle"),
    ("@mikro-orm/core", "MikroORM"),
    ("knex", "Knex"),
    ("sequelize", "Sequelize"),
    ("mongoose", "Mongoose"),
];

/// Every schema whose migrations are in the checkout.
pub(super) fn schemas(packages: &Packages, notes: &mut Notes<'_>) -> Vec<Schema> {
    let tree = notes.tree;
    let mut found: Vec<Schema> = Vec::new();
    // The root of a workspace may depend on it for all of them.
    let uses = |package: &Package| {
        package.dependencies().any(|name| name == "prisma" || name.starts_with("@prisma/"))
            || tree.has(&path::join(&package.directory, "prisma/schema.prisma"))
    };
    for package in packages.all.iter().filter(|package| uses(package)) {
        let directory = package.directory.as_str();
        let named = package.json["prisma"]["schema"].as_str().map(|schema| (schema.to_owned(), package.place("schema")));
        let configured = || {
            let file = tree.first(directory, &["prisma.config.ts", "prisma.config.mjs", "prisma.config.js"])?;
            search(&file, &javascript(&tree.text(&file)?), CONFIGURED.as_ref()?)
        };
        let usual = || {
            let there = ["prisma/schema.prisma", "schema.prisma"].iter().find(|name| tree.has(&path::join(directory, name)));
            let folder = || tree.below(&path::join(directory, "prisma/schema")).next().map(|_| "prisma/schema");
            let name = there.copied().or_else(folder)?;
            Some((name.to_owned(), Place::file(&path::join(directory, name))))
        };
        let Some((schema, at)) = named.or_else(configured).or_else(usual) else { continue };
        let Some(file) = path::normal(&format!("{directory}/{schema}")).filter(|file| tree.exists(file)) else { continue };
        if found.iter().any(|other| other.file == file) {
            continue;
        }
        let provider = tree.text(&file).and_then(|text| search(&file, &text, PROVIDER.as_ref()?));
        let (what, at) = provider.map_or(("Prisma".to_owned(), at), |(provider, at)| (format!("Prisma on {provider}"), at));
        let beside = path::parent(&file);
        let migrations = [path::join(beside, "migrations"), path::join(&file, "migrations"), path::join(directory, "prisma/migrations")];
        if migrations.iter().any(|folder| tree.below(folder).next().is_some()) {
            notes.used(directory, format!("{what}, with migrations"), at.clone());
            found.push(Schema { file, package: directory.to_owned(), at });
        } else {
            notes.unused(directory, format!("{what}, without migrations: `prisma migrate dev` makes them; nothing is migrated"), at);
        }
    }
    for file in tree.files().filter(|file| path::ending(file) == "prisma") {
        let directory = path::parent(file);
        let known = found.iter().any(|schema| schema.file == file || path::within(file, &schema.file));
        let migrated = tree.below(&path::join(directory, "migrations")).next().is_some();
        if !known && migrated {
            let what =
                "a schema of Prisma's with migrations that no package refers to: where they are to be applied, add a migration by hand";
            notes.unused(directory, what, Place::file(file));
        }
    }
    for package in &packages.all {
        for (name, mapper) in OTHERS.iter().filter(|(name, _)| package.json["dependencies"][name].is_string()) {
            if *name == "mongoose" {
                continue;
            }
            let script = ["migration:run", "db:migrate", "migrate", "migrations:run", "migrate:deploy"]
                .iter()
                .find(|script| package.script(script).is_some());
            let how = script.map_or("the command that migrates".to_owned(), |script| format!("`npm run {script}`"));
            let what = format!(
                "{mapper}: windlass migrates it by a command only: add a migration with `framework: command`, `driver: task` and {how}"
            );
            notes.unused(&package.directory, what, package.place(name));
        }
    }
    found
}
