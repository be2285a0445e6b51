//! What the policy of the stage `migrations` allows: functions, tasks, snapshots, and services that stop meanwhile.

use serde_json::json;

use crate::config::{Config, Driver, Migration};

use super::policy::{Place, Statement, allow};
use super::policy_ecs::{Arns, revisions, scaling, stopped};

pub(super) fn statements(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    functions(config, place, to);
    snapshots(config, place, to);
    stops(config, place, to);
    tasks(config, place, to);
}

fn functions(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    let on_lambda = |migration: &&Migration| matches!(migration.driver, Driver::LambdaImage | Driver::LambdaZip);
    let names = config.migrations.values().filter(on_lambda).filter_map(|migration| migration.function.as_ref());
    let arns: Vec<String> = names
        .flat_map(|name| [place.arn("lambda", &format!("function:{name}")), place.arn("lambda", &format!("function:{name}:*"))])
        .collect();
    if !arns.is_empty() {
        // A function's log group may be another than that of its name: its own configuration says which.
        logs("FunctionLogs", place, to);
    }
    let action = ["lambda:GetFunction", "lambda:UpdateFunctionCode", "lambda:PublishVersion", "lambda:InvokeFunction"];
    to.push(allow("MigrationFunctions", &action, arns));
}

fn logs(sid: &'static str, place: &Place, to: &mut Vec<Statement>) {
    // A group, and the streams in it.
    to.push(allow(
        sid,
        &["logs:GetLogEvents", "logs:FilterLogEvents"],
        ["log-group:*", "log-group:*:log-stream:*"].map(|name| place.arn("logs", name)),
    ));
}

fn snapshots(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    let databases: Vec<String> = config
        .migrations
        .values()
        .filter_map(|migration| migration.snapshot.as_ref())
        .map(|id| place.arn("rds", &format!("db:{id}")))
        .collect();
    if databases.is_empty() {
        return;
    }
    let rds = |name: &str| place.arn("rds", name);
    to.push(allow("LookAtDatabases", &["rds:DescribeDBInstances"], databases.clone()));
    let of_instances = databases.into_iter().chain([rds("snapshot:windlass-*")]);
    to.push(allow("Snapshots", &["rds:CreateDBSnapshot", "rds:DescribeDBSnapshots"], of_instances));
    // A cluster's identifier is not in the configuration, but its instance's.
    let of_clusters = [rds("cluster:*"), rds("cluster-snapshot:windlass-*")];
    to.push(allow("ClusterSnapshots", &["rds:CreateDBClusterSnapshot", "rds:DescribeDBClusterSnapshots"], of_clusters));
    // Where a database has its tags copied to its snapshots.
    let snapshots = [rds("snapshot:windlass-*"), rds("cluster-snapshot:windlass-*")];
    to.push(allow("TagSnapshots", &["rds:AddTagsToResource"], snapshots));
}

fn stops(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    let arns = Arns::of(place, stopped(config));
    if arns.is_empty() {
        return;
    }
    to.push(allow("StopServices", &["ecs:DescribeServices", "ecs:UpdateService"], arns.services()));
    to.push(allow("StoppedTasks", &["ecs:DescribeTasks"], arns.within("task")));
    to.push(arns.list_tasks("ListStoppedTasks"));
    // These know no resources.
    let look = ["application-autoscaling:DescribeScalableTargets", "application-autoscaling:DescribeScalingPolicies"];
    to.push(allow("LookAtScaling", &look, ["*".to_owned()]));
    to.push(scaling("SuspendScaling", place));
}

fn tasks(config: &Config, place: &Place, to: &mut Vec<Statement>) {
    let on_ecs = config.migrations.values().filter(|migration| migration.driver == Driver::Task);
    let arns = Arns::of(place, on_ecs.filter_map(|migration| config.services.get(&migration.from)));
    if arns.is_empty() {
        return;
    }
    // A task runs in the network of its service, and like it.
    to.push(allow("MigrationServices", &["ecs:DescribeServices"], arns.services()));
    to.push(allow("MigrationTasks", &["ecs:DescribeTasks", "ecs:StopTask"], arns.within("task")));
    to.push(arns.list_tasks("ListMigrationTasks"));
    // The family of a task definition is not in the configuration: the cluster bounds it.
    let run = allow("RunMigrationTasks", &["ecs:RunTask"], [place.arn("ecs", "task-definition/*:*")]);
    to.push(run.only_if("ArnEquals", &[("ecs:cluster", json!(arns.clusters()))]));
    logs("MigrationLogs", place, to);
    revisions(place, to);
}
