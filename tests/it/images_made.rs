//! What is said of an image while it is built and afterwards: its steps, its bill of materials, and a scan that nobody can judge.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::images::shop;
use crate::images_registry::{SCAN, is, scanned};
use crate::shop::Shop;
use crate::support::own_engine::docker;
use crate::support::proxy::Fault;
use crate::support::scene::end;

const MACHINE: &str = "unix:///var/run/docker.sock";

/// Two stages side by side, each of which says something and takes its time. No other build has them, so that none is found in the cache of
/// the engine, and none is shared with a build that another test makes at this moment: what had been said by then would not be said again.
fn two_stages(seconds: &str) -> String {
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let stage = |name: &str| {
        format!("FROM local/python:3.11-bookworm AS {name}\nRUN echo working-{name} {run} && sleep {seconds} && touch /{name}\n")
    };
    format!("{}{}FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\nCOPY app.py /\n", stage("one"), stage("two"))
}

#[tokio::test]
async fn a_log_has_one_line_for_each_step_and_the_events_have_what_it_printed() {
    let (_images, shop) = shop("images-lines", true).await;
    shop.scene.write("api/Dockerfile", two_stages("4"));
    let built = shop.run(&["stage", "images", "--progress", "line", "--format", "json"]).expect(0);
    let steps = ["[one 2/2] RUN echo working-one", "[two 2/2] RUN echo working-two", "COPY --from=one /one /: ", "COPY app.py /: "];
    for step in steps {
        let said = |line: &&str| line.contains(&format!("api | {step}")) || line.contains("api | [stage-2") && line.contains(step);
        assert_eq!(built.stderr.lines().filter(said).count(), 1, "{step} in {}", built.stderr);
    }
    assert!(!built.stderr.contains("| working-"), "{}", built.stderr);
    let events: Vec<serde_json::Value> = built.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let printed = events.iter().find(|event| event["event"] == "output" && event["line"].as_str().unwrap().starts_with("working-two"));
    assert!(printed.unwrap()["part"].as_str().unwrap().starts_with("[two 2/2] RUN echo"), "{}", built.stdout);
    // The classic builder, too.
    let mut classic = shop;
    classic.scene.set("DOCKER_BUILDKIT", "0");
    classic.scene.write("api/Dockerfile", "FROM local/python:3.11-bookworm\nRUN echo said-aside\nCOPY app.py /\n");
    let built = classic.run(&["stage", "images", "--progress", "line"]).expect(0);
    for step in ["Step 1/5 : FROM", "Step 2/5 : RUN", "Step 3/5 : COPY"] {
        assert_eq!(built.stderr.matches(step).count(), 1, "{}", built.stderr);
    }
    assert!(!built.stderr.contains("| said-aside"), "{}", built.stderr);
}

#[tokio::test]
async fn a_terminal_shows_each_step_that_runs_and_what_it_says() {
    let (_images, mut shop) = shop("images-steps", true).await;
    // They go on until both have been seen.
    let marker = format!("902.{}", std::process::id());
    shop.scene.write("api/Dockerfile", two_stages(&marker));
    shop.scene.set("TERM", "xterm-256color");
    let run = format!("stty cols 120; exec {} stage images", env!("CARGO_BIN_EXE_windlass"));
    let running = shop.scene.spawn("script", &["--quiet", "--return", "--command", &run, "/dev/null"]);
    for name in ["one", "two"] {
        let line =
            regex::Regex::new(&format!(r"    \S \[{name} 2/2\] RUN echo working-{name}[^\r\n]*… (working-{name} \d+)? +\d+s")).unwrap();
        running.until_said(name, |shown| line.is_match(shown));
    }
    // Both at once, each in a line of its own, and what one has printed beside it.
    let both = regex::Regex::new(r"\[one 2/2\][^\n]*\d+s +\S \[two 2/2\]|\[two 2/2\][^\n]*\d+s +\S \[one 2/2\]").unwrap();
    running.until_said("both", |shown| both.is_match(shown) && shown.contains("… working-"));
    end(&marker, 2);
    running.wait().expect(22);
}

