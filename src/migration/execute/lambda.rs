//! A migration in a Lambda function: its code is the release's, and a version of it is invoked once.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::aws::{AwsError, Condition, Function, FunctionCode, Invocation};
use crate::event::{Outcome, Step};
use crate::journal::MigrationAttempt;
use crate::model::{Exit, Failure, Headers, Sha256, Stage};

use super::super::handler::Kind;
use super::super::plan::MadeOf;
use super::super::verdict::{self, Answer, Trouble};
use super::super::zip::code_sha256;
use super::follow::{End, Follower, Read, read};
use super::{Came, Found, NOT_ROLLED, One, bundle, derive};

/// How long Lambda may take to make a function ready with other code.
const UPDATE: Duration = Duration::from_mins(5);
/// How long an invocation that is refused for want of room is tried again. It has not begun.
const REFUSED: Duration = Duration::from_mins(2);
/// For so long a version that was just published may not be known.
const LATE: Duration = Duration::from_secs(8);
/// When the log of a migration that has not answered yet is looked at first, and how often then.
const LOOK: Duration = Duration::from_secs(2);
/// How long the rest of a log is waited for when the function has answered.
const REST: Duration = Duration::from_secs(10);
/// So many of the last lines of the function's log are shown where it is not followed.
const LOG_LINES: usize = 30;

/// The largest zip that goes into a request: 50 MB.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const IN_A_REQUEST: usize = 50_000_000;

/// A function that is ready to migrate.
pub(super) struct Target {
    pub(super) name: String,
    /// The version that was published of its code.
    pub(super) version: Option<String>,
    /// What its code is: an image by its digest, or a zip's SHA-256.
    pub(super) code: String,
    /// Is it a zip?
    pub(super) is_zip: bool,
    pub(super) log_group: String,
    timeout: Duration,
    /// Is its handler one of windlass's, which can be asked for the state without harm?
    pub(super) ours: bool,
    /// Has windlass put its handler there?
    has_handler: bool,
}

/// Brings the function to the release's image, and publishes a version of it.
pub(super) async fn prepare(one: &One<'_>, name: &str, handler: Option<Kind>) -> Result<Target, Failure> {
    let failed = |what: &str, error: AwsError| failed(one, name, what, error);
    let aws = one.run.aws;
    let current = aws.function(name).await.map_err(|error| failed("looking at", error))?;
    let uri = match handler {
        Some(kind) => {
            let arm = current.as_ref().is_some_and(|function| function.architecture == "arm64");
            derive::image(one, kind, if arm { "linux/arm64" } else { "linux/amd64" }).await?
        }
        None => one.image.clone(),
    };
    let text = uri.to_string();
    let failed_before = current.as_ref().is_some_and(has_failed);
    let mut ready = current.filter(|function| runs(function, &text));
    if ready.is_none() {
        let work = async {
            update(one, name, FunctionCode::Image(&text), &failed).await?;
            let function = wait(one, name, |function| runs(function, &text), failed_before, &failed).await?;
            Ok((function, Outcome::Done, format!("{name} runs {}", uri.digest.short())))
        };
        ready = Some(one.run.events.step(Step::of(Stage::Migrations, one.name, "update code"), work).await?);
    }
    let Some(function) = ready else { return Err(Failure::new(Exit::Bug, format!("migration `{}`: no function", one.name))) };
    let version = publish(one, name, &function, &failed).await?;
    Ok(Target {
        name: name.to_owned(),
        version: Some(version),
        code: text,
        is_zip: false,
        log_group: function.log_group,
        timeout: function.timeout,
        ours: handler.is_some(),
        has_handler: handler.is_some(),
    })
}

