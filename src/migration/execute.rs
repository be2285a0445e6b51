//! Runs one migration, and says what came of it.

use std::time::Duration;

use serde::Deserialize;

use crate::aws::{Aws, AwsError};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, ReleaseId, Stage, UnitName};

use super::plan::MigrationPlan;

/// How long Lambda may take to make a function ready with another image.
const UPDATE: Duration = Duration::from_mins(5);

/// So many of the last lines of the function's log are shown.
const LOG_LINES: usize = 30;

/// What a handler answers. Fields that it does not answer count as nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    /// Migrations that it has applied.
    applied: Option<Vec<String>>,
    /// Migrations that are still to be applied.
    pending: Option<Vec<String>>,
}

/// What a function answers when it fails.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html>
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FunctionFailure {
    error_type: Option<String>,
    error_message: Option<String>,
}

/// Runs the migration of `image`: the function's code is made to be that image, and it is invoked once.
///
/// # Errors
/// [`Exit::Migration`] when it failed, [`Exit::MigrationUnknown`] when its answer was lost. No service has rolled.
pub async fn migrate(
    aws: &Aws,
    release: &ReleaseId,
    name: &UnitName,
    plan: &MigrationPlan,
    image: &ImageUri,
    events: &Events,
) -> Result<(), Failure> {
    update_code(aws, name, plan, image, events).await?;
    let step = Step::of(Stage::Migrations, name, "migrate");
    events.step(step.clone(), invoke(aws, release, name, plan, &step, events)).await
}

async fn update_code(aws: &Aws, name: &UnitName, plan: &MigrationPlan, image: &ImageUri, events: &Events) -> Result<(), Failure> {
    let function = &plan.function;
    let failed = |what: &str, error: AwsError| {
        let hint = error.hint().unwrap_or_else(|| "no migration was run and no service was rolled; run the same command again".to_owned());
        Failure::new(Exit::Migration, format!("migration `{name}`: {what} the function `{function}` failed")).because(error).hint(hint)
    };
    let uri = image.to_string();
    let current = aws.function(function).await.map_err(|error| failed("looking at", error))?;
    if current.as_ref().is_some_and(|function| runs(function, &uri)) {
        return Ok(());
    }
    events
        .step(Step::of(Stage::Migrations, name, "update code"), async {
            aws.update_function_image(function, &uri).await.map_err(|error| failed("updating", error))?;
            let start = tokio::time::Instant::now();
            loop {
                let now = aws.function(function).await.map_err(|error| failed("looking at", error))?;
                match now {
                    Some(now) if now.last_update_status == "Failed" => {
                        let reason = now.last_update_reason.unwrap_or_else(|| "Lambda gives no reason".to_owned());
                        let failure =
                            Failure::new(Exit::Migration, format!("migration `{name}`: the function `{function}` could not be updated"));
                        return Err(failure.because(reason).hint("no migration was run and no service was rolled"));
                    }
                    Some(now) if runs(&now, &uri) && now.state != "Pending" => break,
                    _ if start.elapsed() > UPDATE => {
                        let failure =
                            Failure::new(Exit::Migration, format!("migration `{name}`: the function `{function}` did not become ready"));
                        let failure = failure.because(format!("its update was not done after {} s", UPDATE.as_secs()));
                        return Err(failure.hint("no migration was run and no service was rolled; run the same command again"));
                    }
                    _ => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            }
            Ok(((), Outcome::Done, format!("{function} runs {}", image.digest.short())))
        })
        .await
}

/// Is the function ready with this image?
fn runs(function: &crate::aws::Function, uri: &str) -> bool {
    let image = function.resolved_image.as_deref().or(function.image.as_deref());
    let same = image == Some(uri) || function.image.as_deref() == Some(uri);
    same && matches!(function.last_update_status.as_str(), "Successful" | "")
}

async fn invoke(
    aws: &Aws,
    release: &ReleaseId,
    name: &UnitName,
    plan: &MigrationPlan,
    step: &Step,
    events: &Events,
) -> Result<((), Outcome, String), Failure> {
    let payload = serde_json::json!({ "action": "migrate", "release": release });
    let invocation = aws.invoke(&plan.function, payload, Duration::from_secs(plan.timeout_seconds)).await;
    let invocation = invocation.map_err(|error| {
        let what = format!("migration `{name}`: invoking the function `{}` failed", plan.function);
        if error.is_answer_lost() || error.is_timeout() {
            let failure = Failure::new(Exit::MigrationUnknown, what).because(error);
            return failure.hint(format!(
                "the function may have migrated: it is not invoked again by itself; read its log (/aws/lambda/{}), then run the same command again",
                plan.function
            ));
        }
        let hint = error.hint().unwrap_or_else(|| "no service was rolled; run the same command again".to_owned());
        Failure::new(Exit::Migration, what).because(error).hint(hint)
    })?;
    // Lambda's runtimes keep a message of several lines together by ending them with carriage returns.
    let lines: Vec<&str> = invocation.log_tail.split(['\n', '\r']).filter(|line| !line.trim().is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        events.output(step, line);
    }
    if invocation.function_error.is_some() {
        let answer: FunctionFailure = serde_json::from_str(&invocation.payload).unwrap_or_default();
        let kind = answer.error_type.unwrap_or_else(|| "an error".to_owned());
        let message = events.masked(&answer.error_message.unwrap_or_else(|| "without a message".to_owned()));
        let failure = Failure::new(Exit::Migration, format!("migration `{name}` failed"));
        let failure = failure.because(format!("the function `{}` answered {kind}: {}", plan.function, message.trim()));
        return Err(
            failure.hint("no service was rolled and no site published: the old version serves; correct the migration, and release again")
        );
    }
    // A handler of one's own may answer anything: then its word is that it did not fail.
    let answer: Answer = serde_json::from_str(&invocation.payload).unwrap_or_default();
    if let Some(pending) = answer.pending.filter(|pending| !pending.is_empty()) {
        let failure = Failure::new(Exit::Migration, format!("migration `{name}` did not apply everything"));
        let failure = failure.because(format!("still pending: {}", pending.join(", ")));
        return Err(failure.hint("no service was rolled and no site published; read the function's log"));
    }
    Ok(match answer.applied.as_deref() {
        Some([]) => ((), Outcome::Unchanged, "nothing was pending".to_owned()),
        Some(applied) => ((), Outcome::Done, format!("applied {}", applied.join(", "))),
        None => ((), Outcome::Done, "the function succeeded".to_owned()),
    })
}
