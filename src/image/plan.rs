//! Which images have to be built, and what they are called.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{BuildImage, Image, ImageFindings, Policy, Service};
use crate::model::{BaseImage, BuildSecret, ImageDigest, ImageRef, ImageTag, ImageUri, Refusal, Severity, Sha256, UnitName};

/// The image of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagePlan {
    /// The repository's name in ECR.
    pub repository: String,
    /// Where it is pushed to and pulled from: `HOST/REPOSITORY`.
    pub uri: String,
    /// The tag: made of the digest of all that goes into the image, unless someone else has built it.
    pub tag: String,
    /// How it is built and pushed, if the registry does not have it.
    pub build: Option<BuildPlan>,
    /// Where it is copied from, if it is another environment's and the registry does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyPlan>,
    /// What the registry has by this tag; if nothing, it is built and pushed, or copied.
    pub present: Option<ImageDigest>,
    /// Must its scan be judged before it goes live, although the registry has it?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unjudged: bool,
    /// What comes of ECR's scan of it, if anybody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<FindingsPlan>,
    /// Is a bill of materials written?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sbom: bool,
}

/// How findings in an image are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingsPlan {
    /// Does the release end where there are any that count?
    pub refuse: bool,
    /// The least severity that counts.
    pub from: Severity,
}

/// How an image is copied from one registry to another, as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyPlan {
    /// The image, where it is.
    pub from: ImageUri,
    /// Is that in the registry of the environment that it comes from? Else this user's own logins are taken.
    pub from_own: bool,
    /// Does it go to the registry of the environment that it is for?
    pub to_own: bool,
    /// Layers, the configuration included.
    pub layers: usize,
    /// Of all of them.
    pub bytes: u64,
    /// Is the repository still to be created?
    pub create_repository: bool,
}

/// How an image is built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildPlan {
    /// The build context, from the configuration's directory.
    pub context: String,
    /// The Dockerfile, from there.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The Dockerfile's stage; the last if none.
    pub target: Option<String>,
    /// `linux/amd64`.
    pub platform: String,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What it begins and copies from, as it is today.
    pub bases: Vec<BaseImage>,
    /// The secrets that it may mount: where they are, never what.
    pub secrets: Vec<BuildSecret>,
    /// Of these, the ones that the Dockerfile calls optional.
    pub optional_secrets: Vec<String>,
    /// Build without what the builder remembers: its age alone is why it is built.
    pub no_cache: bool,
    /// An image in the registry whose layers may be taken instead of being built.
    pub cache_from: Option<ImageUri>,
    /// Is the repository still to be created?
    pub create_repository: bool,
}

impl ImagePlan {
    /// With a policy that refuses, an image that the registry has is judged too, unless it is live, or was judged in this release: it may
    /// be there because an earlier run ended at that gate.
    #[must_use]
    pub fn gated(self, live: Option<&ImageUri>, pushed: Option<&ImageUri>) -> Self {
        let own = self.present.map(|digest| ImageUri { repository: self.uri.clone(), digest });
        let known = [live, pushed].into_iter().flatten().any(|image| Some(image) == own.as_ref());
        Self { unjudged: own.is_some() && !known && self.findings.is_some_and(|findings| findings.refuse), ..self }
    }

    /// The image, as later stages refer to it.
    #[must_use]
    pub fn reference(&self, service: &UnitName) -> ImageRef {
        match self.present {
            Some(digest) => ImageRef::Known(ImageUri { repository: self.uri.clone(), digest }),
            None => ImageRef::FromStep(service.clone()),
        }
    }
}

/// The repository of an image, as preflight finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `HOST/REPOSITORY`, as ECR says, or will say.
    pub uri: String,
    /// Is it there?
    pub exists: bool,
}

/// What is known of an image before it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// It is built from the working tree, unless the registry has it.
    Built(Box<Built>),
    /// Someone else has built it.
    Tagged {
        /// The tag.
        tag: ImageTag,
        /// What it points at today.
        digest: ImageDigest,
    },
}

impl Observed {
    /// What the registry has by the image's tag.
    #[must_use]
    pub fn present(&self) -> Option<ImageDigest> {
        match self {
            Self::Built(built) => built.present,
            Self::Tagged { digest, .. } => Some(*digest),
        }
    }
}

