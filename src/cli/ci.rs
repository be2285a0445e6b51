//! Where this runs: which system runs it, and where in it people can look.
//!
//! <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html>,
//! <https://www.jenkins.io/doc/book/pipeline/jenkinsfile/#using-environment-variables>,
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>,
//! <https://docs.gitlab.com/ci/variables/predefined_variables/>

use std::collections::BTreeMap;

use crate::model::CiSystem;
use crate::release::Origin;

type Variables = BTreeMap<String, String>;

fn known(variables: &Variables, name: &str) -> Option<String> {
    variables.get(name).filter(|value| !value.is_empty()).cloned()
}

/// The system that runs this process, if one does.
pub(super) fn system(variables: &Variables) -> Option<CiSystem> {
    let is = |name: &str| known(variables, name).is_some();
    // `windlass build` sets these on a laptop too, and inside other systems.
    let codebuild = is("CODEBUILD_BUILD_ARN") && !is("CODEBUILD_LOCAL_BUILD");
    if is("GITHUB_ACTIONS") {
        // CodeBuild's own runners for GitHub Actions have both.
        Some(CiSystem::GithubActions)
    } else if is("GITLAB_CI") {
        Some(CiSystem::Gitlab)
    } else if codebuild && known(variables, "CODEBUILD_INITIATOR").is_some_and(|initiator| initiator.starts_with("codepipeline/")) {
        Some(CiSystem::CodePipeline)
    } else if codebuild {
        Some(CiSystem::CodeBuild)
    } else if is("JENKINS_URL") || is("BUILD_URL") && is("JOB_NAME") {
        Some(CiSystem::Jenkins)
    } else {
        None
    }
}

/// Where this runs, for the record and for whoever finds the lock: the system's own page of the build, else whose machine it is.
pub(super) fn origin(variables: &Variables) -> Origin {
    let known = |name: &str| known(variables, name);
    let system = system(variables);
    let links = system.map_or_else(BTreeMap::new, |system| links(system, variables));
    let arn = known("CODEBUILD_BUILD_ARN").filter(|_| matches!(system, Some(CiSystem::CodeBuild | CiSystem::CodePipeline)));
    let machine = || {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        known("USER").map_or_else(|| host.clone(), |user| format!("{user}@{host}"))
    };
    let at = links.get("build").cloned().or(arn).or_else(|| known("BUILD_URL")).unwrap_or_else(machine);
    // A pipeline gives its execution's id to a build only as a variable of a name that somebody chose; these are the usual ones.
    let execution = execution(variables);
    let pipeline = known("CODEBUILD_INITIATOR").filter(|initiator| initiator.starts_with("codepipeline/"));
    let pipeline = match (pipeline, execution) {
        (Some(pipeline), Some(execution)) => Some(format!("{pipeline} {execution}")),
        (pipeline, execution) => pipeline.or(execution),
    };
    Origin { at, pipeline, system, links }
}

fn execution(variables: &Variables) -> Option<String> {
    ["CODEPIPELINE_EXECUTION_ID", "PIPELINE_EXECUTION_ID"].into_iter().find_map(|name| known(variables, name))
}

fn links(system: CiSystem, variables: &Variables) -> BTreeMap<String, String> {
    let known = |name: &str| known(variables, name);
    let mut links = BTreeMap::new();
    let mut link = |name: &str, url: Option<String>| {
        // Whatever else stands in a variable of that name must not become a link.
        if let Some(url) = url.filter(|url| url.starts_with("https://") || url.starts_with("http://")) {
            links.insert(name.to_owned(), url);
        }
    };
    match system {
        CiSystem::CodeBuild | CiSystem::CodePipeline => {
            link("build", known("CODEBUILD_BUILD_URL").or_else(|| console(&known("CODEBUILD_BUILD_ARN")?)));
            link("public", known("CODEBUILD_PUBLIC_BUILD_URL"));
            let pipeline = || {
                let name = known("CODEBUILD_INITIATOR")?.strip_prefix("codepipeline/")?.to_owned();
                let region = known("AWS_REGION").or_else(|| known("AWS_DEFAULT_REGION"))?;
                let of = format!("https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{name}");
                let rest = execution(variables).map_or("view".to_owned(), |execution| format!("executions/{execution}/timeline"));
                Some(format!("{of}/{rest}?region={region}"))
            };
            link("pipeline", pipeline());
        }
        CiSystem::Jenkins => {
            link("build", known("BUILD_URL"));
            link("log", known("BUILD_URL").map(|url| format!("{}/console", url.trim_end_matches('/'))));
            link("change", known("CHANGE_URL"));
        }
        CiSystem::GithubActions => {
            let repository = || Some(format!("{}/{}", known("GITHUB_SERVER_URL")?, known("GITHUB_REPOSITORY")?));
            link("build", repository().and_then(|url| Some(format!("{url}/actions/runs/{}", known("GITHUB_RUN_ID")?))));
            link("commit", repository().and_then(|url| Some(format!("{url}/commit/{}", known("GITHUB_SHA")?))));
            let number = known("GITHUB_REF").and_then(|name| Some(name.strip_prefix("refs/pull/")?.split_once('/')?.0.to_owned()));
            link("change", repository().and_then(|url| Some(format!("{url}/pull/{}", number?))));
        }
        CiSystem::Gitlab => {
            link("build", known("CI_JOB_URL"));
            link("pipeline", known("CI_PIPELINE_URL"));
            link("commit", known("CI_PROJECT_URL").and_then(|url| Some(format!("{url}/-/commit/{}", known("CI_COMMIT_SHA")?))));
            let request = || Some(format!("{}/-/merge_requests/{}", known("CI_PROJECT_URL")?, known("CI_MERGE_REQUEST_IID")?));
            link("change", request());
        }
    }
    links
}

