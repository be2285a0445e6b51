//! Images that someone else has built: are they there, as what, and for which platforms?

use std::time::Duration;

use crate::aws::Aws;
use crate::config::Image;
use crate::docker::{self, Engine, Logins};
use crate::model::{Exit, Failure, ImageDigest, Refusal, UnitName};
use crate::probe;

use super::manifest;

/// How long a registry may take to say for which platforms an image is whose digest is known.
const ADVICE: Duration = Duration::from_secs(1);

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prebuilt {
    /// Its digest today.
    pub digest: ImageDigest,
    /// `linux/amd64`, and others for a list; empty if nobody could say.
    pub platforms: Vec<String>,
}

/// Looks for the image that `reference` names; `None` for one that is built here.
///
/// ECR is asked where it is the registry, of this region; any other through the engine, if one answers.
///
/// # Errors
/// AWS fails in another way than by not finding it.
pub async fn look(
    aws: &Aws,
    registry: Option<&str>,
    name: &UnitName,
    reference: &Image,
) -> Result<Option<Result<Prebuilt, Refusal>>, Failure> {
    let (repository, version, pinned) = match reference {
        Image::Build(_) => return Ok(None),
        Image::Prebuilt(uri) => (&uri.repository, uri.digest.to_string(), Some(uri.digest)),
        Image::Tag(tag) => (&tag.repository, tag.tag.clone(), None),
    };
    let shown = format!("{repository}{}{version}", if pinned.is_some() { '@' } else { ':' });
    let absent = || {
        Refusal::new(
            format!("service `{name}`: there is no image `{shown}`"),
            "push it, or correct `image`; windlass builds it itself where `image` says how",
        )
    };
    let host = docker::host(repository);
    let (own, account) = (registry.is_some_and(|registry| registry.trim_end_matches('/') == host), ecr_account(host, aws.region()));
    if !own && account.is_none() {
        return Ok(Some(elsewhere(&shown, repository, pinned).await.map_err(|why| match why {
            Some(why) => Refusal::new(
                format!("service `{name}`: nobody says what `{shown}` is: {why}"),
                "start a Docker engine that can reach the registry (and `docker login`), or pin the image by its digest",
            ),
            None => absent(),
        })));
    }
    let path = repository.split_once('/').map_or(repository.as_str(), |(_, path)| path);
    let found = match aws.image_manifest(account, path, &version).await {
        Err(error) if error.is_not_found() => None,
        found => found.map_err(|error| Failure::new(Exit::Preflight, format!("looking for the image `{shown}` failed")).because(error))?,
    };
    let Some(found) = found else { return Ok(Some(Err(absent()))) };
    let platforms = match manifest::platforms(&found.json) {
        Some(platforms) => platforms,
        None => of_one(aws, account, path, &found.json).await.into_iter().collect(),
    };
    Ok(Some(Ok(Prebuilt { digest: found.digest, platforms })))
}

/// Whose ECR a host is, if it is that of an account in this region.
fn ecr_account<'a>(host: &'a str, region: &str) -> Option<&'a str> {
    let (account, rest) = host.split_once(".dkr.ecr.")?;
    let regional = rest.strip_prefix(region).is_some_and(|rest| matches!(rest, ".amazonaws.com" | ".amazonaws.com.cn"));
    (regional && account.len() == 12).then_some(account)
}

/// The platform of a single image, which only its configuration says. It is worth a warning less, not a failure more.
async fn of_one(aws: &Aws, account: Option<&str>, repository: &str, json: &str) -> Option<String> {
    let configuration = manifest::configuration(json)?;
    let url = aws.blob_url(account, repository, &configuration).await.ok()??;
    let page = probe::client(aws.endpoint_url()).ok()?.get(&url).await.ok()?;
    manifest::platform(&serde_json::from_slice(&page.body).ok()?)
}

async fn elsewhere(shown: &str, repository: &str, pinned: Option<ImageDigest>) -> Result<Prebuilt, Option<String>> {
    let asked = async {
        let engine: Engine = docker::connect().await.map_err(|error| Some(error.to_string()))?;
        let login = Logins::of_this_user().of_image(repository).await.map_err(|error| Some(error.to_string()))?;
        docker::ask_registry(&engine, shown, login).await
    };
    // What is pinned by its digest runs as it is: its platforms are worth a question, and no wait for a registry that is out of reach.
    let answer = match pinned {
        Some(_) => tokio::time::timeout(ADVICE, asked).await.unwrap_or_else(|_| Err(Some("the registry is slow to answer".to_owned()))),
        None => asked.await,
    };
    match (answer, pinned) {
        (Ok((digest, platforms)), _) => Ok(Prebuilt { digest, platforms }),
        (Err(Some(_)), Some(digest)) => Ok(Prebuilt { digest, platforms: Vec::new() }),
        (Err(why), _) => Err(why),
    }
}

/// Why an image cannot run in tasks of this architecture (`X86_64`, `ARM64`; unknown if none), if it cannot.
#[must_use]
pub fn mismatch(name: &UnitName, platforms: &[String], architecture: Option<&str>) -> Option<Refusal> {
    let architecture = architecture?;
    let fits = platforms.is_empty() || platforms.iter().any(|platform| manifest::architecture(platform) == Some(architecture));
    (!fits).then(|| {
        Refusal::new(
            format!("service `{name}`: its tasks run on {architecture}, and its image is for {}", platforms.join(", ")),
            "name an image for that architecture, or correct the runtime platform of the task definition",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecr_of_this_region_is_told_from_other_registries() {
        let of = |host| ecr_account(host, "us-east-1");
        assert_eq!(of("111111111111.dkr.ecr.us-east-1.amazonaws.com"), Some("111111111111"));
        assert_eq!(of("111111111111.dkr.ecr.us-east-2.amazonaws.com"), None);
        assert_eq!(of("111111111111.dkr.ecr.us-east-1.amazonaws.com.evil.example"), None);
        assert_eq!(of("docker.io"), None);
    }

    #[test]
    fn one_platform_of_a_list_is_enough() {
        let refuse = |platforms: &[&str], architecture| {
            let platforms: Vec<String> = platforms.iter().map(|platform| (*platform).to_owned()).collect();
            mismatch(&"api".parse().unwrap(), &platforms, architecture).map(|refusal| refusal.what)
        };
        assert_eq!(refuse(&["linux/amd64", "linux/arm64"], Some("ARM64")), None);
        assert_eq!(refuse(&[], Some("ARM64")), None);
        assert_eq!(refuse(&["linux/amd64"], None), None);
        assert!(refuse(&["linux/amd64"], Some("ARM64")).unwrap().contains("run on ARM64, and its image is for linux/amd64"));
    }
}
