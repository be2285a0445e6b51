//! `JUnit` files: what CI systems show as tests. A step is a test case, its stage the suite.
//!
//! The form is the common one of Jenkins, GitLab and `CodeBuild`: `testsuites/testsuite/testcase` with `failure`, `skipped` and
//! `system-out`; see <https://github.com/testmoapp/junitxml>.

use std::fmt::Write as _;

use crate::event::{Outcome, StepRan};
use crate::model::Stage;

/// One test case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TestCase {
    /// The suite: a stage, or what else cases are grouped by.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed, if it did.
    pub failure: Option<TestFailure>,
    /// Why it did not run, if it did not.
    pub skipped: Option<String>,
    /// What it came to, in words.
    pub output: String,
}

/// Why a test case failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestFailure {
    /// One line.
    pub message: String,
    /// All that is known: causes, what to do next, the last lines of output.
    pub text: String,
}

/// The test cases of a run's steps, in the order in which they ended.
#[must_use]
pub fn step_cases(steps: &[StepRan]) -> Vec<TestCase> {
    let case = |step: &StepRan| TestCase {
        suite: step.stage.map_or("prepare", Stage::name).to_owned(),
        name: format!("{} {}", step.unit, step.action),
        seconds: step.seconds,
        failure: (step.outcome == Outcome::Failed).then(|| failure(step)),
        skipped: None,
        output: match step.outcome {
            Outcome::Unchanged => format!("unchanged, {}", step.detail),
            Outcome::Done => step.detail.clone(),
            Outcome::Failed => String::new(),
        },
    };
    steps.iter().map(case).collect()
}

fn failure(step: &StepRan) -> TestFailure {
    let mut text = String::new();
    if let Some(why) = &step.why {
        let lines = [std::slice::from_ref(&why.what), &why.causes].concat();
        text.push_str(&lines.join("\n   "));
        if let Some(hint) = &why.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
    }
    // A build's failure quotes its last lines itself.
    if step.log.last().is_some_and(|last| !text.contains(last.trim())) {
        text.push_str("\n\nits last lines:\n");
        text.push_str(&step.log.join("\n"));
    }
    TestFailure { message: first_line(&step.detail).to_owned(), text }
}

/// The words of a failure that go into one line.
#[must_use]
pub fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or("failed");
    line.strip_suffix("; its last lines:").unwrap_or(line)
}

/// A `JUnit` file of these cases; suites come in the order of their first case.
#[must_use]
pub fn junit(name: &str, cases: &[TestCase]) -> String {
    let mut suites: Vec<&str> = Vec::new();
    for case in cases {
        if !suites.contains(&case.suite.as_str()) {
            suites.push(&case.suite);
        }
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "<testsuites name=\"{}\" {}>", escaped(name), counts(&cases.iter().collect::<Vec<_>>()));
    for suite in suites {
        let own: Vec<&TestCase> = cases.iter().filter(|case| case.suite == suite).collect();
        let suite = format!("{name}.{suite}");
        let _ = writeln!(out, "  <testsuite name=\"{}\" {}>", escaped(&suite), counts(&own));
        for case in own {
            write(case, &suite, &mut out);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn counts(cases: &[&TestCase]) -> String {
    let failed = cases.iter().filter(|case| case.failure.is_some()).count();
    let skipped = cases.iter().filter(|case| case.skipped.is_some()).count();
    let seconds: f64 = cases.iter().map(|case| case.seconds).sum();
    format!("tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\"", cases.len())
}

fn write(case: &TestCase, suite: &str, out: &mut String) {
    let _ = write!(out, "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"", escaped(suite), escaped(&case.name), case.seconds);
    let mut inner = String::new();
    if let Some(why) = &case.skipped {
        let _ = writeln!(inner, "      <skipped message=\"{}\"/>", escaped(why));
    }
    if let Some(TestFailure { message, text }) = &case.failure {
        let _ = writeln!(inner, "      <failure message=\"{}\" type=\"failure\">{}</failure>", escaped(message), lines(text));
    }
    if !case.output.is_empty() {
        let _ = writeln!(inner, "      <system-out>{}</system-out>", lines(&case.output));
    }
    if inner.is_empty() {
        out.push_str("/>\n");
    } else {
        let _ = writeln!(out, ">\n{inner}    </testcase>");
    }
}

/// Text for an attribute or an element, without what XML 1.0 cannot hold (<https://www.w3.org/TR/xml/#charsets>): a build's colours
/// above all. Lines stay lines in attributes, too.
fn escaped(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(super::line::without_control).collect();
    let mut out = String::with_capacity(text.len());
    for c in lines.join("\n").chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

/// Text for an element, whose lines need no escape.
fn lines(text: &str) -> String {
    escaped(text).replace("&#10;", "\n")
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::event::Why;

    fn step(stage: Option<Stage>, outcome: Outcome) -> StepRan {
        StepRan {
            stage,
            unit: "web".to_owned(),
            action: "build".to_owned(),
            outcome,
            detail: "`npm run build` exited with <1> & \"died\"\nmore".to_owned(),
            seconds: 1.5,
            ended: OffsetDateTime::UNIX_EPOCH,
            why: (outcome == Outcome::Failed).then(|| Why {
                what: "site `web`: the build failed".to_owned(),
                causes: vec!["`npm run build` exited with 1".to_owned()],
                hint: Some("run it by hand".to_owned()),
                exit: 20,
                changed_nothing: false,
            }),
            log: if outcome == Outcome::Failed { vec!["\u{1b}[31mError\u{1b}[0m \u{0}]]> \u{ffff}ü".to_owned()] } else { Vec::new() },
        }
    }

    #[test]
    fn a_step_is_a_test_case_and_its_failure_says_all() {
        let steps = [step(None, Outcome::Failed), step(Some(Stage::Assets), Outcome::Unchanged)];
        let text = junit("windlass release", &step_cases(&steps));
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
<testsuites name=\"windlass release\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"3.000\">
  <testsuite name=\"windlass release.prepare\" tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"1.500\">
    <testcase classname=\"windlass release.prepare\" name=\"web build\" time=\"1.500\">
      <failure message=\"`npm run build` exited with &lt;1&gt; &amp; &quot;died&quot;\" type=\"failure\">site `web`: the build failed
   `npm run build` exited with 1
hint: run it by hand

its last lines:
Error ]]&gt; ü</failure>
    </testcase>
  </testsuite>
  <testsuite name=\"windlass release.assets\" tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"0\" time=\"1.500\">
    <testcase classname=\"windlass release.assets\" name=\"web build\" time=\"1.500\">
      <system-out>unchanged, `npm run build` exited with &lt;1&gt; &amp; &quot;died&quot;
more</system-out>
    </testcase>
  </testsuite>
</testsuites>
";
        assert_eq!(text, expected);
    }
}
