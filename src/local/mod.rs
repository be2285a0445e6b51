//! The local cloud: `ministack`, an emulator of AWS from `PyPI`, and a real PostgreSQL server beside it. Starts, finds and stops both.
//!
//! Nothing else of this program knows that there is such a thing: whoever wants it aims the SDK at [`Cloud::endpoint`].
//! Deliberately absent: state that outlives a stop (every start is a fresh one), and any address that other machines can reach.

mod cloud;
mod database;
mod error;
mod host;
mod settings;

use std::fs::{self, File, TryLockError};
use std::time::Duration;

pub use error::LocalError;
pub use settings::Settings;

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Status {
    /// The emulator, if it runs and answers.
    pub cloud: Option<Cloud>,
    /// The database server, if it runs and answers.
    pub database: Option<Database>,
}

/// The emulator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Cloud {
    /// The one address of all its services and of its image registry: `http://127.0.0.1:4566`.
    pub endpoint: String,
    /// Its process id.
    pub pid: i32,
}

/// The database server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Database {
    /// The database `postgres` as its superuser, from this machine.
    pub url: String,
    /// The same by the address of Docker's bridge, if there is one: works from containers, and from this machine too.
    pub url_from_containers: Option<String>,
    /// Its process id.
    pub pid: i32,
}

/// What was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stopped {
    /// Did the emulator run?
    pub cloud: bool,
    /// Did the database server run?
    pub database: bool,
}

impl Stopped {
    /// Was there nothing to stop?
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Starts what does not run yet, and waits until it answers. `on_step` gets a line for every step that takes a while.
///
/// The first time, it installs the emulator, which takes about a minute and needs a Python package index.
///
/// # Errors
/// [`LocalError`]; what has been started by then keeps running.
pub async fn up(settings: &Settings, mut on_step: impl FnMut(&str) + Send) -> Result<Status, LocalError> {
    let _lock = lock(settings, &mut on_step).await?;
    let cloud = cloud::up(settings, &mut on_step).await?;
    let database = database::up(settings, &mut on_step).await?;
    Ok(Status { cloud: Some(cloud), database: Some(database) })
}

/// Stops what runs. Containers and data go with it.
///
/// # Errors
/// [`LocalError`], when the database server cannot be stopped.
pub async fn down(settings: &Settings, mut on_step: impl FnMut(&str) + Send) -> Result<Stopped, LocalError> {
    if !settings.directory.is_dir() {
        return Ok(Stopped::default());
    }
    let _lock = lock(settings, &mut on_step).await?;
    let cloud = cloud::down(settings, &mut on_step).await;
    let database = database::down(settings, &mut on_step).await?;
    Ok(Stopped { cloud, database })
}

/// Says what runs and answers. Changes nothing.
pub async fn status(settings: &Settings) -> Status {
    Status { cloud: cloud::status(settings).await, database: database::status(settings).await }
}

/// One `up` or `down` at a time. The operating system lifts the lock when this process ends, however it does.
async fn lock(settings: &Settings, on_step: &mut (impl FnMut(&str) + Send)) -> Result<File, LocalError> {
    let path = settings.directory.join("lock");
    let failed = |source| LocalError::Files { operation: "lock", path: path.clone(), source };
    fs::create_dir_all(&settings.directory).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if !said => {
                on_step("waiting for another start or stop of the local cloud");
                said = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_can_be_spawned() {
        fn spawnable(_: impl Future<Output = ()> + Send) {}
        let settings = Settings::from_environment([("HOME".into(), "/h".into())].into_iter()).unwrap();
        spawnable(async move {
            up(&settings, |_| ()).await.unwrap();
            status(&settings).await;
            down(&settings, |_| ()).await.unwrap();
        });
    }
}
