//! The text of `windlass.yml`, with a remark wherever somebody has to look.

use crate::detect::{Application, Migration, Service, Site, Source};

use super::names::{Name, Names, bucket_name};

/// What has to be looked at by a person: a line of the configuration, and why.
#[derive(Debug, Clone)]
pub(super) struct Check {
    pub(super) line: usize,
    pub(super) entry: String,
    pub(super) why: String,
}

/// The configuration's text.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) text: String,
    pub(super) checks: Vec<Check>,
}

/// So far to the right stand remarks.
const REMARK: usize = 44;

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn remarked(&mut self, entry: &str, remark: &str) {
        let line = format!("{entry:<REMARK$}  # {remark}");
        self.line(&line);
    }

    /// A line with a name that was not said by a person.
    fn name(&mut self, indent: &str, key: &str, name: &Name, why: &str, flag: &str) {
        let entry = format!("{indent}{key}: {}", scalar(&name.value));
        if name.sure {
            return self.line(&entry);
        }
        let said = name.at.as_ref().map(|at| format!("; {at} says so")).unwrap_or_default();
        self.remarked(&entry, &format!("check: {why}{said}"));
        let line = self.text.lines().count();
        self.checks.push(Check { line, entry: format!("{}{said}", entry.trim()), why: format!("{why} ({flag})") });
    }
}

/// A value as YAML: plain where nothing in it has a meaning of its own. `${` would be a variable.
pub(super) fn scalar(text: &str) -> String {
    let text = text.replace("${", "$${");
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || " -_./@&=+$()".contains(c) || (c == ':' && !text.contains(": ") && !text.ends_with(':')));
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '.' | '_'));
    let word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    if plain && begins && !word && !text.ends_with(' ') {
        return text;
    }
    serde_json::to_string(&text).unwrap_or(text)
}

/// Writes the configuration of an application.
pub(super) fn render(application: &Application, names: &Names) -> Page {
    let mut page = Page::default();
    page.line("# Written by `windlass init` from what this checkout holds; it is yours to change. `windlass schema` prints every key.");
    page.name("", "app", &names.app, &format!("{}; part of every key in the state, so it stays", names.app_why), "--app");
    page.name("", "state", &names.state, "a private bucket for records, manifests and the lock", "--state");
    environments(&mut page, application, names);
    if !application.sites.is_empty() {
        page.line("sites:");
        for one in &application.sites {
            site(&mut page, one, names);
        }
    }
    if !application.services.is_empty() {
        page.line("services:");
        let alone = application.services.iter().filter(|service| service.reached).count() == 1;
        for one in &application.services {
            service(&mut page, one, alone, names);
        }
    }
    if !application.migrations.is_empty() {
        page.line("migrations:");
        for one in &application.migrations {
            migration(&mut page, one, names);
        }
        if application.migrations.len() > 1 {
            page.line(
                "# One entry for each database: where services share one, keep one of them and list the others under its `services`.",
            );
        }
    }
    page
}

/// The environment that the keys outside of `environments` are for.
fn is_main(name: &str, last: &str, all: &[super::flags::EnvironmentFlag]) -> bool {
    let usual = ["production", "prod", "live"];
    match all.iter().find(|environment| usual.contains(&environment.name.as_str())) {
        Some(main) => main.name == name,
        None => name == last,
    }
}

