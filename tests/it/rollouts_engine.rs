//! Rollouts with real containers behind a working load balancer, asked for a page all the while: what do users see of a good release, and
//! of each that fails?

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::engine::Leftovers;
use crate::support::ministack::Ministack;
use crate::support::scene::{Outcome, Scene};
use crate::support::seed::Seed;

const DOCKERFILE: &str = "FROM local/python:3.11-bookworm\nCOPY serve.py /\nCMD [\"python3\", \"/serve.py\"]\n";

/// Says which version it is; its health is an answer of its own.
const SERVE: &str = "\
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(HEALTH if self.path == '/healthz' else 200)
        self.end_headers()
        self.wfile.write(b'VERSION')
    def log_message(self, *_):
        pass
print('starting VERSION', flush=True)
http.server.ThreadingHTTPServer(('0.0.0.0', 8000), Handler).serve_forever()
";

/// Answers by what they said: a version, or a failure.
type Seen = BTreeMap<String, usize>;

/// Asks the balancer for a page fifty times a second, at most.
struct Traffic {
    seen: Arc<Mutex<Seen>>,
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(address: &str, balancer: &str) -> Self {
        let (answers, ends) = (Arc::new(Mutex::new(Seen::new())), Arc::new(AtomicBool::new(false)));
        let (kept, until, address, path) = (Arc::clone(&answers), Arc::clone(&ends), address.to_owned(), format!("/_alb/{balancer}/"));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                let said = ask(&address, &path).unwrap_or_else(|error| format!("failed: {error}"));
                *kept.lock().unwrap().entry(said).or_default() += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { seen: answers, ends, thread: Some(thread) }
    }

    /// What was seen since the last time.
    fn seen(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.take().map(|thread| thread.join().ok());
    }
}

fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let version = answer.split(['\r', '\n']).find(|line| line.starts_with("version-"));
    Ok(version.filter(|_| status == "200").map_or(format!("failed: {status}"), str::to_owned))
}

struct Rolls {
    scene: Scene,
    registry: String,
    traffic: Traffic,
}

impl Rolls {
    /// Writes a version.
    fn version(&self, version: &str, health: u32, serve: &str, others: &str, secrets: &str) {
        let serve = serve.replace("VERSION", &format!("version-{version}")).replace("HEALTH", &health.to_string());
        self.scene.write("api/Dockerfile", DOCKERFILE).write("api/serve.py", serve);
        let definition = format!(
            "{{\"networkMode\": \"awsvpc\", \"requiresCompatibilities\": [\"FARGATE\"], \"cpu\": \"256\", \"memory\": \"512\", \
             \"containerDefinitions\": [{{\"name\": \"web\", \"image\": \"\", \"portMappings\": [{{\"containerPort\": 8000}}], \"secrets\": \
             [{secrets}], \"logConfiguration\": {{\"logDriver\": \"awslogs\", \"options\": {{\"awslogs-group\": \"rolls\", \"awslogs-region\": \
             \"us-east-1\", \"awslogs-stream-prefix\": \"web\"}}}}}}{others}]}}"
        );
        self.scene.write("api/task.json", definition);
    }

    /// Releases it, and says what users saw meanwhile and in the two seconds after.
    fn release(&self, what: &str, exit: i32) -> (Outcome, Seen) {
        self.traffic.seen();
        let outcome = self.scene.windlass(&["release"]).expect(exit);
        std::thread::sleep(Duration::from_secs(2));
        let answers = self.traffic.seen();
        let failed: usize = answers.iter().filter(|(said, _)| said.starts_with("failed")).map(|(_, count)| count).sum();
        // The cloud's balancer takes a container for healthy before it listens, and some requests meet it then.
        assert!(failed * 5 < answers.values().sum(), "{what}: {answers:?}");
        eprintln!("{what}: exit {exit}, {failed} of {} requests failed: {answers:?}", answers.values().sum::<usize>());
        (outcome, answers)
    }
}

