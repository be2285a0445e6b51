//! The values of `env/parameter-store` and `env/secrets-manager`.

use std::collections::BTreeMap;

use super::order::Order;
use super::result::PhaseResult;
use super::spec::{Env, SecretReference};
use crate::aws::{self, Aws, AwsError};

/// The values, each with its variable. A variable that is given from outside is not asked for.
///
/// # Errors
/// The `DOWNLOAD_SOURCE` that has failed, in the words of `CodeBuild`'s log.
pub(super) async fn resolve(order: &Order, env: &Env) -> Result<Vec<(String, String)>, PhaseResult> {
    let given = |name: &String| {
        [&order.overrides, &order.batch_variables, &order.project_variables]
            .iter()
            .any(|layer| layer.iter().any(|(known, _)| known == name))
    };
    let parameters: Vec<_> = env.parameter_store.iter().filter(|(name, _)| !given(name)).collect();
    let secrets: Vec<_> = env.secrets_manager.iter().filter(|(name, _)| !given(name)).collect();
    if parameters.is_empty() && secrets.is_empty() {
        return Ok(Vec::new());
    }
    let code = if parameters.is_empty() { SECRETS } else { PARAMETERS };
    let aws = aws::connect(&order.access).await.map_err(|error| failed(code, &error))?;
    let mut values = Vec::new();
    if !parameters.is_empty() {
        let mut names: Vec<String> = parameters.iter().map(|(_, parameter)| parameter.clone()).collect();
        names.sort();
        names.dedup();
        let found = aws.parameters(&names).await.map_err(|error| failed(PARAMETERS, &error))?;
        for (variable, parameter) in parameters {
            let Some(value) = found.values.get(parameter) else {
                return Err(PhaseResult::failed(PARAMETERS, format!("parameter does not exist: {parameter}")));
            };
            values.push((variable.clone(), value.clone()));
        }
    }
    let mut known = BTreeMap::new();
    for (variable, reference) in secrets {
        values.push((variable.clone(), secret(&aws, reference, &mut known).await?));
    }
    Ok(values)
}

/// The status codes of `CodeBuild` for these failures.
const PARAMETERS: &str = "Decrypted Variables Error";
const SECRETS: &str = "Secrets Manager Error";

type Key = (String, Option<String>, Option<String>);

async fn secret(aws: &Aws, reference: &SecretReference, known: &mut BTreeMap<Key, String>) -> Result<String, PhaseResult> {
    let SecretReference { secret_id, json_key, version_stage, version_id } = reference;
    let key = (secret_id.clone(), version_stage.clone(), version_id.clone());
    if !known.contains_key(&key) {
        let text = aws.secret_value(secret_id, version_stage.as_deref(), version_id.as_deref()).await;
        known.insert(key.clone(), text.map_err(|error| failed(SECRETS, &error))?);
    }
    let text = known[&key].clone();
    let Some(json_key) = json_key else { return Ok(text) };
    let value = serde_json::from_str::<serde_json::Value>(&text).ok();
    match value.as_ref().and_then(|value| value.get(json_key)) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(other) => Ok(other.to_string()),
        None if value.as_ref().is_none_or(|value| !value.is_object()) => {
            Err(PhaseResult::failed(SECRETS, format!("the secret {secret_id} is not JSON, so that it has no key {json_key}")))
        }
        None => Err(PhaseResult::failed(SECRETS, format!("the secret {secret_id} has no key {json_key}"))),
    }
}

fn failed(code: &str, error: &AwsError) -> PhaseResult {
    let hint = error.hint().map_or(String::new(), |hint| format!(" ({hint})"));
    PhaseResult::failed(code, format!("{error}{hint}"))
}
