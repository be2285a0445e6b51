//! The variables of a build: who beats whom, and those that `CodeBuild` itself sets.
//!
//! Start of the build, then batch, project, buildspec, and last the image (or this machine).
//! <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html>

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::order::Order;

/// Values by their names; a later layer has been put over an earlier one.
pub(super) type Variables = BTreeMap<String, OsString>;

/// Is this process a command of a build in `CodeBuild`? Then its variables are passed on as they are.
pub(super) fn inside_codebuild(environment: &BTreeMap<OsString, OsString>) -> bool {
    let set = |name: &str| environment.contains_key(&OsString::from(name));
    set("CODEBUILD_BUILD_ARN") && set("CODEBUILD_SRC_DIR") && !set("CODEBUILD_LOCAL_BUILD")
}

/// Everything that the build starts with, except what stores of secrets add.
pub(super) fn layered(order: &Order, buildspec: &[(String, String)], secrets: &[(String, String)], builtin: Variables) -> Variables {
    let inside = inside_codebuild(&order.environment);
    let mut variables: Variables = BTreeMap::new();
    if order.container.is_none() {
        // What is no text cannot be told apart by name; programs take such a value all the same.
        let named = order.environment.iter().filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.clone())));
        variables.extend(named);
    }
    // A region or a profile is what is known from outside, and a buildspec may know better; the build's own facts are not to be changed.
    let (own, outer): (Variables, Variables) = builtin.into_iter().partition(|(name, _)| name.starts_with("CODEBUILD_"));
    variables.extend(outer);
    for layer in [buildspec, secrets, &order.project_variables, &order.batch_variables] {
        variables.extend(layer.iter().map(|(name, value)| (name.clone(), OsString::from(value))));
    }
    for (name, value) in own {
        if inside && order.container.is_none() {
            variables.entry(name).or_insert(value);
        } else {
            variables.insert(name, value);
        }
    }
    variables.extend(order.overrides.iter().map(|(name, value)| (name.clone(), OsString::from(value))));
    variables.insert("CODEBUILD_BUILD_SUCCEEDING".to_owned(), "1".into());
    variables.insert("CODEBUILD_LAST_EXIT".to_owned(), "0".into());
    variables
}

