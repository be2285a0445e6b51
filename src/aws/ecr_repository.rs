//! ECR: creating a repository, and what an image in one is made of.

use aws_sdk_ecr::types::{DescribeImagesFilter, ImageIdentifier, ImageScanningConfiguration, ImageTagMutability, TagStatus};

use super::{Aws, AwsError};
use crate::model::ImageDigest;

/// What a new repository forgets: images that no tag names any more, after two weeks; and of its tagged ones all but the newest 1000,
/// far more than any service's history, as what runs must stay pullable.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html>
const LIFECYCLE: &str = r#"{"rules":[
{"rulePriority":1,"description":"untagged images","selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":14},"action":{"type":"expire"}},
{"rulePriority":2,"description":"all but the newest 1000","selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1000},"action":{"type":"expire"}}
]}"#;

/// The manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: ImageDigest,
    /// Its JSON: an image's manifest, or a list of several.
    pub json: String,
}

/// An image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestImage {
    /// The tag that was looked for.
    pub tag: String,
    /// Its digest.
    pub digest: ImageDigest,
    /// When it was pushed, in seconds since 1970, if ECR says so.
    pub pushed: Option<u64>,
}

impl Aws {
    /// Creates a repository whose tags never move, which scans what is pushed, and which forgets what nobody needs. One that is there
    /// already is left as it is.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html>
    ///
    /// # Errors
    /// Not allowed; too many repositories.
    pub async fn create_repository(&self, name: &str) -> Result<(), AwsError> {
        let scan = ImageScanningConfiguration::builder().scan_on_push(true).build();
        let request = self.0.ecr.create_repository().repository_name(name).image_tag_mutability(ImageTagMutability::Immutable);
        let created = request.image_scanning_configuration(scan).send().await;
        match created.map_err(AwsError::of("ecr:CreateRepository", name)) {
            Err(error) if error.code() == Some("RepositoryAlreadyExistsException") => return Ok(()),
            created => created.map(drop)?,
        }
        let request = self.0.ecr.put_lifecycle_policy().repository_name(name).lifecycle_policy_text(LIFECYCLE);
        request.send().await.map(drop).map_err(AwsError::of("ecr:PutLifecyclePolicy", name))
    }

    /// The newest image of a repository with a tag that begins with `prefix`.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn newest_image(&self, repository: &str, prefix: &str) -> Result<Option<NewestImage>, AwsError> {
        let tagged = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
        let request = self.0.ecr.describe_images().repository_name(repository).filter(tagged).max_results(1000);
        let mut pages = request.into_paginator().items().send();
        let mut newest = None;
        while let Some(image) = pages.next().await {
            let image = match image.map_err(AwsError::of("ecr:DescribeImages", repository)) {
                Err(error) if error.is_not_found() => return Ok(None),
                image => image?,
            };
            let tag = image.image_tags.unwrap_or_default().into_iter().find(|tag| tag.starts_with(prefix));
            let found = tag.zip(image.image_digest.and_then(|digest| digest.parse().ok()));
            let at = image.image_pushed_at.map(|time| time.secs());
            if let Some(found) = found
                && newest.as_ref().is_none_or(|(then, _)| *then <= at)
            {
                newest = Some((at, found));
            }
        }
        let pushed = |at: Option<i64>| at.and_then(|at| u64::try_from(at).ok());
        Ok(newest.map(|(at, (tag, digest))| NewestImage { tag, digest, pushed: pushed(at) }))
    }

    /// The manifest that a tag, or a digest, stands for; `None` when there is none.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html>
    ///
    /// # Errors
    /// No such repository ([`AwsError::is_not_found`]); not allowed.
    pub async fn image_manifest(&self, registry: Option<&str>, repository: &str, version: &str) -> Result<Option<Manifest>, AwsError> {
        const KINDS: [&str; 4] = [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
        ];
        let id = ImageIdentifier::builder();
        let id = if version.starts_with("sha256:") { id.image_digest(version) } else { id.image_tag(version) };
        let request = self.0.ecr.batch_get_image().set_registry_id(registry.map(str::to_owned)).repository_name(repository);
        let request = request.image_ids(id.build()).set_accepted_media_types(Some(KINDS.map(str::to_owned).into()));
        let resource = format!("{repository}:{version}");
        let answer = request.send().await.map_err(AwsError::of("ecr:BatchGetImage", &resource))?;
        let Some(image) = answer.images.unwrap_or_default().into_iter().next() else { return Ok(None) };
        let digest = image.image_id.and_then(|id| id.image_digest).unwrap_or_default();
        let digest = digest
            .parse()
            .map_err(|error| AwsError::unexpected("ecr:BatchGetImage", resource, format!("the answer's digest is none: {error}")))?;
        Ok(Some(Manifest { digest, json: image.image_manifest.unwrap_or_default() }))
    }

    /// Where the bytes of a layer, or of an image's configuration, can be fetched for a while.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html>
    ///
    /// # Errors
    /// No such layer; not allowed.
    pub async fn blob_url(&self, registry: Option<&str>, repository: &str, digest: &str) -> Result<Option<String>, AwsError> {
        let request = self.0.ecr.get_download_url_for_layer().set_registry_id(registry.map(str::to_owned));
        let answer = request.repository_name(repository).layer_digest(digest).send().await;
        Ok(answer.map_err(AwsError::of("ecr:GetDownloadUrlForLayer", repository))?.download_url)
    }
}
