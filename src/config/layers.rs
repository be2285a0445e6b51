//! The layers below the typed configuration: which environment, what it overrides, and `${VAR}`.

use crate::model::yaml::{Entry, Node, Place, Value};

use super::read::{self, Problem};
use super::types::OVERRIDING;
use super::{Config, Environment, Given, check_words};

/// Puts the chosen environment over the file and its variables in.
///
/// The other environments are read too, so that a wrong key is found before the day it is needed.
/// All problems are added to `problems`; `None` where nothing is left to be read.
pub(super) fn select(mut file: Node, given: &Given, problems: &mut Vec<Problem>) -> Option<(Node, Option<Environment>)> {
    let environments = take(&mut file, "environments");
    if !matches!(file.value, Value::Mapping(_)) {
        problems.push(Problem::new(file.place, format!("the configuration needs to be a mapping, not {}", file.kind())));
        return None;
    }
    let Some(environments) = environments else {
        if given.environment.is_some() {
            let none = "the configuration has no `environments`, so there is none to choose with --env";
            problems.push(Problem::new(file.place, none).hint("leave --env out, or add `environments` to the file"));
        }
        check_words::keep_secrets(&file, given, problems);
        return Some((variables(file, given, problems), None));
    };
    let chosen = match chosen(&environments, given) {
        Ok(chosen) => chosen,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut selected = None;
    for entry in environments.value.entries() {
        let Some((own, overrides)) = split(&entry.value, problems) else { continue };
        let merged = merge(file.clone(), &overrides);
        if entry.key == chosen {
            let own = variables(own, given, problems);
            for entry in own.entries().iter().filter(|entry| matches!(&entry.value.value, Value::Scalar { text, .. } if text.is_empty())) {
                let problem = Problem::new(entry.place, format!("`{}` is empty", entry.key));
                problems.push(problem.hint("fill it in, or leave the key out"));
            }
            let environment: Option<Environment> = read::every(&own, problems);
            let account = environment.as_ref().and_then(|environment| environment.account.as_ref());
            if let Some(account) =
                account.filter(|text| !(text.is_empty() || text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())))
            {
                let place = own.get("account").map_or(own.place, |node| node.place);
                problems.push(Problem::new(place, format!("account `{account}`: needs the 12 digits of an AWS account")));
            }
            let environment = environment.map(|environment| Environment { name: chosen.clone(), ..environment });
            check_words::keep_secrets(&merged, given, problems);
            selected = Some((variables(merged, given, problems), environment));
        } else {
            read::unknown_keys::<Config>(&merged, problems);
            read::unknown_keys::<Environment>(&own, problems);
        }
    }
    selected
}

/// The environment that is meant.
fn chosen(environments: &Entry, given: &Given) -> Result<String, Problem> {
    if !matches!(environments.value.value, Value::Mapping(_) | Value::Null) {
        let what = format!("`environments` needs to be a mapping, not {}", environments.value.kind());
        return Err(Problem::new(environments.place, what).hint("name each with a mapping below it: `staging: {region: us-east-1}`"));
    }
    let names: Vec<&str> = environments.value.entries().iter().map(|entry| entry.key.as_str()).collect();
    match &given.environment {
        _ if names.is_empty() => {
            let problem = Problem::new(environments.place, "`environments` names none");
            Err(problem.hint("add one (`staging: {account: \"111111111111\", region: us-east-1}`), or leave the key out"))
        }
        Some(name) if names.contains(&name.as_str()) => Ok(name.clone()),
        Some(name) => {
            let near = read::nearest(name, &names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let message = format!("there is no environment `{name}`{near}");
            Err(Problem::new(environments.place, message).hint(format!("the file has: {}", names.join(", "))))
        }
        None if names.len() == 1 => Ok(names[0].to_owned()),
        None => {
            let problem = Problem::new(environments.place, "the configuration has several environments and none was chosen");
            Err(problem.hint(format!("choose one with --env: {}", names.join(", "))))
        }
    }
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
fn split(node: &Node, problems: &mut Vec<Problem>) -> Option<(Node, Node)> {
    if !matches!(node.value, Value::Mapping(_) | Value::Null) {
        problems.push(Problem::new(node.place, format!("an environment needs to be a mapping, not {}", node.kind())));
        return None;
    }
    let (overrides, own) = node.entries().iter().cloned().partition(|entry: &Entry| OVERRIDING.contains(&entry.key.as_str()));
    let of = |entries| Node { place: node.place, value: Value::Mapping(entries) };
    Some((of(own), of(overrides)))
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

/// Every `${VAR}` in a value replaced; `$${` is a literal `${`. A text whose variable is not set stays as it is.
fn variables(node: Node, given: &Given, problems: &mut Vec<Problem>) -> Node {
    let place = node.place;
    let value = match node.value {
        Value::Scalar { text, plain } => match expand(&text, place, given) {
            Ok(text) => Value::Scalar { text, plain },
            Err(problem) => {
                problems.push(problem);
                Value::Scalar { text, plain }
            }
        },
        Value::Sequence(items) => Value::Sequence(items.into_iter().map(|item| variables(item, given, problems)).collect()),
        Value::Mapping(entries) => {
            let expanded = entries.into_iter().map(|entry| Entry { value: variables(entry.value, given, problems), ..entry });
            Value::Mapping(expanded.collect())
        }
        Value::Null => Value::Null,
    };
    Node { place, value }
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
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let problem = Problem::new(place, format!("`${{{name}}}` is not the name of a variable: defaults and the like are a shell's"));
            return Err(problem.hint(format!("write `${{NAME}}` alone, or `$${{{name}}}` where the text itself is meant")));
        }
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
