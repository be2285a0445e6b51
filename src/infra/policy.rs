//! The IAM policy of each stage: what the calls of that stage need, on the resources that the configuration names, and nothing else.
//!
//! Actions, resource types and condition keys are those of
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>.
//! `sts:GetCallerIdentity` needs no permission.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::config::{Config, Driver, Image, ImageFindings, Migration, ScheduledTasks, Service, Site, State, Strategy};
use crate::model::Stage;

/// An IAM policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    /// `2012-10-17`, the newest there is.
    pub version: &'static str,
    /// What it allows.
    pub statement: Vec<Statement>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// What it is for.
    pub sid: &'static str,
    /// `Allow`.
    pub effect: &'static str,
    /// What is allowed.
    pub action: Vec<&'static str>,
    /// On what.
    pub resource: Vec<String>,
    /// If what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<serde_json::Value>,
}

/// What a bucket is looked at with before anything is written.
const EXPOSURE: [&str; 5] =
    ["s3:GetBucketAcl", "s3:GetBucketPolicy", "s3:GetBucketPolicyStatus", "s3:GetBucketPublicAccessBlock", "s3:GetBucketWebsite"];

/// The policy of `stages`; all five are those of `windlass release`, and of `windlass rollback`.
#[must_use]
pub fn policy(config: &Config, stages: &[Stage]) -> Policy {
    let has = |wanted: &[Stage]| wanted.iter().any(|stage| stages.contains(stage));
    let place = Place::of(config);
    let mut statement = state(config);
    if has(&[Stage::Assets, Stage::Publish]) {
        sites(config, &place, has(&[Stage::Publish]), &mut statement);
    }
    if has(&[Stage::Images, Stage::Migrations, Stage::Services]) {
        images(config, &place, has(&[Stage::Images]), &mut statement);
    }
    if has(&[Stage::Migrations]) {
        migrations(config, &place, &mut statement);
    }
    if has(&[Stage::Services]) {
        services(config, &place, &mut statement);
    }
    statement.retain(|statement| !statement.resource.is_empty());
    Policy { version: "2012-10-17", statement }
}

/// The account and the region of ARNs; `*` where the configuration names none.
struct Place {
    account: String,
    region: String,
}

impl Place {
    fn of(config: &Config) -> Self {
        let environment = config.environment.as_ref();
        let any = || "*".to_owned();
        Self {
            account: environment.and_then(|environment| environment.account.clone()).unwrap_or_else(any),
            region: environment.and_then(|environment| environment.region.clone()).unwrap_or_else(any),
        }
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }
}

/// Resources that differ, in order.
fn allow(sid: &'static str, action: &[&'static str], resource: impl IntoIterator<Item = String>) -> Statement {
    let resource: BTreeSet<String> = resource.into_iter().collect();
    Statement { sid, effect: "Allow", action: action.to_vec(), resource: resource.into_iter().collect(), condition: None }
}

