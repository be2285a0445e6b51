//! `windlass.yml`, the environment and the flags, parsed into one [`Config`] that holds no contradiction.
//!
//! Deliberately absent: the network. Whether a bucket is there is for preflight to find out.

mod check;
mod check_migration;
mod check_words;
mod definition;
mod image;
mod layers;
mod migration;
mod read;
mod types;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Exit, Failure, Mask, merge_keys, sensitive, yaml};

pub use image::{BuildImage, Image, ImageFindings};
pub use migration::{Driver, Framework, Handler, Migration, Strategy, Words};
pub use types::{
    Config, Environment, FromImage, HeaderRule, Keep, OnFailedMigration, OnFailure, OnTimeout, Policy, Precompress, RiskyMigrations,
    RollbackPastMigrations, ScheduledTasks, Service, Site, SiteSource, SourceMaps, schema,
};
pub use words::{Bucket, Duration, Platform, State};

/// What the command line and the process environment add to the file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--config`; else `windlass.yml` in the working directory.
    pub file: Option<PathBuf>,
    /// `--env`: which of the file's environments.
    pub environment: Option<String>,
    /// Where `${VAR}` is read from.
    pub variables: BTreeMap<String, String>,
    /// The registry's host where neither file nor AWS names one that can be reached (a local cloud).
    pub registry: Option<String>,
}

/// The configuration with the place of its files.
#[derive(Debug, Clone)]
pub struct Project {
    /// The directory of `windlass.yml`: every path in it starts here.
    pub root: PathBuf,
    /// What it says.
    pub config: Config,
}

/// Reads the configuration.
///
/// # Errors
/// [`Exit::Config`], naming the place in the file, for a missing or unreadable file, wrong YAML, an unknown
/// key, a value of the wrong form, an unset variable, or a name that refers to nothing.
pub fn load(given: &Given) -> Result<Project, Failure> {
    let path = given.file.clone().unwrap_or_else(|| PathBuf::from("windlass.yml"));
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let failure = Failure::new(Exit::Config, format!("reading the configuration `{}` failed", path.display())).because(error);
        failure.hint(elsewhere(given).unwrap_or_else(|| {
            "run windlass where `windlass.yml` is, or name the file with --config; `windlass schema` prints what it may hold".to_owned()
        }))
    })?;
    let mut config = parse(&text, given).map_err(|problems| read::refused(problems, &path, &text))?;
    config.registry = config.registry.or_else(|| given.registry.clone());
    let root = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for (name, service) in &mut config.services {
        definition::read(root, name, service, given)?;
    }
    Ok(Project { root: root.to_owned(), config })
}

/// The names of the file's environments, in its order.
///
/// # Errors
/// [`Exit::Config`] if the file cannot be read, or is no YAML.
pub fn environments(given: &Given) -> Result<Vec<String>, Failure> {
    let path = given.file.clone().unwrap_or_else(|| PathBuf::from("windlass.yml"));
    let failed = || Failure::new(Exit::Config, format!("reading the configuration `{}` failed", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| failed().because(error))?;
    let file = yaml::parse(&text).map_err(|problem| read::Problem::from(problem).at(&path, &text))?;
    Ok(layers::names(&file))
}

/// Where the configuration most likely is, if nobody named a file and there is none here.
fn elsewhere(given: &Given) -> Option<String> {
    let here = std::env::current_dir().ok().filter(|_| given.file.is_none())?;
    if here.join("windlass.yaml").is_file() {
        return Some("there is a `windlass.yaml`: rename it to `windlass.yml`, or name it with --config".to_owned());
    }
    let above = here.ancestors().skip(1).map(|folder| folder.join("windlass.yml")).find(|path| path.is_file())?;
    Some(format!("there is one above: run windlass in its directory, or name it with `--config {}`", above.display()))
}

/// Every problem that can be told apart from what follows from another one.
fn parse(text: &str, given: &Given) -> Result<Config, Vec<read::Problem>> {
    let file = yaml::parse(text).map_err(|error| vec![error.into()])?;
    let mut problems = Vec::new();
    let file = merge_keys::merged(file, &mut |place| {
        problems.push(read::Problem::new(place, "`<<` needs to be followed by a mapping").hint("name an anchor: `<<: *name`"));
    });
    let read = layers::select(file, given, &mut problems).and_then(|(file, environment)| {
        let mut config: Config = read::every(&file, &mut problems)?;
        for site in config.sites.values_mut() {
            site.prefix.truncate(site.prefix.trim_end_matches('/').len());
        }
        // What refers to something that could not be read is not wrong itself.
        if problems.is_empty() {
            check_words::are_filled(&config, &file, &mut problems);
            check::references(&config, &file, &mut problems);
            let secrets = given.variables.iter().filter(|(name, _)| sensitive(name)).map(|(_, value)| value.clone());
            check::arguments(&config, &file, &Mask::new(secrets), &mut problems);
        }
        let inner: Vec<_> = config.sites.values().map(|site| check::inner(&config, site)).collect();
        for (site, inner) in config.sites.values_mut().zip(inner) {
            site.inner = inner;
        }
        Some(Config { environment, ..config })
    });
    match read {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
