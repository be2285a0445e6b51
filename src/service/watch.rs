//! Judges one deployment, by its id, from one look at its service.
//!
//! `services-stable` asks whether a service has come to rest, which it has after a rollback too; that is why it is not asked.
//! Judged by `deployments[]` of `DescribeServices`, whose `rolloutState` AWS defines:
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html>, and where a strategy has stages of its own also by
//! the service deployment: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html>

use crate::aws::{Deployment, Service, ServiceDeployment};

/// The deployment that we began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ours {
    /// Its id; empty where the endpoint gives none.
    pub(super) id: String,
    /// Its revision.
    pub(super) revision: String,
    /// The revision that served before it.
    pub(super) back_to: Option<String>,
    /// The ids of the deployments that there were before it.
    pub(super) before: Vec<String>,
    /// Has any look shown it? Until then an answer may be older than our update.
    pub(super) seen: bool,
}

/// What one look at a service says of our deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The answer does not know of it yet.
    Unseen,
    /// It goes on: so many of so many tasks run.
    Rolling {
        /// Tasks of the new revision that run.
        running: i32,
        /// Tasks that it wants.
        desired: i32,
        /// Tasks of it that have failed.
        failed: i32,
    },
    /// It is done: the new revision serves.
    Done,
    /// ECS has given it up.
    Failed {
        /// ECS's reason.
        reason: String,
    },
    /// Another deployment took its place, which is no rollback.
    Superseded {
        /// The other's revision.
        by: String,
    },
    /// The service is being deleted.
    Gone {
        /// `DRAINING` or `INACTIVE`.
        status: String,
    },
}

/// Our deployment's entry. Without an id it is the one of our revision that was not there before.
pub(super) fn entry<'a>(service: &'a Service, ours: &Ours) -> Option<&'a Deployment> {
    let by_id = service.deployments.iter().find(|deployment| !ours.id.is_empty() && deployment.id == ours.id);
    let is_new = |deployment: &&Deployment| deployment.task_definition == ours.revision && !ours.before.contains(&deployment.id);
    by_id.or_else(|| service.deployments.iter().filter(|_| ours.id.is_empty()).find(is_new))
}

/// Judges our deployment.
pub(super) fn judge(service: &Service, ours: &Ours) -> Verdict {
    if matches!(service.status.as_str(), "DRAINING" | "INACTIVE") {
        return Verdict::Gone { status: service.status.clone() };
    }
    let primary = service.primary();
    let leads_back =
        |primary: &Deployment| ours.back_to.as_ref() == Some(&primary.task_definition) && primary.task_definition != ours.revision;
    let Some(found) = entry(service, ours) else {
        return match primary {
            None => Verdict::Unseen,
            Some(primary) if !ours.seen && ours.before.contains(&primary.id) => Verdict::Unseen,
            // ECS drops a deployment from the list once its rollback is done.
            Some(primary) if leads_back(primary) => {
                Verdict::Failed { reason: "the deployment is gone, and the service is back on the revision before it".to_owned() }
            }
            Some(primary) => Verdict::Superseded { by: primary.task_definition.clone() },
        };
    };
    let is_primary = primary.is_some_and(|primary| std::ptr::eq(primary, found));
    match (found.rollout_state.as_deref(), primary) {
        (Some("FAILED"), _) => Verdict::Failed { reason: found.rollout_reason.clone().unwrap_or_else(|| "ECS gives no reason".to_owned()) },
        (Some("COMPLETED"), _) if is_primary => Verdict::Done,
        // Before there were rollout states, a deployment that was alone with all its tasks was complete.
        (None, _) if is_primary && service.deployments.len() == 1 && found.running >= found.desired && found.pending == 0 => Verdict::Done,
        (_, Some(primary)) if !is_primary && leads_back(primary) => {
            Verdict::Failed { reason: primary.rollout_reason.clone().unwrap_or_else(|| "ECS is rolling back".to_owned()) }
        }
        (_, Some(primary)) if !is_primary => Verdict::Superseded { by: primary.task_definition.clone() },
        _ => Verdict::Rolling { running: found.running, desired: found.desired, failed: found.failed_tasks },
    }
}

