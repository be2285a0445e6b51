//! A Parameter Store and a Secrets Manager with fixed values, on loopback.
//!
//! `GetParameters` answers what is there under `Parameters` and the rest under `InvalidParameters`
//! (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html>); `GetSecretValue` of an unknown secret is a
//! `ResourceNotFoundException` (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The values by their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    pub(crate) parameters: BTreeMap<String, String>,
    /// By the secret's name, and by `name@stage` or `name@id` for a version other than the current one.
    pub(crate) secrets: BTreeMap<String, String>,
}

/// A running server.
pub(crate) struct ParameterStore {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl ParameterStore {
    /// Serves these values until the process ends.
    pub(crate) fn start(values: Values) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (values, log) = (values.clone(), Arc::clone(&log));
                std::thread::spawn(move || serve(&stream, &values, &log));
            }
        });
        Self { url, asked }
    }
}

fn serve(stream: &TcpStream, values: &Values, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut action, mut length) = (String::new(), 0_usize);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let Some((name, value)) = line.trim().split_once(':') else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "x-amz-target" => value.trim().rsplit('.').next().unwrap_or_default().clone_into(&mut action),
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let question: Value = serde_json::from_slice(&body).ok()?;
        log.lock().unwrap().push(format!("{action} {question}"));
        let (status, answer) = answer(&action, &question, values);
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n", answer.len());
        let mut stream = stream;
        stream.write_all((head + &answer).as_bytes()).ok()?;
    }
}

fn answer(action: &str, question: &Value, values: &Values) -> (u16, Value) {
    if action == "GetParameters" {
        let names: Vec<&str> = question["Names"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let known = |name: &&&str| values.parameters.contains_key(**name);
        let parameter = |name: &&str| json!({"Name": name, "Type": "SecureString", "Value": values.parameters[*name]});
        let found: Vec<Value> = names.iter().filter(known).map(parameter).collect();
        let missing: Vec<&&str> = names.iter().filter(|name| !known(name)).collect();
        return (200, json!({"Parameters": found, "InvalidParameters": missing}));
    }
    let id = question["SecretId"].as_str().unwrap_or_default();
    let version = question["VersionStage"].as_str().or(question["VersionId"].as_str());
    let key = version.filter(|version| *version != "AWSCURRENT").map_or_else(|| id.to_owned(), |version| format!("{id}@{version}"));
    match values.secrets.get(&key) {
        Some(text) => (200, json!({"Name": id, "ARN": id, "SecretString": text, "VersionStages": ["AWSCURRENT"]})),
        None => (400, json!({"__type": "ResourceNotFoundException", "message": "Secrets Manager can't find the specified secret."})),
    }
}
