//! The words of `windlass.yml` that have a form of their own: where the state is, buckets, platforms, lengths of time.

use std::fmt;
use std::str::FromStr;

use crate::model::{Invalid, as_text};

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// In a private bucket, below a prefix without a slash at its ends (it may be empty).
    S3 {
        /// The bucket.
        bucket: Bucket,
        /// The prefix.
        prefix: String,
    },
    /// Nowhere: no record, no resume, no rollback.
    None,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for State {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "none" {
            return Ok(Self::None);
        }
        let rest = text.strip_prefix("s3://").ok_or_else(|| Invalid::new("state", text, "needs to be `s3://BUCKET/PREFIX` or `none`"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self::S3 { bucket: bucket.parse()?, prefix: prefix.trim_matches('/').to_owned() })
    }
}

as_text!(State, "^(none|s3://.+)$");

/// The name of a bucket.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(String);

impl Bucket {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Bucket {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let ends = text.starts_with(['-', '.']) || text.ends_with(['-', '.']);
        // S3 asks for three characters at least; servers that speak its language take fewer, and S3 itself says so when asked.
        if !(1..=63).contains(&text.len()) || ends || !text.chars().all(allowed) {
            let why = "needs lower-case letters, digits, `-` or `.`, at most 63, with a letter or a digit at both ends";
            return Err(Invalid::new("bucket", text, why));
        }
        Ok(Self(text.to_owned()))
    }
}

as_text!(Bucket, "^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$");

/// What an image runs on: `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform(String);

impl Default for Platform {
    fn default() -> Self {
        Self("linux/amd64".to_owned())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Platform {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "linux/amd64" | "linux/arm64" => Ok(Self(text.to_owned())),
            _ => Err(Invalid::new("platform", text, "needs to be `linux/amd64` or `linux/arm64`: ECS and Lambda run no other")),
        }
    }
}

as_text!(Platform, "^linux/(amd64|arm64)$");

/// A length of time: `90s`, `15m`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration(pub std::time::Duration);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl FromStr for Duration {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("length of time", text, "needs a whole number above 0 and `s`, `m` or `h`: `90s`, `15m`");
        let unit = match text.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        let seconds = count.checked_mul(unit).filter(|&seconds| seconds > 0).ok_or_else(wrong)?;
        Ok(Self(std::time::Duration::from_secs(seconds)))
    }
}

as_text!(Duration, "^[0-9]+[smh]$");
