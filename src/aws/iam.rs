//! IAM: what a role may do, and who may act as it. IAM is one for all regions of a partition.

use serde_json::Value;

use super::query::Service;
use super::query_xml::Node;
use super::{Aws, AwsError};

/// A role.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// Who may act as it: a policy.
    pub trust: Value,
    /// Is there a policy that bounds all that it may do?
    pub bounded: bool,
    /// Its policies, its own and those that are attached to it, each by its name.
    pub policies: Vec<(String, Value)>,
}

impl Aws {
    /// A role by its name (the last part of its ARN), with its policies; `None` if this account has no such role.
    ///
    /// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html>,
    /// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRolePolicy.html>,
    /// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetPolicyVersion.html>
    ///
    /// # Errors
    /// Not allowed; a policy is no JSON.
    pub async fn role(&self, name: &str) -> Result<Option<Role>, AwsError> {
        let role = [("RoleName", name)];
        let answer = match self.query(Service::Iam, "iam:GetRole", name, &role).await {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let found = answer.at("Role").unwrap_or(&answer);
        let mut policies = Vec::new();
        let own = |page: &Node| page.list("PolicyNames").to_vec();
        for policy in self.query_all(Service::Iam, "iam:ListRolePolicies", name, &role, "Marker", own).await? {
            let parameters = [role[0], ("PolicyName", policy.text.as_str())];
            let answer = self.query(Service::Iam, "iam:GetRolePolicy", name, &parameters).await?;
            policies.push((policy.text.clone(), document("iam:GetRolePolicy", name, &answer, "PolicyDocument")?));
        }
        let attached = |page: &Node| page.list("AttachedPolicies").to_vec();
        for policy in self.query_all(Service::Iam, "iam:ListAttachedRolePolicies", name, &role, "Marker", attached).await? {
            let arn = policy.text("PolicyArn").unwrap_or_default();
            let answer = self.query(Service::Iam, "iam:GetPolicy", &arn, &[("PolicyArn", &arn)]).await?;
            let version = answer.text("Policy/DefaultVersionId").unwrap_or_else(|| "v1".to_owned());
            let parameters = [("PolicyArn", arn.as_str()), ("VersionId", version.as_str())];
            let answer = self.query(Service::Iam, "iam:GetPolicyVersion", &arn, &parameters).await?;
            let name = policy.text("PolicyName").unwrap_or_else(|| arn.clone());
            policies.push((name, document("iam:GetPolicyVersion", &arn, &answer, "PolicyVersion/Document")?));
        }
        Ok(Some(Role {
            arn: found.text("Arn").unwrap_or_default(),
            trust: document("iam:GetRole", name, found, "AssumeRolePolicyDocument")?,
            bounded: found.at("PermissionsBoundary").is_some(),
            policies,
        }))
    }
}

/// A policy as IAM gives it: JSON, percent-encoded.
fn document(operation: &'static str, resource: &str, node: &Node, path: &str) -> Result<Value, AwsError> {
    let text = node.text(path).unwrap_or_default();
    let policy = serde_json::from_str(&text).or_else(|_| serde_json::from_slice(&decoded(&text)));
    policy.map_err(|error| AwsError::unexpected(operation, resource, format!("the policy is no JSON: {error}")))
}

/// Without `%XX`.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return decoded,
            [b'%', high, low, more @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
                decoded.push(digit(*high).unwrap_or_default() << 4 | digit(*low).unwrap_or_default());
                more
            }
            [byte, more @ ..] => {
                decoded.push(*byte);
                more
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_encoded_or_not() {
        let of = |text: &str| {
            let node = Node { children: vec![Node { name: "Document".into(), text: text.into(), ..Node::default() }], ..Node::default() };
            document("iam:GetRole", "x", &node, "Document")
        };
        let expected = serde_json::json!({"Resource": "arn:aws:s3:::a/50%/é"});
        assert_eq!(of("%7B%22Resource%22%3A%22arn%3Aaws%3As3%3A%3A%3Aa%2F50%25%2F%C3%A9%22%7D").unwrap(), expected);
        assert_eq!(of("{\"Resource\":\"arn:aws:s3:::a/50%/é\"}").unwrap(), expected);
        assert!(of("%7").unwrap_err().to_string().contains("the policy is no JSON"));
    }
}
