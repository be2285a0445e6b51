//! Which commit the working tree is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use crate::config::Project;
use crate::model::Commit;
use crate::process::{self, Source};

/// The commit, and whether the tree has changes that are in no commit. Without Git there is none, which is no failure.
pub(super) async fn commit(project: &Project, environment: &[(OsString, OsString)]) -> (Option<Commit>, bool) {
    let Some(head) = git(project, environment, "git rev-parse HEAD").await else { return (given(environment), false) };
    let Some(commit) = head.first().and_then(|line| line.trim().parse().ok()) else { return (given(environment), false) };
    let changes = git(project, environment, "git status --porcelain --untracked-files=normal").await;
    (Some(commit), changes.is_some_and(|lines| !lines.is_empty()))
}

/// What CodeBuild and Jenkins say where the checkout has no `.git`.
///
/// <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html>
fn given(environment: &[(OsString, OsString)]) -> Option<Commit> {
    let names = ["CODEBUILD_RESOLVED_SOURCE_VERSION", "GIT_COMMIT"];
    let value = |name: &str| environment.iter().find(|(key, _)| key.to_str() == Some(name)).and_then(|(_, value)| value.to_str());
    names.iter().find_map(|name| value(name)?.parse().ok())
}

async fn git(project: &Project, environment: &[(OsString, OsString)], script: &str) -> Option<Vec<String>> {
    let command = process::Command {
        script: script.to_owned(),
        directory: project.root.clone(),
        environment: environment.iter().cloned().collect::<BTreeMap<_, _>>(),
        deadline: Some(Duration::from_secs(20)),
    };
    let mut lines = Vec::new();
    let ended = process::run(&command, |source, line| {
        if matches!(source, Source::Stdout) {
            lines.push(line.to_owned());
        }
    });
    let ended = ended.await.ok()?;
    matches!(ended.status, process::Status::Exited(0)).then_some(lines)
}

/// When the commit of the working tree was made, in seconds since 1970.
pub(super) async fn made(project: &Project, environment: &[(OsString, OsString)]) -> Option<i64> {
    git(project, environment, "git show --no-patch --format=%ct HEAD").await?.first()?.trim().parse().ok()
}

/// Does `ours` lie behind `other`? `None` where the checkout does not have both.
pub(super) async fn is_behind(project: &Project, environment: &[(OsString, OsString)], ours: &Commit, other: &Commit) -> Option<bool> {
    git(project, environment, &format!("git cat-file -e {other}^{{commit}} && git cat-file -e {ours}^{{commit}}")).await?;
    Some(git(project, environment, &format!("git merge-base --is-ancestor {ours} {other}")).await.is_some())
}
