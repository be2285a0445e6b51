//! Test reports: `JUnit`, `NUnit` 2 and 3, `TestNG`, Visual Studio's TRX, and Cucumber's JSON.
//!
//! Deliberately absent: schemas. Tools differ in what they write; an element that says how a test went is enough.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::spec::ReportFormat;

/// One test.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Case {
    /// The class, suite or feature that it belongs to.
    pub(super) class: String,
    /// Its name.
    pub(super) name: String,
    /// What it failed with.
    pub(super) failure: Option<String>,
    /// Was it passed over?
    pub(super) skipped: bool,
    /// How long it took.
    pub(super) seconds: f64,
}

pub(super) fn cases(format: ReportFormat, text: &str) -> Result<Vec<Case>, String> {
    match format {
        ReportFormat::CucumberJson => cucumber(text),
        ReportFormat::NunitXml | ReportFormat::Nunit3Xml => by_attribute(text, "test-case", "result", nunit_legacy),
        ReportFormat::TestNgXml => by_attribute(text, "test-method", "status", |_| None),
        ReportFormat::VisualStudioTrx => by_attribute(text, "UnitTestResult", "outcome", |_| None),
        _ => junit_cases(text),
    }
}

/// The attributes of an element, by their names without prefixes.
pub(super) type Attributes = BTreeMap<String, String>;

pub(super) fn attributes(element: &BytesStart<'_>) -> Attributes {
    let attribute = |attribute: quick_xml::events::attributes::Attribute<'_>| {
        let name = attribute.key.local_name().as_ref().to_owned();
        let raw = attribute.value.clone().into_owned();
        let value = quick_xml::escape::unescape(&raw).map_or_else(|_| raw.clone(), std::borrow::Cow::into_owned);
        (name, value)
    };
    element.attributes().with_checks(false).filter_map(Result::ok).map(attribute).collect()
}

/// Walks through a document: `visit` is told of every element's start and end.
pub(super) fn walk(text: &str, mut visit: impl FnMut(Visit<'_>)) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let mut depth = 0_usize;
    let mut any = false;
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => {
                any = true;
                depth += 1;
                visit(Visit::Start { name: element.local_name().as_ref(), attributes: attributes(&element), depth });
            }
            Ok(Event::Empty(element)) => {
                any = true;
                let own = element.local_name();
                let name = own.as_ref();
                visit(Visit::Start { name, attributes: attributes(&element), depth: depth + 1 });
                visit(Visit::End { name });
            }
            Ok(Event::End(element)) => {
                depth = depth.saturating_sub(1);
                visit(Visit::End { name: element.local_name().as_ref() });
            }
            Ok(Event::Eof) if depth > 0 => return Err("the document ends early".to_owned()),
            Ok(Event::Eof) if !any => return Err("there is no element in it".to_owned()),
            Ok(Event::Eof) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("{error}, at byte {}", reader.error_position())),
        }
    }
}

/// What a walk comes by.
pub(super) enum Visit<'a> {
    /// An element begins.
    Start {
        name: &'a str,
        attributes: Attributes,
        /// The root has 1.
        depth: usize,
    },
    /// An element ends.
    End { name: &'a str },
}

fn seconds(attributes: &Attributes) -> f64 {
    let plain = attributes.get("time").or_else(|| attributes.get("duration"));
    if let Some(seconds) = plain.and_then(|text| text.replace(',', "").parse().ok()) {
        return seconds;
    }
    if let Some(millis) = attributes.get("duration-ms").and_then(|text| text.parse::<f64>().ok()) {
        return millis / 1000.0;
    }
    // TRX writes `00:00:01.2340000`.
    let parts: Vec<f64> = plain.map(|text| text.split(':').filter_map(|part| part.parse().ok()).collect()).unwrap_or_default();
    parts.iter().fold(0.0, |sum, part| sum * 60.0 + part)
}

fn named(attributes: &Attributes, names: &[&str]) -> String {
    names.iter().find_map(|name| attributes.get(*name)).cloned().unwrap_or_default()
}

fn junit_cases(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    let mut open: Option<Case> = None;
    let mut suite = String::new();
    walk(text, |visit| match visit {
        Visit::Start { name: "testsuite", attributes, .. } => suite = named(&attributes, &["name"]),
        Visit::Start { name: "testcase", attributes, .. } => {
            let class = attributes.get("classname").cloned().unwrap_or_else(|| suite.clone());
            let skipped = attributes.get("status").is_some_and(|status| matches!(status.as_str(), "skipped" | "disabled" | "notrun"));
            open = Some(Case { class, name: named(&attributes, &["name"]), skipped, seconds: seconds(&attributes), failure: None });
        }
        Visit::Start { name: "failure" | "error", attributes, .. } => {
            if let Some(case) = &mut open {
                case.failure = Some(named(&attributes, &["message", "type"]));
            }
        }
        Visit::Start { name: "skipped", .. } => {
            if let Some(case) = &mut open {
                case.skipped = true;
            }
        }
        Visit::End { name: "testcase" } => cases.extend(open.take()),
        _ => {}
    })?;
    Ok(cases)
}

