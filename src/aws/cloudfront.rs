//! CloudFront: what a distribution serves from where, and invalidations.

use aws_sdk_cloudfront::types::{InvalidationBatch, Paths};

use super::{Aws, AwsError};

/// A distribution, as far as a release needs it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Distribution {
    /// Its id: `E2EXAMPLE`.
    pub id: String,
    /// Its ARN, which is what a bucket's policy allows.
    pub arn: String,
    /// Its own name: `d111111abcdef8.cloudfront.net`.
    pub domain_name: String,
    /// The other names that it answers to.
    pub aliases: Vec<String>,
    /// Does it serve at all?
    pub enabled: bool,
    /// Has its last change reached every edge?
    pub deployed: bool,
    /// What `/` serves: `index.html`.
    pub default_root_object: Option<String>,
    /// Where it takes content from.
    pub origins: Vec<Origin>,
    /// The header of its origins' answers that holds their cache tags, if it looks for them.
    pub tag_header: Option<String>,
}

/// One origin of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// Its id inside the distribution.
    pub id: String,
    /// `shop-web.s3.us-east-1.amazonaws.com`.
    pub domain_name: String,
    /// What is put in front of every path: `/current`, or empty.
    pub origin_path: String,
    /// Does CloudFront sign its requests (origin access control, or the older identity), so that the bucket can stay private?
    pub access_control: bool,
}

impl Aws {
    /// A distribution; `None` when this account has none by that id.
    ///
    /// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_GetDistribution.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn distribution(&self, id: &str) -> Result<Option<Distribution>, AwsError> {
        const OPERATION: &str = "cloudfront:GetDistribution";
        let answer = match self.0.cloudfront.get_distribution().id(id).send().await.map_err(AwsError::of(OPERATION, id)) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let distribution = answer.distribution.ok_or_else(|| AwsError::unexpected(OPERATION, id, "the answer holds no distribution"))?;
        let config =
            distribution.distribution_config.ok_or_else(|| AwsError::unexpected(OPERATION, id, "the answer holds no configuration"))?;
        let origins = config.origins.map(|origins| origins.items).unwrap_or_default();
        Ok(Some(Distribution {
            id: distribution.id,
            arn: distribution.arn,
            domain_name: distribution.domain_name,
            aliases: config.aliases.and_then(|aliases| aliases.items).unwrap_or_default(),
            enabled: config.enabled,
            deployed: distribution.status == "Deployed",
            default_root_object: config.default_root_object.filter(|key| !key.is_empty()),
            origins: origins.into_iter().map(origin).collect(),
            tag_header: config.cache_tag_config.map(|config| config.header_name),
        }))
    }

    /// Invalidates paths and gives the invalidation's id. The same reference with the same paths gives the same invalidation again, so
    /// that a repeated request costs nothing; each path must be percent-encoded as it appears in a URL.
    ///
    /// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html>
    ///
    /// # Errors
    /// No such distribution ([`AwsError::is_not_found`]); the reference was used for other paths ([`AwsError::is_conflict`]); too many
    /// invalidations in progress; not allowed.
    pub async fn create_invalidation(&self, id: &str, caller_reference: &str, paths: &[String]) -> Result<String, AwsError> {
        const OPERATION: &str = "cloudfront:CreateInvalidation";
        let quantity = i32::try_from(paths.len()).unwrap_or(i32::MAX);
        let paths = Paths::builder().quantity(quantity).set_items(Some(paths.to_vec())).build();
        let batch = paths.and_then(|paths| InvalidationBatch::builder().caller_reference(caller_reference).paths(paths).build());
        let batch = batch.map_err(|error| AwsError::unexpected(OPERATION, id, error.to_string()))?;
        let request = self.0.cloudfront.create_invalidation().distribution_id(id).invalidation_batch(batch);
        let answer = request.send().await.map_err(AwsError::of(OPERATION, id))?;
        let invalidation = answer.invalidation.ok_or_else(|| AwsError::unexpected(OPERATION, id, "the answer holds no invalidation"))?;
        Ok(invalidation.id)
    }

    /// Has an invalidation reached every edge?
    ///
    /// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_GetInvalidation.html>
    ///
    /// # Errors
    /// No such distribution or invalidation ([`AwsError::is_not_found`]); not allowed.
    pub async fn invalidation_done(&self, id: &str, invalidation: &str) -> Result<bool, AwsError> {
        let failed = AwsError::of("cloudfront:GetInvalidation", format!("{id}/{invalidation}"));
        let answer = self.0.cloudfront.get_invalidation().distribution_id(id).id(invalidation).send().await.map_err(failed)?;
        Ok(answer.invalidation.is_some_and(|invalidation| invalidation.status.eq_ignore_ascii_case("completed")))
    }
}

fn origin(origin: aws_sdk_cloudfront::types::Origin) -> Origin {
    let control = origin.origin_access_control_id.is_some_and(|id| !id.is_empty());
    let identity = origin.s3_origin_config.is_some_and(|s3| !s3.origin_access_identity.is_empty());
    Origin {
        id: origin.id,
        domain_name: origin.domain_name,
        origin_path: origin.origin_path.unwrap_or_default(),
        access_control: control || identity,
    }
}
