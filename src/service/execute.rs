//! Rolls one service, and does not leave before it is known what serves.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{Aws, AwsError};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, Stage, UnitName};
use crate::probe;

use super::explain;
use super::plan::{Action, ServicePlan};
use super::watch::{self, Verdict};

/// How long a rollback may take before a person is asked for.
const ROLLBACK: Duration = Duration::from_mins(10);
/// How long old tasks may go on, or new ones be missing, after the rollout is complete, before nobody waits for them any more.
const DRAINING: Duration = Duration::from_secs(15);
/// How long a health URL may take to answer after the rollout.
const HEALTH: Duration = Duration::from_mins(1);

/// Rolls the service to `image`, and returns the ARN of the revision that serves it.
///
/// # Errors
/// [`Exit::RolledBack`] and [`Exit::NotRolledBack`] when the rollout failed, [`Exit::RolloutTimeout`],
/// [`Exit::Superseded`]. Each says what serves now.
pub async fn roll(
    aws: &Aws,
    probe: &probe::Client,
    name: &UnitName,
    plan: &ServicePlan,
    image: &ImageUri,
    events: &Events,
) -> Result<String, Failure> {
    let step = Step::of(Stage::Services, name, "roll");
    events
        .step(step.clone(), async {
            let (revision, deployment) = match &plan.action {
                Action::Nothing => return Ok((plan.from.clone(), Outcome::Unchanged, format!("{} serves", short(&plan.from)))),
                Action::Watch(deployment) => {
                    events.note(format!("{name}: the deployment `{deployment}` is under way already, and is watched"));
                    (plan.from.clone(), deployment.clone())
                }
                Action::Roll => start(aws, name, plan, image).await?,
                Action::Return(revision) => again(aws, name, plan, revision).await?,
            };
            follow(aws, name, plan, &revision, &deployment, &step, events).await?;
            if let Some(url) = &plan.health {
                healthy(probe, name, url, &revision).await?;
            }
            Ok((revision.clone(), Outcome::Done, format!("{} serves {}", short(&revision), image.digest.short())))
        })
        .await
}

fn not_started(name: &UnitName, plan: &ServicePlan, error: AwsError) -> Failure {
    let cure = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
    let hint = format!("`{}` serves as before; {cure}", short(&plan.from));
    Failure::new(Exit::RolledBack, format!("service `{name}`: starting the rollout failed")).because(error).hint(hint)
}

/// Tells the service to run a revision that served before.
async fn again(aws: &Aws, name: &UnitName, plan: &ServicePlan, revision: &str) -> Result<(String, String), Failure> {
    let deployment = aws.roll_service(&plan.cluster, &plan.service, revision).await;
    Ok((revision.to_owned(), deployment.map_err(|error| not_started(name, plan, error))?.id))
}

/// Registers the next revision and tells the service to run it.
async fn start(aws: &Aws, name: &UnitName, plan: &ServicePlan, image: &ImageUri) -> Result<(String, String), Failure> {
    let failed = |error: AwsError| not_started(name, plan, error);
    let base = aws.task_definition(&plan.from).await.map_err(failed)?;
    let images = BTreeMap::from([(plan.container.clone(), image.to_string())]);
    let revision = aws.register_revision(&base, &images).await.map_err(failed)?;
    let deployment = aws.roll_service(&plan.cluster, &plan.service, &revision).await.map_err(failed)?;
    Ok((revision, deployment.id))
}

/// Watches the deployment to its end.
async fn follow(
    aws: &Aws,
    name: &UnitName,
    plan: &ServicePlan,
    revision: &str,
    deployment: &str,
    step: &Step,
    events: &Events,
) -> Result<(), Failure> {
    let start = Instant::now();
    let timeout = Duration::from_secs(plan.timeout_seconds);
    let mut done_since: Option<Instant> = None;
    loop {
        let service = look(aws, name, plan).await?;
        match watch::judge(&service, deployment, &plan.from) {
            Verdict::Done => {
                let waited = done_since.get_or_insert_with(Instant::now).elapsed();
                if watch::serves_alone(&service, deployment) || waited > DRAINING {
                    return Ok(());
                }
            }
            Verdict::Rolling { running, desired, failed } => {
                events.progress(step, u64::try_from(running).unwrap_or(0), u64::try_from(desired).unwrap_or(0), "tasks");
                if failed > 0 && start.elapsed() > timeout / 2 {
                    events.note(format!("{name}: {failed} tasks have failed so far"));
                }
            }
            Verdict::Superseded { by } => {
                let failure = Failure::new(Exit::Superseded, format!("service `{name}`: someone else's deployment took the place of ours"));
                let failure =
                    failure.because(format!("`{}` is told to run `{}`, and ours was `{}`", plan.service, short(&by), short(revision)));
                return Err(failure.hint("find out who deploys this service beside windlass; run again to release over it"));
            }
            Verdict::Failed { reason } => {
                let cause = explain::cause(aws, plan, deployment, revision).await;
                return Err(back(aws, name, plan, Exit::RolledBack, format!("{reason}; {cause}")).await);
            }
        }
        if start.elapsed() > timeout {
            let cause = explain::cause(aws, plan, deployment, revision).await;
            let why = format!("it was not done after {} s; {cause}", plan.timeout_seconds);
            return Err(back(aws, name, plan, Exit::RolloutTimeout, why).await);
        }
        tokio::time::sleep(pause(start.elapsed())).await;
    }
}

