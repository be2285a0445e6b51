//! The buildspecs of `buildspecs/`, played as CodePipeline plays them: an action after the other, each on a machine of its own that
//! has the source's artifact and the variables that earlier actions have exported, and nothing else.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use windlass::model::Stage;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::scene::{Outcome, Scene};

/// All that are handed to users.
const BUILDSPECS: &[(&str, &str)] = &[
    ("build", include_str!("../../buildspecs/build.yml")),
    ("migrations", include_str!("../../buildspecs/migrations.yml")),
    ("services", include_str!("../../buildspecs/services.yml")),
    ("publish", include_str!("../../buildspecs/publish.yml")),
    ("release", include_str!("../../buildspecs/release.yml")),
    ("batch", BATCH),
];

/// The images that a test leaves on the engine go when this is dropped.
struct Leftovers(String);

impl Drop for Leftovers {
    fn drop(&mut self) {
        let remove = r#"docker images --quiet --no-trunc "$0" | sort --unique | xargs --no-run-if-empty docker rmi --force"#;
        Command::new("sh").args(["-c", remove, &self.0]).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

const BATCH: &str = include_str!("../../buildspecs/batch.yml");

/// What a pipeline hands from action to action.
struct Pipeline {
    shop: Shop,
    commit: String,
    source: PathBuf,
    variables: BTreeMap<String, String>,
}

/// What is left of an action when its machine is gone.
struct Action {
    outcome: Outcome,
    exported: BTreeMap<String, String>,
    result: Value,
    /// The files of its artifact.
    artifact: BTreeMap<String, String>,
}

impl Pipeline {
    /// A shop whose site is built by its own command, and whose image is in the registry.
    async fn new(name: &str) -> Self {
        let shop = Shop::whole(name).await;
        shop.configure("prebuilt: true", "path: web\n    build: mkdir -p dist && cp -R pages/. dist/\n    output: dist");
        for (name, text) in BUILDSPECS {
            shop.scene.write(&format!("buildspecs/{name}.yml"), text);
        }
        let mut pipeline = Self { shop, commit: String::new(), source: PathBuf::new(), variables: BTreeMap::new() };
        pipeline.push(1).await;
        pipeline
    }

    /// A source action: the next version is pushed, and its artifact is a zip without `.git`.
    async fn push(&mut self, version: u32) {
        let scene = &self.shop.scene;
        let page = format!("<!doctype html><title>{version}</title><script src=\"/{}\"></script>\n", asset(version));
        scene.write("web/pages/index.html", page).write(&format!("web/pages/{}", asset(version)), format!("console.log({version})\n"));
        scene.write("api/app.py", format!("{version}\n"));
        self.commit = scene.commit(version + 10);
        self.shop.push_image().await;
        self.source = scene.home().join(format!("source-{version}.zip"));
        scene.git(&["archive", "--format=zip", "--output", self.source.to_str().unwrap(), "HEAD"]);
        self.variables.clear();
    }

    /// Plays one action.
    fn action(&mut self, buildspec: &str) -> Action {
        let mut machine = Scene::new(&self.shop.proxy.url());
        let project = machine.project();
        std::fs::remove_dir_all(project.join(".git")).unwrap();
        unzip(&self.source, &project.join("src"));
        machine.program("windlass", &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_windlass")));
        machine.set("CODEBUILD_RESOLVED_SOURCE_VERSION", &self.commit);
        let given: Vec<String> = self.variables.iter().map(|(name, value)| format!("--project-var={name}={value}")).collect();
        let buildspec = format!("buildspecs/{buildspec}.yml");
        let fixed =
            ["build", "--source", "src", "--project", "shop", "--buildspec", &buildspec, "--artifacts", "out", "--packaging", "zip"];
        let files = ["--exported", "exported.env", "--reports", "reports", "--result", "result.json", "--log-format", "codebuild"];
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        self.shop.proxy.clear();
        let outcome = machine.windlass(&[&fixed[..], &files, &given].concat());
        let read = |name: &str| std::fs::read_to_string(project.join(name)).unwrap_or_default();
        let exported: BTreeMap<String, String> =
            read("exported.env").lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        self.variables.extend(exported.clone());
        let artifact = project.join("out/shop.zip");
        let artifact = if artifact.exists() { files_of(&artifact) } else { BTreeMap::new() };
        let result = serde_json::from_str(&read("result.json")).unwrap_or_else(|_| panic!("{outcome:?}"));
        Action { outcome, exported, result, artifact }
    }

    /// The record of the release, as the state has it.
    async fn record(&self, id: &str) -> Value {
        let key = format!("windlass/shop/default/releases/{id}.json");
        let object = self.shop.seed.s3().get_object().bucket(format!("{}-state", self.shop.name)).key(key).send().await.unwrap();
        serde_json::from_slice(&object.body.collect().await.unwrap().to_vec()).unwrap()
    }

    fn migrates(&self) {
        let answer = Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() };
        self.shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, answer);
    }
}

fn unzip(archive: &Path, to: &Path) {
    for (name, text) in files_of(archive) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn files_of(archive: &Path) -> BTreeMap<String, String> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(archive).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        if file.is_file() {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            files.insert(file.name().unwrap().into_owned(), text);
        }
    }
    files
}

