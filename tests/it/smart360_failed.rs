//! A failed release of ten units says all that somebody has to know in fifteen lines, and on a page.

use crate::smart360::{NINE, deployed, migrates, push};
use crate::support::proxy::Fault;

#[tokio::test]
async fn a_failed_release_of_nine_services_ends_with_fifteen_lines_at_most() {
    let shop = deployed("smart360-failed").await;
    push(&shop, &NINE).await;
    migrates(&shop, 9);
    let third = std::sync::atomic::AtomicI32::new(0);
    let refused = Fault::json(400, "InvalidParameterException", "The container web does not exist in the task definition.");
    shop.proxy.fail_next(
        move |request| request.operation == "ecs:UpdateService" && third.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2,
        1,
        refused,
    );
    let failed = shop.run(&["release", "--report", "page-nine.html", "--junit", "nine.xml"]);
    let html = std::fs::read_to_string(shop.scene.project().join("page-nine.html")).unwrap();
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("page-nine.html"), &html).unwrap();
    let at = failed.stderr.lines().position(|line| line.starts_with("live ")).unwrap();
    let last: Vec<&str> = failed.stderr.lines().skip(at).collect();
    assert!(last.len() <= 15, "{}", failed.stderr);
    assert!(last.last().is_some_and(|line| line.starts_with("hint: ")), "{}", failed.stderr);
    assert!(last.iter().any(|line| line.contains("does not exist in the task definition")), "{}", failed.stderr);
    let live: Vec<&str> = last.iter().filter_map(|line| line.strip_prefix("live ")?.split_whitespace().next()).collect();
    assert_eq!((&live[..3], live.len()), (&["billing", "web", "accounts-db"][..], 7), "{}", failed.stderr);
    assert!(NINE.iter().all(|service| html.contains(service)));
    let junit = std::fs::read_to_string(shop.scene.project().join("nine.xml")).unwrap();
    assert_eq!(junit.matches("<failure").count(), 1, "{junit}");
    assert_eq!(failed.code, Some(34), "{}", failed.stderr);
}
