//! Secrets Manager: the value of a secret, and how it is kept.

use super::{Aws, AwsError};

/// How a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The KMS key that it is encrypted with; `None` for the account's own for Secrets Manager, `aws/secretsmanager`.
    pub key: Option<String>,
    /// Is it on its way out?
    pub deleted: bool,
    /// Does its value change by itself?
    pub rotates: bool,
}

impl Aws {
    /// How a secret is kept, without its value; `None` where there is no such secret.
    ///
    /// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn secret(&self, secret: &str) -> Result<Option<Secret>, AwsError> {
        let answer = self.0.secretsmanager.describe_secret().secret_id(secret).send().await;
        match answer.map_err(AwsError::of("secretsmanager:DescribeSecret", secret)) {
            Err(error) if error.is_not_found() => Ok(None),
            answer => {
                let answer = answer?;
                let key = answer.kms_key_id.filter(|key| !key.is_empty() && key != "alias/aws/secretsmanager");
                let rotates = answer.rotation_enabled.unwrap_or_default();
                Ok(Some(Secret { key, deleted: answer.deleted_date.is_some(), rotates }))
            }
        }
    }

    /// The text of a secret, by its name or ARN; of its version `AWSCURRENT`, unless a stage or an id says otherwise.
    ///
    /// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>
    ///
    /// # Errors
    /// No such secret or version ([`AwsError::is_not_found`]); a secret of bytes rather than text; not allowed.
    pub async fn secret_value(&self, secret: &str, stage: Option<&str>, version: Option<&str>) -> Result<String, AwsError> {
        const OPERATION: &str = "secretsmanager:GetSecretValue";
        let request = self.0.secretsmanager.get_secret_value().secret_id(secret);
        let request = request.set_version_stage(stage.map(str::to_owned)).set_version_id(version.map(str::to_owned));
        let answer = request.send().await.map_err(AwsError::of(OPERATION, secret))?;
        answer.secret_string.ok_or_else(|| AwsError::unexpected(OPERATION, secret, "the secret is not a text"))
    }
}
