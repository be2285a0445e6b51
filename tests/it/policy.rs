//! The policies against the source: they allow every action that windlass can ask for, and no other.

use std::collections::BTreeSet;

use regex::Regex;

use crate::shop::Shop;

/// Every action of AWS that windlass can ask for, by the names that its errors give them.
fn actions_in_the_source() -> BTreeSet<String> {
    let named = Regex::new(r#""([a-z0-9-]+:[A-Z][A-Za-z0-9]+)""#).unwrap();
    let mut actions = BTreeSet::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/aws")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
        actions.extend(named.captures_iter(&code).map(|found| found[1].to_owned()));
    }
    actions
}

#[tokio::test]
async fn every_action_that_windlass_can_ask_for_is_in_a_policy() {
    let shop = Shop::site("policy-scan").await;
    // One of everything that a policy depends on.
    shop.scene.write(
        "windlass.yml",
        "app: shop\nstate: s3://shop-state/windlass\npolicy: {image_findings: warn, keep_revisions: 5}\nsites:\n  web: {prebuilt: true, bucket: shop-web, distribution: E1}\nservices:\n  api: {image: \
         {repository: shop/api, create: true}, cluster: shop, service: api, container: web, scheduled_tasks: follow}\nmigrations:\n  main: {framework: django, driver: \
         lambda-image, from: api, function: shop-migrate, snapshot: shop-db}\n  other: {framework: django, driver: task, from: api, strategy: stop}\n",
    );
    let mut allowed = BTreeSet::new();
    for arguments in [&["policy"][..], &["policy", "verify"]] {
        let policy: serde_json::Value = serde_json::from_str(&shop.run(arguments).expect(0).stdout).unwrap();
        let statements = policy["Statement"].as_array().unwrap().iter();
        allowed.extend(statements.flat_map(|one| one["Action"].as_array().unwrap()).map(|action| action.as_str().unwrap().to_owned()));
    }
    assert_eq!(shop.proxy.requests(), [], "nothing is asked of AWS");
    let elsewhere = [
        // It needs no permission.
        "sts:GetCallerIdentity",
        // Reading the configuration is no call.
        "aws:Configure",
        // A key of a condition.
        "aws:SourceVpce",
        // `windlass build` alone, for what a buildspec names.
        "ssm:GetParameters",
        "secretsmanager:GetSecretValue",
    ];
    let missing: Vec<String> =
        actions_in_the_source().into_iter().filter(|action| !allowed.contains(action) && !elsewhere.contains(&action.as_str())).collect();
    assert_eq!(missing, [""; 0], "no policy allows what the source can ask for");
    // And nothing is allowed that nobody asks for, save what is asked under another name, or on windlass's behalf.
    let implied = [
        "iam:PassRole",
        "ecs:TagResource",
        "rds:AddTagsToResource",
        "ecr:BatchCheckLayerAvailability",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
    ];
    let asked = actions_in_the_source();
    let unused: Vec<String> = allowed.into_iter().filter(|action| !asked.contains(action) && !implied.contains(&action.as_str())).collect();
    assert_eq!(unused, [""; 0], "a policy allows what nobody asks for");
    let verify = shop.run(&["policy", "verify"]).expect(0).stdout;
    for verb in ["Put", "Create", "Update", "Delete", "Run", "Stop", "Invoke", "Register"] {
        assert!(!verify.contains(&format!(":{verb}")), "verify may not {verb}");
    }
}
