//! AWS: the only room that names the AWS SDK. Thin typed calls, one file per service, and one error type that answers questions.
//!
//! Every call gives and takes plain values of this room and of `model`; none of the SDK's types leaks. A call does what its AWS action
//! does, once, and says what AWS answered: waiting (but for [`once_known`]), polling, choosing and printing belong to the rooms above.
//!
//! Deliberately absent: a trait over AWS and a mock of it (the seam is the endpoint URL), policy, progress, and every knowledge that there
//! is a local cloud.

mod cloudfront;
mod cloudfront_edge;
mod cloudwatch;
mod credentials;
mod ec2;
mod ecr;
mod ecr_repository;
mod ecr_scan;
mod ecs;
mod ecs_deployment;
mod ecs_json;
mod ecs_network;
mod ecs_room;
mod ecs_run;
mod ecs_stopped;
mod ecs_task;
mod elb;
mod elb_balancer;
mod error;
mod events;
mod fence;
mod guards;
mod iam;
mod kind;
mod lambda;
mod late;
mod logs;
mod query;
mod query_xml;
mod quickest;
mod rds;
mod rds_snapshot;
mod retries;
mod s3;
mod s3_bucket;
mod s3_delete;
mod s3_document;
mod s3_example;
mod s3_get;
mod s3_lock;
mod s3_multipart;
mod s3_put;
mod scaling;
mod secretsmanager;
mod ssm;
mod sts;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::imds;
use aws_config::meta::region::{ProvideRegion as _, RegionProviderChain};
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use credentials::Renewing;
use quickest::Quickest;
use s3_put::ShortWay;

pub use cloudfront::{Distribution, Origin};
pub use cloudfront_edge::{Behaviour, Edge, EdgeOrigin};
pub use cloudwatch::Alarm;
pub use ec2::{Admission, Route, RouteTable, SecurityGroup, Subnet};
pub use ecr::{RegistryCredentials, Repository};
pub use ecr_repository::{Manifest, NewestImage};
pub use ecr_scan::{Scan, ScanFindings};
pub use ecs::{CircuitBreaker, Cluster, Deployment, Event, Service};
pub use ecs_deployment::ServiceDeployment;
pub use ecs_network::{Host, Placement};
pub use ecs_room::Room;
pub use ecs_run::{RunTask, Task, TaskContainer};
pub use ecs_stopped::{StoppedContainer, StoppedTask};
pub use ecs_task::{Container, TaskDefinition};
pub use elb::{Listener, Target};
pub use elb_balancer::{Balancer, BalancerListener, Forward};
pub use error::AwsError;
pub use events::ScheduledTask;
pub use fence::{Fence, Moment};
pub use guards::{Addressed, Cache, Pipeline, Surroundings};
pub use iam::Role;
pub use lambda::{Function, FunctionCode, Invocation};
pub use late::once_known;
pub use logs::{LogEvent, LogPage};
pub use rds::DbInstance;
pub use rds_snapshot::{DbSnapshot, SnapshotOf};
pub use s3::{Condition, ListedObject, Object, ObjectHead};
pub use s3_bucket::{Exposure, PublicAccessBlock};
pub use s3_delete::Deleted;
pub use s3_document::Document;
pub use s3_lock::Aged;
pub use s3_multipart::PutFileError;
pub use scaling::Scaling;
pub use secretsmanager::Secret;
pub use ssm::Parameters;
pub use sts::Identity;

/// How long a TCP connection may take to open. The SDK's own 3.1 s is tight while hundreds open at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one attempt of a call may take, unless the call knows better.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(1);

/// Attempts per call. With three, one upload in 10,000 was lost where one answer in twenty was a 503; with eight none was.
const ATTEMPTS: u32 = 8;

/// How AWS is reached. Every field that is `None` is found where the AWS command line finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// A profile of the shared configuration. When given, it wins over keys in the environment, as with the AWS command line.
    pub profile: Option<String>,
    /// The region: `us-east-1`.
    pub region: Option<String>,
    /// Where every service is, instead of AWS: `http://127.0.0.1:4566`.
    pub endpoint_url: Option<String>,
    /// A role to assume with the credentials that are found.
    pub role_arn: Option<String>,
    /// A fixed access key pair, for a local cloud.
    pub keys: Option<(String, String)>,
}

/// A connection to one account and region; cheap to clone.
#[derive(Clone)]
pub struct Aws(Arc<Clients>);

