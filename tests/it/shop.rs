//! The application that the tests release: on disk, in the cloud, and with a proxy in between that sees every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::ministack;
use crate::support::proxy::{Fault, Gate, Proxy};
use crate::support::request::Recorded;
use crate::support::scene::{Outcome, Running, Scene, until};
use crate::support::seed::Seed;

/// A shop with names of its own, so that many can live in one cloud.
pub(crate) struct Shop {
    pub(crate) name: String,
    pub(crate) scene: Scene,
    pub(crate) proxy: Proxy,
    pub(crate) seed: Seed,
    /// The distribution in front of the site's bucket.
    pub(crate) distribution: String,
    domain: String,
}

impl Shop {
    /// A site alone: `NAME-web` behind a distribution, `NAME-state`, and a build that lies there.
    pub(crate) async fn site(name: &str) -> Self {
        Self::on(ministack::shared().url(), name).await
    }

    /// As [`Shop::site`], on a cloud of one's own.
    pub(crate) async fn on(cloud: &str, name: &str) -> Self {
        let proxy = Proxy::start(cloud);
        let seed = Seed::new(cloud);
        seed.bucket(&format!("{name}-web")).await;
        seed.bucket(&format!("{name}-state")).await;
        let (distribution, domain) = seed.distribution(&format!("{name}-web")).await;
        let scene = Scene::new(&proxy.url());
        let shop = Self { name: name.to_owned(), scene, proxy, seed, distribution, domain };
        let config = format!(
            "app: shop\nstate: s3://{name}-state/windlass\nsites:\n  web:\n    prebuilt: true\n    bucket: {name}-web\n    distribution: {}\n",
            shop.distribution
        );
        shop.scene.write("windlass.yml", config).write(".gitignore", "dist\n");
        shop.build(1);
        shop.scene.commit(1);
        shop
    }

    /// A site, a service and its migration. All is there but an image of the working tree.
    pub(crate) async fn whole(name: &str) -> Self {
        Self::whole_on(ministack::shared(), name).await
    }

    /// As [`Shop::whole`], on a cloud of one's own.
    pub(crate) async fn whole_on(cloud: &ministack::Ministack, name: &str) -> Self {
        let shop = Self::on(cloud.url(), name).await;
        let registry = cloud.registry();
        shop.add_service(registry);
        shop.seed.repository(&format!("{name}/api")).await;
        let digest = shop.seed.image(&format!("{name}/api"), "before").await;
        let image = format!("{registry}/{name}/api@{digest}");
        shop.seed.cluster(name).await;
        shop.seed.service(name, name, &image).await;
        shop.seed.function(name, &image).await;
        shop
    }

    /// Adds a service and its migration to the configuration, with a Dockerfile.
    pub(crate) fn add_service(&self, registry: &str) {
        let name = &self.name;
        let services = format!(
            "registry: {registry}\nservices:\n  api:\n    path: api\n    image: {{repository: {name}/api}}\n    cluster: {name}\n    \
             service: {name}\n    container: web\nmigrations:\n  main: {{framework: django, driver: lambda-image, from: api, function: {name}}}\n"
        );
        let config = self.config() + &services;
        self.scene.write("windlass.yml", config).write("api/Dockerfile", "FROM scratch\nCOPY app.py /\n").write("api/app.py", "1\n");
        self.scene.commit(2);
    }

    /// Adds a second site to the same bucket. The first moves below a prefix, too: `app`.
    pub(crate) fn add_docs(&self) {
        self.configure("    bucket: ", "    prefix: app\n    bucket: ").build(1);
        let docs = "sites:\n  docs: {path: docs, prebuilt: true, prefix: docs, ";
        self.configure("sites:\n", &format!("{docs}bucket: {}-web, distribution: {}}}\n", self.name, self.distribution));
        self.scene.write("docs/dist/index.html", "<html>docs").write("docs/dist/a b.txt", "");
    }

