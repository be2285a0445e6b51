//! Builds and pushes one image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::aws::Aws;
use crate::docker::{self, Build, Built, Credentials, DockerError, Engine, Listener, Logins, Recipe};
use crate::event::{Events, Outcome, Step};
use crate::model::{Authority, BuildSecret, BuildStep, Exit, Failure, ImageUri, Made, Mask, SecretFrom, Stage, UnitName};

use super::plan::{BuildPlan, ImagePlan};
use super::{findings, push, sbom};

/// Builds the image and pushes it, unless the registry has it; `built` if this run has built it already. `names` are the services that
/// run it; the first stands for all. What is known of what went into it comes with it.
///
/// # Errors
/// [`Exit::Images`]; nothing live has changed.
pub async fn image(
    aws: &Aws,
    engine: Option<&Engine>,
    root: &Path,
    names: &[&UnitName],
    plan: &ImagePlan,
    built: bool,
    events: &Events,
) -> Result<(ImageUri, Option<Made>), Failure> {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let shown = names.join(", ");
    let (uri, mut made) = match plan.build.as_ref().zip(engine) {
        Some((build_plan, engine)) => {
            let (uri, made) = fresh(aws, engine, root, &shown, plan, build_plan, built, events).await?;
            (uri, Some(made))
        }
        None => (known(&shown, plan, events).await?, None),
    };
    if plan.sbom {
        sbom::write(aws, engine, root, &names, plan, &uri, events).await?;
        made.get_or_insert_default().sbom = Some(sbom::place(names[0]));
    }
    if let Some(policy) = plan.findings
        && let Some(found) = findings::judge(aws, &shown, plan, policy, uri.digest, events).await?
    {
        made.get_or_insert_default().findings = Some(found);
    }
    Ok((uri, made))
}

/// Where the bill of materials of a service's image lies, from the configuration's directory.
#[must_use]
pub fn bill_of(name: &UnitName) -> String {
    sbom::place(name.as_str())
}

/// The registry has it.
async fn known(shown: &str, plan: &ImagePlan, events: &Events) -> Result<ImageUri, Failure> {
    let step = Step::of(Stage::Images, shown, "image");
    let known = async {
        let digest =
            plan.present.ok_or_else(|| Failure::new(Exit::Bug, format!("service `{shown}`: no engine was connected for a build")))?;
        Ok((ImageUri { repository: plan.uri.clone(), digest }, Outcome::Unchanged, format!("{} is in the registry", plan.tag)))
    };
    events.step(step, known).await
}

#[expect(clippy::too_many_arguments, reason = "all of it comes from the plan and the world, and is handed on")]
async fn fresh(
    aws: &Aws,
    engine: &Engine,
    root: &Path,
    shown: &str,
    plan: &ImagePlan,
    build_plan: &BuildPlan,
    built: bool,
    events: &Events,
) -> Result<(ImageUri, Made), Failure> {
    if build_plan.create_repository {
        create(aws, shown, plan, events).await?;
    }
    let made = if built {
        made(engine, plan, build_plan, events).await
    } else {
        build(aws, engine, root, shown, plan, Step::of(Stage::Images, shown, "build"), events).await?
    };
    let id = docker::image_id(engine, &format!("{}:{}", plan.uri, plan.tag))
        .await
        .map_err(|error| failure(shown, error, &Mask::default(), events))?;
    let step = Step::of(Stage::Images, shown, "push");
    let digest = events.step(step.clone(), async {
        let (digest, sent) = push::push(aws, engine, shown, plan, &id, &step, events).await?;
        Ok((digest, Outcome::Done, format!("{} as {}, {sent}", plan.tag, digest.short())))
    });
    Ok((ImageUri { repository: plan.uri.clone(), digest: digest.await? }, made))
}

/// What the engine says of an image that it has built. It is worth a summary less, not a failure more.
async fn made(engine: &Engine, plan: &ImagePlan, build: &BuildPlan, events: &Events) -> Made {
    let bases: Vec<&str> = build.bases.iter().map(|base| base.image.as_str()).collect();
    let found = docker::anatomy(engine, &format!("{}:{}", plan.uri, plan.tag), &bases).await;
    let (mut layers, base) = found.unwrap_or_default();
    for layer in &mut layers {
        layer.by = events.masked(&layer.by);
    }
    let base = base.map(|place| {
        let base = &build.bases[place];
        if base.image.contains('@') { base.image.clone() } else { format!("{}@{}", base.image, base.digest) }
    });
    Made { base, layers, ..Made::default() }
}

