//! The commands of one phase.

use std::time::Instant;

use super::log::Said;
use super::result::{FailedCommand, PhaseResult, Status};
use super::run::{Build, ended};
use super::shell::Failure;
use super::spec::{Command, Phase};
use crate::process::Tail;

/// How a phase went.
pub(super) struct Ran {
    pub(super) result: PhaseResult,
    /// The last lines of the command that failed.
    pub(super) output: String,
}

/// Runs the commands until one fails, and then `finally` until one fails; the first failure is the phase's.
pub(super) async fn run(build: &mut Build<'_>, phase: &Phase) -> Ran {
    let mut ran = Ran { result: PhaseResult::default(), output: String::new() };
    for list in [&phase.commands, &phase.finally] {
        for command in list {
            let (result, output) = one(build, phase, command).await;
            let status = result.status;
            if status == Status::Succeeded {
                continue;
            }
            if ran.result.status == Status::Succeeded {
                ran = Ran { result, output };
                build.shell.set("CODEBUILD_BUILD_SUCCEEDING", b"0").ok();
            }
            if status != Status::Failed {
                // There is no time left, not even for `finally`.
                return ran;
            }
            break;
        }
    }
    ran
}

async fn one(build: &mut Build<'_>, phase: &Phase, command: &Command) -> (PhaseResult, String) {
    let log = build.log;
    let shown = log.masked(&command.text);
    log.say(Said::Running { command: shown.clone() });
    let started = Instant::now();
    let user = phase.run_as.clone().or_else(|| build.buildspec.run_as.clone());
    let terms = build.terms(user.as_deref());
    let mut tail = Tail::default();
    let keep = |line: &str| {
        log.output(line);
        tail.push(log.masked(line));
    };
    let outcome = build.shell.command(&command.text, &terms, build.order.stopped(), keep).await;
    let seconds = started.elapsed().as_secs_f64();
    let Err(failure) = outcome else {
        log.say(Said::Ended { command: shown, reason: None, seconds });
        return (PhaseResult::default(), String::new());
    };
    let reason = match &failure {
        Failure::Status(reason) => reason.clone(),
        Failure::Late => "it took longer than the build may".to_owned(),
        Failure::Stopped => "the build was stopped".to_owned(),
        Failure::Unusable(why) => why.clone(),
    };
    log.say(Said::Ended { command: shown.clone(), reason: Some(reason.clone()), seconds });
    let tail = tail.lines();
    let output = tail.iter().fold(String::new(), |text, line| text + line + "\n");
    if build.result.failed_command.is_none() {
        let place = format!("{}:{}", build.file, command.place);
        build.result.failed_command = Some(FailedCommand { phase: phase.name.api_name(), command: shown, place, reason, tail });
    }
    (ended(failure, &command.text), output)
}
