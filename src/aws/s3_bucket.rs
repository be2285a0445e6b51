//! S3's buckets: is it there, and can the world read it past the CDN?

use aws_sdk_s3::types::{Grantee, Type};

use super::{Aws, AwsError};

/// Whether the world can reach a bucket. What a question that was not answered leaves open is `None` and never "closed".
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exposure {
    /// The bucket's own block on public access; `None` when it has none (the account may still have one).
    pub block: Option<PublicAccessBlock>,
    /// Is there no block, or one with a switch that is off? Not so where the question was not answered.
    pub unblocked: bool,
    /// Does the bucket's policy make it public? `Some(false)` when there is no policy.
    pub policy_public: Option<bool>,
    /// Does its access control list grant anything to everyone, or to every AWS account?
    pub acl_public: Option<bool>,
    /// Does S3 serve it as a website?
    pub website: Option<bool>,
    /// The questions that were refused, or that the endpoint does not know: `s3:GetBucketAcl: AccessDenied: …`.
    pub unanswered: Vec<String>,
}

/// The four switches of a bucket's block on public access.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PublicAccessBlockConfiguration.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "AWS's own four switches, by their names")]
pub struct PublicAccessBlock {
    /// New public access control lists are refused.
    pub block_public_acls: bool,
    /// Public access control lists are ignored.
    pub ignore_public_acls: bool,
    /// New public policies are refused.
    pub block_public_policy: bool,
    /// A public policy reaches nobody outside the account.
    pub restrict_public_buckets: bool,
}

impl PublicAccessBlock {
    /// Are all four switches on?
    #[must_use]
    pub fn is_complete(self) -> bool {
        self.block_public_acls && self.ignore_public_acls && self.block_public_policy && self.restrict_public_buckets
    }
}

impl Aws {
    /// Does the bucket exist, in this region, within reach of these credentials?
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>
    ///
    /// # Errors
    /// It does not ([`AwsError::is_not_found`]); it is someone else's or not allowed ([`AwsError::is_denied`]).
    pub async fn head_bucket(&self, bucket: &str) -> Result<(), AwsError> {
        // HeadBucket is allowed by `s3:ListBucket`.
        self.0.s3.head_bucket().bucket(bucket).send().await.map_err(AwsError::of("s3:ListBucket", bucket))?;
        Ok(())
    }

    /// Whether the world can reach the bucket: four questions, each of which may go unanswered.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetPublicAccessBlock.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicyStatus.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicy.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketAcl.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketWebsite.html>
    ///
    /// # Errors
    /// No such bucket ([`AwsError::is_not_found`]); S3 cannot be asked at all. A denied question is no error but unanswered.
    pub async fn bucket_exposure(&self, bucket: &str) -> Result<Exposure, AwsError> {
        let mut exposure = Exposure::default();
        let s3 = &self.0.s3;

        let block = s3.get_public_access_block().bucket(bucket).send().await;
        let block = block.map_err(AwsError::of("s3:GetBucketPublicAccessBlock", bucket));
        let block = exposure.answered(block, |answer| {
            let block = answer?.public_access_block_configuration?;
            Some(PublicAccessBlock {
                block_public_acls: block.block_public_acls.unwrap_or_default(),
                ignore_public_acls: block.ignore_public_acls.unwrap_or_default(),
                block_public_policy: block.block_public_policy.unwrap_or_default(),
                restrict_public_buckets: block.restrict_public_buckets.unwrap_or_default(),
            })
        })?;
        exposure.block = block.flatten();
        exposure.unblocked = block.is_some_and(|block| block.is_none_or(|block| !block.is_complete()));
        if exposure.block.is_some_and(PublicAccessBlock::is_complete) {
            // Whatever policy and access control list say, it reaches nobody.
            return Ok(exposure);
        }

        let policy = s3.get_bucket_policy_status().bucket(bucket).send().await;
        let policy = policy.map_err(AwsError::of("s3:GetBucketPolicyStatus", bucket));
        exposure.policy_public = exposure.answered(policy, |answer| {
            // No policy at all is a definite no.
            answer.and_then(|answer| answer.policy_status).and_then(|status| status.is_public).unwrap_or_default()
        })?;

        if exposure.policy_public.is_none() {
            // An endpoint that cannot judge a policy may still show it.
            let policy = s3.get_bucket_policy().bucket(bucket).send().await.map_err(AwsError::of("s3:GetBucketPolicy", bucket));
            let text = exposure.answered(policy, |answer| answer.and_then(|answer| answer.policy))?;
            exposure.policy_public = text.map(|policy| policy.is_some_and(|policy| admits_everyone(&policy)));
        }

        let acl = s3.get_bucket_acl().bucket(bucket).send().await.map_err(AwsError::of("s3:GetBucketAcl", bucket));
        exposure.acl_public = exposure.answered(acl, |answer| {
            let grants = answer.and_then(|answer| answer.grants).unwrap_or_default();
            grants.iter().filter_map(|grant| grant.grantee.as_ref()).any(is_everyone)
        })?;

        let website = s3.get_bucket_website().bucket(bucket).send().await.map_err(AwsError::of("s3:GetBucketWebsite", bucket));
        exposure.website = exposure.answered(website, |answer| answer.is_some())?;
        Ok(exposure)
    }
}

