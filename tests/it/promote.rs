//! A release of one environment goes live in another: the same images, the same files, nothing built that need not be.

use insta::assert_snapshot;

use crate::shop::{Shop, asset};
use crate::support::ministack;
use crate::support::proxy::Fault;
use crate::support::registry::{self, Registry};
use crate::support::scene::Outcome;
use crate::support::seed::Seed;

fn release_id(outcome: &Outcome) -> String {
    outcome.stdout.trim_end().rsplit(' ').next().unwrap().to_owned()
}

/// A site, a service and its migration in `staging`, and the same with `-live` in its names in `production`.
async fn two(name: &str) -> Shop {
    let shop = Shop::whole(name).await;
    let (live, seed) = (format!("{name}-live"), &shop.seed);
    seed.bucket(&format!("{live}-web")).await;
    let (distribution, _) = seed.distribution(&format!("{live}-web")).await;
    seed.repository(&format!("{live}/api")).await;
    let digest = seed.image(&format!("{live}/api"), "before").await;
    let image = format!("{}/{live}/api@{digest}", ministack::shared().registry());
    seed.service(name, &live, &image).await;
    seed.function(&live, &image).await;
    let environments = format!(
        "environments:\n  staging: {{account: \"000000000000\"}}\n  production:\n    sites: {{web: {{bucket: {live}-web, distribution: \
         {distribution}}}}}\n    services: {{api: {{image: {{repository: {live}/api}}, service: {live}}}}}\n    migrations: {{main: \
         {{function: {live}}}}}\n"
    );
    shop.configure("app: shop\n", &format!("app: shop\n{environments}"));
    shop.scene.commit(3);
    shop
}

