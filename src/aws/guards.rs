//! The small questions of `verify`: a bucket's policy, a log group's retention, a function's network and address, schedules, caches, a
//! pipeline and the roles of its builds.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::ecs_json::{list, text};
use super::query::Service;
use super::query_xml::Node;
use super::{Aws, AwsError};

/// A function's surroundings. `Debug` shows no value of a variable.
#[derive(Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Its subnets; empty outside a VPC.
    pub subnets: Vec<String>,
    /// Its security groups; none outside a VPC.
    pub security_groups: Vec<String>,
    /// What it acts as.
    pub role: Option<String>,
    /// Its plain variables.
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("subnets", &self.subnets).field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// A cache: a replication group of `ElastiCache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its id.
    pub id: String,
    /// Where it answers.
    pub hosts: Vec<String>,
    /// Is what it stores encrypted?
    pub at_rest: bool,
    /// Is what goes there encrypted?
    pub in_transit: bool,
}

/// A pipeline, as far as it starts releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// `V1` or `V2`.
    pub kind: String,
    /// `QUEUED`, `SUPERSEDED` or `PARALLEL`.
    pub mode: String,
    /// The providers of its source actions: `CodeStarSourceConnection`, `CodeCommit` …
    pub sources: Vec<String>,
    /// The providers of all its actions, stage by stage.
    pub providers: Vec<String>,
    /// The branches, tags or files whose pushes start it.
    pub triggers: usize,
    /// What it acts as itself.
    pub role: Option<String>,
    /// The `CodeBuild` projects of its actions.
    pub projects: Vec<String>,
}

/// A function that answers at an address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    /// Its name.
    pub function: String,
    /// The host of its address.
    pub host: String,
    /// May anybody call it?
    pub open: bool,
    /// Its subnets; empty outside a VPC.
    pub subnets: Vec<String>,
}

