//! A site's bucket: who can read it, and how.

use serde_json::Value;

use crate::aws::{Aws, PublicAccessBlock};
use crate::config::{Config, Site};
use crate::model::UnitName;

use super::edge::{self, Front};
use super::{Sheet, grants, see};

/// Looks at a site's bucket and its distribution.
pub(super) async fn inspect(aws: &Aws, name: &UnitName, site: &Site, config: &Config) -> (Sheet, Option<Front>) {
    let mut sheet = Sheet::of(format!("site `{name}`"));
    let bucket = site.bucket.as_str();
    let front = if let Some(id) = &site.distribution {
        edge::inspect(aws, id, bucket, config, &mut sheet).await
    } else {
        sheet.warn(
            "site-behind-cdn",
            "it has no distribution: whoever is to see it reads the bucket itself",
            "put a CloudFront distribution with origin access control in front of it, and name it under `distribution`",
        );
        None
    };
    let website = exposure(aws, bucket, &mut sheet).await;
    if website {
        // A website's endpoint takes no signed requests, and no TLS either.
        return (sheet, front);
    }
    match see(aws.bucket_policy(bucket)).await {
        Ok(policy) => judge(policy.as_ref(), bucket, front.as_ref(), &mut sheet),
        Err(why) => {
            sheet.unseen("bucket-origin-access", why.clone());
            sheet.unseen("bucket-tls", why);
        }
    }
    (sheet, front)
}

/// Is it closed to the world? Gives whether it is a website.
async fn exposure(aws: &Aws, bucket: &str, sheet: &mut Sheet) -> bool {
    const CHECK: &str = "bucket-closed";
    let cure = "block all public access to the bucket (its four switches), and let CloudFront read it by origin access control";
    let exposure = match see(aws.bucket_exposure(bucket)).await {
        Ok(exposure) => exposure,
        Err(why) => {
            sheet.unseen(CHECK, why);
            return false;
        }
    };
    let restricted = exposure.block.is_some_and(|block| block.restrict_public_buckets);
    let website = exposure.website == Some(true);
    if website {
        let seen =
            format!("S3 serves `{bucket}` as a website, which is public by its nature and knows neither TLS nor origin access control");
        sheet.warn("bucket-website", seen, "serve the bucket itself through CloudFront, and turn its website off; releases work with both");
    }
    match exposure.block {
        Some(block) if PublicAccessBlock::is_complete(block) => sheet.ok(CHECK, format!("all public access to `{bucket}` is blocked")),
        _ if exposure.policy_public == Some(true) && !restricted && !website => {
            sheet.fail(CHECK, format!("the policy of `{bucket}` lets everyone in"), cure);
        }
        _ if exposure.acl_public == Some(true) => {
            sheet.fail(CHECK, format!("the access control list of `{bucket}` lets everyone in"), cure);
        }
        _ if website => sheet.warn(CHECK, format!("`{bucket}` is open, as its website has to be"), cure),
        _ if exposure.unblocked => {
            sheet.warn(CHECK, format!("nobody reads `{bucket}` yet, but not all public access to it is blocked"), cure);
        }
        _ => sheet.unseen(CHECK, exposure.unanswered.join("; ")),
    }
    website
}

/// Who may read by the policy, and must they use TLS?
fn judge(policy: Option<&Value>, bucket: &str, front: Option<&Front>, sheet: &mut Sheet) {
    const CHECK: &str = "bucket-origin-access";
    let statements = policy.map(|policy| many(&policy["Statement"])).unwrap_or_default();
    let denies_plain = statements.iter().any(|statement| {
        let plain = conditions(statement, "aws:securetransport");
        statement["Effect"] == "Deny" && plain.iter().any(|plain| *plain == "false" || *plain == false)
    });
    if denies_plain {
        sheet.ok("bucket-tls", format!("the policy of `{bucket}` denies whatever comes without TLS"));
    } else {
        let cure = "add a statement that denies `s3:*` to everyone where `aws:SecureTransport` is false";
        sheet.warn("bucket-tls", format!("`{bucket}` may be read without TLS by those who may read it"), cure);
    }
    let Some(front) = front else { return };
    let allows: Vec<&Value> = statements.iter().filter(|statement| statement["Effect"] == "Allow").collect();
    // <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-s3.html>: a statement for
    // each distribution, or one for all of them.
    let reading: Vec<&Value> = allows.into_iter().filter(|statement| reads(statement)).collect();
    let ways: Vec<&Value> = reading.iter().copied().filter(|statement| is_for_cloudfront(statement)).collect();
    let cure = format!("allow `s3:GetObject` to the service cloudfront.amazonaws.com where `AWS:SourceArn` is `{}`", front.arn);
    match front.signs {
        // That it does not is said of the distribution.
        edge::Signs::Not => {}
        edge::Signs::Identity if !reading.iter().any(|statement| is_for_identity(statement)) => {
            let seen = format!("the policy of `{bucket}` does not let the distribution's origin access identity read it");
            sheet.fail(CHECK, seen, cure);
        }
        edge::Signs::Identity => sheet.warn(
            CHECK,
            "the distribution reads the bucket by an origin access identity, the older form",
            "replace it by origin access control, which signs every request",
        ),
        edge::Signs::Control if ways.is_empty() => {
            sheet.fail(CHECK, format!("the policy of `{bucket}` does not let CloudFront read it"), cure);
        }
        edge::Signs::Control if ways.iter().any(|way| names(way, &front.arn)) => {
            sheet.ok(CHECK, format!("the distribution reads `{bucket}` by origin access control, and its policy names it"));
        }
        edge::Signs::Control => match ways.iter().find(|way| conditions(way, "aws:sourcearn").is_empty()) {
            None => sheet.fail(CHECK, format!("the policy of `{bucket}` names another distribution than this one"), cure),
            Some(way) if !conditions(way, "aws:sourceaccount").is_empty() => {
                sheet.warn(CHECK, format!("the policy of `{bucket}` lets every distribution of an account read it"), cure);
            }
            Some(_) => {
                sheet.warn(CHECK, format!("the policy of `{bucket}` lets every distribution read it, of whatever account"), cure);
            }
        },
    }
}