async fn create(aws: &Aws, name: &str, plan: &ImagePlan, events: &Events) -> Result<(), Failure> {
    let repository = &plan.repository;
    events
        .step(Step::of(Stage::Images, name, "repository"), async {
            aws.create_repository(repository).await.map_err(|error| {
                let hint = error.hint();
                let what = format!("service `{name}`: creating the repository `{repository}` failed");
                let hint = hint.unwrap_or_else(|| "nothing live has changed; run again".to_owned());
                Failure::new(Exit::Images, what).because(error).hint(hint)
            })?;
            Ok(((), Outcome::Done, format!("created {repository}: immutable tags, scan on push, a lifecycle rule")))
        })
        .await
}

/// Builds the image and names it as it is to be pushed.
///
/// # Errors
/// [`Exit::Images`]; nothing live has changed.
pub async fn build(
    aws: &Aws,
    engine: &Engine,
    root: &Path,
    name: &str,
    plan: &ImagePlan,
    step: Step,
    events: &Events,
) -> Result<Made, Failure> {
    let failed = |error: DockerError| failure(name, error, &Mask::default(), events);
    let build =
        plan.build.as_ref().ok_or_else(|| Failure::new(Exit::Bug, format!("service `{name}`: nothing says how its image is built")))?;
    events
        .step(step.clone(), async {
            let recipe = Recipe {
                dockerfile: build.dockerfile.clone(),
                args: build.args.clone(),
                target: build.target.clone(),
                platform: build.platform.clone(),
            };
            let context = docker::scan(&root.join(&build.context), &build.dockerfile).map_err(failed)?;
            let logins = logins(aws, plan, build).await?;
            let secrets = secrets(root, name, build)?;
            // Nobody else knows these values: what a step prints of them is taken out here.
            let mask = Mask::new(secrets.values().filter_map(|value| Some(std::str::from_utf8(value).ok()?.trim().to_owned())));
            let mut heard = Heard { events, step: &step, mask: &mask };
            for base in &build.bases {
                if base.from == Authority::EngineInstead {
                    events.note(format!("{name}: the registry of {} did not answer: it counts as the engine has it", base.image));
                }
                docker::provide(engine, base, &build.platform, &logins, &mut |line: &str| heard.line(line)).await.map_err(failed)?;
            }
            let tag = format!("{}:{}", plan.uri, plan.tag);
            let cache_from = build.cache_from.as_ref().map(ToString::to_string);
            let cache_from = cache_from.as_deref();
            let wanted = Build {
                context: &context,
                recipe: &recipe,
                tags: vec![tag.clone()],
                labels: build.labels.clone(),
                no_cache: build.no_cache,
                cache_from: cache_from.as_slice(),
                logins: &logins,
                secrets: &secrets,
                optional_secrets: &build.optional_secrets,
                classic: std::env::var("DOCKER_BUILDKIT").as_deref() == Ok("0"),
            };
            let done = docker::build(engine, wanted, Heard { ..heard }).await.map_err(|error| failure(name, error, &mask, events))?;
            let built_for = docker::architecture(engine, &tag).await.map_err(failed)?;
            if built_for != build.platform {
                let failure =
                    Failure::new(Exit::Images, format!("service `{name}`: the image is for {built_for}, not for {}", build.platform));
                return Err(failure.hint("use a base image of the right platform, or correct `platform`"));
            }
            let mut made = made(engine, plan, build, events).await;
            for layer in &mut made.layers {
                layer.by = mask.apply(&layer.by);
                if !layer.of_base {
                    heard.line(&format!("{:>9}  {}", megabytes(layer.bytes), layer.by));
                }
            }
            let detail = summary(context.entries.len(), &built_for, &done, &made);
            let steps = done.steps.into_iter().map(|step| BuildStep { name: events.masked(&mask.apply(&step.name)), ..step });
            Ok((Made { steps: steps.collect(), ..made }, Outcome::Done, detail))
        })
        .await
}

/// Says what happens in a build: a line for each of its steps, when that has ended, and what it prints aside.
struct Heard<'a> {
    events: &'a Events,
    step: &'a Step,
    mask: &'a Mask,
}

impl Heard<'_> {
    /// A step of the build as it may be shown.
    fn part(&self, step: &str) -> String {
        self.events.masked(&self.mask.apply(step))
    }
}

