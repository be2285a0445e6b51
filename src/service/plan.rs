//! Which services have to roll, from which revision, to which image.

use serde::{Deserialize, Serialize};

use crate::config::Service;
use crate::model::{ImageRef, Refusal, UnitName};

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its cluster.
    pub cluster: String,
    /// Its name on ECS.
    pub service: String,
    /// The container that gets the image.
    pub container: String,
    /// The image that it is to run.
    pub image: ImageRef,
    /// The revision that it runs: the next one is cloned from it.
    pub from: String,
    /// The image that it runs.
    pub from_image: String,
    /// What has to be done.
    pub action: Action,
    /// A URL that has to answer once the roll is done.
    pub health: Option<String>,
    /// Services that roll before this one.
    pub after: Vec<UnitName>,
    /// How long the rollout may take, in seconds.
    pub timeout_seconds: u64,
}

/// What has to be done with a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It runs the image already.
    Nothing,
    /// It is being rolled to the image already, by this deployment: an earlier run was cut off.
    Watch(String),
    /// A new revision is registered and rolled.
    Roll,
    /// This revision, which served before, is rolled again; none is registered.
    Return(String),
}

/// A service as preflight finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is no such cluster.
    NoCluster,
    /// The cluster has no such service.
    NoService,
    /// It is there.
    Service(Box<FoundService>),
}

/// What is known of a service that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundService {
    /// `ACTIVE`, `DRAINING`, `INACTIVE`.
    pub status: String,
    /// Who rolls it: `ECS`, `CODE_DEPLOY`, `EXTERNAL`.
    pub controller: String,
    /// The ARN of the revision that it is told to run.
    pub revision: String,
    /// The revision's containers with their images.
    pub images: Vec<(String, String)>,
    /// `X86_64` or `ARM64`, if the revision says so.
    pub architecture: Option<String>,
    /// The deployment in force: its id, and `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub deployment: Option<(String, String)>,
    /// Tasks wanted, and running.
    pub tasks: (i32, i32),
}

impl FoundService {
    /// The image of a container.
    #[must_use]
    pub fn image(&self, container: &str) -> Option<&str> {
        self.images.iter().find(|(name, _)| name == container).map(|(_, image)| image.as_str())
    }
}

/// Draws one service.
#[must_use]
pub fn draw(service: &Service, image: ImageRef, found: &FoundService) -> ServicePlan {
    let from_image = found.image(&service.container).unwrap_or_default().to_owned();
    let runs_it = matches!(&image, ImageRef::Known(uri) if uri.to_string() == from_image);
    let action = match &found.deployment {
        _ if !runs_it => Action::Roll,
        Some((id, state)) if state == "IN_PROGRESS" => Action::Watch(id.clone()),
        Some((_, state)) if state == "FAILED" => Action::Roll,
        _ => Action::Nothing,
    };
    ServicePlan {
        cluster: service.cluster.clone(),
        service: service.service.clone(),
        container: service.container.clone(),
        image,
        from: found.revision.clone(),
        from_image,
        action,
        health: service.health.clone().filter(|health| !health.starts_with('/')),
        after: service.after.clone(),
        timeout_seconds: service.timeout.0.as_secs(),
    }
}

/// Draws the way back of one service to a revision that served `image` before.
#[must_use]
pub fn draw_back(service: &Service, image: ImageRef, revision: &str, found: &FoundService) -> ServicePlan {
    let plan = draw(service, image, found);
    let action = match &found.deployment {
        _ if found.revision != revision => Action::Return(revision.to_owned()),
        Some((id, state)) if state == "IN_PROGRESS" => Action::Watch(id.clone()),
        Some((_, state)) if state == "FAILED" => Action::Return(revision.to_owned()),
        _ => Action::Nothing,
    };
    ServicePlan { action, ..plan }
}

