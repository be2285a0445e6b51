//! The policy that is printed is enough, and each of its parts is needed: against a cloud that evaluates it.

use std::process::Command;

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
