//! Back to an earlier release, forth again, and what the record says of it.

use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::scene::Outcome;

fn release_id(outcome: &Outcome) -> String {
    outcome.stdout.trim_end().rsplit(' ').next().unwrap().to_owned()
}

/// A shop whose second release is live; the ids of both.
async fn released_twice(name: &str) -> (Shop, String, String) {
    let shop = Shop::site(name).await;
    let first = release_id(&shop.release());
    shop.build(2);
    shop.scene.commit(2);
    let second = release_id(&shop.release());
    (shop, first, second)
}

async fn contents(shop: &Shop) -> Vec<(String, String)> {
    let mut contents = Vec::new();
    for key in shop.keys("web").await {
        contents.push((key.clone(), shop.body(&key).await.unwrap()));
    }
    contents
}

#[tokio::test]
async fn the_old_page_is_back_without_an_upload() {
    let (shop, first, second) = released_twice("back-site").await;
    let was = contents(&shop).await;
    let planned = shop.run(&["rollback", "--plan"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    assert!(planned.stdout.contains(&format!("back to what release {first} left live")), "{}", planned.stdout);
    let back = shop.run(&["rollback"]).expect(0);
    assert_eq!(shop.redacted(&back.stdout), "back to [release], as [release]\n");
    assert_eq!(shop.written(), ["s3:CopyObject robots.txt", "s3:CopyObject about/index.html", "s3:CopyObject index.html"]);
    let invalidations = shop.proxy.written().iter().filter(|operation| *operation == "cloudfront:CreateInvalidation").count();
    assert_eq!(invalidations, 1);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    assert!(shop.head(&asset(2)).await.is_some(), "tabs of the second one are open");
    // There is nothing before the first one.
    assert_snapshot!(shop.refused(&["rollback"], 11), @r"
    error: there is nothing to go back to; nothing was changed
       no earlier release left these units other than they are now
    hint: `windlass history` names all releases; name one, or release the commit that is wanted
    ");
    shop.run(&["rollback", &first]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0], "it is live already");
    // Forth again: the same state.
    shop.run(&["rollback", &second]).expect(0);
    assert_eq!(contents(&shop).await, was);
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
    let history = shop.run(&["history"]).expect(0).stdout;
    assert_eq!(history.matches("  done  ").count(), 4, "{history}");
    assert!(history.contains(&format!("back to {second}")), "{history}");
    let json = shop.run(&["history", "--format", "json", "--limit", "1"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["restores"], &json[0]["runs"][0]["exit"]), (&second.into(), &0.into()));
}

#[tokio::test]
async fn a_rollback_may_die_at_any_write() {
    let (shop, first, second) = released_twice("back-killed").await;
    let was = contents(&shop).await;
    // Every third write; `benches/kill-matrix` has them all.
    let mut write = 2;
    while shop.killed_at_in(write, &["rollback"]) {
        write += 3;
        let page = shop.body("index.html").await.unwrap();
        let script = page.split('"').nth(1).unwrap().trim_start_matches('/');
        assert!(shop.head(script).await.is_some());
        shop.run(&["rollback", &first]).expect(0);
        assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
        shop.run(&["rollback", &first]).expect(0);
        assert_eq!(shop.proxy.written(), [""; 0], "before {write}");
        shop.run(&["rollback", &second]).expect(0);
        assert_eq!(contents(&shop).await, was, "before {write}");
    }
    assert!(write > 8, "{write}");
}

#[tokio::test]
async fn a_rollback_that_was_cut_off_is_gone_on_with() {
    let (shop, ..) = released_twice("back-again").await;
    shop.build(3);
    shop.scene.commit(3);
    shop.release();
    // To the second one, of which one page is live already.
    assert!(shop.killed_at_in(8, &["rollback"]));
    shop.run(&["rollback"]).expect(0);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
    shop.run(&["rollback"]).expect(0);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
}

#[tokio::test]
async fn a_body_that_is_gone_refuses_the_rollback() {
    let (shop, first, _) = released_twice("back-gone").await;
    for key in shop.keys("state").await.into_iter().filter(|key| key.contains("/bodies/")) {
        shop.seed.s3().delete_object().bucket("back-gone-state").key(key).send().await.unwrap();
    }
    assert_snapshot!(shop.refused(&["rollback", &first], 11), @r"
    error: the way back is not open; nothing was changed
       site `web`: `about/index.html` and 2 more of that release is neither in the bucket nor in the state any more
    hint: release that commit anew; keep more with `sites.web.keep`
    ");
}

#[tokio::test]
async fn a_service_runs_its_old_revision_again_and_migrations_stay() {
    let shop = Shop::whole("back-whole").await;
    let answer = |applied: &str| Fault::Answer { status: 200, headers: vec![], body: format!("{{\"applied\": [\"{applied}\"]}}") };
    shop.push_image().await;
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, answer("items.0001_initial"));
    shop.release();
    let before = shop.run(&["status"]).expect(0).stdout;
    let service =
        |status: &str| status.lines().find(|line| line.contains(" service ")).unwrap().split(", release").next().unwrap().to_owned();
    shop.scene.write("api/app.py", "2\n");
    shop.build(2);
    shop.scene.commit(3);
    shop.push_image().await;
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, answer("items.0002_stock"));
    shop.release();
    let back = shop.run(&["rollback"]).expect(0);
    assert!(back.stderr.contains("the migrations of `main` stay"), "{}", back.stderr);
    assert!(back.stderr.contains("items.0002_stock"), "{}", back.stderr);
    let written = shop.proxy.written();
    let times = |operation: &str| written.iter().filter(|written| *written == operation).count();
    assert_eq!((times("ecs:RegisterTaskDefinition"), times("ecs:UpdateService"), times("lambda:Invoke")), (0, 1, 0), "{written:?}");
    let flip = shop.proxy.writes().iter().position(|write| write.path.ends_with("-web/index.html")).unwrap();
    let rolled = shop.proxy.writes().iter().position(|write| write.operation == "ecs:UpdateService").unwrap();
    assert!(flip < rolled, "pages go back first");
    let after = shop.run(&["status"]).expect(0).stdout;
    assert_eq!(service(&after), service(&before));
    assert!(!after.contains("  ! "), "{after}");
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    // One unit alone.
    shop.run(&["rollback", "api"]).expect(11);
}

#[tokio::test]
async fn a_way_back_past_a_migration_is_closed_where_the_policy_says_so() {
    let shop = Shop::whole("back-ahead").await;
    shop.configure("app: shop\n", "app: shop\npolicy: {rollback_past_migrations: refuse}\n");
    let release = async |version: u32, applied: &str| {
        shop.scene.write("api/app.py", format!("{version}\n"));
        shop.build(version);
        shop.scene.commit(version + 2);
        shop.push_image().await;
        let body = format!("{{\"applied\": [{applied}], \"pending\": []}}");
        shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, Fault::Answer { status: 200, headers: vec![], body });
        release_id(&shop.release())
    };
    let first = release(1, "\"items.0001_initial\"").await;
    // Other code that had nothing to migrate: the schema is the same.
    let second = release(2, "").await;
    let back = shop.run(&["rollback", &first]).expect(0);
    assert!(!back.stderr.contains("ahead of the code"), "{}", back.stderr);
    shop.run(&["rollback", &second]).expect(0);

    release(3, "\"items.0002_stock\"").await;
    assert_snapshot!(shop.refused(&["rollback"], 11), @r"
    error: the way back is not open; nothing was changed
       the migrations of `main` stay as release [release] has left them, the schema is ahead of the code: items.0002_stock; `policy.rollback_past_migrations` is `refuse`
    hint: see whether the old code gets along with these migrations: if so, write `rollback_past_migrations: warn` for this rollback; if not, release a commit that mends it
    ");
    assert_eq!(shop.refused(&["rollback", "--plan"], 11), shop.refused(&["rollback"], 11));
    shop.refused(&["rollback", &first, "api"], 11);
    // Pages do not meet the schema.
    shop.run(&["rollback", &second, "web"]).expect(0);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));

    // A migration that failed half-way has moved the schema, too.
    shop.configure("rollback_past_migrations: refuse", "rollback_past_migrations: warn");
    shop.run(&["rollback", &second]).expect(0);
    shop.configure("rollback_past_migrations: warn", "rollback_past_migrations: refuse");
    shop.scene.write("api/app.py", "4\n");
    shop.scene.commit(6);
    shop.push_image().await;
    let said = "items.0004_bad: no (applied before it: items.0003_size; still pending: items.0004_bad)";
    let body = format!("{{\"errorType\": \"ProgrammingError\", \"errorMessage\": \"{said}\"}}");
    let failed = Fault::Answer { status: 200, headers: vec![("x-amz-function-error", "Unhandled".to_owned())], body };
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 2, failed);
    shop.run(&["release", "api"]).expect(23);
    shop.run(&["release", "api"]).expect(23);
    let refused = shop.refused(&["rollback", &first], 11);
    // One release, however often it has failed.
    assert!(refused.contains("(a migration of [release] failed, and may have applied a part)"), "{refused}");
}

#[tokio::test]
async fn status_says_what_somebody_else_has_changed() {
    let (shop, ..) = released_twice("back-drift").await;
    let (s3, bucket) = (shop.seed.s3(), "back-drift-web");
    s3.delete_object().bucket(bucket).key(asset(2)).send().await.unwrap();
    s3.put_object().bucket(bucket).key("robots.txt").body(b"# 9\n".to_vec().into()).send().await.unwrap();
    let status = shop.run(&["status"]).expect(0);
    assert_snapshot!(shop.redacted(&status.stdout), @r"
    shop: account 000000000000 in us-east-1
      site       web  4 files in `back-drift-web`, release [release]
                      ! somebody else has written or deleted `assets/app-00000002.js`, `robots.txt`; `windlass release --audit` repairs it
    ");
}

#[tokio::test]
async fn without_a_state_there_is_no_way_back() {
    let shop = Shop::site("back-none").await;
    shop.configure("s3://back-none-state/windlass", "none");
    let refused = shop.refused(&["rollback"], 11);
    assert!(refused.contains("`state: none` keeps nothing"), "{refused}");
    shop.refused(&["history"], 11);
}