/// What a service deployment adds to the verdict: with stages of its own, a deployment is over only when it says so.
pub(super) fn with_stages(verdict: Verdict, staged: &ServiceDeployment) -> Verdict {
    let reason = || {
        let reason = staged.rollback_reason.as_ref().or(staged.reason.as_ref());
        reason.cloned().unwrap_or_else(|| format!("the service deployment is {}", staged.status))
    };
    match (&verdict, staged.status.as_str()) {
        // Before traffic is shifted the old revision may be the one in force: that is no way back.
        (Verdict::Failed { .. } | Verdict::Done | Verdict::Unseen, "PENDING" | "IN_PROGRESS") => {
            Verdict::Rolling { running: 0, desired: 0, failed: 0 }
        }
        (Verdict::Superseded { .. } | Verdict::Gone { .. } | Verdict::Failed { .. }, _) => verdict,
        (_, "SUCCESSFUL") => Verdict::Done,
        (_, "STOPPED" | "STOP_REQUESTED" | "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS" | "ROLLBACK_SUCCESSFUL" | "ROLLBACK_FAILED") => {
            Verdict::Failed { reason: reason() }
        }
        _ => verdict,
    }
}

/// Once our deployment is complete: does it alone serve, with all the tasks that it wants? Auto scaling may want more at any moment, and
/// draining takes its time, so nobody waits for this for long.
pub(super) fn serves_alone(service: &Service, ours: &Ours) -> bool {
    let own = entry(service, ours);
    own.is_none_or(|own| own.running >= own.desired)
        && service.deployments.iter().all(|other| own.is_some_and(|own| std::ptr::eq(own, other)) || other.running <= 0)
}

/// Where a service is on its way back after our deployment failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Back {
    /// It is still told to run our revision.
    NotBegun,
    /// It is told to run another, and does not yet.
    OnTheWay,
    /// This revision serves.
    Done(String),
    /// It could not be brought back.
    Failed(String),
}

