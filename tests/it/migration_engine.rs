//! Real migrations in real containers: a Django application without a line for windlass, in a function and in a task.
//!
//! One test: a local cloud with an engine bears no second one beside it.

use std::process::{Command, Stdio};

use crate::django;
use crate::shop::Shop;
use crate::support::ministack::Ministack;
use crate::support::postgres::Postgres;

/// It does not end on its own, and on SIGTERM it does.
const SERVE: &str = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit())\nwhile True: time.sleep(1)\n";

struct Leftovers(String);

impl Drop for Leftovers {
    fn drop(&mut self) {
        let remove = r#"
            docker ps --all --format '{{.ID}} {{.Label "ministack.instance"}}' | sed -n "s/ .*:${0##*:}$//p" | xargs --no-run-if-empty docker rm --force
            docker images --quiet --no-trunc "$0/django/api" | sort --unique | xargs --no-run-if-empty docker rmi --force
        "#;
        Command::new("sh").args(["-c", remove, &self.0]).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

#[tokio::test]
async fn a_plain_application_is_migrated_in_a_function_and_in_a_task() {
    let postgres = Postgres::start();
    let (outside, inside) = postgres.database("harbor");
    let leftovers;
    let cloud = Ministack::start(true);
    leftovers = Leftovers(cloud.registry().to_owned());
    let shop = Shop::on(cloud.url(), "django").await;
    shop.add_service(&leftovers.0);
    shop.seed.repository("django/api").await;
    shop.seed.cluster("django").await;
    shop.scene
        .write("api/Dockerfile", "FROM local/python:3.11-bookworm\nRUN pip install --no-cache-dir 'django~=5.2.0' 'psycopg[binary]'\nWORKDIR /srv\nCOPY . .\nCMD [\"python3\", \"serve.py\"]\n")
        .write("api/serve.py", SERVE)
        .write("api/.dockerignore", "Dockerfile\n");
    django::write(&shop.scene, "api");
    shop.scene.commit(3);
    shop.run(&["stage", "images"]).expect(0);
    let image = format!("{}/django/api@{}", leftovers.0, shop.seed.only_image("django/api").await);
    shop.seed.service_with("django", "django", &image, &[("DATABASE_URL", &inside)]).await;
    shop.seed.function_with("django", &image, &[("DATABASE_URL", &inside)]).await;
    let times = |operation: &str| shop.proxy.requests().iter().filter(|request| request.operation == operation).count();
    let applied = || postgres.query("harbor", "SELECT count(*) FROM django_migrations");

    // In a function, whose image is the release's with windlass's handler.
    let plan = shop.run(&["plan"]).expect(0).stdout;
    assert!(plan.contains("put windlass's handler on"), "{plan}");
    let released = shop.run(&["release", "api"]).expect(0);
    assert!(released.stderr.contains("items.0001_initial"), "{}", released.stderr);
    assert_eq!(applied(), "15");
    // One migrates, and one asks again what is pending.
    assert_eq!((times("lambda:Invoke"), times("ecs:UpdateService")), (2, 0), "the image is the same");
    shop.run(&["release", "api"]).expect(0);
    assert_eq!(times("lambda:Invoke"), 0);

    // A failure leaves what the framework leaves, and rolls nothing.
    let migrate = |name: &str, after: &str, operations: &str, commit| {
        django::migrate(&shop.scene, "api", name, after, operations);
        shop.scene.commit(commit);
    };
    let bad = "migrations.RunSQL('CREATE TABLE half (id int)'), migrations.RunSQL('ALTER TABLE nowhere ADD x int')";
    migrate("0002_bad", "0001_initial", bad, 4);
    let failed = shop.run(&["release", "api"]).expect(23);
    let error = shop.error(&failed);
    assert!(error.contains("ProgrammingError: items.0002_bad: relation \"nowhere\" does not exist"), "{error}");
    assert_eq!(times("ecs:UpdateService"), 0);
    assert_eq!(postgres.query("harbor", "SELECT to_regclass('half') IS NULL"), "t");

    // The answer is lost after the commit: it is found in the log, and nothing runs twice.
    migrate("0002_bad", "0001_initial", "migrations.AddField('item', 'price', models.IntegerField(null=True))", 5);
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, crate::support::proxy::Fault::LoseAnswer);
    let lost = shop.run(&["release", "api"]).expect(0);
    assert!(lost.stderr.contains("the answer was lost"), "{}", lost.stderr);
    assert_eq!(applied(), "16");
    let migrated =
        |request: &crate::support::request::Recorded| request.operation == "lambda:Invoke" && request.body.contains("\"migrate\"");
    assert_eq!(shop.proxy.requests().iter().filter(|request| migrated(request)).count(), 1);

    // In a task, with nothing added to the image at all.
    shop.configure("driver: lambda-image", "driver: task");
    migrate("0003_more", "0002_bad", "migrations.AddField('item', 'size', models.IntegerField(null=True))", 6);
    let task = shop.run(&["release", "api"]).expect(0);
    assert!(task.stderr.contains("Applying items.0003_more... OK"), "{}", task.stderr);
    assert!(task.stderr.contains("migrate: applied items.0003_more"), "{}", task.stderr);
    assert_eq!((applied().as_str(), times("ecs:RunTask")), ("17", 1));
    migrate("0004_bad", "0003_more", "migrations.RunSQL('ALTER TABLE nowhere ADD x int')", 7);
    let failed = shop.run(&["release", "api"]).expect(23);
    assert!(shop.error(&failed).contains("relation \"nowhere\" does not exist"), "{}", failed.stderr);
    assert_eq!(times("ecs:UpdateService"), 0);

    // In a function made of a zip, which windlass takes out of the image.
    let empty = [&b"PK\x05\x06"[..], &[0; 18]].concat();
    shop.seed.function_zip("django-zip", "python3.11", "lambda_function.lambda_handler", &empty, &[("DATABASE_URL", &outside)]).await;
    shop.configure("driver: task, from: api, function: django", "driver: lambda-zip, from: api, function: django-zip");
    migrate("0004_bad", "0003_more", "migrations.AddField('item', 'weight', models.IntegerField(null=True))", 8);
    let zip = shop.run(&["release", "api"]).expect(0);
    assert!(zip.stderr.contains("migrate: applied items.0004_bad"), "{}", zip.stderr);
    assert_eq!((applied().as_str(), times("lambda:UpdateFunctionCode"), times("lambda:Invoke")), ("18", 1, 2));
    // The same image is the same zip, to the byte.
    migrate("0005_last", "0004_bad", "migrations.RunSQL('ALTER TABLE nowhere ADD x int')", 9);
    let failed = shop.run(&["release", "api"]).expect(23);
    assert!(shop.error(&failed).contains("items.0005_last: relation \"nowhere\" does not exist"), "{}", failed.stderr);
    shop.run(&["release", "api"]).expect(23);
    assert_eq!((times("lambda:UpdateFunctionCode"), times("ecs:UpdateService")), (0, 0));
}
