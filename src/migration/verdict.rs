//! What a migration's answer means. The payload and the state are the verdict, not the absence of an error.
//!
//! Deliberately absent: AWS, and every decision about what is done next.

use serde::{Deserialize, Serialize};

/// What a handler answers. Fields that it does not answer are not known; it may answer others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// 1: it is a handler of windlass, or speaks its protocol, and may be asked for the state without harm.
    pub protocol: u32,
    /// Migrations that it has applied.
    pub applied: Option<Vec<String>>,
    /// Migrations that are still to be applied.
    pub pending: Option<Vec<String>>,
    /// All that are applied, those of earlier releases included.
    pub all_applied: Option<Vec<String>>,
    /// Who migrates at this moment.
    pub running: Option<String>,
}

/// What a runtime answers when the function fails.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html>
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FunctionFailure {
    error_type: Option<String>,
    error_message: Option<String>,
}

/// A migration that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What kind of trouble.
    pub kind: Kind,
    /// What was said: `ProgrammingError: column price does not exist`.
    pub said: String,
}

/// The kinds of trouble whose remedies differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It took longer than it may.
    Timeout,
    /// It needed more memory than it has.
    OutOfMemory,
    /// The process ended without an answer.
    Died,
    /// The handler or the application could not be started.
    Start,
    /// Its image cannot be had.
    Pull,
    /// Its secrets, files or network cannot be had.
    Resources,
    /// Its host was taken away.
    HostLost,
    /// The database does not know the user or the password.
    Credentials,
    /// The database cannot be reached.
    Unreachable,
    /// There is no such database.
    NoDatabase,
    /// The user may not do it.
    Permission,
    /// The database takes no writes.
    ReadOnly,
    /// Another session holds a lock that was waited for.
    Lock,
    /// Another migration holds the database.
    Busy,
    /// An earlier migration has failed, and blocks the ones after it (P3009).
    FailedEarlier,
    /// Two migrations claim the same place.
    Conflict,
    /// What is applied does not fit what the code has.
    History,
    /// A migration was edited after it had been applied.
    Edited,
    /// It ended well, and has not applied what is pending.
    NothingApplied,
    /// A migration failed.
    Failed,
}

/// So much is repeated of what nobody understands.
const TOLD: usize = 500;

/// What is said, in lower case, and what kind of trouble it is. The first that is found counts.
///
/// PostgreSQL's texts: <https://www.postgresql.org/docs/15/errcodes-appendix.html>; Prisma's codes:
/// <https://www.prisma.io/docs/orm/reference/error-reference>; Lambda's: <https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html>;
/// Django's are those of `django.db.migrations`.
const SIGNS: &[(&str, Kind)] = &[
    ("task timed out after", Kind::Timeout),
    ("sandbox.timedout", Kind::Timeout),
    ("runtime.outofmemory", Kind::OutOfMemory),
    ("outofmemoryerror", Kind::OutOfMemory),
    ("signal: killed", Kind::OutOfMemory),
    ("javascript heap out of memory", Kind::OutOfMemory),
    ("memoryerror", Kind::OutOfMemory),
    ("runtime.importmoduleerror", Kind::Start),
    ("runtime.usercodesyntaxerror", Kind::Start),
    ("runtime.handlernotfound", Kind::Start),
    ("runtime.malformedhandlername", Kind::Start),
    ("runtime.invalidentrypoint", Kind::Start),
    ("runtime.invalidworkingdir", Kind::Start),
    ("improperlyconfigured", Kind::Start),
    ("modulenotfounderror", Kind::Start),
    ("no module named", Kind::Start),
    ("secretfailed", Kind::Start),
    ("the function's role needs secretsmanager:getsecretvalue", Kind::Start),
    ("err_module_not_found", Kind::Start),
    ("there is no manage.py", Kind::Start),
    ("there is no prisma schema", Kind::Start),
    ("cannotpullcontainer", Kind::Pull),
    ("cannotpullimagemanifest", Kind::Pull),
    ("resourceinitializationerror", Kind::Resources),
    ("spotinterruption", Kind::HostLost),
    ("terminationnotice", Kind::HostLost),
    ("infrastructurehealth", Kind::HostLost),
    ("runtime.exiterror", Kind::Died),
    ("password authentication failed", Kind::Credentials),
    ("no password supplied", Kind::Credentials),
    ("pam authentication failed", Kind::Credentials),
    ("no pg_hba.conf entry", Kind::Credentials),
    ("28p01", Kind::Credentials),
    ("p1000", Kind::Credentials),
    ("p1003", Kind::NoDatabase),
    ("p1001", Kind::Unreachable),
    ("p1002", Kind::Lock),
    ("p3009", Kind::FailedEarlier),
    ("migrate found failed migrations", Kind::FailedEarlier),
    ("p3005", Kind::History),
    ("was modified after it was applied", Kind::Edited),
    ("edited:", Kind::Edited),
    ("inconsistentmigrationhistory", Kind::History),
    ("is applied before its dependency", Kind::History),
    ("nodenotfounderror", Kind::History),
    ("conflicting migrations detected", Kind::Conflict),
    ("locked: ", Kind::Busy),
    ("another migration holds the database", Kind::Busy),
    ("lock timeout", Kind::Lock),
    ("could not obtain lock", Kind::Lock),
    ("deadlock detected", Kind::Lock),
    ("lock_not_available", Kind::Lock),
    ("statement timeout", Kind::Lock),
    ("read-only transaction", Kind::ReadOnly),
    ("permission denied for", Kind::Permission),
    ("must be owner of", Kind::Permission),
    ("insufficient privilege", Kind::Permission),
    ("could not translate host name", Kind::Unreachable),
    ("name or service not known", Kind::Unreachable),
    ("connection refused", Kind::Unreachable),
    ("connection timed out", Kind::Unreachable),
    ("connection timeout expired", Kind::Unreachable),
    ("timeout expired", Kind::Unreachable),
    ("no route to host", Kind::Unreachable),
    ("econnrefused", Kind::Unreachable),
    ("enotfound", Kind::Unreachable),
    ("etimedout", Kind::Unreachable),
    ("can't reach database server", Kind::Unreachable),
    ("too many clients already", Kind::Unreachable),
    ("remaining connection slots", Kind::Unreachable),
    ("unrecognized function", Kind::Failed),
];

