//! A task definition in a file of the repository: AWS's own document, with `${VAR}` in its texts.

use std::path::Path;

use serde_json::Value;

use crate::model::yaml::Place;
use crate::model::{ANSWERED_ONLY, Exit, Failure, Mask, UnitName, sensitive};

use super::layers::expand;
use super::{Given, Service};

/// Reads the file that a service's next revision is rendered from.
pub(super) fn read(root: &Path, name: &UnitName, service: &mut Service, given: &Given) -> Result<(), Failure> {
    let Some(file) = &service.task_definition else { return Ok(()) };
    let path = root.join(file);
    let failed = |what: &str| Failure::new(Exit::Config, format!("service `{name}`: the task definition `{}` {what}", path.display()));
    let hint = "write what `aws ecs register-task-definition --cli-input-json` takes, from the directory of windlass.yml";
    let text = std::fs::read_to_string(&path).map_err(|error| failed("cannot be read").because(error).hint(hint))?;
    let read: Value = serde_json::from_str(&text).map_err(|error| failed("is no JSON").because(error).hint(hint))?;
    let mut document = read.get("taskDefinition").cloned().unwrap_or(read);
    let refused = |problem: super::read::Problem| problem.at(&path, &text);
    put_in(&mut document, &text, given).map_err(refused)?;
    let Some(fields) = document.as_object_mut() else { return Err(failed("holds no object").hint(hint)) };
    // A file may be an answer of ECS's.
    fields.retain(|key, value| !ANSWERED_ONLY.contains(&key.as_str()) && !value.is_null());
    let containers = fields.get("containerDefinitions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text_of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !containers.iter().any(|container| text_of(container, "name") == service.container) {
        let names: Vec<String> = containers.iter().map(|container| text_of(container, "name")).collect();
        return Err(failed(&format!("has no container `{}`", service.container)).hint(format!("it has: {}", names.join(", "))));
    }
    let variables = containers.iter().filter_map(|container| container.get("environment")?.as_array()).flatten();
    if let Some(secret) = variables.map(|pair| text_of(pair, "name")).find(|variable| sensitive(variable)) {
        let failure = failed(&format!("sets the variable `{secret}`, which looks secret, and would stand in plans and revisions"));
        return Err(failure.hint("put it under `secrets`, from Secrets Manager or Parameter Store"));
    }
    let mask = Mask::new(given.variables.iter().filter(|(name, _)| sensitive(name)).map(|(_, value)| value.clone()));
    let rendered = document.to_string();
    if mask.apply(&rendered) != rendered {
        let failure = failed("holds the value of a variable that looks secret, and would put it into plans and revisions");
        return Err(failure.hint("put it under `secrets`, from Secrets Manager or Parameter Store"));
    }
    service.definition = Some(document);
    Ok(())
}

/// Puts variables into every text; `$${` stays a literal `${`.
fn put_in(value: &mut Value, file: &str, given: &Given) -> Result<(), super::read::Problem> {
    match value {
        Value::String(text) => *text = expand(text, place(file, text), given)?,
        Value::Array(all) => all.iter_mut().try_for_each(|one| put_in(one, file, given))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|one| put_in(one, file, given))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// The line of the file that a text with a variable stands on, as far as JSON's own escapes let it be found.
fn place(file: &str, text: &str) -> Place {
    let variable = text.find("${").map_or(text, |at| &text[at..]);
    let variable = variable.find('}').map_or(variable, |end| &variable[..=end]);
    let line = file.lines().position(|line| line.contains(variable)).unwrap_or_default();
    let column = file.lines().nth(line).and_then(|line| line.find(variable)).unwrap_or_default();
    Place { line: line + 1, column: column + 1 }
}