/// What is known of an image that is built from the working tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The tag: of all that goes into the image.
    pub tag: String,
    /// `HOST/REPOSITORY`.
    pub found: Found,
    /// What the registry has by the tag.
    pub present: Option<ImageDigest>,
    /// What it begins and copies from.
    pub bases: Vec<BaseImage>,
    /// The secrets that the Dockerfile calls optional.
    pub optional_secrets: Vec<String>,
    /// Was it there, of the same content, until it became too old?
    pub aged: bool,
    /// The repository's newest image.
    pub newest: Option<ImageDigest>,
}

/// The tag of an image that is made of `content` and of base images that may change under it: within ECR's 128 characters and letters.
///
/// The bases have a part of their own, so that where nobody can be asked about them the newest image of the same content is found.
#[must_use]
pub fn tag(content: &Sha256, floating: &[BaseImage]) -> String {
    let mut tag = format!("ctx-{content}");
    tag.truncate("ctx-".len() + 24);
    if floating.is_empty() {
        return tag;
    }
    let all = floating.iter().fold(String::new(), |text, base| {
        text + &base.image + "\0" + base.platform.as_deref().unwrap_or_default() + "\0" + &base.digest + "\0"
    });
    tag.push('-');
    tag + &Sha256::of(all.as_bytes()).to_string()[..12]
}

/// Draws the plan of one image; `None` for one that is pinned, of which there is nothing to plan. `labels` say where it comes from.
#[must_use]
pub fn draw(service: &Service, observed: &Observed, labels: &BTreeMap<String, String>, policy: &Policy) -> Option<ImagePlan> {
    let findings = (policy.image_findings != ImageFindings::Ignore)
        .then_some(FindingsPlan { refuse: policy.image_findings == ImageFindings::Refuse, from: policy.findings_from });
    match (&service.image, observed) {
        (Image::Build(image), Observed::Built(built)) => {
            Some(ImagePlan { findings, sbom: image.sbom, ..built_plan(service, image, built, labels) })
        }
        (Image::Tag(_), Observed::Tagged { tag, digest }) => Some(ImagePlan {
            repository: tag.repository.split_once('/').map_or(tag.repository.as_str(), |(_, name)| name).to_owned(),
            uri: tag.repository.clone(),
            tag: tag.tag.clone(),
            build: None,
            copy: None,
            present: Some(*digest),
            unjudged: false,
            findings,
            sbom: false,
        }),
        _ => None,
    }
}

fn built_plan(service: &Service, image: &BuildImage, built: &Built, labels: &BTreeMap<String, String>) -> ImagePlan {
    let Found { uri, exists } = &built.found;
    let how = BuildPlan {
        context: service.path.clone(),
        dockerfile: image.dockerfile.clone(),
        args: image.args.clone(),
        target: (!image.target.is_empty()).then(|| image.target.clone()),
        platform: image.platform.to_string(),
        labels: labels.clone(),
        bases: built.bases.clone(),
        secrets: image.secrets.clone(),
        optional_secrets: built.optional_secrets.clone(),
        no_cache: built.aged,
        cache_from: built.newest.filter(|_| !built.aged).map(|digest| ImageUri { repository: uri.clone(), digest }),
        create_repository: !exists,
    };
    ImagePlan {
        repository: image.repository.clone(),
        uri: uri.clone(),
        tag: built.tag.clone(),
        build: built.present.is_none().then_some(how),
        copy: None,
        present: built.present,
        unjudged: false,
        findings: None,
        sbom: false,
    }
}

/// Where an image is pushed to: ECR's own answer, unless the configuration names another host for the registry.
#[must_use]
pub fn uri(registry: Option<&str>, image: &BuildImage, found: &Found) -> String {
    match registry {
        Some(host) => format!("{}/{}", host.trim_end_matches('/'), image.repository),
        None => found.uri.clone(),
    }
}

/// Why an image cannot be pushed, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, image: &BuildImage, found: Option<&Found>) -> Option<Refusal> {
    let repository = &image.repository;
    let absent = found.is_none() && !image.create;
    absent.then(|| {
        Refusal::new(
            format!("service `{name}`: there is no repository `{repository}` in ECR"),
            format!(
                "write `create: true` below `image`, or create it (`aws ecr create-repository --repository-name {repository} \
                 --image-tag-mutability IMMUTABLE`), or correct `repository`"
            ),
        )
    })
}

/// Where ECR will have a repository that is still to be created.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html>
#[must_use]
pub fn to_be_created(account: &str, region: &str, repository: &str) -> Found {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    Found { uri: format!("{account}.dkr.ecr.{region}.amazonaws.com{suffix}/{repository}"), exists: false }
}