impl Trouble {
    /// The trouble that a text tells of.
    pub fn of(said: impl Into<String>) -> Self {
        let said = said.into().trim().to_owned();
        let text = said.to_lowercase();
        let no_database = text.contains("database \"") && text.contains("does not exist");
        let kind = SIGNS.iter().find(|(sign, _)| text.contains(sign)).map(|(_, kind)| *kind);
        let kind = kind.unwrap_or(if no_database { Kind::NoDatabase } else { Kind::Failed });
        Self { kind, said }
    }

    /// The trouble that a function's error payload tells of. `tail` is the end of its log, which knows of memory and time what the payload
    /// leaves out.
    #[must_use]
    pub fn of_function(payload: &str, tail: &str) -> Self {
        let failure: FunctionFailure = serde_json::from_str(payload).unwrap_or_default();
        let kind = failure.error_type.unwrap_or_else(|| "an error".to_owned());
        // A runtime of one's own may tell of its failure in any way.
        let told = || payload.trim().chars().take(TOLD).collect::<String>();
        let message = failure.error_message.or_else(|| Some(told()).filter(|told| !matches!(told.as_str(), "" | "null" | "{}")));
        let message = message.unwrap_or_else(|| "without a message".to_owned());
        let mut trouble = Self::of(format!("{kind}: {}", message.trim()));
        if matches!(trouble.kind, Kind::Died | Kind::Failed)
            && let Some(kind) = report(tail)
        {
            trouble.kind = kind;
        }
        trouble
    }

