//! Names: of units, of S3 objects, and the headers that an object is served with.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Invalid, as_text};

/// The name of a site, a service or a migration, unique in its application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName(String);

impl UnitName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 63 || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(allowed) {
            return Err(Invalid::new("name", text, "needs 1 to 63 letters, digits, `-` or `_`, the first a letter or a digit"));
        }
        Ok(Self(text.to_owned()))
    }
}

as_text!(UnitName, "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$");

/// What kind of thing a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// Files in a bucket behind a distribution.
    Site,
    /// Containers on ECS.
    Service,
    /// The schema of one database.
    Migration,
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Site => "site",
            Self::Service => "service",
            Self::Migration => "migration",
        })
    }
}

/// The key of an S3 object: 1 to 1,024 bytes of UTF-8. Its clones share the text.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text, shared.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The part after the last `/`.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ObjectKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.len() {
            1..=1024 => Ok(Self(text.into())),
            _ => Err(Invalid::new("object key", text, "needs 1 to 1,024 bytes")),
        }
    }
}

as_text!(ObjectKey, "^.{1,1024}$");

/// The headers that S3 keeps with an object and CloudFront serves with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Headers {
    /// `Content-Type`, with its charset.
    pub content_type: Cow<'static, str>,
    /// `Cache-Control`.
    pub cache_control: Cow<'static, str>,
    /// `Content-Encoding`, for files that are stored compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<Cow<'static, str>>,
    /// The cache tag: `cache-tag` of the metadata, which S3 serves as `x-amz-meta-cache-tag`.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/Invalidation.html>
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_tag: Option<Cow<'static, str>>,
}

impl Headers {
    /// These two alone.
    #[must_use]
    pub fn of(content_type: impl Into<Cow<'static, str>>, cache_control: impl Into<Cow<'static, str>>) -> Self {
        Self { content_type: content_type.into(), cache_control: cache_control.into(), content_encoding: None, cache_tag: None }
    }
}

/// A pattern over `/`-separated paths: `*` stays inside a segment, `**` crosses them.
#[derive(Debug, Clone)]
pub struct Glob(globset::GlobMatcher);

impl Glob {
    /// Does the whole of `path` match?
    #[must_use]
    pub fn is_match(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

impl FromStr for Glob {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        globset::GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map(|glob| Self(glob.compile_matcher()))
            .map_err(|error| Invalid::new("pattern", text, error.kind().to_string()))
    }
}

as_text!(Glob, "^.+$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_name_is_safe_in_a_path_and_in_a_tag() {
        for name in ["web", "api-2", "Back_end", "9"] {
            assert!(name.parse::<UnitName>().is_ok(), "{name}");
        }
        for name in ["", "-a", "a/b", "a b", "ä", &"x".repeat(64)] {
            assert!(name.parse::<UnitName>().is_err(), "{name}");
        }
    }

    #[test]
    fn one_star_stays_inside_a_segment() {
        let one: Glob = "legal/*".parse().unwrap();
        assert!(one.is_match("legal/a.html") && !one.is_match("legal/de/a.html"));
        let two: Glob = "legal/**".parse().unwrap();
        assert!(two.is_match("legal/de/a.html") && !two.is_match("illegal/a.html"));
    }
}