/// How far the way back is.
pub(super) fn way_back(service: &Service, ours: &Ours) -> Back {
    let Some(primary) = service.primary() else { return Back::OnTheWay };
    let is_ours = entry(service, ours).is_some_and(|own| std::ptr::eq(own, primary)) || primary.task_definition == ours.revision;
    match primary.rollout_state.as_deref() {
        _ if is_ours => Back::NotBegun,
        Some("COMPLETED") => Back::Done(primary.task_definition.clone()),
        None if primary.running >= primary.desired && primary.pending == 0 => Back::Done(primary.task_definition.clone()),
        Some("FAILED") => Back::Failed(primary.rollout_reason.clone().unwrap_or_else(|| "ECS gives no reason".to_owned())),
        Some(_) | None => Back::OnTheWay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(id: &str, status: &str, revision: &str, state: &str) -> Deployment {
        Deployment {
            id: id.into(),
            status: status.into(),
            task_definition: revision.into(),
            rollout_state: Some(state.into()),
            rollout_reason: Some(format!("{state} it is")),
            failed_tasks: 0,
            running: 2,
            desired: 2,
            pending: 0,
            created_at: 0,
        }
    }

    fn service(deployments: Vec<Deployment>) -> Service {
        Service {
            name: "api".into(),
            arn: "arn".into(),
            status: "ACTIVE".into(),
            task_definition: deployments[0].task_definition.clone(),
            desired: 2,
            running: 2,
            pending: 0,
            controller: "ECS".into(),
            launch_type: None,
            scheduling: "REPLICA".into(),
            strategy: None,
            circuit_breaker: None,
            minimum_healthy_percent: None,
            maximum_percent: None,
            health_check_grace_seconds: None,
            deployments,
            events: Vec::new(),
            target_groups: Vec::new(),
            alternate_target_groups: Vec::new(),
            alarms: Vec::new(),
        }
    }

    fn ours() -> Ours {
        Ours { id: "ours".into(), revision: "td:2".into(), back_to: Some("td:1".into()), before: vec!["old".into()], seen: true }
    }

    fn ours_in(state: &str) -> Deployment {
        deployment("ours", "PRIMARY", "td:2", state)
    }

    #[test]
    fn only_our_own_deployment_counts() {
        let old = deployment("old", "ACTIVE", "td:1", "COMPLETED");
        assert!(matches!(judge(&service(vec![ours_in("IN_PROGRESS"), old.clone()]), &ours()), Verdict::Rolling { .. }));
        assert!(matches!(judge(&service(vec![ours_in("OF_NEXT_YEAR"), old.clone()]), &ours()), Verdict::Rolling { .. }));
        assert_eq!(judge(&service(vec![ours_in("COMPLETED"), old]), &ours()), Verdict::Done, "draining holds nobody up");
        let few = service(vec![Deployment { running: 1, ..ours_in("COMPLETED") }]);
        assert_eq!(judge(&few, &ours()), Verdict::Done, "auto scaling may want more at any moment");
        assert!(!serves_alone(&few, &ours()) && serves_alone(&service(vec![ours_in("COMPLETED")]), &ours()));
    }

    #[test]
    fn an_answer_from_before_the_update_says_nothing() {
        let old = service(vec![deployment("old", "PRIMARY", "td:1", "COMPLETED")]);
        assert_eq!(judge(&old, &Ours { seen: false, ..ours() }), Verdict::Unseen);
        assert!(matches!(judge(&old, &ours()), Verdict::Failed { .. }));
    }

    #[test]
    fn without_an_id_it_is_the_new_one_of_our_revision() {
        let nameless = Ours { id: String::new(), ..ours() };
        assert_eq!(judge(&service(vec![ours_in("COMPLETED")]), &nameless), Verdict::Done);
    }

    #[test]
    fn a_rollback_is_a_failure_however_it_shows() {
        let failed = deployment("ours", "ACTIVE", "td:2", "FAILED");
        let back = |state| deployment("back", "PRIMARY", "td:1", state);
        // ECS lists the failed one beside its rollback, drops it later, or shows the rollback before it says FAILED.
        for deployments in [
            vec![back("IN_PROGRESS"), failed.clone()],
            vec![failed, back("COMPLETED")],
            vec![back("COMPLETED")],
            vec![back("IN_PROGRESS"), deployment("ours", "ACTIVE", "td:2", "IN_PROGRESS")],
        ] {
            assert!(matches!(judge(&service(deployments.clone()), &ours()), Verdict::Failed { .. }), "{deployments:?}");
        }
        assert_eq!(way_back(&service(vec![back("COMPLETED")]), &ours()), Back::Done("td:1".into()));
        assert_eq!(way_back(&service(vec![back("IN_PROGRESS")]), &ours()), Back::OnTheWay);
        assert_eq!(way_back(&service(vec![ours_in("FAILED")]), &ours()), Back::NotBegun);
        assert_eq!(way_back(&service(vec![back("FAILED")]), &ours()), Back::Failed("FAILED it is".into()));
        // Behind a Classic Load Balancer there are no rollout states: API_Deployment.
        let stateless = |running| Deployment { rollout_state: None, running, ..back("") };
        assert_eq!(way_back(&service(vec![stateless(1)]), &ours()), Back::OnTheWay);
        assert_eq!(way_back(&service(vec![stateless(2)]), &ours()), Back::Done("td:1".into()));
    }

    #[test]
    fn somebody_elses_deployment_is_neither_success_nor_rollback() {
        let other = deployment("other", "PRIMARY", "td:3", "COMPLETED");
        let beside = deployment("ours", "ACTIVE", "td:2", "IN_PROGRESS");
        assert_eq!(judge(&service(vec![other.clone(), beside]), &ours()), Verdict::Superseded { by: "td:3".into() });
        assert_eq!(judge(&service(vec![other]), &ours()), Verdict::Superseded { by: "td:3".into() });
        let same = deployment("other", "PRIMARY", "td:2", "IN_PROGRESS");
        assert_eq!(judge(&service(vec![same]), &ours()), Verdict::Superseded { by: "td:2".into() });
    }

    #[test]
    fn stages_end_when_the_service_deployment_says_so() {
        let staged = |status: &str| ServiceDeployment { status: status.into(), ..ServiceDeployment::default() };
        assert!(matches!(with_stages(Verdict::Done, &staged("IN_PROGRESS")), Verdict::Rolling { .. }));
        assert_eq!(with_stages(Verdict::Unseen, &staged("SUCCESSFUL")), Verdict::Done);
        assert!(matches!(with_stages(Verdict::Done, &staged("ROLLBACK_IN_PROGRESS")), Verdict::Failed { .. }));
        let back = Verdict::Failed { reason: "ECS is rolling back".into() };
        assert!(matches!(with_stages(back.clone(), &staged("IN_PROGRESS")), Verdict::Rolling { .. }), "the old one is in force as yet");
        assert_eq!(with_stages(back.clone(), &staged("ROLLBACK_IN_PROGRESS")), back);
    }
}
