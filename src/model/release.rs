//! Releases: their ids, the commit that they come from, and the five stages that they pass.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Invalid, ObjectKey, as_text};

/// The id of a release: `20261121T054700123Z-1a2b3c4d`, so that ids sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId(String);

impl ReleaseId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ReleaseId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // It becomes part of an object key and of a CloudFront caller reference.
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(Invalid::new("release id", text, "needs 1 to 64 letters, digits or `-`"));
        }
        Ok(Self(text.to_owned()))
    }
}

as_text!(ReleaseId, "^[A-Za-z0-9-]{1,64}$");

/// Which release of which environment was promoted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Promoted {
    /// The environment that it was released to first.
    pub environment: String,
    /// The release there.
    pub release: ReleaseId,
}

/// A Git commit, by its full id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(String);

impl Commit {
    /// The full id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight hex digits, for lines that people read.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Commit {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("commit", text, "needs the full id, 40 or 64 lower-case hex digits"))
    }
}

as_text!(Commit, "^([0-9a-f]{40}|[0-9a-f]{64})$");

/// The stages of a release, each a barrier: none starts before the one above is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Uploads keys that are not live yet; keeps the bodies of what will be overwritten.
    Assets,
    /// Builds and pushes what the registry does not have.
    Images,
    /// Migrates every database.
    Migrations,
    /// Registers revisions, rolls, watches.
    Services,
    /// Every overwrite, entry documents last; then invalidates and checks.
    Publish,
}

impl Stage {
    /// All five, in their order.
    pub const ALL: [Self; 5] = [Self::Assets, Self::Images, Self::Migrations, Self::Services, Self::Publish];

    /// The name that the command line and the plan use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Images => "images",
            Self::Migrations => "migrations",
            Self::Services => "services",
            Self::Publish => "publish",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Stage {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.name() == text)
            .ok_or_else(|| Invalid::new("stage", text, "needs to be assets, images, migrations, services or publish"))
    }
}

/// A release that has begun to write over what is live of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// The last one that has begun to; none where nobody has.
    pub release: Option<ReleaseId>,
    /// All that it, or one before it that came to no end either, may have written.
    pub keys: BTreeSet<ObjectKey>,
}
