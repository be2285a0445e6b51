//! The text of a Dockerfile, and of the `.dockerignore` beside it.

use std::collections::BTreeMap;

use crate::detect::{Recipe, Service};

use super::write::File;

/// The files that build a service's image.
pub(super) fn files(service: &Service) -> Vec<File> {
    let Some(recipe) = &service.recipe else { return Vec::new() };
    let own = format!("{}/Dockerfile", service.path);
    let ignore = if service.path == "." && service.dockerfile == "Dockerfile" || service.dockerfile == own {
        if service.path == "." { ".dockerignore".to_owned() } else { format!("{}/.dockerignore", service.path) }
    } else {
        // BuildKit reads it in the place of the context's own.
        format!("{}.dockerignore", service.dockerfile)
    };
    vec![File::new(&service.dockerfile, dockerfile(recipe)), File::new(&ignore, ignored(recipe))]
}

fn ignored(recipe: &Recipe) -> String {
    let always = ["**/.git", "**/.env", "**/.env.*", "**/.DS_Store", "**/Dockerfile*", "**/.dockerignore", "**/*.log"];
    always.into_iter().chain(recipe.ignore.iter().map(String::as_str)).collect::<Vec<_>>().join("\n") + "\n"
}

fn dockerfile(recipe: &Recipe) -> String {
    let mut lines = vec!["# Written by `windlass init`; it is yours to change.".to_owned()];
    lines.extend(recipe.remarks.iter().map(|remark| format!("# {remark}")));
    lines.extend([format!("ARG BASE={}", recipe.base), "FROM ${BASE}".to_owned(), String::new()]);
    lines.extend(variables(&recipe.before));
    lines.push("WORKDIR /app".to_owned());
    if !recipe.packages.is_empty() {
        let packages = recipe.packages.join(" ");
        lines
            .push(format!("RUN apt-get update && apt-get install --yes --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*"));
    }
    lines.push(String::new());
    if recipe.manifests.is_empty() {
        lines.push("# Before anything is installed, as that needs the code: scripts of packages, or packages of this checkout.".to_owned());
        lines.push("COPY . .".to_owned());
        lines.extend(recipe.install.iter().map(|command| format!("RUN {command}")));
    } else {
        lines.push("# Before the code, so that a change of the code installs nothing.".to_owned());
        lines.extend(copies(&recipe.manifests));
        lines.extend(recipe.install.iter().map(|command| format!("RUN {command}")));
        lines.extend([String::new(), "COPY . .".to_owned()]);
    }
    lines.extend(recipe.build.iter().map(|command| format!("RUN {command}")));
    lines.push(String::new());
    lines.extend(variables(&recipe.env));
    if recipe.workdir != "." {
        lines.push(format!("WORKDIR /app/{}", recipe.workdir));
    }
    match recipe.user {
        Some(user) => lines.push(format!("USER {user}")),
        None => lines.extend(["RUN useradd --system --create-home --uid 10001 app".to_owned(), "USER app".to_owned()]),
    }
    lines.push(format!("EXPOSE {}", recipe.port));
    lines.push(format!("CMD {}", serde_json::json!(recipe.command)));
    lines.join("\n") + "\n"
}

fn variables(pairs: &[(String, String)]) -> Option<String> {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    (!pairs.is_empty()).then(|| format!("ENV {}", pairs.join(" \\\n    ")))
}

/// `COPY` for each directory, with all of its files; those that end with `/` are directories that are copied whole.
fn copies(files: &[String]) -> Vec<String> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (whole, files): (Vec<&String>, Vec<&String>) = files.iter().partition(|file| file.ends_with('/'));
    for file in files {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let files = folders.entry(folder).or_default();
        if !files.contains(&file.as_str()) {
            files.push(file);
        }
    }
    let line = |(folder, files): (&str, Vec<&str>)| {
        let to = if folder.is_empty() { "./".to_owned() } else { format!("{folder}/") };
        if files.iter().any(|file| file.contains(' ')) {
            let mut words: Vec<&str> = files;
            words.push(&to);
            return format!("COPY {}", serde_json::json!(words));
        }
        format!("COPY {} {to}", files.join(" "))
    };
    folders.into_iter().map(line).chain(whole.into_iter().map(|folder| format!("COPY {folder} {folder}"))).collect()
}
