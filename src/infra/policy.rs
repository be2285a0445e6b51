//! The IAM policy of each stage: what the calls of that stage need, on the resources that the configuration names, and nothing else.
//!
//! Actions, resource types and condition keys are those of
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>.
//! `sts:GetCallerIdentity` needs no permission. What Dockerfiles begin with is not in the configuration, and is given beside it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::config::{Config, Driver, Framework, Handler, Image, ImageFindings, Migration, Site, SiteSource, State};
use crate::model::Stage;

use super::policy_ecs;
use super::policy_migrations;

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
pub(super) const EXPOSURE: [&str; 5] =
    ["s3:GetBucketAcl", "s3:GetBucketPolicy", "s3:GetBucketPolicyStatus", "s3:GetBucketPublicAccessBlock", "s3:GetBucketWebsite"];

/// What a pull needs besides a login.
const READ: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// What a push needs besides a login.
const PUSH: [&str; 5] =
    ["ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"];

/// The policy of `stages`; all five are those of `windlass release`, and of `windlass rollback`. `bases` are the images that those of the
/// services begin with: what of them lies in ECR has to be read.
#[must_use]
pub fn policy(config: &Config, stages: &[Stage], bases: &[String]) -> Policy {
    let has = |wanted: &[Stage]| wanted.iter().any(|stage| stages.contains(stage));
    let place = Place::of(config);
    let mut statement = state(config, &place);
    if has(&[Stage::Assets, Stage::Publish]) {
        sites(config, &place, has(&[Stage::Publish]), &mut statement);
    }
    images(config, &place, stages, bases, &mut statement);
    if has(&[Stage::Migrations]) {
        policy_migrations::statements(config, &place, &mut statement);
    }
    if has(&[Stage::Services]) {
        policy_ecs::services(config, &place, &mut statement);
    }
    statement.retain(|statement| !statement.resource.is_empty());
    Policy { version: "2012-10-17", statement }
}

/// The account and the region of ARNs; `*` where the configuration names none.
pub(super) struct Place {
    pub(super) account: String,
    pub(super) region: String,
}

impl Place {
    pub(super) fn of(config: &Config) -> Self {
        let environment = config.environment.as_ref();
        let any = || "*".to_owned();
        Self {
            account: environment.and_then(|environment| environment.account.clone()).unwrap_or_else(any),
            region: environment.and_then(|environment| environment.region.clone()).unwrap_or_else(any),
        }
    }

    pub(super) fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition(), self.region, self.account)
    }

    /// Of what has no regions: CloudFront, IAM.
    pub(super) fn everywhere(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}::{}:{resource}", self.partition(), self.account)
    }

    /// Those that are AWS's own.
    pub(super) fn managed_policies(&self) -> String {
        format!("arn:{}:iam::aws:policy/*", self.partition())
    }

    /// A bucket, or an object: its name is one of its own in all the world.
    pub(super) fn s3(&self, resource: impl std::fmt::Display) -> String {
        format!("arn:{}:s3:::{resource}", self.partition())
    }

    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
    fn partition(&self) -> &'static str {
        match self.region.as_str() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }
}

/// Resources that differ, in order.
pub(super) fn allow(sid: &'static str, action: &[&'static str], resource: impl IntoIterator<Item = String>) -> Statement {
    let resource: BTreeSet<String> = resource.into_iter().collect();
    Statement { sid, effect: "Allow", action: action.to_vec(), resource: resource.into_iter().collect(), condition: None }
}

impl Statement {
    /// The same, if a request has these keys.
    pub(super) fn only_if(self, operator: &str, keys: &[(&str, serde_json::Value)]) -> Self {
        let keys: serde_json::Map<_, _> = keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut condition = serde_json::Map::new();
        condition.insert(operator.to_owned(), keys.into());
        Self { condition: Some(condition.into()), ..self }
    }
}

