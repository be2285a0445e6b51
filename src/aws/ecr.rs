//! ECR: repositories, the images in them, and the password that a push needs.

use std::fmt;

use aws_sdk_ecr::types::{ImageDetail, ImageIdentifier, ImageTagMutability};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Aws, AwsError};
use crate::model::ImageDigest;

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Repository {
    /// Where it is pushed to: `111111111111.dkr.ecr.us-east-1.amazonaws.com/shop/api`.
    pub uri: String,
    /// Is every tag written once and never moved?
    pub immutable: bool,
    /// Is what is pushed looked through for known holes? The registry may do so by itself, too.
    #[serde(default)]
    pub scans: bool,
}

/// What a push logs in with. Its `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// `AWS`.
    pub username: String,
    /// A token that lives 12 hours.
    pub password: String,
    /// The registry: `https://111111111111.dkr.ecr.us-east-1.amazonaws.com`.
    pub endpoint: String,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryCredentials").field("username", &self.username).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Aws {
    /// A repository by its name; `None` when there is none.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn repository(&self, name: &str) -> Result<Option<Repository>, AwsError> {
        let request = self.0.ecr.describe_repositories().repository_names(name);
        let answer = match request.send().await.map_err(AwsError::of("ecr:DescribeRepositories", name)) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        Ok(answer.repositories.unwrap_or_default().into_iter().next().map(|repository| Repository {
            uri: repository.repository_uri.unwrap_or_default(),
            // With exclusions some tags can move; a content-addressed tag is only safe when none can.
            immutable: repository.image_tag_mutability == Some(ImageTagMutability::Immutable),
            scans: repository.image_scanning_configuration.is_some_and(|scanning| scanning.scan_on_push),
        }))
    }

    /// The digest that a tag points to; `None` when there is no such tag.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>
    ///
    /// # Errors
    /// No such repository ([`AwsError::is_not_found`]); not allowed.
    pub async fn image_digest(&self, repository: &str, tag: &str) -> Result<Option<ImageDigest>, AwsError> {
        let image = ImageIdentifier::builder().image_tag(tag).build();
        let Some(found) = self.describe_image(repository, format!("{repository}:{tag}"), image).await? else { return Ok(None) };
        let digest = found.image_digest.unwrap_or_default();
        let digest = digest.parse().map_err(|error| {
            AwsError::unexpected("ecr:DescribeImages", format!("{repository}:{tag}"), format!("the answer's digest is none: {error}"))
        })?;
        Ok(Some(digest))
    }

    async fn describe_image(&self, repository: &str, resource: String, image: ImageIdentifier) -> Result<Option<ImageDetail>, AwsError> {
        let request = self.0.ecr.describe_images().repository_name(repository).image_ids(image);
        let answer = match request.send().await.map_err(AwsError::of("ecr:DescribeImages", resource)) {
            Err(error) if error.code() == Some("ImageNotFoundException") => return Ok(None),
            answer => answer?,
        };
        Ok(answer.image_details.unwrap_or_default().into_iter().next())
    }

    /// What a push to the account's registry logs in with.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn registry_credentials(&self) -> Result<RegistryCredentials, AwsError> {
        const OPERATION: &str = "ecr:GetAuthorizationToken";
        let answer = self.0.ecr.get_authorization_token().send().await.map_err(AwsError::of(OPERATION, ""))?;
        let data = answer.authorization_data.unwrap_or_default().into_iter().next();
        data.and_then(|data| {
            let token = STANDARD.decode(data.authorization_token?).ok()?;
            let (username, password) = std::str::from_utf8(&token).ok()?.split_once(':')?;
            let endpoint = data.proxy_endpoint.unwrap_or_default();
            Some(RegistryCredentials { username: username.to_owned(), password: password.to_owned(), endpoint })
        })
        .ok_or_else(|| AwsError::unexpected(OPERATION, "", "the answer holds no token"))
    }
}
