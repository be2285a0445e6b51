//! Images, a real registry of Debian's `docker-registry` with basic auth, and what of an image is told by a registry.

use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::images::{Leftovers, shop};
use crate::shop::Shop;
use crate::support::own_engine::docker;
use crate::support::proxy::Fault;
use crate::support::registry::{LOGIN, Registry};
use crate::support::request::Recorded;

const MACHINE: &str = "unix:///var/run/docker.sock";

pub(crate) fn is(operation: &'static str) -> impl Fn(&Recorded) -> bool {
    move |request: &Recorded| request.operation == operation
}

/// Lets the cloud's ECR speak of `registry` as its own: tokens open it, and images are those that it has.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>, `API_DescribeImages.html`
fn stand_in(shop: &Shop, registry: &Arc<Registry>, repository: &'static str, password: &'static str, runs: usize) {
    let host = registry.host().to_owned();
    let token = move |_, _| {
        let token = STANDARD.encode(format!("{}:{password}", LOGIN.0));
        let data =
            serde_json::json!([{"authorizationToken": token, "expiresAt": 4_102_444_800.0, "proxyEndpoint": format!("http://{host}")}]);
        (200, serde_json::json!({ "authorizationData": data }).to_string())
    };
    shop.proxy.fail_next(is("ecr:GetAuthorizationToken"), runs, Fault::Rewrite(Box::new(token)));
    let of = Arc::clone(registry);
    let images = move |status, body| {
        let images = of.tags(repository).into_iter().filter_map(|tag| {
            let digest = of.digest(repository, &tag)?;
            Some(serde_json::json!({"repositoryName": repository, "imageDigest": digest, "imageTags": [tag], "imagePushedAt": 1.0}))
        });
        let images: Vec<_> = images.collect();
        // These tests have one image at a time.
        if images.is_empty() { (status, body) } else { (200, serde_json::json!({ "imageDetails": images }).to_string()) }
    };
    shop.proxy.fail_next(is("ecr:DescribeImages"), 1000, Fault::Rewrite(Box::new(images)));
}