fn state(config: &Config, place: &Place) -> Vec<Statement> {
    let State::S3 { bucket, prefix } = &config.state else { return Vec::new() };
    let environment = config.environment.as_ref().map_or("default", |environment| environment.name.as_str());
    let below = |name: &str| {
        let parts = [prefix.as_str(), name, environment, "*"].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        place.s3(format_args!("{bucket}/{}", parts.join("/")))
    };
    let mut all = vec![below(config.app.as_str())];
    if !config.migrations.is_empty() {
        // The leases of databases lie beside the applications that share them.
        all.push(below("databases"));
    }
    // Without `s3:ListBucket` S3 answers 403 for a key that is not there, and nobody could tell a first release.
    let look = [&["s3:ListBucket"][..], &EXPOSURE].concat();
    let write = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"];
    vec![allow("State", &write, all), allow("StateBucket", &look, [place.s3(bucket)])]
}

fn sites(config: &Config, place: &Place, publish: bool, to: &mut Vec<Statement>) {
    let below = |site: &Site| {
        let prefix = if site.prefix.is_empty() { String::new() } else { format!("{}/", site.prefix) };
        place.s3(format_args!("{}/{prefix}*", site.bucket))
    };
    let mut action = vec!["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"];
    if publish {
        action.push("s3:DeleteObject");
    }
    to.push(allow("Sites", &action, config.sites.values().map(below)));
    let bucket = [&["s3:ListBucket"][..], &EXPOSURE].concat();
    to.push(allow("SiteBuckets", &bucket, config.sites.values().map(|site| place.s3(&site.bucket))));
    if publish {
        let action = ["cloudfront:GetDistribution", "cloudfront:CreateInvalidation", "cloudfront:GetInvalidation"];
        let distributions = config.sites.values().filter_map(|site| site.distribution.as_ref());
        let arn = |id: &String| place.everywhere("cloudfront", &format!("distribution/{id}"));
        to.push(allow("Distributions", &action, distributions.map(arn)));
    }
}

/// What is asked of ECR to see what there is: of images that are built here, and of those that somebody else has built.
pub(super) fn look_at_images(built: &[&Image], given: &[&Image], place: &Place, to: &mut Vec<Statement>) {
    let arns = |images: &[&Image]| images.iter().filter_map(|image| repository(image, place)).collect::<Vec<_>>();
    to.push(allow("Images", &["ecr:DescribeRepositories", "ecr:DescribeImages"], arns(built)));
    to.push(allow("ImagesElsewhere", &READ, arns(given)));
}

fn images(config: &Config, place: &Place, stages: &[Stage], bases: &[String], to: &mut Vec<Statement>) {
    let is = |stage| stages.contains(&stage);
    // A site's files may come out of an image.
    let taken = config.sites.values().filter(|_| is(Stage::Assets) || is(Stage::Publish)).filter_map(|site| match site.source() {
        Some(SiteSource::FromImage(from)) => Some(&from.service),
        _ => None,
    });
    let taken: BTreeSet<_> = taken.collect();
    let all = is(Stage::Images) || is(Stage::Migrations) || is(Stage::Services);
    let looked_at = config.services.iter().filter(|(name, _)| all || taken.contains(name)).map(|(_, service)| &service.image);
    let (built, given): (Vec<&Image>, Vec<&Image>) = looked_at.partition(|image| matches!(image, Image::Build(_)));
    let arns = |images: &[&Image]| images.iter().filter_map(|image| repository(image, place)).collect::<Vec<_>>();
    look_at_images(&built, &given, place, to);
    if is(Stage::Images) && config.policy.image_findings != ImageFindings::Ignore {
        to.push(allow("ImageFindings", &["ecr:DescribeImageScanFindings"], arns(&built)));
    }
    // Whoever builds takes layers of what was built before; whoever gives an image to a function has to be allowed to read it.
    let on_lambda = config.migrations.values().any(|migration| matches!(migration.driver, Driver::LambdaImage | Driver::LambdaZip));
    if is(Stage::Images) || is(Stage::Migrations) && on_lambda || !taken.is_empty() {
        to.push(allow("ReadImages", &READ, arns(&built)));
    }
    // Whoever looks for an image asks what it begins with today.
    let bases: Vec<String> = bases.iter().filter(|_| !built.is_empty()).filter_map(|base| elsewhere(untagged(base))).collect();
    let mut push = if is(Stage::Images) { arns(&built) } else { Vec::new() };
    let mut login = !push.is_empty() || !taken.is_empty() || !bases.is_empty();
    to.push(allow("BaseImages", &READ, bases));
    if is(Stage::Images) {
        let created = built.iter().copied().filter(|image| matches!(image, Image::Build(image) if image.create)).collect::<Vec<_>>();
        to.push(allow("CreateRepositories", &["ecr:CreateRepository", "ecr:PutLifecyclePolicy"], arns(&created)));
    }
    if is(Stage::Migrations) {
        for migration in config.migrations.values() {
            login |= derives(migration) || extracts(migration);
            let service = config.services.get(&migration.from).filter(|_| derives(migration));
            let of_service = service.and_then(|service| repository(&service.image, place));
            push.extend(migration.image.as_ref().filter(|_| derives(migration)).map_or(of_service, |uri| elsewhere(&uri.repository)));
        }
    }
    to.push(allow("PushImages", &PUSH, push));
    if login {
        // It knows no resources.
        to.push(allow("Registry", &["ecr:GetAuthorizationToken"], ["*".to_owned()]));
    }
}

