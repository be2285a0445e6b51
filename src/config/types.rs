//! The types of `windlass.yml`, from which its JSON Schema is made too.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::{Glob, Severity, UnitName};

use super::image::{Image, ImageFindings};
use super::migration::Migration;
use super::words::{Bucket, Duration, State};

/// One application: what it is made of, and where it is released to.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The application's name: part of every key in the state.
    pub app: UnitName,
    /// Where records, manifests, bodies and the lock are kept: `s3://BUCKET/PREFIX`, or `none`.
    pub state: State,
    /// The registry's host, instead of the account's ECR.
    #[serde(default)]
    pub registry: Option<String>,
    /// The environment that was chosen; `None` stands for the credentials' own account and region.
    #[serde(skip)]
    pub environment: Option<Environment>,
    /// Built sites, each served from a bucket.
    #[serde(default)]
    pub sites: BTreeMap<UnitName, Site>,
    /// Services on ECS.
    #[serde(default)]
    pub services: BTreeMap<UnitName, Service>,
    /// Migrations, one for each database.
    #[serde(default)]
    pub migrations: BTreeMap<UnitName, Migration>,
    /// What to do where there is a choice.
    #[serde(default)]
    pub policy: Policy,
}

/// Where an environment lives. Any key of the file may stand below it too and wins there.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Its name: the key that it stands under.
    #[serde(skip)]
    pub name: String,
    /// The account's 12 digits: credentials of another account are refused.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]{12}$"))]
    pub account: Option<String>,
    /// The region.
    #[serde(default)]
    pub region: Option<String>,
    /// A role to assume before anything else.
    #[serde(default)]
    pub role_arn: Option<String>,
}

/// A site: files that a command makes, in a bucket, behind a distribution.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its directory, from the file's own.
    #[serde(default = "here")]
    pub path: String,
    /// The command that builds it, run by `sh` in `path`.
    #[serde(default)]
    pub build: Option<String>,
    /// A buildspec that builds it, instead of `build`.
    #[serde(default)]
    pub buildspec: Option<String>,
    /// Built already by someone else.
    #[serde(default)]
    pub prebuilt: bool,
    /// Taken out of a service's image.
    #[serde(default)]
    pub from_image: Option<FromImage>,
    /// A build that was made elsewhere (`--prebuilt`) and takes the place of all of the above: from the file's directory, or absolute.
    #[serde(skip)]
    pub given: Option<String>,
    /// The prefixes of other sites in the same bucket that lie within this one's, with their names: what begins with them is theirs.
    #[serde(skip)]
    pub inner: BTreeMap<String, UnitName>,
    /// Variables of the build; it sees no `AWS_*` variable but those that are listed here.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The directory that the build writes, from `path`.
    #[serde(default = "dist")]
    pub output: String,
    /// The bucket.
    pub bucket: Bucket,
    /// What every key starts with.
    #[serde(default)]
    pub prefix: String,
    /// The id of the distribution that serves the bucket.
    #[serde(default)]
    pub distribution: Option<String>,
    /// Where the published page is checked; the distribution's own name if absent.
    #[serde(default)]
    pub url: Option<String>,
    /// How long files stay that the live release no longer names.
    #[serde(default)]
    pub keep: Keep,
    /// Whether `*.map` files are uploaded.
    #[serde(default)]
    pub source_maps: SourceMaps,
    /// Release to the bucket although the world can read it past the distribution, or might.
    #[serde(default)]
    pub allow_public: bool,
    /// Stores files compressed that CloudFront would serve uncompressed: text, JSON, SVG, WebAssembly and the like above 10 MB.
    #[serde(default)]
    pub precompress: Option<Precompress>,
    /// Headers for files by pattern; the last match wins.
    #[serde(default)]
    pub headers: Vec<HeaderRule>,
}

/// How a site comes to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SiteSource<'a> {
    /// By a command.
    Build(&'a str),
    /// By a buildspec.
    Buildspec(&'a str),
    /// It is there.
    Prebuilt,
    /// Out of an image.
    FromImage(&'a FromImage),
}

impl Site {
    /// How it comes to be; `None` where the file names no way or several.
    #[must_use]
    pub fn source(&self) -> Option<SiteSource<'_>> {
        if self.given.is_some() {
            return Some(SiteSource::Prebuilt);
        }
        match (&self.build, &self.buildspec, self.prebuilt, &self.from_image) {
            (Some(command), None, false, None) => Some(SiteSource::Build(command)),
            (None, Some(file), false, None) => Some(SiteSource::Buildspec(file)),
            (None, None, true, None) => Some(SiteSource::Prebuilt),
            (None, None, false, Some(from)) => Some(SiteSource::FromImage(from)),
            _ => None,
        }
    }
}

/// Files inside a service's image.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FromImage {
    /// The service.
    pub service: UnitName,
    /// The directory in its image.
    pub path: String,
}

/// How long files stay that the live release no longer names: both bounds hold.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// The files of so many releases.
    pub releases: u32,
    /// The files of so many days.
    pub days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { releases: 5, days: 30 }
    }
}

/// What happens to source maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceMaps {
    /// They stay where they were built.
    #[default]
    LeaveOut,
    /// They are uploaded as any other file.
    Upload,
}

/// How files are stored that CloudFront would serve uncompressed. Every visitor gets them so.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precompress {
    /// By Brotli: browsers take it over HTTPS only.
    Br,
    /// By gzip.
    Gzip,
}