/// The function answers that it has migrated.
fn migrates(shop: &Shop) {
    let answer = Fault::Answer { status: 200, headers: vec![], body: r#"{"applied": ["items.0001_initial"]}"#.to_owned() };
    shop.proxy.fail_next(|request| request.operation == "lambda:Invoke", 1, answer);
}

/// Releases what lies there to `staging`, and gives the release's id and the image's tag and digest.
fn staged(shop: &Shop) -> (String, String, String) {
    let plan = shop.scene.windlass(&["plan", "--env", "staging", "--format", "json"]).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let tag = plan["images"]["api"]["tag"].as_str().unwrap().to_owned();
    let digest = registry::push(ministack::shared().registry(), &format!("{}/api", shop.name), &tag, &tag);
    migrates(shop);
    let id = release_id(&shop.run(&["release", "--env", "staging"]).expect(0));
    (id, tag, digest)
}

async fn live_body(shop: &Shop, key: &str) -> Option<String> {
    let object = shop.seed.s3().get_object().bucket(format!("{}-live-web", shop.name)).key(key).send().await.ok()?;
    Some(String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap())
}

fn history(shop: &Shop, environment: &str) -> serde_json::Value {
    serde_json::from_str(&shop.run(&["history", "--env", environment, "--format", "json"]).expect(0).stdout).unwrap()
}

#[tokio::test]
async fn what_was_live_in_one_environment_is_live_in_the_other() {
    let shop = two("promote").await;
    let (id, tag, digest) = staged(&shop);
    // The checkout goes on, and does not matter.
    shop.build(2);
    shop.scene.write("api/app.py", "2\n").remove("api/Dockerfile");
    shop.scene.commit(4);

    let planned = shop.run(&["promote", &id, "--env", "production", "--plan"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
    assert!(planned.stdout.contains(&format!("promotes what release {id} left live in staging")), "{}", planned.stdout);
    assert!(planned.stdout.contains("  api: copy ") && planned.stdout.contains("(3 layers, 3."), "{}", planned.stdout);

    migrates(&shop);
    let promoted = shop.run(&["promote", &id, "--env", "production"]).expect(0);
    assert_eq!(shop.redacted(&promoted.stdout), "promoted [release] of staging as [release]\n");
    assert_eq!(registry::has(ministack::shared().registry(), "promote-live/api", &tag), digest, "the same bytes under the same tag");
    assert!(live_body(&shop, "index.html").await.unwrap().contains(&asset(1)));
    assert_eq!(live_body(&shop, &asset(1)).await.unwrap(), "console.log(1)\n");
    let written = shop.proxy.written();
    let times = |operation: &str| written.iter().filter(|written| *written == operation).count();
    assert_eq!((times("lambda:Invoke"), times("ecs:UpdateService"), times("cloudfront:CreateInvalidation")), (1, 1, 1), "{written:?}");

    let record = &history(&shop, "production")[0];
    assert_eq!((&record["promotes"]["environment"], &record["promotes"]["release"]), (&"staging".into(), &id.as_str().into()));
    let there = &history(&shop, "staging")[0];
    assert_eq!(record["commit"], there["commit"]);
    let image =
        |record: &serde_json::Value| record["after"]["services"]["api"]["image"].as_str().unwrap().rsplit('@').next().unwrap().to_owned();
    assert_eq!((image(record), image(there)), (digest.clone(), digest));
    let told = shop.run(&["history", "--env", "production"]).expect(0).stdout;
    assert!(told.contains(&format!(", release {id} of staging")), "{told}");

    shop.run(&["promote", &id, "--env", "production", "--from", "staging"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0], "it is live already");
    let status = shop.run(&["status", "--env", "production"]).expect(0).stdout;
    assert!(!status.contains("  ! "), "{status}");
}

#[tokio::test]
async fn a_promotion_is_gone_on_with_and_gone_back_from() {
    let shop = two("promote-back").await;
    let (first, ..) = staged(&shop);
    migrates(&shop);
    shop.run(&["promote", &first, "--env", "production"]).expect(0);
    shop.build(2);
    shop.scene.commit(4);
    let second = release_id(&shop.run(&["release", "--env", "staging"]).expect(0));
    // Killed on its way: the same command goes on under the same id.
    assert!(shop.killed_at_in(6, &["promote", &second, "--env", "production"]));
    let again = shop.run(&["promote", &second, "--env", "production"]).expect(0);
    assert!(again.stderr.contains("going on with release"), "{}", again.stderr);
    assert!(live_body(&shop, "index.html").await.unwrap().contains(&asset(2)));
    assert_eq!(history(&shop, "production").as_array().unwrap().len(), 2);
    // What is older is not promoted by accident, and a rollback is for that.
    let older = shop.run(&["promote", &first, "--env", "production"]).expect(15);
    assert!(older.stderr.contains("this is older than what is live"), "{}", older.stderr);
    assert!(live_body(&shop, "index.html").await.unwrap().contains(&asset(2)));
    shop.run(&["rollback", "--env", "production"]).expect(0);
    assert!(live_body(&shop, "index.html").await.unwrap().contains(&asset(1)));
    // A page that nobody has in its bucket any more comes out of the state.
    shop.run(&["promote", &first, "web", "--env", "production", "--allow-older"]).expect(0);
}

#[tokio::test]
async fn files_that_were_overwritten_come_out_of_the_state() {
    let shop = two("promote-old").await;
    let (first, ..) = staged(&shop);
    shop.build(2);
    shop.scene.commit(4);
    shop.run(&["release", "web", "--env", "staging"]).expect(0);
    shop.run(&["promote", &first, "web", "--env", "production"]).expect(0);
    assert!(live_body(&shop, "index.html").await.unwrap().contains(&asset(1)));
    assert_eq!(live_body(&shop, "robots.txt").await.unwrap(), "# 1\n");
    for key in shop.keys("state").await.into_iter().filter(|key| key.contains("/staging/bodies/")) {
        shop.seed.s3().delete_object().bucket("promote-old-state").key(key).send().await.unwrap();
    }
    for key in ["index.html", "robots.txt", "about/index.html"] {
        shop.seed.s3().delete_object().bucket("promote-old-live-web").key(key).send().await.unwrap();
    }
    let refused = shop.refused(&["promote", &first, "web", "--env", "production", "--audit"], 11);
    assert!(refused.contains("of that release is neither in its bucket nor in the state of `staging` any more"), "{refused}");
}

#[tokio::test]
async fn a_site_is_built_again_only_where_what_it_freezes_differs() {
    let shop = two("promote-frozen").await;
    shop.configure("    prebuilt: true\n", "    path: web\n    build: sh build.sh\n    env: {VITE_API: /api}\n");
    shop.scene.write("web/build.sh", "echo >> $HOME/built\nmkdir -p dist\necho \"<html>$VITE_API$(cat other)\" > dist/index.html\n");
    shop.scene.write(".gitignore", "dist\n.windlass\n.windlass-build.json\n");
    let commit = shop.scene.commit(4);
    let builds = || std::fs::read(shop.scene.home().join("built")).unwrap_or_default().len();
    let (id, ..) = staged(&shop);
    assert_eq!(builds(), 1);
    shop.scene.write("web/other", "x");
    shop.scene.commit(5);
    shop.run(&["promote", &id, "web", "--env", "production"]).expect(0);
    assert_eq!((builds(), live_body(&shop, "index.html").await.unwrap().as_str()), (1, "<html>/api\n"), "its very files");

    shop.configure("sites: {web: {bucket", "sites: {web: {env: {VITE_API: /live}, bucket");
    let refused = shop.refused(&["promote", &id, "web", "--env", "production"], 11).replace(&commit[..8], "[commit]");
    assert_snapshot!(refused, @r"
    error: site `web`: it has to be built anew, and this checkout is not the release's
       what its build has frozen into its pages differs here: `VITE_API` has another value here
    hint: nothing was changed; check out commit [commit] (without changes), or give its build: --prebuilt web=DIR
    ");
    shop.scene.write("web/other", "y");
    shop.scene.commit(6);
    let (id, ..) = staged(&shop);
    shop.run(&["promote", &id, "web", "--env", "production"]).expect(0);
    assert_eq!(live_body(&shop, "index.html").await.unwrap(), "<html>/livey\n");
    shop.run(&["promote", &id, "web", "--env", "production"]).expect(0);
    assert_eq!(shop.proxy.written(), [""; 0]);
}

#[tokio::test]
async fn an_image_goes_from_registry_to_registry() {
    let shop = two("promote-registry").await;
    let (id, tag, digest) = staged(&shop);
    let other = Registry::start();
    shop.configure("  production:\n", &format!("  production:\n    registry: {}\n", other.host()));
    assert_eq!(registry::has(other.host(), "promote-registry-live/api", &tag), "");
    migrates(&shop);
    let promoted = shop.run(&["promote", &id, "api", "--env", "production"]).expect(0);
    assert!(promoted.stderr.contains("3 layers sent, 0 there"), "{}", promoted.stderr);
    assert_eq!(registry::has(other.host(), "promote-registry-live/api", &tag), digest);
}

#[tokio::test]
async fn what_cannot_be_promoted_is_refused_with_words() {
    let shop = two("promote-words").await;
    let unknown = "20260101T000000000Z-8f14b3f5";
    assert_snapshot!(shop.refused(&["promote", unknown, "--env", "production"], 11), @r"
    error: there is no release `[release]` in the state of `staging`; nothing was changed
    hint: `windlass history --env NAME` names an environment's releases; --from names the environment
    ");
    let same = shop.refused(&["promote", unknown, "--env", "production", "--from", "production"], 10);
    assert_snapshot!(same, @r"
    error: a release is promoted from one environment to another, and both are `production`
    hint: --env names where it goes, and --from where it comes from
    ");
    let (id, ..) = staged(&shop);
    let absent = shop.refused(&["promote", &id, "--env", "staging"], 11);
    assert!(absent.contains("there is no release `[release]` in the state of `production`"), "{absent}");
    let no_unit = shop.refused(&["promote", &id, "docs", "--env", "production"], 10);
    assert!(no_unit.contains("there is no unit `docs`"), "{no_unit}");

    // Another account, which these credentials are not of.
    shop.configure("staging: {account: \"000000000000\"}", "staging: {account: \"111111111111\"}");
    assert_snapshot!(shop.refused(&["promote", &id, "--env", "production"], 11), @r"
    error: the environment `staging`, which the release comes from, cannot be reached
       the credentials are those of account 000000000000, not of 111111111111: the environment `staging` is in account 111111111111, and the credentials are `arn:aws:iam::000000000000:root`
    hint: nothing was changed; give `environments.staging` a `role_arn` that these credentials may assume, or name a profile for it with --from-profile
    ");
    shop.configure("staging: {account: \"111111111111\"}", "staging: {}");

    // A unit that production does not have.
    shop.configure("  staging: {}\n", "  staging:\n    sites: {docs: {prebuilt: true, path: docs, bucket: promote-words-docs}}\n");
    shop.scene.write("docs/dist/index.html", "<html>docs");
    shop.seed.bucket("promote-words-docs").await;
    let with_docs = release_id(&shop.run(&["release", "docs", "--env", "staging"]).expect(0));
    assert_snapshot!(shop.refused(&["promote", &with_docs, "--env", "production"], 11), @r"
    error: release [release] cannot be promoted; nothing was changed
       its `docs` is no unit of the environment `production`
    hint: configure `docs` there, or name the units that are to be promoted
    ");

    // A release that failed.
    shop.build(2);
    shop.scene.commit(4);
    shop.proxy.fail_next(|request| request.operation == "s3:CopyObject", 1, Fault::xml(403, "AccessDenied", "Access Denied"));
    shop.run(&["release", "web", "--env", "staging"]).expect(21);
    let failed = history(&shop, "staging")[0]["release"].as_str().unwrap().to_owned();
    assert_snapshot!(shop.refused(&["promote", &failed, "--env", "production"], 11), @r"
    error: release [release] cannot be promoted; nothing was changed
       it did not come to a good end in `staging`
    hint: finish it there, or name one that `windlass history --env staging` calls done
    ");

    // A repository that is not there.
    shop.configure("promote-words-live/api}, service", "promote-words-none/api}, service");
    let no_repository = shop.refused(&["promote", &id, "api", "--env", "production"], 11);
    assert!(no_repository.contains("there is no repository `promote-words-none/api` in ECR"), "{no_repository}");
}

#[tokio::test]
async fn layers_that_a_registry_refuses_fail_the_stage_and_are_sent_again() {
    let shop = two("promote-faults").await;
    let (id, tag, digest) = staged(&shop);
    let proxied = shop.proxy.url().trim_start_matches("http://").to_owned();
    shop.configure("  production:\n", &format!("  production:\n    registry: {proxied}\n"));
    // Throttled, cut off, its answer lost: each is ridden out.
    let is_patch = |request: &crate::support::request::Recorded| request.operation == "registry:PATCH";
    shop.proxy.fail_next(
        |request| request.operation == "registry:POST",
        1,
        Fault::Answer { status: 429, headers: vec![], body: String::new() },
    );
    shop.proxy.fail_next(is_patch, 1, Fault::Refuse);
    shop.proxy.fail_next(|request| request.operation == "registry:PUT" && request.path.contains("/manifests/"), 1, Fault::LoseAnswer);
    migrates(&shop);
    shop.run(&["promote", &id, "api", "--env", "production"]).expect(0);
    assert_eq!(shop.proxy.faults_left(), 0);
    assert_eq!(registry::has(ministack::shared().registry(), "promote-faults-live/api", &tag), digest);

    // A refusal is the stage's failure, and nothing is rolled.
    shop.scene.write("api/app.py", "2\n");
    shop.scene.commit(4);
    let (id, ..) = staged(&shop);
    let denied = r#"{"errors":[{"code":"DENIED","message":"User is not authorized to perform: ecr:InitiateLayerUpload"}]}"#;
    let answer = || Fault::Answer { status: 403, headers: vec![], body: denied.to_owned() };
    shop.proxy.fail_next(|request| request.operation == "registry:POST", 9, answer());
    shop.proxy.clear();
    let failed = shop.scene.windlass(&["promote", &id, "api", "--env", "production"]).expect(22);
    assert!(shop.error(&failed).contains("ecr:InitiateLayerUpload"), "{}", failed.stderr);
    assert!(!shop.proxy.written().iter().any(|operation| operation == "ecs:UpdateService" || operation == "lambda:Invoke"));
}

/// Two accounts that share nothing: state, bucket, repository and registry, cluster, function and keys are each one's own.
#[tokio::test]
async fn a_release_goes_from_one_account_to_another() {
    const OTHER: &str = "222222222222";
    let mut shop = Shop::whole("promote-accounts").await;
    let (seed, registry) = (Seed::in_account(ministack::shared().url(), OTHER), Registry::start());
    let there = "promote-accounts-there";
    for bucket in ["web", "state"] {
        seed.bucket(&format!("{there}-{bucket}")).await;
    }
    seed.repository(&format!("{there}/api")).await;
    seed.cluster(there).await;
    let digest = seed.image(&format!("{there}/api"), "before").await;
    let image = format!("{}/{there}/api@{digest}", registry.host());
    seed.service(there, there, &image).await;
    seed.function(there, &image).await;
    // The local cloud's pages are those of one account.
    shop.configure(&format!("    distribution: {}\n", shop.distribution), "");
    let environments = format!(
        "environments:\n  staging: {{account: \"000000000000\"}}\n  production:\n    account: \"{OTHER}\"\n    state: \
         s3://{there}-state/windlass\n    registry: {}\n    sites: {{web: {{bucket: {there}-web}}}}\n    services: {{api: {{image: \
         {{repository: {there}/api}}, cluster: {there}, service: {there}}}}}\n    migrations: {{main: {{function: {there}}}}}\n",
        registry.host()
    );
    shop.configure("app: shop\n", &format!("app: shop\n{environments}"));
    shop.scene.commit(3);
    let (id, tag, digest) = staged(&shop);

    shop.scene.set("AWS_ACCESS_KEY_ID", OTHER);
    let refused = shop.refused(&["promote", &id, "--env", "production"], 11);
    // The local cloud tells accounts by the key's id, and what keys hold is masked.
    assert!(refused.contains("the credentials are those of account ***, not of 000000000000"), "{refused}");
    let config = shop.scene.home().join(".aws/config");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, "[profile staging]\naws_access_key_id = test\naws_secret_access_key = test\n").unwrap();
    migrates(&shop);
    let promoted = shop.run(&["promote", &id, "--env", "production", "--from-profile", "staging"]).expect(0);
    assert!(promoted.stderr.contains("account check: ***"), "{}", promoted.stderr);
    assert_eq!(registry::has(registry.host(), &format!("{there}/api"), &tag), digest, "the same bytes under the same tag");
    let page = seed.s3().get_object().bucket(format!("{there}-web")).key("index.html").send().await.unwrap();
    assert!(String::from_utf8_lossy(&page.body.collect().await.unwrap().to_vec()).contains(&asset(1)));
    let kept = seed.s3().list_objects_v2().bucket(format!("{there}-state")).send().await.unwrap();
    assert!(kept.contents().iter().any(|object| object.key().unwrap_or_default().contains("/production/releases/")));
    assert!(!shop.keys("state").await.iter().any(|key| key.contains("/production/")), "nothing of it is in the other account");
}
