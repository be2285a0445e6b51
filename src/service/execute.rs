//! Rolls one service, and does not leave before it is known what serves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{Aws, Service, ServiceDeployment};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, Stage, UnitName};
use crate::probe;

use super::crash::Crashes;
use super::execute_back::Push;
use super::execute_leave::Phase;
use super::execute_schedules::{To, follow};
use super::execute_start::{again, resume, start};
use super::explain::{self, Cause};
use super::look::Looker;
use super::plan::{Action, Base, ServicePlan};
use super::revision::Definition;
use super::watch::{self, Ours, Verdict};

/// How long old tasks may go on, or new ones be missing, after ECS has said that the deployment is complete.
const DRAINING: Duration = Duration::from_secs(2);
/// How long looks may fail before it is said that nothing is known.
const BLIND: Duration = Duration::from_mins(1);
/// How long our deployment may stay out of ECS's answers.
const UNSEEN: Duration = Duration::from_mins(1);
/// For so long answers may be older than one that has shown our deployment.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html> (eventual consistency)
const OLD_ANSWERS: Duration = Duration::from_secs(5);
/// For so long after one rollout's end the others are looked at more often.
const NEAR: Duration = Duration::from_secs(4);
/// From so many services on that roll at once they are looked at more often.
const MANY: usize = 4;
/// How long ECS's own circuit breaker is waited for once as many tasks have crashed as it should count.
const BREAKER: Duration = Duration::from_secs(15);

/// What the rollouts of a stage share; cheap to clone.
#[derive(Clone)]
pub struct Rollouts {
    pub(super) aws: Aws,
    pub(super) probe: probe::Client,
    pub(super) events: Events,
    pub(super) looker: Looker,
    /// What has to be known of each when the run has to end.
    pub(super) board: Arc<Mutex<BTreeMap<UnitName, Phase>>>,
    /// The labels of every revision that is registered: of which release it is, of which commit.
    pub(super) labels: Arc<BTreeMap<String, String>>,
    pub(super) registered: Arc<tokio::sync::Mutex<u32>>,
    /// When the last rollout has come to its end: the others may be near theirs.
    ended: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for Rollouts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rollouts").finish_non_exhaustive()
    }
}

impl Rollouts {
    /// Begins to look at services, when somebody asks. `labels` are written into every revision that is registered.
    #[must_use]
    pub fn new(aws: &Aws, probe: &probe::Client, events: &Events, labels: BTreeMap<String, String>) -> Self {
        Self {
            aws: aws.clone(),
            probe: probe.clone(),
            events: events.clone(),
            looker: Looker::start(aws),
            board: Arc::default(),
            labels: Arc::new(labels),
            registered: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// Do so many services roll at this moment that a look costs each of them little?
    fn are_many(&self) -> bool {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.values().filter(|phase| matches!(phase, Phase::Rolling { .. })).count() >= MANY
    }

    pub(super) fn is(&self, name: &UnitName, phase: Phase) {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), phase);
    }
}

/// One service on its way.
pub(super) struct Rollout<'a> {
    pub(super) shared: &'a Rollouts,
    pub(super) name: &'a UnitName,
    pub(super) plan: &'a ServicePlan,
    pub(super) step: Step,
    pub(super) definition: Definition,
    pub(super) ours: Ours,
    pub(super) crashes: Crashes,
    pub(super) began: Instant,
    pub(super) cause: Option<Cause>,
    /// The service deployment that there was before ours.
    pub(super) earlier: Option<String>,
    /// Our own, once it has shown.
    staged: Option<String>,
    stage: Option<String>,
    pub(super) placement: bool,
    /// Since when as many tasks have crashed as are borne with.
    enough: Option<Instant>,
    pub(super) last: Option<Service>,
}

/// Rolls the service to `image`, and returns the ARN of the revision that serves it. `base` saves asking for the revision again.
///
/// # Errors
/// [`Exit::RolledBack`] and [`Exit::NotRolledBack`] when the rollout failed, [`Exit::RolloutTimeout`],
/// [`Exit::Superseded`]. Each says what serves now.
pub async fn roll(
    shared: &Rollouts,
    name: &UnitName,
    plan: &ServicePlan,
    image: &ImageUri,
    base: Option<&Base>,
) -> Result<String, Failure> {
    let step = Step::of(Stage::Services, name, "roll");
    let events = &shared.events;
    let rolled = events
        .step(step.clone(), async {
            let mut rollout = match &plan.action {
                Action::Nothing => return Ok((plan.from.clone(), Outcome::Unchanged, format!("{} serves", short(&plan.from)))),
                Action::Watch(deployment) => {
                    events.note(format!("{name}: the deployment `{deployment}` is under way already, and is watched"));
                    resume(shared, name, plan, step, deployment, base).await?
                }
                Action::Roll => start(shared, name, plan, step, image, base).await?,
                Action::Start => again(shared, name, plan, step, &plan.from).await?,
                Action::Return(revision) => again(shared, name, plan, step, revision).await?,
            };
            rollout.follow().await?;
            rollout.ask_health().await?;
            let revision = rollout.ours.revision.clone();
            Ok((revision.clone(), Outcome::Done, format!("{} serves {}", short(&revision), image.digest.short())))
        })
        .await;
    shared.is(name, Phase::Over);
    let revision = rolled?;
    follow(shared, name, plan, To::Revision(&revision)).await?;
    Ok(revision)
}