/// A client that is made when it is first asked: to make one compiles all that its service knows of regions and addresses.
type Lazy<T> = LazyLock<T, Box<dyn FnOnce() -> T + Send>>;

fn lazy<T>(make: impl FnOnce() -> T + Send + 'static) -> Lazy<T> {
    LazyLock::new(Box::new(make))
}

/// A service's client, behind the fence where there is one.
macro_rules! client {
    ($sdk:ident, $config:expr, $renewing:expr) => {{
        let (config, renewing) = ($config.clone(), $renewing.clone());
        lazy(move || {
            let config = $sdk::config::Builder::from(&config).interceptor(renewing.clone()).retry_classifier(renewing);
            $sdk::Client::from_conf(config.build())
        })
    }};
    ($sdk:ident, $config:expr, $renewing:expr, $fence:expr) => {{
        let (config, renewing, fence) = ($config.clone(), $renewing.clone(), $fence.clone());
        lazy(move || {
            let config = $sdk::config::Builder::from(&config).interceptor(renewing.clone()).retry_classifier(renewing);
            $sdk::Client::from_conf(config.interceptor(fence).build())
        })
    }};
}

struct Clients {
    config: SdkConfig,
    region: String,
    fence: Fence,
    renewing: Renewing,
    cloudfront: Lazy<aws_sdk_cloudfront::Client>,
    ecr: Lazy<aws_sdk_ecr::Client>,
    ecs: Lazy<aws_sdk_ecs::Client>,
    elb: Lazy<aws_sdk_elasticloadbalancingv2::Client>,
    lambda: Lazy<aws_sdk_lambda::Client>,
    logs: Lazy<aws_sdk_cloudwatchlogs::Client>,
    s3: Lazy<aws_sdk_s3::Client>,
    /// For what the fence itself stands on.
    lock_s3: Lazy<aws_sdk_s3::Client>,
    secretsmanager: Lazy<aws_sdk_secretsmanager::Client>,
    ssm: Lazy<aws_sdk_ssm::Client>,
    sts: Lazy<aws_sdk_sts::Client>,
    quickest: Quickest,
    /// For small uploads.
    short_way: ShortWay,
}

impl Aws {
    fn new(config: SdkConfig, region: String, renewing: Renewing, fence: Fence) -> Self {
        // Bucket names in front of a host that is not AWS's (`shop-web.127.0.0.1`) do not resolve.
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(config.endpoint_url().is_some());
        let quickest = Quickest::default();
        let s3 = s3.interceptor(renewing.clone()).retry_classifier(renewing.clone()).interceptor(quickest.clone());
        let (fenced_s3, s3) = (s3.clone().interceptor(fence.clone()), s3);
        Self(Arc::new(Clients {
            cloudfront: client!(aws_sdk_cloudfront, config, renewing, fence),
            ecr: client!(aws_sdk_ecr, config, renewing, fence),
            ecs: client!(aws_sdk_ecs, config, renewing, fence),
            elb: client!(aws_sdk_elasticloadbalancingv2, config, renewing),
            lambda: client!(aws_sdk_lambda, config, renewing, fence),
            logs: client!(aws_sdk_cloudwatchlogs, config, renewing, fence),
            lock_s3: lazy(move || aws_sdk_s3::Client::from_conf(s3.build())),
            s3: lazy(move || aws_sdk_s3::Client::from_conf(fenced_s3.build())),
            short_way: ShortWay::new(fence.clone(), renewing.clone()),
            fence,
            secretsmanager: client!(aws_sdk_secretsmanager, config, renewing),
            ssm: client!(aws_sdk_ssm, config, renewing),
            sts: client!(aws_sdk_sts, config, renewing),
            quickest,
            region,
            renewing,
            config,
        }))
    }

    /// The same access with connections of its own, for another thread: a connection is driven by the runtime that has opened it.
    #[must_use]
    pub fn apart(&self) -> Self {
        let config = self.0.config.to_builder().http_client(https_client()).build();
        Self::new(config, self.0.region.clone(), self.0.renewing.clone(), self.0.fence.clone())
    }

    /// How long the quickest of S3's answers has taken so far; zero before there is one.
    #[must_use]
    pub fn quickest_answer(&self) -> Duration {
        self.0.quickest.time()
    }

    /// The region that the calls go to.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.0.region
    }

    /// Where every service is instead of AWS, if anything (an argument, `AWS_ENDPOINT_URL` or the profile) says so.
    #[must_use]
    pub fn endpoint_url(&self) -> Option<&str> {
        self.0.config.endpoint_url()
    }

    /// What stands in front of every write of these clients.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.0.fence
    }
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aws").field("region", &self.region()).field("endpoint_url", &self.endpoint_url()).finish_non_exhaustive()
    }
}

