//! Real migrations in real containers: applications without a line for windlass, in a function of an image, in a task, and in a function
//! of a zip. Each test has a cloud with the engine, and waits until no other has it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::django;
use crate::shop::Shop;
use crate::support::ministack::Ministack;
use crate::support::postgres::Postgres;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;
use crate::support::scene::Outcome;

/// It does not end on its own, and on SIGTERM it does.
const SERVE: &str = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit())\nwhile True: time.sleep(1)\n";

/// The images of a repository, those that tasks have left, and a container that the cloud may start while it ends.
struct Leftovers(String, String);

impl Drop for Leftovers {
    fn drop(&mut self) {
        let remove = r#"
            docker ps --all --format '{{.ID}} {{.Label "ministack.instance"}}' | sed -n "s/ .*:${0##*:}$//p" | xargs --no-run-if-empty docker rm --force
            docker images --quiet --no-trunc "$0/$1/api" | sort --unique | xargs --no-run-if-empty docker rmi --force
        "#;
        Command::new("sh").args(["-c", remove, &self.0, &self.1]).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

/// An application on a cloud with an engine, beside a database for each driver: `image`, `task`, `zip`. They go in this order.
struct Harbor {
    shop: Shop,
    /// The line of the configuration that says what migrates.
    migration: std::cell::RefCell<String>,
    commits: std::cell::Cell<u32>,
    // Dropped in this order: the cloud stops its containers first.
    _cloud: Ministack,
    _leftovers: Leftovers,
    postgres: Postgres,
}

impl Harbor {
    /// With this application in `api`, whose image is pushed and runs, and a function of it.
    async fn new(name: &str, write: impl Fn(&Shop)) -> Self {
        let postgres = Postgres::start();
        let cloud = Ministack::start(true);
        let leftovers = Leftovers(cloud.registry().to_owned(), name.to_owned());
        let shop = Shop::on(cloud.url(), name).await;
        shop.add_service(cloud.registry());
        shop.seed.repository(&format!("{name}/api")).await;
        shop.seed.cluster(name).await;
        write(&shop);
        shop.scene.commit(3);
        shop.run(&["stage", "images"]).expect(0);
        let image = format!("{}/{name}/api@{}", leftovers.0, shop.seed.only_image(&format!("{name}/api")).await);
        let inside = |database: &str| postgres.database(database).1;
        shop.seed.service_with(name, name, &image, &[("DATABASE_URL", &inside("task"))]).await;
        shop.seed.function_with(name, &image, &[("DATABASE_URL", &inside("image"))]).await;
        let migration = format!("  main: {{framework: django, driver: lambda-image, from: api, function: {name}}}");
        Self { shop, migration: migration.into(), commits: 3.into(), _cloud: cloud, _leftovers: leftovers, postgres }
    }

    /// Migrates by another driver, which has a database of its own.
    fn migrates(&self, migration: &str) {
        let migration = format!("  {migration}");
        self.shop.configure(&self.migration.replace(migration.clone()), &migration);
    }

    fn commit(&self) {
        self.commits.set(self.commits.get() + 1);
        self.shop.scene.commit(self.commits.get());
    }

    fn releases(&self) -> Outcome {
        self.shop.run(&["release", "api"]).expect(0)
    }

    /// A release whose migration fails, and which rolls nothing.
    fn fails(&self, said: &str) {
        let failed = self.shop.run(&["release", "api"]).expect(23);
        let error = self.shop.error(&failed);
        assert!(error.contains(said), "{error}");
        assert_eq!(self.times("ecs:UpdateService"), 0);
    }

    fn times(&self, operation: &str) -> usize {
        self.shop.proxy.requests().iter().filter(|request| request.operation == operation).count()
    }

    /// How often a function has been told to migrate. Each time it is also asked, before or after.
    fn migrated(&self) -> usize {
        self.shop.proxy.requests().iter().filter(|request| migrates(request)).count()
    }

    fn applied(&self, database: &str) -> String {
        self.postgres.query(database, "SELECT count(*) FROM django_migrations")
    }
}

fn migrates(request: &Recorded) -> bool {
    request.operation == "lambda:Invoke" && request.body.contains("\"migrate\"")
}

/// How many migrations a run says that it has applied.
fn count(outcome: &Outcome) -> usize {
    let line = outcome.stderr.lines().find_map(|line| line.split_once(" migrate: applied "));
    line.map_or(0, |(_, names)| names.split(", ").count())
}

/// Sixteen migrations pending, none pending, and one that fails, in this database.
fn plays_django(harbor: &Harbor, database: &str) {
    let scene = &harbor.shop.scene;
    // What it is made of does not depend on the driver, so that each image is built once.
    let version = |version: u32| {
        scene.write("api/serve.py", format!("# {version}\n{SERVE}"));
    };
    version(1);
    harbor.commit();
    let released = harbor.releases();
    assert!(released.stderr.contains("Applying items.0002_price... OK"), "{}", released.stderr);
    assert_eq!((count(&released), harbor.applied(database).as_str()), (16, "16"), "{}", released.stderr);

    // The same again, and other code with the same migrations.
    harbor.releases();
    assert_eq!((harbor.times("lambda:Invoke"), harbor.times("ecs:RunTask")), (0, 0));
    version(2);
    harbor.commit();
    let again = harbor.releases();
    assert!(again.stderr.contains("nothing was pending"), "{}", again.stderr);
    assert_eq!((harbor.times("ecs:UpdateService"), harbor.applied(database).as_str()), (1, "16"));

    // A failure leaves what the framework leaves: the migration is one transaction.
    let bad = "migrations.RunSQL('CREATE TABLE half (id int)'), migrations.RunSQL('ALTER TABLE nowhere ADD x int')";
    django::migrate(scene, "api", "0003_bad", "0002_price", bad);
    harbor.commit();
    harbor.fails("items.0003_bad: relation \"nowhere\" does not exist");
    assert_eq!(harbor.applied(database), "16");
    assert_eq!(harbor.postgres.query(database, "SELECT to_regclass('half') IS NULL"), "t");
    scene.remove("api/items/migrations/0003_bad.py");
}

async fn django(version: &str, name: &str) {
    let harbor = Harbor::new(name, |shop| {
        let install = format!("RUN pip install --no-cache-dir 'django~={version}.0' 'psycopg[binary]'\n");
        shop.scene
            .write(
                "api/Dockerfile",
                format!("FROM local/python:3.11-bookworm\n{install}WORKDIR /srv\nCOPY . .\nCMD [\"python3\", \"serve.py\"]\n"),
            )
            .write("api/serve.py", format!("# 1\n{SERVE}"))
            .write("api/.dockerignore", "Dockerfile\n");
        django::write(&shop.scene, "api");
        let price = "migrations.AddField('item', 'price', models.IntegerField(null=True))";
        django::migrate(&shop.scene, "api", "0002_price", "0001_initial", price);
    })
    .await;
    let shop = &harbor.shop;

    // In a function, whose image is the release's with windlass's handler.
    let plan = shop.run(&["plan"]).expect(0).stdout;
    assert!(plan.contains("put windlass's handler on"), "{plan}");
    plays_django(&harbor, "image");

    // The answer is lost after the commit: it is found in the log, and nothing runs twice.
    let size = "migrations.AddField('item', 'size', models.IntegerField(null=True))";
    django::migrate(&shop.scene, "api", "0003_size", "0002_price", size);
    harbor.commit();
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, Fault::LoseAnswer);
    let lost = harbor.releases();
    assert!(lost.stderr.contains("the answer was lost"), "{}", lost.stderr);
    assert_eq!((harbor.applied("image").as_str(), harbor.migrated()), ("17", 1));
    shop.scene.remove("api/items/migrations/0003_size.py");

    // In a task, with nothing added to the image at all.
    harbor.migrates("by-task: {framework: django, driver: task, from: api}");
    plays_django(&harbor, "task");

    // In a function made of a zip, which windlass takes out of the image. The same image is the same zip, to the byte.
    let (url, _) = harbor.postgres.database("zip");
    let (zipped, empty) = (format!("{name}-zip"), [&b"PK\x05\x06"[..], &[0; 18]].concat());
    shop.seed.function_zip(&zipped, "python3.11", "lambda_function.lambda_handler", &empty, &[("DATABASE_URL", &url)]).await;
    harbor.migrates(&format!("by-zip: {{framework: django, driver: lambda-zip, from: api, function: {zipped}}}"));
    plays_django(&harbor, "zip");
    let bad = "migrations.RunSQL('ALTER TABLE nowhere ADD x int')";
    django::migrate(&shop.scene, "api", "0003_worse", "0002_price", bad);
    harbor.commit();
    harbor.fails("items.0003_worse: relation \"nowhere\" does not exist");
    harbor.fails("items.0003_worse: relation \"nowhere\" does not exist");
    assert_eq!(harbor.times("lambda:UpdateFunctionCode"), 0);
    shop.scene.remove("api/items/migrations/0003_worse.py");
    let images = Command::new("docker").args(["images", "--quiet", "--filter", "reference=windlass-bundle:*-by-zip"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&images.stdout), "", "what a zip was taken out of is gone");

    // A command of one's own in a function: its exit code is the verdict.
    let command =
        |line: &str| format!("by-command: {{framework: command, driver: lambda-image, from: api, function: {name}, command: \"{line}\"}}");
    harbor.migrates(&command("python3 manage.py migrate --no-input && python3 manage.py showmigrations items"));
    harbor.commit();
    let commanded = harbor.releases();
    assert!(commanded.stderr.contains("No migrations to apply."), "{}", commanded.stderr);
    assert!(commanded.stderr.contains("[X] 0002_price"), "{}", commanded.stderr);
    assert_eq!(harbor.migrated(), 1);
    harbor.migrates(&command("echo almost; exit 7"));
    shop.scene.write("api/serve.py", format!("# 3\n{SERVE}"));
    harbor.commit();
    harbor.fails("exited with 7: almost");
}

#[tokio::test]
async fn django_4_2_is_migrated_in_a_function_in_a_task_and_out_of_a_zip() {
    django("4.2", "django42").await;
}

#[tokio::test]
async fn django_5_2_is_migrated_in_a_function_in_a_task_and_out_of_a_zip() {
    django("5.2", "django52").await;
}

/// Prisma's engine without native code, as an application would install it. The native one comes from binaries.prisma.sh.
pub(crate) fn engine() -> &'static Path {
    static FOLDER: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prisma");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["package.json", "package-lock.json"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/migration-handler/prisma").join(name);
            std::fs::copy(from, folder.join(name)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder);
        assert!(npm.status().unwrap().success());
        folder.join("node_modules")
    });
    &FOLDER
}

