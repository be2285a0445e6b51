//! What is to be built: everything that a run needs to know, so that nothing below reads flags or the process's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::aws::Access;
use crate::model::{Exit, Mask};

/// A build to run.
#[derive(Clone)]
pub struct Order {
    /// The source: where commands start, and where patterns count from.
    pub source: PathBuf,
    /// The buildspec.
    pub buildspec: Source,
    /// The project's name.
    pub project: String,
    /// What the image's variables are to `CodeBuild`: with the lowest rank. Nothing else is inherited.
    pub environment: BTreeMap<OsString, OsString>,
    /// The project's own variables, above the buildspec's.
    pub project_variables: Vec<(String, String)>,
    /// Those of the batch's build, above the project's.
    pub batch_variables: Vec<(String, String)>,
    /// Those given at the start of the build, above all others.
    pub overrides: Vec<(String, String)>,
    /// The build's identifier in a batch.
    pub identifier: Option<String>,
    /// Which of how many builds of a fan-out it is, from 1.
    pub shard: Option<(u32, u32)>,
    /// The image to run in; on this machine without one.
    pub container: Option<Container>,
    /// Where the cache is kept.
    pub cache: Option<CacheStore>,
    /// Where artifacts are written; they are only looked for without one.
    pub artifacts: Option<PathBuf>,
    /// Are artifacts packed?
    pub packaging: Packaging,
    /// Where the tests of the reports are written as `JUnit`.
    pub reports: Option<PathBuf>,
    /// How AWS is reached, for parameters, secrets and an S3 cache.
    pub access: Access,
    /// How long a build may take.
    pub timeout: Option<Duration>,
    /// Does a runtime that is not there fail the build, rather than be warned of?
    pub require_runtimes: bool,
    /// A `runtimes.yml` instead of the image's own.
    pub runtimes: Option<PathBuf>,
    /// How many builds of a batch run at once.
    pub parallel: usize,
    /// Values that must not be shown.
    pub mask: Mask,
    /// Tells when to stop.
    pub stop: Option<watch::Receiver<Option<Exit>>>,
}

/// Where a buildspec comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, from the source's directory.
    File(String),
    /// The text itself, with a name for messages.
    Text {
        /// The name.
        name: String,
        /// The text.
        text: String,
    },
}

/// A container to run in.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its image.
    pub image: String,
    /// Directories of this machine that it sees too, and where.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Does it get the rights to run an engine of its own?
    pub privileged: bool,
}

/// Where a cache is kept.
#[derive(Debug, Clone)]
pub enum CacheStore {
    /// In a directory of this machine.
    Local(PathBuf),
    /// In a bucket, below a prefix.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix without a slash at its end; may be empty.
        prefix: String,
    },
}

/// Are artifacts packed?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packaging {
    /// Files in a folder.
    #[default]
    None,
    /// One archive.
    Zip,
}

impl Order {
    /// A build of `source` by its `buildspec.yml` on this machine, with nothing else.
    #[must_use]
    pub fn new(source: PathBuf) -> Self {
        Self {
            source,
            buildspec: Source::File("buildspec.yml".to_owned()),
            project: "local".to_owned(),
            environment: BTreeMap::new(),
            project_variables: Vec::new(),
            batch_variables: Vec::new(),
            overrides: Vec::new(),
            identifier: None,
            shard: None,
            container: None,
            cache: None,
            artifacts: None,
            packaging: Packaging::None,
            reports: None,
            access: Access::default(),
            timeout: None,
            require_runtimes: false,
            runtimes: None,
            parallel: 1,
            mask: Mask::default(),
            stop: None,
        }
    }

    /// Comes to its end when the build is to stop, else not at all.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let stop = self.stop.clone();
        async move {
            if let Some(mut stop) = stop
                && stop.wait_for(Option::is_some).await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        }
    }

    /// Has it been told to stop?
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.borrow().is_some())
    }
}
