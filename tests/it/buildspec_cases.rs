//! The behaviour of buildspecs, case by case, as `tests/cases/buildspec.yml` has it: each with where it is known from.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value as Json;
use windlass::model::yaml::{Node, Value, parse};

use crate::support::parameter_store::{ParameterStore, Values};
use crate::support::scene::{Outcome, Scene};

/// What a case expects, as JSON: keys are what they are, scalars are numbers or texts.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar { text, plain } => match text.parse::<u64>() {
            Ok(number) if *plain => number.into(),
            _ => text.clone().into(),
        },
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}

fn text(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, .. } => text.clone(),
        _ => String::new(),
    }
}

fn pairs(node: Option<&Node>) -> BTreeMap<String, String> {
    node.map(Node::entries).unwrap_or_default().iter().map(|entry| (entry.key.clone(), text(&entry.value))).collect()
}

fn texts(value: &Json) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn sorted(value: &Json) -> BTreeSet<String> {
    texts(value).into_iter().collect()
}

/// Runs one case and gives what differs.
fn differences(case: &Node) -> Vec<String> {
    let values = Values { parameters: pairs(case.get("ssm")), secrets: pairs(case.get("secrets")) };
    let store = ParameterStore::start(values);
    let mut scene = Scene::new(&store.url);
    let environment = case.get("env");
    let layer = |name: &str| pairs(environment.and_then(|environment| environment.get(name)));
    for (name, value) in layer("image") {
        scene.set(&name, value);
    }
    let scratch = scene.home();
    let runs = case.get("runs").map_or(1, |runs| text(runs).parse().unwrap());
    let (mut outcomes, mut result) = (Vec::new(), Json::Null);
    for run in 0..runs {
        let source = format!("source-{run}");
        for (file, content) in pairs(case.get("files_in")) {
            scene.write(&format!("{source}/{file}"), content);
        }
        std::fs::create_dir_all(scene.project().join(&source)).unwrap();
        if case.get("buildspec").is_some_and(|buildspec| buildspec.value != Value::Null) {
            scene.write(&format!("{source}/buildspec.yml"), text(case.get("buildspec").unwrap()));
        }
        let mut arguments: Vec<String> =
            ["build", "--log-format", "codebuild", "--artifacts", "out", "--cache", "cache", "--result", "result.json"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(["--source".to_owned(), source]);
        arguments.extend(["--project".to_owned(), case.get("project").map_or_else(|| "demo".to_owned(), text)]);
        for (name, value) in layer("project") {
            arguments.extend(["--project-var".to_owned(), format!("{name}={value}")]);
        }
        let mut overrides = layer("override");
        overrides.insert("CASE_TMP".to_owned(), scratch.display().to_string());
        for (name, value) in overrides {
            arguments.extend(["--var".to_owned(), format!("{name}={value}")]);
        }
        if case.get("mode").is_some_and(|mode| text(mode) == "batch") {
            arguments.push("--batch".to_owned());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        outcomes.push(scene.windlass(&arguments));
        result = serde_json::from_slice(&std::fs::read(scene.project().join("result.json")).unwrap()).unwrap();
    }
    compare(&json(case.get("expect").unwrap()), &outcomes, &result)
}

fn compare(expected: &Json, outcomes: &[Outcome], result: &Json) -> Vec<String> {
    let mut wrong = Vec::new();
    let last = outcomes.last().unwrap();
    let output = format!("{}{}", last.stdout, last.stderr);
    let mut want = |what: &str, got: Json, expected: &Json| {
        if got != *expected {
            wrong.push(format!("{what}: {got} rather than {expected}"));
        }
    };
    let ok = last.code == Some(0);
    if !expected["exit"].is_null() {
        want("exit", u64::from(!ok).into(), &expected["exit"]);
    }
    want("exit code", matches!(last.code, Some(0 | 10 | 20)).into(), &true.into());
    for (phase, status) in expected["phases"].as_object().into_iter().flatten() {
        let got = result["phases"][phase]["status"].as_str().unwrap_or("NOT_RUN");
        want(phase, got.into(), status);
    }
    for (phase, context) in expected["context"].as_object().into_iter().flatten() {
        want(phase, result["phases"][phase]["code"].clone(), &context["code"]);
        let part = context["message_contains"].as_str().unwrap_or_default();
        let message = result["phases"][phase]["message"].as_str().unwrap_or_default();
        want(&format!("{phase}: {message}"), message.contains(part).into(), &true.into());
    }
    if !expected["files"].is_null() {
        want(
            "files",
            sorted(&result["artifacts"]["primary"]["files"]).into_iter().collect(),
            &sorted(&expected["files"]).into_iter().collect(),
        );
    }
    for (identifier, files) in expected["secondary_files"].as_object().into_iter().flatten() {
        want(identifier, result["artifacts"]["secondary"][identifier]["files"].clone(), files);
    }
    for (key, name) in [("artifact_name", "/artifacts/primary/name"), ("exported", "/exported_variables"), ("reports", "/reports")] {
        if !expected[key].is_null() {
            want(key, result.pointer(name).cloned().unwrap_or_default(), &expected[key]);
        }
    }
    for (identifier, status) in expected["batch"].as_object().into_iter().flatten() {
        want(identifier, result["builds"][identifier].clone(), status);
    }
    for part in texts(&expected["stdout_contains"]) {
        want(&part, output.contains(&part).into(), &true.into());
    }
    for part in texts(&expected["output_not_contains"]) {
        want(&part, output.contains(&part).into(), &false.into());
    }
    for line in texts(&expected["output_not_contains_line"]) {
        want(&line, output.lines().any(|own| own == line).into(), &false.into());
    }
    for pattern in texts(&expected["stdout_matches"]) {
        want(&pattern, Regex::new(&pattern).unwrap().is_match(&output).into(), &true.into());
    }
    for (part, count) in expected["stdout_count"].as_object().into_iter().flatten() {
        want(part, output.matches(part.as_str()).count().into(), count);
    }
    for (run, lines) in expected["run_stdout_contains"].as_object().into_iter().flatten() {
        let output = &outcomes[run.parse::<usize>().unwrap() - 1].stdout;
        for line in texts(lines) {
            want(&line, output.lines().any(|own| own == line).into(), &true.into());
        }
    }
    let order = texts(&expected["stdout_order"]);
    let found: Vec<String> = output.lines().filter(|line| order.iter().any(|own| own == line)).map(str::to_owned).collect();
    want("order", found.into(), &order.into());
    if !wrong.is_empty() {
        wrong.push(output);
    }
    wrong
}

#[test]
fn every_case_behaves_as_codebuild_does() {
    let cases = parse(include_str!("../cases/buildspec.yml")).unwrap();
    let Value::Sequence(cases) = &cases.get("cases").unwrap().value else { panic!("no cases") };
    assert!(cases.len() >= 47);
    // The cases wait for shells, and run side by side.
    let failures = std::thread::scope(|scope| {
        let chunks: Vec<_> = (0..4).map(|part| cases.iter().skip(part).step_by(4)).collect();
        let run = |case: &Node| (text(case.get("id").unwrap()), differences(case));
        let threads: Vec<_> = chunks.into_iter().map(|part| scope.spawn(move || part.map(run).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).filter(|(_, wrong)| !wrong.is_empty()).collect::<Vec<_>>()
    });
    let shown: Vec<String> = failures.iter().map(|(id, wrong)| format!("{id}\n  {}", wrong.join("\n  "))).collect();
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), cases.len(), shown.join("\n"));
}
