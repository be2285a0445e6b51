//! ECS task definitions: read one, and register the next revision with other images and nothing else changed.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_ecs::types::{ContainerDefinition, Tag, TaskDefinitionField};

use super::{Aws, AwsError};

const REGISTER: &str = "ecs:RegisterTaskDefinition";

/// A task definition. It keeps the whole of AWS's answer, so that the next revision loses nothing.
#[derive(Clone)]
pub struct TaskDefinition {
    /// Its ARN, with the revision.
    pub arn: String,
    /// The family that its revisions belong to.
    pub family: String,
    /// Which revision this is.
    pub revision: i32,
    /// `ACTIVE` or `INACTIVE`.
    pub status: String,
    /// Its containers.
    pub containers: Vec<Container>,
    /// `X86_64` or `ARM64`; `None` when it is not said, which is `X86_64` on Fargate.
    pub cpu_architecture: Option<String>,
    /// The role of the application in it.
    pub task_role: Option<String>,
    /// The role that pulls the image and reads the secrets.
    pub execution_role: Option<String>,
    raw: aws_sdk_ecs::types::TaskDefinition,
    tags: Vec<Tag>,
}

/// One container of a task definition.
#[derive(Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image, as it was given.
    pub image: String,
    /// Does the task end with it?
    pub essential: bool,
    /// Plain variables.
    pub environment: BTreeMap<String, String>,
    /// The names of the variables that ECS fills from secrets.
    pub secrets: Vec<String>,
    /// `awslogs`, `awsfirelens` …
    pub log_driver: Option<String>,
    /// The log driver's options: `awslogs-group`, `awslogs-stream-prefix` …
    pub log_options: BTreeMap<String, String>,
}

impl fmt::Debug for Container {
    /// Names variables and leaves out their values: people put secrets there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.keys().collect();
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("environment", &names)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TaskDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskDefinition").field("arn", &self.arn).field("containers", &self.containers).finish_non_exhaustive()
    }
}

impl Aws {
    /// A task definition by ARN, `family:revision`, or `family` for its newest active revision.
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTaskDefinition.html>
    ///
    /// # Errors
    /// There is none ([`AwsError::is_not_found`]); not allowed.
    pub async fn task_definition(&self, arn: &str) -> Result<TaskDefinition, AwsError> {
        const OPERATION: &str = "ecs:DescribeTaskDefinition";
        let request = self.0.ecs.describe_task_definition().task_definition(arn).include(TaskDefinitionField::Tags);
        let answer = request.send().await.map_err(AwsError::of(OPERATION, arn))?;
        let raw = answer.task_definition.ok_or_else(|| AwsError::missing(OPERATION, arn, "the answer holds no task definition"))?;
        Ok(TaskDefinition {
            arn: raw.task_definition_arn.clone().unwrap_or_default(),
            family: raw.family.clone().unwrap_or_default(),
            revision: raw.revision,
            status: raw.status.as_ref().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            containers: raw.container_definitions.iter().flatten().map(container).collect(),
            cpu_architecture: raw
                .runtime_platform
                .as_ref()
                .and_then(|platform| platform.cpu_architecture.as_ref())
                .map(|architecture| architecture.as_str().to_owned()),
            task_role: raw.task_role_arn.clone(),
            execution_role: raw.execution_role_arn.clone(),
            tags: answer.tags.unwrap_or_default(),
            raw,
        })
    }