/// A build's page of the AWS console, by its ARN: `arn:aws:codebuild:REGION:ACCOUNT:build/PROJECT:UUID`.
fn console(arn: &str) -> Option<String> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, "codebuild", region, account, build] = parts[..] else { return None };
    let build = build.strip_prefix("build/")?;
    let project = build.split(':').next()?;
    let id = build.replace(':', "%3A");
    Some(format!("https://{region}.console.aws.amazon.com/codesuite/codebuild/{account}/projects/{project}/build/{id}/?region={region}"))
}

/// `path` from the root of the repository, as annotations want it.
pub(super) fn repository_path(variables: &Variables, path: &str) -> String {
    let own = || {
        let root = known(variables, "GITHUB_WORKSPACE")?;
        let full = std::path::absolute(path).ok()?;
        Some(full.strip_prefix(root).ok()?.to_str()?.to_owned())
    };
    own().unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Origin {
        origin(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn shown(origin: &Origin) -> Vec<String> {
        let mut lines = vec![format!("{} at {}", origin.system.map_or("nothing".to_owned(), |system| system.to_string()), origin.at)];
        lines.extend(origin.pipeline.iter().map(|pipeline| format!("in {pipeline}")));
        lines.extend(origin.links.iter().map(|(name, url)| format!("{name} {url}")));
        lines
    }

    #[test]
    fn every_system_is_known_by_its_variables() {
        let arn = "arn:aws:codebuild:eu-west-1:111111111111:build/shop:12-ab";
        let codebuild = [("CODEBUILD_BUILD_ARN", arn), ("CODEBUILD_INITIATOR", "ada"), ("AWS_REGION", "eu-west-1")];
        let console =
            "https://eu-west-1.console.aws.amazon.com/codesuite/codebuild/111111111111/projects/shop/build/shop%3A12-ab/?region=eu-west-1";
        assert_eq!(shown(&of(&codebuild)), [format!("CodeBuild at {console}"), format!("build {console}")]);
        let pipeline = [
            codebuild[0],
            codebuild[2],
            ("CODEBUILD_INITIATOR", "codepipeline/shop"),
            ("CODEBUILD_BUILD_URL", "https://build"),
            ("PIPELINE_EXECUTION_ID", "77"),
        ];
        assert_eq!(
            shown(&of(&pipeline)),
            [
                "CodePipeline at https://build",
                "in codepipeline/shop 77",
                "build https://build",
                "pipeline https://eu-west-1.console.aws.amazon.com/codesuite/codepipeline/pipelines/shop/executions/77/timeline?region=eu-west-1",
            ]
        );
        let jenkins = [("JENKINS_URL", "https://ci"), ("BUILD_URL", "https://ci/job/shop/7/"), ("JOB_NAME", "shop")];
        assert_eq!(
            shown(&of(&jenkins)),
            ["Jenkins at https://ci/job/shop/7/", "build https://ci/job/shop/7/", "log https://ci/job/shop/7/console"]
        );
        let github = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "ada/shop"),
            ("GITHUB_RUN_ID", "9"),
            ("GITHUB_SHA", "abc"),
            ("GITHUB_REF", "refs/pull/5/merge"),
        ];
        assert_eq!(
            shown(&of(&github)),
            [
                "GitHub Actions at https://github.com/ada/shop/actions/runs/9",
                "build https://github.com/ada/shop/actions/runs/9",
                "change https://github.com/ada/shop/pull/5",
                "commit https://github.com/ada/shop/commit/abc",
            ]
        );
        let gitlab = [
            ("GITLAB_CI", "true"),
            ("CI_JOB_URL", "https://gitlab/shop/-/jobs/1"),
            ("CI_PIPELINE_URL", "https://gitlab/shop/-/pipelines/2"),
            ("CI_PROJECT_URL", "https://gitlab/shop"),
            ("CI_COMMIT_SHA", "abc"),
        ];
        assert_eq!(
            shown(&of(&gitlab)),
            [
                "GitLab CI at https://gitlab/shop/-/jobs/1",
                "build https://gitlab/shop/-/jobs/1",
                "commit https://gitlab/shop/-/commit/abc",
                "pipeline https://gitlab/shop/-/pipelines/2",
            ]
        );
    }

    #[test]
    fn a_build_that_windlass_runs_itself_is_where_windlass_is() {
        let local = [
            ("CODEBUILD_BUILD_ARN", "arn:aws:codebuild:us-east-1:000000000000:build/shop:1"),
            ("CODEBUILD_BUILD_URL", "http://localhost/"),
            ("CODEBUILD_LOCAL_BUILD", "true"),
            ("USER", "ada"),
        ];
        let origin = of(&local);
        assert!(origin.system.is_none() && origin.at.starts_with("ada@"), "{origin:?}");
        let in_jenkins = [&local[..], &[("JENKINS_URL", "https://ci"), ("BUILD_URL", "https://ci/job/7/")]].concat();
        assert_eq!(of(&in_jenkins).at, "https://ci/job/7/");
    }

    #[test]
    fn what_is_no_address_becomes_no_link() {
        let origin = of(&[("JENKINS_URL", "x"), ("BUILD_URL", "javascript:alert(1)")]);
        assert_eq!(origin.links, BTreeMap::new());
    }
}