/// May the migration's function be given an image with windlass's handler on top? Without `handler` that depends on the function.
fn derives(migration: &Migration) -> bool {
    let ours = migration.handler.map_or(migration.image.is_none(), |handler| handler == Handler::Windlass);
    migration.driver == Driver::LambdaImage && ours
}

/// Is the function's zip made of the service's image?
fn extracts(migration: &Migration) -> bool {
    migration.driver == Driver::LambdaZip && migration.zip.is_none() && migration.framework != Framework::Prisma
}

/// The ARN of an image's repository; `None` where it is not ECR's.
fn repository(image: &Image, place: &Place) -> Option<String> {
    match image {
        Image::Build(image) => Some(place.arn("ecr", &format!("repository/{}", image.repository))),
        Image::Prebuilt(uri) => elsewhere(&uri.repository),
        Image::Tag(tag) => elsewhere(&tag.repository),
    }
}

/// An image's name without its tag and digest; what stands before the first `/` may have a port.
fn untagged(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let path = name.find('/').unwrap_or_default();
    name[path..].find(':').map_or(name, |colon| &name[..path + colon])
}

/// The ARN of a repository by its URI, whose host says whose it is: `111111111111.dkr.ecr.us-east-1.amazonaws.com/shop/api`.
fn elsewhere(uri: &str) -> Option<String> {
    let (host, path) = uri.split_once('/')?;
    let (account, region) = host.split_once(".dkr.ecr.").or_else(|| host.split_once(".dkr.ecr-fips."))?;
    let place = Place { account: account.to_owned(), region: region.split('.').next()?.to_owned() };
    Some(place.arn("ecr", &format!("repository/{path}")))
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
        policy(&config(), stages, &[]).statement.into_iter().flat_map(|statement| statement.action).collect()
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
        let base = "1.dkr.ecr.us-east-1.amazonaws.com/base/python:3.13".to_owned();
        let all = policy(&config(), &Stage::ALL, &[base, "node:22".to_owned()]);
        let of = |sid: &str| all.statement.iter().find(|statement| statement.sid == sid).unwrap().resource.clone();
        let state = ["arn:aws:s3:::shop-state/windlass/databases/default/*", "arn:aws:s3:::shop-state/windlass/shop/default/*"];
        assert_eq!(of("State"), state);
        assert_eq!(of("StateBucket"), ["arn:aws:s3:::shop-state"]);
        assert_eq!(of("BaseImages"), ["arn:aws:ecr:us-east-1:1:repository/base/python"]);
        assert_eq!(of("Sites"), ["arn:aws:s3:::shop-web/docs/*"]);
        assert_eq!(of("Distributions"), ["arn:aws:cloudfront::*:distribution/E1"]);
        assert_eq!(of("Services"), ["arn:aws:ecs:*:*:service/shop/api"]);
        assert_eq!(of("MigrationFunctions"), ["arn:aws:lambda:*:*:function:shop-migrate", "arn:aws:lambda:*:*:function:shop-migrate:*"]);
        let there = elsewhere("1.dkr.ecr.cn-north-1.amazonaws.com.cn/shop/api");
        assert_eq!(there.as_deref(), Some("arn:aws-cn:ecr:cn-north-1:1:repository/shop/api"));
        assert_eq!(elsewhere("ghcr.io/shop/api"), None);
        assert_eq!(["node", "h:5000/a/b:1", "h/a@sha256:00", "h:5000/a"].map(untagged), ["node", "h:5000/a/b", "h/a", "h:5000/a"]);
    }
}
