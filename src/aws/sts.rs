//! STS: who is asking.

use super::{Aws, AwsError};
use aws_config::retry::RetryConfig;

/// Who AWS takes the caller for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The account's 12 digits.
    pub account: String,
    /// The ARN of the user or of the role's session.
    pub arn: String,
}

impl Aws {
    /// Who AWS takes the caller for. It needs no permission, so that its failure speaks of credentials or of the network alone; as the
    /// first call of a run it is tried three times only, for an endpoint that is not there should be noticed soon.
    ///
    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
    ///
    /// # Errors
    /// No, wrong or expired credentials; the role cannot be assumed; the endpoint is unreachable.
    pub async fn caller_identity(&self) -> Result<Identity, AwsError> {
        let soon = aws_sdk_sts::config::Builder::new().retry_config(RetryConfig::standard().with_max_attempts(3));
        let failed = AwsError::of("sts:GetCallerIdentity", "");
        let answer = self.0.sts.get_caller_identity().customize().config_override(soon).send().await.map_err(failed)?;
        match (answer.account, answer.arn) {
            (Some(account), Some(arn)) => Ok(Identity { account, arn }),
            _ => Err(AwsError::unexpected("sts:GetCallerIdentity", "", "the answer names no account")),
        }
    }
}
