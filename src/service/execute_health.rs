//! Asks the new version itself how it is, once ECS says that it is there: through the load balancer, or at a full URL.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Outcome, Step};
use crate::model::{Exit, Failure, Stage, UnitName};
use crate::probe::ProbeErrorKind;

use super::execute::{Rollout, Rollouts, short};
use super::execute_back::Push;
use super::execute_leave::Phase;
use super::explain;
use super::plan::ServicePlan;
use super::revision::Definition;
use super::watch::Ours;

/// How long the health URL may take to answer, unless the service's own timeout is shorter.
const HEALTH: Duration = Duration::from_mins(1);
/// How long a load balancer may be out of reach before it is taken to be closed to this machine.
const CLOSED: Duration = Duration::from_secs(10);
/// So many good answers in a row: while old tasks drain, a single one may be theirs.
const GOOD: u32 = 3;
/// Between two good answers.
const AGAIN: Duration = Duration::from_millis(250);

/// Asks for the health of a version that an earlier run has rolled without living to see it. `before` is the revision that served then.
///
/// # Errors
/// As [`super::execute::roll`].
pub async fn confirm(shared: &Rollouts, name: &UnitName, plan: &ServicePlan, before: &str) -> Result<(), Failure> {
    let step = Step::of(Stage::Services, name, "ask for health");
    let (id, revision, back_to) = (String::new(), plan.from.clone(), Some(before.to_owned()).filter(|before| *before != plan.from));
    let ours = Ours { id, revision, back_to, before: Vec::new(), seen: true };
    let mut rollout = Rollout::new(shared, name, plan, step.clone(), Definition::new(serde_json::Value::Null), ours, None, None);
    let work = async {
        rollout.ask_health().await?;
        Ok(((), Outcome::Done, format!("{} is well", short(&plan.from))))
    };
    let confirmed = shared.events.step(step, work).await;
    shared.is(name, Phase::Over);
    confirmed
}

impl Rollout<'_> {
    /// Asks until the health URL answers as it should; rolls back if it does not.
    pub(super) async fn ask_health(&mut self) -> Result<(), Failure> {
        let Some(health) = &self.plan.health else { return Ok(()) };
        self.shared.is(self.name, Phase::rolling(self.plan, &self.ours).complete());
        let (url, by_path) = if health.starts_with('/') {
            match self.through_balancer(health).await {
                Ok(url) => (url, true),
                Err(why) => {
                    self.shared.events.note(format!("{}: `{health}` is not asked: {why}", self.name));
                    return Ok(());
                }
            }
        } else {
            (health.clone(), false)
        };
        let patience = HEALTH.min(Duration::from_secs(self.plan.timeout_seconds));
        let start = Instant::now();
        let (mut good, mut answered) = (0, false);
        loop {
            let wrong = match self.shared.probe.get(&url).await {
                Ok(page) => {
                    answered = true;
                    let holds = self.plan.health_holds.as_ref().is_none_or(|text| String::from_utf8_lossy(&page.body).contains(text));
                    match page.status {
                        200..300 if holds => None,
                        200..300 => {
                            let text = self.plan.health_holds.as_deref().unwrap_or_default();
                            Some(format!("`{url}` answers {} without `{text}`: it is not the release that answers", page.status))
                        }
                        status => Some(format!("`{url}` answers {status}")),
                    }
                }
                // One that takes the connection is not closed to this machine, and its silence is that of what stands behind it.
                Err(error) if by_path && !answered && start.elapsed() > CLOSED && error.kind == ProbeErrorKind::Unreachable => {
                    self.shared
                        .events
                        .note(format!("{}: `{url}` cannot be asked from here, and is left to the load balancer: {error}", self.name));
                    return Ok(());
                }
                Err(error) => Some(error.to_string()),
            };
            let Some(wrong) = wrong else {
                good += 1;
                if good >= GOOD {
                    return Ok(());
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            good = 0;
            if start.elapsed() > patience {
                self.shared.events.note(format!("{}: ECS says that it is deployed, but {wrong}", self.name));
                self.explain_unwell(&wrong).await;
                let reason = format!("ECS calls it complete, but {wrong}");
                return Err(self.go_back(Exit::RolledBack, reason, Push::Now).await);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Says why it does not answer as it should: a task that has crashed since, or what one says that runs.
    async fn explain_unwell(&mut self, wrong: &str) {
        self.look_at_crashes(true).await;
        if self.cause.is_none() {
            let cause = explain::of_unwell(&self.shared.aws, self.plan, &self.definition, &self.ours.revision, wrong).await;
            self.show(cause);
        }
    }

    /// The URL of a path behind the service's load balancer, or why there is none to ask.
    async fn through_balancer(&self, path: &str) -> Result<String, String> {
        let groups = &self.plan.way.target_groups;
        if groups.is_empty() {
            return Err("the service has no load balancer".to_owned());
        }
        // Of several, one may be for another protocol.
        let mut found = None;
        for group in groups {
            found = self.shared.aws.listener(group).await.map_err(|error| error.to_string())?;
            if found.is_some() {
                break;
            }
        }
        let Some(listener) = found else {
            let which = if groups.len() == 1 { "its target group" } else { "any of its target groups" };
            return Err(format!("no HTTP listener forwards to {which}"));
        };
        if let Some(header) = &listener.rule_header {
            return Err(format!(
                "its load balancer forwards only what has the header `{header}`; give a full URL under `health`, by way of the distribution"
            ));
        }
        let scheme = listener.protocol.to_lowercase();
        if scheme == "https" && listener.rule_host.is_none() {
            return Err("its load balancer's certificate is for another name; give a full URL under `health`".to_owned());
        }
        let host = listener.rule_host.unwrap_or(listener.host);
        let port = if matches!((scheme.as_str(), listener.port), ("http", 80) | ("https", 443)) {
            String::new()
        } else {
            format!(":{}", listener.port)
        };
        Ok(format!("{scheme}://{host}{port}{path}"))
    }
}
