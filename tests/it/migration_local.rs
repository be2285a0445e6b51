//! Migrations on this machine, on a real PostgreSQL: Django and commands, two releases at once, and a run that is killed.

use std::sync::LazyLock;

use rustix::process::Signal;

use crate::django;
use crate::shop::Shop;
use crate::support::ministack;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::scene::{Scene, until};
use crate::support::seed::Seed;

/// A service that nobody rolls, and a migration beside it, in an application of this name.
fn config(app: &str, state: &str, migration: &str) -> String {
    let image = format!("127.0.0.1:1/shop/api@sha256:{}", "1".repeat(64));
    format!(
        "app: {app}\nstate: {state}\nservices:\n  api: {{path: api, image: \"{image}\", cluster: c, service: s, container: web}}\n\
         migrations:\n  main: {{driver: local, from: api, {migration}}}\n"
    )
}

/// The interpreter's packages for the application: what its virtual environment would hold.
fn python(scene: &mut Scene) {
    scene.set("PYTHONPATH", django::packages("5.2"));
    scene.set("PYTHONDONTWRITEBYTECODE", "1");
}

#[tokio::test]
async fn django_is_migrated_from_the_runner_and_a_killed_run_is_found_out() {
    let postgres = Postgres::start();
    let (url, _) = postgres.database("harbor");
    let mut shop = Shop::site("local-django").await;
    python(&mut shop.scene);
    shop.scene.set("DATABASE_URL", url);
    django::write(&shop.scene, "api");
    shop.scene.write("windlass.yml", config("shop", "s3://local-django-state/windlass", "framework: django"));
    let applied = || postgres.query("harbor", "SELECT count(*) FROM django_migrations");
    let stage = ["stage", "migrations"];
    let first = shop.run(&stage).expect(0);
    assert!(first.stderr.contains("Applying items.0001_initial... OK"), "{}", first.stderr);
    assert_eq!(applied(), "15");

    // Killed in the middle of the SQL, which waits for a lock: the server goes on with its statement, and rolls back when nobody is there
    // any more.
    django::migrate(
        &shop.scene,
        "api",
        "0002_slow",
        "0001_initial",
        "migrations.RunSQL('CREATE TABLE once (id int)'), migrations.RunSQL('SELECT pg_advisory_xact_lock(7)')",
    );
    shop.scene.write(
        "windlass.yml",
        config("shop", "s3://local-django-state/windlass", "framework: django").replace(&"1".repeat(64), &"2".repeat(64)),
    );
    let locks = |granted: &str| postgres.query("harbor", &format!("SELECT count(*) FROM pg_locks WHERE objid = 7 AND {granted}"));
    let held = postgres.session("harbor", "SELECT pg_advisory_lock(7); SELECT pg_sleep(900)");
    until("the lock is held", || locks("granted") == "1");
    let running = shop.scene.start(&stage);
    until("the migration waits for it", || locks("NOT granted") == "1");
    running.signal(Signal::KILL);
    drop(running);
    let again = shop.scene.start(&stage);
    again.until_says("was cut off; looking for what came of it");
    postgres.query("postgres", "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 7 AND granted");
    again.wait().expect(0);
    drop(held);
    assert_eq!((applied().as_str(), postgres.query("harbor", "SELECT count(*) FROM once").as_str()), ("16", "0"));
    shop.run(&stage).expect(0);
    assert_eq!(applied(), "16");
}

