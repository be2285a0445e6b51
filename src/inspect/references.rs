//! The secrets that a task definition refers to: are they there, and what are they encrypted with? Their values are never asked for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::aws::{Aws, TaskDefinition};

use super::network::some;
use super::{Sheet, see};

const CHECK: &str = "secrets-kept";

/// Looks at them. It gives the ARNs of the secrets and parameters that are to be read, too.
pub(super) async fn inspect(aws: &Aws, definition: &TaskDefinition, sheet: &mut Sheet) -> BTreeSet<String> {
    let document = definition.document();
    managed(document, sheet);
    let mut reads = secrets(document, aws.region());
    kept(aws, &reads, sheet).await;
    reads.extend(parameters(document));
    reads
}

/// What RDS keeps of its own making holds two keys, and a reference to a third stops every task.
///
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html>
fn managed(document: &Value, sheet: &mut Sheet) {
    let wrong: Vec<String> = references(document)
        .into_iter()
        .filter_map(|from| {
            let key = from.split(':').nth(7)?.to_owned();
            (from.contains(":secret:rds!") && !matches!(key.as_str(), "" | "username" | "password")).then_some(key)
        })
        .collect();
    if !wrong.is_empty() {
        let seen =
            format!("{} are asked of a secret that RDS manages, which holds `username` and `password` alone: no task starts", some(&wrong));
        sheet.fail("secrets-keys", seen, "give host, port and name of the database as plain variables");
    }
}

async fn kept(aws: &Aws, secrets: &BTreeSet<String>, sheet: &mut Sheet) {
    let (mut keys, mut count) = (BTreeSet::new(), 0);
    let (mut missing, mut rotating) = (Vec::new(), Vec::new());
    for arn in secrets {
        match see(aws.secret(arn)).await {
            Ok(Some(secret)) if !secret.deleted => {
                count += 1;
                keys.extend(secret.key);
                rotating.extend(secret.rotates.then(|| name(arn).to_owned()));
            }
            Ok(_) => missing.push(name(arn).to_owned()),
            Err(why) => return sheet.unseen(CHECK, why),
        }
    }
    let keys: Vec<String> = keys.into_iter().collect();
    if !missing.is_empty() {
        let seen = format!("{} of Secrets Manager are referred to, and not there or about to be deleted: no task starts", some(&missing));
        sheet.fail(CHECK, seen, "restore or create them, or correct `valueFrom`");
    } else if count > 0 && keys.is_empty() {
        sheet.ok(CHECK, format!("{count} of Secrets Manager, encrypted with the account's own key"));
    } else if count > 0 {
        let seen = format!(
            "{count} of Secrets Manager, encrypted with {}, which the execution role has to be let use (`kms:Decrypt`)",
            some(&keys)
        );
        sheet.ok(CHECK, seen);
    }
    if !rotating.is_empty() {
        let seen =
            format!("{} change by themselves, and tasks read them only when they start: what connects later is refused", some(&rotating));
        let cure = "roll the service after each rotation (an EventBridge rule on `RotationSucceeded`), or give the application a user of its own whose password stays";
        sheet.warn("secrets-rotation", seen, cure);
    }
}

/// What containers' secrets are taken from, as it is written.
fn references(document: &Value) -> Vec<String> {
    let items = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let containers = items(document, "containerDefinitions");
    let references = containers.iter().flat_map(|container| items(container, "secrets"));
    references.filter_map(|reference| reference.get("valueFrom").and_then(Value::as_str).map(str::to_owned)).collect()
}

/// The ARNs of the parameters that containers refer to. A bare name is one of the region's; whose account that is, only ARNs say.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-ssm-paramstore.html>
fn parameters(document: &Value) -> BTreeSet<String> {
    references(document).into_iter().filter(|from| from.contains(":ssm:")).collect()
}

/// The ARNs of the region's secrets that containers refer to, without the part that picks a key of their JSON.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html>
fn secrets(document: &Value, region: &str) -> BTreeSet<String> {
    let arns = references(document).into_iter();
    arns.filter(|arn| arn.contains(":secretsmanager:") && arn.split(':').nth(3) == Some(region))
        .map(|arn| arn.split(':').take(7).collect::<Vec<_>>().join(":"))
        .collect()
}

fn name(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_counts_once_whatever_is_picked_out_of_it() {
        let reference = |from: &str| serde_json::json!({ "name": "X", "valueFrom": from });
        let arn = "arn:aws:secretsmanager:us-east-1:1:secret:shop-abcdef";
        let container = serde_json::json!({ "secrets": [
            reference(arn), reference(&format!("{arn}:password::")), reference("arn:aws:ssm:us-east-1:1:parameter/x"), reference("/shop/y"),
            reference("arn:aws:secretsmanager:eu-west-1:1:secret:far-abcdef"),
        ] });
        let document = serde_json::json!({ "containerDefinitions": [container, {}] });
        assert_eq!(secrets(&document, "us-east-1"), [arn.to_owned()].into());
    }
}
