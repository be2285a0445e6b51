//! A migration on this machine: windlass's handler with the application's own Django or Prisma, or a command of one's own.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::event::Step;
use crate::journal::MigrationAttempt;
use crate::model::{Exit, Failure};
use crate::process::{self, Status};

use super::super::handler::Kind as Handler;
use super::super::verdict::{self, Answer, Kind, Trouble};
use super::follow::{End, Read, read};
use super::{Came, Found, NOT_ROLLED, One, words};

/// So many of the last lines are repeated with a failure.
const TAIL: usize = 5;

/// What is run, and where.
pub(super) struct Target {
    directory: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    /// Windlass's handler, in a file of its own while it is needed.
    handler: Option<(Handler, TempDir)>,
}

/// The first interpreter that is there: the project's own environment goes before the machine's.
const PYTHON: &str = r#"for python in .venv/bin/python venv/bin/python; do [ -x "$python" ] && exec "$python" -u "$WINDLASS_HANDLER" "$WINDLASS_EVENT"; done
exec python3 -u "$WINDLASS_HANDLER" "$WINDLASS_EVENT""#;
const NODE: &str = r#"exec node "$WINDLASS_HANDLER" -- "$WINDLASS_EVENT""#;

/// Writes the handler down, if it is windlass's that migrates.
pub(super) fn prepare(one: &One<'_>, directory: &str, env: &BTreeMap<String, String>) -> Result<Target, Failure> {
    let mut environment = process::without_cloud_credentials(one.run.environment.iter().cloned());
    environment.extend(env.iter().map(|(name, value)| (name.into(), value.into())));
    let handler = match one.plan.handler().filter(|_| one.plan.command.is_none()) {
        None => None,
        Some(kind) => {
            let unwritten = |error: std::io::Error| {
                let failure = Failure::new(Exit::Migration, format!("migration `{}`: writing its handler failed", one.name)).because(error);
                failure.hint("nothing was migrated; make room in the directory for temporary files, and run the same command again")
            };
            let folder = tempfile::tempdir().map_err(unwritten)?;
            let path = folder.path().join(kind.handler().name);
            std::fs::write(&path, kind.handler().text).map_err(unwritten)?;
            environment.insert("WINDLASS_HANDLER".into(), path.into_os_string());
            Some((kind, folder))
        }
    };
    Ok(Target { directory: one.run.root.join(directory), environment, handler })
}

impl Target {
    /// Runs it to its end.
    pub(super) async fn run(&self, one: &One<'_>, attempt: &MigrationAttempt, step: &Step) -> Came {
        let script = match (&self.handler, &one.plan.command) {
            (Some((kind, _)), _) => script(*kind).to_owned(),
            (None, Some(command)) => quoted(command),
            (None, None) => return Came::Failed(Trouble::of("no command: name one under `command`")),
        };
        self.execute(one, script, "migrate", &attempt.mark, Some(step)).await
    }

    async fn execute(&self, one: &One<'_>, script: String, action: &str, mark: &str, step: Option<&Step>) -> Came {
        let mut environment = self.environment.clone();
        environment.insert("WINDLASS_EVENT".into(), one.event(action, mark).to_string().into());
        environment.insert("WINDLASS_RELEASE".into(), one.run.release.to_string().into());
        let deadline = Some(Duration::from_secs(one.plan.timeout_seconds));
        let command = process::Command { script, directory: self.directory.clone(), environment, deadline };
        let mut tail: VecDeque<String> = VecDeque::new();
        let mut end = None;
        let ended = process::run(&command, |_, line| match read(line, mark) {
            Read::End(found) => end = Some(found),
            Read::Said(line) => {
                if let Some(step) = step {
                    one.run.events.output(step, line);
                }
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line.to_owned());
            }
            Read::Start(_) | Read::Nothing => {
                // The answer to a question has a line of its own.
                if let Some(answer) = line.split_once("windlass-state ").and_then(|(_, rest)| state(rest)) {
                    end = Some(End::Answered(answer));
                }
            }
        });
        let status = match ended.await {
            Ok(ended) => ended.status,
            Err(error) if error.is_deadline() => return Came::Failed(Trouble { kind: Kind::Timeout, said: error.to_string() }),
            Err(error) => {
                let failure = Failure::new(Exit::Migration, format!("migration `{}`: its command could not be run", one.name));
                return Came::NotBegun(
                    failure.because(error).hint(format!("nothing was migrated; {NOT_ROLLED}; correct `from`, or its `path`")),
                );
            }
        };
        let tail: Vec<String> = tail.into();
        let lines = || words::told(&tail);
        match (status, end) {
            (_, Some(End::Failed(trouble))) => Came::Failed(trouble),
            (Status::Exited(0), Some(End::Answered(answer))) => verdict::complete(answer).map_or_else(Came::Failed, Came::Done),
            (Status::Exited(0), None) if self.handler.is_some() => {
                Came::Failed(Trouble { kind: Kind::NothingApplied, said: format!("exit code 0, and without an answer: {}", lines()) })
            }
            (Status::Exited(0), None) => Came::Done(Answer::default()),
            (Status::Exited(code), _) => Came::Failed(Trouble::of(format!("exit code {code}: {}", lines()))),
            (Status::Signaled(signal), _) => Came::Failed(Trouble { kind: Kind::Died, said: format!("signal {signal}: {}", lines()) }),
        }
    }

    /// Asks the handler what is applied, as long as somebody migrates.
    pub(super) async fn find_out(&self, one: &One<'_>) -> Found {
        let Some((kind, _)) = &self.handler else {
            return Found::Unknown("it ran on a machine, and has said nothing to anybody else".to_owned());
        };
        loop {
            match self.execute(one, script(*kind).to_owned(), "state", "", None).await {
                Came::Done(Answer { running: Some(_), .. }) => tokio::time::sleep(Duration::from_secs(1)).await,
                Came::Done(answer) => return Found::Done(answer),
                Came::Failed(trouble) if trouble.kind == Kind::NothingApplied => return Found::Unfinished,
                Came::Failed(trouble) => return Found::Unknown(trouble.said),
                Came::NotBegun(failure) => return Found::Unknown(failure.to_string()),
                Came::Lost(why) => return Found::Unknown(why),
            }
        }
    }
}

fn state(rest: &str) -> Option<Answer> {
    let value: serde_json::Value = serde_json::from_str(rest).ok()?;
    serde_json::from_value(value.get("answer")?.clone()).ok()
}

fn script(kind: Handler) -> &'static str {
    if kind == Handler::Prisma { NODE } else { PYTHON }
}

/// Words as a shell takes them.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    format!("exec {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted(&["echo".to_owned(), "it's $HOME".to_owned()]), r"exec 'echo' 'it'\''s $HOME'");
    }
}
