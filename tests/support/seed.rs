//! What a test needs to be in the cloud before the binary comes: the resources that windlass itself never creates.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudfront::types::{
    DefaultCacheBehavior, DistributionConfig, Origin, OriginAccessControlConfig, OriginAccessControlOriginTypes,
    OriginAccessControlSigningBehaviors, OriginAccessControlSigningProtocols, Origins, S3OriginConfig, ViewerProtocolPolicy,
};
use aws_sdk_ecr::types::ImageTagMutability;
use aws_sdk_ecs::types::{
    AwsVpcConfiguration, Compatibility, ContainerDefinition, DeploymentCircuitBreaker, DeploymentConfiguration, LaunchType,
    NetworkConfiguration, NetworkMode,
};
use aws_sdk_lambda::types::{FunctionCode, PackageType};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_s3::types::PublicAccessBlockConfiguration;
use windlass::model::Sha256;

/// The account of the keys `test`/`test`. The local cloud serves pages and pushes of this account only.
pub(crate) const ACCOUNT: &str = "000000000000";

/// Creates resources, with every permission, past the proxy.
pub(crate) struct Seed(SdkConfig);

impl Seed {
    /// For the cloud at `url`, in `us-east-1`.
    pub(crate) fn new(url: &str) -> Self {
        Self::of(url, "test")
    }

    /// As [`Seed::new`], in the account of this number, which the local cloud takes an access key of twelve digits for.
    pub(crate) fn in_account(url: &str, account: &str) -> Self {
        Self::of(url, account)
    }

