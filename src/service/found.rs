//! A service as it is found on ECS: all that a plan is drawn from.

use serde::{Deserialize, Serialize};

use super::revision::Definition;

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
    /// What starts tasks of its family at another revision than the family's newest; nobody has looked unless they are to follow.
    pub schedules: Vec<Schedule>,
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
    pub(super) fn is_deadlocked(&self) -> bool {
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

/// A rule or a schedule that starts tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The group of a schedule of `EventBridge` Scheduler; `None` for a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its name.
    pub name: String,
    /// The id of a rule's target.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The ARN of the revision that it starts.
    pub from: String,
}