/// `NAME VERSION` of each component of a bill whose address begins with `kind`.
fn components(bill: &serde_json::Value, kind: &str) -> BTreeSet<String> {
    let all = bill["components"].as_array().unwrap().iter().filter(|one| one["purl"].as_str().unwrap().starts_with(kind));
    all.map(|one| format!("{} {}", one["name"].as_str().unwrap(), one["version"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn the_bill_of_a_real_image_is_what_its_package_managers_say() {
    let (_images, shop) = shop("images-bill", true).await;
    shop.scene.write("api/Dockerfile", "FROM local/python:3.11-bookworm\nCOPY app.py /\n");
    shop.configure("repository: images-bill/api}", "repository: images-bill/api, sbom: true}");
    let built = shop.run(&["stage", "images"]).expect(0);
    let bill: serde_json::Value =
        serde_json::from_slice(&std::fs::read(shop.scene.project().join(".windlass/sbom/api.cdx.json")).unwrap()).unwrap();
    let image = format!(
        "{}@{}",
        bill["metadata"]["component"]["name"].as_str().unwrap(),
        bill["metadata"]["component"]["version"].as_str().unwrap()
    );
    let asked = |command: &[&str]| {
        let output = docker(MACHINE, &[&["run", "--rm", "--network", "none", "--entrypoint", command[0], &image], &command[1..]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    // `ii`: wanted, and there.
    let debian = asked(&["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${Package} ${Version}\n"]);
    let debian: BTreeSet<String> = debian.iter().filter_map(|line| line.strip_prefix("ii ")).map(str::to_owned).collect();
    assert!(debian.len() > 50, "{}", debian.len());
    assert_eq!(components(&bill, "pkg:deb/debian/"), debian);
    let python =
        asked(&["python3", "-c", "import importlib.metadata as m\nfor d in m.distributions(): print(d.metadata['Name'], d.version)"]);
    assert_eq!(components(&bill, "pkg:pypi/"), python);

    // The page and the history say where it is, and what the image is made of.
    let release = built.stdout.trim_end().rsplit(' ').next().unwrap();
    let told = shop.run(&["history", release, "--report", "page.html"]).expect(0).stdout;
    let page = std::fs::read_to_string(shop.scene.project().join("page.html")).unwrap();
    for text in [
        "base   local/python:3.11-bookworm@sha256:",
        " layers, ",
        "of them the base",
        "steps, ",
        " cached",
        ".windlass/sbom/api.cdx.json",
        "COPY app.py /",
    ] {
        assert!(told.contains(text), "{text:?} is not in {told}");
        let in_page = text.trim_start_matches("base   ");
        assert!(page.contains(in_page), "{in_page:?} is not in {page}");
    }
}

#[tokio::test]
async fn a_gate_that_nobody_can_judge_stays_shut() {
    let shop = Shop::whole("images-gate").await;
    shop.configure("app: shop\n", "app: shop\npolicy: {image_findings: refuse}\n");
    let absent = || Fault::json(400, "ScanNotFoundException", "Image scan does not exist for the image");
    let denied = || Fault::json(400, "AccessDeniedException", "User is not authorized to perform: ecr:DescribeImageScanFindings");
    // A registry that knows no scans answers like the local cloud, which is asked last.
    let cases = [
        (Some(absent()), "it was never scanned"),
        (Some(scanned("FAILED", &[])), "FAILED"),
        (Some(scanned("UNSUPPORTED_IMAGE", &[])), "UNSUPPORTED_IMAGE"),
        (Some(denied()), "AccessDeniedException"),
        (None, "ecr:DescribeImageScanFindings"),
    ];
    for (number, (fault, why)) in cases.into_iter().enumerate() {
        // The registry has it, and nothing runs it yet.
        shop.scene.write("api/app.py", format!("{number}"));
        shop.push_image().await;
        if let Some(fault) = fault {
            shop.proxy.fail_next(is(SCAN), 1, fault);
        }
        let outcome = shop.run(&["stage", "images"]).expect(22);
        let said = shop.error(&outcome);
        assert!(said.contains("cannot be judged") && said.contains(why), "{said}");
        assert!(
            said.contains("hint: nothing live has changed; turn scanning on") && said.contains("policy.image_findings: warn"),
            "{said}"
        );
    }
    // The next run does not go by it because the image is there now; nor does a whole release.
    shop.run(&["stage", "images"]).expect(22);
    shop.run(&["release"]).expect(22);
    // Where it only warns, the same is said, and goes on.
    shop.configure("image_findings: refuse", "image_findings: warn");
    let applied = Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() };
    shop.proxy.fail_next(is("lambda:Invoke"), 1, applied);
    let warned = shop.run(&["release"]).expect(0);
    assert!(warned.stderr.contains("ECR's scan of its image says nothing"), "{}", warned.stderr);
}