/// Quick looks at first, when most rollouts of the local cloud and most crashes show; slower ones later.
fn pause(elapsed: Duration) -> Duration {
    match elapsed.as_secs() {
        0..30 => Duration::from_millis(500),
        30..120 => Duration::from_secs(2),
        _ => Duration::from_secs(5),
    }
}

/// After a failure: waits until the service is back on the revision before, or brings it there where ECS does not.
async fn back(aws: &Aws, name: &UnitName, plan: &ServicePlan, exit: Exit, why: String) -> Failure {
    let what = |how: &str| format!("service `{name}`: the rollout failed and {how}");
    let start = Instant::now();
    let mut asked = false;
    while start.elapsed() < ROLLBACK {
        let Ok(service) = look(aws, name, plan).await else {
            tokio::time::sleep(Duration::from_secs(2)).await;
            continue;
        };
        if watch::is_back(&service, &plan.from) {
            let failure = Failure::new(exit, what("was rolled back")).because(why);
            return failure.hint(format!(
                "`{}` serves, with {}; no site was published; correct the cause and release again",
                short(&plan.from),
                plan.from_image
            ));
        }
        let ecs_does_it = service.primary().is_some_and(|primary| primary.task_definition == plan.from);
        // The breaker may be off, or have no rollback: then ECS would leave the broken revision in force.
        let its_turn = start.elapsed() > Duration::from_secs(3) || exit == Exit::RolloutTimeout;
        if !ecs_does_it && its_turn && !asked {
            asked = true;
            if let Err(error) = aws.roll_service(&plan.cluster, &plan.service, &plan.from).await {
                let failure = Failure::new(Exit::NotRolledBack, what("could not be rolled back")).because(format!("{why}; {error}"));
                return failure.hint(format!("a person is needed: tell `{}` to run `{}`", plan.service, short(&plan.from)));
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let failure = Failure::new(Exit::NotRolledBack, what("its rollback did not come to an end")).because(why);
    failure.hint(format!("a person is needed: look at the events of the service `{}` in the cluster `{}`", plan.service, plan.cluster))
}

async fn look(aws: &Aws, name: &UnitName, plan: &ServicePlan) -> Result<crate::aws::Service, Failure> {
    let what = || format!("service `{name}`: watching the rollout failed");
    let hint = "the rollout goes on by itself, and what it came to is not known here; run the same command again to watch it";
    let services = aws.services(&plan.cluster, &[&plan.service]).await;
    let services = services.map_err(|error| Failure::new(Exit::NotRolledBack, what()).because(error).hint(hint))?;
    let found = services.into_iter().next();
    found.ok_or_else(|| Failure::new(Exit::NotRolledBack, what()).because(format!("the service `{}` is gone", plan.service)).hint(hint))
}

/// Asks the health URL until it answers 2xx.
async fn healthy(probe: &probe::Client, name: &UnitName, url: &str, revision: &str) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let wrong = match probe.get(url).await {
            Ok(page) if (200..300).contains(&page.status) => return Ok(()),
            Ok(page) => format!("`{url}` answers {}", page.status),
            Err(error) => error.to_string(),
        };
        if start.elapsed() > HEALTH {
            let failure =
                Failure::new(Exit::NotRolledBack, format!("service `{name}`: rolled, but its health URL does not answer")).because(wrong);
            return Err(failure.hint(format!("`{}` serves; if the URL is right, roll back", short(revision))));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// `family:revision` of an ARN.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