#[tokio::test]
async fn a_command_is_judged_by_its_exit_code_and_never_run_twice() {
    let postgres = Postgres::start();
    let (url, _) = postgres.database("harbor");
    let shop = Shop::site("local-command").await;
    shop.scene.write("api/run.sh", "psql -X -q \"$DB\" -c \"CREATE TABLE once (id int)\"\n");
    let state = "s3://local-command-state/windlass";
    let command = |line: &str| config("shop", state, &format!("framework: command, command: \"{line}\", env: {{DB: \"{url}\"}}"));
    shop.scene.write("windlass.yml", command("sh run.sh"));
    shop.run(&["stage", "migrations"]).expect(0);
    assert_eq!(postgres.query("harbor", "SELECT to_regclass('once')"), "once");
    shop.run(&["stage", "migrations"]).expect(0);
    shop.scene.write("windlass.yml", command("echo almost; exit 7").replace(&"1".repeat(64), &"2".repeat(64)));
    let failed = shop.run(&["stage", "migrations"]).expect(23);
    insta::assert_snapshot!(shop.error(&failed), @r"
    error: migration `main` failed
       the command ended with exit code 7: almost
    hint: no service was rolled and no site published: the old version serves; correct the migration, and release again
    ");
    // Killed in the middle: nobody can tell what a command has done.
    shop.scene.write("windlass.yml", command("echo begun; sleep 60").replace(&"1".repeat(64), &"3".repeat(64)));
    let running = shop.scene.start(&["stage", "migrations"]);
    running.until_says("| begun");
    running.signal(Signal::KILL);
    drop(running);
    let unknown = shop.run(&["stage", "migrations"]).expect(24);
    assert!(unknown.stderr.contains("what came of it is not known"), "{}", unknown.stderr);
    assert!(!unknown.stderr.contains("| begun"), "{}", unknown.stderr);
}

/// Two applications that share a database.
struct Two {
    postgres: Postgres,
    scenes: [Scene; 2],
    _proxy: Proxy,
}

static CLOUD: LazyLock<&'static str> = LazyLock::new(|| ministack::shared().url());

async fn two(name: &str, migration: &dyn Fn(&str) -> String, databases: &str) -> Two {
    let postgres = Postgres::start();
    let (url, _) = postgres.database("harbor");
    let proxy = Proxy::start(&CLOUD);
    Seed::new(&CLOUD).bucket(&format!("{name}-state")).await;
    let scenes = ["one", "two"].map(|app| {
        let mut scene = Scene::new(&proxy.url());
        python(&mut scene);
        scene.set("DATABASE_URL", url.clone());
        django::write(&scene, "api");
        scene.write("windlass.yml", config(app, &format!("s3://{name}-state/windlass"), &(migration(&url) + databases)));
        scene
    });
    Two { postgres, scenes, _proxy: proxy }
}

impl Two {
    /// Both release at once another image.
    fn at_once(&self, round: usize, arguments: &[&str]) -> [crate::support::scene::Outcome; 2] {
        for scene in &self.scenes {
            let path = scene.project().join("windlass.yml");
            let config = std::fs::read_to_string(&path).unwrap();
            let (before, rest) = config.split_once("@sha256:").unwrap();
            scene.write("windlass.yml", format!("{before}@sha256:{round:064x}{}", &rest[64..]));
        }
        let running = [0, 1].map(|at| self.scenes[at].start(arguments));
        running.map(crate::support::scene::Running::wait)
    }
}

#[tokio::test]
async fn of_two_releases_at_once_one_migrates_and_the_other_names_it_or_waits() {
    let command = |url: &str| {
        let say = |word: &str| format!("psql -X -q '{url}' -c \\\"INSERT INTO said VALUES ('{word}')\\\"");
        format!("framework: command, command: \"{} && sleep 0.3 && {}\"", say("begin"), say("end"))
    };
    let two = two("two-lease", &command, ", database: harbor").await;
    two.postgres.query("harbor", "CREATE TABLE said (word text, at serial)");
    let (mut both, mut refused) = (0, 0);
    for round in 1..=20 {
        let waits = round % 2 == 0;
        let stage = ["stage", "migrations", "--lock-wait", "1m"];
        let outcomes = two.at_once(round, if waits { &stage } else { &stage[..2] });
        for outcome in &outcomes {
            match outcome.code {
                Some(0) => {}
                Some(12) => {
                    assert!(
                        outcome.stderr.contains("error: migration `main`: another release migrates the database `harbor`"),
                        "{}",
                        outcome.stderr
                    );
                    assert!(outcome.stderr.contains(" holds it since ") && outcome.stderr.contains("arn:aws:iam::"), "{}", outcome.stderr);
                    refused += 1;
                }
                other => panic!("{other:?}: {}", outcome.stderr),
            }
        }
        both += usize::from(outcomes.iter().all(|outcome| outcome.code == Some(0)));
        assert!(!waits || outcomes.iter().all(|outcome| outcome.code == Some(0)), "{}", outcomes[0].stderr);
    }
    // Never did one begin before the other had ended.
    let said = two.postgres.query("harbor", "SELECT string_agg(word, ',' ORDER BY at) FROM said");
    assert_eq!(said.replace("begin,end", "").replace(',', ""), "", "{said}");
    assert_eq!(both + refused, 20, "of a pair at least one migrates");
}

#[tokio::test]
async fn without_a_name_for_the_database_its_own_lock_keeps_two_releases_apart() {
    let two = two("two-locks", &|_| "framework: django".to_owned(), "").await;
    for round in 1..=3 {
        two.postgres.query("harbor", "DROP SCHEMA public CASCADE");
        two.postgres.query("harbor", "CREATE SCHEMA public");
        let outcomes = two.at_once(round, &["stage", "migrations"]);
        let applied = outcomes.iter().filter(|outcome| outcome.stderr.contains("migrate: applied contenttypes.0001_initial")).count();
        let nothing = outcomes.iter().filter(|outcome| outcome.stderr.contains("nothing was pending")).count();
        assert_eq!((applied, nothing), (1, 1), "{}\n{}", outcomes[0].stderr, outcomes[1].stderr);
        assert!(outcomes.iter().all(|outcome| outcome.code == Some(0)));
    }
}
