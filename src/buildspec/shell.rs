//! The shell of a build: a new process for every command, which finds the directory and the variables that the one before it left.
//!
//! `CodeBuild` works this way on Linux, as its error messages (`script.sh: 4:`) and AWS's own open-source runner of `CodeCatalyst` show: the
//! script goes to the saved directory, reads the saved variables under `set -a`, has the command in its fourth line, and saves both. So
//! directory and variables are carried; functions, aliases, options, traps and redirections are not, and a command that ends by `exit`
//! carries nothing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::time::Instant;

use super::environment::Variables;
use super::shell_text::{assignment, is_name, quoted, signal_name};
use super::spec::Version;
use crate::docker::Machine;
use crate::process::{Invocation, ProcessError, Session, Status, User, find_program};

/// The variable that marks the processes of one build.
const MARK: &str = "WINDLASS_BUILD";
/// Variables that a shell sets itself and does not let anyone set.
const READ_ONLY: &[&str] = &["UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"];
/// Variables that a shell looks at before it reads its script.
const AT_START: &[&str] = &["BASH_ENV", "LANG", "LC_ALL", "LC_CTYPE"];

/// Where commands run.
pub(super) enum Place {
    /// On this machine.
    Host(Session),
    /// In a container.
    Container(Machine),
}

/// The shell of one build.
pub(super) struct Shell {
    place: Place,
    program: PathBuf,
    version: Version,
    source: PathBuf,
    state: TempDir,
    /// What the shell's process itself starts with.
    outer: BTreeMap<OsString, OsString>,
    owner: Option<User>,
}

/// The state between two commands.
pub(super) struct Snapshot {
    variables: Vec<u8>,
    directory: Vec<u8>,
}

/// Why a command did not succeed.
pub(super) enum Failure {
    /// It ended with something else than 0: "exit status 1", "signal: killed".
    Status(String),
    /// It took too long.
    Late,
    /// It was told to stop.
    Stopped,
    /// It could not be run.
    Unusable(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unusable(format!("the build's own files cannot be written: {error}"))
    }
}

/// What is the same for all commands of a phase.
pub(super) struct Terms<'a> {
    /// As whom they run.
    pub(super) user: Option<&'a str>,
    /// When they are late.
    pub(super) deadline: Option<Instant>,
}

