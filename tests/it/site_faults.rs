//! Whatever fails, and whenever the program dies: the live page names what is there, and the next run finishes the work.

use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::proxy::Fault;
use crate::support::request::Recorded;

/// The live page, if there is one, names a script that is there.
async fn assert_whole(shop: &Shop) {
    for page in ["index.html", "about/index.html"] {
        let Some(body) = shop.body(page).await else { continue };
        let script = body.split('"').nth(1).unwrap().trim_start_matches('/');
        assert!(shop.head(script).await.is_some(), "{page} names {script}, which is not there");
    }
}

/// The requests of a run, the page being that of `version`: each page was written after what it names.
fn assert_in_order(shop: &Shop, version: u32) {
    let written = shop.written();
    let at = |key: &str| written.iter().position(|write| write.ends_with(&format!(" {key}")));
    if let (Some(page), Some(script)) = (at("index.html"), at(&asset(version))) {
        assert!(script < page, "{written:?}");
    }
    assert!(at("index.html").is_none_or(|at| at + 1 == written.len()), "{written:?}");
}

async fn assert_converged(shop: &Shop, version: u32) {
    shop.release();
    assert_in_order(shop, version);
    let page = shop.body("index.html").await.unwrap();
    assert!(page.contains(&asset(version)), "{page}");
    assert_whole(shop).await;
    assert_eq!(shop.body("robots.txt").await.unwrap(), format!("# {version}\n"));
    let outcome = shop.release();
    assert_eq!(shop.proxy.written(), [""; 0], "{}", outcome.stderr);
}

#[tokio::test]
async fn a_first_release_may_die_at_any_write() {
    let shop = Shop::site("kill-first").await;
    let mut deaths = 0;
    while shop.killed_at(deaths + 1) {
        deaths += 1;
        assert_in_order(&shop, 1);
        assert_whole(&shop).await;
        assert_converged(&shop, 1).await;
        shop.forget().await;
    }
    assert!(deaths > 8, "{deaths}");
}

#[tokio::test]
async fn a_later_release_may_die_at_any_write() {
    let shop = Shop::site("kill-later").await;
    shop.release();
    let mut version = 2;
    loop {
        shop.build(version);
        let killed = shop.killed_at(usize::try_from(version).unwrap() - 1);
        assert_in_order(&shop, version);
        assert_whole(&shop).await;
        if !killed {
            break;
        }
        assert_converged(&shop, version).await;
        version += 1;
    }
    assert!(version > 10, "{version}");
}