impl Exposure {
    /// Reads an answer (`None`: there is no such configuration); gives `None` for a question that was not answered, and notes it.
    fn answered<T, U>(&mut self, answer: Result<T, AwsError>, read: impl FnOnce(Option<T>) -> U) -> Result<Option<U>, AwsError> {
        match answer {
            Ok(answer) => Ok(Some(read(Some(answer)))),
            Err(error) if error.is_not_found() && error.code() != Some("NoSuchBucket") => Ok(Some(read(None))),
            Err(error) if error.is_denied() || error.is_unsupported() => {
                self.unanswered.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Does a policy allow anyone anything, without a condition? A statement with a condition is left to S3's own judgement.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html#access-control-block-public-access-policy-status>
fn admits_everyone(policy: &str) -> bool {
    use serde_json::Value;
    let policy: Value = serde_json::from_str(policy).unwrap_or_default();
    let many = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let star = |value: &Value| many(value).iter().any(|principal| principal == "*");
    many(&policy["Statement"]).iter().any(|statement| {
        let principal = &statement["Principal"];
        let condition = statement["Condition"].as_object().is_some_and(|condition| !condition.is_empty());
        statement["Effect"] == "Allow" && !condition && (star(principal) || star(&principal["AWS"]))
    })
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#specifying-grantee-predefined-groups>
fn is_everyone(grantee: &Grantee) -> bool {
    let group = grantee.uri.as_deref().unwrap_or_default();
    grantee.r#type == Type::Group && (group.ends_with("/global/AllUsers") || group.ends_with("/global/AuthenticatedUsers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_for_everyone_is_told_from_one_for_cloudfront() {
        let policy = |principal: &str, rest: &str| format!(r#"{{"Statement":[{{"Effect":"Allow","Principal":{principal}{rest}}}]}}"#);
        assert!(admits_everyone(&policy(r#""*""#, "")));
        assert!(admits_everyone(&policy(r#"{"AWS":["*"]}"#, "")));
        assert!(admits_everyone(r#"{"Statement":{"Effect":"Allow","Principal":"*"}}"#));
        assert!(!admits_everyone(&policy(r#"{"Service":"cloudfront.amazonaws.com"}"#, "")));
        assert!(!admits_everyone(&policy(r#""*""#, r#","Condition":{"StringEquals":{"aws:SourceVpce":"vpce-1"}}"#)));
        assert!(!admits_everyone(&policy(r#""*""#, "").replace("Allow", "Deny")));
        assert!(!admits_everyone("no JSON"));
    }
}
