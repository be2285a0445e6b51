//! Each failure of a migration by itself: what a person reads, and what it tells them to do. Those of the database and of the framework
//! come from a real PostgreSQL, Django and Prisma; those of Lambda are played.

use std::process::Command;

use serde_json::{Value, json};

use crate::django;
use crate::migration::{answers, failed, fails, pushed, times};
use crate::migration_engine::engine;
use crate::shop::Shop;
use crate::support::postgres::{Postgres, Session};
use crate::support::scene::until;

const KEPT: &str = "no service was rolled and no site published: the old version serves";

/// A function that fails as Lambda tells it, with status 200 and `X-Amz-Function-Error`:
/// <https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html>.
async fn function(name: &str, kind: &str, message: &str, cure: &str) {
    let shop = pushed(name).await;
    let error = failed(&shop, fails(kind, message), 23);
    let said = format!("the function `{name}` answered {kind}: {message}");
    assert_eq!(error, format!("error: migration `main` failed\n   {said}\nhint: {KEPT}; {cure}\n"));
}

#[tokio::test]
async fn a_function_error_with_status_200_is_a_failure() {
    let cure = "correct the migration, and release again";
    function("failure-0", "ProgrammingError", "column price does not exist", cure).await;
}

#[tokio::test]
async fn a_function_that_is_cut_off_after_fifteen_minutes() {
    let cure = "it was cut off: give the function more time (15 min at most; a task and a command have `timeout`), or migrate by the driver `task`; then release again";
    function("failure-1", "Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 900.00 seconds", cure).await;
}

#[tokio::test]
async fn a_function_out_of_memory() {
    let cure = "give the function or the task more memory, then release again";
    function("failure-2", "Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: signal: killed", cure).await;
}

#[tokio::test]
async fn a_function_whose_process_ends() {
    let cure = "the process ended without an answer: its log says why; then release again";
    function("failure-3", "Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: exit status 1", cure).await;
}

#[tokio::test]
async fn a_function_that_cannot_be_started() {
    let cure = "the migration could not be started: correct the handler, its settings or its dependencies, and release again";
    function("failure-4", "Runtime.ImportModuleError", "Unable to import module 'migration_lambda': No module named 'django'", cure).await;
}

/// A function that answers without an error, and whose answer tells of one.
async fn answered(name: &str, body: Value, said: &str, cure: &str) {
    let shop = pushed(name).await;
    let error = failed(&shop, answers(&body), 23);
    assert!(error.starts_with("error: migration `main` "), "{error}");
    assert!(error.contains(said) && error.ends_with(&format!("hint: {KEPT}; {cure}\n")), "{error}");
}

#[tokio::test]
async fn a_success_after_which_something_is_pending_is_a_failure() {
    let cure = "it said that it succeeded and has not migrated: see its log; is its engine there, does it look at the right database and directory?";
    let body = json!({ "exit": 0, "applied": [], "pending": ["items.0003_item_stock"] });
    answered("failure-pending", body, "main` did not apply everything\n   still pending: items.0003_item_stock\n", cure).await;
}

#[tokio::test]
async fn a_null_exit_code_is_a_failure() {
    let cure = "correct the migration, and release again";
    answered("failure-null", json!({ "exit_code": null }), "its command has no exit code: it never ran, or was killed", cure).await;
}

#[tokio::test]
async fn an_exit_code_in_an_answer_is_a_failure() {
    let cure = "correct the migration, and release again";
    answered("failure-exit", json!({ "exit": 3, "output": "bad" }), "its command exited with 3: bad", cure).await;
}

#[tokio::test]
async fn a_status_of_500_in_an_answer_is_a_failure() {
    let cure = "correct the migration, and release again";
    answered("failure-status", json!({ "statusCode": 500, "body": "boom" }), "it answered with status 500: boom", cure).await;
}

#[tokio::test]
async fn success_false_in_an_answer_is_a_failure() {
    let cure = "correct the migration, and release again";
    answered("failure-false", json!({ "success": false, "error": "no" }), "it answered `success: false`: no", cure).await;
}

#[tokio::test]
async fn an_error_in_an_answer_is_a_failure() {
    let cure = "correct the migration, and release again";
    answered("failure-error", json!({ "errorType": "E", "errorMessage": "m" }), "answered E: m", cure).await;
}

/// A Django application that is migrated from here, and a database of its own.
struct Yard {
    shop: Shop,
    postgres: Postgres,
}

impl Yard {
    async fn new(name: &str) -> Self {
        let postgres = Postgres::start();
        let (url, _) = postgres.database("harbor");
        let mut shop = Shop::site(name).await;
        shop.scene.set("PYTHONPATH", django::packages("5.2"));
        shop.scene.set("PYTHONDONTWRITEBYTECODE", "1");
        shop.scene.set("DATABASE_URL", url);
        django::write(&shop.scene, "api");
        let yard = Self { shop, postgres };
        yard.configure("framework: django", 1);
        yard
    }