fn inspect(image: &str, format: &str) -> String {
    let output = docker(MACHINE, &["inspect", "--format", format, image]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_registry_with_basic_auth_reports_the_digest_that_is_recorded() {
    let (_images, shop) = shop("images-auth", true).await;
    let registry = Arc::new(Registry::with_login());
    let host = registry.host().to_owned();
    let _there = Leftovers(format!("{host}/images-auth/api"));
    shop.configure(&format!("registry: {}", shop.proxy.url().trim_start_matches("http://")), &format!("registry: {host}"));
    // A login that is no login ends after it was renewed once.
    stand_in(&shop, &registry, "images-auth/api", "wrong", 2);
    let outcome = shop.run(&["stage", "images"]).expect(22);
    let said = shop.error(&outcome);
    assert!(said.contains("pushing to") && said.contains("no basic auth credentials") || said.contains("unauthorized"), "{said}");
    assert_eq!(registry.tags("images-auth/api"), [""; 0]);

    stand_in(&shop, &registry, "images-auth/api", LOGIN.1, 10);
    let pushed = shop.run(&["stage", "images"]).expect(0);
    let tags = registry.tags("images-auth/api");
    assert_eq!(tags.len(), 1, "{}", pushed.stderr);
    let digest = registry.digest("images-auth/api", &tags[0]).unwrap();
    let named = inspect(&format!("{host}/images-auth/api:{}", tags[0]), "{{join .RepoDigests \" \"}}");
    assert_eq!(named, format!("{host}/images-auth/api@{digest}"), "as the engine knows it");
    let release = pushed.stdout.trim_end().rsplit(' ').next().unwrap().to_owned();
    let record = shop.state_json(&format!("releases/{release}.json")).await;
    assert_eq!(record["images"]["api"], named, "as the record has it");
    let all = [pushed.stdout, pushed.stderr, record.to_string()].concat();
    assert!(!all.contains(LOGIN.1) && !all.contains(&STANDARD.encode(format!("{}:{}", LOGIN.0, LOGIN.1))), "the login is in no output");
    shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
}

/// Makes an image of one file and gives it to a registry; the engine keeps nothing of it.
fn publish(name: &str, content: &str) {
    let script = r#"
set -e
printf %s "$2" > content
tar --create --mtime=@0 content | docker import - "$1" > id
docker push --quiet "$1"
docker rmi "$1" > rmi
"#;
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new("sh").args(["-c", script, "sh", name, content]).current_dir(folder.path()).stdout(Stdio::null()).status();
    assert!(done.unwrap().success());
}

#[tokio::test]
async fn a_base_tag_that_moved_is_another_image_and_is_built_anew() {
    let (_images, shop) = shop("images-base", true).await;
    let registry = Registry::start();
    let base = format!("{}/base:1", registry.host());
    let _bases = Leftovers(format!("{}/base", registry.host()));
    shop.scene.write("api/Dockerfile", format!("FROM {base}\nCOPY app.py /\n"));
    let mut seen = Vec::new();
    for content in ["the first", "the second"] {
        publish(&base, &format!("{content} {}", std::process::id()));
        let built = shop.run(&["stage", "images"]).expect(0);
        assert!(built.stderr.contains(&format!("pulling {}/base@sha256:", registry.host())), "{}", built.stderr);
        let tag = built.stderr.split(" push: ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let image = format!("{}/images-base/api:{tag}", shop.proxy.url().trim_start_matches("http://"));
        let first = inspect(&image, "{{index .RootFS.Layers 0}}");
        assert_eq!(first, inspect(&base, "{{index .RootFS.Layers 0}}"), "it stands on what the tag is today");
        seen.push((tag, first));
        shop.run(&["stage", "images"]).expect(0);
        assert_eq!(shop.proxy.written(), [""; 0]);
    }
    assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1, "{seen:?}");
    assert_eq!(seen[0].0[..28], seen[1].0[..28], "only the base's part of the tag moved");
}

#[tokio::test]
async fn labels_say_which_commit_an_image_is_of() {
    let (_images, shop) = shop("images-labels", true).await;
    shop.scene.git(&["remote", "add", "origin", "https://ada:hunter2@git.example/shop.git"]);
    let commit = shop.scene.commit(42);
    let built = shop.run(&["stage", "images"]).expect(0);
    let tag = built.stderr.split(" push: ").nth(1).unwrap().split(' ').next().unwrap();
    let image = format!("{}/images-labels/api:{tag}", shop.proxy.url().trim_start_matches("http://"));
    let labels: serde_json::Value = serde_json::from_str(&inspect(&image, "{{json .Config.Labels}}")).unwrap();
    let expected = serde_json::json!({
        "org.opencontainers.image.created": "2026-01-01T00:42:00Z",
        "org.opencontainers.image.revision": commit,
        "org.opencontainers.image.source": "https://git.example/shop.git",
    });
    assert_eq!(labels, expected);
}

#[tokio::test]
async fn a_prebuilt_list_is_held_against_the_architecture_of_its_tasks() {
    let shop = Shop::whole("images-list").await;
    let cloud = shop.proxy.url().trim_start_matches("http://").to_owned();
    let list = |platforms: &[&str]| {
        let of = |architecture: &&str| {
            let digest = format!("sha256:{}", "1".repeat(64));
            let platform = serde_json::json!({"os": "linux", "architecture": architecture});
            serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1, "platform": platform})
        };
        let manifests: Vec<_> = platforms.iter().map(of).collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string();
        // <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html>
        let digest = format!("sha256:{}", windlass::model::Sha256::of(manifest.as_bytes()));
        let id = serde_json::json!({"imageDigest": digest, "imageTag": "v1"});
        let image = serde_json::json!({"registryId": "000000000000", "repositoryName": "images-list/api", "imageId": id,
            "imageManifest": manifest, "imageManifestMediaType": kind});
        Fault::Rewrite(Box::new(move |_, _| (200, serde_json::json!({"images": [image], "failures": []}).to_string())))
    };
    let on = |architecture: &'static str| {
        Fault::Rewrite(Box::new(move |status, body: String| {
            let mut answer: serde_json::Value = serde_json::from_str(&body).unwrap();
            answer["taskDefinition"]["runtimePlatform"] =
                serde_json::json!({"cpuArchitecture": architecture, "operatingSystemFamily": "LINUX"});
            (status, answer.to_string())
        }))
    };
    shop.configure(&format!("registry: {}", crate::support::ministack::shared().registry()), &format!("registry: {cloud}"));
    shop.configure("image: {repository: images-list/api}", &format!("image: \"{cloud}/images-list/api:v1\""));
    shop.proxy.fail_next(is("ecr:BatchGetImage"), 1, list(&["amd64"]));
    shop.proxy.fail_next(is("ecs:DescribeTaskDefinition"), 1, on("ARM64"));
    let refused = shop.refused(&["release"], 11);
    assert!(refused.contains("its tasks run on ARM64, and its image is for linux/amd64"), "{refused}");
    assert!(refused.contains("hint: name an image for that architecture"), "{refused}");
    assert_eq!(shop.proxy.faults_left(), 0);
    shop.proxy.fail_next(is("ecr:BatchGetImage"), 1, list(&["amd64", "arm64"]));
    shop.proxy.fail_next(is("ecs:DescribeTaskDefinition"), 1, on("ARM64"));
    let planned = shop.run(&["plan"]).expect(0);
    assert!(planned.stdout.contains(&format!("→ {cloud}/images-list/api@sha256:")), "{}", planned.stdout);
    assert_eq!(shop.proxy.faults_left(), 0);
}

