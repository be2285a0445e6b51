//! What a plan says of each object that is to be written.
//!
//! Deliberately absent: which objects those are (`plan`), and writing them (`execute`, `upload`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{ObjectKey, Sha256, SharedHeaders};

use super::classify::Class;

/// One object to write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Its key.
    pub key: ObjectKey,
    /// The file, from the output's root.
    #[serde(with = "text")]
    pub path: Arc<str>,
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
    /// What it is served with.
    pub headers: SharedHeaders,
    /// What is written.
    pub change: Change,
    /// What a change of it means.
    pub class: Class,
    /// Where the body lies if not in the output: absolute, on this machine, and so for this run alone.
    #[serde(skip)]
    pub stored: Option<PathBuf>,
}

impl Write {
    /// Where its body lies: from the output's root, or absolute.
    #[must_use]
    pub fn body(&self) -> &Path {
        self.stored.as_deref().unwrap_or(Path::new(&*self.path))
    }

    /// Writes of one rank may happen in any order; none of a higher one before all of a lower one are done.
    #[must_use]
    pub fn rank(&self) -> (Class, bool) {
        (self.class, &*self.path == "index.html")
    }
}

/// What a write does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// There is no such key yet.
    New,
    /// The content changes.
    Content,
    /// The headers alone change: the object is copied onto itself.
    Headers,
}

/// Writes that several threads share: there may be tens of thousands of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Writes(Arc<Vec<Write>>);

impl std::ops::Deref for Writes {
    type Target = [Write];

    fn deref(&self) -> &[Write] {
        &self.0
    }
}

impl From<Vec<Write>> for Writes {
    fn from(writes: Vec<Write>) -> Self {
        Self(Arc::new(writes))
    }
}

impl Serialize for Writes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Writes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

/// A shared text as JSON.
mod text {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}
