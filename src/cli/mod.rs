//! The command line: flags and environment in, exit code out. One file for each verb.
//!
//! The only room beside `report` that prints, and the only one that reads the process environment.

mod arguments;
mod begin;
mod build;
mod build_tree;
mod ci;
mod completions;
mod examples;
mod history;
mod init;
mod lint;
mod local;
mod man;
mod migration_handler;
mod outputs;
mod pasted;
mod plan;
mod policy;
mod prebuilt;
mod promote;
mod release;
mod rollback;
mod schema;
mod session;
mod stage;
mod status;
mod verify;

use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::aws::AwsError;
use crate::journal::JournalError;
use crate::model::{Exit, Failure, Mask};
use crate::report;
use arguments::{Arguments, Format, Verb};

/// Runs the command line that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // What a panic says goes past every reporter.
    std::panic::set_hook(Box::new(|panic| {
        let _ = std::io::stderr().write_all(panicked(&panic.to_string(), &session::mask()).as_bytes());
    }));
    // clap answers a wrong command line itself, with exit code 2.
    let arguments = Arguments::from_arg_matches(&examples::command().get_matches()).unwrap_or_else(|error| error.exit());
    // One thread waits for everybody: with several, a third of an upload's time went into waking each other. Hashing has its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(&arguments, Err(Failure::new(Exit::Bug, "starting the async runtime failed").because(error))),
    };
    // What has panicked is a bug, and nothing of it is looked at any more.
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(&arguments))));
    let Ok(result) = ran else {
        runtime.shutdown_background();
        return ExitCode::from(Exit::Bug.code());
    };
    // A blocking read that hangs must not hold up the end.
    runtime.shutdown_background();
    ended(&arguments, result)
}

/// What is said of a panic, whose text may hold anything.
fn panicked(panic: &str, mask: &Mask) -> String {
    format!("error: {}\nhint: this is a bug in windlass: please report it with the lines above\n", mask.apply(panic))
}

async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let common = &arguments.common;
    match &arguments.verb {
        Verb::Init(verb) => init::run(common, verb),
        Verb::Plan(verb) => plan::run(common, verb).await,
        Verb::Release(verb) => release::run(common, verb).await,
        Verb::Begin(verb) => begin::run(common, verb).await,
        Verb::Stage(verb) => stage::run(common, verb).await,
        Verb::Promote(verb) => promote::run(common, verb).await,
        Verb::Rollback(verb) => rollback::run(common, verb).await,
        Verb::History(verb) => history::run(common, verb).await,
        Verb::Status(verb) => status::run(common, verb).await,
        Verb::Verify(verb) => verify::run(common, verb).await,
        Verb::Build(verb) => build::run(common, verb).await,
        Verb::Local { action } => local::run(common, *action).await,
        Verb::MigrationHandler(verb) => migration_handler::run(verb),
        Verb::Lint(verb) => lint::run(common, verb),
        Verb::Schema { of } => schema::run(*of),
        Verb::Policy(verb) => policy::run(common, verb).await,
        Verb::Man { directory } => man::run(directory),
        Verb::Completions { shell } => completions::run(*shell),
    }
}

fn ended(arguments: &Arguments, result: Result<ExitCode, Failure>) -> ExitCode {
    let failure = match result {
        Ok(code) => return code,
        Err(failure) => hinted(failure),
    };
    let common = &arguments.common;
    let color = common.color.stderr();
    let mask = session::mask().and_passwords();
    // Where stderr is gone there is nobody left to tell.
    let annotation = annotation(&failure).unwrap_or_default();
    let text = annotation + &pasted::pasted(common, &failure_text(&failure, color));
    let _ = std::io::stderr().write_all(mask.apply(&text).as_bytes());
    if common.format == Format::Json {
        let json = serde_json::json!({
            "event": "failed",
            "exit": failure.exit().code(),
            "meaning": failure.exit(),
            "what": failure.to_string(),
            "causes": failure.causes(),
            "hint": failure.hint_text().map(|hint| pasted::pasted(common, hint)),
        });
        let _ = print(&mask.apply(&format!("{json}\n")));
    }
    ExitCode::from(failure.exit().code())
}