/// Reads the shared configuration and makes the clients. It calls no service, so that credentials which are missing, expired or not
/// allowed to assume the role show in the first call: make that [`Aws::caller_identity`].
///
/// # Errors
/// No region is configured anywhere; or the fixed configuration is not usable.
pub async fn connect(access: &Access) -> Result<Aws, AwsError> {
    let http = https_client();
    let sources = ProviderConfig::without_region().with_http_client(http.clone());
    // Outside EC2 nothing answers at the metadata address, and a laptop without credentials should hear so within seconds.
    let metadata = imds::Client::builder()
        .configure(&sources)
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(1))
        .max_attempts(1)
        .build();
    let region = find_region(access, &sources, &metadata).await.filter(|region| !region.as_ref().is_empty());
    let region = region.ok_or_else(AwsError::no_region)?;
    if !region.as_ref().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(AwsError::no_such_region(region.as_ref()));
    }
    let sources = sources.with_region(Some(region.clone()));

    let mut renewing = Renewing::new(find_credentials(access, sources, metadata).await);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(region.clone())
        .credentials_provider(renewing.clone())
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(attempt_timeout(ATTEMPT_TIMEOUT));
    if let Ok(name) = AppName::new("windlass") {
        loader = loader.app_name(name);
    }
    if let Some(profile) = &access.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(url) = &access.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    let mut config = loader.load().await;
    // The clients read their variables themselves, take any text for an address, and fail at each call, or panic.
    let variables = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"AWS_ENDPOINT_URL"));
    let named = variables.map(|(name, url)| (name.to_string_lossy().into_owned(), url.to_string_lossy().into_owned()));
    let given = access.endpoint_url.iter().map(|url| ("--endpoint-url".to_owned(), url.clone()));
    if let Some((name, url)) = given.chain(named).find(|(_, url)| !is_address(url)) {
        return Err(AwsError::no_endpoint(&name, &url));
    }
    if let Some(role) = &access.role_arn {
        let assumed = aws_config::sts::AssumeRoleProvider::builder(role).session_name("windlass").configure(&config).build().await;
        renewing = Renewing::new(SharedCredentialsProvider::new(assumed));
        config = config.into_builder().credentials_provider(SharedCredentialsProvider::new(renewing.clone())).build();
    }
    Ok(Aws::new(config, region.to_string(), renewing, Fence::default()))
}

/// The one HTTP client: without it the SDK compiles and then fails at every call, because its own default client is left out of the build.
fn https_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https()
}

fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

fn attempt_timeout(timeout: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(timeout).build()
}

/// The order of the AWS command line: argument, environment, profile, instance metadata.
async fn find_region(access: &Access, sources: &ProviderConfig, metadata: &imds::Client) -> Option<Region> {
    if let Some(region) = access.region.as_ref().filter(|region| !region.is_empty()) {
        return Some(Region::new(region.clone()));
    }
    let mut profile = ProfileFileRegionProvider::builder().configure(sources);
    if let Some(name) = &access.profile {
        profile = profile.profile_name(name);
    }
    // An empty variable is as good as none.
    let from_variable = EnvironmentVariableRegionProvider::new().region().await.filter(|region| !region.as_ref().is_empty());
    let from_files = RegionProviderChain::first_try(from_variable).or_else(profile.build()).region().await;
    // A place that was named on purpose is not asked about this machine.
    if from_files.is_some() || access.keys.is_some() || access.profile.is_some() {
        return from_files;
    }
    imds::region::ImdsRegionProvider::builder().configure(sources).imds_client(metadata.clone()).build().region().await
}

async fn find_credentials(access: &Access, sources: ProviderConfig, metadata: imds::Client) -> SharedCredentialsProvider {
    if let Some((id, secret)) = &access.keys {
        return SharedCredentialsProvider::new(Credentials::new(id, secret, None, None, "fixed"));
    }
    if let Some(profile) = &access.profile {
        // The SDK's default chain asks the environment first and would pass over the profile that was asked for.
        let from_profile = ProfileFileCredentialsProvider::builder().configure(&sources).profile_name(profile).build();
        return SharedCredentialsProvider::new(from_profile);
    }
    let chain = aws_config::default_provider::credentials::DefaultCredentialsChain::builder().configure(sources).imds_client(metadata);
    SharedCredentialsProvider::new(chain.build().await)
}
