use super::*;

const SHOP: &str = "\
app: shop
state: s3://shop-state/windlass/
sites:
  web: {path: web, build: npm run build, bucket: shop-web}
services:
  api:
    path: api
    image: {repository: shop/api}
    cluster: shop
    service: api
    container: web
    timeout: 90s
migrations:
  main: {framework: django, driver: lambda-image, from: api, function: shop-migrate}
";

fn parsed(text: &str, given: &Given) -> Result<Config, String> {
    parse(text, given).map_err(|problems| {
        let failure = read::refused(problems, Path::new("windlass.yml"), text);
        format!("{failure}\n{}\n{}", failure.causes().join("\n"), failure.hint_text().unwrap_or_default())
    })
}

fn refused(text: &str) -> String {
    parsed(text, &Given::default()).unwrap_err()
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = parsed(SHOP, &Given::default()).unwrap();
    let site = &config.sites[&"web".parse().unwrap()];
    assert_eq!((site.output.as_str(), site.keep.releases, site.keep.days, site.source_maps), ("dist", 5, 30, SourceMaps::LeaveOut));
    assert_eq!(config.state.to_string(), "s3://shop-state/windlass");
    let service = &config.services[&"api".parse().unwrap()];
    let Image::Build(image) = &service.image else { panic!() };
    assert_eq!((image.dockerfile.as_str(), image.platform.to_string().as_str()), ("Dockerfile", "linux/amd64"));
    assert_eq!(service.timeout.to_string(), "90s");
    assert_eq!(config.environment, None);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    let text = SHOP.replace("    container: web", "    contaner: web");
    assert_eq!(
        refused(&text),
        "the configuration `windlass.yml:11:5` was refused\n\
         unknown key `contaner`; did you mean `container`?\n       contaner: web\n       ^\n\
         the keys that may stand here: path, image, cluster, service, container, task_definition, scheduled_tasks, env, health, health_holds, after, timeout, \
         crashes"
    );
    assert!(refused(&format!("{SHOP}bucket: x\n")).contains("windlass.yml:15:1"));
}

#[test]
fn an_error_in_an_untagged_value_is_said_in_its_own_words() {
    let text = SHOP.replace("{repository: shop/api}", "{repository: shop/api, dockerfil: x}");
    assert!(refused(&text).contains("unknown key `dockerfil`; did you mean `dockerfile`?"), "{}", refused(&text));
    let text = SHOP.replace("{repository: shop/api}", "shop/api");
    assert!(refused(&text).contains("needs to be `REPOSITORY@sha256:…`, or `REPOSITORY:TAG`"), "{}", refused(&text));
}

#[test]
fn values_of_the_wrong_form_are_refused_where_they_stand() {
    for (from, to, message) in [
        ("timeout: 90s", "timeout: soon", "windlass.yml:12:14"),
        ("bucket: shop-web", "bucket: Shop_Web", "needs lower-case letters"),
        ("framework: django", "framework: djago", "did you mean `django`?"),
        ("from: api", "from: apy", "there is no service `apy`; did you mean `api`?"),
        ("bucket: shop-web", "bucket: shop-state", "public through its distribution"),
        (", bucket: shop-web", "", "the key `bucket` is missing here"),
        ("bucket: shop-web", "bucket: shop-web, url: shop.example", "`shop.example` is no address of a page"),
        ("bucket: shop-web", "bucket: shop-web, url: \"https:///a\"", "is no address of a page"),
        ("build: npm run build", "build: a, prebuilt: true", "needs one of `build`"),
        ("driver: lambda-image", "driver: lambda-zip, image: a/b@sha256:1", "sha256"),
        ("app: shop\n", "app: shop\napp: shop\n", "`app` is here a second time"),
    ] {
        let said = refused(&SHOP.replace(from, to));
        assert!(said.contains(message), "{to}: {said}");
    }
}