impl<'a> Rollout<'a> {
    #[expect(clippy::too_many_arguments, reason = "each is a field")]
    pub(super) fn new(
        shared: &'a Rollouts,
        name: &'a UnitName,
        plan: &'a ServicePlan,
        step: Step,
        definition: Definition,
        ours: Ours,
        service: Option<&Service>,
        earlier: Option<String>,
    ) -> Self {
        shared.is(name, Phase::rolling(plan, &ours));
        let crashes = Crashes::new(service);
        let (cause, stage, last) = (None, None, service.cloned());
        Self {
            shared,
            name,
            plan,
            step,
            definition,
            ours,
            crashes,
            began: Instant::now(),
            cause,
            earlier,
            staged: None,
            stage,
            placement: false,
            enough: None,
            last,
        }
    }

    /// Watches the deployment to its end.
    async fn follow(&mut self) -> Result<(), Failure> {
        let (mut blind, mut done): (Option<Instant>, Option<Instant>) = (None, None);
        let mut absent: Option<Instant> = None;
        let mut pause = self.pause();
        loop {
            let looked = self.shared.looker.look(&self.plan.cluster, &self.plan.service, pause).await;
            pause = self.pause();
            let verdict = match looked {
                Err(error) if error.is_denied() || error.is_expired_credentials() || error.is_no_credentials() => {
                    return Err(self.unknown(error));
                }
                Err(error) if blind.get_or_insert_with(Instant::now).elapsed() > BLIND => return Err(self.unknown(error)),
                Err(_) => {
                    if self.began.elapsed() > self.timeout() {
                        return Err(self.time_is_up().await);
                    }
                    continue;
                }
                Ok(None) => {
                    self.last = None;
                    Verdict::Gone { status: "MISSING".to_owned() }
                }
                Ok(Some(service)) => {
                    blind = None;
                    let verdict = self.judge(&service).await;
                    self.last = Some(service);
                    verdict
                }
            };
            // An answer may come from before our update, or from a part of ECS that has not heard of it: what ends a rollout by what is
            // not there has to go on showing.
            let by_absence = !self.is_listed() && !matches!(verdict, Verdict::Rolling { .. } | Verdict::Unseen | Verdict::Done);
            if by_absence && absent.get_or_insert_with(Instant::now).elapsed() < self.doubt() {
                pause = Duration::from_millis(500);
                continue;
            }
            if !by_absence {
                absent = None;
            }
            match verdict {
                Verdict::Done => {
                    let alone = self.last.as_ref().is_some_and(|service| watch::serves_alone(service, &self.ours));
                    *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                    if alone || done.get_or_insert_with(Instant::now).elapsed() >= DRAINING {
                        return Ok(());
                    }
                    pause = Duration::from_millis(500);
                    continue;
                }
                Verdict::Rolling { running, desired, .. } => {
                    let whole = |count: i32| u64::try_from(count).unwrap_or(0);
                    self.shared.events.progress(&self.step, whole(running), whole(desired), "tasks");
                }
                Verdict::Unseen if self.began.elapsed() > UNSEEN.min(self.timeout()) => {
                    let error = format!("ECS does not show the deployment `{}` that it has begun", self.ours.id);
                    return Err(self.person("its deployment does not show", error));
                }
                Verdict::Unseen => {}
                Verdict::Superseded { by } => return Err(self.superseded(&by)),
                Verdict::Gone { status } => return Err(self.person("the service is going away", format!("ECS says that it is {status}"))),
                Verdict::Failed { reason } => {
                    self.look_at_crashes(true).await;
                    let reason = self.with_details(reason).await;
                    self.explain_failure(&reason).await;
                    let push = if self.plan.way.rolls_back { Push::IfEcsDoesNot } else { Push::Now };
                    return Err(self.go_back(Exit::RolledBack, reason, push).await);
                }
            }
            self.look_at_crashes(false).await;
            if let Some(reason) = self.gives_up() {
                return Err(self.go_back(Exit::RolledBack, reason, Push::Now).await);
            }
            if self.began.elapsed() > self.timeout() {
                return Err(self.time_is_up().await);
            }
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.plan.timeout_seconds)
    }

