//! Writes files where there are none.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::model::{Exit, Failure};

/// A file that is to be there.
#[derive(Debug)]
pub(super) struct File {
    /// From the checkout's root.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was not there, and is now.
    Written,
    /// It would be written.
    WouldBe,
    /// It is there, with just this text.
    Same,
    /// It is there, and says something else.
    Kept,
}

impl Fate {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::WouldBe => "would_be_written",
            Self::Same => "unchanged",
            Self::Kept => "kept",
        }
    }
}

/// Writes each file that is not there; what is there, be it a link that leads nowhere, is never touched.
pub(super) fn all(root: &Path, files: &[File], dry_run: bool) -> Result<Vec<Fate>, Failure> {
    files.iter().map(|file| one(root, file, dry_run)).collect()
}

fn one(root: &Path, file: &File, dry_run: bool) -> Result<Fate, Failure> {
    let full = root.join(&file.path);
    if full.symlink_metadata().is_ok() {
        let same = std::fs::read(&full).is_ok_and(|there| there == file.text.as_bytes());
        return Ok(if same { Fate::Same } else { Fate::Kept });
    }
    if dry_run {
        return Ok(Fate::WouldBe);
    }
    let failed = |error: std::io::Error| {
        let failure = Failure::new(Exit::Config, format!("writing `{}` failed", file.path)).because(error);
        failure.hint("make the directory writable, and run it again: what has been written stays and is not written twice")
    };
    let folder = full.parent().unwrap_or(root);
    std::fs::create_dir_all(folder).map_err(failed)?;
    // Whole or not at all, and not over a file that somebody has made meanwhile.
    let mut new = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o666)).tempfile_in(folder).map_err(failed)?;
    new.write_all(file.text.as_bytes()).map_err(failed)?;
    match new.persist_noclobber(&full) {
        Ok(_) => Ok(Fate::Written),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Fate::Kept),
        Err(error) => Err(failed(error.error)),
    }
}
