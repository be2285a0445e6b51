//! Which services have to roll, from which revision, to which image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Service;
use crate::model::{ImageRef, Refusal, UnitName};

use super::revision::{Change, Definition};

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
    /// The variables that are set in the container.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The revision that it is told to run: the next one is cloned from it.
    pub from: String,
    /// The image that it runs.
    pub from_image: String,
    /// The revision that serves, and that a failure leads back to; none if there was never one.
    #[serde(default)]
    pub back_to: Option<String>,
    /// What has to be done.
    pub action: Action,
    /// It was stopped for a migration, or will be, and is started with so many tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<i32>,
    /// What the next revision changes; empty where the image has still to be built.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// How ECS rolls it.
    #[serde(default)]
    pub way: Way,
    /// A URL, or a path through the load balancer, that has to answer once the roll is done.
    pub health: Option<String>,
    /// A text that the answer has to hold.
    #[serde(default)]
    pub health_holds: Option<String>,
    /// Services that roll before this one.
    pub after: Vec<UnitName>,
    /// How long the rollout may take, in seconds.
    pub timeout_seconds: u64,
    /// After so many crashes of its tasks the rollout is given up.
    #[serde(default = "three")]
    pub crashes: u32,
    /// Does a rollout that has run out of time stay as it is?
    #[serde(default)]
    pub leave_after_timeout: bool,
    /// So many revisions stay registered; all if it is not said.
    #[serde(default)]
    pub keep_revisions: Option<u32>,
}

fn three() -> u32 {
    3
}

/// How ECS rolls a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// `ROLLING`, `BLUE_GREEN`, `LINEAR`, `CANARY`, or what AWS thinks of next.
    pub strategy: String,
    /// Does the circuit breaker give up a deployment whose tasks keep failing?
    pub breaker: bool,
    /// Does ECS go back by itself then?
    pub rolls_back: bool,
    /// The target groups behind its load balancer.
    pub target_groups: Vec<String>,
}

impl Way {
    /// Is it another way than the plain one, with stages of its own?
    #[must_use]
    pub fn is_staged(&self) -> bool {
        !matches!(self.strategy.as_str(), "" | "ROLLING")
    }
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
    /// It is told to run the image already, and stopped: its revision is started again.
    Start,
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
    /// The revision that serves: that of the last deployment that is complete.
    pub serving: Option<String>,
    /// The revision's document, and the family's newest one where that is another.
    pub base: Base,
    /// `REPLICA` or `DAEMON`.
    pub scheduling: String,
    /// The least and the most that run while it rolls, in percent of the tasks wanted.
    pub percent: (Option<i32>, Option<i32>),
    /// How ECS rolls it.
    pub way: Way,
}

/// What the next revision is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The document of the revision that the service is told to run.
    pub current: Definition,
    /// The family's newest revision where that is another: it may be the one that is wanted already.
    pub newest: Option<(String, Definition)>,
}

impl FoundService {
    /// The image of a container.
    #[must_use]
    pub fn image(&self, container: &str) -> Option<&str> {
        self.images.iter().find(|(name, _)| name == container).map(|(_, image)| image.as_str())
    }

    /// Does it run so few tasks, within such bounds, that none can be started and none stopped?
    ///
    /// ECS rounds the least up and the most down:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html>
    fn is_deadlocked(&self) -> bool {
        let desired = self.tasks.0;
        if desired <= 0 || self.way.is_staged() || self.scheduling == "DAEMON" {
            return false;
        }
        let (least, most) = (self.percent.0.unwrap_or(100), self.percent.1.unwrap_or(200));
        let keeps = (desired * least + 99) / 100;
        let may = desired * most / 100;
        keeps >= desired && may <= desired
    }
}

/// So many services roll at once where the configuration does not say.
pub const AT_ONCE: usize = 16;

/// What the services of a release have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    /// So many roll at once.
    pub at_once: usize,
    /// Do those that have rolled go back when one fails?
    pub rollback_all: bool,
}

impl Default for Together {
    fn default() -> Self {
        Self { at_once: AT_ONCE, rollback_all: false }
    }
}

/// What the configuration says beside the service itself.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Does a rollout that has run out of time stay as it is?
    pub leave_after_timeout: bool,
    /// So many revisions stay registered.
    pub keep_revisions: Option<u32>,
}

