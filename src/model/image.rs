//! The address of an image in a registry.

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