impl Listener for Heard<'_> {
    fn line(&mut self, line: &str) {
        self.events.output(self.step, &self.mask.apply(line));
    }

    fn began(&mut self, step: &str) {
        self.events.part_begins(self.step, &self.part(step));
    }

    fn output(&mut self, step: &str, line: &str) {
        self.events.part_output(self.step, &self.part(step), &self.mask.apply(line));
    }

    fn amount(&mut self, step: &str, done: u64, total: u64) {
        // All of what is known by now may be there, and the step goes on.
        self.events.part(self.step, &self.part(step), done, if total > done { total } else { 0 }, "B");
    }

    fn ended(&mut self, step: &str, how: &str) {
        self.events.part_ends(self.step, &self.part(step));
        self.line(&format!("{step}: {how}"));
    }
}

/// Logins for the base images: those of the command line, and the account's own for its registry.
async fn logins(aws: &Aws, plan: &ImagePlan, build: &BuildPlan) -> Result<Logins, Failure> {
    let own = docker::host(&plan.uri);
    let logins = Logins::of_this_user();
    let hosts: BTreeSet<&str> = build.bases.iter().map(|base| docker::host(&base.image)).collect();
    if !hosts.contains(own) && build.cache_from.is_none() {
        return Ok(logins);
    }
    let token = aws.registry_credentials().await.map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| "run again".to_owned());
        Failure::new(Exit::Images, "asking ECR for a login failed").because(error).hint(format!("nothing live has changed; {hint}"))
    })?;
    Ok(logins.with(own, Credentials { username: token.username, password: token.password }))
}

/// The values of a build's secrets, read where they are and kept nowhere.
fn secrets(root: &Path, name: &str, build: &BuildPlan) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut secrets = BTreeMap::new();
    for BuildSecret { id, from } in &build.secrets {
        let (place, value) = match from {
            SecretFrom::Env(variable) => (format!("the variable `{variable}`"), std::env::var(variable).map(String::into_bytes).ok()),
            SecretFrom::File(path) => (format!("the file `{path}`"), std::fs::read(root.join(path)).ok()),
        };
        match value.filter(|value| !value.is_empty()) {
            Some(value) => drop(secrets.insert(id.clone(), value)),
            None if build.optional_secrets.contains(id) => {}
            None => {
                let failure = Failure::new(Exit::Images, format!("service `{name}`: the build's secret `{id}` is not there"));
                let failure = failure.because(format!("{place} is not set, empty, or cannot be read"));
                return Err(failure.hint("nothing live has changed; set it, and run again"));
            }
        }
    }
    Ok(secrets)
}

/// What a build came to: its files, its steps, how many of them were remembered, which took longest, and how large it is.
fn summary(files: usize, platform: &str, built: &Built, made: &Made) -> String {
    let mut text = format!("from {files} files for {platform}");
    if let Some(base) = &made.base {
        text = format!("{text} on {}", base.split('@').next().unwrap_or(base));
    }
    if built.buildkit {
        let cached = built.steps.iter().filter(|step| step.cached).count();
        text = format!("{text}, {} steps, {cached} cached", built.steps.len());
    } else {
        text += " by the classic builder";
    }
    if !made.layers.is_empty() {
        let bytes = |of_base: bool| made.layers.iter().filter(|layer| layer.of_base || !of_base).map(|layer| layer.bytes).sum::<u64>();
        let base = if made.base.is_some() { format!(", {} of them the base's", megabytes(bytes(true))) } else { String::new() };
        text = format!("{text}; {} in {} layers{base}", megabytes(bytes(false)), made.layers.len());
    }
    let slowest = built.steps.iter().filter(|step| !step.cached && step.seconds >= 1.0).max_by(|a, b| a.seconds.total_cmp(&b.seconds));
    if let Some(step) = slowest {
        text = format!("{text}; longest {:.1} s: {}", step.seconds, step.name);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// A build's failure ends with what the failing step has said last.
fn failure(name: &str, error: DockerError, mask: &Mask, events: &Events) -> Failure {
    let hint =
        error.hint().unwrap_or_else(|| "nothing live has changed; correct the Dockerfile or what it copies, and run again".to_owned());
    let failure = Failure::new(Exit::Images, format!("service `{name}`: building the image failed")).hint(hint);
    let shown = |text: &str| events.masked(&mask.apply(text));
    match &error {
        DockerError::Build { tail, .. } if !tail.is_empty() => {
            let lines = tail.iter().fold(String::new(), |text, line| text + "\n   | " + &shown(line));
            failure.because(format!("{}; its last lines:{lines}", shown(&error.to_string())))
        }
        _ => failure.because(error),
    }
}
