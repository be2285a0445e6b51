//! Follows one deployment to its end, by its id.
//!
//! `services-stable` asks whether a service has come to rest, which it has after a rollback too; that is why it is not asked.
//! Judged by `deployments[]` of `DescribeServices`, whose `rolloutState` AWS defines:
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html>

use crate::aws::{Deployment, Service};

/// What one look at a service says of our deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
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
}

/// Judges our deployment `id`, whose service ran the revision `before`.
pub(super) fn judge(service: &Service, id: &str, before: &str) -> Verdict {
    let Some(ours) = service.deployments.iter().find(|deployment| deployment.id == id) else {
        return match service.primary() {
            Some(primary) if primary.task_definition != before => Verdict::Superseded { by: primary.task_definition.clone() },
            // ECS drops a deployment from the list once its rollback is done.
            _ => Verdict::Failed { reason: "the deployment is gone, and the service is back on the revision before it".to_owned() },
        };
    };
    let is_primary = ours.status == "PRIMARY";
    match ours.rollout_state.as_deref() {
        Some("FAILED") => Verdict::Failed { reason: ours.rollout_reason.clone().unwrap_or_else(|| "ECS gives no reason".to_owned()) },
        Some("COMPLETED") if is_primary => Verdict::Done,
        _ if !is_primary => match service.primary() {
            Some(primary) if primary.task_definition == before => {
                Verdict::Failed { reason: primary.rollout_reason.clone().unwrap_or_else(|| "ECS is rolling back".to_owned()) }
            }
            Some(primary) => Verdict::Superseded { by: primary.task_definition.clone() },
            None => rolling(ours),
        },
        _ => rolling(ours),
    }
}

fn rolling(deployment: &Deployment) -> Verdict {
    Verdict::Rolling { running: deployment.running, desired: deployment.desired, failed: deployment.failed_tasks }
}

/// Once our deployment is complete: does it alone serve, with all the tasks that it wants? Auto scaling may want more at any moment, and
/// draining takes its time, so nobody waits for this for long.
pub(super) fn serves_alone(service: &Service, id: &str) -> bool {
    service
        .deployments
        .iter()
        .all(|deployment| if deployment.id == id { deployment.running >= deployment.desired } else { deployment.running <= 0 })
}

/// After our deployment failed: is the service back on the revision before it?
pub(super) fn is_back(service: &Service, before: &str) -> bool {
    service.primary().is_some_and(|primary| {
        let settled = matches!(primary.rollout_state.as_deref(), Some("COMPLETED") | None);
        primary.task_definition == before && settled
    })
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
        }
    }

    #[test]
    fn only_our_own_deployment_counts() {
        let ours = |state| deployment("ours", "PRIMARY", "td:2", state);
        let old = deployment("old", "ACTIVE", "td:1", "COMPLETED");
        assert!(matches!(judge(&service(vec![ours("IN_PROGRESS"), old.clone()]), "ours", "td:1"), Verdict::Rolling { .. }));
        assert_eq!(judge(&service(vec![ours("COMPLETED"), old]), "ours", "td:1"), Verdict::Done, "draining holds nobody up");
        let few = service(vec![Deployment { running: 1, ..ours("COMPLETED") }]);
        assert_eq!(judge(&few, "ours", "td:1"), Verdict::Done, "auto scaling may want more at any moment");
        assert!(!serves_alone(&few, "ours") && serves_alone(&service(vec![ours("COMPLETED")]), "ours"));
    }

    #[test]
    fn a_rollback_is_a_failure_however_it_shows() {
        let failed = deployment("ours", "ACTIVE", "td:2", "FAILED");
        let back = |state| deployment("old", "PRIMARY", "td:1", state);
        // ECS lists the failed one beside its rollback, drops it later, or shows the rollback before it says FAILED.
        for deployments in [
            vec![back("IN_PROGRESS"), failed.clone()],
            vec![failed, back("COMPLETED")],
            vec![back("COMPLETED")],
            vec![back("IN_PROGRESS"), deployment("ours", "ACTIVE", "td:2", "IN_PROGRESS")],
        ] {
            assert!(matches!(judge(&service(deployments.clone()), "ours", "td:1"), Verdict::Failed { .. }), "{deployments:?}");
        }
        assert!(is_back(&service(vec![back("COMPLETED")]), "td:1"));
        assert!(!is_back(&service(vec![back("IN_PROGRESS")]), "td:1"));
    }

    #[test]
    fn somebody_elses_deployment_is_neither_success_nor_rollback() {
        let other = deployment("other", "PRIMARY", "td:3", "COMPLETED");
        let ours = deployment("ours", "ACTIVE", "td:2", "IN_PROGRESS");
        assert_eq!(judge(&service(vec![other.clone(), ours]), "ours", "td:1"), Verdict::Superseded { by: "td:3".into() });
        assert_eq!(judge(&service(vec![other]), "ours", "td:1"), Verdict::Superseded { by: "td:3".into() });
    }
}
