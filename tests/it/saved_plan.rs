//! Plans as files: carried out as they were shown, or refused.

use insta::assert_snapshot;

use crate::shop::{Shop, asset};

#[tokio::test]
async fn a_saved_plan_is_carried_out_as_it_was_shown() {
    let shop = Shop::site("saved-done").await;
    shop.release();
    shop.build(2);
    shop.scene.commit(2);
    shop.run(&["plan", "--out", "../plan.json"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    shop.run(&["release", "--plan", "../plan.json"]).expect(0);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
    let again = shop.run(&["release", "--plan", "../plan.json"]).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn a_plan_is_stale_when_somebody_else_has_released() {
    let shop = Shop::site("saved-stale").await;
    shop.release();
    shop.build(2);
    shop.run(&["plan", "--out", "../plan.json"]).expect(0);
    shop.build(3);
    shop.release();
    shop.build(2);
    assert_snapshot!(shop.refused(&["release", "--plan", "../plan.json"], 13), @r"
    error: the plan is stale: what it was drawn from has moved; nothing was changed
       site `web`: it was release 2 of it, 1 to upload, 3 to publish, 0 to delete, and is release 3 of it, 1 to upload, 3 to publish, 0 to delete
    hint: draw it anew with `windlass plan --out FILE`, and look at it again
    ");
}

#[tokio::test]
async fn a_plan_is_stale_when_the_files_are_others() {
    let shop = Shop::site("saved-files").await;
    shop.run(&["plan", "--out", "../plan.json"]).expect(0);
    shop.build(2);
    let refused = shop.refused(&["release", "--plan", "../plan.json"], 13);
    assert!(refused.contains("site `web`: `") && refused.contains("` is not what it was then"), "{refused}");
}

#[tokio::test]
async fn a_plan_whose_service_was_rolled_by_somebody_else_is_stale() {
    let shop = Shop::whole("saved-service").await;
    shop.push_image().await;
    shop.run(&["plan", "--out", "../plan.json"]).expect(0);
    let digest = shop.seed.image("saved-service/api", "other").await;
    let other = shop.seed.revision("saved-service", &format!("127.0.0.1/saved-service/api@{digest}")).await;
    shop.seed.roll("saved-service", "saved-service", &other).await;
    let refused = shop.refused(&["release", "--plan", "../plan.json"], 13);
    assert!(refused.contains("service `api`: it was arn:"), "{refused}");
}

#[tokio::test]
async fn a_killed_plan_is_gone_on_with() {
    let shop = Shop::site("saved-killed").await;
    shop.run(&["plan", "--out", "../plan.json"]).expect(0);
    for write in [4, 8, 11] {
        assert!(shop.killed_at_in(write, &["release", "--plan", "../plan.json"]), "{write}");
        shop.run(&["release", "--plan", "../plan.json"]).expect(0);
        assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
        shop.forget().await;
    }
}

#[tokio::test]
async fn what_is_no_plan_is_refused() {
    let shop = Shop::site("saved-none").await;
    shop.scene.write("plan.json", "{}");
    let refused = shop.refused(&["release", "--plan", "plan.json"], 13);
    assert!(refused.contains("missing field `format`"), "{refused}");
    shop.refused(&["release", "--plan", "absent.json"], 13);
}