#[test]
fn sites_that_write_the_same_keys_are_refused_and_one_within_another_is_known() {
    let with = |web: &str, docs: &str| {
        let sites = format!(
            "  web: {{prebuilt: true, bucket: shop-web, prefix: \"{web}\"}}\n  docs: {{prebuilt: true, bucket: shop-web, prefix: \"{docs}\"}}\n"
        );
        parsed(&SHOP.replace("  web: {path: web, build: npm run build, bucket: shop-web}\n", &sites), &Given::default())
    };
    for prefix in ["", "docs"] {
        let said = with(prefix, prefix).unwrap_err();
        assert!(said.contains("sites `docs` and `web` have the same bucket and prefix"), "{prefix}: {said}");
    }
    let within = |web: &str, docs: &str| {
        let config = with(web, docs).unwrap();
        let inner = |name: &str| config.sites[&name.parse().unwrap()].inner.keys().cloned().collect::<Vec<_>>().join(" ");
        [inner("web"), inner("docs")]
    };
    assert_eq!(within("", "docs"), ["docs", ""]);
    assert_eq!(within("docs/api", "docs"), ["", "docs/api"]);
    assert_eq!(within("doc", "docs"), ["", ""]);
    assert_eq!(within("a/b", "a/c"), ["", ""]);
}

#[test]
fn variables_come_from_the_environment_and_an_unset_one_is_refused() {
    let text = SHOP.replace("bucket: shop-web", "bucket: \"${SITE}\", env: {LITERAL: \"$${SITE}\"}");
    let given = Given { variables: [("SITE".to_owned(), "other-web".to_owned())].into(), ..Given::default() };
    let config = parsed(&text, &given).unwrap();
    let site = &config.sites[&"web".parse().unwrap()];
    assert_eq!((site.bucket.as_str(), site.env["LITERAL"].as_str()), ("other-web", "${SITE}"));
    assert!(refused(&text).contains("the variable `SITE` is not set"));
}

#[test]
fn a_key_without_a_value_is_as_good_as_none_where_lists_and_mappings_stand() {
    let text = SHOP.replace("bucket: shop-web", "bucket: shop-web, headers: , env: , keep: ");
    let config = parsed(&text, &Given::default()).unwrap();
    let site = &config.sites[&"web".parse().unwrap()];
    assert!(site.headers.is_empty() && site.env.is_empty() && site.keep == Keep::default());
}

#[test]
fn a_key_without_a_value_is_as_good_as_none_where_a_value_stands_too() {
    let text = SHOP
        .replace("bucket: shop-web", "bucket: shop-web, prefix: , output: ~, prebuilt: null, url: , keep: {releases: , days: 3}")
        .replace("timeout: 90s", "timeout:")
        + "registry:\nenvironments:\n  staging:\n    account:\n";
    let config = parsed(&text, &Given::default()).unwrap();
    let site = &config.sites[&"web".parse().unwrap()];
    assert_eq!((site.prefix.as_str(), site.output.as_str(), site.prebuilt), ("", "dist", false));
    assert_eq!((&site.url, site.keep.releases, site.keep.days), (&None, 5, 3));
    assert_eq!(config.services[&"api".parse().unwrap()].timeout.to_string(), "15m");
    assert!(refused(&SHOP.replace("bucket: shop-web", "bucket: ")).contains("the key `bucket` is missing here"));
    assert!(refused(&SHOP.replace("bucket: shop-web", "bucket: x, buckett: ")).contains("unknown key `buckett`"));
}

#[test]
fn what_a_variable_has_left_empty_is_refused_where_it_would_mean_something_else() {
    let given = Given { variables: [("NONE".to_owned(), String::new())].into(), ..Given::default() };
    for (from, key) in [
        ("cluster: shop", "cluster"),
        ("service: api\n", "service"),
        ("container: web", "container"),
        ("repository: shop/api", "repository"),
        ("build: npm run build", "build"),
        ("function: shop-migrate", "function"),
        ("state: s3://shop-state/windlass/", "registry"),
        ("state: s3://shop-state/windlass/", "environments: {staging: {region"),
        ("state: s3://shop-state/windlass/", "environments: {staging: {role_arn"),
    ] {
        let state = if key.starts_with("env") || key == "registry" { "state: none\n" } else { "" };
        let braces = "}".repeat(key.matches('{').count());
        let text = SHOP.replacen(from, &format!("{state}{key}: \"${{NONE}}\"{braces}{}", if from.ends_with('\n') { "\n" } else { "" }), 1);
        let said = parsed(&text, &given).unwrap_err();
        let key = key.rsplit('{').next().unwrap();
        assert!(said.contains(&format!("`{key}` is empty")) && said.contains("fill it in"), "{key}: {said}");
    }
}

