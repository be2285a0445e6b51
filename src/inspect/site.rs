//! A site's bucket: who can read it, and how.

use serde_json::Value;

use crate::aws::{Aws, PublicAccessBlock};
use crate::config::{Config, Site};
use crate::model::UnitName;

use super::edge::{self, Front};
use super::{Sheet, see};

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
        let plain =
            ["aws:SecureTransport", "aws:securetransport"].iter().find_map(|key| statement.pointer(&format!("/Condition/Bool/{key}")));
        statement["Effect"] == "Deny" && plain.is_some_and(|plain| *plain == "false" || *plain == false)
    });
    if denies_plain {
        sheet.ok("bucket-tls", format!("the policy of `{bucket}` denies whatever comes without TLS"));
    } else {
        let cure = "add a statement that denies `s3:*` to everyone where `aws:SecureTransport` is false";
        sheet.warn("bucket-tls", format!("`{bucket}` may be read without TLS by those who may read it"), cure);
    }
    let Some(front) = front else { return };
    let allows: Vec<&Value> = statements.iter().filter(|statement| statement["Effect"] == "Allow").collect();
    let cloudfront =
        |statement: &&&Value| many(&statement["Principal"]["Service"]).iter().any(|service| *service == "cloudfront.amazonaws.com");
    let named = |statement: &Value| {
        let conditions = ["StringEquals", "ArnEquals", "ArnLike", "StringLike"];
        let keys = ["AWS:SourceArn", "aws:SourceArn", "aws:sourcearn"];
        let values = conditions.iter().flat_map(|operator| keys.iter().map(move |key| format!("/Condition/{operator}/{key}")));
        values
            .filter_map(|path| statement.pointer(&path))
            .flat_map(many)
            .filter_map(|arn| arn.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let cure = format!("allow `s3:GetObject` to the service cloudfront.amazonaws.com where `AWS:SourceArn` is `{}`", front.arn);
    match front.signs {
        // That it does not is said of the distribution.
        edge::Signs::Not => {}
        edge::Signs::Identity => sheet.warn(
            CHECK,
            "the distribution reads the bucket by an origin access identity, the older form",
            "replace it by origin access control, which signs every request",
        ),
        edge::Signs::Control => match allows.iter().find(cloudfront).map(|statement| named(statement)) {
            None => sheet.fail(CHECK, format!("the policy of `{bucket}` does not let CloudFront read it"), cure),
            Some(arns) if arns.is_empty() => {
                sheet.warn(CHECK, format!("the policy of `{bucket}` lets every distribution read it, of whatever account"), cure);
            }
            Some(arns) if arns.iter().any(|arn| *arn == front.arn || arn.ends_with('*')) => {
                sheet.ok(CHECK, format!("the distribution reads `{bucket}` by origin access control, and its policy names it"));
            }
            Some(_) => sheet.fail(CHECK, format!("the policy of `{bucket}` names another distribution than this one"), cure),
        },
    }
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
    }
}
