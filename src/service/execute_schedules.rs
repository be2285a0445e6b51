//! Scheduled tasks follow their service: to the revision that it runs now, and back with it.

use crate::aws::ScheduledTask;
use crate::event::{Outcome, Step};
use crate::model::{Exit, Failure, Stage, UnitName};

use super::execute::{Rollouts, short};
use super::plan::{Schedule, ServicePlan};

/// Where a scheduled task is to go.
#[derive(Debug, Clone, Copy)]
pub(super) enum To<'a> {
    /// To the revision that its service has been rolled to.
    Revision(&'a str),
    /// To the one that it had.
    Back,
}

/// Lets the scheduled tasks of the plan start another revision. Each is tried, whatever becomes of the others.
pub(super) async fn follow(shared: &Rollouts, name: &UnitName, plan: &ServicePlan, to: To<'_>) -> Result<(), Failure> {
    let aim = |schedule: &Schedule| match to {
        To::Revision(revision) => revision.to_owned(),
        To::Back => schedule.from.clone(),
    };
    // Those that have it already are told nothing, except on the way back, when it is not known how far they came.
    let wanted: Vec<&Schedule> = plan.schedules.iter().filter(|one| matches!(to, To::Back) || aim(one) != one.from).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let step = Step::of(Stage::Services, name, "reschedule");
    let work = async {
        let mut failed = None;
        let mut done = Vec::new();
        for schedule in wanted {
            let task = ScheduledTask {
                group: schedule.group.clone(),
                name: schedule.name.clone(),
                target: schedule.target.clone(),
                task_definition: schedule.from.clone(),
            };
            match shared.aws.reschedule(&task, &aim(schedule)).await {
                Ok(()) => done.push(schedule.name.as_str()),
                Err(error) => failed = Some((schedule, error)),
            }
        }
        match failed {
            None => Ok(((), Outcome::Done, format!("{} start the revision that serves", done.join(", ")))),
            Some((schedule, error)) => {
                let what = format!("service `{name}`: its scheduled task `{}` stays at `{}`", schedule.name, short(&schedule.from));
                let cure = error.hint().unwrap_or_else(|| "correct the cause".to_owned());
                let failure = Failure::new(Exit::Mixed, what).because(error);
                Err(failure.hint(format!("the service itself is where it is to be; {cure}, and run the same command again")))
            }
        }
    };
    shared.events.step(step, work).await
}