impl Shell {
    /// A shell with these variables, in the source's directory. `shell` is what `env/shell` says.
    pub(super) fn new(
        place: Place,
        shell: &str,
        version: Version,
        source: &Path,
        state: TempDir,
        variables: &Variables,
    ) -> Result<Self, String> {
        let program = match &place {
            Place::Container(_) => PathBuf::from(shell),
            Place::Host(_) => {
                let path = variables.get("PATH").map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), OsString::as_os_str);
                find_program(shell, path).ok_or_else(|| format!("the shell `{shell}` is not there: install it, or correct `env/shell`"))?
            }
        };
        let mut outer = BTreeMap::new();
        let mut inner = Vec::new();
        for (name, value) in variables {
            if !is_name(name) {
                outer.insert(OsString::from(name), value.clone());
            } else if !READ_ONLY.contains(&name.as_str()) {
                if AT_START.contains(&name.as_str()) {
                    outer.insert(OsString::from(name), value.clone());
                }
                if !matches!(name.as_str(), "PWD" | "OLDPWD" | "_" | "SHLVL") {
                    inner.extend(assignment(name, value.as_bytes()));
                }
            }
        }
        let shell = Self { place, program, version, source: source.to_owned(), state, outer, owner: None };
        shell
            .write("env.sh", &inner)
            .and_then(|()| shell.write("dir.txt", source.as_os_str().as_bytes()))
            .map_err(|error| error.to_string())?;
        Ok(shell)
    }

    /// The mark and the directory of a new build's state.
    ///
    /// A container sees the inner directory alone, and any of its users may write there; the outer one keeps this machine's users away.
    pub(super) fn state() -> io::Result<TempDir> {
        let outer = tempfile::Builder::new().prefix("windlass-build-").tempdir()?;
        std::fs::create_dir(inner(outer.path()))?;
        Ok(outer)
    }

    /// The session of a build on this machine.
    pub(super) fn session(id: &str) -> Session {
        Session::new(MARK, id)
    }

    fn path(&self, name: &str) -> PathBuf {
        inner(self.state.path()).join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        std::fs::write(self.path(name), content)
    }

    /// The directory in which the next command starts.
    fn directory(&self) -> io::Result<Vec<u8>> {
        let mut directory = std::fs::read(self.path("dir.txt"))?;
        if directory.last() == Some(&b'\n') {
            directory.pop();
        }
        Ok(directory)
    }

    /// Runs one command of the buildspec.
    pub(super) async fn command(
        &mut self,
        text: &str,
        terms: &Terms<'_>,
        stop: impl Future<Output = ()>,
        on_line: impl FnMut(&str),
    ) -> Result<(), Failure> {
        let carries = self.version == Version::V02;
        let directory = if carries { self.directory()? } else { self.source.as_os_str().as_bytes().to_vec() };
        let (variables, directory_file) =
            (quoted(self.path("env.sh").as_os_str().as_bytes()), quoted(self.path("dir.txt").as_os_str().as_bytes()));
        // Where a user is not let into the directory, those that come after start there all the same.
        let [lost, found]: [&[u8]; 2] =
            if terms.user.is_some() { [b" || windlass_elsewhere=1", b"[ -n \"${windlass_elsewhere-}\" ] || "] } else { [b"", b""] };
        let mut script = [b"cd ".as_slice(), &quoted(&directory), lost, b"\nset -a\n. ", &variables, b"\n", text.as_bytes()].concat();
        script.extend(b"\nCODEBUILD_LAST_EXIT=$?\n");
        if carries {
            let saved = [b"export -p >| ".as_slice(), &variables, b"\n", found, b"command pwd >| ", &directory_file, b"\n"];
            script.extend(saved.concat());
        }
        script.extend(b"exit $CODEBUILD_LAST_EXIT\n");
        self.script(&script, terms, stop, on_line).await
    }

    /// Runs a script of the runner's own, which finds the variables but leaves no trace in them.
    pub(super) async fn own(&mut self, script: &[u8], stop: impl Future<Output = ()>, on_line: impl FnMut(&str)) -> Result<(), Failure> {
        let source = quoted(self.source.as_os_str().as_bytes());
        let variables = quoted(self.path("env.sh").as_os_str().as_bytes());
        let script = [b"cd ".as_slice(), &source, b"\nset -a\n. ", &variables, b"\nset +a\n", script].concat();
        self.script(&script, &Terms { user: None, deadline: None }, stop, on_line).await
    }

    async fn script(
        &mut self,
        script: &[u8],
        terms: &Terms<'_>,
        stop: impl Future<Output = ()>,
        on_line: impl FnMut(&str),
    ) -> Result<(), Failure> {
        let path = self.path("script.sh");
        std::fs::write(&path, script)?;
        self.open_to_container()?;
        let user = match terms.user {
            Some(name) if matches!(self.place, Place::Host(_)) => {
                Some(User::find(name).ok_or_else(|| Failure::Unusable(format!("there is no user `{name}`")))?)
            }
            _ => None,
        };
        self.give_to(user)?;
        let status = match &mut self.place {
            Place::Host(session) => {
                let invocation = Invocation {
                    program: self.program.clone(),
                    arguments: vec![path.into()],
                    // Another user may not be let into the source; the script goes there itself, and says so if it cannot.
                    directory: if user.is_some() { PathBuf::from("/") } else { self.source.clone() },
                    environment: self.outer.clone(),
                    user,
                };
                session.run(&invocation, terms.deadline, stop, on_line).await
            }
            Place::Container(machine) => {
                let shell = self.program.to_string_lossy().into_owned();
                let arguments = [shell, path.to_string_lossy().into_owned()];
                let running = machine.run(&arguments, terms.user, &self.outer, on_line);
                tokio::select! {
                    status = running => match status {
                        Ok(status) => Ok(Status::Exited(status)),
                        Err(error) => return Err(Failure::Unusable(error.to_string())),
                    },
                    () = stop => Err(ProcessError::Stopped),
                    () = late(terms.deadline) => return Err(Failure::Late),
                }
            }
        };
        match status {
            Ok(Status::Exited(0)) => Ok(()),
            Ok(Status::Exited(code)) => Err(Failure::Status(format!("exit status {code}"))),
            Ok(Status::Signaled(signal)) => Err(Failure::Status(format!("signal: {}", signal_name(signal)))),
            Err(ProcessError::Deadline { .. }) => Err(Failure::Late),
            Err(ProcessError::Stopped) => Err(Failure::Stopped),
            Err(error) => {
                let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
                Err(Failure::Unusable(format!("{error}{cause}")))
            }
        }
    }

    /// Lets every user of the container read and write the state.
    fn open_to_container(&self) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        if matches!(self.place, Place::Container(_)) {
            std::fs::set_permissions(inner(self.state.path()), std::fs::Permissions::from_mode(0o777))?;
            for name in ["script.sh", "env.sh", "dir.txt"] {
                std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o666))?;
            }
        }
        Ok(())
    }

    /// Lets the user of the next command read and write the state.
    fn give_to(&mut self, user: Option<User>) -> io::Result<()> {
        if user.is_none() && self.owner.is_none() || !User::may_change() {
            return Ok(());
        }
        let (uid, gid) = user.map_or((0, 0), |user| (user.uid, user.gid));
        for path in
            [self.state.path().to_owned(), inner(self.state.path()), self.path("script.sh"), self.path("env.sh"), self.path("dir.txt")]
        {
            chown(path, Some(uid), Some(gid))?;
        }
        self.owner = user;
        Ok(())
    }

    /// Sets a variable for the commands to come.
    pub(super) fn set(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let mut variables = std::fs::read(self.path("env.sh"))?;
        variables.extend(assignment(name, value));
        self.write("env.sh", &variables)
    }

    /// Puts a folder of programs before all others on the `PATH`; the folder above it is the value of `home`, if there is one.
    pub(super) fn prepend_path(&self, folder: &str, home: Option<&str>) -> io::Result<()> {
        let mut variables = std::fs::read(self.path("env.sh"))?;
        variables.extend([b"export PATH=".as_slice(), &quoted(folder.as_bytes()), b":\"$PATH\"\n"].concat());
        if let (Some(home), Some(above)) = (home, Path::new(folder).parent()) {
            variables.extend(assignment(home, above.as_os_str().as_bytes()));
        }
        self.write("env.sh", &variables)
    }

    /// Directory and variables as they are now.
    pub(super) fn snapshot(&self) -> io::Result<Snapshot> {
        Ok(Snapshot { variables: std::fs::read(self.path("env.sh"))?, directory: std::fs::read(self.path("dir.txt"))? })
    }

    /// Takes directory and variables back to what they were.
    pub(super) fn restore(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.write("env.sh", &snapshot.variables)?;
        self.write("dir.txt", &snapshot.directory)
    }

    /// Puts a program where the commands find it.
    pub(super) fn add_program(&self, name: &str, script: &str) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.path("bin");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        let line = [b"export PATH=\"$PATH\":".as_slice(), &quoted(folder.as_os_str().as_bytes()), b"\n"].concat();
        let mut variables = std::fs::read(self.path("env.sh"))?;
        if !variables.windows(line.len()).any(|window| window == line) {
            variables.extend(line);
            self.write("env.sh", &variables)?;
        }
        Ok(())
    }

    /// What the shell makes of texts in which variables and commands may stand, in the source's directory.
    pub(super) async fn expand(&mut self, texts: &[String], on_line: impl FnMut(&str)) -> Result<Vec<String>, Failure> {
        if !texts.iter().any(|text| text.contains(['$', '`'])) {
            return Ok(texts.to_vec());
        }
        let file = quoted(self.path("expanded").as_os_str().as_bytes());
        let mut script = [b": >| ".as_slice(), &file, b"\n"].concat();
        for text in texts {
            let mut end = "WINDLASS_END".to_owned();
            while text.contains(&end) {
                end.push('_');
            }
            script.extend(b"cat >>");
            script.extend(&file);
            script.extend(format!(" <<{end}\n{text}\n{end}\nprintf '\\0' >>").bytes());
            script.extend(&file);
            script.push(b'\n');
        }
        self.own(&script, std::future::pending(), on_line).await?;
        let expanded = std::fs::read(self.path("expanded"))?;
        let mut found: Vec<String> = expanded
            .split(|byte| *byte == 0)
            .map(|text| String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(text)).into_owned())
            .collect();
        found.truncate(texts.len());
        found.resize(texts.len(), String::new());
        Ok(found)
    }

    /// The values of those of the variables that are set.
    pub(super) async fn values(&mut self, names: &[String], on_line: impl FnMut(&str)) -> Result<Vec<(String, OsString)>, Failure> {
        let names: Vec<&String> = names.iter().filter(|name| is_name(name)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let file = quoted(self.path("values").as_os_str().as_bytes());
        let mut script = [b": >| ".as_slice(), &file, b"\n"].concat();
        for name in &names {
            script.extend(format!("if [ -n \"${{{name}+set}}\" ]; then printf '{name}=%s\\0' \"${name}\" >>").bytes());
            script.extend(&file);
            script.extend(b"; fi\n");
        }
        script.extend(b"exit 0\n");
        self.own(&script, std::future::pending(), on_line).await?;
        let values = std::fs::read(self.path("values"))?;
        let pair = |entry: &[u8]| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            Some((String::from_utf8(entry[..at].to_vec()).ok()?, OsString::from_vec(entry[at + 1..].to_vec())))
        };
        Ok(values.split(|byte| *byte == 0).filter_map(pair).collect())
    }

    /// Ends everything that still runs.
    pub(super) async fn close(self) {
        if let Place::Container(machine) = self.place {
            machine.remove().await;
        }
    }
}

/// The part of a build's state that commands see.
pub(super) fn inner(outer: &Path) -> PathBuf {
    outer.join("state")
}

async fn late(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