fn environments(page: &mut Page, application: &Application, names: &Names) {
    let all = names.environments();
    let Some(last) = all.last() else {
        let (account, region, at) = match names.account() {
            Some((account, region)) => {
                (account.name.as_str(), region.map_or("us-east-1", |region| region.name.as_str()), format!(" ({} names them)", account.at))
            }
            None => ("111111111111", "us-east-1", String::new()),
        };
        page.line(&format!(
            "# Without `environments` the credentials' own account and region are used{at}. A guard against the wrong account:"
        ));
        page.line(&format!("# environments: {{production: {{account: \"{account}\", region: {region}}}}}"));
        return;
    };
    page.line("environments:");
    for environment in all {
        let mut own = Vec::new();
        own.extend(environment.account.as_ref().map(|account| format!("account: \"{account}\"")));
        own.extend(environment.region.as_ref().map(|region| format!("region: {region}")));
        let main = is_main(&environment.name, &last.name, all);
        if main {
            let entry = format!("  {}: {{{}}}", environment.name, own.join(", "));
            if environment.account.is_none() {
                page.remarked(&entry, "check: account and region, or the credentials' own are used");
            } else {
                page.line(&entry);
            }
            continue;
        }
        page.line(&format!("  {}:", environment.name));
        for key in own {
            page.line(&format!("    {key}"));
        }
        // Names of buckets are the world's.
        let app = bucket_name(&format!("{}-{}", names.app.value, environment.name));
        let mine = |value: String| Name { value, sure: false, at: None };
        if names.state.value != "none" {
            page.name(
                "    ",
                "state",
                &mine(format!("s3://{app}-state/windlass")),
                &format!("the state of {}", environment.name),
                "edit the file",
            );
        }
        if !application.sites.is_empty() {
            page.line("    sites:");
            for site in &application.sites {
                page.line(&format!("      {}:", site.name));
                let bucket = mine(bucket_name(&format!("{app}-{}", site.name)));
                page.name("        ", "bucket", &bucket, &format!("the bucket of {}", environment.name), "edit the file");
                if names.distribution(&site.name).is_some() {
                    // The other environment's would be invalidated.
                    let id = mine("E2EXAMPLE".to_owned());
                    page.name("        ", "distribution", &id, &format!("the distribution of {}", environment.name), "edit the file");
                }
            }
        }
        let shared = all.iter().any(|other| other.name != environment.name && other.account == environment.account);
        if shared && !application.services.is_empty() {
            page.line("    services:");
            for service in &application.services {
                page.line(&format!("      {}:", service.name));
                let cluster = mine(format!("{}-{}", names.cluster(&service.name).value, environment.name));
                page.name("        ", "cluster", &cluster, &format!("the cluster of {}", environment.name), "edit the file");
            }
        }
    }
}

fn site(page: &mut Page, site: &Site, names: &Names) {
    page.remarked(&format!("  {}:", site.name), &format!("{}: {}", site.kind, site.at));
    match &site.source {
        Source::Build(command) => {
            page.line(&format!("    path: {}", scalar(&site.path)));
            page.line(&format!("    build: {}", scalar(command)));
            if !site.unset.is_empty() {
                let variables: Vec<String> = site.unset.iter().map(|(name, _)| format!("{name}: …")).collect();
                page.remarked(&format!("    # env: {{{}}}", variables.join(", ")), "read by the code, set nowhere");
            }
            page.line(&format!("    output: {}", scalar(&site.output)));
        }
        Source::Prebuilt => {
            page.line(&format!("    path: {}", scalar(&site.path)));
            page.line("    prebuilt: true");
            page.line(&format!("    output: {}", scalar(&site.output)));
        }
        Source::Image { service, path } => {
            page.line(&format!("    from_image: {{service: {service}, path: {}}}", scalar(path)));
        }
    }
    page.name("    ", "bucket", &names.bucket(&site.name), "the private bucket that the CDN reads", "--bucket");
    if !site.prefix.is_empty() {
        page.remarked(&format!("    prefix: {}", scalar(&site.prefix)), "the path that it is served below");
    }
    if let Some(distribution) = names.distribution(&site.name) {
        return page.name("    ", "distribution", &distribution, "the distribution that serves the bucket", "--distribution");
    }
    page.remarked("    # distribution: E2EXAMPLE", "check: without one nothing is invalidated, and no page is checked");
    let line = page.text.lines().count();
    let why = "the CloudFront distribution that serves the bucket, or nothing is invalidated (--distribution)".to_owned();
    page.checks.push(Check { line, entry: format!("none for `{}`", site.name), why });
}

