//! The database: a real PostgreSQL server with a data directory of its own.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, getuid};

use super::Database;
use super::error::LocalError;
use super::host::{Bridges, answers, bridges, running, sh, tail};
use super::settings::Settings;

/// PostgreSQL refuses to run as root; Debian's package, and every other, makes a user for it.
const AS_OWNER: &str = r#"
set -e
as_owner() {
    if [ "$(id -u)" != 0 ]; then "$@"
    elif command -v setpriv >/dev/null; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"
    else su -s /bin/sh -c 'exec "$0" "$@"' -- postgres "$@"
    fi
}
"#;

const CREATE: &str = r#"
if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || { echo 'there is no user `postgres` to run the server as' >&2; exit 1; }
    chown postgres "$DATA"
fi
as_owner "$BIN/initdb" --pgdata="$DATA" --username=postgres --pwfile="$HOME_OF_DATA/password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync
"#;

const START: &str = r#"as_owner "$BIN/pg_ctl" start --pgdata="$DATA" --log="$DATA/log" --wait --timeout=60"#;

const STOP: &str = r#"as_owner "$BIN/pg_ctl" stop --pgdata="$DATA" --mode=fast --wait --timeout=15"#;

/// Where the data directory is made.
///
/// For root that is not below the settings' directory: a server that runs as another user could not come through root's home, which
/// usually has the mode 0700. `/tmp` is for machines where even root cannot write to `/var/lib`.
fn home(settings: &Settings) -> PathBuf {
    let name = format!("database-{}", settings.database_port);
    if !getuid().is_root() {
        return settings.directory.join(name);
    }
    let places = ["/var/lib/windlass-local", "/tmp/windlass-local-0"].map(PathBuf::from);
    let is_ours = |place: &Path| fs::symlink_metadata(place).is_ok_and(|found| found.is_dir() && found.uid() == 0);
    let usable = |place: &&PathBuf| (fs::create_dir_all(place).is_ok() && is_ours(place)) || is_ours(place);
    places.iter().find(usable).unwrap_or(&places[1]).join(name)
}

fn data(settings: &Settings) -> PathBuf {
    home(settings).join("data")
}

async fn process(settings: &Settings) -> Option<Pid> {
    let data = data(settings);
    running(settings, &data.join("postmaster.pid"), &data.display().to_string()).await
}

fn database(settings: &Settings, pid: Pid, bridges: &Bridges) -> Database {
    let url = |host: Ipv4Addr| format!("postgres://postgres:postgres@{host}:{}/postgres", settings.database_port);
    let pid = pid.as_raw_nonzero().get();
    Database { url: url(Ipv4Addr::LOCALHOST), url_from_containers: bridges.gateway.map(url), pid }
}

pub(super) async fn up(settings: &Settings, on_step: &mut (impl FnMut(&str) + Send)) -> Result<Database, LocalError> {
    let bridges = bridges();
    if let Some(pid) = process(settings).await {
        return Ok(database(settings, pid, &bridges));
    }
    let port = settings.database_port;
    if answers(port).await {
        let variable = "WINDLASS_LOCAL_DATABASE_PORT";
        return Err(LocalError::PortTaken { port, what: "the local database", variable });
    }
    let programs = programs(settings).ok_or(LocalError::DatabaseAbsent)?;
    on_step(&format!("creating a PostgreSQL database on 127.0.0.1:{port}"));
    let (home, data) = (home(settings), data(settings));
    // Always a new one: without `fsync`, an old one may be broken after a crash of the machine.
    renew(&home, &data)?;
    run(settings, "create", CREATE, &programs).await?;
    write(&data.join("postgresql.conf"), &configuration(port, &bridges))?;
    write(&data.join("pg_hba.conf"), &access(&bridges))?;
    if let Err(error) = run(settings, "start", START, &programs).await {
        let log = tail(&data.join("log"));
        return Err(if log.is_empty() { error } else { LocalError::Database { operation: "start", tail: log } });
    }
    // Where one of its addresses is taken, the server is content with the other one.
    let failed = || LocalError::Database { operation: "start", tail: tail(&data.join("log")) };
    let pid = process(settings).await.ok_or_else(failed)?;
    if !answers(port).await {
        let failed = failed();
        run(settings, "stop", STOP, &programs).await?;
        return Err(failed);
    }
    Ok(database(settings, pid, &bridges))
}

pub(super) async fn status(settings: &Settings) -> Option<Database> {
    let pid = process(settings).await?;
    answers(settings.database_port).await.then(|| database(settings, pid, &bridges()))
}

pub(super) async fn down(settings: &Settings, on_step: &mut (impl FnMut(&str) + Send)) -> Result<bool, LocalError> {
    if process(settings).await.is_none() {
        return Ok(false);
    }
    on_step("stopping the local database");
    let programs = programs(settings).ok_or(LocalError::DatabaseAbsent)?;
    run(settings, "stop", STOP, &programs).await?;
    let path = home(settings);
    fs::remove_dir_all(&path).map_err(|source| LocalError::Files { operation: "remove", path, source })?;
    Ok(true)
}