/// Why a service cannot roll, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, service: &Service, found: &Found) -> Option<Refusal> {
    let (cluster, on_ecs, container) = (&service.cluster, &service.service, &service.container);
    let refused = |what: String, cure: &str| Some(Refusal::new(format!("service `{name}`: {what}"), cure));
    let create = "create it with its infrastructure (its first image can be pushed with `windlass stage images`), or correct the name";
    let found = match found {
        Found::NoCluster => return refused(format!("there is no cluster `{cluster}`"), create),
        Found::NoService => return refused(format!("the cluster `{cluster}` has no service `{on_ecs}`"), create),
        Found::Service(found) => found,
    };
    if found.status != "ACTIVE" {
        return refused(format!("`{on_ecs}` is {}", found.status), "wait until it is gone, and create it anew");
    }
    if found.controller != "ECS" {
        let cure =
            "windlass rolls services with the deployment controller ECS; keep the tool that rolls this one, or change its controller";
        return refused(format!("`{on_ecs}` is rolled by {}", found.controller), cure);
    }
    if found.image(container).is_none() {
        let names: Vec<&str> = found.images.iter().map(|(name, _)| name.as_str()).collect();
        return refused(
            format!("its revision `{}` has no container `{container}`", found.revision),
            &format!("it has: {}", names.join(", ")),
        );
    }
    let wanted = match &service.image {
        crate::config::Image::Build(image) => Some(if image.platform.to_string() == "linux/arm64" { "ARM64" } else { "X86_64" }),
        crate::config::Image::Prebuilt(_) | crate::config::Image::Tag(_) => None,
    };
    match (wanted, found.architecture.as_deref()) {
        (Some(wanted), Some(architecture)) if wanted != architecture => refused(
            format!("its tasks run on {architecture}, and its image is built for {wanted}"),
            "correct `image.platform`, or the runtime platform of the task definition",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ImageUri;

    fn uri(digit: &str) -> ImageUri {
        format!("host/shop/api@sha256:{}", digit.repeat(64)).parse().unwrap()
    }

    fn found(image: &ImageUri, state: &str) -> FoundService {
        FoundService {
            status: "ACTIVE".into(),
            controller: "ECS".into(),
            revision: "arn:aws:ecs:us-east-1:1:task-definition/shop:1".into(),
            images: vec![("web".into(), image.to_string())],
            architecture: None,
            deployment: Some(("ecs-svc/1".into(), state.into())),
            tasks: (2, 2),
        }
    }

    fn service() -> Service {
        let service = serde_json::json!({"image": {"repository": "shop/api"}, "cluster": "shop", "service": "api", "container": "web"});
        serde_json::from_value(service).unwrap()
    }

    #[test]
    fn a_service_rolls_unless_its_own_deployment_has_brought_the_image() {
        let action = |image: ImageRef, state| draw(&service(), image, &found(&uri("1"), state)).action;
        assert_eq!(action(ImageRef::Known(uri("1")), "COMPLETED"), Action::Nothing);
        assert_eq!(action(ImageRef::Known(uri("1")), "IN_PROGRESS"), Action::Watch("ecs-svc/1".into()));
        assert_eq!(action(ImageRef::Known(uri("1")), "FAILED"), Action::Roll);
        assert_eq!(action(ImageRef::Known(uri("2")), "COMPLETED"), Action::Roll);
        assert_eq!(action(ImageRef::FromStep("api".parse().unwrap()), "COMPLETED"), Action::Roll);
    }

    #[test]
    fn what_cannot_roll_is_refused_with_words() {
        let name = "api".parse().unwrap();
        let refuse = |found| refusal(&name, &service(), &found).map(|refusal| refusal.what);
        let with = |change: fn(&mut FoundService)| {
            let mut service = found(&uri("1"), "COMPLETED");
            change(&mut service);
            Found::Service(Box::new(service))
        };
        assert_eq!(refuse(with(|_| {})), None);
        assert!(refuse(Found::NoCluster).unwrap().contains("no cluster `shop`"));
        assert!(refuse(Found::NoService).unwrap().contains("no service `api`"));
        assert!(refuse(with(|found| found.controller = "CODE_DEPLOY".into())).unwrap().contains("CODE_DEPLOY"));
        assert!(refuse(with(|found| found.images.clear())).unwrap().contains("no container `web`"));
        assert!(refuse(with(|found| found.architecture = Some("ARM64".into()))).unwrap().contains("run on ARM64"));
    }
}