    fn of(url: &str, key: &str) -> Self {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(key, "test", None, None, "test")))
            .endpoint_url(url);
        Self(config.build())
    }

    /// A client for what is not here.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&self.0).force_path_style(true).build())
    }

    /// A bucket, all public access to which is blocked.
    pub(crate) async fn bucket(&self, name: &str) {
        self.s3().create_bucket().bucket(name).send().await.unwrap();
        let block = PublicAccessBlockConfiguration::builder().block_public_acls(true).ignore_public_acls(true);
        let block = block.block_public_policy(true).restrict_public_buckets(true).build();
        self.s3().put_public_access_block().bucket(name).public_access_block_configuration(block).send().await.unwrap();
    }

    /// A bucket that everyone may read.
    pub(crate) async fn publish(&self, bucket: &str) {
        self.s3().delete_public_access_block().bucket(bucket).send().await.unwrap();
        let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": format!("arn:aws:s3:::{bucket}/*"),
        }] });
        self.s3().put_bucket_policy().bucket(bucket).policy(policy.to_string()).send().await.unwrap();
    }

    /// A distribution in front of a bucket, which is allowed to read it; gives its id and its domain name.
    pub(crate) async fn distribution(&self, bucket: &str) -> (String, String) {
        let cloudfront = aws_sdk_cloudfront::Client::new(&self.0);
        let control = OriginAccessControlConfig::builder()
            .name(bucket)
            .signing_protocol(OriginAccessControlSigningProtocols::Sigv4)
            .signing_behavior(OriginAccessControlSigningBehaviors::Always)
            .origin_access_control_origin_type(OriginAccessControlOriginTypes::S3);
        let control = cloudfront.create_origin_access_control().origin_access_control_config(control.build().unwrap());
        let control = control.send().await.unwrap().origin_access_control.unwrap().id;
        let origin = Origin::builder()
            .id("s3")
            .domain_name(format!("{bucket}.s3.us-east-1.amazonaws.com"))
            .origin_access_control_id(control)
            .s3_origin_config(S3OriginConfig::builder().origin_access_identity("").build());
        let behavior = DefaultCacheBehavior::builder()
            .target_origin_id("s3")
            .viewer_protocol_policy(ViewerProtocolPolicy::RedirectToHttps)
            // CachingOptimized, one of AWS's own.
            .cache_policy_id("658327ea-f89d-4fab-a63d-7e88639e58f6");
        let config = DistributionConfig::builder()
            .caller_reference(bucket)
            .comment(bucket)
            .enabled(true)
            .default_root_object("index.html")
            .origins(Origins::builder().quantity(1).items(origin.build().unwrap()).build().unwrap())
            .default_cache_behavior(behavior.build().unwrap());
        let made = cloudfront.create_distribution().distribution_config(config.build().unwrap()).send().await.unwrap();
        let distribution = made.distribution.unwrap();
        let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "cloudfront.amazonaws.com" },
            "Action": "s3:GetObject",
            "Resource": format!("arn:aws:s3:::{bucket}/*"),
            "Condition": { "StringEquals": { "AWS:SourceArn": distribution.arn } },
        }] });
        self.s3().put_bucket_policy().bucket(bucket).policy(policy.to_string()).send().await.unwrap();
        (distribution.id, distribution.domain_name)
    }

    /// An image repository whose tags never move.
    pub(crate) async fn repository(&self, name: &str) {
        let ecr = aws_sdk_ecr::Client::new(&self.0);
        ecr.create_repository().repository_name(name).image_tag_mutability(ImageTagMutability::Immutable).send().await.unwrap();
    }

    /// Lets the tags of a repository move, and has it look through what is pushed.
    pub(crate) async fn repository_settings(&self, name: &str) {
        let ecr = aws_sdk_ecr::Client::new(&self.0);
        ecr.put_image_tag_mutability().repository_name(name).image_tag_mutability(ImageTagMutability::Mutable).send().await.unwrap();
        let scan = aws_sdk_ecr::types::ImageScanningConfiguration::builder().scan_on_push(true).build();
        ecr.put_image_scanning_configuration().repository_name(name).image_scanning_configuration(scan).send().await.unwrap();
    }

    /// An image of no layers, without an engine; gives its digest. Another tag makes another image.
    pub(crate) async fn image(&self, repository: &str, tag: &str) -> String {
        let config = Sha256::of(tag.as_bytes());
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "size": tag.len(), "digest": format!("sha256:{config}") },
            "layers": [],
        });
        let ecr = aws_sdk_ecr::Client::new(&self.0);
        let made = ecr.put_image().repository_name(repository).image_tag(tag).image_manifest(manifest.to_string()).send().await.unwrap();
        made.image.unwrap().image_id.unwrap().image_digest.unwrap()
    }

    /// A cluster.
    pub(crate) async fn cluster(&self, name: &str) {
        aws_sdk_ecs::Client::new(&self.0).create_cluster().cluster_name(name).send().await.unwrap();
    }

    /// A task definition with one container `web`; gives its ARN.
    pub(crate) async fn revision(&self, family: &str, image: &str) -> String {
        let ecs = aws_sdk_ecs::Client::new(&self.0);
        let container = ContainerDefinition::builder().name("web").image(image).essential(true);
        let definition = ecs.register_task_definition().family(family).container_definitions(container.build());
        let definition = definition.requires_compatibilities(Compatibility::Fargate).network_mode(NetworkMode::Awsvpc);
        let made = definition.cpu("256").memory("512").send().await.unwrap();
        made.task_definition.unwrap().task_definition_arn.unwrap()
    }

    /// Tells a service to run a revision, as somebody else would.
    pub(crate) async fn roll(&self, cluster: &str, name: &str, revision: &str) {
        let ecs = aws_sdk_ecs::Client::new(&self.0);
        ecs.update_service().cluster(cluster).service(name).task_definition(revision).send().await.unwrap();
    }

    /// Sets how many tasks a service is to have.
    pub(crate) async fn scale(&self, cluster: &str, name: &str, tasks: i32) {
        aws_sdk_ecs::Client::new(&self.0).update_service().cluster(cluster).service(name).desired_count(tasks).send().await.unwrap();
    }

    /// How many tasks a service is to have.
    pub(crate) async fn tasks(&self, cluster: &str, name: &str) -> i32 {
        let found = aws_sdk_ecs::Client::new(&self.0).describe_services().cluster(cluster).services(name).send().await.unwrap();
        found.services()[0].desired_count()
    }

    /// A Fargate service of one task with one container `web`, and a task definition of the same name; gives that one's ARN.
    pub(crate) async fn service(&self, cluster: &str, name: &str, image: &str) -> String {
        let ecs = aws_sdk_ecs::Client::new(&self.0);
        let arn = self.revision(name, image).await;
        let breaker = DeploymentCircuitBreaker::builder().enable(true).rollback(true).build();
        let network = AwsVpcConfiguration::builder().subnets("subnet-1").build().unwrap();
        let service = ecs.create_service().cluster(cluster).service_name(name).task_definition(&arn).desired_count(1);
        let service = service.launch_type(LaunchType::Fargate);
        let service = service.deployment_configuration(DeploymentConfiguration::builder().deployment_circuit_breaker(breaker).build());
        let service = service.network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build());
        service.send().await.unwrap();
        arn
    }

    /// As [`Seed::service`], with variables, and a log in the group of the service's name.
    pub(crate) async fn service_with(&self, cluster: &str, name: &str, image: &str, variables: &[(&str, &str)]) {
        let ecs = aws_sdk_ecs::Client::new(&self.0);
        let pair = |(name, value): &(&str, &str)| aws_sdk_ecs::types::KeyValuePair::builder().name(*name).value(*value).build();
        let log = aws_sdk_ecs::types::LogConfiguration::builder()
            .log_driver(aws_sdk_ecs::types::LogDriver::Awslogs)
            .options("awslogs-group", name)
            .options("awslogs-region", "us-east-1")
            .options("awslogs-stream-prefix", "web")
            .build()
            .unwrap();
        aws_sdk_cloudwatchlogs::Client::new(&self.0).create_log_group().log_group_name(name).send().await.unwrap();
        let container = ContainerDefinition::builder().name("web").image(image).essential(true).log_configuration(log);
        let container = container.set_environment(Some(variables.iter().map(pair).collect()));
        let definition = ecs.register_task_definition().family(name).container_definitions(container.build());
        let definition = definition.requires_compatibilities(Compatibility::Fargate).network_mode(NetworkMode::Awsvpc);
        let made = definition.cpu("256").memory("512").send().await.unwrap();
        let arn = made.task_definition.unwrap().task_definition_arn.unwrap();
        let network = AwsVpcConfiguration::builder().subnets("subnet-1").build().unwrap();
        let service = ecs.create_service().cluster(cluster).service_name(name).task_definition(&arn).desired_count(1);
        let breaker = DeploymentCircuitBreaker::builder().enable(true).rollback(true).build();
        let service = service.deployment_configuration(DeploymentConfiguration::builder().deployment_circuit_breaker(breaker).build());
        let service = service.network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build());
        service.launch_type(LaunchType::Fargate).send().await.unwrap();
    }

    /// A load balancer of this name, whose listener forwards all to a target group of this name; gives the group's ARN.
    pub(crate) async fn balancer(&self, name: &str) -> String {
        use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, ProtocolEnum, TargetTypeEnum};
        let elb = aws_sdk_elasticloadbalancingv2::Client::new(&self.0);
        let made = elb.create_load_balancer().name(name).subnets("subnet-1").send().await.unwrap();
        let balancer = made.load_balancers()[0].load_balancer_arn().unwrap().to_owned();
        let group = elb.create_target_group().name(name).protocol(ProtocolEnum::Http).port(8000).target_type(TargetTypeEnum::Ip);
        let group = group.vpc_id("vpc-1").send().await.unwrap().target_groups()[0].target_group_arn().unwrap().to_owned();
        let forward = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(&group).build();
        let listener = elb.create_listener().load_balancer_arn(balancer).protocol(ProtocolEnum::Http).port(80).default_actions(forward);
        listener.send().await.unwrap();
        group
    }

    /// A Fargate service of two tasks behind a balancer's target group, whose container `web` listens on 8000.
    pub(crate) async fn balanced_service(&self, name: &str, image: &str, group: &str) {
        let ecs = aws_sdk_ecs::Client::new(&self.0);
        let port = aws_sdk_ecs::types::PortMapping::builder().container_port(8000).build();
        let container = ContainerDefinition::builder().name("web").image(image).essential(true).port_mappings(port);
        let definition = ecs.register_task_definition().family(name).container_definitions(container.build());
        let definition = definition.requires_compatibilities(Compatibility::Fargate).network_mode(NetworkMode::Awsvpc);
        let made = definition.cpu("256").memory("512").send().await.unwrap();
        let arn = made.task_definition.unwrap().task_definition_arn.unwrap();
        let network = AwsVpcConfiguration::builder().subnets("subnet-1").build().unwrap();
        let service = ecs.create_service().cluster(name).service_name(name).task_definition(arn).desired_count(2);
        let breaker = DeploymentCircuitBreaker::builder().enable(true).rollback(true).build();
        let service = service.deployment_configuration(DeploymentConfiguration::builder().deployment_circuit_breaker(breaker).build());
        let service = service.network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build());
        let balancer = aws_sdk_ecs::types::LoadBalancer::builder().target_group_arn(group).container_name("web").container_port(8000);
        service.load_balancers(balancer.build()).launch_type(LaunchType::Fargate).send().await.unwrap();
    }

    /// As [`Seed::function`], with variables.
    pub(crate) async fn function_with(&self, name: &str, image: &str, variables: &[(&str, &str)]) {
        let lambda = aws_sdk_lambda::Client::new(&self.0);
        let function = lambda.create_function().function_name(name).package_type(PackageType::Image).timeout(120);
        let function = function.role(format!("arn:aws:iam::{ACCOUNT}:role/lambda"));
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(variables)).build();
        function.environment(environment).code(FunctionCode::builder().image_uri(image).build()).send().await.unwrap();
    }

    /// A function made of a zip, with variables.
    pub(crate) async fn function_zip(&self, name: &str, runtime: &str, handler: &str, zip: &[u8], variables: &[(&str, &str)]) {
        let lambda = aws_sdk_lambda::Client::new(&self.0);
        let function = lambda.create_function().function_name(name).package_type(PackageType::Zip).timeout(120);
        let function = function.role(format!("arn:aws:iam::{ACCOUNT}:role/lambda")).runtime(runtime.into()).handler(handler);
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(variables)).build();
        let code = FunctionCode::builder().zip_file(aws_sdk_lambda::primitives::Blob::new(zip)).build();
        function.environment(environment).code(code).send().await.unwrap();
    }

    /// A secret; gives its ARN.
    pub(crate) async fn secret(&self, name: &str, text: &str) -> String {
        let secrets = aws_sdk_secretsmanager::Client::new(&self.0);
        secrets.create_secret().name(name).secret_string(text).send().await.unwrap().arn.unwrap()
    }

    /// The digest of the only image of a repository.
    pub(crate) async fn only_image(&self, repository: &str) -> String {
        let images = aws_sdk_ecr::Client::new(&self.0).describe_images().repository_name(repository).send().await.unwrap();
        images.image_details()[0].image_digest().unwrap().to_owned()
    }

    /// A function made of an image.
    pub(crate) async fn function(&self, name: &str, image: &str) {
        let lambda = aws_sdk_lambda::Client::new(&self.0);
        let function = lambda.create_function().function_name(name).package_type(PackageType::Image).timeout(300);
        let function = function.role(format!("arn:aws:iam::{ACCOUNT}:role/lambda"));
        function.code(FunctionCode::builder().image_uri(image).build()).send().await.unwrap();
    }
}
