//! A whole release with real containers: one test, as a local cloud with an engine bears no second one beside it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::shop::{Shop, asset};
use crate::support::ministack::Ministack;
use crate::support::request::Recorded;
use crate::support::scene::{Outcome, runs, until};

const DOCKERFILE: &str = "FROM local/python:3.11-bookworm\nCOPY . /app\nWORKDIR /app\nCMD [\"sh\", \"start\"]\n";

/// The same image serves and migrates.
const START: &str = "if [ -n \"$AWS_LAMBDA_FUNCTION_NAME\" ]; then exec aws-lambda-rie python3 migrate.py; fi\nexec python3 serve.py\n";

/// As the first process of its container it has to say that it ends on SIGTERM.
const SERVE: &str = "\
import signal, sys
from http.server import test
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
test(port=8000)
";

/// A function of a few lines: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
const MIGRATE: &str = "\
import json, os, urllib.request
api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'
while True:
    with urllib.request.urlopen(api + 'next') as event:
        id, asked = event.headers['Lambda-Runtime-Aws-Request-Id'], json.load(event)
    kind, answer = migrate(asked)
    urllib.request.urlopen(api + id + '/' + kind, json.dumps(answer).encode()).close()
";

/// A handler that succeeds.
const APPLIES: &str = "def migrate(asked):\n    return 'response', {'applied': ['items.0001_initial'], 'asked': asked}\n";
/// A handler that fails.
const FAILS: &str =
    "def migrate(asked):\n    return 'error', {'errorType': 'ProgrammingError', 'errorMessage': 'column price does not exist'}\n";

/// What the test leaves on the engine: the images of a repository, and a container that the cloud may start while it ends. They go
/// when this is dropped.
pub(crate) struct Leftovers {
    pub(crate) registry: String,
    /// Of which repository.
    pub(crate) repository: &'static str,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let remove = r#"
            docker ps --all --format '{{.ID}} {{.Label "ministack.instance"}}' | sed -n "s/ .*:${0##*:}$//p" | xargs --no-run-if-empty docker rm --force
            docker images --quiet --no-trunc "$0/$1" | sort --unique | xargs --no-run-if-empty docker rmi --force
        "#;
        Command::new("sh").args(["-c", remove, &self.registry, self.repository]).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

struct Scenario {
    shop: Shop,
}

impl Scenario {
    /// The next version of everything.
    fn version(&self, version: u32, handler: &str, serve: &str) {
        self.shop.build(version);
        let migrate = MIGRATE.replacen("while True", &format!("{handler}while True"), 1);
        let scene = &self.shop.scene;
        scene.write("api/Dockerfile", DOCKERFILE).write("api/start", START).write("api/migrate.py", migrate);
        scene.write("api/serve.py", format!("# {version}\n{serve}"));
        scene.commit(version + 10);
    }

    fn times(&self, operation: &str) -> usize {
        self.shop.proxy.written().iter().filter(|written| *written == operation).count()
    }

    /// The image that a run has pushed, by its record.
    async fn image(&self, run: &Outcome) -> String {
        let key = format!("windlass/shop/default/releases/{}.json", run.stdout.trim_end().rsplit(' ').next().unwrap());
        let record = self.shop.seed.s3().get_object().bucket("engine-state").key(key).send().await.unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record.body.collect().await.unwrap().to_vec()).unwrap();
        record["images"]["api"].as_str().unwrap_or_else(|| panic!("no image in {record}")).to_owned()
    }

    /// What ECS says of the service: its revision, its image and its tasks.
    fn service(&self) -> String {
        let status = self.shop.run(&["status"]).expect(0).stdout;
        let line = status.lines().find(|line| line.starts_with("  service ")).unwrap();
        line.split(" tasks").next().unwrap().to_owned()
    }

    fn fails(&self, exit: i32, with: &[&str]) {
        let outcome = self.shop.run(&["release"]).expect(exit);
        let error = self.shop.error(&outcome);
        for part in with {
            assert!(error.contains(part), "{part:?} is not in\n{error}");
        }
    }
}

#[tokio::test]
async fn from_an_empty_repository_to_a_crash_that_is_rolled_back() {
    // Dropped in the opposite order: the cloud stops its containers first.
    let leftovers;
    let cloud = Ministack::start_for_crashes();
    let registry = cloud.registry().to_owned();
    leftovers = Leftovers { registry, repository: "engine/api" };
    let scenario = Scenario { shop: Shop::on(cloud.url(), "engine").await };
    let shop = &scenario.shop;
    shop.add_service(&leftovers.registry);
    shop.seed.repository("engine/api").await;
    shop.seed.cluster("engine").await;

    // Neither service nor function exists: the image can be pushed, and the rest is named.
    scenario.version(1, APPLIES, SERVE);
    let pushed = shop.run(&["stage", "images"]).expect(0);
    assert!(pushed.stdout.starts_with("stage images done, release "), "{}", pushed.stdout);
    let first = scenario.image(&pushed).await;
    assert!(first.starts_with(&format!("{}/engine/api@sha256:", leftovers.registry)), "{first}");
    shop.run(&["stage", "images"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0], "it is pushed once");
    let refused = shop.refused(&["release"], 11);
    assert!(refused.contains("has no service `engine`") && refused.contains("no Lambda function `engine`"), "{refused}");

    // A release that has everything.
    shop.seed.service("engine", "engine", &first).await;
    shop.seed.function("engine", &first).await;
    scenario.version(2, APPLIES, SERVE);
    let released = shop.release();
    assert!(released.stderr.contains("applied items.0001_initial"), "{}", released.stderr);
    assert_eq!((scenario.times("lambda:Invoke"), scenario.times("ecs:UpdateService")), (1, 1));
    let second = scenario.image(&released).await;
    assert_ne!(first, second);
    let running = scenario.service();
    let short = &second.rsplit("sha256:").next().unwrap()[..12];
    assert!(running.contains(short) && running.ends_with("1 of 1"), "{short}: {running}");
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);

    // A migration that fails: the old version serves.
    scenario.version(3, FAILS, SERVE);
    scenario.fails(23, &["ProgrammingError: column price does not exist"]);
    assert_eq!(
        (scenario.times("lambda:Invoke"), scenario.times("ecs:RegisterTaskDefinition"), scenario.times("ecs:UpdateService")),
        (1, 0, 0)
    );

    // A container that crashes: rolled back, and no page is published.
    scenario.version(4, APPLIES, "raise SystemExit(3)\n");
    scenario.fails(30, &["was rolled back", "exited with 3"]);
    assert_eq!(scenario.times("ecs:UpdateService"), 1);
    assert_eq!(shop.written().iter().filter(|write| write.contains("index.html")).count(), 0);
    assert_eq!(scenario.service(), running);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
}