/// Does a statement allow to read objects?
fn reads(statement: &Value) -> bool {
    let is_get = |action: &Value| action.as_str().is_some_and(|action| grants::matches(&action.to_ascii_lowercase(), "s3:getobject"));
    statement.get("Action").is_none() || many(&statement["Action"]).iter().any(is_get)
}

fn is_for_cloudfront(statement: &Value) -> bool {
    many(&statement["Principal"]["Service"]).iter().any(|service| *service == "cloudfront.amazonaws.com")
}

/// An identity is named by an ARN of CloudFront's, or by a canonical user, of whom nobody can tell whose it is.
fn is_for_identity(statement: &Value) -> bool {
    let names = many(&statement["Principal"]["AWS"]);
    let by_arn = names.iter().any(|name| name.as_str().is_some_and(|name| name.contains("CloudFront Origin Access Identity")));
    by_arn || statement["Principal"].get("CanonicalUser").is_some()
}

fn names(statement: &Value, distribution: &str) -> bool {
    let arns = conditions(statement, "aws:sourcearn");
    arns.iter().any(|arn| arn.as_str().is_some_and(|arn| grants::matches(arn, distribution)))
}

/// What a statement's conditions ask of a key, whatever the operator that compares: neither keys nor operators have a case.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition.html>
fn conditions(statement: &Value, key: &str) -> Vec<Value> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    let positive = operators.filter(|(operator, _)| !operator.to_ascii_lowercase().contains("not"));
    let pairs = positive.filter_map(|(_, pairs)| pairs.as_object()).flatten();
    pairs.filter(|(name, _)| name.eq_ignore_ascii_case(key)).flat_map(|(_, values)| many(values)).collect()
}

fn many(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;
    use serde_json::json;

    fn judged(policy: &Value) -> Vec<(String, Verdict)> {
        let front = Front { id: "E1".into(), arn: "arn:1".into(), signs: edge::Signs::Control, origins: Vec::new() };
        let mut sheet = Sheet::of("x");
        judge(Some(policy), "shop-web", Some(&front), &mut sheet);
        sheet.checks.into_iter().map(|check| (check.check, check.verdict)).collect()
    }

    #[test]
    fn a_policy_is_held_against_the_distribution() {
        let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}});
        let allow =
            |condition: Value| json!({"Effect": "Allow", "Principal": {"Service": "cloudfront.amazonaws.com"}, "Condition": condition});
        let ours = allow(json!({"StringEquals": {"AWS:SourceArn": "arn:1"}}));
        let verdicts = |policy: Value| judged(&policy).into_iter().map(|(_, verdict)| verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(json!({"Statement": [deny, ours]})), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(json!({"Statement": ours})), [Verdict::Warn, Verdict::Ok]);
        assert_eq!(verdicts(json!({"Statement": [deny, allow(json!({}))]})), [Verdict::Ok, Verdict::Warn]);
        let other = allow(json!({"ArnLike": {"aws:SourceArn": ["arn:2"]}}));
        assert_eq!(verdicts(json!({"Statement": [deny, other]})), [Verdict::Ok, Verdict::Fail]);
        assert_eq!(verdicts(json!({"Statement": []})), [Verdict::Warn, Verdict::Fail]);
        // Of two distributions each has a statement; operators and keys are written in many ways.
        assert_eq!(verdicts(json!({"Statement": [deny, other, ours]})), [Verdict::Ok, Verdict::Ok]);
        let wide = allow(json!({"ForAnyValue:ArnLike": {"AWS:SOURCEARN": "arn:*"}}));
        let tls =
            json!({"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Condition": {"BoolIfExists": {"AWS:SecureTransport": false}}});
        assert_eq!(verdicts(json!({"Statement": [tls, wide]})), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(
            verdicts(json!({"Statement": [tls, allow(json!({"StringEquals": {"aws:SourceAccount": "1"}}))]})),
            [Verdict::Ok, Verdict::Warn]
        );
        let mut lists = ours.clone();
        lists["Action"] = json!(["s3:ListBucket"]);
        assert_eq!(verdicts(json!({"Statement": [tls, lists]})), [Verdict::Ok, Verdict::Fail]);
    }

    #[test]
    fn an_origin_access_identity_has_to_be_let_in_too() {
        let judged = |principal: Value| {
            let front = Front { id: "E1".into(), arn: "arn:1".into(), signs: edge::Signs::Identity, origins: Vec::new() };
            let mut sheet = Sheet::of("x");
            let policy = json!({"Statement": {"Effect": "Allow", "Principal": principal, "Action": "s3:Get*"}});
            judge(Some(&policy), "shop-web", Some(&front), &mut sheet);
            sheet.checks[1].verdict
        };
        let identity = "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2";
        assert_eq!([judged(json!({"AWS": identity})), judged(json!({"CanonicalUser": "79a5"}))], [Verdict::Warn; 2]);
        assert_eq!(judged(json!({"AWS": "arn:aws:iam::1:root"})), Verdict::Fail);
    }
}
