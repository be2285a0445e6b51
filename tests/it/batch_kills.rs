//! Machines of a batch that are killed in the middle of their part: the gate does not open, and the same node run again goes on.

use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;

const GATE: [&[&str]; 3] = [
    &["stage", "migrations", "--release", "commit"],
    &["stage", "services", "--release", "commit"],
    &["stage", "publish", "--release", "commit"],
];

#[tokio::test]
async fn a_machine_that_is_killed_is_missed_by_the_gate_and_goes_on() {
    let shop = Shop::site("batch-killed").await;
    shop.add_docs();
    shop.scene.commit(9);
    shop.run(&["begin"]).expect(0);
    shop.run(&["stage", "assets", "docs", "--release", "commit"]).expect(0);
    // The other machine was never started.
    assert_snapshot!(shop.refused(GATE[2], 11), @r"
    error: the release `[release]` is not whole; nothing was changed
       site `web`: no machine has uploaded it
    hint: run `windlass stage assets web --release [release]`, then this again
    ");
    let mut said = Vec::new();
    while shop.killed_at_in(said.len() + 1, &["stage", "assets", "web", "--release", "commit"]) {
        let gate = shop.run(GATE[2]);
        if gate.code == Some(0) {
            // All was done, and only the lock not let go of.
            break;
        }
        assert_eq!(shop.proxy.written(), [""; 0]);
        assert!(shop.body("app/index.html").await.is_none() && shop.body("docs/index.html").await.is_none());
        said.push(shop.error(&gate.expect(11)));
    }
    assert!(said.len() > 3, "{said:#?}");
    assert_snapshot!(said.last().unwrap(), @r"
    error: the release `[release]` is not whole; nothing was changed
       site `web`: the machine that uploaded it has not come to its end
    hint: run `windlass stage assets web --release [release]`, then this again
    ");
    shop.run(GATE[2]).expect(0);
    assert!(shop.body("app/index.html").await.unwrap().contains(&asset(1)));
    assert!(shop.body("docs/index.html").await.is_some());
}

#[tokio::test]
async fn some_sites_of_a_release_can_be_published_without_the_others() {
    let shop = Shop::site("batch-some").await;
    shop.add_docs();
    shop.scene.commit(9);
    shop.run(&["begin"]).expect(0);
    shop.run(&["stage", "assets", "docs", "--release", "commit"]).expect(0);
    shop.run(&["stage", "publish", "docs", "--release", "commit"]).expect(0);
    assert!(shop.body("docs/index.html").await.is_some() && shop.body("app/index.html").await.is_none());
}

#[tokio::test]
async fn an_image_whose_machine_was_killed_closes_the_gate() {
    let shop = Shop::whole("batch-image").await;
    shop.scene.commit(9);
    shop.run(&["begin"]).expect(0);
    shop.run(&["stage", "assets", "--release", "commit"]).expect(0);
    for gate in &GATE[..2] {
        let refused = shop.refused(gate, 11);
        assert!(
            refused.contains("the registry has no image of this content for: api\nhint: run `windlass stage images` first"),
            "{refused}"
        );
    }
    shop.push_image().await;
    shop.run(&["stage", "images", "--release", "commit"]).expect(0);
    let answer = Fault::Answer { status: 200, headers: vec![], body: "{}".to_owned() };
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, answer);
    for gate in GATE {
        shop.run(gate).expect(0);
    }
}

#[tokio::test]
async fn what_only_overwrites_goes_from_machine_to_machine_too() {
    let shop = Shop::site("batch-overwrite").await;
    shop.release();
    shop.scene.write("dist/robots.txt", "# new\n").commit(9);
    shop.run(&["begin"]).expect(0);
    let assets = shop.run(&["stage", "assets", "--release", "commit"]).expect(0);
    assert!(assets.stdout.starts_with("stage assets done, release "), "{}", assets.stdout);
    assert!(shop.body("robots.txt").await.unwrap() != "# new\n");
    shop.run(GATE[2]).expect(0);
    assert_eq!(shop.body("robots.txt").await.unwrap(), "# new\n");
}
