//! Migrations in functions made of zips: real Django and real Prisma on a real PostgreSQL, run by the local cloud without a container.

use std::io::{Cursor, Write as _};
use std::path::Path;

use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::django;
use crate::shop::Shop;
use crate::support::ministack;
use crate::support::postgres::Postgres;
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

fn times(shop: &Shop, operation: &str) -> usize {
    shop.proxy.requests().iter().filter(|request| request.operation == operation).count()
}

pub(crate) fn migrates(request: &Recorded) -> bool {
    request.operation == "lambda:Invoke" && request.body.contains("\"migrate\"")
}

pub(crate) fn migrated(shop: &Shop) -> usize {
    shop.proxy.requests().iter().filter(|request| migrates(request)).count()
}

/// A zip of folders, as somebody's pipeline makes it.
pub(crate) fn zip(folders: &[&Path]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for folder in folders {
        for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let translated = path.contains("/locale/") && !path.contains("/locale/en/") && !path.contains(".py");
            let needless = translated || ["/gis/", "/admin/", "/admindocs/", ".pyc"].iter().any(|part| path.contains(part));
            if entry.file_type().is_file() && !needless && path != "done" {
                zip.start_file(path, SimpleFileOptions::default()).unwrap();
                zip.write_all(&std::fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner()
}

/// A service, and a migration by a zip.
pub(crate) async fn shop(name: &str, framework: &str, more: &str) -> Shop {
    let shop = Shop::site(name).await;
    let registry = ministack::shared().registry();
    shop.add_service(registry);
    shop.configure(
        &format!("{{framework: django, driver: lambda-image, from: api, function: {name}}}"),
        &format!("{{framework: {framework}, driver: lambda-zip, from: api, function: {name}{more}}}"),
    );
    shop.seed.repository(&format!("{name}/api")).await;
    let digest = shop.seed.image(&format!("{name}/api"), "before").await;
    shop.seed.cluster(name).await;
    shop.seed.service(name, name, &format!("{registry}/{name}/api@{digest}")).await;
    shop
}

/// Another image of the service, without an engine.
pub(crate) async fn next_image(shop: &Shop, number: u32) {
    shop.scene.write("api/app.py", format!("{number}\n"));
    shop.push_image().await;
}

fn bundle(shop: &Shop) {
    let handler = shop.scene.windlass(&["migration-handler", "django"]).expect(0).stdout;
    shop.scene.write("api/jobs/migrate.py", handler);
    let zip = zip(&[&django::packages("5.2"), &shop.scene.project().join("api")]);
    shop.scene.write("bundle.zip", zip);
}

#[tokio::test]
async fn a_zip_made_elsewhere_migrates_django_once() {
    let postgres = Postgres::start();
    let (url, _) = postgres.database("harbor");
    let (audit, _) = postgres.database("audit");
    let shop = shop("zip-django", "django", ", zip: bundle.zip, databases: [default, audit]").await;
    django::write(&shop.scene, "api");
    let variables = [("DATABASE_URL", url.as_str()), ("AUDIT_URL", audit.as_str())];
    shop.seed.function_zip("zip-django", "python3.11", "jobs/migrate.handler", &zip(&[]), &variables).await;
    let missing = shop.refused(&["release", "api"], 11);
    assert!(missing.contains("`bundle.zip` is no zip that can be taken"), "{missing}");
    bundle(&shop);
    shop.push_image().await;

    let plan = shop.run(&["plan"]).expect(0).stdout;
    assert!(plan.contains("update and invoke zip-django with the zip bundle.zip"), "{plan}");
    let released = shop.run(&["release", "api"]).expect(0);
    assert!(released.stderr.contains("Applying items.0001_initial... OK"), "{}", released.stderr);
    assert!(released.stderr.contains("items.0001_initial, audit:contenttypes.0001_initial"), "{}", released.stderr);
    let applied = |database: &str| postgres.query(database, "SELECT count(*) FROM django_migrations");
    assert_eq!((applied("harbor"), applied("audit")), ("15".to_owned(), "15".to_owned()));
    assert_eq!((migrated(&shop), times(&shop, "lambda:UpdateFunctionCode"), times(&shop, "lambda:PublishVersion")), (1, 1, 1));
    let record = shop.state_json("live.json").await;
    let code = record["migrations"]["main"]["code"].as_str().unwrap();
    assert_eq!(code.len(), 44, "the zip's SHA-256 in base64: {code}");

    // The same zip is neither uploaded nor run again, whatever image the service has.
    shop.run(&["release", "api"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    next_image(&shop, 2).await;
    shop.run(&["release", "api"]).expect(0);
    assert_eq!((migrated(&shop), times(&shop, "lambda:UpdateFunctionCode"), times(&shop, "ecs:UpdateService")), (0, 0, 1));

    // The answer is lost after the commit: its end is in the log, and nothing runs twice.
    django::migrate(
        &shop.scene,
        "api",
        "0002_price",
        "0001_initial",
        "migrations.AddField('item', 'price', models.IntegerField(null=True))",
    );
    bundle(&shop);
    shop.push_image().await;
    shop.proxy.fail_next(migrates, 1, Fault::LoseAnswer);
    let lost = shop.run(&["release", "api"]).expect(0);
    assert!(lost.stderr.contains("the answer was lost"), "{}", lost.stderr);
    assert_eq!((applied("harbor"), applied("audit"), migrated(&shop)), ("16".to_owned(), "16".to_owned(), 1));

    // A failure leaves what the framework leaves, says what, and rolls nothing.
    let bad = "migrations.RunSQL('CREATE TABLE half (id int)'), migrations.RunSQL('ALTER TABLE nowhere ADD x int')";
    django::migrate(&shop.scene, "api", "0003_bad", "0002_price", bad);
    bundle(&shop);
    next_image(&shop, 3).await;
    let failed = shop.run(&["release", "api"]).expect(23);
    let error = shop.error(&failed);
    assert!(error.contains("items.0003_bad: relation \"nowhere\" does not exist"), "{error}");
    assert!(error.contains("applied before it: nothing; still pending: items.0003_bad, audit:items.0003_bad"), "{error}");
    assert_eq!((times(&shop, "ecs:UpdateService"), postgres.query("harbor", "SELECT to_regclass('half') IS NULL")), (0, "t".to_owned()));
}

#[tokio::test]
async fn prismas_zip_is_made_of_the_checkout_and_the_secret_is_not_told() {
    let postgres = Postgres::start();
    postgres.database("orders");
    let shop = shop("zip-prisma", "prisma", "").await;
    let password = "p@ss:w/ord%2F#";
    let secret = json!({ "engine": "postgres", "username": "postgres", "password": password, "host": "127.0.0.1", "port": postgres.port(), "dbname": "orders" });
    let arn = shop.seed.secret("zip-prisma-db", &secret.to_string()).await;
    shop.seed.function_zip("zip-prisma", "nodejs20.x", "index.handler", &zip(&[]), &[("DATABASE_SECRET_ARN", &arn)]).await;
    shop.scene
        .write(
            "api/prisma/schema.prisma",
            "datasource db {\n  provider = \"postgresql\"\n  url = env(\"DATABASE_URL\")\n}\nmodel Order {\n  id Int @id\n}\n",
        )
        .write("api/prisma/migrations/migration_lock.toml", "provider = \"postgresql\"\n")
        .write("api/prisma/migrations/20260101000000_init/migration.sql", "CREATE TABLE \"Order\" (\"id\" INTEGER PRIMARY KEY);\n")
        .write(
            "api/prisma/migrations/20260102000000_more/migration.sql",
            "INSERT INTO \"Order\" VALUES (1);\nDO $$ BEGIN PERFORM 'a; b'; END $$;\n",
        );
    shop.push_image().await;
    let plan = shop.run(&["plan"]).expect(0).stdout;
    assert!(plan.contains("a zip of Prisma's migrations in api, an engine and windlass's handler"), "{plan}");
    let released = shop.run(&["release", "api"]).expect(0);
    assert!(released.stderr.contains("migrate: applied 20260101000000_init, 20260102000000_more"), "{}", released.stderr);
    assert_eq!(postgres.query("orders", "SELECT count(*) FROM \"Order\""), "1");

    // The same files are the same zip.
    next_image(&shop, 2).await;
    let again = shop.run(&["release", "api"]).expect(0);
    assert!(again.stderr.contains("nothing was pending"), "{}", again.stderr);
    assert_eq!((migrated(&shop), times(&shop, "lambda:UpdateFunctionCode")), (1, 0));

    let bad = "CREATE TABLE half (id int);\nALTER TABLE nowhere ADD x int;\n";
    shop.scene.write("api/prisma/migrations/20260103000000_bad/migration.sql", bad);
    next_image(&shop, 3).await;
    let failed = shop.run(&["release", "api"]).expect(23);
    let error = shop.error(&failed);
    assert!(error.contains("20260103000000_bad: P3018: relation \"nowhere\" does not exist"), "{error}");
    assert_eq!(postgres.query("orders", "SELECT to_regclass('half') IS NULL"), "t");
    // What an earlier run has left blocks the next, with the way out.
    let blocked = shop.run(&["release", "api"]).expect(23);
    let error = shop.error(&blocked);
    assert!(error.contains("P3009") && error.contains("prisma migrate resolve --rolled-back 20260103000000_bad"), "{error}");
    for said in [&released.stderr, &failed.stderr, &blocked.stderr] {
        assert!(!said.contains(password) && !said.contains("p%40ss"), "{said}");
    }
}

#[tokio::test]
async fn a_function_that_does_not_fit_is_refused_before_anything_changes() {
    let shop = shop("zip-unfit", "django", "").await;
    shop.seed.function_zip("zip-unfit", "nodejs20.x", "index.handler", &zip(&[]), &[]).await;
    insta::assert_snapshot!(shop.refused(&["release", "api"], 11), @r"
    error: preflight refused the release; nothing was changed
       migration `main`: the function `zip-unfit` runs on nodejs20.x, and django takes python
    hint: give the function a runtime of python, or name a `zip` made elsewhere
    ");
}

#[tokio::test]
async fn a_zip_of_more_than_fifty_megabytes_goes_through_the_state() {
    let shop = shop("zip-large", "command", ", zip: large.zip, handler: own").await;
    shop.seed.function_zip("zip-large", "python3.11", "index.handler", &zip(&[]), &[]).await;
    shop.scene.write("code/index.py", "def handler(event, context):\n    return {'ok': True}\n");
    let mut noise = vec![0u8; 51_000_000];
    let mut state = 1u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    shop.scene.write("code/noise", noise);
    shop.scene.write("large.zip", zip(&[&shop.scene.project().join("code")]));
    shop.push_image().await;
    shop.run(&["release", "api"]).expect(0);
    let updates: Vec<Recorded> =
        shop.proxy.requests().into_iter().filter(|request| request.operation == "lambda:UpdateFunctionCode").collect();
    assert_eq!(updates.len(), 1);
    assert!(updates[0].body.contains("\"S3Bucket\":\"zip-large-state\""), "{}", updates[0].body.len());
}
