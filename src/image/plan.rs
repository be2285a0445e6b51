//! Which images have to be built, and what they are called.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{BuildImage, Service};
use crate::model::{ImageDigest, ImageRef, ImageUri, Refusal, Sha256, UnitName};

/// The image of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagePlan {
    /// The repository's name in ECR.
    pub repository: String,
    /// Where it is pushed to and pulled from: `HOST/REPOSITORY`.
    pub uri: String,
    /// The tag: made of the digest of all that goes into the image.
    pub tag: String,
    /// The build context, from the configuration's directory.
    pub context: String,
    /// The Dockerfile, from there.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The Dockerfile's stage; the last if none.
    pub target: Option<String>,
    /// `linux/amd64`.
    pub platform: String,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What the registry has by this tag; if nothing, it is built and pushed.
    pub present: Option<ImageDigest>,
}

impl ImagePlan {
    /// The image, as later stages refer to it.
    #[must_use]
    pub fn reference(&self, service: &UnitName) -> ImageRef {
        match self.present {
            Some(digest) => ImageRef::Known(ImageUri { repository: self.uri.clone(), digest }),
            None => ImageRef::FromStep(service.clone()),
        }
    }
}

/// The repository of an image, as preflight finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `HOST/REPOSITORY`, as ECR says.
    pub uri: String,
}

/// What is known of an image before it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Of all that goes into the image.
    pub context: Sha256,
    /// `HOST/REPOSITORY`.
    pub uri: String,
    /// What the registry has by the tag.
    pub present: Option<ImageDigest>,
}

/// The tag of an image that is made of this: within ECR's 128 characters and letters.
#[must_use]
pub fn tag(context: &Sha256) -> String {
    let mut tag = format!("ctx-{context}");
    tag.truncate("ctx-".len() + 24);
    tag
}

/// Draws the plan of one image. `commit` becomes a label.
#[must_use]
pub fn draw(service: &Service, image: &BuildImage, observed: &Observed, commit: Option<&str>) -> ImagePlan {
    // https://github.com/opencontainers/image-spec/blob/main/annotations.md
    let labels = commit.map(|commit| ("org.opencontainers.image.revision".to_owned(), commit.to_owned()));
    ImagePlan {
        repository: image.repository.clone(),
        uri: observed.uri.clone(),
        tag: tag(&observed.context),
        context: service.path.clone(),
        dockerfile: image.dockerfile.clone(),
        args: image.args.clone(),
        target: (!image.target.is_empty()).then(|| image.target.clone()),
        platform: image.platform.to_string(),
        labels: labels.into_iter().collect(),
        present: observed.present,
    }
}

/// Where an image is pushed to: ECR's own answer, unless the configuration names another host for the registry.
#[must_use]
pub fn uri(registry: Option<&str>, image: &BuildImage, found: &Found) -> String {
    match registry {
        Some(host) => format!("{}/{}", host.trim_end_matches('/'), image.repository),
        None => found.uri.clone(),
    }
}

/// Why an image cannot be pushed, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, image: &BuildImage, found: Option<&Found>) -> Option<Refusal> {
    let repository = &image.repository;
    found.is_none().then(|| {
        Refusal::new(
            format!("service `{name}`: there is no repository `{repository}` in ECR"),
            format!("create it (`aws ecr create-repository --repository-name {repository} --image-tag-mutability IMMUTABLE`), or correct `repository`"),
        )
    })
}