#[test]
fn one_service_on_ecs_is_rolled_by_one_unit() {
    let with = |cluster: &str, service: &str| {
        let jobs = format!("  jobs: {{image: {{repository: shop/api}}, cluster: {cluster}, service: {service}, container: jobs}}\n");
        parsed(&SHOP.replace("migrations:\n", &format!("{jobs}migrations:\n")), &Given::default())
    };
    let arn = "\"arn:aws:ecs:us-east-1:111111111111:cluster/shop\"";
    for cluster in ["shop", arn] {
        let said = with(cluster, "api").unwrap_err();
        assert!(said.contains("services `api` and `jobs` are the same service `api` on ECS"), "{said}");
    }
    assert!(with("shop", "jobs").is_ok() && with("other", "api").is_ok());
}

#[test]
fn a_registry_is_a_host() {
    let with = |registry: &str| parsed(&format!("{SHOP}registry: {registry}\n"), &Given::default());
    assert!(with("127.0.0.1:4566").is_ok());
    assert!(with("http://127.0.0.1:4566/").unwrap_err().contains("without `/` at its end: `127.0.0.1:4566`"));
}

#[test]
fn a_secret_does_not_get_into_what_is_kept() {
    let variables =
        [("DATABASE_URL", "postgres://ada:s3cr3t@db/shop"), ("GIT_COMMIT", "1a2b")].map(|(name, value)| (name.into(), value.into()));
    let given = Given { variables: variables.into(), ..Given::default() };
    let command = |command: &str| {
        SHOP.replace(
            "{framework: django, driver: lambda-image, from: api, function: shop-migrate}",
            &format!("{{framework: command, driver: local, from: api, {command}}}"),
        )
    };
    for text in [
        command("command: \"migrate ${DATABASE_URL}\""),
        command("command: [migrate, \"${DATABASE_URL}\"]"),
        SHOP.replace("container: web", "container: web\n    env: {DB: \"${DATABASE_URL}\"}"),
        SHOP.replace("container: web", "container: web\n    health: \"https://x/?${DATABASE_URL}\""),
        SHOP.replace("container: web", "container: web\n    health_holds: \"${DATABASE_URL}\""),
    ] {
        let said = parsed(&text, &given).unwrap_err();
        assert!(said.contains("the variable `DATABASE_URL` looks secret") && !said.contains("s3cr3t"), "{said}");
    }
    for text in [
        command("command: \"migrate $${DATABASE_URL}\""),
        command("command: migrate, env: {DB: \"${DATABASE_URL}\"}"),
        SHOP.replace("container: web", "container: web\n    health_holds: \"${GIT_COMMIT}\""),
        SHOP.replace("npm run build", "\"build ${DATABASE_URL}\""),
    ] {
        parsed(&text, &given).unwrap();
    }
}

