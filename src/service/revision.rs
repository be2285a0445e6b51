//! A revision as the document that registers it: the next one, what it changes, and whether two are the same.
//!
//! The document is AWS's own JSON. Nothing is read out of it but what is changed, so that whatever else stands there survives.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model::sensitive;

/// What is shown in the place of a value that looks secret.
const MASKED: &str = "***";
/// What windlass's own labels begin with.
const LABELS: &str = "windlass.";
/// A longer value is cut where it is shown.
const SHOWN: usize = 120;

/// The document of a revision. It holds what people have put into variables: its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Definition(Value);

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Definition({})", self.0.get("family").and_then(Value::as_str).unwrap_or_default())
    }
}

/// One thing that the next revision changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where: `web.image`, `web.environment.COLOUR`.
    pub what: String,
    /// What it is now, masked if it looks secret; `None` if it is not there.
    pub from: Option<String>,
    /// What it will be.
    pub to: Option<String>,
}

impl Definition {
    /// The document of a revision.
    #[must_use]
    pub fn new(document: Value) -> Self {
        Self(document)
    }

    /// The document of a file, of the family that runs where it names none.
    #[must_use]
    pub fn rendered(mut document: Value, current: &Self) -> Self {
        if let (Some(fields), Some(family)) = (document.as_object_mut(), current.0.get("family")) {
            fields.entry("family").or_insert_with(|| family.clone());
        }
        Self(document)
    }

    /// As it is registered.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.0
    }

    /// The same with another image of one container, and with variables set there; all else untouched.
    #[must_use]
    pub fn next(&self, container: &str, image: &str, environment: &BTreeMap<String, String>) -> Self {
        let mut document = self.0.clone();
        if let Some(ours) = container_of(&mut document, container) {
            ours.insert("image".to_owned(), Value::String(image.to_owned()));
            set(ours, environment);
        }
        Self(document)
    }

    /// The same with labels on one container, beside those that it has.
    #[must_use]
    pub fn labelled(&self, container: &str, labels: &BTreeMap<String, String>) -> Self {
        let mut document = self.0.clone();
        if let Some(own) = container_of(&mut document, container).filter(|_| !labels.is_empty()) {
            let all = own.entry("dockerLabels").or_insert_with(|| json!({}));
            for (name, value) in labels {
                all[name] = Value::String(value.clone());
            }
        }
        Self(document)
    }

    /// Would ECS do the same with both? An empty list is none, and the order of variables means nothing.
    #[must_use]
    pub fn is_equal(&self, other: &Self) -> bool {
        plain(&self.0, "") == plain(&other.0, "")
    }

    /// What `other` has otherwise than this one, in the order of the names.
    #[must_use]
    pub fn changes(&self, other: &Self) -> Vec<Change> {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        leaves(&plain(&self.0, ""), String::new(), &mut before);
        leaves(&plain(&other.0, ""), String::new(), &mut after);
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        changed.map(|name| Change { what: name.clone(), from: shown(name, before.get(name)), to: shown(name, after.get(name)) }).collect()
    }
}

fn container_of<'a>(document: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let containers = document.get_mut("containerDefinitions")?.as_array_mut()?;
    containers.iter_mut().find(|found| found.get("name").and_then(Value::as_str) == Some(name))?.as_object_mut()
}

fn set(container: &mut Map<String, Value>, environment: &BTreeMap<String, String>) {
    if environment.is_empty() {
        return;
    }
    let variables = container.entry("environment").or_insert_with(|| json!([]));
    let Some(variables) = variables.as_array_mut() else { return };
    for (name, value) in environment {
        match variables.iter_mut().find(|pair| pair.get("name").and_then(Value::as_str) == Some(name)) {
            Some(pair) => pair["value"] = Value::String(value.clone()),
            None => variables.push(json!({"name": name, "value": value})),
        }
    }
}

/// The lists of a task definition whose entries have names, and by which field.
fn keyed_by(list: &str) -> Option<&'static str> {
    match list {
        "containerDefinitions" | "environment" | "secrets" | "volumes" | "ulimits" => Some("name"),
        "tags" => Some("key"),
        _ => None,
    }
}

/// A document in which what means nothing is the same: no empty values, and named entries under their names.
fn plain(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(fields) => {
            // Of which release a revision is makes it no other revision.
            let own = |key: &str| name == "dockerLabels" && key.starts_with(LABELS);
            let kept = fields.iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.clone(), plain(value, key)));
            let awsvpc = fields.get("containerPort");
            Value::Object(kept.filter(|(key, value)| !is_nothing(value) && !is_default(key, value, awsvpc)).collect())
        }
        Value::Array(entries) => {
            let named = |entry: &Value| Some((entry.get(keyed_by(name)?)?.as_str()?.to_owned(), plain(entry, "")));
            match entries.iter().map(named).collect::<Option<Map<String, Value>>>() {
                Some(map) if !entries.is_empty() && map.len() == entries.len() => Value::Object(map),
                _ => Value::Array(entries.iter().map(|entry| plain(entry, "")).collect()),
            }
        }
        other => other.clone(),
    }
}

