//! The scripted ECS of `scripted_ecs.py`, which says where each behaviour comes from. It ends with the test that started it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A running scripted ECS; it ends when this is dropped, or with the process.
pub(crate) struct Scripted {
    child: Child,
    url: String,
}

impl Scripted {
    /// Starts one that refuses this share of all calls with a `ThrottlingException`.
    pub(crate) fn start(throttle: f64) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/scripted_ecs.py");
        let mut command = Command::new("python3");
        command.args(["-B", script, "--until-eof", "--throttle", &throttle.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn ask(&self, method: &str, path: &str) -> Value {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Every call since the start, those that were refused included: its action, and what was asked.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        let calls = self.ask("GET", "/_calls");
        let call = |call: &Value| (call["action"].as_str().unwrap().to_owned(), call["question"].clone());
        calls.as_array().unwrap().iter().map(call).collect()
    }

    /// When an action was asked for, in seconds since 1970.
    pub(crate) fn times_of(&self, action: &str) -> Vec<f64> {
        let calls = self.ask("GET", "/_calls");
        calls.as_array().unwrap().iter().filter(|call| call["action"] == action).map(|call| call["at"].as_f64().unwrap()).collect()
    }

    /// Was the service looked at since it was told to roll?
    pub(crate) fn is_watched(&self, service: &str) -> bool {
        let calls = self.calls();
        let told = calls.iter().position(|(action, asked)| action == "UpdateService" && asked["service"] == service);
        told.is_some_and(|told| {
            calls[told..].iter().any(|(action, asked)| action == "DescribeServices" && asked.to_string().contains(service))
        })
    }

    /// Each service's deployments with their revisions, the newest first.
    pub(crate) fn state(&self) -> Value {
        self.ask("GET", "/_state")
    }

    /// The calls of an action that name a service, or its family.
    pub(crate) fn calls_of(&self, action: &str, service: &str) -> Vec<Value> {
        let names = |question: &Value| ["service", "family", "serviceName"].iter().any(|key| question[*key] == service);
        self.calls().into_iter().filter(|(called, question)| called == action && names(question)).map(|(_, question)| question).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
