//! Brings a service back to the revision that served before, or waits until ECS has.

use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{Aws, AwsError, ServiceDeployment};
use crate::event::{Outcome, Step};
use crate::model::{Exit, Failure, Stage, UnitName};

use super::execute::{Rollout, Rollouts, short};
use super::execute_leave::Phase;
use super::execute_schedules::{To, follow};
use super::plan::ServicePlan;
use super::watch::{self, Back, Ours};

/// How long a rollback may take before a person is asked for, unless the service's own timeout is shorter.
const ROLLBACK: Duration = Duration::from_mins(10);
/// So long it may take in any case: somebody who is out of patience with the new version is not with the old one.
const AT_LEAST: Duration = Duration::from_secs(20);
/// How long ECS is waited for to begin what it has announced.
const ITS_TURN: Duration = Duration::from_secs(10);
/// So often the service deployment is asked for while a rollback goes on: it alone says that one has failed.
const ASKED: u32 = 5;

/// Who turns the service round?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    /// ECS has said that it does.
    IfEcsDoesNot,
    /// We do.
    Now,
}

/// Tells ECS to go back: by ending the deployment where it can be asked for that, else by another update.
pub(super) async fn push(aws: &Aws, cluster: &str, service: &str, back_to: &str) -> Result<&'static str, AwsError> {
    let found = aws.service_deployment(cluster, service).await.ok().flatten();
    if found.as_ref().is_some_and(goes_back) {
        return Ok("ECS is rolling it back already");
    }
    if let Some(found) = found.filter(|found| matches!(found.status.as_str(), "PENDING" | "IN_PROGRESS"))
        && aws.stop_service_deployment(&found.arn).await.is_ok()
    {
        return Ok("its deployment is stopped and rolled back");
    }
    aws.roll_service(cluster, service, back_to, false, None).await.map(|_| "it is told to run the revision before")
}

/// Whoever updates the service now ends the rollback that is under way, and begins another deployment.
fn goes_back(found: &ServiceDeployment) -> bool {
    matches!(found.status.as_str(), "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS")
}

impl Rollout<'_> {
    /// The reason, and the cause below it.
    pub(super) fn reasons(&self, reason: &str) -> String {
        match &self.cause {
            Some(cause) if !reason.contains(&cause.headline) => format!("{reason}\n   {}", cause.headline),
            _ => reason.to_owned(),
        }
    }

    fn cure(&self) -> String {
        self.cause.as_ref().map_or_else(|| "correct the cause and release again".to_owned(), |cause| cause.hint.clone())
    }

    /// After a failure: waits until the service is back, or brings it there, and says what serves.
    pub(super) async fn go_back(&mut self, exit: Exit, reason: String, push: Push) -> Failure {
        let how_it_ended = if exit == Exit::RolloutTimeout { "the rollout timed out" } else { "the rollout failed" };
        let what = |how: &str| format!("service `{}`: {how_it_ended} and {how}", self.name);
        let why = self.reasons(&reason);
        self.shared.is(self.name, Phase::going_back(self.plan));
        match back(self.shared, self.name, self.plan, &self.ours, push).await {
            Ok(serves) if Some(&serves) == self.ours.back_to.as_ref() || self.ours.back_to.is_none() => {
                let image = if serves == self.plan.from { format!(", with {}", self.plan.from_image) } else { String::new() };
                let hint = format!("`{}` serves{image}; {}", short(&serves), self.cure());
                Failure::new(exit, what("was rolled back")).because(why).hint(hint)
            }
            Ok(serves) => {
                let hint = format!("`{}` serves, which is neither ours nor the one before: find out who deploys it", short(&serves));
                Failure::new(Exit::Superseded, what("another revision took its place")).because(why).hint(hint)
            }
            Err(not) => {
                let failure = Failure::new(Exit::NotRolledBack, what(not.how)).because(format!("{why}\n   {}", not.why));
                failure.hint(not.hint)
            }
        }
    }
}

/// Why a service is not back.
pub(super) struct NotBack {
    how: &'static str,
    why: String,
    hint: String,
}

