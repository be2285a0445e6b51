//! A build's commands in a container: the source and the build's state are mounted where they are on this machine.

use std::path::{Path, PathBuf};

use super::log::Log;
use super::order::{Container, Order};
use crate::docker::{self, Machine, MachineOptions};

/// Starts the container of a build.
///
/// A directory below this machine's one for temporary files is mounted too when a variable that was given for this run names it.
pub(super) async fn start(order: &Order, options: &Container, source: &Path, state: &Path, log: &Log<'_>) -> Result<Machine, String> {
    let shown = |error: &docker::DockerError| {
        let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        error.hint().map_or(text.clone(), |hint| format!("{text} ({hint})"))
    };
    let engine = docker::connect().await.map_err(|error| shown(&error))?;
    let same = |path: &Path| (path.to_owned(), path.to_owned());
    let mut mounts = vec![same(source), same(state)];
    mounts.extend(options.mounts.iter().cloned());
    let scratch = std::env::temp_dir();
    for (_, value) in &order.overrides {
        let path = PathBuf::from(value);
        if path.is_absolute() && path.is_dir() && path.starts_with(&scratch) && !mounts.iter().any(|(_, to)| path.starts_with(to)) {
            mounts.push(same(&path));
        }
    }
    let machine = MachineOptions { image: options.image.clone(), mounts, privileged: options.privileged, directory: source.to_owned() };
    let machine = Machine::start(&engine, &machine).await.map_err(|error| shown(&error))?;
    log.agent(format!("Running in a container of {}", options.image));
    Ok(machine)
}
