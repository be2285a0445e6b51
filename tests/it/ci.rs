//! Manners in CI systems: groups, annotations, links in the record, and last lines that say all that matters.

use insta::assert_snapshot;

use crate::shop::Shop;
use crate::support::proxy::Fault;

#[tokio::test]
async fn github_folds_the_stages_and_shows_failures_beside_their_line() {
    let mut shop = Shop::site("ci-github").await;
    for (name, value) in [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "ada/shop"),
        ("GITHUB_RUN_ID", "42"),
    ] {
        shop.scene.set(name, value);
    }
    let workspace = shop.scene.project().parent().unwrap().to_owned();
    shop.scene.set("GITHUB_WORKSPACE", workspace);
    assert_snapshot!(shop.redacted(&shop.run(&["release"]).expect(0).stderr), @r"
    ::group::prepare
    prepare     account check: 000000000000 in us-east-1, as arn:aws:iam::000000000000:root ([time])
    prepare     resources look for: 3 are there ([time])
    ::endgroup::
    release     [release] of commit [commit]
    ::group::assets
    assets      web upload: 2 new, 0 unchanged ([time])
    ::endgroup::
    images      nothing to do
    migrations  nothing to do
    services    nothing to do
    ::group::publish
    publish     web publish: 2 files ([time])
    publish     [distribution] invalidate: / /about/ /about/index.html /index.html (invalidation [id]) ([time])
    publish     web check: https://[domain]/ and 1 files that it names ([time])
    ::endgroup::
    live        web  release [release] (4 files, 177 B); before: no recorded release
    took        [time]
    next        `windlass rollback` goes back to what was live before
    ");
    let history = shop.run(&["history", "--format", "json"]).expect(0);
    let records: serde_json::Value = serde_json::from_str(&history.stdout).unwrap();
    let run = &records[0]["runs"][0];
    assert_eq!((&run["system"], &run["at"]), (&"github-actions".into(), &"https://github.com/ada/shop/actions/runs/42".into()));
    assert_eq!(run["links"]["build"], run["at"]);
    shop.configure("    bucket:", "    buckett:");
    assert_snapshot!(shop.redacted(&shop.run(&["release"]).expect(10).stderr), @r"
    ::error title=windlass,file=project/windlass.yml,line=6,col=5::the configuration `windlass.yml:6:5` was refused: unknown key `buckett`; did you mean `bucket`?
    error: the configuration `windlass.yml:6:5` was refused
       unknown key `buckett`; did you mean `bucket`?
           buckett: ci-github-web
           ^
    hint: the keys that may stand here: path, build, buildspec, prebuilt, from_image, env, output, bucket, prefix, distribution, url, keep, source_maps, allow_public, precompress, headers
    ");
    shop.scene.write("buildspec.yml", "version: 0.2\nphases:\n  build:\n    commands:\n      - '[[ a == b ]]'\n");
    assert_snapshot!(shop.redacted(&shop.run(&["lint"]).expect(0).stderr), @r"
    ::warning title=windlass lint,file=project/buildspec.yml,line=5,col=9::`[[ … ]]` is bash, and the commands run in sh
    ");
}

#[tokio::test]
async fn gitlab_folds_the_stages() {
    let mut shop = Shop::site("ci-gitlab").await;
    shop.scene.set("GITLAB_CI", "true");
    let said = shop.run(&["release"]).expect(0).stderr;
    let said = regex::Regex::new(r":\d{10,}:").unwrap().replace_all(&said, ":[now]:").replace('\x1b', "^[").replace('\r', "^M");
    assert_snapshot!(shop.redacted(&said), @r"
    ^[[0Ksection_start:[now]:windlass_prepare^M^[[0Kprepare
    prepare     account check: 000000000000 in us-east-1, as arn:aws:iam::[now]:root ([time])
    prepare     resources look for: 3 are there ([time])
    ^[[0Ksection_end:[now]:windlass_prepare^M^[[0K
    release     [release] of commit [commit]
    ^[[0Ksection_start:[now]:windlass_assets^M^[[0Kassets
    assets      web upload: 2 new, 0 unchanged ([time])
    ^[[0Ksection_end:[now]:windlass_assets^M^[[0K
    images      nothing to do
    migrations  nothing to do
    services    nothing to do
    ^[[0Ksection_start:[now]:windlass_publish^M^[[0Kpublish
    publish     web publish: 2 files ([time])
    publish     [distribution] invalidate: / /about/ /about/index.html /index.html (invalidation [id]) ([time])
    publish     web check: https://[domain]/ and 1 files that it names ([time])
    ^[[0Ksection_end:[now]:windlass_publish^M^[[0K
    live        web  release [release] (4 files, 177 B); before: no recorded release
    took        [time]
    next        `windlass rollback` goes back to what was live before
    ");
}

#[tokio::test]
async fn the_last_lines_say_what_is_live_why_it_failed_and_what_next() {
    let shop = Shop::whole("ci-last").await;
    shop.push_image().await;
    let invoke = |request: &crate::support::request::Recorded| request.operation == "lambda:Invoke";
    let fine = || Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() };
    shop.proxy.fail_next(invoke, 1, fine());
    shop.release();
    shop.build(2);
    shop.scene.write("api/app.py", "2\n");
    shop.scene.commit(5);
    shop.push_image().await;
    let long: Vec<String> = (1..40).map(|line| format!("line {line} of a long story")).collect();
    let body = serde_json::json!({ "errorType": "ProgrammingError", "errorMessage": long.join("\n") }).to_string();
    let error = vec![("x-amz-function-error", "Unhandled".to_owned())];
    shop.proxy.fail_next(invoke, 1, Fault::Answer { status: 200, headers: error, body });
    let failed = shop.run(&["release"]).expect(23).stderr;
    let at = failed.lines().position(|line| line.starts_with("live ")).unwrap();
    let last: Vec<&str> = failed.lines().skip(at).collect();
    assert!(last.len() <= 15, "{failed}");
    assert!(failed.contains("line 39 of a long story"), "{failed}");
    assert_snapshot!(shop.redacted(&last.join("\n")), @r"
    live        main  its migration failed: the schema may have changed in part; before: migrated with 47d893fcf80a
    live        api   ci-last:2 (47d893fcf80a), still
    live        web   release [release], still
    error: migration `main` failed
       the function `ci-last` answered ProgrammingError: line 1 of a long story
    line 2 of a long story
    line 3 of a long story
    line 4 of a long story
    line 5 of a long story
    line 6 of a long story
    line 7 of a long story
    line 8 of a long story
    line 9 of a long story
       … the rest of it is above
    hint: no service was rolled and no site published: the old version serves; correct the migration, and release again
    ");
    shop.proxy.fail_next(invoke, 1, fine());
    let stage = shop.run(&["stage", "migrations"]).expect(0).stderr;
    let last: Vec<&str> = stage.lines().filter(|line| ["live ", "took ", "next "].iter().any(|word| line.starts_with(word))).collect();
    assert_snapshot!(shop.redacted(&last.join("\n")), @r"
    live        main  it succeeded; before: migrated with 47d893fcf80a
    took        [time]
    next        `windlass stage services --release [release]` goes on
    ");
}

/// The commands of the guides, as far as the command line can judge them without doing anything: those in blocks, of shell and of YAML, and
/// those in running text, where a command may go on in the next line.
#[test]
fn commands_in_the_guides_are_understood() {
    let scene = crate::support::scene::Scene::new("http://127.0.0.1:1");
    let in_block = regex::Regex::new(r"(?m)^(?:[ -]*(?:run|script): )?(windlass [a-z][^#&\n]*)").unwrap();
    let in_text = regex::Regex::new(r"`(windlass [a-z][^`]*)`").unwrap();
    let mut seen = 0;
    for guide in [include_str!("../../docs/ci.md"), include_str!("../../docs/codepipeline.md")] {
        for (part, text) in guide.split("```").enumerate() {
            let command = if part % 2 == 0 { &in_text } else { &in_block };
            for found in command.captures_iter(text) {
                let words = found[1].split_whitespace().skip(1);
                let words: Vec<&str> = words.map(|word| if word == "RELEASE" { "20260101T000000Z-8f14b3f5" } else { word }).collect();
                let outcome = scene.windlass(&[&words[..], &["--help"]].concat());
                assert_eq!(outcome.code, Some(0), "{}\n{}", &found[1], outcome.stderr);
                seen += 1;
            }
        }
    }
    assert!(seen > 12, "only {seen} commands were found");
}