type Point = (&'static str, Box<dyn Fn(&Recorded) -> bool + Send>);

/// The moments at which a release is killed, by name.
fn points() -> Vec<Point> {
    let writes = |part: &'static str| move |request: &Recorded| request.is_write && request.path.contains(part);
    let asks = |operation: &'static str| move |request: &Recorded| request.operation == operation;
    let rolling = AtomicBool::new(false);
    let watched = move |request: &Recorded| {
        rolling.fetch_or(request.operation == "ecs:UpdateService", Ordering::SeqCst) && request.operation == "ecs:DescribeServices"
    };
    vec![
        ("the lock is taken", Box::new(writes("/lock.json"))),
        ("the plan is kept", Box::new(writes("/plans/"))),
        ("the record is begun", Box::new(writes("/releases/"))),
        ("an asset goes up", Box::new(writes("-web/assets/"))),
        ("an old page is kept", Box::new(writes("/bodies/"))),
        ("the function gets its code", Box::new(asks("lambda:UpdateFunctionCode"))),
        ("the function's version is published", Box::new(asks("lambda:PublishVersion"))),
        ("the attempt to migrate is written down", Box::new(writes("/migrations/main.json"))),
        ("the migration is invoked", Box::new(asks("lambda:Invoke"))),
        ("the revision is registered", Box::new(asks("ecs:RegisterTaskDefinition"))),
        ("the service begins to roll", Box::new(asks("ecs:UpdateService"))),
        ("the rollout is watched", Box::new(watched)),
        ("the first page is new", Box::new(asks("s3:CopyObject"))),
        ("the invalidation is made", Box::new(asks("cloudfront:CreateInvalidation"))),
        ("what is live is written down", Box::new(writes("/sites/web/live.json"))),
    ]
}

/// Part of `benches/kill-matrix`: minutes, and an engine to itself.
#[tokio::test]
#[ignore = "minutes: benches/kill-matrix runs it"]
async fn a_release_of_real_containers_may_be_killed_at_named_points() {
    let leftovers;
    let cloud = Ministack::start_for_crashes();
    let registry = cloud.registry().to_owned();
    leftovers = Leftovers { registry, repository: "engine/api" };
    let scenario = Scenario { shop: Shop::on(cloud.url(), "engine").await };
    let shop = &scenario.shop;
    shop.add_service(&leftovers.registry);
    shop.seed.repository("engine/api").await;
    shop.seed.cluster("engine").await;
    scenario.version(1, APPLIES, SERVE);
    let first = scenario.image(&shop.run(&["stage", "images"]).expect(0)).await;
    shop.seed.service("engine", "engine", &first).await;
    shop.seed.function("engine", &first).await;
    shop.release();
    let (mut met, mut version) = (0, 1);
    for (name, point) in points() {
        version += 1;
        scenario.version(version, APPLIES, SERVE);
        let before = scenario.service();
        assert!(shop.killed_when(point, &["release"]), "the release never came to where {name}");
        met += 1;
        let migrated = scenario.times("lambda:Invoke");
        // The page is the old one or the new one, and whole.
        let page = shop.body("index.html").await.unwrap();
        assert!(page.contains(&asset(version)) || page.contains(&asset(version - 1)), "{name}: {page}");
        let script = page.split('"').nth(1).unwrap().trim_start_matches('/');
        assert!(shop.head(script).await.is_some(), "{name}: {script} is not there");
        shop.release();
        // An application's own handler cannot be asked what came of an invocation whose caller is dead.
        let invoked = migrated + scenario.times("lambda:Invoke");
        assert!(invoked == 1 || invoked == 2 && name == "the migration is invoked", "{name}: invoked {invoked} times");
        assert!(shop.body("index.html").await.unwrap().contains(&asset(version)), "{name}");
        let after = scenario.service();
        assert!(after != before && after.ends_with("1 of 1"), "{name}: {before}, then {after}");
        shop.release();
        assert_eq!(shop.proxy.written(), [""; 0], "{name}: a further run writes");
        println!("killed where {name}: gone on with");
    }
    // While the engine builds: no request says so, and the step's process does.
    version += 1;
    scenario.version(version, APPLIES, SERVE);
    let marker = format!("5.{}", std::process::id());
    shop.scene.write("api/Dockerfile", DOCKERFILE.replace("WORKDIR", &format!("RUN sleep {marker}\nWORKDIR")));
    shop.scene.commit(version + 20);
    let running = shop.scene.start(&["release"]);
    until("the step runs", || runs(&marker));
    running.signal(Signal::KILL);
    running.wait();
    shop.release();
    assert!(shop.body("index.html").await.unwrap().contains(&asset(version)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
    println!("killed where the image is being built: gone on with\n{} named points on real containers", met + 1);
}
