//! Systems Manager's Parameter Store: values by their names.

use std::collections::BTreeMap;

use super::{Aws, AwsError};

/// So many names one call takes.
const AT_ONCE: usize = 10;

/// What became of a question for parameters.
#[derive(Clone, Default)]
pub struct Parameters {
    /// The values of those that are there.
    pub values: BTreeMap<String, String>,
    /// The names of those that are not.
    pub missing: Vec<String>,
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameters").field("values", &self.values.len()).field("missing", &self.missing).finish()
    }
}

impl Aws {
    /// The decrypted values of parameters, ten to a request. A name may have a version or a label (`/app/key:3`), or be an ARN.
    ///
    /// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html>
    ///
    /// # Errors
    /// Not allowed: it takes `ssm:GetParameters`, and `kms:Decrypt` for a key of one's own.
    pub async fn parameters(&self, names: &[String]) -> Result<Parameters, AwsError> {
        let mut found = Parameters::default();
        for names in names.chunks(AT_ONCE) {
            let failed = AwsError::of("ssm:GetParameters", names.join(", "));
            let answer = self.0.ssm.get_parameters().set_names(Some(names.to_vec())).with_decryption(true).send().await.map_err(failed)?;
            for parameter in answer.parameters.unwrap_or_default() {
                let Some(value) = parameter.value else { continue };
                // The answer has the selector apart from the name, and for an ARN the name alone.
                let name = parameter.name.unwrap_or_default() + parameter.selector.as_deref().unwrap_or_default();
                let asked = names.iter().find(|asked| **asked == name || parameter.arn.as_ref() == Some(asked)).unwrap_or(&name);
                found.values.insert(asked.clone(), value);
            }
            found.missing.extend(answer.invalid_parameters.unwrap_or_default());
        }
        Ok(found)
    }
}
