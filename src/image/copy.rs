//! Brings an image of one environment to another's registry, as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::aws::Aws;
use crate::docker::{self, Credentials, Logins, Registry, RegistryError};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, Stage, UnitName};

use super::manifest;
use super::plan::{CopyPlan, ImagePlan};

/// Which image is to be where.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Whose it is.
    pub name: &'a UnitName,
    /// Where it is.
    pub from: &'a ImageUri,
    /// The repository that it is to be in: `HOST/REPOSITORY`.
    pub to: &'a str,
    /// The tag that it is to have there.
    pub tag: &'a str,
    /// Is it in the registry of the environment that it comes from?
    pub from_own: bool,
    /// Does it go to the registry of the environment that it is for?
    pub to_own: bool,
    /// Is the repository still to be created?
    pub create_repository: bool,
}

/// Draws what has to be done, with the platforms that the image is for; those are empty where nobody says.
///
/// # Errors
/// [`Exit::Preflight`]: a registry does not answer or refuses, or the image is gone.
pub async fn look(source: &Aws, target: &Aws, order: Order<'_>) -> Result<(ImagePlan, Vec<String>), Failure> {
    let Order { name, from, to, .. } = order;
    let digest = from.digest.to_string();
    let failed = |error: RegistryError, side: &str, needs: &str| {
        let hint = match &error {
            error if error.is_denied() => format!("nothing was changed; allow {needs}"),
            error if error.is_not_found() => format!("nothing was changed; is `{to}` the repository's name?"),
            _ => "nothing was changed; run again".to_owned(),
        };
        Failure::new(Exit::Preflight, format!("service `{name}`: asking {side} for its image failed")).because(error).hint(hint)
    };
    let there = "the registry that it goes to";
    let present = if order.create_repository {
        None
    } else {
        let registry = registry(target, to, order.to_own).await?;
        registry.find(path(to), &digest).await.map_err(|error| failed(error, there, "`ecr:BatchGetImage` on it"))?
    };
    let (holder, holds) = match present {
        Some(_) => (registry(target, to, order.to_own).await?, to),
        None => (registry(source, &from.repository, order.from_own).await?, from.repository.as_str()),
    };
    let contents = match docker::contents(&holder, path(holds), &from.digest).await {
        Err(error) if error.is_not_found() => {
            let failure = Failure::new(Exit::Preflight, format!("service `{name}`: its image is gone: `{from}`"));
            return Err(failure.hint("nothing was changed; release that commit anew, and keep images for as long as their releases"));
        }
        contents => contents.map_err(|error| {
            let needs = format!("`ecr:BatchGetImage` and `ecr:GetDownloadUrlForLayer` on `{holds}`");
            failed(error, "the registry that it comes from", &needs)
        })?,
    };
    let platforms = match (manifest::platforms(contents.manifest()), manifest::configuration(contents.manifest())) {
        (Some(platforms), _) => platforms,
        // It is worth a warning less, not a failure more.
        (None, Some(digest)) => docker::configuration(&holder, path(holds), &digest)
            .await
            .ok()
            .and_then(|config| manifest::platform(&config))
            .into_iter()
            .collect(),
        (None, None) => Vec::new(),
    };
    let copy = present.is_none().then(|| CopyPlan {
        from: from.clone(),
        from_own: order.from_own,
        to_own: order.to_own,
        layers: contents.layers(),
        bytes: contents.bytes(),
        create_repository: order.create_repository,
    });
    let (repository, uri, tag) = (path(to).to_owned(), to.to_owned(), order.tag.to_owned());
    // Its findings were judged where it was built.
    let plan = ImagePlan { repository, uri, tag, build: None, copy, present, unjudged: false, findings: None, sbom: false };
    Ok((plan, platforms))
}

/// Copies the image. `source` is the account that it comes from.
///
/// # Errors
/// [`Exit::Images`]; nothing live has changed, and a second run sends what is missing.
pub async fn execute(
    source: &Aws,
    target: &Aws,
    names: &[&UnitName],
    plan: &ImagePlan,
    copy: &CopyPlan,
    events: &Events,
) -> Result<ImageUri, Failure> {
    let shown = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let step = Step::of(Stage::Images, &shown, "copy");
    let again = "nothing live has changed; run the same command again: layers that have arrived are not sent again";
    let failed = |error: RegistryError| {
        let hint = match &error {
            error if error.is_denied() => format!("nothing live has changed; allow pushing to `{}`, and reading `{}`", plan.uri, copy.from),
            error if error.is_not_found() => format!("nothing live has changed; create the repository `{}`", plan.repository),
            _ => again.to_owned(),
        };
        Failure::new(Exit::Images, format!("service `{shown}`: copying its image to `{}` failed", plan.uri)).because(error).hint(hint)
    };
    let work = async {
        if copy.create_repository {
            target.create_repository(&plan.repository).await.map_err(|error| {
                let hint = error.hint().unwrap_or_else(|| again.to_owned());
                let what = format!("service `{shown}`: creating the repository `{}` failed", plan.repository);
                Failure::new(Exit::Images, what).because(error).hint(hint)
            })?;
        }
        let from = registry(source, &copy.from.repository, copy.from_own).await?;
        let to = registry(target, &plan.uri, copy.to_own).await?;
        let contents = docker::contents(&from, path(&copy.from.repository), &copy.from.digest).await.map_err(failed)?;
        let (done, total) = (Arc::new(AtomicU64::new(0)), contents.bytes());
        let (listener, copying) = (events.clone(), step.clone());
        let progress = move |bytes: u64| {
            let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            listener.progress(&copying, done.min(total), total, "B");
        };
        let same = docker::host(&copy.from.repository) == docker::host(&plan.uri);
        let (source, target) = ((&from, path(&copy.from.repository)), (&to, path(&plan.uri)));
        let copied = docker::copy(source, target, &contents, &plan.tag, same, progress).await.map_err(failed)?;
        let uri = ImageUri { repository: plan.uri.clone(), digest: copy.from.digest };
        let detail = format!("{} from {}, {} layers sent, {} there", uri.digest.short(), copy.from.repository, copied.sent, copied.there);
        Ok((uri, Outcome::Done, detail))
    };
    events.step(step.clone(), work).await
}

async fn registry(aws: &Aws, repository: &str, own: bool) -> Result<Registry, Failure> {
    let host = docker::host(repository);
    let failed = |error: &dyn std::fmt::Display| {
        let failure = Failure::new(Exit::Preflight, format!("logging in to the registry `{host}` failed")).because(error.to_string());
        failure.hint("nothing live has changed; allow `ecr:GetAuthorizationToken`, or `docker login` there")
    };
    let login = if own {
        let token = aws.registry_credentials().await.map_err(|error| failed(&error))?;
        Some(Credentials { username: token.username, password: token.password })
    } else {
        Logins::of_this_user().of_image(repository).await.map_err(|error| failed(&error))?
    };
    Registry::at(host, login).map_err(|error| failed(&error))
}

/// A repository without its registry.
fn path(repository: &str) -> &str {
    match docker::host(repository) {
        host if repository.starts_with(host) => repository[host.len()..].trim_start_matches('/'),
        _ => repository,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_repository_is_known_without_its_registry() {
        assert_eq!(super::path("1.dkr.ecr.us-east-1.amazonaws.com/shop/api"), "shop/api");
        assert_eq!(super::path("127.0.0.1:5000/api"), "api");
        assert_eq!(super::path("library/python"), "library/python");
    }
}