/// The failure with a hint, where nobody nearer to it gave one: what AWS's answer asks for, or that another attempt does no harm.
fn hinted(failure: Failure) -> Failure {
    if failure.hint_text().is_some() {
        return failure;
    }
    let mut next = std::error::Error::source(&failure);
    while let Some(error) = next {
        let state = error.downcast_ref::<JournalError>().map(JournalError::hint);
        if let Some(hint) = state.or_else(|| error.downcast_ref::<AwsError>().map(AwsError::hint)) {
            let hint = hint.unwrap_or_else(|| "run the same command again".to_owned());
            let hint = if failure.exit() == Exit::Preflight { format!("nothing was changed; {hint}") } else { hint };
            return failure.hint(hint);
        }
        next = error.source();
    }
    failure
}

/// The failure as the system that keeps the log shows it elsewhere too, if it does: beside the file's line, where one is named.
fn annotation(failure: &Failure) -> Option<String> {
    let variables = session::variables();
    let cause = failure.causes().first().map(|cause| report::first_line(cause).to_owned());
    let text = [Some(failure.to_string()), cause].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let place = regex::Regex::new(r"([^\s`:]+):(\d+):(\d+)").ok().and_then(|place| {
        let found = place.captures(&text)?;
        Some((ci::repository_path(&variables, &found[1]), found[2].parse().ok()?, found[3].parse().ok()?))
    });
    let place = place.as_ref().map(|(file, line, column)| (file.as_str(), *line, *column));
    report::annotation(ci::system(&variables), "error", "windlass", place, &text)
}

/// What was tried, why it failed, and in the last line what to do next.
fn failure_text(failure: &Failure, color: bool) -> String {
    let heading = if color { "\x1b[1;31merror\x1b[0m" } else { "error" };
    let mut text = format!("{heading}: {failure}\n");
    let causes: String = failure.causes().iter().flat_map(|cause| ["   ", cause, "\n"].map(str::to_owned)).collect();
    match failure.lines_left() {
        Some(left) if causes.lines().count() > left => {
            text.extend(causes.lines().take(left).flat_map(|line| [line, "\n"]));
            text.push_str("   … the rest of it is above\n");
        }
        _ => text.push_str(&causes),
    }
    let hint = match failure.hint_text() {
        Some(hint) => hint,
        None if failure.exit() == Exit::Bug => "this is a bug in windlass: please report it with the lines above",
        None => return text,
    };
    text.push_str("hint: ");
    text.push_str(hint);
    text.push('\n');
    text
}

/// Prints data. A reader that has had enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Bug, "writing to stdout failed").because(error).hint("make room where stdout goes to, and run again"))
        }
        _ => Ok(()),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Bug, "writing JSON failed").because(error))?;
    print(&(session::mask().apply(&text) + "\n"))
}

/// Is it a terminal on which lines may be moved and coloured, and does nobody keep a log of it?
fn lively(stream: &impl IsTerminal) -> bool {
    has_cursor(stream) && std::env::var_os("CI").is_none_or(|value| value.is_empty())
}

/// Is it a terminal on which lines may be moved?
fn has_cursor(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn a_panic_does_not_show_what_is_secret() {
        let secret = "npm/7f3c+1e9a=b2d84560";
        let mask = Mask::new([secret.to_owned()]);
        let base64 = base64::engine::general_purpose::STANDARD.encode(format!("user:{secret}"));
        let in_a_url = secret.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
        let panic = std::panic::catch_unwind(|| panic!("token {secret} in https://npm/?t={in_a_url}, as basic {base64}")).unwrap_err();
        let said = panicked(panic.downcast_ref::<String>().unwrap(), &mask);
        assert!(said.starts_with("error: token *** in https://npm/?t=***, as basic "), "{said}");
        assert!(!said.contains("7f3c") && !said.contains(&base64[8..24]), "{said}");
        assert!(said.ends_with("\nhint: this is a bug in windlass: please report it with the lines above\n"));
    }
}
