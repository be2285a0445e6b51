//! `windlass.yml`, the environment and the flags, parsed into one [`Config`] that holds no contradiction.
//!
//! Deliberately absent: the network. Whether a bucket is there is for preflight to find out.

mod check;
mod check_migration;
mod definition;
mod image;
mod layers;
mod migration;
mod read;
mod types;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Exit, Failure, Mask, sensitive};

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
        failure.hint("run windlass where `windlass.yml` is, or name the file with --config; `windlass schema` prints what it may hold")
    })?;
    let mut config = parse(&text, given).map_err(|problem| problem.at(&path, &text))?;
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
    let file = crate::model::yaml::parse(&text).map_err(|problem| read::Problem::from(problem).at(&path, &text))?;
    Ok(layers::names(&file))
}

fn parse(text: &str, given: &Given) -> Result<Config, read::Problem> {
    let file = crate::model::yaml::parse(text)?;
    let (file, environment) = layers::select(file, given)?;
    let config: Config = read::from_node(&file)?;
    check::references(&config, &file)?;
    let secrets = given.variables.iter().filter(|(name, _)| sensitive(name)).map(|(_, value)| value.clone());
    check::arguments(&config, &file, &Mask::new(secrets))?;
    Ok(Config { environment, ..config })
}

#[cfg(test)]
mod tests;
