//! What goes on in ECS when a run has to end before its rollouts have.

use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;

use crate::model::UnitName;

use super::execute::{Rollouts, short};
use super::execute_back::push;
use super::plan::ServicePlan;
use super::watch::Ours;

pub use super::execute_back::undo;

/// How long ECS may take to accept that deployments are stopped.
const STOPPING: Duration = Duration::from_secs(3);

/// What a rollout is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// ECS has been told nothing that anybody notices.
    Registering,
    /// ECS is being told.
    Starting,
    /// ECS rolls.
    Rolling { deployment: String, revision: String, cluster: String, service: String, back_to: Option<String>, complete: bool },
    /// ECS goes back.
    Back { to: Option<String> },
    /// It has come to its end.
    Over,
}

impl Phase {
    pub(super) fn rolling(plan: &ServicePlan, ours: &Ours) -> Self {
        Self::Rolling {
            deployment: ours.id.clone(),
            revision: ours.revision.clone(),
            cluster: plan.cluster.clone(),
            service: plan.service.clone(),
            back_to: ours.back_to.clone(),
            complete: false,
        }
    }

    /// ECS is done, and the new version's health is asked for.
    pub(super) fn complete(self) -> Self {
        match self {
            Self::Rolling { deployment, revision, cluster, service, back_to, .. } => {
                Self::Rolling { deployment, revision, cluster, service, back_to, complete: true }
            }
            other => other,
        }
    }

    pub(super) fn going_back(plan: &ServicePlan) -> Self {
        Self::Back { to: plan.back_to.clone() }
    }
}

impl Rollouts {
    /// Is ECS being told something at this moment?
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).values().any(|phase| *phase == Phase::Starting)
    }

    /// What goes on in ECS, service by service; with `stop`, deployments that are under way are rolled back first.
    pub async fn leave(&self, stop: bool) -> Vec<String> {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(board.into_iter().map(|(name, phase)| self.left(name, phase, stop))).await.into_iter().flatten().collect()
    }

    async fn left(&self, name: UnitName, phase: Phase, stop: bool) -> Option<String> {
        Some(match phase {
            Phase::Over => return None,
            Phase::Registering => format!("`{name}` has not begun to roll"),
            Phase::Starting => format!("`{name}`: ECS may have begun to roll it"),
            Phase::Back { to } => match to {
                Some(to) => format!("`{name}` goes back to `{}` in ECS", short(&to)),
                None => format!("`{name}` goes back in ECS"),
            },
            Phase::Rolling { cluster, service, back_to: Some(to), .. } if stop => {
                match tokio::time::timeout(STOPPING, push(&self.aws, &cluster, &service, &to)).await {
                    Ok(Ok(_)) => format!("`{name}` is stopped, and goes back to `{}` in ECS", short(&to)),
                    Ok(Err(error)) => format!("`{name}` could not be stopped and goes on in ECS ({error})"),
                    Err(_) => format!("`{name}` was to be stopped, and ECS has not answered"),
                }
            }
            Phase::Rolling { revision, complete: true, .. } => {
                format!("`{name}` runs `{}` in ECS, whose health has not been seen", short(&revision))
            }
            Phase::Rolling { deployment, revision, .. } => {
                format!("`{name}` goes on to `{}` in ECS (deployment {deployment})", short(&revision))
            }
        })
    }
}
