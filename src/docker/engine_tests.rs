//! Tests against the real engine, which must be there: without one they fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, RemoveImageOptions};
use futures_util::StreamExt as _;

use super::context::tests::{GOLDEN, plant};
use super::*;

fn recipe() -> Recipe {
    Recipe { dockerfile: "Dockerfile".into(), args: BTreeMap::new(), target: None, platform: "linux/amd64".into() }
}

/// A build of `context` without anything special.
fn plain(context: &Context) -> Build<'_> {
    static RECIPE: LazyLock<Recipe> = LazyLock::new(recipe);
    static LOGINS: LazyLock<Logins> = LazyLock::new(Logins::default);
    static SECRETS: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    Build {
        context,
        recipe: &RECIPE,
        tags: Vec::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        cache_from: &[],
        logins: &LOGINS,
        secrets: &SECRETS,
        optional_secrets: &[],
        classic: false,
    }
}

/// Every path below `/context` of an image, as the engine unpacked it.
async fn unpacked(engine: &Engine, image: &str) -> BTreeSet<String> {
    let config = ContainerCreateBody { image: Some(image.into()), cmd: Some(vec!["none".into()]), ..ContainerCreateBody::default() };
    let container = engine.docker.create_container(None::<CreateContainerOptions>, config).await.unwrap().id;
    let mut bytes = Vec::new();
    let mut export = std::pin::pin!(engine.docker.export_container(&container));
    while let Some(piece) = export.next().await {
        bytes.extend(piece.unwrap());
    }
    let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    engine.docker.remove_container(&container, Some(force)).await.unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned());
    paths
        .filter_map(|path| path.strip_prefix("context/").map(|path| path.trim_end_matches('/').to_owned()))
        .filter(|p| !p.is_empty())
        .collect()
}

async fn remove(engine: &Engine, image: &str) {
    let force = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
    engine.docker.remove_image(image, Some(force), None).await.unwrap();
}

/// What `scan` lists, with the directories that Docker makes on the way to a file.
fn scanned(root: &Path) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for entry in scan(root, "Dockerfile").unwrap().entries {
        paths.extend(entry.path.match_indices('/').map(|(at, _)| entry.path[..at].to_owned()));
        paths.insert(entry.path);
    }
    paths
}

/// More patterns, of which the engine alone says what they leave out.
const MORE: [&str; 18] = [
    "**",
    "*",
    "*\n!a",
    "*\n!a/b/c.py",
    "**\n!**/*.log\na/**",
    "a/*\n!a/b",
    "a/?.log\n!a/x.*",
    "[a-f]*",
    "[^a-f]*",
    "f*/b*",
    "**/b/**\n!**/b/c.py",
    "/**/keep.*",
    "web/**/*.js\n!web/src/**",
    "../foo\n..\n/",
    "foo/../x.log",
    "README\\.md\nx\\.log",
    "!**\nbuild/**/sub",
    "with*/file?name\n**/out.js/",
];

/// The judge is the Docker command line: what it sends, and the engine copies.
#[tokio::test]
async fn scan_lists_what_docker_copies() {
    let engine = connect().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    std::os::unix::fs::symlink("../foo", root.path().join("a/link")).unwrap();
    for (index, patterns) in GOLDEN.iter().map(|(patterns, _)| patterns).chain(&MORE).enumerate() {
        std::fs::write(root.path().join(".dockerignore"), patterns).unwrap();
        let image = format!("windlass-test/ignore:{}-{index}", std::process::id());
        let mut docker = Command::new("docker");
        // An image of this run alone, as another run on the same engine removes its own.
        let run = format!("run={}", std::process::id());
        docker.args(["build", "--quiet", "--no-cache", "--label", &run, "--tag", &image]).arg(root.path()).env("DOCKER_BUILDKIT", "0");
        let built = docker.env("DOCKER_HOST", engine.endpoint()).output().unwrap();
        assert!(built.status.success(), "{patterns:?}: {}", String::from_utf8_lossy(&built.stderr));
        let copied = unpacked(&engine, &image).await;
        remove(&engine, &image).await;
        // The engine gets these two always, and hides them from COPY when they are ignored.
        let hidden = |path: &&String| !["Dockerfile", ".dockerignore"].contains(&path.as_str());
        let listed = scanned(root.path());
        let (listed, copied): (Vec<_>, Vec<_>) = (listed.iter().filter(hidden).collect(), copied.iter().filter(hidden).collect());
        assert_eq!(listed, copied, "{patterns:?}");
    }
}

