//! The address of an image in a registry.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{ImageDigest, Invalid, UnitName, as_text};

/// An image in a registry, pinned by digest: `HOST/REPOSITORY@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageUri {
    /// The repository with its registry: `111111111111.dkr.ecr.us-east-1.amazonaws.com/shop/api`.
    pub repository: String,
    /// The digest of its manifest.
    pub digest: ImageDigest,
}

impl fmt::Display for ImageUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl FromStr for ImageUri {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (name, digest) = text.split_once('@').ok_or_else(|| {
            Invalid::new("image", text, "has no digest: pin it as `REPOSITORY@sha256:…`, because a tag can move between plan and release")
        })?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Invalid::new("image", text, "has no repository before the `@`"));
        }
        // `repository:tag@digest` is allowed by Docker; the digest alone decides.
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let repository = name[slash..].find(':').map_or(name, |at| &name[..slash + at]);
        Ok(Self { repository: repository.to_owned(), digest: digest.parse()? })
    }
}

as_text!(ImageUri, "^[^@\\s]+@sha256:[0-9a-f]{64}$");

/// An image that a plan names: known already, or what the build of a service will yield.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRef {
    /// In the registry already.
    Known(ImageUri),
    /// Yielded by the image step of this service.
    FromStep(UnitName),
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(uri) => uri.fmt(f),
            Self::FromStep(service) => write!(f, "the image of `{service}`, still to be built"),
        }
    }
}

/// What a run has found out of an image that it has built or judged.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Made {
    /// The image that it stands on, `NAME@DIGEST`; none for one that begins from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Its layers that hold anything, oldest first, those of the base included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<ImageLayer>,
    /// The steps of its build; none of the classic builder, and of an image that was built with a site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<BuildStep>,
    /// How many findings of each severity ECR's scan has, by ECR's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<BTreeMap<String, u32>>,
    /// Where its bill of materials lies, from the configuration's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<String>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageLayer {
    /// The instruction that made it, shortened.
    pub by: String,
    /// Its size before compression.
    pub bytes: u64,
    /// Is it the base's?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_base: bool,
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BuildStep {
    /// As the builder names it: `[2/4] RUN pip install …`.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Was it remembered?
    pub cached: bool,
}

/// How bad a finding in an image is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    #[default]
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// By ECR's word; none for what it calls informational, undefined or untriaged.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "LOW" => Some(Self::Low),
            "MEDIUM" => Some(Self::Medium),
            "HIGH" => Some(Self::High),
            "CRITICAL" => Some(Self::Critical),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_beside_a_digest_is_dropped_and_a_port_is_kept() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, repository) in [
            ("127.0.0.1:4566/shop/api:v1", "127.0.0.1:4566/shop/api"),
            ("shop/api", "shop/api"),
            ("localhost:5000/api", "localhost:5000/api"),
        ] {
            assert_eq!(format!("{text}@{digest}").parse::<ImageUri>().unwrap().repository, repository);
        }
        assert!("shop/api:v1".parse::<ImageUri>().unwrap_err().to_string().contains("pin it"));
    }
}
