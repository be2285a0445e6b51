//! A real PostgreSQL server of a test's own, which containers reach by the address of Docker's bridge. It is gone when this is dropped.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A running server.
pub(crate) struct Postgres {
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// Starts one. PostgreSQL runs as nobody's superuser: as root it is started for the user `postgres`.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let postgres = Self { folder, port };
        postgres.run(
            "chown postgres \"$0\" 2>/dev/null; run \"$bin/initdb --auth=trust --username=postgres -D $0/data\" && \
             echo 'host all all 172.16.0.0/12 trust' >>\"$0/data/pg_hba.conf\" && \
             run \"$bin/pg_ctl -w -D $0/data -l $0/log -o '-p $1 -k $0 -c listen_addresses=* -c fsync=off' start\"",
        );
        postgres
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on a user has to say the password.
    pub(crate) fn asks_for_passwords(&self, user: &str) {
        self.run(&format!(
            "sed -i '1i host all {user} 127.0.0.1/32 scram-sha-256' \"$0/data/pg_hba.conf\" && run \"$bin/pg_ctl -D $0/data reload\""
        ));
    }

    fn run(&self, script: &str) {
        let script = format!(
            "bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1); \
             run() {{ if [ \"$(id -u)\" = 0 ]; then su postgres -c \"$1\"; else sh -c \"$1\"; fi; }}; {script}"
        );
        let output =
            Command::new("sh").args(["-c", &script]).arg(self.folder.path()).arg(self.port.to_string()).current_dir("/").output().unwrap();
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }

    /// Makes a database, and gives its URL from this machine and from containers.
    pub(crate) fn database(&self, name: &str) -> (String, String) {
        self.query("postgres", &format!("CREATE DATABASE {name}"));
        let url = |host: &str| format!("postgres://postgres@{host}:{}/{name}", self.port);
        // What the emulator lets its containers call this machine.
        (url("127.0.0.1"), url("host.docker.internal"))
    }

    /// A session that does something for as long as this is kept.
    pub(crate) fn session(&self, database: &str, query: &str) -> Session {
        let port = self.port.to_string();
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-d", database, "-c", query]);
        Session(psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// What a query answers, one row a line.
    pub(crate) fn query(&self, database: &str, query: &str) -> String {
        let port = self.port.to_string();
        let output = Command::new("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &port,
                "-d",
                database,
                "-c",
                query,
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// A session that holds something until it is dropped.
pub(crate) struct Session(std::process::Child);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("run \"$bin/pg_ctl -D $0/data -m immediate stop\"");
    }
}