/// Brings the function to its zip, and publishes a version of it.
pub(super) async fn prepare_zip(one: &One<'_>, name: &str, handler: Option<Kind>, of: &MadeOf) -> Result<Target, Failure> {
    let failed = |what: &str, error: AwsError| failed(one, name, what, error);
    let current = one.run.aws.function(name).await.map_err(|error| failed("looking at", error))?;
    let Some(current) = current else {
        let failure = Failure::new(Exit::Migration, format!("migration `{}`: the function `{name}` is gone", one.name));
        return Err(failure.hint("no migration was run and no service was rolled; create it anew, and run the same command again"));
    };
    let zip = bundle::made(one, &current, handler, of).await?;
    let digest = Sha256::of(&zip);
    let code = code_sha256(&digest);
    // An endpoint that names no digest is given the code each time.
    let holds = |function: &Function| {
        let same = function.code_sha256 == code || function.code_sha256.is_empty();
        same && matches!(function.last_update_status.as_str(), "Successful" | "")
    };
    let failed_before = has_failed(&current);
    let mut ready = Some(current).filter(|function| !function.code_sha256.is_empty() && holds(function) && !failed_before);
    if ready.is_none() {
        let work = async {
            let size = zip.len();
            let key = in_bucket(one, zip.as_slice(), digest).await?;
            let code = match &key {
                Some((bucket, key)) => FunctionCode::ZipInBucket(bucket, key),
                None => FunctionCode::Zip(&zip),
            };
            update(one, name, code, &failed).await?;
            let function = wait(one, name, holds, failed_before, &failed).await?;
            Ok((function, Outcome::Done, format!("{name} runs the zip {} ({} KB)", &digest.to_string()[..12], size / 1024)))
        };
        ready = Some(one.run.events.step(Step::of(Stage::Migrations, one.name, "update code"), work).await?);
    }
    let Some(function) = ready else { return Err(Failure::new(Exit::Bug, format!("migration `{}`: no function", one.name))) };
    let version = publish(one, name, &function, &failed).await?;
    Ok(Target {
        name: name.to_owned(),
        version: Some(version),
        code,
        is_zip: true,
        log_group: function.log_group,
        timeout: function.timeout,
        ours: handler.is_some(),
        has_handler: handler.is_some(),
    })
}

/// Puts a zip that is too large for a request into the state's bucket, and says where it lies.
async fn in_bucket(one: &One<'_>, zip: &[u8], digest: Sha256) -> Result<Option<(String, String)>, Failure> {
    if zip.len() <= IN_A_REQUEST {
        return Ok(None);
    }
    let what = format!("migration `{}`: its zip has {} MB, and Lambda takes 50 MB in a request", one.name, zip.len() / 1_000_000);
    let Some(journal) = one.run.journal else {
        let failure = Failure::new(Exit::Migration, what);
        return Err(
            failure.hint("nothing was migrated; name a bucket under `state`: a larger zip goes through it, of up to 250 MB unpacked")
        );
    };
    let (bucket, key) = (journal.bucket().to_owned(), journal.body_key(&digest));
    let headers = Headers::of("application/zip", "private, no-store");
    let body = bytes::Bytes::copy_from_slice(zip);
    one.run.aws.put_object(&bucket, &key, body, digest, &headers, Condition::Always).await.map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
        Failure::new(Exit::Migration, what).because(error).hint(format!("nothing was migrated; {NOT_ROLLED}; {hint}"))
    })?;
    Ok(Some((bucket, key)))
}

fn failed(one: &One<'_>, name: &str, what: &str, error: AwsError) -> Failure {
    let hint = error.hint().unwrap_or_else(|| "no migration was run and no service was rolled; run the same command again".to_owned());
    Failure::new(Exit::Migration, format!("migration `{}`: {what} the function `{name}` failed", one.name)).because(error).hint(hint)
}