#[tokio::test]
async fn users_are_served_while_good_and_bad_releases_roll() {
    // Dropped in the opposite order: the cloud stops its containers first.
    let mut leftovers = Leftovers { registry: String::new(), repository: "rolls/api" };
    let cloud = Ministack::start_for_crashes();
    let registry = cloud.registry().to_owned();
    leftovers.registry.clone_from(&registry);
    let seed = Seed::new(cloud.url());
    seed.bucket("rolls-state").await;
    seed.repository("rolls/api").await;
    seed.cluster("rolls").await;
    let group = seed.balancer("rolls").await;
    let scene = Scene::new(cloud.url());
    scene.write(
        "windlass.yml",
        format!(
            "app: rolls\nstate: s3://rolls-state/windlass\nregistry: {registry}\nservices:\n  api: {{path: api, image: {{repository: rolls/api}}, \
             task_definition: api/task.json, cluster: rolls, service: rolls, container: web, health: /healthz, timeout: 20s}}\n"
        ),
    );
    let traffic = Traffic::start(&registry, "rolls");
    let rolls = Rolls { scene, registry, traffic };
    rolls.version("1", 200, SERVE, "", "");
    rolls.scene.windlass(&["stage", "images"]).expect(0);
    let digest = seed.only_image("rolls/api").await;
    seed.balanced_service("rolls", &format!("{}/rolls/api@{digest}", rolls.registry), &group).await;
    let since = std::time::Instant::now();
    while !rolls.traffic.seen().contains_key("version-1") {
        assert!(since.elapsed() < Duration::from_mins(1), "the first version serves");
        std::thread::sleep(Duration::from_millis(200));
    }

    rolls.version("2", 200, SERVE, "", "");
    let (_, answers) = rolls.release("a good release", 0);
    assert!(answers.contains_key("version-2") && !answers.contains_key("version-3"), "{answers:?}");

    let broken = "print('Traceback: no module named shop', flush=True)\nraise SystemExit(3)\n# VERSION\n";
    rolls.version("3", 200, broken, "", "");
    let (said, answers) = rolls.release("a release that crashes", 30);
    assert!(said.stderr.contains("container `web` exited with 3"), "{}", said.stderr);
    assert!(answers.contains_key("version-2") && !answers.contains_key("version-3"), "{answers:?}");

    let missing = format!("{}/rolls/api@sha256:{}", rolls.registry, "9".repeat(64));
    rolls.version("4", 200, SERVE, &format!(", {{\"name\": \"proxy\", \"image\": \"{missing}\"}}"), "");
    let (said, answers) = rolls.release("a release with a missing image", 30);
    assert!(said.stderr.contains("its image cannot be pulled: CannotPullContainerError"), "{}", said.stderr);
    assert!(answers.contains_key("version-2") && !answers.contains_key("version-4"), "{answers:?}");

    let secret = "{\"name\": \"KEY\", \"valueFrom\": \"arn:aws:secretsmanager:us-east-1:000000000000:secret:nobody-knows\"}";
    rolls.version("5", 200, SERVE, "", secret);
    let (said, answers) = rolls.release("a release with a missing secret", 30);
    assert!(said.stderr.contains("its secrets cannot be read"), "{}", said.stderr);
    assert!(answers.contains_key("version-2") && !answers.contains_key("version-5"), "{answers:?}");

    // The cloud's balancer asks nobody for their health: the health URL does.
    rolls.version("6", 503, SERVE, "", "");
    let (said, _) = rolls.release("a release whose /healthz answers 503", 30);
    assert!(said.stderr.contains("/healthz` answers 503"), "{}", said.stderr);

    rolls.version("7", 200, SERVE, "", "");
    let (_, answers) = rolls.release("a good release after all of them", 0);
    assert!(answers.contains_key("version-7"), "{answers:?}");
}