/// Two migrations pending, none pending, and one that fails and blocks the next run.
fn plays_prisma(harbor: &Harbor, database: &str) {
    let scene = &harbor.shop.scene;
    let version = |version: u32| {
        scene.write(
            "api/serve.js",
            format!("// {version}\nprocess.on('SIGTERM', () => process.exit(0));\nsetInterval(() => {{}}, 1000);\n"),
        );
    };
    version(1);
    harbor.commit();
    let released = harbor.releases();
    assert!(released.stderr.contains("migrate: applied 20260101000000_init, 20260102000000_more"), "{}", released.stderr);
    assert_eq!(harbor.postgres.query(database, "SELECT count(*) FROM \"Order\""), "1");
    version(2);
    harbor.commit();
    let again = harbor.releases();
    assert!(again.stderr.contains("nothing was pending"), "{}", again.stderr);
    let bad = "CREATE TABLE half (id int);\nALTER TABLE nowhere ADD x int;\n";
    scene.write("api/prisma/migrations/20260103000000_bad/migration.sql", bad);
    harbor.commit();
    harbor.fails("20260103000000_bad: P3018: relation \"nowhere\" does not exist");
    assert_eq!(harbor.postgres.query(database, "SELECT to_regclass('half') IS NULL"), "t");
    harbor.fails("P3009");
    std::fs::remove_dir_all(scene.project().join("api/prisma/migrations/20260103000000_bad")).unwrap();
}

