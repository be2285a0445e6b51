//! The layers below the typed configuration: which environment, what it overrides, and `${VAR}`.

use crate::model::yaml::{Entry, Node, Place, Value};

use super::read::{self, Problem};
use super::types::OVERRIDING;
use super::{Config, Environment, Given};

/// Puts the chosen environment over the file and its variables in.
///
/// The other environments are read too, so that a wrong key is found before the day it is needed.
pub(super) fn select(mut file: Node, given: &Given) -> Result<(Node, Option<Environment>), Problem> {
    let environments = take(&mut file, "environments");
    if !matches!(file.value, Value::Mapping(_)) {
        return Err(Problem::new(file.place, format!("the configuration needs to be a mapping, not {}", file.kind())));
    }
    let Some(environments) = environments else {
        let none = "the configuration has no `environments`, so there is none to choose with --env";
        if given.environment.is_some() {
            return Err(Problem::new(file.place, none).hint("leave --env out, or add `environments` to the file"));
        }
        return Ok((variables(file, given)?, None));
    };
    let names: Vec<&str> = environments.value.entries().iter().map(|entry| entry.key.as_str()).collect();
    let chosen = match &given.environment {
        Some(name) if names.contains(&name.as_str()) => name.clone(),
        Some(name) => {
            let near = read::nearest(name, &names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let message = format!("there is no environment `{name}`{near}");
            return Err(Problem::new(environments.place, message).hint(format!("the file has: {}", names.join(", "))));
        }
        None if names.len() == 1 => names[0].to_owned(),
        None => {
            let problem = Problem::new(environments.place, "the configuration has several environments and none was chosen");
            return Err(problem.hint(format!("choose one with --env: {}", names.join(", "))));
        }
    };
    let mut selected = None;
    for entry in environments.value.entries() {
        let (own, overrides) = split(&entry.value)?;
        let merged = merge(file.clone(), &overrides);
        if entry.key == chosen {
            let own = variables(own, given)?;
            let environment: Environment = read::from_node(&own)?;
            if let Some(account) = &environment.account
                && !(account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
            {
                let place = own.get("account").map_or(own.place, |node| node.place);
                return Err(Problem::new(place, format!("account `{account}`: needs the 12 digits of an AWS account")));
            }
            selected = Some((variables(merged, given)?, Some(Environment { name: chosen.clone(), ..environment })));
        } else {
            read::unknown_key::<Config>(&merged)?;
            read::unknown_key::<Environment>(&own)?;
        }
    }
    selected.ok_or_else(|| Problem::new(environments.place, "there is no environment"))
}

/// The names of the environments.
pub(super) fn names(file: &Node) -> Vec<String> {
    file.get("environments").map_or_else(Vec::new, |node| node.entries().iter().map(|entry| entry.key.clone()).collect())
}

fn take(node: &mut Node, key: &str) -> Option<Entry> {
    let Value::Mapping(entries) = &mut node.value else { return None };
    entries.iter().position(|entry| entry.key == key).map(|at| entries.remove(at))
}

/// What an environment says of itself, and what it overrides.
fn split(node: &Node) -> Result<(Node, Node), Problem> {
    if !matches!(node.value, Value::Mapping(_)) {
        return Err(Problem::new(node.place, format!("an environment needs to be a mapping, not {}", node.kind())));
    }
    let (overrides, own) = node.entries().iter().cloned().partition(|entry: &Entry| OVERRIDING.contains(&entry.key.as_str()));
    let of = |entries| Node { place: node.place, value: Value::Mapping(entries) };
    Ok((of(own), of(overrides)))
}

/// `over` laid on `base`: mappings are merged key by key, anything else is replaced.
fn merge(base: Node, over: &Node) -> Node {
    match (base.value, &over.value) {
        (Value::Mapping(mut entries), Value::Mapping(overrides)) => {
            for new in overrides {
                match entries.iter_mut().find(|entry| entry.key == new.key) {
                    Some(entry) => entry.value = merge(entry.value.clone(), &new.value),
                    None => entries.push(new.clone()),
                }
            }
            Node { place: base.place, value: Value::Mapping(entries) }
        }
        _ => over.clone(),
    }
}

/// Every `${VAR}` in a value replaced; `$${` is a literal `${`.
fn variables(node: Node, given: &Given) -> Result<Node, Problem> {
    let place = node.place;
    let value = match node.value {
        Value::Scalar { text, plain } => Value::Scalar { text: expand(&text, place, given)?, plain },
        Value::Sequence(items) => Value::Sequence(items.into_iter().map(|item| variables(item, given)).collect::<Result<_, _>>()?),
        Value::Mapping(entries) => {
            let expanded = entries.into_iter().map(|entry| Ok(Entry { value: variables(entry.value, given)?, ..entry }));
            Value::Mapping(expanded.collect::<Result<_, Problem>>()?)
        }
        Value::Null => Value::Null,
    };
    Ok(Node { place, value })
}

pub(super) fn expand(text: &str, place: Place, given: &Given) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err(Problem::new(place, "`${` has no `}`").hint("write `$${` where the two characters are meant"));
        };
        let name = &rest[at + 2..at + end];
        let Some(value) = given.variables.get(name) else {
            let problem = Problem::new(place, format!("the variable `{name}` is not set in the environment"));
            return Err(problem.hint(format!("set it (`export {name}=…`), or write `$${{{name}}}` where the text itself is meant")));
        };
        out.push_str(value);
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