    /// As the `number`-th image.
    fn configure(&self, migration: &str, number: usize) {
        let name = &self.shop.name;
        let image = format!("127.0.0.1:1/shop/api@sha256:{number:064x}");
        self.shop.scene.write(
            "windlass.yml",
            format!(
                "app: shop\nstate: s3://{name}-state/windlass\nservices:\n  api: {{path: api, image: \"{image}\", cluster: c, service: s, \
                 container: web}}\nmigrations:\n  main: {{driver: local, from: api, {migration}}}\n"
            ),
        );
    }

    fn migrates(&self) {
        self.shop.run(&["stage", "migrations"]).expect(0);
    }

    /// A run that fails; what it says holds each of these, and ends with the cure.
    fn fails(&self, exit: i32, said: &[&str], cure: &str) -> String {
        let outcome = self.shop.run(&["stage", "migrations"]).expect(exit);
        assert_eq!(times(&self.shop, "ecs:UpdateService"), 0);
        let error = self.shop.error(&outcome);
        for said in said {
            assert!(error.contains(said), "{said:?} is not in\n{error}");
        }
        assert!(error.ends_with(&format!("hint: {KEPT}; {cure}\n")), "{error}");
        outcome.stderr
    }

    /// Ends a session, and what its server is doing for it.
    fn ends(&self, session: Session) {
        drop(session);
        let ends = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
        self.postgres.query("postgres", ends);
    }

    fn psql(&self, query: &str) -> Session {
        let session = self.postgres.session("harbor", query);
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND query NOT LIKE '%activity%'";
        until("it is held", || self.postgres.query("harbor", sleeps) != "0");
        session
    }
}

#[tokio::test]
async fn a_wrong_password() {
    let mut yard = Yard::new("failure-password").await;
    yard.postgres.query("harbor", "CREATE ROLE shop LOGIN PASSWORD 'right'");
    yard.postgres.asks_for_passwords("shop");
    yard.shop.scene.set("DATABASE_URL", format!("postgres://shop:wrong-canary@127.0.0.1:{}/harbor", yard.postgres.port()));
    let cure = "correct the user or the password that the migration is given (its secret), and release again";
    yard.fails(23, &["error: migration `main` failed\n", "password authentication failed for user \"shop\""], cure);
}

#[tokio::test]
async fn a_database_that_does_not_answer() {
    let mut yard = Yard::new("failure-unreachable").await;
    yard.shop.scene.set("DATABASE_URL", "postgres://postgres@127.0.0.1:1/harbor");
    let cure = "look whether the database runs and lets this function or task in (security group, subnets, host name, connections), and \
                release again";
    yard.fails(23, &["onnection refused"], cure);
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let mut yard = Yard::new("failure-absent").await;
    yard.shop.scene.set("DATABASE_URL", format!("postgres://postgres@127.0.0.1:{}/harbour", yard.postgres.port()));
    let cure = "create the database, or correct its name in the connection's URL, and release again";
    yard.fails(23, &["database \"harbour\" does not exist"], cure);
}

#[tokio::test]
async fn a_user_without_the_right_to_alter() {
    let mut yard = Yard::new("failure-permission").await;
    yard.postgres.query("harbor", "CREATE ROLE shop LOGIN");
    yard.shop.scene.set("DATABASE_URL", format!("postgres://shop@127.0.0.1:{}/harbor", yard.postgres.port()));
    let cure = "grant the migration's user what it lacks (it has to own the tables that it alters), and release again";
    yard.fails(23, &["permission denied for schema public"], cure);
}

#[tokio::test]
async fn a_lock_of_another_session() {
    let yard = Yard::new("failure-lock").await;
    yard.migrates();
    let price = "migrations.RunSQL(\"SET lock_timeout = '1s'\"), migrations.AddField('item', 'price', models.IntegerField(null=True))";
    django::migrate(&yard.shop.scene, "api", "0002_price", "0001_initial", price);
    yard.configure("framework: django", 2);
    let held = yard.psql("BEGIN; LOCK TABLE items_item; SELECT pg_sleep(600)");
    let cure = "another session holds a lock: see `pg_stat_activity` and `pg_locks` for it, end it or wait, and release again";
    let said = yard.fails(23, &["items.0002_price: canceling statement due to lock timeout", "applied before it: nothing"], cure);
    assert!(said.contains(", still: what failed has applied nothing\n"), "{said}");
    drop(held);
}

#[tokio::test]
async fn another_migration_of_the_same_database() {
    let yard = Yard::new("failure-busy").await;
    yard.configure("framework: django, timeout: 40s", 1);
    // The number of windlass's own advisory lock.
    let held = yard.psql("SET application_name = 'windlass R/main/1'; SELECT pg_advisory_lock(8604529940662154099); SELECT pg_sleep(600)");
    let cure = "wait until the other migration has ended, and release again";
    yard.fails(12, &["another migration holds the database `default`: windlass R/main/1, since "], cure);
    drop(held);
}