fn state(config: &Config) -> Vec<Statement> {
    let State::S3 { bucket, prefix } = &config.state else { return Vec::new() };
    let environment = config.environment.as_ref().map_or("default", |environment| environment.name.as_str());
    let parts: Vec<&str> = [prefix.as_str(), config.app.as_str(), environment].into_iter().filter(|part| !part.is_empty()).collect();
    let objects = format!("arn:aws:s3:::{bucket}/{}/*", parts.join("/"));
    // Without `s3:ListBucket` S3 answers 403 for a key that is not there, and nobody could tell a first release.
    let bucket = [&["s3:ListBucket"][..], &EXPOSURE].concat();
    let buckets = [format!("arn:aws:s3:::{}", objects.trim_start_matches("arn:aws:s3:::").split('/').next().unwrap_or_default())];
    let mut all = vec![objects];
    if !config.migrations.is_empty() {
        // The leases of databases lie beside the applications that share them.
        let parts: Vec<&str> = [prefix.as_str(), "databases", environment].into_iter().filter(|part| !part.is_empty()).collect();
        all.push(format!("{}/{}/*", buckets[0], parts.join("/")));
    }
    vec![allow("State", &["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], all), allow("StateBucket", &bucket, buckets)]
}

fn sites(config: &Config, place: &Place, publish: bool, to: &mut Vec<Statement>) {
    let below = |site: &Site| {
        let prefix = if site.prefix.is_empty() { String::new() } else { format!("{}/", site.prefix) };
        format!("arn:aws:s3:::{}/{prefix}*", site.bucket)
    };
    let mut action = vec!["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"];
    if publish {
        action.push("s3:DeleteObject");
    }
    to.push(allow("Sites", &action, config.sites.values().map(below)));
    let bucket = [&["s3:ListBucket"][..], &EXPOSURE].concat();
    to.push(allow("SiteBuckets", &bucket, config.sites.values().map(|site| format!("arn:aws:s3:::{}", site.bucket))));
    if publish {
        let action = ["cloudfront:GetDistribution", "cloudfront:CreateInvalidation", "cloudfront:GetInvalidation"];
        let distributions = config.sites.values().filter_map(|site| site.distribution.as_ref());
        // CloudFront has no regions.
        let arn = |id: &String| format!("arn:aws:cloudfront::{}:distribution/{id}", place.account);
        to.push(allow("Distributions", &action, distributions.map(arn)));
    }
}

fn images(config: &Config, place: &Place, push: bool, to: &mut Vec<Statement>) {
    let built = || {
        config.services.values().filter_map(|service| match &service.image {
            Image::Build(image) => Some(image),
            _ => None,
        })
    };
    let arn = |repository: &str| place.arn("ecr", &format!("repository/{repository}"));
    let mut read = vec!["ecr:DescribeRepositories", "ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
    if push && config.policy.image_findings != ImageFindings::Ignore {
        read.push("ecr:DescribeImageScanFindings");
    }
    // An image that somebody else has built lies in a repository whose name is in its URI, if it is ECR's at all.
    let elsewhere = config.services.values().filter_map(|service| match &service.image {
        Image::Build(_) => None,
        image => repository_of(&serde_uri(image)),
    });
    to.push(allow("Images", &read, built().map(|image| arn(&image.repository)).chain(elsewhere.map(|repository| arn(&repository)))));
    if push && built().next().is_some() {
        let action = [
            "ecr:BatchCheckLayerAvailability",
            "ecr:InitiateLayerUpload",
            "ecr:UploadLayerPart",
            "ecr:CompleteLayerUpload",
            "ecr:PutImage",
        ];
        to.push(allow("PushImages", &action, built().map(|image| arn(&image.repository))));
        // It knows no resources.
        to.push(allow("Registry", &["ecr:GetAuthorizationToken"], ["*".to_owned()]));
        let create = built().filter(|image| image.create).map(|image| arn(&image.repository));
        to.push(allow("CreateRepositories", &["ecr:CreateRepository", "ecr:PutLifecyclePolicy"], create));
    }
}

fn serde_uri(image: &Image) -> String {
    match image {
        Image::Prebuilt(uri) => uri.repository.clone(),
        Image::Tag(tag) => tag.to_string(),
        Image::Build(image) => image.repository.clone(),
    }
}

/// `shop/api` of `111111111111.dkr.ecr.us-east-1.amazonaws.com/shop/api:1`.
fn repository_of(uri: &str) -> Option<String> {
    let (host, path) = uri.split_once('/')?;
    let name = path.split([':', '@']).next()?;
    host.contains(".dkr.ecr.").then(|| name.to_owned())
}

fn migrations(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    let functions = |wanted: fn(&Migration) -> bool| -> Vec<String> {
        let names = config.migrations.values().filter(|migration| wanted(migration)).filter_map(|migration| migration.function.as_ref());
        names
            .flat_map(|name| [place.arn("lambda", &format!("function:{name}")), place.arn("lambda", &format!("function:{name}:*"))])
            .collect()
    };
    let lambda = |migration: &Migration| matches!(migration.driver, Driver::LambdaImage | Driver::LambdaZip);
    let action = ["lambda:GetFunction", "lambda:UpdateFunctionCode", "lambda:PublishVersion", "lambda:InvokeFunction"];
    let on_lambda = functions(lambda);
    if !on_lambda.is_empty() {
        // A function's log group may be another than that of its name: its own configuration says which.
        to.push(allow("FunctionLogs", &["logs:GetLogEvents", "logs:FilterLogEvents"], [place.arn("logs", "log-group:*")]));
    }
    to.push(allow("MigrationFunctions", &action, on_lambda));
    let snapshots = config.migrations.values().filter_map(|migration| migration.snapshot.as_ref()).collect::<Vec<_>>();
    if !snapshots.is_empty() {
        let action = ["rds:CreateDBSnapshot", "rds:CreateDBClusterSnapshot", "rds:AddTagsToResource"];
        let of = snapshots.iter().map(|id| place.arn("rds", &format!("db:{id}")));
        // A cluster's identifier is not in the configuration, but its instance's.
        let own = ["snapshot:windlass-*", "cluster-snapshot:windlass-*", "cluster:*"].map(|name| place.arn("rds", name));
        to.push(allow("Snapshots", &action, of.chain(own)));
        let look = ["rds:DescribeDBInstances", "rds:DescribeDBSnapshots", "rds:DescribeDBClusterSnapshots"];
        to.push(allow("LookAtSnapshots", &look, ["*".to_owned()]));
    }
    let stops = config.migrations.values().filter(|migration| migration.strategy == Strategy::Stop);
    let stops: Vec<&Service> = stops
        .flat_map(|migration| std::iter::once(&migration.from).chain(&migration.services))
        .filter_map(|name| config.services.get(name))
        .collect();
    if !stops.is_empty() {
        let arn = |service: &&Service| place.arn("ecs", &format!("service/{}/{}", cluster(service), service.service));
        to.push(allow("StopServices", &["ecs:DescribeServices", "ecs:UpdateService"], stops.iter().map(arn)));
        to.push(allow("StoppedTasks", &["ecs:ListTasks", "ecs:DescribeTasks"], ["*".to_owned()]));
        let scaling = [
            "application-autoscaling:DescribeScalableTargets",
            "application-autoscaling:DescribeScalingPolicies",
            "application-autoscaling:RegisterScalableTarget",
        ];
        to.push(allow("SuspendScaling", &scaling, ["*".to_owned()]));
    }
    let services: Vec<&Service> = config
        .migrations
        .values()
        .filter(|migration| migration.driver == Driver::Task)
        .filter_map(|migration| config.services.get(&migration.from))
        .collect();
    if !services.is_empty() {
        let tasks = services.iter().map(|service| place.arn("ecs", &format!("task/{}/*", cluster(service))));
        to.push(allow("MigrationTasks", &["ecs:DescribeTasks", "ecs:StopTask"], tasks));
        // The family of a task definition is not in the configuration: the cluster bounds it.
        let clusters: BTreeSet<String> =
            services.iter().map(|service| place.arn("ecs", &format!("cluster/{}", cluster(service)))).collect();
        let condition = serde_json::json!({ "ArnEquals": { "ecs:cluster": clusters } });
        let run = allow("RunMigrationTasks", &["ecs:RunTask"], [place.arn("ecs", "task-definition/*:*")]);
        to.push(Statement { condition: Some(condition), ..run });
        let logs = allow("MigrationLogs", &["logs:GetLogEvents", "logs:FilterLogEvents"], [place.arn("logs", "log-group:*")]);
        to.push(logs);
        revisions(place, to);
    }
}

fn services(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    if config.services.is_empty() {
        return;
    }
    let each = || config.services.values();
    to.push(allow("Clusters", &["ecs:DescribeClusters"], each().map(|service| place.arn("ecs", &format!("cluster/{}", cluster(service))))));
    let action = ["ecs:DescribeServices", "ecs:UpdateService", "ecs:ListServiceDeployments"];
    to.push(allow(
        "Services",
        &action,
        each().map(|service| place.arn("ecs", &format!("service/{}/{}", cluster(service), service.service))),
    ));
    let deployment = |service: &Service| place.arn("ecs", &format!("service-deployment/{}/{}/*", cluster(service), service.service));
    to.push(allow("Deployments", &["ecs:DescribeServiceDeployments", "ecs:StopServiceDeployment"], each().map(deployment)));
    to.push(allow("Tasks", &["ecs:DescribeTasks"], each().map(|service| place.arn("ecs", &format!("task/{}/*", cluster(service))))));
    let hosts = |service: &Service| place.arn("ecs", &format!("container-instance/{}/*", cluster(service)));
    to.push(allow("Hosts", &["ecs:DescribeContainerInstances"], each().map(hosts)));
    let lists = each().map(|service| place.arn("ecs", &format!("cluster/{}", cluster(service))));
    to.push(allow("ListHosts", &["ecs:ListContainerInstances"], lists));
    // ListTasks is allowed by the container instance, which Fargate does not have: the cluster bounds it.
    let clusters: BTreeSet<String> = each().map(|service| place.arn("ecs", &format!("cluster/{}", cluster(service)))).collect();
    let condition = serde_json::json!({ "ArnEquals": { "ecs:cluster": clusters } });
    to.push(Statement { condition: Some(condition), ..allow("ListTasks", &["ecs:ListTasks"], ["*".to_owned()]) });
    revisions(place, to);
    // These know no resources.
    let balancer = [
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    to.push(allow("LoadBalancers", &balancer, ["*".to_owned()]));
    to.push(allow("Logs", &["logs:GetLogEvents"], [place.arn("logs", "log-group:*:log-stream:*")]));
    if each().any(|service| service.scheduled_tasks == ScheduledTasks::Follow) {
        // Which rules and schedules start a service's tasks is asked of EventBridge; these lists know no resources.
        to.push(allow("ListScheduledTasks", &["events:ListRuleNamesByTarget", "scheduler:ListSchedules"], ["*".to_owned()]));
        let rules = ["events:ListTargetsByRule", "events:PutTargets"];
        to.push(allow("Rules", &rules, [place.arn("events", "rule/*")]));
        to.push(allow("Schedules", &["scheduler:GetSchedule", "scheduler:UpdateSchedule"], [place.arn("scheduler", "schedule/*")]));
        let condition =
            serde_json::json!({ "StringEquals": { "iam:PassedToService": ["events.amazonaws.com", "scheduler.amazonaws.com"] } });
        let passed = format!("arn:aws:iam::{}:role/*", place.account);
        to.push(Statement { condition: Some(condition), ..allow("PassScheduledRoles", &["iam:PassRole"], [passed]) });
    }
}

/// Revisions of task definitions are cloned from what a service runs: their family and roles are not in the configuration.
fn revisions(place: &Place, to: &mut Vec<Statement>) {
    if to.iter().any(|statement| statement.sid == "RegisterRevisions") {
        return;
    }
    let action = ["ecs:RegisterTaskDefinition", "ecs:DeregisterTaskDefinition", "ecs:TagResource"];
    to.push(allow("RegisterRevisions", &action, [place.arn("ecs", "task-definition/*:*")]));
    // These know no resources.
    to.push(allow("Revisions", &["ecs:DescribeTaskDefinition", "ecs:ListTaskDefinitions"], ["*".to_owned()]));
    let roles = allow("TaskRoles", &["iam:PassRole"], [format!("arn:aws:iam::{}:role/*", place.account)]);
    let condition = serde_json::json!({ "StringEquals": { "iam:PassedToService": "ecs-tasks.amazonaws.com" } });
    to.push(Statement { condition: Some(condition), ..roles });
}

/// A cluster's name, whether it is given by that or by its ARN.
fn cluster(service: &Service) -> &str {
    service.cluster.rsplit('/').next().unwrap_or(&service.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        serde_json::from_value(serde_json::json!({
            "app": "shop",
            "state": "s3://shop-state/windlass",
            "sites": { "web": { "prebuilt": true, "bucket": "shop-web", "prefix": "docs", "distribution": "E1" } },
            "services": { "api": { "image": { "repository": "shop/api" }, "cluster": "shop", "service": "api", "container": "web" } },
            "migrations": { "main": { "framework": "django", "driver": "lambda-image", "from": "api", "function": "shop-migrate" } },
        }))
        .unwrap()
    }

    fn actions(stages: &[Stage]) -> BTreeSet<&'static str> {
        policy(&config(), stages).statement.into_iter().flat_map(|statement| statement.action).collect()
    }

    #[test]
    fn a_stage_is_allowed_what_it_does_and_no_more() {
        assert!(!actions(&[Stage::Assets]).contains("s3:DeleteObject"));
        assert!(actions(&[Stage::Publish]).contains("cloudfront:CreateInvalidation"));
        assert!(!actions(&[Stage::Publish]).iter().any(|action| action.starts_with("ecs:") || action.starts_with("ecr:")));
        assert!(actions(&[Stage::Images]).contains("ecr:PutImage") && !actions(&[Stage::Services]).contains("ecr:PutImage"));
        assert!(!actions(&[Stage::Migrations]).contains("ecs:UpdateService"));
    }

    #[test]
    fn resources_are_those_of_the_configuration() {
        let all = policy(&config(), &Stage::ALL);
        let of = |sid: &str| all.statement.iter().find(|statement| statement.sid == sid).unwrap().resource.clone();
        let state = ["arn:aws:s3:::shop-state/windlass/databases/default/*", "arn:aws:s3:::shop-state/windlass/shop/default/*"];
        assert_eq!(of("State"), state);
        assert_eq!(of("StateBucket"), ["arn:aws:s3:::shop-state"]);
        assert_eq!(of("Sites"), ["arn:aws:s3:::shop-web/docs/*"]);
        assert_eq!(of("Distributions"), ["arn:aws:cloudfront::*:distribution/E1"]);
        assert_eq!(of("Services"), ["arn:aws:ecs:*:*:service/shop/api"]);
        assert_eq!(of("MigrationFunctions"), ["arn:aws:lambda:*:*:function:shop-migrate", "arn:aws:lambda:*:*:function:shop-migrate:*"]);
        assert_eq!(repository_of("1.dkr.ecr.us-east-1.amazonaws.com/shop/api:7").as_deref(), Some("shop/api"));
    }
}
