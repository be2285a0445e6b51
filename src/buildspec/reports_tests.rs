use super::*;

fn tests(format: ReportFormat, text: &str) -> Vec<(String, &'static str)> {
    let Ok(Content::Tests(cases)) = read(format, text) else { panic!("{:?}", read(format, text)) };
    let word = |case: &Case| {
        if case.failure.is_some() {
            "failed"
        } else if case.skipped {
            "skipped"
        } else {
            "passed"
        }
    };
    cases.iter().map(|case| (case.name.clone(), word(case))).collect()
}

fn names(found: &[(String, &'static str)]) -> Vec<String> {
    found.iter().map(|(name, word)| format!("{name} {word}")).collect()
}

#[test]
fn junit_counts_failures_errors_and_what_was_skipped() {
    let text = r#"<?xml version="1.0"?><testsuites><testsuite name="s" tests="4"><testcase name="a" time="0.5"/><testcase name="b"><failure message="x &lt; y">t</failure></testcase>
        <testcase name="c"><error type="E"/></testcase><testcase name="d"><skipped/></testcase><system-out><![CDATA[<failure/>]]></system-out></testsuite></testsuites>"#;
    assert_eq!(names(&tests(ReportFormat::JunitXml, text)), ["a passed", "b failed", "c failed", "d skipped"]);
    let Ok(Content::Tests(cases)) = read(ReportFormat::JunitXml, text) else { panic!() };
    assert_eq!((cases[0].class.as_str(), cases[0].seconds, cases[1].failure.as_deref()), ("s", 0.5, Some("x < y")));
}

#[test]
fn nunit_is_read_in_both_generations() {
    let two = r#"<test-results><test-suite><results><test-case name="a" executed="True" result="Success" success="True" time="0.1"/>
        <test-case name="b" executed="True" result="Failure" success="False"/><test-case name="c" executed="False" result="Ignored"/>
        <test-case name="d" executed="True" success="False"/></results></test-suite></test-results>"#;
    assert_eq!(names(&tests(ReportFormat::NunitXml, two)), ["a passed", "b failed", "c skipped", "d failed"]);
    let three = r#"<test-run><test-suite><test-case fullname="N.a" name="a" result="Passed" duration="0.02"/><test-case name="b" result="Failed"><failure/></test-case>
        <test-case name="c" result="Skipped"/><test-case name="d" result="Inconclusive"/></test-suite></test-run>"#;
    assert_eq!(names(&tests(ReportFormat::Nunit3Xml, three)), ["N.a passed", "b failed", "c skipped", "d skipped"]);
}

#[test]
fn testng_leaves_what_prepares_the_tests_out() {
    let text = r#"<testng-results><suite name="s"><test name="t"><class name="C"><test-method is-config="true" status="PASS" name="setUp" duration-ms="3"/>
        <test-method status="PASS" name="a" duration-ms="1500"/><test-method status="FAIL" name="b"/><test-method status="SKIP" name="c"/></class></test></suite></testng-results>"#;
    assert_eq!(names(&tests(ReportFormat::TestNgXml, text)), ["a passed", "b failed", "c skipped"]);
    let Ok(Content::Tests(cases)) = read(ReportFormat::TestNgXml, text) else { panic!() };
    assert_eq!((cases[0].class.as_str(), cases[0].seconds), ("C", 1.5));
}

#[test]
fn trx_says_outcomes_in_its_own_words() {
    let text = r#"<TestRun xmlns="http://microsoft.com/schemas/VisualStudio/TeamTest/2010"><Results><UnitTestResult testName="a" outcome="Passed" duration="00:01:01.5"/>
        <UnitTestResult testName="b" outcome="Failed"><Output><ErrorInfo><Message>m</Message></ErrorInfo></Output></UnitTestResult><UnitTestResult testName="c" outcome="NotExecuted"/>
        <UnitTestResult testName="d" outcome="Timeout"/></Results></TestRun>"#;
    assert_eq!(names(&tests(ReportFormat::VisualStudioTrx, text)), ["a passed", "b failed", "c skipped", "d failed"]);
    let Ok(Content::Tests(cases)) = read(ReportFormat::VisualStudioTrx, text) else { panic!() };
    assert!((cases[0].seconds - 61.5).abs() < 1e-9);
}

#[test]
fn a_cucumber_scenario_fails_with_any_of_its_steps() {
    let text = r#"[{"name":"F","elements":[{"type":"background","steps":[{"result":{"status":"failed"}}]},
        {"type":"scenario","name":"a","steps":[{"result":{"status":"passed","duration":2000000000}}]},
        {"type":"scenario","name":"b","steps":[{"result":{"status":"passed"}},{"result":{"status":"failed","error_message":"m"}},{"result":{"status":"skipped"}}]},
        {"type":"scenario","name":"c","steps":[{"result":{"status":"undefined"}}]},
        {"type":"scenario","name":"d","steps":[{"result":{"status":"pending"}}]}]}]"#;
    assert_eq!(names(&tests(ReportFormat::CucumberJson, text)), ["a passed", "b failed", "c failed", "d skipped"]);
}

