//! A site is built by its own command, which sees no credential, and only when something that it is made of has changed.

use insta::assert_snapshot;

use crate::shop::Shop;

/// A shop whose build counts itself in its home.
async fn shop(name: &str) -> Shop {
    let shop = Shop::site(name).await;
    shop.configure("prebuilt: true", "path: web\n    build: sh build.sh\n    env: {VITE_API: /api}");
    shop.scene.write("web/build.sh", "echo >> $HOME/built\nmkdir -p dist\n(cat source; echo $VITE_API $VITE_MODE) > dist/index.html\n");
    shop.scene.write("web/source", "<html>\n");
    shop
}

fn builds(shop: &Shop) -> usize {
    std::fs::read(shop.scene.home().join("built")).unwrap_or_default().len()
}

#[tokio::test]
async fn a_build_sees_its_own_variables_and_no_credentials() {
    let mut shop = Shop::site("site-build").await;
    shop.configure("prebuilt: true", "path: web\n    build: sh build.sh\n    env: {VITE_API: /api}");
    shop.scene.write("web/build.sh", "env > seen\nmkdir -p dist\necho '<html>' > dist/index.html\n");
    shop.scene.set("AWS_SESSION_TOKEN", "t");
    shop.scene.set("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4");
    shop.scene.set("CI_JOB", "7");
    shop.release();
    let seen = std::fs::read_to_string(shop.scene.project().join("web/seen")).unwrap();
    assert!(seen.contains("\nVITE_API=/api\n") && seen.contains("CI_JOB=7\n"), "{seen}");
    assert!(!seen.lines().any(|line| line.starts_with("AWS_") || line.starts_with("ECS_")), "{seen}");
    assert_eq!(shop.body("index.html").await.unwrap(), "<html>\n");
}

#[tokio::test]
async fn a_site_is_built_again_when_something_of_it_has_changed() {
    let mut shop = shop("build-again").await;
    shop.release();
    assert_eq!(builds(&shop), 1);
    shop.release();
    assert_eq!((builds(&shop), shop.proxy.written().len()), (1, 0));

    shop.scene.write("web/source", "<html>2\n");
    shop.release();
    assert_eq!((builds(&shop), shop.body("index.html").await.unwrap().as_str()), (2, "<html>2\n/api\n"));
    shop.configure("VITE_API: /api", "VITE_API: /v2");
    shop.release();
    assert_eq!((builds(&shop), shop.body("index.html").await.unwrap().as_str()), (3, "<html>2\n/v2\n"));
    shop.scene.set("VITE_MODE", "dark");
    shop.release();
    assert_eq!((builds(&shop), shop.body("index.html").await.unwrap().as_str()), (4, "<html>2\n/v2 dark\n"));
    shop.configure("sh build.sh", "sh build.sh && echo done");
    shop.release();
    assert_eq!(builds(&shop), 5);

    shop.run(&["release", "--rebuild"]).expect(0);
    assert_eq!((builds(&shop), shop.proxy.written().len()), (6, 0));
    // What lies in the output and is not live was made by somebody else.
    shop.scene.write("web/dist/index.html", "<html>mine\n");
    shop.release();
    assert_eq!((builds(&shop), shop.proxy.written().len()), (7, 0));
}

#[tokio::test]
async fn what_a_build_reads_beside_the_sites_directory_counts() {
    let shop = shop("build-beside").await;
    shop.scene.write("web/build.sh", "echo >> $HOME/built\nmkdir -p dist\ncat ../shared/page.html > dist/index.html\n");
    shop.scene.write("shared/page.html", "<html>1\n").write("api/app.py", "1\n");
    shop.release();
    shop.scene.write("api/app.py", "2\n").write("plan.json", "{}\n");
    shop.release();
    assert_eq!((builds(&shop), shop.proxy.written().len()), (1, 0), "what it has nothing to do with is not read");
    shop.scene.write("shared/page.html", "<html>2\n");
    shop.release();
    assert_eq!((builds(&shop), shop.body("index.html").await.unwrap().as_str()), (2, "<html>2\n"));

    // The packages of a workspace count by their names.
    shop.scene.write("package.json", "{\"workspaces\": [\"web\", \"packages/*\"]}\n");
    shop.scene.write("packages/ui/package.json", "{\"name\": \"ui\"}\n").write("packages/ui/page.html", "<html>3\n");
    shop.scene.write("web/package.json", "{\"name\": \"web\", \"dependencies\": {\"ui\": \"1.0.0\"}}\n");
    let linked = "echo >> $HOME/built\nmkdir -p dist\nui=$(dirname $PWD)/packages/ui\ncat $ui/page.html > dist/index.html\n";
    shop.scene.write("web/build.sh", linked);
    shop.release();
    shop.scene.write("packages/ui/page.html", "<html>4\n");
    shop.release();
    assert_eq!((builds(&shop), shop.body("index.html").await.unwrap().as_str()), (4, "<html>4\n"));
}

#[tokio::test]
async fn a_build_that_fails_says_where_it_first_spoke_of_an_error() {
    let shop = shop("build-why").await;
    let advice = "for i in $(seq 40); do echo usage $i; done";
    shop.scene.write("web/build.sh", format!("echo npm error code EUSAGE\necho npm error Missing: left-pad\n{advice}\nexit 1\n"));
    let failed = shop.run(&["release"]).expect(20);
    let error = shop.error(&failed);
    assert!(error.contains("| npm error code EUSAGE\n   | npm error Missing: left-pad\n   | usage 1\n"), "{error}");
    assert!(error.contains("| …\n   | usage 21\n") && error.contains("| usage 40\n"), "{error}");
}