#[test]
fn an_environment_overrides_any_key_and_must_be_chosen_where_there_are_several() {
    let environments = "\
environments:
  staging: {account: \"111111111111\", region: eu-west-1, sites: {web: {bucket: staging-web}}}
  production: {account: \"222222222222\", services: {api: {container: \"${UNSET}\"}}}
";
    let text = format!("{SHOP}{environments}");
    let given = |name: &str| Given { environment: Some(name.to_owned()), ..Given::default() };
    let config = parsed(&text, &given("staging")).unwrap();
    assert_eq!(config.sites[&"web".parse().unwrap()].bucket.as_str(), "staging-web");
    assert_eq!(config.environment.unwrap().region.as_deref(), Some("eu-west-1"));
    assert!(refused(&text).contains("choose one with --env: staging, production"));
    assert!(parsed(&text, &given("prodction")).unwrap_err().contains("did you mean `production`?"));
    let wrong = text.replace("container: \"${UNSET}\"", "contaner: x");
    assert!(parsed(&wrong, &given("staging")).unwrap_err().contains("unknown key `contaner`"), "another environment is read too");
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_nothing_that_follows_from_it() {
    let text = "\
app: shop
sites:
  web: {bucket: Web_, build: a, outptu: x}
  docs:
    buckett: docs
    prebuilt: maybe
services:
  api:
    imge: {repository: shop/api}
    cluster: ${CLUSTER}
    service: api
    container: web
    after: [[x], api]
    timeout: soon
migrations:
  main: {framework: djago, driver: local, from: api}
";
    let said = refused(text);
    assert_eq!(
        said.lines().filter_map(|line| line.trim().strip_prefix("windlass.yml:")).collect::<Vec<_>>(),
        [
            "1:1: the key `state` is missing here",
            "3:17: bucket `Web_`: needs lower-case letters, digits, `-` or `.`, at most 63, with a letter or a digit at both ends",
            "3:33: unknown key `outptu`; did you mean `output`?",
            "5:5: unknown key `buckett`; did you mean `bucket`?",
            "6:15: `maybe`: `true` or `false` was expected here",
            "9:5: unknown key `imge`; did you mean `image`?",
            "10:14: the variable `CLUSTER` is not set in the environment",
            "13:13: a text was expected here, not a list",
            "14:14: length of time `soon`: needs a whole number above 0 and `s`, `m` or `h`: `90s`, `15m`",
            "16:21: `djago` is not one of the values that may stand here; did you mean `django`?",
        ],
        "{said}"
    );
    assert!(said.starts_with("the configuration `windlass.yml` was refused for 10 reasons\n"), "{said}");
}

#[test]
fn contradictions_are_told_at_once() {
    let text = SHOP
        .replace("build: npm run build", "build: a, prebuilt: true")
        .replace("from: api", "from: apy")
        .replace("container: web", "container: web\n    health: healthz");
    let said = refused(&text);
    for part in ["refused for 3 reasons", "needs one of `build`", "`healthz` is neither a path nor a URL", "there is no service `apy`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn merge_keys_put_in_what_an_anchor_names() {
    let text = SHOP.replace("  api:\n", "  api: &base\n").replace("migrations:\n", "  jobs: {<<: *base, service: jobs}\nmigrations:\n");
    let config = parsed(&text, &Given::default()).unwrap();
    let jobs = &config.services[&"jobs".parse().unwrap()];
    assert_eq!((jobs.service.as_str(), jobs.container.as_str(), jobs.timeout.to_string().as_str()), ("jobs", "web", "90s"));
    assert!(refused(&SHOP.replace("  web: {", "  web: {<<: x, ")).contains("`<<` needs to be followed by a mapping"));
}

#[test]
fn a_prefix_may_end_with_a_slash_and_an_environment_may_say_nothing() {
    let text = SHOP.replace("bucket: shop-web", "bucket: shop-web, prefix: docs/") + "environments:\n  staging:\n";
    let config = parsed(&text, &Given::default()).unwrap();
    assert_eq!(config.sites[&"web".parse().unwrap()].prefix, "docs");
    assert_eq!(config.environment.unwrap().name, "staging");
    assert!(refused(&format!("{SHOP}environments: {{}}\n")).contains("`environments` names none"));
    assert!(refused(&format!("{SHOP}environments: [staging]\n")).contains("`environments` needs to be a mapping, not a list"));
    assert!(refused(&SHOP.replace("app: shop", "app: ${A:-shop}")).contains("is not the name of a variable"));
}

#[test]
fn the_committed_schema_is_the_one_that_the_types_give() {
    let committed = include_str!("schema.json");
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert!(committed == generated, "run `windlass schema > src/config/schema.json`");
}
