//! The policy that is printed is enough, and each of its parts is needed: against a cloud that evaluates it.

use std::collections::BTreeSet;
use std::process::Command;

use regex::Regex;

use crate::shop::Shop;
use crate::support::ministack::{self, Ministack};

/// Makes a user with a policy, and gives its keys. The cloud's own environment has an SDK that knows IAM.
fn user(cloud: &Ministack, name: &str, policy: &serde_json::Value) -> (String, String) {
    let script = "\
import boto3, sys
iam = boto3.client('iam', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='test', aws_secret_access_key='test')
iam.create_user(UserName=sys.argv[2])
iam.put_user_policy(UserName=sys.argv[2], PolicyName='release', PolicyDocument=sys.argv[3])
key = iam.create_access_key(UserName=sys.argv[2])['AccessKey']
print(key['AccessKeyId'], key['SecretAccessKey'])
";
    let output = Command::new(ministack::python()).args(["-c", script, cloud.url(), name, &policy.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (id, secret) = text.trim().split_once(' ').unwrap();
    (id.to_owned(), secret.to_owned())
}

/// The policy without an action.
fn without(policy: &serde_json::Value, sid: &str, action: &str) -> serde_json::Value {
    let mut policy = policy.clone();
    for statement in policy["Statement"].as_array_mut().unwrap().iter_mut().filter(|statement| statement["Sid"] == sid) {
        statement["Action"].as_array_mut().unwrap().retain(|allowed| allowed != action);
    }
    policy["Statement"].as_array_mut().unwrap().retain(|statement| !statement["Action"].as_array().unwrap().is_empty());
    policy
}

#[tokio::test]
async fn a_site_is_released_under_its_policy_and_names_what_is_missing() {
    let cloud = Ministack::start_with_authorization();
    let mut shop = Shop::on(cloud.url(), "policy").await;
    let policy: serde_json::Value = serde_json::from_str(&shop.run(&["policy"]).expect(0).stdout).unwrap();
    assert_eq!(shop.proxy.requests(), [], "nothing is asked of AWS");
    let run_as = |shop: &mut Shop, name: &str, policy: &serde_json::Value| {
        let (id, secret) = user(&cloud, name, policy);
        shop.scene.set("AWS_ACCESS_KEY_ID", id);
        shop.scene.set("AWS_SECRET_ACCESS_KEY", secret);
    };
    // What is missing is named by the step that needs it.
    for (number, (sid, action, exit)) in [
        ("State", "s3:PutObject", 11),
        ("Sites", "s3:PutObject", 21),
        ("Distributions", "cloudfront:GetDistribution", 11),
        ("Distributions", "cloudfront:CreateInvalidation", 40),
    ]
    .into_iter()
    .enumerate()
    {
        run_as(&mut shop, &format!("user-{number}"), &without(&policy, sid, action));
        let failed = shop.run(&["release"]).expect(exit);
        assert!(failed.stderr.contains(action), "{sid} without {action}:\n{}", failed.stderr);
    }
    run_as(&mut shop, "whole", &policy);
    shop.release();
    shop.build(2);
    shop.release();
    shop.run(&["rollback"]).expect(0);
    shop.run(&["status"]).expect(0);
    shop.run(&["history"]).expect(0);
}

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
        "app: shop\nstate: s3://shop-state/windlass\npolicy: {image_findings: warn}\nsites:\n  web: {prebuilt: true, bucket: shop-web, distribution: E1}\nservices:\n  api: {image: \
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