#[tokio::test]
async fn prisma_is_migrated_in_a_function_and_in_a_task() {
    let harbor = Harbor::new("prisma", |shop| {
        let install = "RUN apt-get update -qq && apt-get install -qq --no-install-recommends nodejs && rm -rf /var/lib/apt/lists/*\n";
        shop.scene
            .write(
                "api/Dockerfile",
                format!("FROM local/python:3.11-bookworm\n{install}WORKDIR /srv\nCOPY . .\nCMD [\"node\", \"serve.js\"]\n"),
            )
            .write("api/serve.js", "")
            .write("api/.dockerignore", "Dockerfile\n")
            .write(
                "api/prisma/schema.prisma",
                "datasource db {\n  provider = \"postgresql\"\n  url = env(\"DATABASE_URL\")\n}\nmodel Order {\n  id Int @id\n}\n",
            )
            .write("api/prisma/migrations/migration_lock.toml", "provider = \"postgresql\"\n")
            .write("api/prisma/migrations/20260101000000_init/migration.sql", "CREATE TABLE \"Order\" (\"id\" INTEGER PRIMARY KEY);\n")
            .write("api/prisma/migrations/20260102000000_more/migration.sql", "INSERT INTO \"Order\" VALUES (1);\n");
        shop.configure("framework: django", "framework: prisma");
    })
    .await;
    let migration = harbor.migration.borrow().replace("django", "prisma");
    harbor.migration.replace(migration);
    // The application has no engine: windlass puts its own beside its handler.
    plays_prisma(&harbor, "image");

    // A task runs the image as it is, so that the application has to have one.
    let copied = Command::new("cp").arg("-r").args([engine(), &harbor.shop.scene.project().join("api")]).status().unwrap();
    assert!(copied.success());
    harbor.shop.scene.write(".gitignore", "dist\nnode_modules\n");
    harbor.migrates("by-task: {framework: prisma, driver: task, from: api}");
    plays_prisma(&harbor, "task");
}