#[test]
fn the_buildspecs_are_read_without_a_warning() {
    let scene = Scene::new("http://127.0.0.1:1");
    let names: Vec<String> = BUILDSPECS.iter().map(|(name, _)| format!("{name}.yml")).collect();
    for (name, text) in BUILDSPECS {
        scene.write(&format!("{name}.yml"), text);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let outcome = scene.windlass(&[&["lint", "--strict"], &names[..]].concat()).expect(0);
    assert_eq!(outcome.stdout, format!("{} file(s), 0 error(s), 0 warning(s)\n", BUILDSPECS.len()));
    let there = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/buildspecs")).unwrap().count();
    assert_eq!(there, BUILDSPECS.len(), "a buildspec that no test knows");
}

#[tokio::test]
async fn four_actions_are_one_release() {
    let mut pipeline = Pipeline::new("pipeline").await;
    let build = pipeline.action("build");
    build.outcome.expect(0);
    let id = build.exported["RELEASE_ID"].clone();
    assert_eq!(build.exported["RELEASE_COMMIT"], pipeline.commit);
    assert_eq!(
        (&build.result["reports"]["shop-windlass"]["failed"], &build.result["reports"]["shop-windlass"]["format"]),
        (&0.into(), &"JUNITXML".into())
    );
    let said: Value = serde_json::from_str(&build.artifact["release.json"]).unwrap();
    assert_eq!(said["images"]["api"]["container"], "web");
    assert!(said["images"]["api"]["uri"].as_str().unwrap().contains("/pipeline/api@sha256:"), "{said}");
    assert!(pipeline.shop.body("index.html").await.is_none(), "nobody sees anything yet");
    pipeline.migrates();
    for buildspec in ["migrations", "services", "publish"] {
        let action = pipeline.action(buildspec);
        action.outcome.expect(0);
        assert_eq!(action.exported["RELEASE_ID"], id, "{buildspec}");
        assert!(action.result["reports"]["shop-windlass"]["total"].as_u64().unwrap() > 0, "{buildspec}");
        assert!(action.artifact.contains_key("release.json"), "{buildspec}");
    }
    assert!(pipeline.shop.body("index.html").await.unwrap().contains(&asset(1)));
    let record = pipeline.record(&id).await;
    let stages: Vec<&String> = record["stages"].as_object().unwrap().keys().collect();
    assert_eq!(stages, ["assets", "migrations", "publish", "services"], "the image was there");
    assert_eq!(record["commit"], pipeline.commit.as_str());
    assert_eq!(record["dirty"], false);

    // The same commit again: each action has nothing to do, and says so to the next.
    let again = pipeline.action("build");
    again.outcome.expect(0);
    pipeline.shop.proxy.clear();
    for buildspec in ["migrations", "services", "publish"] {
        pipeline.action(buildspec).outcome.expect(0);
        assert_eq!(pipeline.shop.proxy.written(), [""; 0], "{buildspec}");
    }
}

#[tokio::test]
async fn an_action_that_fails_hands_nothing_on_and_can_be_retried() {
    let mut pipeline = Pipeline::new("pipeline-fails").await;
    pipeline.action("build").outcome.expect(0);
    let id = pipeline.variables["RELEASE_ID"].clone();
    let error = vec![("x-amz-function-error", "Unhandled".to_owned())];
    let body = serde_json::json!({ "errorType": "ProgrammingError", "errorMessage": "column price does not exist" }).to_string();
    pipeline.shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, Fault::Answer { status: 200, headers: error, body });
    let failed = pipeline.action("migrations");
    let outcome = failed.outcome.expect(20);
    assert!(outcome.stdout.contains("column price does not exist"), "{}", outcome.stdout);
    assert_eq!(failed.exported.get("RELEASE_ID"), Some(&id), "the variable of the action itself");
    assert_eq!(failed.result["reports"]["shop-windlass"]["failed"], 1);
    let said: Value = serde_json::from_str(&failed.artifact["release.json"]).unwrap();
    assert_eq!((&said["exit"], &said["release"]), (&23.into(), &id.as_str().into()));
    pipeline.migrates();
    for buildspec in ["migrations", "services", "publish"] {
        assert_eq!(pipeline.action(buildspec).exported["RELEASE_ID"], id);
    }
    let record = pipeline.record(&id).await;
    assert_eq!(record["runs"].as_array().unwrap().len(), 5);
    assert_eq!(record["stages"][Stage::Publish.name()]["outcome"], "done");
}