    /// Gives the working tree's image to the registry, as `stage images` would, without an engine.
    pub(crate) async fn push_image(&self) -> String {
        let plan = self.scene.windlass(&["plan", "--format", "json"]).expect(0);
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
        let tag = plan["images"]["api"]["tag"].as_str().unwrap();
        self.seed.image(&format!("{}/api", self.name), tag).await
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.scene.project().join("windlass.yml")).unwrap()
    }

    /// Replaces a part of the configuration.
    #[track_caller]
    pub(crate) fn configure(&self, from: &str, to: &str) -> &Self {
        let config = self.config();
        assert!(config.contains(from), "{from:?} is not in the configuration:\n{config}");
        self.scene.write("windlass.yml", config.replace(from, to));
        self
    }

    /// What a build of the `version`-th version writes: a page and one below it, which name a script; and a plain file.
    pub(crate) fn build(&self, version: u32) {
        std::fs::remove_dir_all(self.scene.project().join("dist")).ok();
        let script = asset(version);
        let root = if self.config().contains("prefix: app") { "/app/" } else { "/" };
        let page = format!("<!doctype html><title>{version}</title><script src=\"{root}{script}\"></script>\n");
        self.scene.write("dist/index.html", &page).write("dist/about/index.html", &page);
        self.scene.write(&format!("dist/{script}"), format!("console.log({version})\n"));
        self.scene.write("dist/robots.txt", format!("# {version}\n"));
    }

    /// Releases; it has to succeed. The proxy's log holds this run alone.
    pub(crate) fn release(&self) -> Outcome {
        self.run(&["release"]).expect(0)
    }

    /// Releases some units; it has to succeed. The proxy's log holds this run alone.
    pub(crate) fn release_units(&self, units: &[&str]) -> Outcome {
        self.run(&[&["release"], units].concat()).expect(0)
    }

    /// Asks the distribution for a path, as a browser would.
    pub(crate) async fn get(&self, path: &str) -> windlass::probe::Page {
        let client = windlass::probe::client(Some(&self.proxy.url())).unwrap();
        client.get(&format!("https://{}{path}", self.domain)).await.unwrap()
    }

    /// Runs the binary. The proxy's log holds this run alone.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.proxy.clear();
        self.scene.windlass(arguments)
    }

    /// Releases, and kills the program when the proxy sees its `number`-th write. Was there one?
    pub(crate) fn killed_at(&self, number: usize) -> bool {
        self.killed_at_in(number, &["release"])
    }

    /// As [`Shop::killed_at`], in another run than a release.
    pub(crate) fn killed_at_in(&self, number: usize, arguments: &[&str]) -> bool {
        let seen = AtomicUsize::new(0);
        let is_it = move |request: &Recorded| request.is_write && seen.fetch_add(1, Ordering::SeqCst) + 1 == number;
        self.killed_when(is_it, arguments)
    }

    /// Runs the binary, and kills it when the proxy sees such a request, which then happens all the same. Was there one?
    pub(crate) fn killed_when(&self, met: impl Fn(&Recorded) -> bool + Send + 'static, arguments: &[&str]) -> bool {
        self.proxy.clear();
        let victim = Victim::default();
        self.proxy.fail_next(met, 1, victim.signalled(Signal::KILL));
        let running = self.scene.start(arguments);
        victim.is(&running);
        let killed = running.wait().signal == Some(9);
        victim.is_gone();
        self.proxy.settle();
        killed
    }

    /// Starts the binary, and gives it once such a request is held back; the gate lets it pass.
    pub(crate) fn held_at(&self, met: impl Fn(&Recorded) -> bool + Clone + Send + 'static, arguments: &[&str]) -> (Running, Gate) {
        let gate = Gate::default();
        self.proxy.clear();
        self.proxy.fail_next(met.clone(), 1, Fault::Hold(gate.clone()));
        let running = self.scene.start(arguments);
        self.arrives(met);
        (running, gate)
    }

    /// Waits until the proxy has seen such a request.
    #[track_caller]
    pub(crate) fn arrives(&self, met: impl Fn(&Recorded) -> bool) {
        until("the request comes", || self.proxy.requests().iter().any(&met));
    }

    /// A run that is refused with `exit`, a hint and no write at all. Gives what was said from the error on.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], exit: i32) -> String {
        let outcome = self.run(arguments).expect(exit);
        assert_eq!(self.proxy.written(), [""; 0]);
        assert_eq!(outcome.stdout, "");
        self.error(&outcome)
    }

    /// What was said from the error on, the last line of which is a hint.
    #[track_caller]
    pub(crate) fn error(&self, outcome: &Outcome) -> String {
        let said = &outcome.stderr;
        assert!(said.lines().last().is_some_and(|line| line.starts_with("hint: ")), "the last line is no hint:\n{said}");
        let start = if said.starts_with("error: ") { 0 } else { said.find("\nerror: ").unwrap() + 1 };
        self.redacted(&said[start..])
    }

    /// The writes to the site's bucket: `s3:PutObject index.html`.
    pub(crate) fn written(&self) -> Vec<String> {
        let bucket = format!("/{}-web/", self.name);
        let key = |request: &Recorded| Some(format!("{} {}", request.operation, request.path.strip_prefix(&bucket)?));
        self.proxy.writes().iter().filter_map(key).collect()
    }

    /// The paths of all invalidations that were asked for.
    pub(crate) fn invalidated(&self) -> Vec<String> {
        let path = Regex::new("<Path>([^<]*)</Path>").unwrap();
        let made = self.proxy.writes().into_iter().filter(|request| request.operation == "cloudfront:CreateInvalidation");
        made.flat_map(|request| {
            path.captures_iter(&request.body).map(|found| found[1].replace("&amp;", "&").replace("&apos;", "'")).collect::<Vec<_>>()
        })
        .collect()
    }

    /// An object of the site, without its body.
    pub(crate) async fn head(&self, key: &str) -> Option<HeadObjectOutput> {
        self.seed.s3().head_object().bucket(format!("{}-web", self.name)).key(key).send().await.ok()
    }

    /// The body of an object of the site.
    pub(crate) async fn body(&self, key: &str) -> Option<String> {
        let object = self.seed.s3().get_object().bucket(format!("{}-web", self.name)).key(key).send().await.ok()?;
        Some(String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap())
    }

    /// A JSON document of the state, below the application's environment.
    pub(crate) async fn state_json(&self, name: &str) -> serde_json::Value {
        let key = format!("windlass/shop/default/{name}");
        let object = self.seed.s3().get_object().bucket(format!("{}-state", self.name)).key(key).send().await.unwrap();
        serde_json::from_slice(&object.body.collect().await.unwrap().to_vec()).unwrap()
    }

    /// All keys of one of the shop's buckets: `web`, `state`.
    pub(crate) async fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = self.seed.s3().list_objects_v2().bucket(format!("{}-{bucket}", self.name)).send().await.unwrap();
        listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    }

    /// Empties both buckets.
    pub(crate) async fn forget(&self) {
        for bucket in ["web", "state"] {
            for key in self.keys(bucket).await {
                self.seed.s3().delete_object().bucket(format!("{}-{bucket}", self.name)).key(key).send().await.unwrap();
            }
        }
    }

    /// A text without what differs from run to run.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let fixed = [
            (self.proxy.url().trim_start_matches("http://").to_owned(), "[cloud]"),
            (ministack::shared().registry().to_owned(), "[registry]"),
            (self.scene.project().display().to_string(), "[project]"),
            (self.distribution.clone(), "[distribution]"),
            (self.domain.clone(), "[domain]"),
        ];
        let text = fixed.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        [
            (r"\d{8}T\d{6}(\.?\d+)?Z-\w+", "[release]"),
            (r"\b[0-9a-f]{40}\b", "[commit]"),
            (r"commit [0-9a-f]{7,12}\b", "commit [commit]"),
            (r"\((\d+ min )?\d+(\.\d)? (ms|s)\)", "([time])"),
            (r"took  +[^\n]*", "took        [time]"),
            (r"invalidation I\w+", "invalidation [id]"),
            (r"sha256:[0-9a-f]{6,64}", "sha256:[digest]"),
            (r"ctx-[0-9a-f]{24}(-[0-9a-f]{12})?", "ctx-[context]"),
        ]
        .iter()
        .fold(text, |text, (from, to)| Regex::new(from).unwrap().replace_all(&text, *to).into_owned())
    }
}

/// A process that a request ends, however soon after its start the request comes.
#[derive(Clone, Default)]
pub(crate) struct Victim(Arc<AtomicI32>);

impl Victim {
    /// It is this one.
    pub(crate) fn is(&self, running: &Running) {
        self.0.store(i32::try_from(running.id()).unwrap(), Ordering::SeqCst);
    }

    /// It has ended: a request that comes later is nobody's end.
    fn is_gone(&self) {
        self.0.store(-1, Ordering::SeqCst);
    }

    /// The request sends it a signal first.
    pub(crate) fn signalled(&self, signal: Signal) -> Fault {
        let victim = self.clone();
        Fault::First(Box::new(move || {
            until("it is known who it is", || victim.0.load(Ordering::SeqCst) != 0);
            if let Some(pid) = Pid::from_raw(victim.0.load(Ordering::SeqCst).max(0)) {
                kill_process(pid, signal).unwrap();
            }
        }))
    }
}

/// The script that the `version`-th page names.
pub(crate) fn asset(version: u32) -> String {
    format!("assets/app-{version:08x}.js")
}
