//! CloudFront: how a distribution is guarded, towards its viewers and its origins.

use super::{Aws, AwsError};

/// A distribution, as far as its guards go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Its ARN.
    pub arn: String,
    /// Does it serve at all?
    pub enabled: bool,
    /// The names of its own that it answers to.
    pub aliases: Vec<String>,
    /// The ARN of the web ACL in front of it; with the classic WAF its id.
    pub web_acl: Option<String>,
    /// `TLSv1.2_2021` …; `None` with CloudFront's own certificate, which has no choice.
    pub minimum_protocol: Option<String>,
    /// What it does with paths, the default (`*`) last.
    pub behaviours: Vec<Behaviour>,
    /// Where it takes content from.
    pub origins: Vec<EdgeOrigin>,
}

/// What is done with paths of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// `/api/*`, `*`.
    pub path: String,
    /// The id of its origin.
    pub origin: String,
    /// `allow-all`, `redirect-to-https` or `https-only`.
    pub viewer: String,
}

/// One origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeOrigin {
    /// Its id inside the distribution.
    pub id: String,
    /// `shop-123.us-east-1.elb.amazonaws.com`.
    pub domain: String,
    /// Has it an origin access control?
    pub access_control: bool,
    /// Has it an origin access identity, the older form?
    pub access_identity: bool,
    /// Is it reached inside its VPC?
    pub in_vpc: bool,
    /// `http-only`, `https-only` or `match-viewer`; `None` for a bucket.
    pub protocol: Option<String>,
    /// The names of the headers that CloudFront adds. Their values are secrets.
    pub headers: Vec<String>,
}

impl EdgeOrigin {
    /// Is it a bucket by its own address (not that of a website)?
    #[must_use]
    pub fn is_bucket(&self) -> bool {
        self.protocol.is_none() && self.domain.contains(".s3") && !self.is_website()
    }

    /// Is it a bucket's website, which is public by its nature?
    #[must_use]
    pub fn is_website(&self) -> bool {
        self.domain.contains(".s3-website")
    }

    /// Is it the address of a Lambda function?
    #[must_use]
    pub fn is_function(&self) -> bool {
        self.domain.contains(".lambda-url.")
    }
}

impl Aws {
    /// How a distribution is guarded; `None` when this account has none by that id.
    ///
    /// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_DistributionConfig.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn edge(&self, id: &str) -> Result<Option<Edge>, AwsError> {
        const OPERATION: &str = "cloudfront:GetDistribution";
        let answer = match self.0.cloudfront.get_distribution().id(id).send().await.map_err(AwsError::of(OPERATION, id)) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let Some((arn, config)) = answer.distribution.and_then(|found| Some((found.arn, found.distribution_config?))) else {
            return Err(AwsError::unexpected(OPERATION, id, "the answer holds no configuration"));
        };
        let others = config.cache_behaviors.and_then(|behaviours| behaviours.items).unwrap_or_default();
        let mut behaviours: Vec<Behaviour> = others
            .into_iter()
            .map(|one| Behaviour {
                path: one.path_pattern,
                origin: one.target_origin_id,
                viewer: one.viewer_protocol_policy.as_str().to_owned(),
            })
            .collect();
        behaviours.extend(config.default_cache_behavior.map(|one| Behaviour {
            path: "*".to_owned(),
            origin: one.target_origin_id,
            viewer: one.viewer_protocol_policy.as_str().to_owned(),
        }));
        let certificate = config.viewer_certificate.filter(|certificate| certificate.cloud_front_default_certificate != Some(true));
        Ok(Some(Edge {
            arn,
            enabled: config.enabled,
            aliases: config.aliases.and_then(|aliases| aliases.items).unwrap_or_default(),
            web_acl: config.web_acl_id.filter(|id| !id.is_empty()),
            minimum_protocol: certificate
                .and_then(|certificate| certificate.minimum_protocol_version)
                .map(|version| version.as_str().to_owned()),
            behaviours,
            origins: config.origins.map(|origins| origins.items).unwrap_or_default().into_iter().map(origin).collect(),
        }))
    }
}

fn origin(origin: aws_sdk_cloudfront::types::Origin) -> EdgeOrigin {
    let headers = origin.custom_headers.and_then(|headers| headers.items).unwrap_or_default();
    EdgeOrigin {
        id: origin.id,
        domain: origin.domain_name,
        access_control: origin.origin_access_control_id.is_some_and(|id| !id.is_empty()),
        access_identity: origin.s3_origin_config.is_some_and(|s3| !s3.origin_access_identity.is_empty()),
        in_vpc: origin.vpc_origin_config.is_some(),
        protocol: origin.custom_origin_config.map(|custom| custom.origin_protocol_policy.as_str().to_owned()),
        headers: headers.into_iter().map(|header| header.header_name).collect(),
    }
}