#[tokio::test]
async fn one_action_is_a_release_too() {
    let mut pipeline = Pipeline::new("pipeline-one").await;
    pipeline.migrates();
    let action = pipeline.action("release");
    let outcome = action.outcome.expect(0);
    assert!(outcome.stdout.contains("services: 1") || outcome.stdout.contains("api"), "{}", outcome.stdout);
    let record = pipeline.record(&action.exported["RELEASE_ID"]).await;
    assert_eq!(record["runs"][0]["exit"], 0);
    pipeline.push(2).await;
    pipeline.migrates();
    pipeline.action("release").outcome.expect(0);
    assert!(pipeline.shop.body("index.html").await.unwrap().contains(&asset(2)));
}

/// A shop of two sites, a service that has still to be built, and its migration; with the batch buildspec, of which each site has a node.
async fn batch(name: &str) -> (Leftovers, Shop) {
    let shop = Shop::whole(name).await;
    shop.add_docs();
    shop.scene.write("api/app.py", format!("{name} {:?}", std::time::Instant::now()));
    let docs = "    - identifier: assets_docs\n      depend-on: [begin]\n      env: {variables: {NODE: assets, UNITS: docs}}\n    - identifier: release\n";
    let graph =
        BATCH.replace("    - identifier: release\n", docs).replace("[assets_web, images_api]", "[assets_web, assets_docs, images_api]");
    assert!(graph.contains("assets_docs, images_api"), "{graph}");
    shop.scene.write("buildspecs/batch.yml", graph);
    shop.scene.program("windlass", &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_windlass")));
    shop.scene.commit(9);
    let images = Leftovers(format!("{}/{name}/api", crate::support::ministack::shared().registry()));
    (images, shop)
}

const PLAY: [&str; 9] =
    ["build", "--buildspec", "buildspecs/batch.yml", "--batch", "--parallel", "4", "--project", "shop", "--reports=../reports"];

#[tokio::test]
async fn a_batch_is_one_release_of_many_machines() {
    let (_images, shop) = batch("pipeline-batch").await;
    let answer = Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() };
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, answer);
    let outcome = shop.run(&PLAY).expect(0);
    let ids = shop
        .keys("state")
        .await
        .into_iter()
        .filter_map(|key| Some(key.strip_prefix("windlass/shop/default/releases/")?.strip_suffix(".json")?.to_owned()));
    let ids: Vec<String> = ids.collect();
    assert_eq!(ids.len(), 1, "{ids:?}\n{}", outcome.stdout);
    let history = shop.run(&["history", &ids[0], "--format", "json"]).expect(0);
    let record: Value = serde_json::from_str(&history.stdout).unwrap();
    let mut runs: Vec<String> = record["runs"].as_array().unwrap().iter().map(|run| run["stages"].to_string()).collect();
    runs[..3].sort();
    let stages = ["assets", "assets", "images", "migrations", "services", "publish"].map(|stage| format!("[\"{stage}\"]"));
    assert_eq!(runs, stages, "{}", outcome.stdout);
    assert!(record["runs"].as_array().unwrap().iter().all(|run| run["exit"] == 0));
    assert!(record["images"]["api"].as_str().unwrap().contains("/pipeline-batch/api@sha256:"), "{record}");
    assert_eq!(record["after"]["sites"].as_object().unwrap().len(), 2);
    assert!(shop.body("docs/index.html").await.is_some() && shop.body("app/index.html").await.is_some());
    shop.run(&["release"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0], "what the machines have done together is all there is to do");
}

#[tokio::test]
async fn a_node_that_fails_closes_the_gate() {
    let (_images, shop) = batch("pipeline-gate").await;
    shop.scene.write("api/Dockerfile", "FROM scratch\nCOPY not-there /\n");
    shop.scene.commit(10);
    let outcome = shop.run(&PLAY).expect(20);
    assert!(outcome.stderr.contains("images_api") && outcome.stderr.contains("release"), "{}", outcome.stderr);
    assert!(!shop.proxy.written().iter().any(|call| call.starts_with("ecs:") || call.starts_with("lambda:")));
    assert!(shop.body("app/index.html").await.is_none());
}

#[tokio::test]
async fn a_machine_alone_has_nothing_to_go_on_with() {
    let shop = Shop::site("pipeline-alone").await;
    insta::assert_snapshot!(shop.refused(&["stage", "assets", "--release", "commit"], 11), @r"
    error: no release of commit [commit] has begun; nothing was changed
    hint: run `windlass begin` first, on one machine
    ");
    let begun = shop.run(&["begin", "--export", ".windlass/release.env"]).expect(0);
    insta::assert_snapshot!(shop.redacted(&begun.stdout), @"begun [release]");
    let assets = shop.run(&["stage", "assets", "--release", "commit"]).expect(0);
    assert_eq!(begun.stdout.replace("begun ", "stage assets done, release "), assets.stdout);
    insta::assert_snapshot!(shop.redacted(shop.run(&["history"]).expect(0).stdout.lines().next().unwrap()), @"[release]  done  commit [commit]");
}