impl Aws {
    /// A bucket's policy; `None` if it has none.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicy.html>
    ///
    /// # Errors
    /// No such bucket; not allowed.
    pub async fn bucket_policy(&self, bucket: &str) -> Result<Option<Value>, AwsError> {
        const OPERATION: &str = "s3:GetBucketPolicy";
        let text = match self.0.s3.get_bucket_policy().bucket(bucket).send().await.map_err(AwsError::of(OPERATION, bucket)) {
            Err(error) if error.code() == Some("NoSuchBucketPolicy") => return Ok(None),
            answer => answer?.policy,
        };
        let Some(text) = text else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| AwsError::unexpected(OPERATION, bucket, error.to_string()))
    }

    /// For how many days a log group keeps its lines (`Some(None)`: for ever); `None` when there is no such group.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DescribeLogGroups.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn log_retention(&self, group: &str) -> Result<Option<Option<i32>>, AwsError> {
        let answer = self.0.logs.describe_log_groups().log_group_name_prefix(group).send().await;
        let answer = answer.map_err(AwsError::of("logs:DescribeLogGroups", group))?;
        let found = answer.log_groups.unwrap_or_default().into_iter().find(|found| found.log_group_name.as_deref() == Some(group));
        Ok(found.map(|found| found.retention_in_days))
    }

    /// A function's surroundings; `None` when there is no such function.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn surroundings(&self, function: &str) -> Result<Option<Surroundings>, AwsError> {
        let answer = self.0.lambda.get_function_configuration().function_name(function).send().await;
        let answer = match answer.map_err(AwsError::of("lambda:GetFunctionConfiguration", function)) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let variables = answer.environment.and_then(|environment| environment.variables).unwrap_or_default();
        let network = answer.vpc_config;
        Ok(Some(Surroundings {
            security_groups: network.as_ref().and_then(|vpc| vpc.security_group_ids.clone()).unwrap_or_default(),
            subnets: network.and_then(|vpc| vpc.subnet_ids).unwrap_or_default(),
            role: answer.role.filter(|role| !role.is_empty()),
            variables: variables.into_iter().collect(),
        }))
    }

    /// The schedules that are on, of rules whose names begin with `prefix`: `rate(5 minutes)`.
    ///
    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_ListRules.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn schedules(&self, prefix: &str) -> Result<Vec<(String, String)>, AwsError> {
        let pages = self.pages("events:ListRules", prefix, json!({"NamePrefix": prefix})).await?;
        let all = pages.iter().flat_map(|page| list(page, "Rules"));
        let on = all.filter(|rule| text(rule, "State").as_deref() != Some("DISABLED"));
        Ok(on.filter_map(|rule| Some((text(rule, "Name")?, text(rule, "ScheduleExpression")?))).collect())
    }

    /// The caches of the account's region.
    ///
    /// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_DescribeReplicationGroups.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn caches(&self) -> Result<Vec<Cache>, AwsError> {
        let list = |page: &Node| page.list("ReplicationGroups").to_vec();
        let found = self.query_all(Service::ElastiCache, "elasticache:DescribeReplicationGroups", "", &[], "Marker", list).await?;
        let cache = |node: &Node| Cache {
            id: node.text("ReplicationGroupId").unwrap_or_default(),
            hosts: node.descendants("Address").into_iter().map(|address| address.text.clone()).collect(),
            at_rest: node.is_true("AtRestEncryptionEnabled"),
            in_transit: node.is_true("TransitEncryptionEnabled"),
        };
        Ok(found.iter().map(cache).collect())
    }

    /// A pipeline by its name; `None` when there is none.
    ///
    /// <https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_GetPipeline.html>
    ///
    /// # Errors
    /// Not allowed; the endpoint does not know the service.
    pub async fn pipeline(&self, name: &str) -> Result<Option<Pipeline>, AwsError> {
        let answer = match self.json(Service::CodePipeline, "codepipeline:GetPipeline", name, &json!({"name": name})).await {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let Some(pipeline) = answer.get("pipeline") else { return Ok(None) };
        let actions = || list(pipeline, "stages").iter().flat_map(|stage| list(stage, "actions"));
        let of = |action: &Value, key: &str| action.pointer(&format!("/actionTypeId/{key}")).and_then(Value::as_str).map(str::to_owned);
        Ok(Some(Pipeline {
            kind: text(pipeline, "pipelineType").unwrap_or_else(|| "V1".to_owned()),
            mode: text(pipeline, "executionMode").unwrap_or_else(|| "SUPERSEDED".to_owned()),
            sources: actions()
                .filter(|action| of(action, "category").as_deref() == Some("Source"))
                .filter_map(|action| of(action, "provider"))
                .collect(),
            providers: actions().filter_map(|action| of(action, "provider")).collect(),
            triggers: list(pipeline, "triggers").len(),
            role: text(pipeline, "roleArn"),
            projects: actions()
                .filter(|action| of(action, "provider").as_deref() == Some("CodeBuild"))
                .filter_map(|action| action.pointer("/configuration/ProjectName").and_then(Value::as_str).map(str::to_owned))
                .collect(),
        }))
    }

    /// What the builds of `CodeBuild` projects act as: each project's name, and its role. At most 100 projects.
    ///
    /// <https://docs.aws.amazon.com/codebuild/latest/APIReference/API_BatchGetProjects.html>
    ///
    /// # Errors
    /// Not allowed; the endpoint does not know the service.
    pub async fn project_roles(&self, projects: &[String]) -> Result<Vec<(String, String)>, AwsError> {
        let answer = self.json(Service::CodeBuild, "codebuild:BatchGetProjects", projects.join(", "), &json!({"names": projects})).await?;
        Ok(list(&answer, "projects").iter().filter_map(|project| Some((text(project, "name")?, text(project, "serviceRole")?))).collect())
    }

    /// The functions whose names begin with `prefix` and that answer at one of these hosts.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html>,
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctionUrlConfigs.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn addressed(&self, prefix: &str, hosts: &[&str]) -> Result<Vec<Addressed>, AwsError> {
        let lambda = &self.0.lambda;
        let mut functions = Vec::new();
        let mut marker = None;
        loop {
            let page = lambda.list_functions().set_marker(marker).send().await.map_err(AwsError::of("lambda:ListFunctions", prefix))?;
            let ours = page.functions.unwrap_or_default().into_iter();
            functions.extend(ours.filter(|function| function.function_name.as_deref().is_some_and(|name| name.starts_with(prefix))));
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                break;
            }
        }
        let mut found = Vec::new();
        for function in functions {
            let name = function.function_name.unwrap_or_default();
            let answer = lambda.list_function_url_configs().function_name(&name).send().await;
            let subnets = function.vpc_config.and_then(|vpc| vpc.subnet_ids).unwrap_or_default();
            for config in answer.map_err(AwsError::of("lambda:ListFunctionUrlConfigs", &name))?.function_url_configs {
                let host = config.function_url.trim_start_matches("https://").trim_end_matches('/').to_owned();
                if hosts.iter().any(|one| one.eq_ignore_ascii_case(&host)) {
                    let open = config.auth_type.as_str() == "NONE";
                    found.push(Addressed { function: name.clone(), host, open, subnets: subnets.clone() });
                }
            }
        }
        Ok(found)
    }
}
