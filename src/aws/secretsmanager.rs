//! Secrets Manager: the value of a secret.

use super::{Aws, AwsError};

impl Aws {
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