#[tokio::test]
async fn a_machine_without_the_build_can_still_change_headers() {
    let shop = shop("build-headers").await;
    shop.release();
    std::fs::remove_dir_all(shop.scene.project().join("web/dist")).unwrap();
    shop.release();
    assert_eq!((builds(&shop), shop.proxy.written().len()), (1, 0));
    shop.configure("path: web", "path: web\n    headers: [{match: index.html, cache_control: no-store}]");
    shop.release();
    assert_eq!((builds(&shop), shop.written()), (1, vec!["s3:CopyObject index.html".to_owned()]));
    assert_eq!(shop.head("index.html").await.unwrap().cache_control(), Some("no-store"));
}

/// Two environments, of which each has a bucket and a variable of its own.
async fn environments(name: &str) -> Shop {
    let shop = shop(name).await;
    let environments = format!(
        "environments:\n  staging: {{}}\n  production: {{sites: {{web: {{bucket: {name}-state-2, distribution: null, env: {{VITE_API: /v2}}}}}}}}\nsites:\n"
    );
    shop.configure("sites:\n", &environments);
    shop.seed.bucket(&format!("{name}-state-2")).await;
    shop
}

#[tokio::test]
async fn a_build_goes_where_it_was_made_for() {
    let shop = environments("build-frozen").await;
    let first = shop.run(&["plan", "--env", "staging"]).expect(0).stdout;
    let said = shop.run(&["plan", "--env", "staging"]).expect(0).stdout;
    assert_eq!((first, builds(&shop)), (said.clone(), 1), "what a plan has built is not built again");
    assert!(said.contains("frozen into it by its build: VITE_API\n"), "{said}");
    assert!(said.contains("    - .windlass-build.json: windlass's own record of the build\n"), "{said}");
    shop.run(&["release", "--env", "staging"]).expect(0);
    assert_eq!(shop.keys("web").await, ["index.html"], "the record is not published");
    let manifest = shop.seed.s3().get_object().bucket("build-frozen-state").key("windlass/shop/staging/sites/web/live.json").send().await;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.unwrap().body.collect().await.unwrap().to_vec()).unwrap();
    let frozen = manifest["manifest"]["frozen"].as_object().unwrap();
    assert!(frozen.keys().eq(["VITE_API"]) && frozen["VITE_API"].as_str().unwrap().len() == 64, "{frozen:?}");

    // What was built is released from another place as it was from its own, without a build.
    std::fs::rename(shop.scene.project().join("web/dist"), shop.scene.project().join("artifact")).unwrap();
    std::fs::remove_dir_all(shop.scene.project().join("web")).unwrap();
    shop.run(&["release", "--env", "staging", "--prebuilt", "artifact"]).expect(0);
    assert_eq!((builds(&shop), shop.proxy.written().len()), (1, 0));
    assert_snapshot!(shop.refused(&["release", "--env", "production", "--prebuilt", "web=artifact"], 11), @r"
    error: site `web`: the build was made for the environment `staging`, and is not right for this one
       what it has frozen into its pages differs: `VITE_API` has another value here
    hint: nothing was changed; build the site for this environment, or take a build that was made for it
    ");
    // Where both would freeze the same, one build serves both.
    shop.configure("env: {VITE_API: /v2}", "env: {VITE_API: /api}");
    shop.run(&["release", "--env", "production", "--prebuilt", "artifact"]).expect(0);
    assert_eq!(shop.proxy.written().iter().filter(|operation| *operation == "s3:CopyObject").count(), 1);
    assert_eq!(builds(&shop), 1);
    assert_snapshot!(shop.refused(&["release", "--env", "staging", "--prebuilt", "wep=artifact"], 10), @r"
    error: `--prebuilt wep=artifact` was refused
       there is no site `wep`
    hint: the configuration has: web
    ");
    assert_snapshot!(shop.refused(&["release", "--env", "staging", "--prebuilt", "gone"], 20), @r"
    error: site `web`: there is no build output
       `./gone` is not a directory
    hint: `--prebuilt` names the directory of a site's finished build, from the working directory; is it another one?
    ");
}

#[tokio::test]
async fn a_buildspec_builds_a_site() {
    let shop = shop("build-spec").await;
    shop.configure("build: sh build.sh", "buildspec: buildspec.yml");
    let spec = "version: 0.2\nenv: {variables: {VITE_API: /none, VITE_MODE: light}}\nphases: {build: {commands: [sh build.sh]}}\n";
    shop.scene.write("web/buildspec.yml", spec);
    shop.release();
    assert_eq!(shop.body("index.html").await.unwrap(), "<html>\n/api light\n", "`env` wins over the buildspec's own variables");
    shop.release();
    assert_eq!((builds(&shop), shop.proxy.written().len()), (1, 0));
    shop.scene.write("web/buildspec.yml", spec.replace("[sh build.sh]", "[echo no such thing, exit 3]"));
    let refused = shop.refused(&["release"], 20);
    assert!(refused.contains("site `web`: the build failed in BUILD") && refused.contains("`exit 3`"), "{refused}");
    shop.scene.write("web/buildspec.yml", "version: 0.2\nphases: [\n");
    assert!(shop.refused(&["release"], 10).contains("its buildspec `buildspec.yml` was refused"));
}
