//! What the policies of the stages `services` and `migrations` allow on ECS, and on what runs beside it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::config::{Config, ScheduledTasks, Service, Strategy};

use super::policy::{Place, Statement, allow};

/// A cluster's name, whether it is given by that or by its ARN.
fn cluster(service: &Service) -> &str {
    service.cluster.rsplit('/').next().unwrap_or(&service.cluster)
}

/// The ARNs of what a service has: its cluster, itself, or what bears the cluster's name.
pub(super) struct Arns<'a> {
    place: &'a Place,
    of: Vec<&'a Service>,
}

impl<'a> Arns<'a> {
    pub(super) fn of(place: &'a Place, of: impl IntoIterator<Item = &'a Service>) -> Self {
        Self { place, of: of.into_iter().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn clusters(&self) -> BTreeSet<String> {
        self.of.iter().map(|service| self.place.arn("ecs", &format!("cluster/{}", cluster(service)))).collect()
    }

    pub(super) fn services(&self) -> BTreeSet<String> {
        self.of.iter().map(|service| self.place.arn("ecs", &format!("service/{}/{}", cluster(service), service.service))).collect()
    }

    /// `task/CLUSTER/*`, `container-instance/CLUSTER/*`.
    pub(super) fn within(&self, kind: &str) -> BTreeSet<String> {
        self.of.iter().map(|service| self.place.arn("ecs", &format!("{kind}/{}/*", cluster(service)))).collect()
    }

    fn deployments(&self) -> BTreeSet<String> {
        let arn = |service: &&Service| format!("service-deployment/{}/{}/*", cluster(service), service.service);
        self.of.iter().map(|service| self.place.arn("ecs", &arn(service))).collect()
    }

    /// `ListTasks` is allowed by the container instance, which Fargate does not have: the cluster bounds it.
    pub(super) fn list_tasks(&self, sid: &'static str) -> Statement {
        allow(sid, &["ecs:ListTasks"], ["*".to_owned()]).only_if("ArnEquals", &[("ecs:cluster", json!(self.clusters()))])
    }
}

/// The services that a migration stops.
pub(super) fn stopped(config: &Config) -> impl Iterator<Item = &Service> {
    let stops = config.migrations.values().filter(|migration| migration.strategy == Strategy::Stop);
    stops.flat_map(|migration| std::iter::once(&migration.from).chain(&migration.services)).filter_map(|name| config.services.get(name))
}

pub(super) fn services(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    let arns = Arns::of(place, config.services.values());
    if arns.is_empty() {
        return;
    }
    to.push(allow("Clusters", &["ecs:DescribeClusters", "ecs:ListContainerInstances"], arns.clusters()));
    let action = ["ecs:DescribeServices", "ecs:UpdateService", "ecs:ListServiceDeployments"];
    to.push(allow("Services", &action, arns.services()));
    // Both the service and its deployment have to be allowed.
    let deployments = arns.deployments().into_iter().chain(arns.services());
    to.push(allow("Deployments", &["ecs:DescribeServiceDeployments", "ecs:StopServiceDeployment"], deployments));
    to.push(allow("Tasks", &["ecs:DescribeTasks"], arns.within("task")));
    to.push(allow("Hosts", &["ecs:DescribeContainerInstances"], arns.within("container-instance")));
    to.push(arns.list_tasks("ListTasks"));
    revisions(place, to);
    if config.policy.keep_revisions.is_some() {
        // These know no resources.
        to.push(allow("OldRevisions", &["ecs:ListTaskDefinitions", "ecs:DeregisterTaskDefinition"], ["*".to_owned()]));
    }
    // Its services run again with this stage.
    if stopped(config).next().is_some() {
        to.push(scaling("ResumeScaling", place));
    }
    // These know no resources.
    let balancer = [
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    to.push(allow("LoadBalancers", &balancer, ["*".to_owned()]));
    // Which group a container writes to, its task definition says.
    to.push(allow("Logs", &["logs:GetLogEvents"], [place.arn("logs", "log-group:*:log-stream:*")]));
    if config.services.values().any(|service| service.scheduled_tasks == ScheduledTasks::Follow) {
        schedules(place, to);
    }
}

fn schedules(place: &Place, to: &mut Vec<Statement>) {
    // Which rules and schedules start a service's tasks is asked of EventBridge; these lists know no resources.
    to.push(allow("ListScheduledTasks", &["events:ListRuleNamesByTarget", "scheduler:ListSchedules"], ["*".to_owned()]));
    to.push(allow("Rules", &["events:ListTargetsByRule", "events:PutTargets"], [place.arn("events", "rule/*")]));
    to.push(allow("Schedules", &["scheduler:GetSchedule", "scheduler:UpdateSchedule"], [place.arn("scheduler", "schedule/*/*")]));
    let services = json!(["events.amazonaws.com", "scheduler.amazonaws.com"]);
    to.push(roles("PassScheduledRoles", place).only_if("StringEquals", &[("iam:PassedToService", services)]));
}

/// Revisions of task definitions are cloned from what a service runs: their family and roles are not in the configuration.
pub(super) fn revisions(place: &Place, to: &mut Vec<Statement>) {
    if to.iter().any(|statement| statement.sid == "RegisterRevisions") {
        return;
    }
    let revision = || [place.arn("ecs", "task-definition/*:*")];
    to.push(allow("RegisterRevisions", &["ecs:RegisterTaskDefinition"], revision()));
    // Tags are cloned along.
    let tag = allow("TagRevisions", &["ecs:TagResource"], revision());
    to.push(tag.only_if("StringEquals", &[("ecs:CreateAction", json!("RegisterTaskDefinition"))]));
    // It knows no resources.
    to.push(allow("Revisions", &["ecs:DescribeTaskDefinition"], ["*".to_owned()]));
    to.push(roles("TaskRoles", place).only_if("StringEquals", &[("iam:PassedToService", json!("ecs-tasks.amazonaws.com"))]));
}

fn roles(sid: &'static str, place: &Place) -> Statement {
    allow(sid, &["iam:PassRole"], [place.everywhere("iam", "role/*")])
}

/// Scalable targets have ids of their own, which nobody knows beforehand; those of services can be told from others.
pub(super) fn scaling(sid: &'static str, place: &Place) -> Statement {
    let target = [place.arn("application-autoscaling", "scalable-target/*")];
    let keys = [
        ("application-autoscaling:service-namespace", json!("ecs")),
        ("application-autoscaling:scalable-dimension", json!("ecs:service:DesiredCount")),
    ];
    allow(sid, &["application-autoscaling:RegisterScalableTarget"], target).only_if("StringEquals", &keys)
}