/// Random, but for the bits that make it a UUID of version 4.
pub(super) fn uuid() -> String {
    use std::io::Read as _;
    let mut bytes = [0_u8; 16];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if random.is_err() {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        bytes = (nanos ^ (u128::from(std::process::id()) << 64)).to_be_bytes();
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// What `CodeBuild` sets of itself; in a local build with the values of AWS's local agent, where they say that it is one.
pub(super) fn builtin(order: &Order, source: &Path, id: &str) -> Variables {
    let set = |name: &str| order.environment.get(&OsString::from(name)).and_then(|value| value.to_str());
    let region = order.access.region.as_deref().or(set("AWS_REGION")).or(set("AWS_DEFAULT_REGION")).unwrap_or("us-east-1");
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let git = Git::of(source);
    let image = order.container.as_ref().map_or("local", |container| container.image.as_str());
    let arn = |kind: &str, name: &str| format!("arn:aws:codebuild:{region}:000000000000:{kind}/{name}");
    let build = format!("{}:{id}", order.project);
    let mut variables: BTreeMap<String, String> = [
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("CODEBUILD_BUILD_ARN", arn("build", &build)),
        ("CODEBUILD_BUILD_ID", build),
        ("CODEBUILD_BUILD_IMAGE", image.to_owned()),
        ("CODEBUILD_BUILD_NUMBER", "1".to_owned()),
        ("CODEBUILD_BUILD_URL", "http://localhost/".to_owned()),
        ("CODEBUILD_CI", "false".to_owned()),
        ("CODEBUILD_INITIATOR", set("USER").unwrap_or("local").to_owned()),
        ("CODEBUILD_KMS_KEY_ID", format!("arn:aws:kms:{region}:000000000000:alias/aws/s3")),
        ("CODEBUILD_LOCAL_BUILD", "true".to_owned()),
        ("CODEBUILD_LOG_PATH", id.to_owned()),
        ("CODEBUILD_PROJECT_UUID", id.to_owned()),
        ("CODEBUILD_SRC_DIR", source.to_string_lossy().into_owned()),
        ("CODEBUILD_START_TIME", millis.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(profile) = &order.access.profile {
        variables.insert("AWS_PROFILE".to_owned(), profile.clone());
    }
    if let Some(url) = order.access.endpoint_url.as_ref() {
        variables.insert("AWS_ENDPOINT_URL".to_owned(), url.clone());
    }
    if let Some(identifier) = &order.identifier {
        variables.insert("CODEBUILD_BATCH_BUILD_IDENTIFIER".to_owned(), identifier.clone());
    }
    if let Some((index, of)) = order.shard {
        variables.insert("WINDLASS_SHARD".to_owned(), index.to_string());
        variables.insert("WINDLASS_SHARDS".to_owned(), of.to_string());
    }
    if let Some(commit) = git.commit {
        variables.insert("CODEBUILD_RESOLVED_SOURCE_VERSION".to_owned(), commit.clone());
        variables.insert("CODEBUILD_SOURCE_VERSION".to_owned(), git.branch.map_or(commit, |branch| format!("refs/heads/{branch}")));
    }
    if let Some(url) = git.url {
        variables.insert("CODEBUILD_SOURCE_REPO_URL".to_owned(), url);
    }
    variables.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// What the source's repository says, read from its files: a build starts faster than `git` does.
#[derive(Default)]
struct Git {
    commit: Option<String>,
    branch: Option<String>,
    url: Option<String>,
}

impl Git {
    fn of(source: &Path) -> Self {
        let Some(folder) = source.ancestors().map(|folder| folder.join(".git")).find(|path| path.exists()) else { return Self::default() };
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        // In a worktree or a submodule `.git` is a file that names the folder.
        let folder = match read(&folder).as_deref().and_then(|text| text.strip_prefix("gitdir:")) {
            Some(named) => folder.parent().unwrap_or(source).join(named.trim()),
            None => folder,
        };
        let common = read(&folder.join("commondir")).map_or_else(|| folder.clone(), |named| folder.join(named.trim()));
        let Some(head) = read(&folder.join("HEAD")) else { return Self::default() };
        let head = head.trim();
        let (commit, branch) = match head.strip_prefix("ref: ") {
            None => (Some(head.to_owned()), None),
            Some(name) => {
                let packed = || {
                    let table = read(&common.join("packed-refs"))?;
                    table.lines().find_map(|line| Some(line.strip_suffix(name)?.strip_suffix(' ')?.to_owned()))
                };
                let commit = read(&common.join(name)).map(|text| text.trim().to_owned()).or_else(packed);
                (commit, name.strip_prefix("refs/heads/").map(str::to_owned))
            }
        };
        let url = read(&common.join("config")).and_then(|text| origin(&text));
        Self { commit, branch, url }
    }
}

/// The address of the remote `origin`, without a password in it.
fn origin(config: &str) -> Option<String> {
    let section = config.split("[remote \"origin\"]").nth(1)?;
    let section = section.split("\n[").next().unwrap_or(section);
    let url = section.lines().find_map(|line| line.trim().strip_prefix("url")?.trim_start().strip_prefix('='))?.trim();
    Some(match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.split_once('@').map_or(rest, |(_, host)| host)),
        None => url.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_the_build_beats_the_project_and_so_on_down_to_the_image() {
        let mut order = Order::new("/src".into());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for name in ["A", "B", "C", "D", "E"] {
            order.environment.insert(name.into(), "image".into());
        }
        order.overrides.push(pair("E", "start"));
        order.batch_variables.extend([pair("E", "batch"), pair("D", "batch")]);
        order.project_variables.extend([pair("E", "project"), pair("D", "project"), pair("C", "project")]);
        let spec = [pair("B", "spec"), pair("C", "spec")];
        let variables = layered(&order, &spec, &[], builtin(&order, Path::new("/src"), "id"));
        let values: Vec<_> = ["A", "B", "C", "D", "E"].iter().map(|name| variables[*name].to_str().unwrap()).collect();
        assert_eq!(values, ["image", "spec", "project", "batch", "start"]);
        assert_eq!(variables["CODEBUILD_SRC_DIR"], "/src");
    }

    #[test]
    fn inside_codebuild_its_own_variables_stay() {
        let mut order = Order::new("/src".into());
        for (name, value) in [("CODEBUILD_BUILD_ARN", "arn"), ("CODEBUILD_SRC_DIR", "/codebuild/src"), ("CODEBUILD_CI", "true")] {
            order.environment.insert(name.into(), value.into());
        }
        let variables = layered(&order, &[], &[], builtin(&order, Path::new("/src"), "id"));
        assert_eq!((&variables["CODEBUILD_BUILD_ARN"], &variables["CODEBUILD_CI"]), (&"arn".into(), &"true".into()));
        assert_eq!(variables["CODEBUILD_BUILD_SUCCEEDING"], "1");
    }

    #[test]
    fn an_origin_loses_its_password() {
        let config =
            "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = https://ada:pw@git.example/shop.git\n\tfetch = x\n[branch \"main\"]\n";
        assert_eq!(origin(config).unwrap(), "https://git.example/shop.git");
        assert_eq!(origin("[remote \"origin\"]\nurl=git@git.example:shop.git\n").unwrap(), "git@git.example:shop.git");
        assert_eq!(origin("[core]\n"), None);
    }

    #[test]
    fn ids_are_uuids_and_differ() {
        let (one, other) = (uuid(), uuid());
        assert!(one.len() == 36 && one.as_bytes()[14] == b'4' && one != other, "{one}");
    }
}