    /// One look in a little over two seconds tells the end of a rollout soon enough, and costs half of what a look a second would.
    pub(super) fn pause(&self) -> Duration {
        let pause = match self.began.elapsed().as_secs() {
            _ if !self.crashes.tasks.is_empty() || self.is_another_done() => Duration::from_secs(1),
            // Many share one look.
            0..180 if self.shared.are_many() => Duration::from_millis(1200),
            0..180 => Duration::from_millis(2200),
            180..600 => Duration::from_secs(3),
            _ => Duration::from_secs(5),
        };
        // A timeout is kept to the second.
        pause.min(self.timeout().saturating_sub(self.began.elapsed()).max(Duration::from_millis(200)))
    }

    /// Has another service of the release come to its end just now?
    fn is_another_done(&self) -> bool {
        let ended = *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_some_and(|at| at.elapsed() < NEAR)
    }

    /// For how long an answer without our deployment may be a late one.
    fn doubt(&self) -> Duration {
        let primary = self.last.as_ref().and_then(Service::primary);
        // A rollback of ECS's is a deployment of its own: one that was there before ours, or none at all, is more likely an old answer.
        let is_old = primary.is_none_or(|primary| !primary.id.is_empty() && self.ours.before.contains(&primary.id));
        if is_old { OLD_ANSWERS } else { Duration::from_millis(400) }
    }

    fn is_listed(&self) -> bool {
        self.last.as_ref().is_some_and(|service| watch::entry(service, &self.ours).is_some())
    }

    async fn judge(&mut self, service: &Service) -> Verdict {
        let mut verdict = watch::judge(service, &self.ours);
        self.ours.seen |= watch::entry(service, &self.ours).is_some();
        let messages = self.crashes.notice(service, &self.ours);
        if !self.placement
            && let Some(message) = messages.iter().find(|message| explain::is_placement(message))
        {
            self.placement = true;
            let cause = explain::of_placement(&self.shared.aws, self.plan, &self.definition, message).await;
            self.say(cause);
        }
        if self.plan.way.is_staged()
            && let Some(staged) = self.service_deployment().await
        {
            if staged.lifecycle_stage.is_some() && staged.lifecycle_stage != self.stage {
                self.stage.clone_from(&staged.lifecycle_stage);
                let stage = staged.lifecycle_stage.as_deref().unwrap_or_default();
                self.shared.events.note(format!("{}: {} is at {stage}", self.name, self.plan.way.strategy));
            }
            verdict = watch::with_stages(verdict, &staged);
        }
        verdict
    }

    /// Our service deployment: the first one that shows and was not there before. Another one after it is somebody else's.
    async fn service_deployment(&mut self) -> Option<ServiceDeployment> {
        let aws = &self.shared.aws;
        let found = match &self.staged {
            Some(arn) => aws.described_deployment(arn).await,
            None => aws.service_deployment(&self.plan.cluster, &self.plan.service).await,
        };
        let found = found.ok().flatten().filter(|found| self.earlier.as_ref() != Some(&found.arn))?;
        self.staged = Some(found.arn.clone()).filter(|arn| !arn.is_empty());
        Some(found)
    }

    /// Is it time to give up without ECS? Its circuit breaker is left its turn where it is on and counts too.
    fn gives_up(&mut self) -> Option<String> {
        let failed = self.last.as_ref().and_then(|service| watch::entry(service, &self.ours)).map_or(0, |own| own.failed_tasks);
        let failed = usize::try_from(failed).unwrap_or_default();
        // Whoever may not read tasks still has ECS's own count.
        let crashed = self.crashes.tasks.len().max(failed);
        let limit = usize::try_from(self.plan.crashes).unwrap_or(usize::MAX);
        if crashed < limit {
            return None;
        }
        let counts = failed >= limit;
        if self.plan.way.breaker && self.plan.way.rolls_back && counts && self.enough.get_or_insert_with(Instant::now).elapsed() < BREAKER {
            return None;
        }
        let breaker = if self.plan.way.breaker { "its circuit breaker has not tripped" } else { "its circuit breaker is off" };
        Some(format!("{crashed} of its tasks have crashed, and {breaker}"))
    }

    async fn time_is_up(&mut self) -> Failure {
        self.look_at_crashes(true).await;
        self.explain_service().await;
        let reason = format!("it was not done after {} s", self.plan.timeout_seconds);
        if !self.plan.leave_after_timeout {
            return self.go_back(Exit::RolloutTimeout, reason, Push::Now).await;
        }
        let failure = Failure::new(Exit::RolloutTimeout, format!("service `{}`: the rollout timed out and was left as it is", self.name));
        let hint = format!("the deployment `{}` goes on in ECS; run the same command again to watch it", self.ours.id);
        failure.because(self.reasons(&reason)).hint(hint)
    }
}

/// `family:revision` of an ARN.
pub(super) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