#[test]
fn coverage_is_lines() {
    let lines = |covered, total| Ok(Content::Lines { covered, total });
    let clover = r#"<coverage><project><metrics statements="10" coveredstatements="7"/><file><metrics statements="99" coveredstatements="1"/></file></project></coverage>"#;
    assert_eq!(read(ReportFormat::CloverXml, clover), lines(7, 10));
    let bare = r#"<coverage><project><file><line num="1" count="2"/><line num="2" count="0"/></file></project></coverage>"#;
    assert_eq!(read(ReportFormat::CloverXml, bare), lines(1, 2));
    let cobertura = r#"<coverage lines-valid="8" lines-covered="6" line-rate="0.75"><packages/></coverage>"#;
    assert_eq!(read(ReportFormat::CoberturaXml, cobertura), lines(6, 8));
    let older = r#"<coverage><class><methods><method><lines><line hits="1"/></lines></method></methods><lines><line hits="1"/><line hits="0"/></lines></class></coverage>"#;
    assert_eq!(read(ReportFormat::CoberturaXml, older), lines(1, 2));
    let jacoco = r#"<!DOCTYPE report PUBLIC "-//JACOCO//DTD Report 1.1//EN" "report.dtd"><report name="r"><package name="p"><counter type="LINE" missed="9" covered="9"/></package>
        <counter type="BRANCH" missed="5" covered="5"/><counter type="LINE" missed="3" covered="17"/></report>"#;
    assert_eq!(read(ReportFormat::JacocoXml, jacoco), lines(17, 20));
    let simplecov = r#"{"RSpec":{"coverage":{"a.rb":{"lines":[1,null,0]},"b.rb":[2]}},"Unit":{"coverage":{"a.rb":{"lines":[0,null,4]}}}}"#;
    assert_eq!(read(ReportFormat::SimpleCov, simplecov), lines(3, 3));
}

#[test]
fn what_is_no_report_is_said() {
    for format in ReportFormat::ALL.map(|(_, format)| format) {
        for text in ["", "no report", "<a><b></a>", "<a>"] {
            assert!(read(format, text).is_err(), "{format:?} takes {text:?}");
        }
    }
}

#[test]
fn the_tests_of_a_group_come_out_as_junit() {
    let case = Case { class: "C<".into(), name: "a\"b".into(), failure: Some("x & y".into()), skipped: false, seconds: 1.0 };
    let text = junit("demo-unit", &[case]);
    assert_eq!(names(&tests(ReportFormat::JunitXml, &text)), ["a\"b failed"]);
    assert!(text.contains(r#"tests="1" failures="1" skipped="0""#), "{text}");
}