    /// Is it known that nothing was applied? The handlers say so of a migration that failed; other troubles come before the first one.
    #[must_use]
    pub fn has_applied_nothing(&self) -> bool {
        match self.said.split_once("(applied before it: ") {
            Some((_, rest)) => rest.starts_with("nothing;") && !rest.contains("not atomic, so a part"),
            None => matches!(
                self.kind,
                Kind::Start
                    | Kind::Pull
                    | Kind::Resources
                    | Kind::Credentials
                    | Kind::Unreachable
                    | Kind::NoDatabase
                    | Kind::Busy
                    | Kind::FailedEarlier
                    | Kind::Conflict
                    | Kind::History
                    | Kind::Edited
            ),
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match named(&self.said) {
            Some(name) if self.text().contains(" NAME`") => self.text().replace(" NAME`", &format!(" {name}`")),
            _ => self.text().to_owned(),
        }
    }

    fn text(&self) -> &'static str {
        match self.kind {
            Kind::Timeout => {
                "it was cut off: give the function more time (15 min at most; a task and a command have `timeout`), or migrate by the driver `task`; then release again"
            }
            Kind::OutOfMemory => "give the function or the task more memory, then release again",
            Kind::Died => "the process ended without an answer: its log says why; then release again",
            Kind::Start => "the migration could not be started: correct the handler, its settings or its dependencies, and release again",
            Kind::Pull => {
                "see to it that the image is in its registry, and that the task's execution role and subnets reach it, and release again"
            }
            Kind::Resources => {
                "see to it that the task's execution role may read its secrets, and that its subnets reach them (NAT or endpoints), and release again"
            }
            Kind::HostLost => {
                "its host was taken away in the middle: look at what it has applied, and release again, off Spot if it takes long"
            }
            Kind::Credentials => "correct the user or the password that the migration is given (its secret), and release again",
            Kind::Unreachable => {
                "look whether the database runs and lets this function or task in (security group, subnets, host name, connections), and release again"
            }
            Kind::NoDatabase => "create the database, or correct its name in the connection's URL, and release again",
            Kind::Permission => "grant the migration's user what it lacks (it has to own the tables that it alters), and release again",
            Kind::ReadOnly => {
                "the migration has reached a replica, or a database that fails over: correct its host, or wait, and release again"
            }
            Kind::Lock => "another session holds a lock: see `pg_stat_activity` and `pg_locks` for it, end it or wait, and release again",
            Kind::Busy => "wait until the other migration has ended, and release again",
            Kind::FailedEarlier => {
                "look at what the failed migration has left, then mark it with `prisma migrate resolve --rolled-back NAME` (or `--applied NAME`), and release again"
            }
            Kind::Conflict => "merge the migrations (`python manage.py makemigrations --merge`), commit, and release again",
            Kind::History => {
                "the database and the code do not have the same past: restore the missing migrations, or mark what is applied, and release again"
            }
            Kind::Edited => "a migration that is applied must not be edited: put it back as it was, and write a new one",
            Kind::NothingApplied => {
                "it said that it succeeded and has not migrated: see its log; is its engine there, does it look at the right database and directory?"
            }
            // Prisma has written down that it failed, and applies nothing more until somebody says what became of it.
            Kind::Failed if self.said.contains("P3018") => {
                "look at what the migration has left, mark it with `prisma migrate resolve --rolled-back NAME` (or nothing more is applied: P3009), correct it, and release again"
            }
            Kind::Failed => "correct the migration, and release again",
        }
    }
}

/// The migration of Prisma's that a text names: `20260102000000_add_price`.
#[must_use]
pub fn named(said: &str) -> Option<&str> {
    let words = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    let is_one = |word: &&str| {
        let (time, rest) = word.split_once('_').unwrap_or((word, ""));
        time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()) && !rest.is_empty()
    };
    words.into_iter().find(is_one)
}

/// What Lambda's own lines at the end of a log tell of time and memory.
fn report(tail: &str) -> Option<Kind> {
    let line = tail.split(['\n', '\r', '\t']).map(str::trim);
    let mut memory = (None, None);
    for part in line {
        if part.contains("Task timed out after") || part == "Status: timeout" {
            return Some(Kind::Timeout);
        }
        if part.contains("Runtime.OutOfMemory") || part.contains("signal: killed") {
            return Some(Kind::OutOfMemory);
        }
        let megabytes =
            |name: &str| part.strip_prefix(name).and_then(|rest| rest.trim().strip_suffix(" MB")).and_then(|mb| mb.parse::<u64>().ok());
        memory = (megabytes("Memory Size:").or(memory.0), megabytes("Max Memory Used:").or(memory.1));
    }
    matches!(memory, (Some(size), Some(used)) if used >= size).then_some(Kind::OutOfMemory)
}

/// Judges what a function has answered without reporting an error.
///
/// # Errors
/// The answer itself says that the migration failed, or that something is still pending.
pub fn judge(payload: &str) -> Result<Answer, Trouble> {
    let value: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
    if let Some(said) = failure_in(&value) {
        return Err(Trouble::of(said));
    }
    // A handler of one's own may answer anything: then its word is that it did not fail.
    let answer: Answer = serde_json::from_value(value).unwrap_or_default();
    complete(answer)
}

/// An answer after which nothing is pending.
///
/// # Errors
/// Something is.
pub fn complete(answer: Answer) -> Result<Answer, Trouble> {
    match answer.pending.as_deref() {
        Some([]) | None => Ok(answer),
        Some(pending) => Err(Trouble { kind: Kind::NothingApplied, said: format!("still pending: {}", pending.join(", ")) }),
    }
}