/// Gives the function its code; while another update is under way, again.
async fn update(one: &One<'_>, name: &str, code: FunctionCode<'_>, failed: &impl Fn(&str, AwsError) -> Failure) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        match one.run.aws.update_function_code(name, code.clone()).await {
            Err(error) if error.is_conflict() && start.elapsed() < UPDATE => sleep(Duration::from_secs(1)).await,
            // What was pushed a moment ago Lambda may not see yet.
            Err(error) if is_image_unseen(&error) && start.elapsed() < LATE => sleep(Duration::from_secs(1)).await,
            done => return done.map_err(|error| failed("updating", error)),
        }
    }
}

/// Does Lambda say of an image that it is not there?
///
/// `Source image … does not exist. Provide a valid source image.`:
/// <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionCode.html>, `InvalidParameterValueException`
fn is_image_unseen(error: &AwsError) -> bool {
    error.message().starts_with("Source image ") && error.message().contains(" does not exist")
}

/// Has its last update failed? While another one is under way its state is still that of the one before:
/// <https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html>
fn has_failed(function: &Function) -> bool {
    function.last_update_status == "Failed" || function.state == "Failed" && function.last_update_status != "InProgress"
}

/// Waits until the function has the code and is ready. Where an update before this one has failed, an answer that lags behind may tell of
/// that one for a while.
async fn wait(
    one: &One<'_>,
    name: &str,
    has: impl Fn(&Function) -> bool,
    failed_before: bool,
    failed: &impl Fn(&str, AwsError) -> Failure,
) -> Result<Function, Failure> {
    let borne = if failed_before { 12 } else { 1 };
    let (start, mut failures) = (Instant::now(), 0);
    loop {
        match one.run.aws.function(name).await.map_err(|error| failed("looking at", error))? {
            Some(now) if failures > borne && has_failed(&now) => {
                let reason = now.last_update_reason.unwrap_or_else(|| "Lambda gives no reason".to_owned());
                let failure =
                    Failure::new(Exit::Migration, format!("migration `{}`: the function `{name}` could not be updated", one.name));
                return Err(failure.because(reason).hint("no migration was run and no service was rolled"));
            }
            Some(now) if has(&now) && !matches!(now.state.as_str(), "Pending" | "Failed") => return Ok(now),
            _ if start.elapsed() > UPDATE => {
                let failure =
                    Failure::new(Exit::Migration, format!("migration `{}`: the function `{name}` did not become ready", one.name));
                let failure = failure.because(format!("its update was not done after {} s", UPDATE.as_secs()));
                return Err(failure.hint("no migration was run and no service was rolled; run the same command again"));
            }
            now => {
                failures = if now.as_ref().is_some_and(has_failed) { failures + 1 } else { 0 };
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Publishes a version: what is invoked then stays what was looked at, whoever else updates the function.
async fn publish(one: &One<'_>, name: &str, function: &Function, failed: &impl Fn(&str, AwsError) -> Failure) -> Result<String, Failure> {
    let start = Instant::now();
    let description = format!("windlass {}", one.run.release);
    loop {
        match one.run.aws.publish_version(name, &function.code_sha256, &description).await {
            Err(error) if error.is_conflict() && start.elapsed() < UPDATE => sleep(Duration::from_secs(1)).await,
            done => return done.map_err(|error| failed("publishing a version of", error)),
        }
    }
}

/// Is the function ready with this image?
fn runs(function: &Function, uri: &str) -> bool {
    let same = function.resolved_image.as_deref() == Some(uri) || function.image.as_deref() == Some(uri);
    same && matches!(function.last_update_status.as_str(), "Successful" | "") && function.state != "Failed"
}

impl Target {
    /// Invokes the function once, shows its log as it comes, and judges its answer.
    pub(super) async fn invoke(&self, one: &One<'_>, attempt: &MigrationAttempt, step: &Step) -> Came {
        let aws = one.run.aws;
        let event = one.event("migrate", &attempt.mark);
        let mut follower = Follower::new(&self.log_group, &attempt.mark, millis(attempt));
        let mut shown = 0;
        let began = Instant::now();
        let answer = loop {
            let invoked = aws.invoke(&self.name, self.version.as_deref(), &event, self.timeout);
            let answer = self.listen(one, invoked, &mut follower, &mut shown, step).await;
            match answer {
                // Lambda had no room for it, or was not ready: it has not begun.
                Err(error) if is_refused(&error) && began.elapsed() < patience(&error) => {
                    one.run.events.note(format!("{}: Lambda had no room for the migration ({error}), trying again", one.name));
                    sleep(Duration::from_secs(3)).await;
                }
                // A version that was published a moment ago may not be known everywhere yet.
                Err(error) if error.is_not_found() && self.version.is_some() && began.elapsed() < LATE => {
                    sleep(Duration::from_secs(1)).await;
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(invocation) => {
                self.rest(one, &invocation, &mut follower, shown, step).await;
                if invocation.function_error.is_some() {
                    return Came::Failed(Trouble::of_function(&invocation.payload, &invocation.log_tail));
                }
                // Windlass's own handler always has something to say.
                if self.has_handler && matches!(invocation.payload.trim(), "" | "null") {
                    return Came::Lost("its answer is empty".to_owned());
                }
                verdict::judge(&invocation.payload).map_or_else(Came::Failed, Came::Done)
            }
            Err(error) if may_have_run(&error) => Came::Lost(error.to_string()),
            Err(error) => {
                let failure =
                    Failure::new(Exit::Migration, format!("migration `{}`: invoking the function `{}` failed", one.name, self.name));
                let cure = error.hint().unwrap_or_else(|| "run the same command again".to_owned());
                Came::NotBegun(failure.because(error).hint(format!("nothing was migrated; {NOT_ROLLED}; {cure}")))
            }
        }
    }

    /// Waits for the answer; meanwhile shows what the function says.
    async fn listen(
        &self,
        one: &One<'_>,
        invoked: impl Future<Output = Result<Invocation, AwsError>>,
        follower: &mut Follower,
        shown: &mut usize,
        step: &Step,
    ) -> Result<Invocation, AwsError> {
        let mut readable = true;
        tokio::pin!(invoked);
        loop {
            tokio::select! {
                biased;
                answer = &mut invoked => return answer,
                () = sleep(LOOK), if readable => {}
            }
            let mut say = |line: &str| {
                *shown += 1;
                one.run.events.output(step, line);
            };
            // The answer comes first: a log that hangs holds nothing up.
            tokio::select! {
                biased;
                answer = &mut invoked => return answer,
                read = follower.poll(one.run.aws, &mut say) => if let Err(error) = read {
                    readable = false;
                    one.run.events.note(format!("{}: its log cannot be followed ({error}); its end is shown when it has answered", one.name));
                },
            }
        }
    }

    /// Shows what of the log has not been shown: all that came with the answer, or the rest of the stream.
    async fn rest(&self, one: &One<'_>, invocation: &Invocation, follower: &mut Follower, shown: usize, step: &Step) {
        let tail = invocation.log_tail.split(['\n', '\r']).filter(|line| !line.trim().is_empty());
        let lines: Vec<&str> = tail.collect();
        let whole = lines.iter().any(|line| line.contains("windlass-start "));
        if (shown > 0 || !whole) && (self.ours || follower.has_begun()) {
            let start = Instant::now();
            let mut say = |line: &str| one.run.events.output(step, line);
            while follower.end.is_none() && start.elapsed() < REST {
                if follower.poll(one.run.aws, &mut say).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(500)).await;
            }
            if follower.end.is_some() || shown > 0 {
                return;
            }
        }
        let said: Vec<&str> = lines.into_iter().filter(|line| matches!(read(line, ""), Read::Said(_))).collect();
        for line in &said[said.len().saturating_sub(LOG_LINES)..] {
            one.run.events.output(step, line);
        }
    }

    /// Asks the handler what is applied: a question, which changes nothing.
    pub(super) async fn state(&self, one: &One<'_>) -> Result<Answer, String> {
        let event = one.event("state", "");
        let invocation =
            one.run.aws.invoke(&self.name, self.version.as_deref(), &event, self.timeout).await.map_err(|error| error.to_string())?;
        if invocation.function_error.is_some() {
            return Err(Trouble::of_function(&invocation.payload, &invocation.log_tail).said);
        }
        serde_json::from_str(&invocation.payload).map_err(|error| error.to_string())
    }

    /// Finds out what came of an attempt: by its last line of log, or by what the handler says of the database.
    pub(super) async fn find_out(&self, one: &One<'_>, attempt: &MigrationAttempt, step: &Step) -> Found {
        let mut follower = Follower::new(&self.log_group, &attempt.mark, millis(attempt));
        let mut why = "its log does not say how it ended".to_owned();
        loop {
            // What was reported as over a look ago has nothing more to say.
            let over = follower.reported || time::OffsetDateTime::now_utc() > attempt.deadline;
            let mut say = |line: &str| one.run.events.output(step, line);
            match follower.poll(one.run.aws, &mut say).await {
                Err(error) => why = format!("its log cannot be read: {error}"),
                Ok(_) => match follower.end.take() {
                    Some(End::Answered(answer)) => return verdict::complete(answer).map_or_else(Found::Failed, Found::Done),
                    Some(End::Failed(trouble)) => return Found::Failed(trouble),
                    None => {}
                },
            }
            // A handler that has not written the mark cannot be followed by it; one that has will write its end.
            if !self.ours && !follower.has_begun() {
                return Found::Unknown(why);
            }
            if self.ours && (over || !follower.has_begun()) {
                match self.state(one).await {
                    Ok(Answer { running: Some(holder), .. }) if !over => {
                        one.run.events.progress(step, 0, 0, "s");
                        drop(holder);
                    }
                    Ok(state) if state.pending.as_ref().is_some_and(Vec::is_empty) => {
                        return Found::Done(Answer { applied: Some(Vec::new()), ..state });
                    }
                    // It may still be on its way to the database.
                    Ok(state) if over || started_long_ago(attempt) => {
                        return if state.pending.is_some() { Found::Unfinished } else { Found::Unknown(why) };
                    }
                    Ok(_) => {}
                    Err(error) => why = error,
                }
            }
            if over {
                return Found::Unknown(why);
            }
            sleep(LOOK).await;
        }
    }
}

/// An attempt that holds no lock by then has not begun, or is over.
fn started_long_ago(attempt: &MigrationAttempt) -> bool {
    time::OffsetDateTime::now_utc() - attempt.started > Duration::from_secs(20)
}

fn millis(attempt: &MigrationAttempt) -> i64 {
    i64::try_from(attempt.started.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// Was the request refused before the function ran, for a reason that passes?
///
/// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors>
fn is_refused(error: &AwsError) -> bool {
    let passing = [
        "ResourceNotReadyException",
        "SnapStartNotReadyException",
        "SubnetIPAddressLimitReachedException",
        "ENILimitReachedException",
        "EC2ThrottledException",
    ];
    error.is_throttled() || error.is_conflict() || error.is_unreachable() || error.code().is_some_and(|code| passing.contains(&code))
}

/// How long it is tried again: getting ready takes longer than finding room.
fn patience(error: &AwsError) -> Duration {
    if error.is_throttled() || error.is_unreachable() { REFUSED } else { UPDATE }
}

/// May the function have run although there is no answer?
fn may_have_run(error: &AwsError) -> bool {
    let before =
        ["EC2AccessDeniedException", "EC2UnexpectedException", "EFSMountFailureException", "EFSIOException", "KMSAccessDeniedException"];
    let known = error.code().is_some_and(|code| before.contains(&code) || code.starts_with("KMS") || code.starts_with("InvalidRuntime"));
    (error.is_answer_lost() || error.is_timeout() || error.is_server_fault()) && !known && !is_refused(error)
}