#[tokio::test]
async fn an_image_is_built_tagged_labelled_and_cached() {
    let engine = connect().await.unwrap();
    assert!(!engine.version().is_empty());
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    std::fs::write(root.path().join("Dockerfile"), "FROM scratch AS one\nARG A\nLABEL a=$A\nCOPY . /context/\nFROM scratch\n").unwrap();
    let context = scan(root.path(), "Dockerfile").unwrap();
    let recipe = Recipe { args: BTreeMap::from([("A".into(), "b c".into())]), target: Some("one".into()), ..recipe() };
    let names = ["one", "two"].map(|name| format!("localhost:1/windlass-test/{name}:{}", std::process::id()));
    // An image of this run alone: one of the same content would be removed under us by another run on the same engine.
    let run = ("run".to_owned(), std::process::id().to_string());
    let labels = BTreeMap::from([("app".to_owned(), "sh\"op".to_owned()), run]);
    let mut lines = Vec::new();
    let wanted = Build { recipe: &recipe, tags: names.to_vec(), labels, ..plain(&context) };
    for classic in [true, false] {
        lines.clear();
        let wanted = Build { classic, ..wanted.clone() };
        let built = build(&engine, wanted.clone(), |line: &str| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(built.buildkit, !classic, "{lines:?}");
        let first = if classic { "Step 1/" } else { "[" };
        assert!(lines.iter().any(|line| line.starts_with(first)), "{lines:?}");
        check_named(&engine, &names, &built.id, root.path()).await;
        // Another checkout of the same files is answered from the engine's cache.
        std::fs::File::options().append(true).open(root.path().join("a.py")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let again = scan(root.path(), "Dockerfile").unwrap();
        assert_eq!(build(&engine, Build { context: &again, ..wanted }, |_: &str| ()).await.unwrap().id, built.id);
    }
    for name in &names {
        remove(&engine, name).await;
    }
}

async fn check_named(engine: &Engine, names: &[String; 2], id: &ImageId, root: &Path) {
    let config = engine.docker.inspect_image(&names[1]).await.unwrap();
    assert_eq!(config.id.as_deref(), Some(id.as_str()));
    let labels = config.config.unwrap().labels.unwrap();
    assert_eq!((labels["a"].as_str(), labels["app"].as_str()), ("b c", "sh\"op"));
    assert_eq!(architecture(engine, &names[0]).await.unwrap(), "linux/amd64");
    assert_eq!(unpacked(engine, &names[0]).await, scanned(root));
}

#[tokio::test]
async fn a_failed_build_names_its_step_and_its_reason() {
    let engine = connect().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    for (classic, dockerfile, step, hint) in [
        (true, "FROM scratch\nRUN --mount=type=cache,target=/x true\n", None, Some("BuildKit")),
        (true, "FROM scratch\nCOPY gone /\n", Some("Step 2/2 : COPY gone /"), None),
        (true, "FROM scratch\nRUNN x\n", None, None),
        (false, "FROM scratch\nCOPY gone /\n", Some("[1/1] COPY gone /"), None),
        (false, "FROM scratch\nRUNN x\n", None, None),
    ] {
        std::fs::write(root.path().join("Dockerfile"), dockerfile).unwrap();
        let context = scan(root.path(), "Dockerfile").unwrap();
        let error = build(&engine, Build { classic, ..plain(&context) }, |_: &str| ()).await.unwrap_err();
        let DockerError::Build { step: found, message, .. } = &error else { panic!("{error:?}") };
        assert!(!message.is_empty());
        assert!(step.is_none_or(|step| found.as_deref() == Some(step)), "{found:?}: {message}");
        assert!(hint.is_none_or(|hint| error.hint().is_some_and(|text| text.contains(hint))), "{error}");
    }
    shell(root.path());
    // A layer of its own: one that a test beside this one shares may go with that test's build.
    let dockerfile = "FROM scratch\nLABEL of=failures\nCOPY busybox /bin/sh\nRUN echo last words >&2; exit 3\n";
    std::fs::write(root.path().join("Dockerfile"), dockerfile).unwrap();
    let context = scan(root.path(), "Dockerfile").unwrap();
    for classic in [true, false] {
        let error = build(&engine, Build { classic, ..plain(&context) }, |_: &str| ()).await.unwrap_err();
        let DockerError::Build { step, message, tail } = &error else { panic!("{error:?}") };
        assert!(step.as_ref().unwrap().contains("RUN echo last words") && message.ends_with('3'), "{error}");
        assert!(tail.iter().any(|line| line == "last words"), "{tail:?}");
    }
}

/// Puts a static shell into a directory, as a whole image in one file.
fn shell(root: &Path) {
    let Some(shell) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()) else {
        panic!("this test needs a static busybox: apt-get install busybox-static")
    };
    std::fs::copy(shell, root.join("busybox")).unwrap();
}

#[tokio::test]
async fn a_context_that_changes_under_the_build_fails_it() {
    let engine = connect().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    let context = scan(root.path(), "Dockerfile").unwrap();
    std::fs::remove_file(root.path().join("foobar")).unwrap();
    let wanted = plain(&context);
    let error = build(&engine, wanted, |_: &str| ()).await.unwrap_err();
    assert!(matches!(&error, DockerError::Read { path, .. } if path.ends_with("foobar")), "{error:?}");
}

#[tokio::test]
async fn a_dropped_build_is_cancelled_in_the_engine() {
    let engine = connect().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    shell(root.path());
    let marker = format!("windlass-{}", std::process::id());
    std::fs::write(root.path().join("Dockerfile"), format!("FROM scratch\nCOPY busybox /bin/sh\nRUN echo {marker}; sleep 300\n")).unwrap();
    let context = scan(root.path(), "Dockerfile").unwrap();
    let wanted = plain(&context);
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    {
        let building = build(&engine, wanted, |line: &str| drop(said.send(line.to_owned())));
        let until = async { while heard.recv().await.is_some_and(|line| line != marker) {} };
        tokio::select! {
            result = building => panic!("{result:?}"),
            () = until => {}
            () = tokio::time::sleep(Duration::from_mins(1)) => panic!("the step was never reached"),
        }
    }
    let dropped = Instant::now();
    // The engine is this machine's: its processes are seen from here.
    let running = || {
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
        processes.filter(|line| String::from_utf8_lossy(line).contains(&format!("echo {marker}"))).count()
    };
    while running() > 0 {
        assert!(dropped.elapsed() < Duration::from_secs(20), "the step is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_secret_reaches_its_step_and_nothing_else() {
    let engine = connect().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    shell(root.path());
    let canary = format!("canary-{}-{:?}", std::process::id(), Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let dockerfile = "FROM scratch\nCOPY busybox /bin/sh\nRUN --mount=type=secret,id=token,target=/token \\\n  \
                      read value < /token; echo \"${#value} letters\" > /length\n";
    std::fs::write(root.path().join("Dockerfile"), dockerfile).unwrap();
    let context = scan(root.path(), "Dockerfile").unwrap();
    let image = format!("localhost:1/windlass-test/secret:{}", std::process::id());
    let secrets = BTreeMap::from([("token".to_owned(), canary.clone().into_bytes())]);
    let mut lines = Vec::new();
    // The same step with another length of secret would be remembered: a secret is no part of a step.
    let wanted = Build { tags: vec![image.clone()], secrets: &secrets, no_cache: true, ..plain(&context) };
    build(&engine, wanted.clone(), |line: &str| lines.push(line.to_owned())).await.unwrap();
    let into = tempfile::tempdir().unwrap();
    let saved = into.path().join("image.tar");
    let history = Command::new("docker").args(["history", "--no-trunc", &image]).output().unwrap();
    assert!(Command::new("docker").arg("save").arg("--output").arg(&saved).arg(&image).status().unwrap().success());
    let saved = std::fs::read(saved).unwrap();
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&saved, &format!("{} letters", canary.len())), "the step has seen it");
    for (place, bytes) in [("layers", &saved[..]), ("history", &history.stdout), ("output", lines.join("\n").as_bytes())] {
        assert!(!holds(bytes, &canary), "the {place} hold it");
    }
    // Without it nothing is built, though the mount does not say `required`; with words of its own, an optional one may be absent.
    let none = BTreeMap::new();
    let error = build(&engine, Build { secrets: &none, ..wanted.clone() }, |_: &str| ()).await.unwrap_err();
    assert!(error.to_string().contains("`token`"), "{error}");
    let optional = ["token".to_owned()];
    let without = Build { secrets: &none, optional_secrets: &optional, ..wanted.clone() };
    build(&engine, without, |line: &str| lines.push(line.to_owned())).await.unwrap();
    assert!(
        lines.iter().any(|line| line.contains("/token: ") || line.contains("can't open /token")),
        "the step runs without it: {lines:?}"
    );
    let error = build(&engine, Build { classic: true, ..wanted }, |_: &str| ()).await.unwrap_err();
    assert!(error.to_string().contains("BuildKit"), "{error}");
    remove(&engine, &image).await;
}

#[tokio::test]
async fn a_file_that_changed_within_its_time_is_seen_and_a_hidden_one_is_not() {
    let engine = connect().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    std::fs::write(root.path().join(".dockerignore"), "Dockerfile\n.dockerignore\n").unwrap();
    let image = format!("localhost:1/windlass-test/changed:{}", std::process::id());
    for content in ["one", "two"] {
        std::fs::write(root.path().join("foobar"), content).unwrap();
        std::fs::File::options().append(true).open(root.path().join("foobar")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let context = scan(root.path(), "Dockerfile").unwrap();
        build(&engine, Build { tags: vec![image.clone()], ..plain(&context) }, |_: &str| ()).await.unwrap();
        let into = tempfile::tempdir().unwrap();
        extract(&engine, &image, "/context", into.path(), None).await.unwrap();
        assert_eq!(std::fs::read_to_string(into.path().join("foobar")).unwrap(), content);
        assert!(!into.path().join("Dockerfile").exists() && !into.path().join(".dockerignore").exists());
    }
    remove(&engine, &image).await;
}

#[tokio::test]
async fn a_push_that_cannot_work_says_why() {
    let engine = connect().await.unwrap();
    let absent = push(&engine, "127.0.0.1:1/windlass-test/absent", "v1", None, |_| ()).await.unwrap_err();
    assert!(absent.is_image_absent(), "{absent:?}");
    assert!(tag(&engine, "windlass-test/absent:v1", "x", "y").await.unwrap_err().is_image_absent());
    assert!(architecture(&engine, "windlass-test/absent:v1").await.unwrap_err().is_image_absent());
}

/// Every container that `extract` has made of an image.
async fn extracting(engine: &Engine, image: &str) -> usize {
    let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
    let containers = engine.docker.list_containers(Some(all)).await.unwrap();
    containers.iter().filter(|container| container.image.as_deref() == Some(image)).count()
}

#[tokio::test]
async fn a_directory_is_taken_out_of_an_image_and_no_container_is_left() {
    let engine = connect().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    std::os::unix::fs::symlink("a.py", root.path().join("link")).unwrap();
    std::fs::hard_link(root.path().join("a.py"), root.path().join("hard")).unwrap();
    // Files that a volume begins with are the image's, too.
    std::fs::write(root.path().join("Dockerfile"), "FROM scratch\nCOPY . /context/\nCOPY a /alias-of-a/\nVOLUME /context/foo\n").unwrap();
    let context = scan(root.path(), "Dockerfile").unwrap();
    let image = format!("localhost:1/windlass-test/extract:{}", std::process::id());
    let wanted = Build { tags: vec![image.clone()], ..plain(&context) };
    build(&engine, wanted, |_: &str| ()).await.unwrap();

    let into = tempfile::tempdir().unwrap();
    let files = context.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. }));
    let names: BTreeSet<_> = files.map(|entry| entry.path.clone()).collect();
    let written = extract(&engine, &image, "/context", into.path(), None).await.unwrap();
    assert_eq!((written.files, written.left_out), (names.len() as u64, Vec::new()));
    for name in &names {
        assert_eq!(std::fs::read(into.path().join(name)).unwrap(), std::fs::read(root.path().join(name)).unwrap(), "{name}");
    }
    assert!(into.path().join("empty").is_dir());
    assert_eq!(std::fs::read_link(into.path().join("link")).unwrap(), std::path::Path::new("a.py"));

    let nowhere = tempfile::tempdir().unwrap();
    for path in ["/gone", "/context/a.py"] {
        let error = extract(&engine, &image, path, nowhere.path(), None).await.unwrap_err();
        assert!(matches!(&error, DockerError::NoDirectory { path: absent, .. } if absent == path), "{error:?}");
        assert!(!error.is_image_absent());
    }
    let again = extract(&engine, &image, "context/", into.path(), None).await.unwrap_err();
    assert!(matches!(again, DockerError::Write { .. }), "{again:?}");
    assert_eq!(extracting(&engine, &image).await, 0);

    // Dropped as soon as the container is there.
    {
        let extracting_it = extract(&engine, &image, "/context", nowhere.path(), None);
        let there = async { while extracting(&engine, &image).await == 0 {} };
        tokio::select! {
            biased;
            () = there => {}
            _ = extracting_it => {}
        }
    }
    let dropped = Instant::now();
    while extracting(&engine, &image).await > 0 {
        assert!(dropped.elapsed() < Duration::from_secs(20), "the container is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    remove(&engine, &image).await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_says_why() {
    let engine = connect().await.unwrap();
    let into = tempfile::tempdir().unwrap();
    let image = format!("127.0.0.1:1/windlass-test/absent@sha256:{}", "0123456789abcdef".repeat(4));
    let credentials = Credentials { username: "AWS".into(), password: "x".into() };
    let error = extract(&engine, &image, "/", into.path(), Some(&credentials)).await.unwrap_err();
    assert!(matches!(&error, DockerError::Pull { image: asked, .. } if *asked == image), "{error:?}");
    assert_eq!(error.hint().as_deref(), Some("the engine cannot reach the registry"));
}