/// Waits until the service runs another revision than ours to its end, and gives that one.
async fn back(shared: &Rollouts, name: &UnitName, plan: &ServicePlan, ours: &Ours, by: Push) -> Result<String, NotBack> {
    let person = |rest: String| format!("a person is needed: {rest}");
    let Some(back_to) = &ours.back_to else {
        return Err(NotBack {
            how: "there is no revision to go back to",
            why: "no earlier deployment of the service has ever been complete".to_owned(),
            hint: person(format!("correct the cause, and release `{name}` again")),
        });
    };
    let by_hand = person(format!("tell `{}` in the cluster `{}` to run `{}`", plan.service, plan.cluster, short(back_to)));
    let patience = ROLLBACK.min(Duration::from_secs(plan.timeout_seconds)).max(AT_LEAST);
    let start = Instant::now();
    let (mut pushed, mut updated, mut looks) = (None::<Instant>, false, 0);
    let mut pause = Duration::ZERO;
    loop {
        let looked = shared.looker.look(&plan.cluster, &plan.service, pause).await;
        pause = if start.elapsed() < Duration::from_mins(1) { Duration::from_secs(1) } else { Duration::from_secs(3) };
        looks += 1;
        let way = match &looked {
            Ok(Some(service)) => watch::way_back(service, ours),
            Ok(None) => {
                let why = format!("the service `{}` is gone", plan.service);
                return Err(NotBack { how: "the service is gone", why, hint: by_hand });
            }
            Err(error) if error.is_denied() || error.is_expired_credentials() => {
                let hint = error.hint().map_or_else(|| by_hand.clone(), |hint| format!("{hint}; {by_hand}"));
                return Err(NotBack { how: "it is not known what serves", why: error.to_string(), hint });
            }
            Err(_) => Back::OnTheWay,
        };
        match way {
            Back::Done(serves) => return Ok(serves),
            Back::Failed(why) => return Err(NotBack { how: "its rollback failed too", why, hint: by_hand }),
            Back::OnTheWay => {}
            Back::NotBegun => {
                let its_turn = by == Push::Now || start.elapsed() > ITS_TURN;
                // A stop that has been accepted and does nothing is no rollback.
                let ignored = pushed.is_some_and(|at| at.elapsed() > ITS_TURN) && !updated;
                let result = match (pushed, its_turn) {
                    (None, true) => Some(push(&shared.aws, &plan.cluster, &plan.service, back_to).await),
                    _ if ignored && is_going_back(shared, plan).await => {
                        pushed = Some(Instant::now());
                        None
                    }
                    _ if ignored => {
                        updated = true;
                        let again = shared.aws.roll_service(&plan.cluster, &plan.service, back_to, false, None).await;
                        Some(again.map(|_| "it is told to run the revision before"))
                    }
                    _ => None,
                };
                match result {
                    Some(Ok(how)) => {
                        pushed.get_or_insert_with(Instant::now);
                        shared.events.note(format!("{name}: {how}, `{}`", short(back_to)));
                    }
                    Some(Err(error)) => {
                        return Err(NotBack { how: "could not be rolled back", why: error.to_string(), hint: by_hand });
                    }
                    None => {}
                }
            }
        }
        if looks % ASKED == 0
            && let Ok(Some(found)) = shared.aws.service_deployment(&plan.cluster, &plan.service).await
            && found.status == "ROLLBACK_FAILED"
        {
            let why = found.reason.or(found.rollback_reason).unwrap_or_else(|| "ECS says ROLLBACK_FAILED".to_owned());
            return Err(NotBack { how: "its rollback failed too", why, hint: by_hand });
        }
        if start.elapsed() > patience {
            let why = format!("`{}` does not serve yet after {} s", short(back_to), start.elapsed().as_secs());
            return Err(NotBack { how: "its rollback did not come to an end", why, hint: by_hand });
        }
    }
}

/// Does ECS say that it is on the way, although the service does not show it? Traffic is shifted back before tasks are.
async fn is_going_back(shared: &Rollouts, plan: &ServicePlan) -> bool {
    let found = shared.aws.service_deployment(&plan.cluster, &plan.service).await;
    found.is_ok_and(|found| found.is_some_and(|found| goes_back(&found)))
}

/// Brings a service that has rolled back to where it was, because another one of the release has failed.
///
/// # Errors
/// [`Exit::NotRolledBack`]: a person is needed.
pub async fn undo(shared: &Rollouts, name: &UnitName, plan: &ServicePlan, revision: &str) -> Result<(), Failure> {
    let step = Step::of(Stage::Services, name, "roll back");
    let back_to = plan.back_to.clone().filter(|back_to| back_to != revision);
    let ours = Ours { id: String::new(), revision: revision.to_owned(), back_to, before: Vec::new(), seen: true };
    shared.is(name, Phase::going_back(plan));
    let work = async {
        match back(shared, name, plan, &ours, Push::Now).await {
            Ok(serves) => Ok(((), Outcome::Done, format!("{} serves again", short(&serves)))),
            Err(not) => {
                let failure = Failure::new(Exit::NotRolledBack, format!("service `{name}`: it was to go back too, and {}", not.how));
                Err(failure.because(not.why).hint(not.hint))
            }
        }
    };
    let undone = shared.events.step(step, work).await;
    shared.is(name, Phase::Over);
    undone?;
    follow(shared, name, plan, To::Back).await
}