/// Headers for the files that match.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// A pattern over the path in the output: `*` stays inside a directory, `**` crosses them.
    pub r#match: Glob,
    /// `Cache-Control`.
    #[serde(default)]
    pub cache_control: Option<String>,
    /// `Content-Type`.
    #[serde(default)]
    pub content_type: Option<String>,
}

/// A service on ECS.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The build context, from the file's own directory.
    #[serde(default = "here")]
    pub path: String,
    /// How its image is built, or the image itself.
    pub image: Image,
    /// The cluster's name or ARN.
    pub cluster: String,
    /// The service's name on ECS.
    pub service: String,
    /// The container that runs the image.
    pub container: String,
    /// A file that the next revision is rendered from, from the file's own directory: what `RegisterTaskDefinition` takes, as JSON, with
    /// `${VAR}` in its texts. Without it the revision that runs is cloned. Image and `env` are put in either way.
    #[serde(default)]
    pub task_definition: Option<String>,
    /// What that file holds.
    #[serde(skip)]
    pub definition: Option<serde_json::Value>,
    /// What becomes of rules and schedules of `EventBridge` that start tasks of the service's task definition.
    #[serde(default)]
    pub scheduled_tasks: ScheduledTasks,
    /// Plain variables that are set in the container; whatever else the task definition says stays.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Asked after the roll: a path, through the load balancer, or a full URL.
    #[serde(default)]
    pub health: Option<String>,
    /// A text that the answer has to hold: the release's version, `${GIT_COMMIT}`.
    #[serde(default)]
    pub health_holds: Option<String>,
    /// Services that roll before this one.
    #[serde(default)]
    pub after: Vec<UnitName>,
    /// How long a rollout may take.
    #[serde(default = "quarter_of_an_hour")]
    pub timeout: Duration,
    /// The rollout is given up after so many crashes of its tasks, whether ECS counts them or not.
    #[serde(default = "three")]
    pub crashes: u32,
}

/// What to do where there is a choice.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What happens to the services that rolled when another one fails.
    pub on_failure: OnFailure,
    /// What happens when ECR's scan of an image finds something.
    pub image_findings: ImageFindings,
    /// Findings of a lower severity are said and do not count.
    pub findings_from: Severity,
    /// What happens when a migration may break the code that runs.
    pub risky_migrations: RiskyMigrations,
    /// What happens when a rollback would bring back code that is older than the schema.
    pub rollback_past_migrations: RollbackPastMigrations,
    /// What happens to services that `strategy: stop` has stopped when the migration fails before it has applied anything.
    pub on_failed_migration: OnFailedMigration,
    /// What happens to a rollout that has run out of time.
    pub on_timeout: OnTimeout,
    /// So many services roll at once; all others wait.
    #[schemars(range(min = 1))]
    pub services_at_once: Option<u32>,
    /// So many revisions of a service's task definition stay registered; all if absent. One that serves, that a task runs, that a rule or a
    /// schedule starts where they follow, or that a record of a release names always stays.
    #[schemars(range(min = 1))]
    pub keep_revisions: Option<u32>,
}

/// What happens to services that were stopped when the migration fails before it has applied anything. Where something was applied,
/// or nobody can tell, they stay stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailedMigration {
    /// They start again, as they were.
    #[default]
    Start,
    /// They stay stopped.
    Leave,
}

/// What becomes of scheduled tasks when their service rolls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduledTasks {
    /// They start the revision that they name.
    #[default]
    Leave,
    /// They start the revision that the service runs, and go back with it.
    Follow,
}

/// What happens to a rollout that has run out of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// It is rolled back.
    #[default]
    Rollback,
    /// It is left as it is.
    Leave,
}

/// What happens to the services that rolled when another one fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They stay.
    #[default]
    Keep,
    /// They go back too.
    #[serde(alias = "rollback_all")]
    Rollback,
}

/// What happens when a migration may break the code that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RiskyMigrations {
    /// It is said.
    #[default]
    Warn,
    /// It is refused.
    Refuse,
    /// Nothing.
    Allow,
}

/// What happens when a rollback would bring back code that is older than the schema: migrations are never undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RollbackPastMigrations {
    /// It is said which migrations stay.
    #[default]
    Warn,
    /// It is refused.
    Refuse,
}

fn here() -> String {
    ".".to_owned()
}

fn dist() -> String {
    "dist".to_owned()
}

fn three() -> u32 {
    3
}

fn quarter_of_an_hour() -> Duration {
    Duration(std::time::Duration::from_mins(15))
}

/// The keys that an environment may override: those of the file itself.
pub(super) const OVERRIDING: [&str; 7] = ["app", "state", "registry", "sites", "services", "migrations", "policy"];

/// The JSON Schema of `windlass.yml`.
///
/// An environment's overriding keys are open in it: what they hold is checked after they are merged.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let environment = generator.subschema_for::<Environment>();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    if let Some(definition) = schema.pointer_mut("/$defs/Environment/properties").and_then(serde_json::Value::as_object_mut) {
        for key in OVERRIDING {
            definition.insert(key.to_owned(), serde_json::json!({ "description": "Overrides the key of this name." }));
        }
    }
    if let Some(properties) = schema.pointer_mut("/properties").and_then(serde_json::Value::as_object_mut) {
        let environments = serde_json::json!({
            "description": "Where the application is released to, by name; the credentials' own account and region if absent.",
            "type": "object",
            "additionalProperties": environment,
        });
        properties.insert("environments".to_owned(), environments);
    }
    schema
}