async fn run(settings: &Settings, operation: &'static str, script: &str, programs: &Path) -> Result<(), LocalError> {
    let home = home(settings);
    let variables: [(&str, OsString); 3] =
        [("BIN", programs.into()), ("DATA", data(settings).into()), ("HOME_OF_DATA", home.clone().into())];
    let done = sh(settings, "run a program of PostgreSQL", &format!("{AS_OWNER}{script}"), &home, &variables).await?;
    done.map_err(|tail| LocalError::Database { operation, tail })
}

/// An empty data directory in a home that its owner can come through.
fn renew(home: &Path, data: &Path) -> Result<(), LocalError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| LocalError::Files { operation, path, source }
    };
    if home.exists() {
        fs::remove_dir_all(home).map_err(failed("remove", home))?;
    }
    fs::create_dir_all(data).map_err(failed("create", data))?;
    for folder in [home, home.parent().unwrap_or(home)] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(failed("open", folder))?;
    }
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).map_err(failed("close", data))?;
    // No secret: it is in this program's source, and opens nothing but this database.
    write(&home.join("password"), "postgres\n")
}

fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    let failed = |source| LocalError::Files { operation: "write", path: path.to_owned(), source };
    fs::write(path, text).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(failed)
}

/// <https://www.postgresql.org/docs/current/runtime-config.html>
fn configuration(port: u16, bridges: &Bridges) -> String {
    let addresses: Vec<_> = std::iter::once(Ipv4Addr::LOCALHOST).chain(bridges.gateway).map(|address| address.to_string()).collect();
    format!(
        "listen_addresses = '{}'\nport = {port}\nunix_socket_directories = ''\nmax_connections = 100\nshared_buffers = 16MB\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n",
        addresses.join(",")
    )
}

/// `samehost` is this machine by any of its addresses: Docker's masquerading gives a client here, that connects to the bridge's address,
/// the source address of another interface. <https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>
fn access(bridges: &Bridges) -> String {
    let mut lines = "host all all samehost scram-sha-256\n".to_owned();
    for (network, prefix) in &bridges.networks {
        // Writing to a text cannot fail.
        writeln!(lines, "host all all {network}/{prefix} scram-sha-256").ok();
    }
    lines
}

/// The directory of the newest `initdb` and `pg_ctl`: Debian's, which are not in `PATH`, else the first in `PATH`.
fn programs(settings: &Settings) -> Option<PathBuf> {
    let complete = |bin: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|program| bin.join(program).is_file());
    let version = |entry: &fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut installed: Vec<_> = installed.filter_map(|entry| Some((version(&entry)?, entry.path().join("bin")))).collect();
    installed.retain(|(_, bin)| complete(bin));
    let newest = installed.into_iter().max().map(|(_, bin)| bin);
    newest.or_else(|| {
        let path = settings.environment.get(&OsString::from("PATH"))?;
        std::env::split_paths(path).find(complete)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody else has the port of 127.0.0.1 and does not listen on it: the server would be content with Docker's address alone.
    #[tokio::test]
    async fn a_server_that_cannot_be_reached_here_does_not_count() {
        let taken = tokio::net::TcpSocket::new_v4().unwrap();
        taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let folder = tempfile::tempdir().unwrap();
        let variables = [("HOME", folder.path().as_os_str().to_owned()), ("WINDLASS_LOCAL_DATABASE_PORT", port.into())];
        let variables = variables.into_iter().chain(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let settings = Settings::from_environment(variables.map(|(name, value)| (name.into(), value))).unwrap();
        let up = up(&settings, &mut |_| {}).await;
        assert!(matches!(up, Err(LocalError::Database { operation: "start", .. })), "{up:?}");
        assert!(process(&settings).await.is_none() && status(&settings).await.is_none(), "it runs all the same");
        fs::remove_dir_all(home(&settings)).unwrap();
    }

    #[test]
    fn only_this_machine_and_its_containers_are_let_in() {
        let bridges = Bridges { gateway: Some(Ipv4Addr::new(172, 17, 0, 1)), networks: vec![(Ipv4Addr::new(172, 17, 0, 0), 16)] };
        assert!(configuration(1, &bridges).contains("listen_addresses = '127.0.0.1,172.17.0.1'\n"));
        assert_eq!(access(&bridges).lines().last(), Some("host all all 172.17.0.0/16 scram-sha-256"));
        assert!(configuration(1, &Bridges::default()).contains("listen_addresses = '127.0.0.1'\n"));
        assert_eq!(access(&Bridges::default()).lines().count(), 1);
    }
}