fn service(page: &mut Page, service: &Service, alone: bool, names: &Names) {
    page.remarked(&format!("  {}:", service.name), &format!("{}: {}", service.kind, service.at));
    page.line(&format!("    path: {}", scalar(&service.path)));
    page.line("    image:");
    let dockerfile = if service.path == "." {
        Some(service.dockerfile.as_str())
    } else {
        service.dockerfile.strip_prefix(&format!("{}/", service.path))
    };
    let dockerfile = dockerfile.map_or_else(|| climb(&service.path, &service.dockerfile), str::to_owned);
    if dockerfile != "Dockerfile" {
        page.line(&format!("      dockerfile: {}", scalar(&dockerfile)));
    }
    page.name("      ", "repository", &names.repository(&service.name), "the repository in ECR", "--repository");
    if let Some(platform) = &service.platform {
        page.line(&format!("      platform: {platform}"));
    }
    if let Some(target) = &service.target {
        page.line(&format!("      target: {}", scalar(target)));
    }
    page.name("    ", "cluster", &names.cluster(&service.name), "the ECS cluster", "--cluster");
    page.name("    ", "service", &names.service(&service.name), "its name on ECS", "--ecs-service");
    page.name("    ", "container", &names.container(&service.name), "the container of its task definition", "--container");
    if !service.env.is_empty() {
        let pairs: Vec<String> = service.env.iter().map(|(key, value)| format!("{key}: {}", scalar(value))).collect();
        page.line(&format!("    env: {{{}}}", pairs.join(", ")));
    }
    match (names.health(&service.name), &service.health) {
        (Some(health), _) => page.line(&format!("    health: {}", scalar(health))),
        (None, Some((health, at))) if alone => {
            let name = Name { value: health.clone(), sure: false, at: Some(at.clone()) };
            page.name(
                "    ",
                "health",
                &name,
                "asked through the load balancer after the roll: a wrong one brings a good version back",
                "--health",
            );
        }
        // Behind a load balancer that serves several, the path alone may be another service's.
        (None, Some((health, at))) => {
            page.remarked(&format!("    # health: {health}"), &format!("if the load balancer leads it here; {at}"));
        }
        (None, None) if !service.reached => {}
        (None, None) => page.remarked("    # health: /healthz", "asked through the load balancer after the roll"),
    }
}

/// From one directory to a file beside or above it.
fn climb(directory: &str, file: &str) -> String {
    let (from, to): (Vec<&str>, Vec<&str>) = (directory.split('/').collect(), file.split('/').collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - shared);
    up.chain(to[shared..].iter().copied()).collect::<Vec<_>>().join("/")
}

fn migration(page: &mut Page, migration: &Migration, names: &Names) {
    page.remarked(&format!("  {}:", migration.name), &migration.at.to_string());
    page.line(&format!("    framework: {}", migration.framework));
    let function = names.function(&migration.name);
    match function {
        Some(_) => page.line("    driver: lambda-image"),
        None => page.remarked("    driver: task", "a task like the service's; or lambda-image, with a `function`"),
    }
    page.line(&format!("    from: {}", migration.from));
    if !migration.services.is_empty() {
        let entry = format!("services: [{}]", migration.services.join(", "));
        let why = "those with the same code; one with a database of its own needs a migration of its own";
        page.remarked(&format!("    {entry}"), &format!("check: {why}"));
        page.checks.push(Check { line: page.text.lines().count(), entry, why: format!("{why} (edit the file)") });
    }
    match (function, &migration.command) {
        (Some(function), _) => page.line(&format!("    function: {}", scalar(function))),
        (None, Some(command)) => page.line(&format!("    command: {}", scalar(command))),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_yaml_or_windlass_would_read_more_into_them() {
        for plain in ["npm ci && npm run build", "dist", "../x", "s3://shop-state/windlass", "shop/api", "Ab1"] {
            assert_eq!(scalar(plain), plain);
        }
        for (text, written) in
            [("no", "\"no\""), ("a: b", "\"a: b\""), ("a #b", "\"a #b\""), ("1", "\"1\""), ("", "\"\""), ("a${B}", "\"a$${B}\"")]
        {
            assert_eq!(scalar(text), written);
        }
        assert_eq!(climb("services/a", "docker/a.Dockerfile"), "../../docker/a.Dockerfile");
    }
}
