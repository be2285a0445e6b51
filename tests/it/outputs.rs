//! The files that a run leaves for CI systems and for the next action of a pipeline.

use insta::assert_snapshot;
use regex::Regex;

use crate::shop::Shop;

/// A file of the project, without its times.
fn file(shop: &Shop, name: &str) -> String {
    let text = std::fs::read_to_string(shop.scene.project().join(name)).unwrap();
    Regex::new("time=\"[0-9.]+\"").unwrap().replace_all(&shop.redacted(&text), "time=\"[time]\"").into_owned()
}

#[tokio::test]
async fn each_step_is_a_test_case() {
    let shop = Shop::site("outputs-junit").await;
    shop.run(&["release", "--junit", "reports/windlass.xml"]).expect(0);
    assert_snapshot!(file(&shop, "reports/windlass.xml"), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="windlass" tests="6" failures="0" errors="0" skipped="0" time="[time]">
      <testsuite name="windlass.prepare" tests="2" failures="0" errors="0" skipped="0" time="[time]">
        <testcase classname="windlass.prepare" name="account check" time="[time]">
          <system-out>000000000000 in us-east-1, as arn:aws:iam::000000000000:root</system-out>
        </testcase>
        <testcase classname="windlass.prepare" name="resources look for" time="[time]">
          <system-out>3 are there</system-out>
        </testcase>
      </testsuite>
      <testsuite name="windlass.assets" tests="1" failures="0" errors="0" skipped="0" time="[time]">
        <testcase classname="windlass.assets" name="web upload" time="[time]">
          <system-out>2 new, 0 unchanged</system-out>
        </testcase>
      </testsuite>
      <testsuite name="windlass.publish" tests="3" failures="0" errors="0" skipped="0" time="[time]">
        <testcase classname="windlass.publish" name="web publish" time="[time]">
          <system-out>2 files</system-out>
        </testcase>
        <testcase classname="windlass.publish" name="[distribution] invalidate" time="[time]">
          <system-out>/ /about/ /about/index.html /index.html (invalidation [id])</system-out>
        </testcase>
        <testcase classname="windlass.publish" name="web check" time="[time]">
          <system-out>https://[domain]/ and 1 files that it names</system-out>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
    shop.run(&["release", "--junit", "reports/windlass.xml"]).expect(0);
    assert_snapshot!(file(&shop, "reports/windlass.xml"), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="windlass" tests="1" failures="0" errors="0" skipped="0" time="[time]">
      <testsuite name="windlass.run" tests="1" failures="0" errors="0" skipped="0" time="[time]">
        <testcase classname="windlass.run" name="release" time="[time]">
          <system-out>nothing to do</system-out>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}

#[tokio::test]
async fn a_failed_step_says_why_and_ends_with_its_last_lines() {
    let shop = Shop::site("outputs-fails").await;
    let build = "echo '\\033[31mhalf way <b>\\033[0m'; echo it is broken; exit 3";
    shop.configure("prebuilt: true", &format!("build: \"{}\"\n    output: dist", build.replace('\\', "\\\\")));
    shop.run(&["release", "--junit", "windlass.xml"]).expect(20);
    assert_snapshot!(file(&shop, "windlass.xml"), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="windlass" tests="3" failures="1" errors="0" skipped="0" time="[time]">
      <testsuite name="windlass.prepare" tests="3" failures="1" errors="0" skipped="0" time="[time]">
        <testcase classname="windlass.prepare" name="account check" time="[time]">
          <system-out>000000000000 in us-east-1, as arn:aws:iam::000000000000:root</system-out>
        </testcase>
        <testcase classname="windlass.prepare" name="resources look for" time="[time]">
          <system-out>3 are there</system-out>
        </testcase>
        <testcase classname="windlass.prepare" name="web build" time="[time]">
          <failure message="`echo '\033[31mhalf way &lt;b&gt;\033[0m'; echo it is broken; exit 3` exited with 3" type="failure">site `web`: the build failed
       `echo '\033[31mhalf way &lt;b&gt;\033[0m'; echo it is broken; exit 3` exited with 3; its last lines:
       | half way &lt;b&gt;
       | it is broken
    hint: nothing live has changed; a build sees no AWS_* variable but those under `env`</failure>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}

#[tokio::test]
async fn a_run_that_ends_before_its_first_step_is_a_failed_case() {
    let shop = Shop::site("outputs-refused").await;
    shop.scene.write("windlass.xml", "of an earlier run");
    shop.configure("    bucket:", "    buckett:");
    shop.run(&["stage", "assets", "--junit", "windlass.xml"]).expect(10);
    assert_snapshot!(file(&shop, "windlass.xml"), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="windlass" tests="1" failures="1" errors="0" skipped="0" time="[time]">
      <testsuite name="windlass.run" tests="1" failures="1" errors="0" skipped="0" time="[time]">
        <testcase classname="windlass.run" name="stage assets" time="[time]">
          <failure message="unknown key `buckett`; did you mean `bucket`?" type="failure">error: the configuration `windlass.yml:6:5` was refused
       unknown key `buckett`; did you mean `bucket`?
           buckett: outputs-refused-web
           ^
    hint: the keys that may stand here: path, build, buildspec, prebuilt, from_image, env, output, bucket, prefix, distribution, url, keep, source_maps, allow_public, precompress, headers</failure>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_refused_before_anything_is_done() {
    let shop = Shop::site("outputs-nowhere").await;
    assert_snapshot!(shop.refused(&["release", "--junit", "dist/index.html/x.xml"], 10), @r"
    error: `dist/index.html/x.xml` cannot be written; nothing was changed
       File exists (os error 17)
    hint: name a file in a directory that may be written to
    ");
    assert_eq!(shop.proxy.requests(), []);
}

#[tokio::test]
async fn what_later_steps_need_is_sourced_by_a_shell() {
    let shop = Shop::whole("outputs-export").await;
    shop.push_image().await;
    shop.configure("    bucket: ", "    url: \"http://it's/$HOME\"\n    bucket: ");
    let files = ["--export", ".windlass/release.env", "--result", ".windlass/release.json"];
    let images = ["--image-definitions", ".windlass/imagedefinitions.json", "--image-detail", "api=.windlass/imageDetail.json"];
    shop.run(&[&["stage", "images"], &files[..], &images].concat()).expect(0);
    let read = |name: &str| std::fs::read_to_string(shop.scene.project().join(".windlass").join(name)).unwrap();
    assert_snapshot!(shop.redacted(&read("release.env")), @r"
    RELEASE_ID='none'
    RELEASE_CHANGED='false'
    RELEASE_EXIT='0'
    RELEASE_ENVIRONMENT=''
    RELEASE_COMMIT='[commit]'
    IMAGE_API='[registry]/outputs-export/api@sha256:[digest]'
    IMAGE_DIGEST_API='sha256:[digest]'
    ");
    assert_snapshot!(shop.redacted(&read("imagedefinitions.json")), @r#"
    [{"imageUri":"[registry]/outputs-export/api@sha256:[digest]","name":"web"}]
    "#);
    assert_snapshot!(shop.redacted(&read("imageDetail.json")), @"{\"ImageURI\":\"[registry]/outputs-export/api@sha256:[digest]\"}");
    assert_eq!(shop.scene.git(&["status", "--porcelain", "--", ".windlass"]), "", "what windlass leaves is no change of the checkout");
    shop.run(&[&["stage", "assets"], &files[..]].concat()).expect(0);
    let echo =
        shop.scene.run("sh", &["-c", ". .windlass/release.env; printf '%s ' \"$SITE_URL_WEB\" \"$RELEASE_ID\" \"$RELEASE_CHANGED\""]);
    assert_snapshot!(shop.redacted(&echo.expect(0).stdout), @"http://it's/$HOME [release] true");
    let summary: serde_json::Value = serde_json::from_str(&read("release.json")).unwrap();
    assert_eq!((&summary["exit"], &summary["record"]["stages"]["assets"]["outcome"]), (&0.into(), &"done".into()));
}

#[tokio::test]
async fn files_of_images_that_tell_no_service_apart_are_refused() {
    let shop = Shop::whole("outputs-two").await;
    shop.configure(
        "services:\n",
        "services:\n  worker: {path: api, image: {repository: outputs-two/api}, cluster: outputs-two, service: worker, container: web}\n",
    );
    assert_snapshot!(shop.refused(&["stage", "images", "--image-definitions", "all.json"], 10), @r"
    error: --image-definitions: one file cannot tell the 2 services apart
    hint: write SERVICE=FILE, once for each; the services are: api, worker
    ");
    assert_snapshot!(shop.refused(&["stage", "images", "--image-detail", "web=all.json"], 10), @r"
    error: --image-detail: there is no service `web` in the configuration
    hint: write SERVICE=FILE, once for each; the services are: api, worker
    ");
    assert_eq!(shop.proxy.requests(), []);
}