    /// Registers a revision of the same family that differs in the images of the named containers only, and gives its ARN.
    ///
    /// Every field that `RegisterTaskDefinition` takes is carried over, as far as this build's SDK knows it. Tags whose key begins with
    /// `aws:` stay behind, as AWS refuses them from anybody else
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html>).
    ///
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>
    ///
    /// # Errors
    /// A named container is not in the definition; not allowed (`iam:PassRole` for the task's roles, and `ecs:TagResource` where there
    /// are tags, included).
    pub async fn register_revision(&self, base: &TaskDefinition, images: &BTreeMap<String, String>) -> Result<String, AwsError> {
        if let Some(name) = images.keys().find(|&name| !base.containers.iter().any(|container| container.name == *name)) {
            return Err(AwsError::unexpected(REGISTER, &base.family, format!("{} has no container `{name}`", base.arn)));
        }
        let raw = base.raw.clone();
        #[expect(deprecated, reason = "AWS has closed the feature to newcomers; what a revision has, its successor keeps")]
        let request = self.0.ecs.register_task_definition().set_inference_accelerators(raw.inference_accelerators);
        let request = request
            .set_family(raw.family)
            .set_task_role_arn(raw.task_role_arn)
            .set_execution_role_arn(raw.execution_role_arn)
            .set_network_mode(raw.network_mode)
            .set_container_definitions(raw.container_definitions.map(|containers| with_images(containers, images)))
            .set_volumes(raw.volumes)
            .set_placement_constraints(raw.placement_constraints)
            .set_requires_compatibilities(raw.requires_compatibilities)
            .set_cpu(raw.cpu)
            .set_memory(raw.memory)
            .set_tags(own_tags(&base.tags))
            .set_pid_mode(raw.pid_mode)
            .set_ipc_mode(raw.ipc_mode)
            .set_proxy_configuration(raw.proxy_configuration)
            .set_ephemeral_storage(raw.ephemeral_storage)
            .set_runtime_platform(raw.runtime_platform)
            .set_enable_fault_injection(raw.enable_fault_injection);
        let answer = request.send().await.map_err(AwsError::of(REGISTER, &base.family))?;
        let arn = answer.task_definition.and_then(|definition| definition.task_definition_arn);
        arn.ok_or_else(|| AwsError::unexpected(REGISTER, &base.family, "the answer names no task definition"))
    }
}

fn container(container: &ContainerDefinition) -> Container {
    let log = container.log_configuration.as_ref();
    let environment = container.environment.iter().flatten();
    Container {
        name: container.name.clone().unwrap_or_default(),
        image: container.image.clone().unwrap_or_default(),
        // AWS: "If this parameter is omitted, a container is assumed to be essential."
        essential: container.essential.unwrap_or(true),
        environment: environment.filter_map(|pair| Some((pair.name.clone()?, pair.value.clone()?))).collect(),
        secrets: container.secrets.iter().flatten().map(|secret| secret.name.clone()).collect(),
        log_driver: log.map(|log| log.log_driver.as_str().to_owned()),
        log_options: log.and_then(|log| log.options.clone()).unwrap_or_default().into_iter().collect(),
    }
}

fn with_images(mut containers: Vec<ContainerDefinition>, images: &BTreeMap<String, String>) -> Vec<ContainerDefinition> {
    for container in &mut containers {
        if let Some(image) = container.name.as_ref().and_then(|name| images.get(name)) {
            container.image = Some(image.clone());
        }
    }
    containers
}

/// AWS refuses an empty list of tags as well as tags of its own.
fn own_tags(tags: &[Tag]) -> Option<Vec<Tag>> {
    let own: Vec<_> = tags.iter().filter(|tag| !tag.key.as_deref().unwrap_or_default().starts_with("aws:")).cloned().collect();
    (!own.is_empty()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_images_change() {
        let made = |name: &str, image: &str| ContainerDefinition::builder().name(name).image(image).cpu(7).build();
        let images = BTreeMap::from([("web".to_owned(), "new".to_owned())]);
        let containers = with_images(vec![made("web", "old"), made("proxy", "nginx")], &images);
        assert_eq!(containers, [made("web", "new"), made("proxy", "nginx")]);
    }

    #[test]
    fn the_tags_of_aws_itself_stay_behind() {
        let tag = |key: &str| Tag::builder().key(key).value("x").build();
        assert_eq!(own_tags(&[tag("aws:cloudformation:stack-name"), tag("team")]), Some(vec![tag("team")]));
        assert_eq!(own_tags(&[tag("aws:cloudformation:stack-name")]), None);
    }

    #[test]
    fn the_values_of_variables_are_not_shown() {
        let pair = aws_sdk_ecs::types::KeyValuePair::builder().name("PASSWORD").value("hunter2").build();
        let shown = format!("{:?}", container(&ContainerDefinition::builder().name("web").environment(pair).build()));
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }
}
