//! Rolls one service, and does not leave before it is known what serves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{Aws, AwsError, Service};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, Stage, UnitName};
use crate::probe;

use super::crash::Crashes;
use super::execute_back::Push;
use super::execute_leave::Phase;
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
/// For so long after one rollout's end the others are looked at more often.
const NEAR: Duration = Duration::from_secs(4);
/// How long ECS's own circuit breaker is waited for once as many tasks have crashed as it should count.
const BREAKER: Duration = Duration::from_secs(15);
/// `RegisterTaskDefinition` allows a burst, then one a second: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>
const BURST: u32 = 15;

/// What the rollouts of a stage share; cheap to clone.
#[derive(Clone)]
pub struct Rollouts {
    pub(super) aws: Aws,
    pub(super) probe: probe::Client,
    pub(super) events: Events,
    pub(super) looker: Looker,
    /// What has to be known of each when the run has to end.
    pub(super) board: Arc<Mutex<BTreeMap<UnitName, Phase>>>,
    registered: Arc<tokio::sync::Mutex<u32>>,
    /// When the last rollout has come to its end: the others may be near theirs.
    ended: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for Rollouts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rollouts").finish_non_exhaustive()
    }
}

impl Rollouts {
    /// Begins to look at services, when somebody asks.
    #[must_use]
    pub fn new(aws: &Aws, probe: &probe::Client, events: &Events) -> Self {
        Self {
            aws: aws.clone(),
            probe: probe.clone(),
            events: events.clone(),
            looker: Looker::start(aws),
            board: Arc::default(),
            registered: Arc::default(),
            ended: Arc::default(),
        }
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
    earlier: Option<String>,
    stage: Option<String>,
    placement: bool,
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
    rolled
}

/// The failure before ECS was told anything.
fn not_started(name: &UnitName, plan: &ServicePlan, error: AwsError) -> Failure {
    let cure = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
    let hint = format!("`{}` serves as before; {cure}", short(&plan.from));
    Failure::new(Exit::RolledBack, format!("service `{name}`: starting the rollout failed")).because(error).hint(hint)
}

/// Registers the next revision, unless there is an equal one, and tells the service to run it.
async fn start<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    image: &ImageUri,
    base: Option<&Base>,
) -> Result<Rollout<'a>, Failure> {
    let failed = |error| not_started(name, plan, error);
    let aws = &shared.aws;
    shared.is(name, Phase::Registering);
    let current = match base {
        Some(base) => base.current.clone(),
        None => Definition::new(aws.task_definition(&plan.from).await.map_err(failed)?.document().clone()),
    };
    let next = current.next(&plan.container, &image.to_string(), &plan.environment);
    let newest = base.and_then(|base| base.newest.as_ref()).filter(|(_, newest)| newest.is_equal(&next));
    let revision = if next.is_equal(&current) {
        plan.from.clone()
    } else if let Some((arn, _)) = newest {
        shared.events.note(format!("{name}: `{}` is that revision already, and is used", short(arn)));
        arn.clone()
    } else {
        let mut registered = shared.registered.lock().await;
        if *registered >= BURST {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        *registered += 1;
        drop(registered);
        aws.register_task_definition(next.document()).await.map_err(failed)?
    };
    begin(shared, name, plan, step, next, revision).await
}

/// Tells the service to run a revision that served before.
async fn again<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    revision: &str,
) -> Result<Rollout<'a>, Failure> {
    let read = shared.aws.task_definition(revision).await.map_err(|error| not_started(name, plan, error))?;
    begin(shared, name, plan, step, Definition::new(read.document().clone()), revision.to_owned()).await
}

/// Tells the service to run the revision.
async fn begin<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    next: Definition,
    revision: String,
) -> Result<Rollout<'a>, Failure> {
    let (aws, failed) = (&shared.aws, |error| not_started(name, plan, error));
    let earlier = if plan.way.is_staged() {
        aws.service_deployment(&plan.cluster, &plan.service).await.ok().flatten().map(|deployment| deployment.arn)
    } else {
        None
    };
    shared.is(name, Phase::Starting);
    // A service that is told to run the revision that it has fails at begins a new deployment only when it is forced to.
    let service = aws.roll_service(&plan.cluster, &plan.service, &revision, revision == plan.from, plan.tasks).await.map_err(failed)?;
    let own = service.primary().filter(|primary| primary.task_definition == revision);
    let id = own.map(|own| own.id.clone()).unwrap_or_default();
    let before = service.deployments.iter().map(|deployment| deployment.id.clone()).filter(|other| *other != id).collect();
    let back_to = plan.back_to.clone().filter(|back_to| *back_to != revision);
    let ours = Ours { id, revision, back_to, before, seen: false };
    Ok(Rollout::new(shared, name, plan, step, next, ours, Some(&service), earlier))
}

