//! The IAM policy of `windlass verify`: everything that it looks at, and nothing that changes anything.
//!
//! What it finds from the configuration outwards (load balancers, networks, databases, alarms) has names that the configuration does not
//! hold, and most of these actions know no resources.

use crate::config::{Config, State};

use super::policy::{Policy, Statement};

/// What is asked of buckets.
const BUCKETS: [&str; 6] = [
    "s3:GetBucketAcl",
    "s3:GetBucketPolicy",
    "s3:GetBucketPolicyStatus",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketWebsite",
    "s3:ListBucket",
];

/// What is asked of everything else.
const READS: [&str; 40] = [
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScalingPolicies",
    "cloudfront:GetDistribution",
    "cloudwatch:DescribeAlarms",
    "codebuild:BatchGetProjects",
    "codepipeline:GetPipeline",
    "ec2:DescribeInstances",
    "ec2:DescribeManagedPrefixLists",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEndpoints",
    "ecr:BatchGetImage",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:GetDownloadUrlForLayer",
    "ecs:DescribeClusters",
    "ecs:DescribeContainerInstances",
    "ecs:DescribeServices",
    "ecs:DescribeTaskDefinition",
    "ecs:ListContainerInstances",
    "elasticache:DescribeReplicationGroups",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTargetGroups",
    "events:ListRules",
    "iam:GetPolicy",
    "iam:GetPolicyVersion",
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:ListAttachedRolePolicies",
    "iam:ListRolePolicies",
    "lambda:GetFunction",
    "lambda:GetFunctionConfiguration",
    "lambda:ListFunctionUrlConfigs",
    "lambda:ListFunctions",
    "logs:DescribeLogGroups",
    "rds:DescribeDBInstances",
    "secretsmanager:DescribeSecret",
];

/// The policy of `windlass verify`.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    let allow =
        |sid, action: &[&'static str], resource| Statement { sid, effect: "Allow", action: action.to_vec(), resource, condition: None };
    let mut buckets: Vec<String> = config.sites.values().map(|site| format!("arn:aws:s3:::{}", site.bucket)).collect();
    if let State::S3 { bucket, .. } = &config.state {
        buckets.push(format!("arn:aws:s3:::{bucket}"));
    }
    buckets.sort();
    buckets.dedup();
    let mut statement = vec![allow("VerifyInfrastructure", &READS, vec!["*".to_owned()])];
    if !buckets.is_empty() {
        statement.insert(0, allow("VerifyBuckets", &BUCKETS, buckets));
    }
    Policy { version: "2012-10-17", statement }
}