/// Draws one service.
#[must_use]
pub fn draw(service: &Service, image: ImageRef, found: &FoundService, rules: Rules) -> ServicePlan {
    let from_image = found.image(&service.container).unwrap_or_default().to_owned();
    let changes = match &image {
        ImageRef::Known(uri) => found.base.current.changes(&found.base.current.next(&service.container, &uri.to_string(), &service.env)),
        ImageRef::FromStep(_) => Vec::new(),
    };
    let runs_it = matches!(&image, ImageRef::Known(_)) && changes.is_empty();
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
        environment: service.env.clone(),
        from: found.revision.clone(),
        from_image,
        back_to: found.serving.clone(),
        action,
        tasks: None,
        changes,
        way: found.way.clone(),
        health: service.health.clone(),
        health_holds: service.health_holds.clone(),
        after: service.after.clone(),
        timeout_seconds: service.timeout.0.as_secs(),
        crashes: service.crashes.max(1),
        leave_after_timeout: rules.leave_after_timeout,
        keep_revisions: rules.keep_revisions,
    }
}

impl ServicePlan {
    /// The same for a service that is stopped: it is started with so many tasks.
    #[must_use]
    pub fn stopped(self, tasks: i32) -> Self {
        let action = match self.action {
            Action::Nothing | Action::Watch(_) => Action::Start,
            action => action,
        };
        Self { action, tasks: Some(tasks), ..self }
    }
}

/// Draws the way back of one service to a revision that served `image` before.
#[must_use]
pub fn draw_back(service: &Service, image: ImageRef, revision: &str, found: &FoundService, rules: Rules) -> ServicePlan {
    let plan = draw(service, image, found, rules);
    let action = match &found.deployment {
        _ if found.revision != revision => Action::Return(revision.to_owned()),
        Some((id, state)) if state == "IN_PROGRESS" => Action::Watch(id.clone()),
        Some((_, state)) if state == "FAILED" => Action::Return(revision.to_owned()),
        _ => Action::Nothing,
    };
    // It is run as it was, and answers with its own version.
    ServicePlan { action, environment: BTreeMap::new(), changes: Vec::new(), health_holds: None, ..plan }
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
    if found.is_deadlocked() {
        let (least, most) = (found.percent.0.unwrap_or(100), found.percent.1.unwrap_or(200));
        return refused(
            format!(
                "`{on_ecs}` can never roll: of {} task{} at least {least} % stay and at most {most} % run, so that ECS may neither stop \
                 an old task nor start a new one",
                found.tasks.0,
                if found.tasks.0 == 1 { "" } else { "s" }
            ),
            "lower its minimumHealthyPercent, or raise its maximumPercent",
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
            serving: Some("arn:aws:ecs:us-east-1:1:task-definition/shop:1".into()),
            base: Base { current: definition(image), newest: None },
            scheduling: "REPLICA".into(),
            percent: (None, None),
            way: Way::default(),
        }
    }

    fn definition(image: &ImageUri) -> Definition {
        Definition::new(serde_json::json!({"containerDefinitions": [{"name": "web", "image": image.to_string()}]}))
    }

    const RULES: Rules = Rules { leave_after_timeout: false, keep_revisions: None };

    fn service() -> Service {
        let service = serde_json::json!({"image": {"repository": "shop/api"}, "cluster": "shop", "service": "api", "container": "web"});
        serde_json::from_value(service).unwrap()
    }

    #[test]
    fn a_service_rolls_unless_its_own_deployment_has_brought_the_image() {
        let action = |image: ImageRef, state| draw(&service(), image, &found(&uri("1"), state), RULES).action;
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

    #[test]
    fn a_variable_that_differs_is_a_reason_to_roll() {
        let service = Service { env: BTreeMap::from([("COLOUR".to_owned(), "red".to_owned())]), ..service() };
        let plan = draw(&service, ImageRef::Known(uri("1")), &found(&uri("1"), "COMPLETED"), RULES);
        assert_eq!((plan.action, plan.changes.len(), plan.changes[0].what.as_str()), (Action::Roll, 1, "web.environment.COLOUR"));
    }

    #[test]
    fn bounds_that_let_no_task_go_and_none_come_are_refused() {
        let name = "api".parse().unwrap();
        let deadlocked = |desired: i32, least: i32, most: i32| {
            let service_found =
                FoundService { tasks: (desired, desired), percent: (Some(least), Some(most)), ..found(&uri("1"), "COMPLETED") };
            refusal(&name, &service(), &Found::Service(Box::new(service_found))).is_some()
        };
        assert!(deadlocked(1, 100, 100) && deadlocked(1, 50, 150) && deadlocked(3, 100, 133) && deadlocked(4, 100, 100));
        assert!(!deadlocked(1, 0, 100) && !deadlocked(1, 100, 200) && !deadlocked(2, 50, 100) && !deadlocked(0, 100, 100));
    }
}