/// What an answer says of a failure that it does not report as one: `{"statusCode": 500}`, `{"success": false}`, `{"exit_code": null}` …
fn failure_in(value: &serde_json::Value) -> Option<String> {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let said = || {
        ["errorMessage", "error", "message", "body", "stderr", "output"]
            .iter()
            .find_map(|key| value.get(key).filter(|value| !value.is_null()).map(text))
    };
    let kind = value.get("errorType").map(text);
    if let Some(kind) = kind.filter(|_| value.get("errorMessage").is_some()) {
        return Some(format!("{kind}: {}", said().unwrap_or_default()));
    }
    let describe = |what: String| said().map_or_else(|| what.clone(), |said| format!("{what}: {said}"));
    if let Some(status) = value.get("statusCode").and_then(serde_json::Value::as_i64).filter(|status| *status >= 400) {
        return Some(describe(format!("it answered with status {status}")));
    }
    for key in ["success", "ok", "succeeded"] {
        if value.get(key) == Some(&serde_json::Value::Bool(false)) {
            return Some(describe(format!("it answered `{key}: false`")));
        }
    }
    for key in ["exit", "exit_code", "exitCode", "returncode", "code"] {
        match value.get(key) {
            Some(serde_json::Value::Null) => return Some(describe("its command has no exit code: it never ran, or was killed".to_owned())),
            Some(code) if code.as_i64().is_some_and(|code| code != 0) => return Some(describe(format!("its command exited with {code}"))),
            _ => {}
        }
    }
    let error = value.get("error").filter(|error| !error.is_null() && **error != serde_json::Value::Bool(false));
    error.map(text).filter(|error| !error.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_told_apart() {
        for (said, kind) in [
            ("OperationalError: FATAL: password authentication failed for user \"shop\"", Kind::Credentials),
            ("OperationalError: connection failed: FATAL:  database \"shop\" does not exist", Kind::NoDatabase),
            ("ProgrammingError: relation \"x\" does not exist", Kind::Failed),
            ("Error: P1002 The database server was reached but timed out", Kind::Lock),
            ("P3009 migrate found failed migrations in the target database", Kind::FailedEarlier),
            ("InconsistentMigrationHistory: Migration a.2 is applied before its dependency a.1", Kind::History),
            ("CommandError: Conflicting migrations detected; multiple leaf nodes", Kind::Conflict),
            ("OperationalError: canceling statement due to lock timeout", Kind::Lock),
            ("Sandbox.Timedout: RequestId: 1 Error: Task timed out after 3.00 seconds", Kind::Timeout),
            ("Runtime.ExitError: RequestId: 1 Error: Runtime exited with error: signal: killed", Kind::OutOfMemory),
            ("Runtime.ExitError: RequestId: 1 Error: Runtime exited with error: exit status 1", Kind::Died),
            ("Runtime.ImportModuleError: Unable to import module 'x'", Kind::Start),
            ("ProgrammingError: permission denied for schema public", Kind::Permission),
            ("OperationalError: could not translate host name \"db\" to address", Kind::Unreachable),
            ("Locked: another migration holds the database `default`: windlass x", Kind::Busy),
        ] {
            assert_eq!(Trouble::of(said).kind, kind, "{said}");
        }
        let prisma = Trouble::of("2_bad: P3018: relation \"x\" does not exist (42P01)");
        assert!(
            prisma.kind == Kind::Failed && prisma.remedy().contains("resolve --rolled-back NAME`"),
            "to correct it alone ends with P3009"
        );
        let named = Trouble::of("P3009: migrate found failed migrations: The `20260102000000_add-price` migration failed");
        let cure = named.remedy();
        assert!(cure.contains("--rolled-back 20260102000000_add-price`") && cure.contains("--applied 20260102000000_add-price`"), "{cure}");
        let killed = r#"{"errorType":"Runtime.ExitError","errorMessage":"Runtime exited"}"#;
        let tail = "END\nREPORT RequestId: 1\tDuration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 128 MB\t";
        assert_eq!(Trouble::of_function(killed, tail).kind, Kind::OutOfMemory);
        assert_eq!(Trouble::of_function(killed, "Status: timeout").kind, Kind::Timeout);
        assert_eq!(Trouble::of_function(r#""disk full""#, "").said, r#"an error: "disk full""#);
        assert_eq!(Trouble::of_function("null", "").said, "an error: without a message");
    }

    #[test]
    fn an_answer_that_tells_of_a_failure_is_one() {
        for (payload, said) in [
            (r#"{"statusCode": 500, "body": "boom"}"#, "it answered with status 500: boom"),
            (r#"{"success": false, "error": "no"}"#, "it answered `success: false`: no"),
            (r#"{"exit_code": null}"#, "its command has no exit code: it never ran, or was killed"),
            (r#"{"exit": 3, "output": "bad"}"#, "its command exited with 3: bad"),
            (r#"{"errorType": "E", "errorMessage": "m"}"#, "E: m"),
            (r#"{"error": "P3009"}"#, "P3009"),
            (r#"{"applied": [], "pending": ["a.1"]}"#, "still pending: a.1"),
        ] {
            assert_eq!(judge(payload).unwrap_err().said, said);
        }
        for payload in
            ["null", "", "\"done\"", r#"{"statusCode": 200}"#, r#"{"exit": 0, "error": null}"#, r#"{"applied": ["a.1"], "pending": []}"#]
        {
            assert!(judge(payload).is_ok(), "{payload}");
        }
        assert_eq!(judge(r#"{"exit": 0, "protocol": 1}"#).unwrap().protocol, 1);
    }
}
