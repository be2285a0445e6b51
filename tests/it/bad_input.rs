//! What is wrong on this machine is said before anything is asked of AWS, or at least before anything is written.

use insta::assert_snapshot;

use crate::shop::Shop;

#[tokio::test]
async fn a_project_without_a_configuration_is_refused() {
    let shop = Shop::site("bad-none").await;
    shop.scene.remove("windlass.yml");
    assert_snapshot!(shop.refused(&["release"], 10), @r"
    error: reading the configuration `windlass.yml` failed
       No such file or directory (os error 2)
    hint: run windlass where `windlass.yml` is, or name the file with --config; `windlass schema` prints what it may hold
    ");
    assert_eq!(shop.proxy.requests(), []);
    assert_snapshot!(shop.refused(&["plan", "--config", "other.yml"], 10), @r"
    error: reading the configuration `other.yml` failed
       No such file or directory (os error 2)
    hint: run windlass where `windlass.yml` is, or name the file with --config; `windlass schema` prints what it may hold
    ");
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    let shop = Shop::site("bad-key").await;
    shop.configure("    bucket:", "    buckett:");
    assert_snapshot!(shop.refused(&["release"], 10), @r"
    error: the configuration `windlass.yml:6:5` was refused
       unknown key `buckett`; did you mean `bucket`?
           buckett: bad-key-web
           ^
    hint: the keys that may stand here: path, build, buildspec, prebuilt, from_image, env, output, bucket, prefix, distribution, url, keep, source_maps, allow_public, precompress, headers
    ");
    assert_eq!(shop.refused(&["release"], 10), shop.refused(&["plan"], 10));
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    let shop = Shop::site("bad-many").await;
    shop.configure("    bucket:", "    buckett:");
    shop.configure("app: shop", "app: ${SHOP_NAME}");
    let said = shop.refused(&["release"], 10);
    assert!(
        said.starts_with("error: the configuration `windlass.yml` was refused for 2 reasons\n   windlass.yml:1:6: the variable"),
        "{said}"
    );
    assert!(said.contains("   windlass.yml:6:5: unknown key `buckett`; did you mean `bucket`?\n"), "{said}");
    assert!(said.ends_with("hint: correct them and run again; `windlass schema` prints what the file may hold\n"), "{said}");
}

#[tokio::test]
async fn below_the_configuration_it_is_named_and_empty_variables_count_as_none() {
    let mut shop = Shop::site("bad-below").await;
    shop.scene.set("WINDLASS_ENV", "");
    shop.scene.set("WINDLASS_CONFIG", "");
    shop.release();
    let below = shop.scene.run("sh", &["-c", &format!("cd dist && {} plan", env!("CARGO_BIN_EXE_windlass"))]).expect(10);
    assert!(below.stderr.contains("hint: there is one above: run windlass in its directory, or name it with `--config /"), "{below:?}");
}

#[tokio::test]
async fn an_address_or_a_region_that_is_none_is_refused() {
    let mut shop = Shop::site("bad-address").await;
    let url = shop.proxy.url();
    for (url, region, why) in [
        ("", "us-east-1", "AWS_ENDPOINT_URL: `` is no address"),
        ("127.0.0.1:4566", "us-east-1", "AWS_ENDPOINT_URL: `127.0.0.1:4566` is no address"),
        (&url, "no where", "`no where` is no region's name"),
        (&url, "", "no region is configured"),
    ] {
        shop.scene.set("AWS_ENDPOINT_URL", url);
        shop.scene.set("AWS_REGION", region);
        let said = shop.refused(&["plan"], 11);
        assert!(said.contains(why) && said.lines().last().unwrap().starts_with("hint: "), "{said}");
    }
    shop.scene.set("AWS_REGION", "us-east-1");
    shop.scene.windlass(&["plan", "--endpoint-url", "", "--region", "", "--profile", ""]).expect(0);
}

#[tokio::test]
async fn a_checkout_of_another_user_is_told_as_git_will_not_read_it() {
    let mut shop = Shop::site("bad-owner").await;
    shop.scene.commit(1);
    let said = shop.scene.windlass(&["plan"]).expect(0);
    assert!(said.stdout.contains("commit ") && !said.stderr.contains("another user"), "{said:?}");
    // Git's own way to test it: https://github.com/git/git/blob/master/t/t0033-safe-directory.sh
    shop.scene.set("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    let said = shop.scene.windlass(&["plan"]).expect(0);
    assert!(said.stdout.contains("no commit") && said.stderr.contains("Git reads no checkout of another user"), "{said:?}");
}

#[tokio::test]
async fn what_is_no_yaml_is_refused_with_its_place() {
    let shop = Shop::site("bad-yaml").await;
    shop.configure("sites:\n", "sites: [\n");
    assert_snapshot!(shop.refused(&["release"], 10), @r"
    error: the configuration `windlass.yml:5:13` was refused
       no valid YAML: while parsing a flow mapping, did not find expected ',' or '}'
           prebuilt: true
                   ^
    hint: correct the line that is shown, or the one above it
    ");
}

#[tokio::test]
async fn an_unset_variable_is_refused() {
    let mut shop = Shop::site("bad-variable").await;
    shop.configure("app: shop", "app: ${SHOP_NAME}");
    assert_snapshot!(shop.refused(&["release"], 10), @r"
    error: the configuration `windlass.yml:1:6` was refused
       the variable `SHOP_NAME` is not set in the environment
       app: ${SHOP_NAME}
            ^
    hint: set it (`export SHOP_NAME=…`), or write `$${SHOP_NAME}` where the text itself is meant
    ");
    shop.scene.set("SHOP_NAME", "shop");
    shop.release();
}

#[tokio::test]
async fn an_unknown_unit_is_refused() {
    let shop = Shop::site("bad-unit").await;
    assert_snapshot!(shop.refused(&["release", "wep"], 10), @r"
    error: there is no unit `wep` in the configuration
    hint: it has: web
    ");
    assert_eq!(shop.proxy.requests(), []);
}

#[tokio::test]
async fn an_unknown_environment_is_refused() {
    let shop = Shop::site("bad-environment").await;
    assert_snapshot!(shop.refused(&["release", "--env", "staging"], 10), @r"
    error: the configuration `windlass.yml:1:1` was refused
       the configuration has no `environments`, so there is none to choose with --env
       app: shop
       ^
    hint: leave --env out, or add `environments` to the file
    ");
    shop.configure("app: shop\n", "app: shop\nenvironments:\n  staging: {}\n  production: {}\n");
    assert_snapshot!(shop.refused(&["release", "--env", "stagin"], 10), @r"
    error: the configuration `windlass.yml:2:1` was refused
       there is no environment `stagin`; did you mean `staging`?
       environments:
       ^
    hint: the file has: staging, production
    ");
    assert_snapshot!(shop.refused(&["release"], 10), @r"
    error: the configuration `windlass.yml:2:1` was refused
       the configuration has several environments and none was chosen
       environments:
       ^
    hint: choose one with --env: staging, production
    ");
}

#[tokio::test]
async fn a_build_that_fails_is_told_with_its_last_lines() {
    let shop = Shop::site("bad-build").await;
    shop.configure("prebuilt: true", "build: sh build.sh");
    shop.scene.write("build.sh", "exec 2>&1\nfor n in $(seq 30); do echo line $n; done\necho '✗ Build failed in 31ms' >&2\nexit 3\n");
    assert_snapshot!(shop.refused(&["release"], 20), @r"
    error: site `web`: the build failed
       `sh build.sh` exited with 3; its last lines:
       | line 12
       | line 13
       | line 14
       | line 15
       | line 16
       | line 17
       | line 18
       | line 19
       | line 20
       | line 21
       | line 22
       | line 23
       | line 24
       | line 25
       | line 26
       | line 27
       | line 28
       | line 29
       | line 30
       | ✗ Build failed in 31ms
    hint: nothing live has changed; a build sees no AWS_* variable but those under `env`
    ");
    let planned = shop.refused(&["plan"], 20);
    assert!(planned.contains("✗ Build failed in 31ms") && !planned.contains("line 1\n"), "{planned}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_refused() {
    let shop = Shop::site("bad-directory").await;
    shop.configure("prebuilt: true", "prebuilt: true\n    path: frontend");
    assert_snapshot!(shop.refused(&["release"], 10), @r"
    error: site `web`: its directory is not there
       `./frontend` is not a directory
    hint: correct `sites.web.path`
    ");
}

#[tokio::test]
async fn a_missing_build_output_is_refused() {
    let shop = Shop::site("bad-output").await;
    std::fs::remove_dir_all(shop.scene.project().join("dist")).unwrap();
    assert_snapshot!(shop.refused(&["release"], 20), @r"
    error: site `web`: there is no build output
       `./dist` is not a directory
    hint: `sites.web.output` names the directory that the build writes, from `path`; is it another one?
    ");
    shop.refused(&["plan"], 20);
}

#[tokio::test]
async fn a_build_output_without_an_index_document_is_refused() {
    let shop = Shop::site("bad-index").await;
    shop.scene.remove("dist/index.html");
    assert_snapshot!(shop.refused(&["release"], 20), @r"
    error: site `web`: the build output has no `index.html`
       `./dist` holds about/index.html, assets/app-00000001.js, robots.txt
    hint: nothing was uploaded; a site needs an index document, or the page at `/` would be an error
    ");
    shop.refused(&["plan"], 20);
}

#[tokio::test]
async fn a_missing_dockerfile_is_refused() {
    let shop = Shop::whole("bad-dockerfile").await;
    shop.scene.remove("api/Dockerfile");
    assert_snapshot!(shop.refused(&["release"], 10), @r"
    error: service `api`: there is no Dockerfile
       `./api/Dockerfile` is not a file
    hint: correct `services.api.path` or `image.dockerfile` (it counts from `path`), or write the file
    ");
}

#[tokio::test]
async fn an_image_that_has_to_be_built_needs_an_engine() {
    let mut shop = Shop::whole("bad-engine").await;
    shop.scene.set("DOCKER_HOST", "unix:///nonexistent");
    assert_snapshot!(shop.refused(&["release"], 11), @r"
    error: an image has to be built, and no Docker engine answers
       no Docker engine answers at `unix:///nonexistent` (DOCKER_HOST)
       Socket not found: /nonexistent
    hint: start it with `systemctl start docker` (or Docker Desktop, colima, `podman system service`), or set DOCKER_HOST
    ");
}
