//! Which commit the working tree is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use crate::config::Project;
use crate::event::Events;
use crate::model::Commit;
use crate::process::{self, Source};

/// The commit, and whether the tree has changes that are in no commit. Without Git there is none, which is no failure.
pub(super) async fn commit(project: &Project, environment: &[(OsString, OsString)]) -> (Option<Commit>, bool) {
    let Some(head) = git(project, environment, "git rev-parse HEAD").await else { return (given(environment), false) };
    let Some(commit) = head.first().and_then(|line| line.trim().parse().ok()) else { return (given(environment), false) };
    let changes = git(project, environment, "git status --porcelain --untracked-files=normal").await;
    (Some(commit), changes.is_some_and(|lines| !lines.is_empty()))
}

/// The same, and says so where Git refuses to read the checkout as it belongs to another user. So it is in many a container.
pub(super) async fn told(project: &Project, environment: &[(OsString, OsString)], events: &Events) -> (Option<Commit>, bool) {
    let found = commit(project, environment).await;
    if found.0.is_none() {
        let said = git(project, environment, "git rev-parse --git-dir 2>&1 || true").await.unwrap_or_default();
        if said.iter().any(|line| line.contains("dubious ownership")) {
            let cure = "`git config --global --add safe.directory DIRECTORY` allows it";
            events.note(format!("Git reads no checkout of another user: no commit is known, and none is recorded; {cure}"));
        }
    }
    found
}

/// The labels that say where an image comes from: the commit, when it was made, and its repository, without any login in its address.
///
/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>
pub(super) async fn labels(
    project: &Project,
    environment: &[(OsString, OsString)],
    (commit, dirty): &(Option<Commit>, bool),
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: String| labels.insert(format!("org.opencontainers.image.{name}"), value);
    let Some(commit) = commit else { return labels };
    label("revision", format!("{commit}{}", if *dirty { "-dirty" } else { "" }));
    let first = async |script| git(project, environment, script).await?.into_iter().next().filter(|line| !line.is_empty());
    if let Some(time) = first("git log -1 --format=%cI").await {
        label("created", time);
    }
    if let Some(url) = first("git config --get remote.origin.url").await {
        label("source", without_login(&url));
    }
    labels
}

fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or(rest);
            let bare = host.rsplit_once('@').map_or(host, |(_, bare)| bare);
            format!("{scheme}://{bare}{}", &rest[host.len()..])
        }
        None => url.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_keeps_its_path_and_loses_its_login() {
        for (url, shown) in [
            ("https://ada:token@git.example/shop.git", "https://git.example/shop.git"),
            ("https://git.example/a@b", "https://git.example/a@b"),
            ("git@git.example:shop.git", "git@git.example:shop.git"),
        ] {
            assert_eq!(super::without_login(url), shown);
        }
    }
}
