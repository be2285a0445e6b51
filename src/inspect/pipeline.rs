//! The pipeline that starts releases, where there is one. Its name is the application's and the environment's.

use std::collections::BTreeSet;

use crate::aws::{Aws, Pipeline};
use crate::config::Config;
use crate::model::Check;

use super::role::{Part, Used};
use super::{Sheet, see};

const CHECK: &str = "pipeline";

/// Looks at it, and gives the roles that it and its builds act as.
pub(super) async fn inspect(aws: &Aws, config: &Config) -> (Vec<Check>, Vec<Used>) {
    let environment = config.environment.as_ref().map(|environment| environment.name.clone());
    let names: Vec<String> = environment.map(|name| format!("{}-{name}", config.app)).into_iter().chain([config.app.to_string()]).collect();
    let mut sheet = Sheet::of("pipeline");
    for name in &names {
        match see(aws.pipeline(name)).await {
            Ok(None) => {}
            Ok(Some(pipeline)) => {
                judge(name, &pipeline, &mut sheet);
                let used = roles(aws, name, &pipeline, &mut sheet).await;
                return (sheet.checks, used);
            }
            Err(why) => {
                sheet.unseen(CHECK, why);
                return (sheet.checks, Vec::new());
            }
        }
    }
    sheet.unseen(CHECK, format!("there is no pipeline `{}`: releases are started elsewhere, or by hand", names.join("` or `")));
    (sheet.checks, Vec::new())
}

async fn roles(aws: &Aws, name: &str, pipeline: &Pipeline, sheet: &mut Sheet) -> Vec<Used> {
    let used = |arn: &str, by: String| Used { arn: arn.to_owned(), part: Part::Pipeline, by, reads: BTreeSet::new() };
    let mut all: Vec<Used> = pipeline.role.iter().map(|arn| used(arn, format!("the pipeline `{name}`"))).collect();
    if !pipeline.projects.is_empty() {
        match see(aws.project_roles(&pipeline.projects)).await {
            Ok(found) => all.extend(found.iter().map(|(project, arn)| used(arn, format!("the builds of `{project}`")))),
            Err(why) => sheet.unseen("pipeline-builds", why),
        }
    }
    all
}

fn judge(name: &str, pipeline: &Pipeline, sheet: &mut Sheet) {
    if pipeline.mode == "QUEUED" {
        sheet.ok(CHECK, format!("`{name}` runs one release after the other"));
    } else {
        let seen = format!("the executions of `{name}` are {}: one may be dropped between its migrations and its services", pipeline.mode);
        sheet.warn(CHECK, seen, "set its execution mode to QUEUED (pipeline type V2)");
    }
    let sources = pipeline.sources.join(", ");
    if pipeline.triggers > 0 || pipeline.kind != "V2" {
        sheet.ok("pipeline-trigger", format!("pushes start `{name}` (source: {sources})"));
    } else {
        sheet.warn(
            "pipeline-trigger",
            format!("`{name}` has no trigger of its own (source: {sources})"),
            "add a Git trigger for the branch that is released",
        );
    }
    if pipeline.providers.iter().any(|provider| provider == "CloudFormation") {
        sheet.ok("pipeline-infrastructure", "it deploys infrastructure, too");
    }
    if pipeline.providers.iter().any(|provider| provider == "ECS") {
        let cure = "roll services by `windlass stage services`: CodePipeline's own action takes the revision that the service runs, and not the newest";
        sheet.warn("pipeline-infrastructure", "it rolls services by CodePipeline's own ECS action", cure);
    }
}