/// Formats in which an attribute of the test's element says how it went. The message of a failure comes in an element below it.
fn by_attribute(
    text: &str,
    element: &str,
    attribute: &str,
    otherwise: fn(&Attributes) -> Option<&'static str>,
) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    let mut class = String::new();
    walk(text, |visit| {
        let Visit::Start { name, attributes, .. } = visit else { return };
        if name == "class" {
            class = named(&attributes, &["name"]);
        }
        // TestNG reports what runs before and after the tests as if it were one.
        if name != element || attributes.get("is-config").is_some_and(|is| is == "true") {
            return;
        }
        let outcome = attributes.get(attribute).map(|text| text.to_ascii_lowercase());
        let outcome = outcome.as_deref().or_else(|| otherwise(&attributes)).unwrap_or_default();
        let failed =
            matches!(outcome, "fail" | "failed" | "failure" | "error" | "timeout" | "aborted" | "cancelled" | "notrunnable" | "invalid");
        let skipped =
            matches!(outcome, "skip" | "skipped" | "ignored" | "inconclusive" | "notexecuted" | "pending" | "disconnected" | "warning");
        cases.push(Case {
            class: attributes.get("classname").cloned().unwrap_or_else(|| class.clone()),
            name: named(&attributes, &["fullname", "name", "testName"]),
            failure: failed.then(|| outcome.to_owned()),
            skipped,
            seconds: seconds(&attributes),
        });
    })?;
    Ok(cases)
}

/// `NUnit` before 2.5 says `success="False"` and `executed="False"`.
fn nunit_legacy(attributes: &Attributes) -> Option<&'static str> {
    if attributes.get("executed").is_some_and(|text| text.eq_ignore_ascii_case("false")) {
        return Some("skipped");
    }
    attributes.get("success").map(|text| if text.eq_ignore_ascii_case("true") { "passed" } else { "failed" })
}

/// <https://github.com/cucumber/json-formatter>: features with elements with steps; a scenario fails with any of its steps.
fn cucumber(text: &str) -> Result<Vec<Case>, String> {
    let document: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let features = document.as_array().ok_or("a list of features was expected")?;
    let text_of = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut cases = Vec::new();
    for feature in features {
        for element in feature["elements"].as_array().into_iter().flatten().filter(|element| element["type"] != "background") {
            let parts = ["before", "steps", "after"].map(|part| element[part].as_array().cloned().unwrap_or_default());
            let results: Vec<serde_json::Value> = parts.iter().flatten().map(|step| step["result"].clone()).collect();
            let is = |words: &'static [&'static str]| {
                move |result: &&serde_json::Value| result["status"].as_str().is_some_and(|status| words.contains(&status))
            };
            let failed = results.iter().find(is(&["failed", "undefined", "ambiguous"]));
            let nanos: f64 = results.iter().filter_map(|result| result["duration"].as_f64()).sum();
            cases.push(Case {
                class: text_of(feature, "name"),
                name: text_of(element, "name"),
                failure: failed.map(|result| result["error_message"].as_str().or(result["status"].as_str()).unwrap_or_default().to_owned()),
                skipped: failed.is_none() && results.iter().any(|result| is(&["skipped", "pending"])(&result)),
                seconds: nanos / 1e9,
            });
        }
    }
    Ok(cases)
}

/// The tests of a group, whatever they came from, as `JUnit`.
pub(super) fn junit(group: &str, cases: &[Case]) -> String {
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let skipped = cases.iter().filter(|case| case.skipped).count();
    let escape = |text: &str| quick_xml::escape::escape(text).into_owned();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">\n",
        escape(group),
        cases.len()
    );
    for case in cases {
        let inner = match (&case.failure, case.skipped) {
            (Some(message), _) => format!("<failure message=\"{}\"/>", escape(message)),
            (None, true) => "<skipped/>".to_owned(),
            (None, false) => String::new(),
        };
        let (class, name) = (escape(&case.class), escape(&case.name));
        let _ = writeln!(text, "  <testcase classname=\"{class}\" name=\"{name}\" time=\"{:.3}\">{inner}</testcase>", case.seconds);
    }
    text + "</testsuite>\n"
}