/// Why a Dockerfile cannot be built as it is configured, if it cannot: `secrets` are the ids that its steps mount, each with its line
/// and whether they can do without; `ssh` is the line of a step that mounts an agent.
#[must_use]
pub fn mounts_refusal(name: &UnitName, image: &BuildImage, secrets: &[(String, bool, usize)], ssh: Option<usize>) -> Option<Refusal> {
    let file = &image.dockerfile;
    if let Some(line) = ssh {
        return Some(Refusal::new(
            format!("service `{name}`: line {line} of `{file}` mounts an SSH agent, which windlass gives to no build"),
            "fetch with a token instead, mounted as a secret (`--mount=type=secret`)",
        ));
    }
    let given = |id: &str| image.secrets.iter().any(|secret| secret.id == id);
    let missing = secrets.iter().find(|(id, optional, _)| !optional && !given(id));
    missing.map(|(id, _, line)| {
        Refusal::new(
            format!("service `{name}`: line {line} of `{file}` mounts the secret `{id}`, which `image.secrets` does not have"),
            format!(
                "add `{id}` (the variable of this name), `id={id},env=NAME` or `id={id},src=FILE` to `services.{name}.image.secrets`; or \
                 write `required=false` in the mount, if the step can do without it"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(image: &serde_json::Value) -> Service {
        serde_json::from_value(serde_json::json!({"image": image, "cluster": "c", "service": "s", "container": "w"})).unwrap()
    }

    fn built() -> Built {
        Built {
            tag: tag(&Sha256::of(b""), &[]),
            found: to_be_created("1", "us-east-1", "shop/api"),
            present: None,
            bases: Vec::new(),
            optional_secrets: Vec::new(),
            aged: false,
            newest: None,
        }
    }

    #[test]
    fn only_what_the_registry_lacks_is_built() {
        let service = service(&serde_json::json!({"repository": "shop/api", "create": true}));
        let plan = draw(&service, &Observed::Built(Box::new(built())), &BTreeMap::new(), &Policy::default()).unwrap();
        assert_eq!(plan.uri, "1.dkr.ecr.us-east-1.amazonaws.com/shop/api");
        assert!(plan.build.as_ref().unwrap().create_repository && plan.tag.len() == 28);
        let digest: ImageDigest = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
        let there = Built { present: Some(digest), ..built() };
        let plan = draw(&service, &Observed::Built(Box::new(there)), &BTreeMap::new(), &Policy::default()).unwrap();
        assert!(plan.build.is_none() && matches!(plan.reference(&"api".parse().unwrap()), ImageRef::Known(_)));
        // What became too old is built without the cache that would bring it back as it was.
        let aged = Built { aged: true, newest: Some(digest), ..built() };
        let plan = draw(&service, &Observed::Built(Box::new(aged)), &BTreeMap::new(), &Policy::default()).unwrap().build.unwrap();
        assert!(plan.no_cache && plan.cache_from.is_none());
    }

    #[test]
    fn a_base_that_moves_changes_the_last_part_of_the_tag_alone() {
        let base = |digest: &str| BaseImage {
            image: "python:3".to_owned(),
            platform: None,
            digest: digest.to_owned(),
            from: crate::model::Authority::Registry,
        };
        let content = Sha256::of(b"");
        let (one, two) = (tag(&content, &[base("1")]), tag(&content, &[base("2")]));
        assert!(one != two && one.len() == 41 && one[..29] == two[..29]);
        assert!(one.starts_with(&tag(&content, &[])));
    }

    #[test]
    fn a_secret_that_nobody_gives_is_refused_with_words() {
        let service = service(&serde_json::json!({"repository": "shop/api", "secrets": ["NPM_TOKEN"]}));
        let Image::Build(image) = &service.image else { panic!() };
        let name = "api".parse().unwrap();
        let refuse = |secrets: &[(&str, bool)], ssh| {
            let secrets: Vec<_> = secrets.iter().map(|(id, optional)| ((*id).to_owned(), *optional, 3)).collect();
            mounts_refusal(&name, image, &secrets, ssh).map(|refusal| refusal.what)
        };
        assert_eq!(refuse(&[("NPM_TOKEN", false), ("other", true)], None), None);
        assert!(refuse(&[("other", false)], None).unwrap().contains("line 3 of `Dockerfile` mounts the secret `other`"));
        assert!(refuse(&[], Some(7)).unwrap().contains("SSH agent"));
    }
}
