//! Which services have to roll, from which revision, to which image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{ScheduledTasks, Service};
use crate::model::{ImageRef, Refusal, UnitName};

pub use super::found::{Base, Found, FoundService, Schedule, Way};
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
    /// The document of a file that the next revision is rendered from, instead of a clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Definition>,
    /// What the next revision changes, but for an image that has still to be built.
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
    /// What starts tasks of its family, and is to start the revision that serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Schedule>,
}

fn three() -> u32 {
    3
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
    let definition = service.definition.clone().map(|document| Definition::rendered(document, &found.base.current));
    let to_be = match &image {
        ImageRef::Known(uri) => uri.to_string(),
        ImageRef::FromStep(_) => from_image.clone(),
    };
    let next = definition.as_ref().unwrap_or(&found.base.current).next(&service.container, &to_be, &service.env);
    let changes = found.base.current.changes(&next);
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
        definition,
        from: found.revision.clone(),
        from_image,
        back_to: found.serving.clone(),
        schedules: schedules(service, found, &action),
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

/// Those that have to move. Where a revision has still to be registered, all may.
fn schedules(service: &Service, found: &FoundService, action: &Action) -> Vec<Schedule> {
    let all = found.schedules.iter().filter(|_| service.scheduled_tasks == ScheduledTasks::Follow);
    match action {
        Action::Roll => all.cloned().collect(),
        Action::Nothing | Action::Watch(_) | Action::Start => all.filter(|one| one.from != found.revision).cloned().collect(),
        Action::Return(revision) => all.filter(|one| one.from != *revision).cloned().collect(),
    }
}

impl ServicePlan {
    /// Is there nothing to do, neither with the service nor with what follows it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.action == Action::Nothing && self.schedules.is_empty()
    }

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
    let schedules = schedules(service, found, &action);
    // It is run as it was, and answers with its own version.
    ServicePlan { action, schedules, environment: BTreeMap::new(), definition: None, changes: Vec::new(), health_holds: None, ..plan }
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
            schedules: Vec::new(),
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