/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html>; the local cloud scans nothing.
pub(crate) fn scanned(status: &str, findings: &[(&str, &str, &str)]) -> Fault {
    let mut counts = std::collections::BTreeMap::<&str, u32>::new();
    for (severity, ..) in findings {
        *counts.entry(severity).or_default() += 1;
    }
    let one = |(severity, name, package): &(&str, &str, &str)| {
        let attributes = serde_json::json!([{"key": "package_version", "value": "1.0"}, {"key": "package_name", "value": package}]);
        serde_json::json!({"name": name, "severity": severity, "uri": format!("https://security-tracker.debian.org/{name}"), "attributes": attributes})
    };
    let all: Vec<_> = findings.iter().map(one).collect();
    let body = serde_json::json!({
        "imageScanStatus": {"status": status, "description": ""},
        "imageScanFindings": {"findings": all, "findingSeverityCounts": counts, "imageScanCompletedAt": 1.0},
    });
    Fault::Answer { status: 200, headers: vec![("content-type", "application/x-amz-json-1.1".to_owned())], body: body.to_string() }
}

pub(crate) const SCAN: &str = "ecr:DescribeImageScanFindings";

#[tokio::test]
async fn what_went_into_an_image_is_said_recorded_and_written_down() {
    let (_images, shop) = shop("images-made", true).await;
    shop.scene.write("api/root/var/lib/dpkg/status", "Package: libc6\nStatus: install ok installed\nVersion: 2.36\n");
    shop.scene.write("api/root/app/Django-5.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Django\nVersion: 5.0\n\n");
    // Of this run alone: a layer that another run has made would be remembered.
    shop.scene.write("api/root/run", format!("{} {:?}", std::process::id(), std::time::Instant::now()));
    shop.scene.write("api/Dockerfile", "FROM scratch\nCOPY root /\nCOPY app.py /\n");
    shop.configure("repository: images-made/api}", "repository: images-made/api, sbom: true}");
    shop.configure("app: shop\n", "app: shop\npolicy: {image_findings: warn}\n");
    shop.proxy.fail_next(is(SCAN), 1, scanned("IN_PROGRESS", &[]));
    shop.proxy.fail_next(is(SCAN), 1, scanned("COMPLETE", &[("LOW", "CVE-1", "zlib"), ("HIGH", "CVE-2", "openssl")]));
    let built = shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.faults_left(), 0);
    for text in
        ["2 steps, 0 cached; ", " in 2 layers", "COPY root /", "sbom: 2 packages, in .windlass/sbom/api.cdx.json", "scan: 1 high, 1 low"]
    {
        assert!(built.stderr.contains(text), "{text:?} is not in {}", built.stderr);
    }
    assert!(built.stderr.contains("high CVE-2 in openssl 1.0") && !built.stderr.contains("CVE-1"), "{}", built.stderr);
    let release = built.stdout.trim_end().rsplit(' ').next().unwrap();
    let record = shop.state_json(&format!("releases/{release}.json")).await;
    let made = &record["made"]["api"];
    assert_eq!(made["findings"], serde_json::json!({"HIGH": 1, "LOW": 1}));
    assert_eq!(made["layers"][1]["by"], "COPY app.py /", "{made}");
    assert_eq!(
        (made["steps"][0]["name"].as_str(), made["steps"][0]["cached"].as_bool()),
        (Some("[1/2] COPY root /"), Some(false)),
        "{made}"
    );
    let file = shop.scene.project().join(".windlass/sbom/api.cdx.json");
    let bill: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((bill["bomFormat"].as_str(), bill["components"].as_array().unwrap().len()), (Some("CycloneDX"), 2));
    assert_eq!(bill["components"][1]["purl"], "pkg:pypi/django@5.0");
    assert_eq!(
        format!(
            "{}@{}",
            bill["metadata"]["component"]["name"].as_str().unwrap(),
            bill["metadata"]["component"]["version"].as_str().unwrap()
        ),
        record["images"]["api"]
    );

    // As a gate: what is found ends the release, and so does what nobody can say.
    shop.configure("image_findings: warn", "image_findings: refuse");
    shop.scene.write("api/app.py", format!("another {}", std::process::id()));
    shop.proxy.fail_next(is(SCAN), 1, scanned("COMPLETE", &[("LOW", "CVE-1", "zlib"), ("HIGH", "CVE-2", "openssl")]));
    let outcome = shop.run(&["stage", "images"]).expect(22);
    let said = shop.error(&outcome);
    assert!(said.contains("found 1 high, 1 low") && said.contains("| high CVE-2 in openssl 1.0"), "{said}");
    shop.proxy.fail_next(is(SCAN), 1, scanned("UNSUPPORTED_IMAGE", &[]));
    std::fs::remove_file(&file).unwrap();
    shop.configure("image_findings: refuse", "image_findings: refuse, findings_from: critical");
    shop.proxy.fail_next(is(SCAN), 1, scanned("COMPLETE", &[("HIGH", "CVE-2", "openssl")]));
    shop.scene.write("api/app.py", format!("a third {}", std::process::id()));
    // The one that is not supported is looked at again for a while, right after a push.
    shop.run(&["stage", "images"]).expect(0);
    assert!(file.is_file(), "of what was just built");
}
