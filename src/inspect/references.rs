//! The secrets that a task definition refers to: are they there, and what are they encrypted with? Their values are never asked for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::aws::{Aws, TaskDefinition};

use super::network::some;
use super::{Sheet, see};

const CHECK: &str = "secrets-kept";

pub(super) async fn inspect(aws: &Aws, definition: &TaskDefinition, sheet: &mut Sheet) {
    let (mut keys, mut count) = (BTreeSet::new(), 0);
    let mut missing = Vec::new();
    for secret in secrets(definition.document(), aws.region()) {
        match see(aws.secret(&secret)).await {
            Ok(Some(secret)) if !secret.deleted => {
                count += 1;
                keys.extend(secret.key);
            }
            Ok(_) => missing.push(name(&secret).to_owned()),
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
}

/// The ARNs of the region's secrets that containers refer to, without the part that picks a key of their JSON.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html>
fn secrets(document: &Value, region: &str) -> BTreeSet<String> {
    let items = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let containers = items(document, "containerDefinitions");
    let references = containers.iter().flat_map(|container| items(container, "secrets"));
    let arns = references.filter_map(|reference| reference.get("valueFrom").and_then(Value::as_str).map(str::to_owned));
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