#[tokio::test]
async fn an_invalidation_that_was_cut_off_is_made_by_the_next_run() {
    let shop = Shop::site("kill-invalidation").await;
    shop.release();
    shop.build(2);
    let body =
        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>";
    let denied = Fault::Answer { status: 403, headers: vec![("content-type", "text/xml".to_owned())], body: body.to_owned() };
    shop.proxy.fail_next(|request| request.operation == "cloudfront:CreateInvalidation", 1, denied);
    let failed = shop.run(&["release"]).expect(40);
    assert_snapshot!(shop.error(&failed), @r"
    error: invalidating 5 paths of distribution `[distribution]` failed
       cloudfront:CreateInvalidation [distribution]: AccessDenied: not authorized
    hint: the credentials need `cloudfront:CreateInvalidation` on [distribution]
    ");
    shop.release();
    assert!(shop.invalidated().contains(&"/index.html".to_owned()), "nothing was invalidated: edges go on serving the old files");
}

#[tokio::test]
async fn a_server_fault_and_a_lost_answer_are_ridden_out() {
    let shop = Shop::site("fault-passing").await;
    let is = |operation: &'static str| move |request: &Recorded| request.operation == operation;
    shop.proxy.fail_next(is("s3:PutObject"), 2, Fault::xml(503, "SlowDown", "Please reduce your request rate."));
    shop.proxy.fail_next(is("s3:PutObject"), 2, Fault::LoseAnswer);
    shop.proxy.fail_next(is("s3:CopyObject"), 1, Fault::LoseAnswer);
    shop.proxy.fail_next(is("cloudfront:CreateInvalidation"), 1, Fault::LoseAnswer);
    shop.release();
    assert_eq!(shop.proxy.faults_left(), 0);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

/// What AWS says is to be made once more.
#[tokio::test]
async fn what_aws_asks_to_have_repeated_is_repeated() {
    let shop = Shop::site("fault-repeated").await;
    shop.release();
    shop.build(2);
    let conflict = || Fault::xml(409, "ConditionalRequestConflict", "A conflicting operation occurred during the request.");
    let puts = |part: &'static str| move |request: &Recorded| request.operation == "s3:PutObject" && request.path.contains(part);
    // "On a 409 failure you should retry the upload": API_PutObject. Of two sites with an equal file both write its body at once.
    for part in ["/bodies/", "/lock.json", "/sites/web/live.json"] {
        shop.proxy.fail_next(puts(part), 2, conflict());
    }
    // "If the error occurs during the copy operation, the error response is embedded in the 200 OK response": API_CopyObject.
    let copies = |request: &Recorded| request.operation == "s3:CopyObject" && request.path.ends_with("/index.html");
    shop.proxy.fail_next(copies, 2, Fault::xml(200, "InternalError", "We encountered an internal error. Please try again."));
    // API_CreateInvalidation, API_GetInvalidation: errors.
    let refused = |status: u16, code: &str| Fault::Answer {
        status,
        headers: vec![("content-type", "text/xml".to_owned())],
        body: format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>x</Message></Error></ErrorResponse>"),
    };
    let makes = |request: &Recorded| request.operation == "cloudfront:CreateInvalidation";
    shop.proxy.fail_next(makes, 2, refused(400, "TooManyInvalidationsInProgress"));
    let looks = |request: &Recorded| request.operation == "cloudfront:GetInvalidation";
    shop.proxy.fail_next(looks, 1, refused(404, "NoSuchInvalidation"));
    // An edge keeps an error for ten seconds: HTTPStatusCodes.html.
    let early = |request: &Recorded| request.operation == "page:GET" && request.path.ends_with(&asset(2));
    shop.proxy.fail_next(early, 2, Fault::xml(403, "AccessDenied", "Access Denied"));
    let released = shop.release();
    assert_eq!(shop.proxy.faults_left(), 0);
    assert!(released.stderr.contains("as many invalidations in progress as it takes"), "{}", released.stderr);
    assert!(shop.body("index.html").await.unwrap().contains(&asset(2)));
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

/// A copy that S3 begins well and never makes is no page that is live.
#[tokio::test]
async fn a_copy_that_fails_with_status_200_is_a_failure() {
    let shop = Shop::site("fault-200").await;
    let copies = |request: &Recorded| request.operation == "s3:CopyObject" && request.path.ends_with("-web/index.html");
    shop.proxy.fail_next(copies, 99, Fault::xml(200, "AccessDenied", "Access Denied"));
    let failed = shop.run(&["release"]).expect(40);
    assert!(shop.error(&failed).contains("publish of `index.html` failed"), "{}", failed.stderr);
    assert!(shop.body("index.html").await.is_none());
}

/// So many that threads share them; see `site/upload.rs`.
#[tokio::test]
async fn hundreds_of_files_arrive_whatever_happens_to_some() {
    let shop = Shop::site("fault-many").await;
    let name = |number: u32| format!("assets/part-{number:08x}.js");
    for number in 0..600 {
        shop.scene.write(&format!("dist/{}", name(number)), format!("export default {number}\n"));
    }
    let denied = Fault::xml(403, "AccessDenied", "Access Denied");
    // The SDK is asked after whatever is no plain success on the short way.
    shop.proxy.fail_next(move |request| request.path.ends_with(&name(401)), 2, denied);
    let failed = shop.run(&["release"]).expect(21);
    assert!(failed.stderr.contains("upload of `assets/part-00000191.js` failed"), "{}", failed.stderr);
    assert!(shop.body("index.html").await.is_none());
    let is_part = |request: &Recorded| request.path.contains("/assets/part-");
    shop.proxy.fail_next(is_part, 20, Fault::xml(503, "SlowDown", "Please reduce your request rate."));
    shop.proxy.fail_next(is_part, 5, Fault::LoseAnswer);
    shop.release();
    assert_eq!(shop.proxy.faults_left(), 0);
    let parts = shop.keys("web").await.into_iter().filter(|key| key.starts_with("assets/part-")).count();
    assert_eq!(parts, 600);
    assert_eq!(shop.body(&name(599)).await.unwrap(), "export default 599\n");
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn an_upload_that_is_refused_leaves_the_page_as_it_was() {
    let shop = Shop::site("fault-assets").await;
    shop.release();
    shop.build(2);
    let denied = || Fault::xml(403, "AccessDenied", "Access Denied");
    shop.proxy.fail_next(|request| request.path.ends_with(&asset(2)), 1, denied());
    let failed = shop.run(&["release"]).expect(21);
    assert_snapshot!(shop.error(&failed), @r"
    error: site `web`: upload of `assets/app-00000002.js` failed
       s3:PutObject fault-assets-web/assets/app-00000002.js: AccessDenied: Access Denied
    hint: the credentials need `s3:PutObject` on fault-assets-web/assets/app-00000002.js
    ");
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    // And later, where the page itself cannot be written.
    shop.proxy.fail_next(|request| request.is_write && request.path == "/fault-assets-web/index.html", 1, denied());
    let failed = shop.run(&["release"]).expect(40);
    assert_snapshot!(shop.error(&failed), @r"
    error: site `web`: publish of `index.html` failed
       s3:PutObject fault-assets-web/index.html (a copy of fault-assets-state/windlass/shop/default/bodies/d2d32915cf6cd8848a73d3ae7ae7abea6e0ec4bc52eb16956bbb087557940d28): AccessDenied: Access Denied
    hint: 2 of 3 files are new, the pages among them last; the credentials need `s3:PutObject` on fault-assets-web/index.html; run the same command again to finish
    ");
    assert_whole(&shop).await;
    assert_converged(&shop, 2).await;
}

#[tokio::test]
async fn an_audit_finds_what_somebody_deleted_or_overwrote() {
    let shop = Shop::site("fault-audit").await;
    shop.release();
    let (s3, bucket) = (shop.seed.s3(), "fault-audit-web");
    s3.delete_object().bucket(bucket).key(asset(1)).send().await.unwrap();
    s3.put_object().bucket(bucket).key("robots.txt").body(b"# 9\n".to_vec().into()).send().await.unwrap();
    // By the manifest nothing has changed.
    shop.release();
    assert_eq!(shop.proxy.written(), [""; 0]);
    shop.run(&["plan", "--audit", "--detailed-exitcode"]).expect(3);
    assert_eq!(shop.proxy.written(), [""; 0]);
    shop.run(&["release", "--audit"]).expect(0);
    let mut written = shop.written();
    written.sort();
    assert_eq!(written, ["s3:CopyObject robots.txt".to_owned(), format!("s3:PutObject {}", asset(1))]);
    shop.run(&["release", "--audit"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    assert_eq!(shop.body("robots.txt").await.unwrap(), "# 1\n");
}

#[tokio::test]
async fn a_file_that_changes_under_the_release_is_not_published() {
    let shop = Shop::site("fault-moving").await;
    shop.release();
    shop.build(2);
    let page = shop.scene.project().join("dist/index.html");
    let change = Fault::First(Box::new(move || std::fs::write(&page, "<html>half").unwrap()));
    shop.proxy.fail_next(|request| request.is_write, 1, change);
    let failed = shop.run(&["release"]).expect(21);
    assert_snapshot!(shop.error(&failed), @r"
    error: site `web`: keep of `index.html` failed
       `./dist/index.html` is no longer what it was when the plan was drawn
    hint: something writes to the build output; run the same command again
    ");
    assert!(shop.body("index.html").await.unwrap().contains(&asset(1)));
    shop.build(2);
    assert_converged(&shop, 2).await;
}

#[tokio::test]
async fn a_page_whose_script_is_not_served_fails_the_check() {
    let shop = Shop::site("fault-check").await;
    let missing = |request: &Recorded| request.operation == "page:GET" && request.path.ends_with(&asset(1));
    let page = Fault::Answer { status: 200, headers: vec![("content-type", "text/html".to_owned())], body: "<html>".to_owned() };
    shop.proxy.fail_next(missing, 999, page);
    let failed = shop.run(&["release"]).expect(41);
    assert_snapshot!(shop.error(&failed), @r"
    error: site `web`: published, but the check of `https://[domain]/` failed
       the page names `https://[domain]/assets/app-00000001.js`, which is served as `text/html`: an error page in its place?
    hint: the files are in the bucket; look at the distribution's origin, behaviours and error pages
    ");
}

#[tokio::test]
async fn a_state_that_cannot_be_written_stops_the_release_before_anything_else() {
    let shop = Shop::site("fault-state").await;
    let denied = || Fault::xml(403, "AccessDenied", "Access Denied");
    shop.proxy.fail_next(|request| request.is_write && request.path.starts_with("/fault-state-state/"), 1, denied());
    let failed = shop.run(&["release"]).expect(11);
    assert_snapshot!(shop.error(&failed), @r"
    error: taking the lock of the release failed
       s3:PutObject fault-state-state/windlass/shop/default/lock.json: AccessDenied: Access Denied
    hint: nothing was changed; the credentials need `s3:PutObject` on fault-state-state/windlass/shop/default/lock.json
    ");
    assert_eq!(shop.keys("web").await, [""; 0]);
}
