//! The IAM policy of `windlass verify`: everything that it looks at, and nothing that changes anything.
//!
//! What it finds from the configuration outwards (load balancers, networks, databases, alarms) has names that the configuration does not
//! hold, and most of these actions know no resources.

use crate::config::{Config, Image, State};

use super::policy::{EXPOSURE, Place, Policy, Statement, allow, look_at_images};
use super::policy_ecs::Arns;

/// What knows no resources.
const EVERYTHING: [&str; 16] = [
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScalingPolicies",
    "ec2:DescribeInstances",
    "ec2:DescribeManagedPrefixLists",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEndpoints",
    "ecs:DescribeTaskDefinition",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTargetGroups",
    "events:ListRules",
    "lambda:ListFunctions",
    "logs:DescribeLogGroups",
];

/// The policy of `windlass verify`.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    let place = Place::of(config);
    let mut buckets: Vec<String> = config.sites.values().map(|site| place.s3(&site.bucket)).collect();
    if let State::S3 { bucket, .. } = &config.state {
        buckets.push(place.s3(bucket));
    }
    let mut to = vec![allow("VerifyBuckets", &[&EXPOSURE[..], &["s3:ListBucket"]].concat(), buckets)];
    let distributions = config.sites.values().filter_map(|site| site.distribution.as_ref());
    let arn = |id: &String| place.everywhere("cloudfront", &format!("distribution/{id}"));
    to.push(allow("VerifyDistributions", &["cloudfront:GetDistribution"], distributions.map(arn)));
    let services = Arns::of(&place, config.services.values());
    to.push(allow("VerifyClusters", &["ecs:DescribeClusters", "ecs:ListContainerInstances"], services.clusters()));
    to.push(allow("VerifyServices", &["ecs:DescribeServices"], services.services()));
    to.push(allow("VerifyHosts", &["ecs:DescribeContainerInstances"], services.within("container-instance")));
    let images = config.services.values().map(|service| &service.image);
    let (built, given): (Vec<&Image>, Vec<&Image>) = images.partition(|image| matches!(image, Image::Build(_)));
    look_at_images(&built, &given, &place, &mut to);
    let functions = config.migrations.values().filter_map(|migration| migration.function.as_ref());
    let functions = functions.map(|name| place.arn("lambda", &format!("function:{name}")));
    to.push(allow("VerifyFunctions", &["lambda:GetFunction", "lambda:GetFunctionConfiguration"], functions));
    // What is found from there on has names of its own.
    to.push(found("VerifyAlarms", "cloudwatch:DescribeAlarms", place.arn("cloudwatch", "alarm:*")));
    to.push(found("VerifyPipeline", "codepipeline:GetPipeline", place.arn("codepipeline", "*")));
    to.push(found("VerifyDatabases", "rds:DescribeDBInstances", place.arn("rds", "db:*")));
    to.push(found("VerifyCaches", "elasticache:DescribeReplicationGroups", place.arn("elasticache", "replicationgroup:*")));
    to.push(found("VerifySecrets", "secretsmanager:DescribeSecret", place.arn("secretsmanager", "secret:*")));
    to.push(found("VerifyProjects", "codebuild:BatchGetProjects", place.arn("codebuild", "project/*")));
    to.push(found("VerifyFunctionUrls", "lambda:ListFunctionUrlConfigs", place.arn("lambda", "function:*")));
    let roles = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"];
    to.push(allow("VerifyRoles", &roles, [place.everywhere("iam", "role/*")]));
    let policies = [place.everywhere("iam", "policy/*"), place.managed_policies()];
    to.push(allow("VerifyPolicies", &["iam:GetPolicy", "iam:GetPolicyVersion"], policies));
    to.push(allow("VerifyInfrastructure", &EVERYTHING, ["*".to_owned()]));
    to.retain(|statement| !statement.resource.is_empty());
    Policy { version: "2012-10-17", statement: to }
}

fn found(sid: &'static str, action: &'static str, arn: String) -> Statement {
    allow(sid, &[action], [arn])
}
