//! What a rollout says of itself: why its tasks stop, what ECS adds, and the failures that it ends with.

use crate::aws::AwsError;
use crate::model::{Exit, Failure};

use super::execute::{Rollout, short};
use super::explain::{self, Cause};
use super::watch;

/// So many lines of a log are shown where people read along, so that all that is said of a service fits 15 lines.
const SHOWN: usize = 5;

impl Rollout<'_> {
    /// Reads stopped tasks if anything hints at them, and explains the first that crashed.
    pub(super) async fn look_at_crashes(&mut self, at_any_rate: bool) {
        if !at_any_rate && !self.crashes.is_due() {
            return;
        }
        let (aws, plan) = (&self.shared.aws, self.plan);
        // What cannot be read is no reason to stop watching; the next hint asks again.
        let Ok(new) = self.crashes.read(aws, &plan.cluster, &plan.service, &self.ours).await else { return };
        let unexplained = self.cause.is_none() || self.placement;
        if let Some(first) = new.first().filter(|_| unexplained) {
            self.placement = false;
            let cause = explain::of_task(aws, plan, &self.definition, first).await;
            self.say(cause);
        }
    }

    /// Says why, once nothing else has.
    pub(super) async fn explain_service(&mut self) {
        if self.cause.is_none() {
            let since = self.last.as_ref().and_then(|service| watch::entry(service, &self.ours)).map_or(0, |own| own.created_at);
            let cause = explain::of_service(&self.shared.aws, self.plan, &self.definition, self.last.as_ref(), since).await;
            self.say(cause);
        }
    }

    /// Says why ECS has given up, where no task has crashed: its own reason, unless it only says that tasks did not start.
    pub(super) async fn explain_failure(&mut self, reason: &str) {
        let lower = reason.to_lowercase();
        let hint = match () {
            () if self.cause.is_some() || lower.contains("tasks failed") => return self.explain_service().await,
            () if lower.contains("alarm") => "look at what the alarm measures since the new version runs; correct it and release again",
            () if lower.contains("hook") => "look at the log of the service's lifecycle hook; correct the cause and release again",
            () => return self.explain_service().await,
        };
        self.say(Cause { headline: reason.to_owned(), lines: Vec::new(), hint: hint.to_owned() });
    }

    pub(super) fn say(&mut self, cause: Cause) {
        self.shared.events.note(format!("{}: {}", self.name, self.shared.events.masked(&cause.headline)));
        self.show(cause);
    }

    /// The lines of a cause whose headline has been said.
    pub(super) fn show(&mut self, cause: Cause) {
        let (aside, shown) = cause.lines.split_at(cause.lines.len().saturating_sub(SHOWN));
        for line in aside {
            self.shared.events.output_aside(&self.step, line);
        }
        if !aside.is_empty() {
            let text = format!("… {} lines before these: see the record, a JUnit file or --format json", aside.len());
            self.shared.events.remark(&self.step, text);
        }
        for line in shown {
            self.shared.events.output(&self.step, line);
        }
        self.cause = Some(cause);
    }

    /// What the service deployment adds to ECS's reason: alarms, and how many failures of how many.
    pub(super) async fn with_details(&self, reason: String) -> String {
        let mut details = Vec::new();
        let found = self.shared.aws.service_deployment(&self.plan.cluster, &self.plan.service).await.ok().flatten();
        if let Some(found) = found.filter(|found| self.earlier.as_ref() != Some(&found.arn)) {
            if !found.triggered_alarms.is_empty() {
                details.push(format!("alarm {}", found.triggered_alarms.join(", ")));
            }
            details.extend(found.failures.filter(|(count, _)| *count > 0).map(|(count, of)| format!("{count} of {of} failures")));
        }
        let alarms = self.last.as_ref().map(|service| service.alarms.join(", ")).unwrap_or_default();
        if details.is_empty() && reason.to_lowercase().contains("alarm") && !alarms.is_empty() && !reason.contains(&alarms) {
            details.push(format!("its alarms: {alarms}"));
        }
        if details.is_empty() { reason } else { format!("{} ({})", reason.trim_end_matches('.'), details.join("; ")) }
    }

    pub(super) fn superseded(&self, by: &str) -> Failure {
        let failure = Failure::new(Exit::Superseded, format!("service `{}`: someone else's deployment took the place of ours", self.name));
        let other = if by == self.ours.revision { "in a deployment of its own" } else { "instead" };
        let text = format!(
            "`{}` is told to run `{}` {other}; ours was `{}` with `{}`",
            self.plan.service,
            short(by),
            self.ours.id,
            short(&self.ours.revision)
        );
        failure.because(text).hint("find out who deploys this service beside windlass; run again to release over it")
    }

    /// What it came to cannot be known from here.
    pub(super) fn unknown(&self, error: AwsError) -> Failure {
        let cure = error.hint().map_or(String::new(), |hint| format!("{hint}; "));
        let failure = Failure::new(Exit::NotRolledBack, format!("service `{}`: watching the rollout failed", self.name)).because(error);
        failure.hint(format!("{cure}the deployment goes on by itself; run the same command again to watch it"))
    }

    pub(super) fn person(&self, how: &str, why: String) -> Failure {
        let failure = Failure::new(Exit::NotRolledBack, format!("service `{}`: {how}", self.name)).because(why);
        failure.hint(format!(
            "a person is needed: look at the service `{}` in the cluster `{}`; `{}` was to serve",
            self.plan.service,
            self.plan.cluster,
            short(&self.ours.revision)
        ))
    }
}