/// ECS answers with `"cpu": 0`, `[]` and `false` where nothing was said; the same is registered by both.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(entries) => entries.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(_) | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Does a field say what ECS takes for granted, and writes into its answers where nothing was said?
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>, `API_PortMapping.html`, `API_HealthCheck.html`
fn is_default(key: &str, value: &Value, container_port: Option<&Value>) -> bool {
    match key {
        "essential" => *value == json!(true),
        "cpu" => *value == json!(0),
        "protocol" => *value == json!("tcp"),
        // With a network of its own a task's ports are its containers'.
        "hostPort" => *value == json!(0) || Some(value) == container_port,
        "interval" => *value == json!(30),
        "timeout" => *value == json!(5),
        "retries" => *value == json!(3),
        _ => *value == json!(false),
    }
}

/// Every value with its path. Containers stand under their own names, and a variable or a secret under its own.
fn leaves(value: &Value, path: String, into: &mut BTreeMap<String, Value>) {
    let below = |name: &str| match (path.as_str(), name) {
        ("" | "containerDefinitions", "containerDefinitions") => String::new(),
        ("", name) => name.to_owned(),
        (path, name) => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            let is_named = fields.contains_key("name") || fields.contains_key("key");
            for (name, value) in fields {
                match name.as_str() {
                    "name" | "key" if is_named && fields.len() > 1 => {}
                    // A variable's value is the variable.
                    "value" | "valueFrom" if is_named => leaves(value, path.clone(), into),
                    name => leaves(value, below(name), into),
                }
            }
        }
        other => {
            into.insert(path, other.clone());
        }
    }
}

fn shown(name: &str, value: Option<&Value>) -> Option<String> {
    let value = value?;
    if sensitive(name.rsplit('.').next().unwrap_or(name)) && !name.contains(".secrets.") {
        return Some(MASKED.to_owned());
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(if text.chars().count() > SHOWN { text.chars().take(SHOWN).chain(['…']).collect() } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Definition {
        Definition::new(json!({
            "family": "api", "cpu": "256", "ofNextYear": {"deep": [1, 2]},
            "containerDefinitions": [
                {"name": "web", "image": "old", "cpu": 0, "environment": [{"name": "B", "value": "2"}, {"name": "DB_PASSWORD", "value": "x"}],
                 "secrets": [{"name": "KEY", "valueFrom": "arn:aws:secretsmanager:us-east-1:1:secret:k"}], "new": {"field": true}},
                {"name": "proxy", "image": "nginx", "essential": false},
            ],
        }))
    }

    #[test]
    fn only_what_the_plan_says_changes() {
        let environment = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("DB_PASSWORD".to_owned(), "y".to_owned())]);
        let next = base().next("web", "new", &environment);
        let mut expected = base();
        expected.0["containerDefinitions"][0]["image"] = json!("new");
        expected.0["containerDefinitions"][0]["environment"] =
            json!([{"name": "B", "value": "2"}, {"name": "DB_PASSWORD", "value": "y"}, {"name": "A", "value": "1"}]);
        assert_eq!(next, expected);
    }

    #[test]
    fn the_labels_of_a_release_make_no_other_revision() {
        let labels = |release: &str| BTreeMap::from([("windlass.release".to_owned(), release.to_owned())]);
        let (one, other) = (base().labelled("web", &labels("1")), base().labelled("web", &labels("2")));
        assert_eq!(one.document()["containerDefinitions"][0]["dockerLabels"]["windlass.release"], "1");
        assert!(one.is_equal(&other) && one.is_equal(&base()) && one.changes(&other).is_empty());
        assert_eq!(one.document()["containerDefinitions"][1]["dockerLabels"], Value::Null);
    }

    #[test]
    fn a_change_is_shown_and_a_secret_is_not() {
        let environment = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("DB_PASSWORD".to_owned(), "y".to_owned())]);
        let changes = base().changes(&base().next("web", "new", &environment));
        let change = |what: &str, from: Option<&str>, to: &str| Change {
            what: what.to_owned(),
            from: from.map(str::to_owned),
            to: Some(to.to_owned()),
        };
        let expected = [
            change("web.environment.A", None, "1"),
            change("web.environment.DB_PASSWORD", Some("***"), "***"),
            change("web.image", Some("old"), "new"),
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn two_that_ecs_treats_alike_are_equal() {
        let mut other = base();
        other.0["volumes"] = json!([]);
        other.0["containerDefinitions"][0]["environment"] = json!([{"name": "DB_PASSWORD", "value": "x"}, {"name": "B", "value": "2"}]);
        assert!(base().is_equal(&other) && base().changes(&other).is_empty());
        other.0["ofNextYear"]["deep"] = json!([2, 1]);
        assert!(!base().is_equal(&other));
    }

    #[test]
    fn what_ecs_adds_to_a_file_changes_nothing() {
        let file = Definition::rendered(
            json!({"containerDefinitions": [{"name": "web", "image": "i", "portMappings": [{"containerPort": 8000}],
                "healthCheck": {"command": ["CMD", "true"]}}]}),
            &base(),
        );
        let answered = Definition::new(json!({"family": "api", "volumes": [], "placementConstraints": [], "containerDefinitions": [{
            "name": "web", "image": "i", "cpu": 0, "essential": true, "environment": [], "mountPoints": [], "enableFaultInjection": false,
            "portMappings": [{"containerPort": 8000, "hostPort": 8000, "protocol": "tcp"}],
            "healthCheck": {"command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3}}]}));
        assert!(file.is_equal(&answered), "{:?}", answered.changes(&file));
        let mut other = answered.clone();
        other.0["containerDefinitions"][0]["essential"] = json!(false);
        assert_eq!(other.changes(&file).len(), 1);
    }

    #[test]
    fn its_debug_shows_nothing() {
        assert_eq!(format!("{:?}", base()), "Definition(api)");
    }
}