#[tokio::test]
async fn a_past_that_the_code_does_not_have() {
    let yard = Yard::new("failure-history").await;
    let price = "migrations.AddField('item', 'price', models.IntegerField(null=True))";
    django::migrate(&yard.shop.scene, "api", "0002_price", "0001_initial", price);
    yard.migrates();
    yard.postgres.query("harbor", "DELETE FROM django_migrations WHERE app = 'items' AND name = '0001_initial'");
    yard.configure("framework: django", 2);
    let cure = "the database and the code do not have the same past: restore the missing migrations, or mark what is applied, and \
                release again";
    yard.fails(23, &["InconsistentMigrationHistory: Migration items.0002_price is applied before its dependency items.0001_initial"], cure);
}

#[tokio::test]
async fn two_migrations_that_follow_the_same_one() {
    let yard = Yard::new("failure-conflict").await;
    for name in ["0002_price", "0002_size"] {
        django::migrate(&yard.shop.scene, "api", name, "0001_initial", "migrations.RunSQL('SELECT 1')");
    }
    let cure = "merge the migrations (`python manage.py makemigrations --merge`), commit, and release again";
    yard.fails(23, &["CommandError", "Conflicting migrations detected; multiple leaf nodes"], cure);
}

/// A Prisma application that is migrated from here.
async fn prisma(name: &str) -> Yard {
    let yard = Yard::new(name).await;
    yard.configure("framework: prisma", 1);
    let copied = Command::new("cp").arg("-r").args([engine(), &yard.shop.scene.project().join("api")]).status().unwrap();
    assert!(copied.success());
    yard.shop
        .scene
        .write(
            "api/prisma/schema.prisma",
            "datasource db {\n  provider = \"postgresql\"\n  url = env(\"DATABASE_URL\")\n}\nmodel Order {\n  id Int @id\n}\n",
        )
        .write("api/prisma/migrations/migration_lock.toml", "provider = \"postgresql\"\n")
        .write("api/prisma/migrations/20260101000000_init/migration.sql", "CREATE TABLE \"Order\" (\"id\" INTEGER PRIMARY KEY);\n");
    yard
}

#[tokio::test]
async fn prismas_lock_held_by_another_session_p1002() {
    let yard = prisma("failure-p1002").await;
    // Prisma's own number: <https://www.prisma.io/docs/orm/prisma-migrate/workflows/development-and-production#advisory-locking>
    let held = yard.psql("SELECT pg_advisory_lock(72707369); SELECT pg_sleep(600)");
    let cure = "another session holds a lock: see `pg_stat_activity` and `pg_locks` for it, end it or wait, and release again";
    yard.fails(23, &["P1002"], cure);
    yard.ends(held);
    yard.migrates();
    assert_eq!(yard.postgres.query("harbor", "SELECT count(*) FROM \"Order\""), "0");
}

#[tokio::test]
async fn an_earlier_migration_that_failed_p3009() {
    let yard = prisma("failure-p3009").await;
    yard.shop.scene.write("api/prisma/migrations/20260102000000_bad/migration.sql", "ALTER TABLE nowhere ADD x int;\n");
    yard.fails(
        23,
        &["20260102000000_bad: P3018: relation \"nowhere\" does not exist"],
        "look at what the migration has left, mark it with `prisma migrate resolve --rolled-back 20260102000000_bad` (or nothing more is applied: P3009), \
         correct it, and release again",
    );
    let cure = "look at what the failed migration has left, then mark it with `prisma migrate resolve --rolled-back 20260102000000_bad` (or \
                `--applied 20260102000000_bad`), and release again";
    yard.fails(23, &["P3009", "20260102000000_bad"], cure);
}

#[tokio::test]
async fn a_migration_that_was_edited_after_it_was_applied() {
    let yard = prisma("failure-edited").await;
    yard.migrates();
    yard.shop.scene.write("api/prisma/migrations/20260101000000_init/migration.sql", "CREATE TABLE \"Orders\" (\"id\" INTEGER);\n");
    yard.configure("framework: prisma", 2);
    let cure = "a migration that is applied must not be edited: put it back as it was, and write a new one";
    yard.fails(23, &["20260101000000_init"], cure);
}

#[tokio::test]
async fn a_command_that_takes_longer_than_it_may() {
    let yard = Yard::new("failure-timeout").await;
    yard.configure("framework: command, command: sleep 60, timeout: 2s", 1);
    let cure = "it was cut off: give the function more time (15 min at most; a task and a command have `timeout`), or migrate by the \
                driver `task`; then release again";
    yard.fails(23, &["   it took longer than 2 s and was stopped\n"], cure);
}