/// Takes up a deployment that an earlier run has begun.
async fn resume<'a>(
    shared: &'a Rollouts,
    name: &'a UnitName,
    plan: &'a ServicePlan,
    step: Step,
    deployment: &str,
    base: Option<&Base>,
) -> Result<Rollout<'a>, Failure> {
    let definition = if let Some(base) = base {
        base.current.clone()
    } else {
        let read = shared.aws.task_definition(&plan.from).await;
        Definition::new(read.map_err(|error| not_started(name, plan, error))?.document().clone())
    };
    let back_to = plan.back_to.clone().filter(|back_to| *back_to != plan.from);
    let ours = Ours { id: deployment.to_owned(), revision: plan.from.clone(), back_to, before: Vec::new(), seen: true };
    Ok(Rollout::new(shared, name, plan, step, definition, ours, None, None))
}

impl<'a> Rollout<'a> {
    #[expect(clippy::too_many_arguments, reason = "each is a field")]
    fn new(
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
            stage,
            placement: false,
            enough: None,
            last,
        }
    }

    /// Watches the deployment to its end.
    async fn follow(&mut self) -> Result<(), Failure> {
        let (mut blind, mut done): (Option<Instant>, Option<Instant>) = (None, None);
        let mut confirmed = false;
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
                Ok(None) => Verdict::Gone { status: "MISSING".to_owned() },
                Ok(Some(service)) => {
                    blind = None;
                    let verdict = self.judge(&service).await;
                    self.last = Some(service);
                    verdict
                }
            };
            // An answer may come from before our update, or from a part of ECS that has not heard of it: what ends a rollout by what is
            // not there has to show twice.
            let by_absence = !self.is_listed() && !matches!(verdict, Verdict::Rolling { .. } | Verdict::Unseen | Verdict::Done);
            if by_absence && !confirmed {
                confirmed = true;
                pause = Duration::from_millis(500);
                continue;
            }
            confirmed = by_absence;
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
            && let Ok(Some(staged)) = self.shared.aws.service_deployment(&self.plan.cluster, &self.plan.service).await
            && self.earlier.as_ref() != Some(&staged.arn)
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

    /// Reads stopped tasks if anything hints at them, and explains the first that crashed.
    async fn look_at_crashes(&mut self, at_any_rate: bool) {
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
    async fn explain_failure(&mut self, reason: &str) {
        let lower = reason.to_lowercase();
        let hint = match () {
            () if self.cause.is_some() || lower.contains("tasks failed") => return self.explain_service().await,
            () if lower.contains("alarm") => "look at what the alarm measures since the new version runs; correct it and release again",
            () if lower.contains("hook") => "look at the log of the service's lifecycle hook; correct the cause and release again",
            () => return self.explain_service().await,
        };
        self.say(Cause { headline: reason.to_owned(), lines: Vec::new(), hint: hint.to_owned() });
    }

    fn say(&mut self, cause: Cause) {
        self.shared.events.note(format!("{}: {}", self.name, self.shared.events.masked(&cause.headline)));
        for line in &cause.lines {
            self.shared.events.output(&self.step, line);
        }
        self.cause = Some(cause);
    }

    /// Is it time to give up without ECS? Its circuit breaker is left its turn where it is on and counts too.
    fn gives_up(&mut self) -> Option<String> {
        let crashed = self.crashes.tasks.len();
        let limit = usize::try_from(self.plan.crashes).unwrap_or(usize::MAX);
        if crashed < limit {
            return None;
        }
        let failed = self.last.as_ref().and_then(|service| watch::entry(service, &self.ours)).map_or(0, |own| own.failed_tasks);
        let counts = usize::try_from(failed).unwrap_or_default() >= limit;
        if self.plan.way.breaker && self.plan.way.rolls_back && counts && self.enough.get_or_insert_with(Instant::now).elapsed() < BREAKER {
            return None;
        }
        let breaker = if self.plan.way.breaker { "its circuit breaker has not tripped" } else { "its circuit breaker is off" };
        Some(format!("{crashed} of its tasks have crashed, and {breaker}"))
    }

    /// What the service deployment adds to ECS's reason: alarms, and how many failures of how many.
    async fn with_details(&self, reason: String) -> String {
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

    fn superseded(&self, by: &str) -> Failure {
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
    fn unknown(&self, error: AwsError) -> Failure {
        let cure = error.hint().map_or(String::new(), |hint| format!("{hint}; "));
        let failure = Failure::new(Exit::NotRolledBack, format!("service `{}`: watching the rollout failed", self.name)).because(error);
        failure.hint(format!("{cure}the deployment goes on by itself; run the same command again to watch it"))
    }

    fn person(&self, how: &str, why: String) -> Failure {
        let failure = Failure::new(Exit::NotRolledBack, format!("service `{}`: {how}", self.name)).because(why);
        failure.hint(format!(
            "a person is needed: look at the service `{}` in the cluster `{}`; `{}` was to serve",
            self.plan.service,
            self.plan.cluster,
            short(&self.ours.revision)
        ))
    }
}

/// `family:revision` of an ARN.
pub(super) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
