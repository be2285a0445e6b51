//! What a site's build is made of, as one digest: where it is the live release's, nothing has to be built.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use crate::model::{Exit, Failure, Sha256, UnitName};

/// The scheme of the digest: another one makes every site build once more.
const SCHEME: &str = "windlass site inputs 1";

/// Directories that a build or an installer fills: their content follows from the rest.
const FILLED: &[&str] = &["node_modules", ".git", ".next", ".vite", ".cache", ".turbo", ".parcel-cache", "coverage", ".windlass"];

/// Lockfiles that may lie above the site, in a workspace.
const LOCKFILES: &[&str] =
    &["package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", "yarn.lock", "bun.lock", "bun.lockb"];

/// Variables that differ from run to run and from machine to machine, and say nothing about what is built.
///
/// What names the commit counts: a page may show it.
const VOLATILE: &[&str] = &[
    "_",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "HOSTNAME",
    "TERM",
    "COLUMNS",
    "LINES",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "PATH",
    "TERM_PROGRAM",
    "COLORTERM",
    "LS_COLORS",
    "WINDLASS_CONFIG",
    "WINDLASS_ENV",
    "WORKSPACE",
    "WORKSPACE_TMP",
    "EXECUTOR_NUMBER",
    "NODE_NAME",
    "NODE_LABELS",
    "STAGE_NAME",
    "BUILD_ID",
    "BUILD_NUMBER",
    "BUILD_URL",
    "BUILD_TAG",
    "BUILD_DISPLAY_NAME",
    "JOB_NAME",
    "JOB_BASE_NAME",
    "JOB_URL",
    "JOB_DISPLAY_URL",
    "GIT_PREVIOUS_COMMIT",
    "GIT_PREVIOUS_SUCCESSFUL_COMMIT",
    "CODEBUILD_BUILD_ARN",
    "CODEBUILD_BUILD_ID",
    "CODEBUILD_BUILD_NUMBER",
    "CODEBUILD_START_TIME",
    "CODEBUILD_LOG_PATH",
    "CODEBUILD_SRC_DIR",
    "CODEBUILD_AUTH_TOKEN",
    "CODEBUILD_LAST_EXIT",
    "CODEBUILD_EXECUTION_ROLE_BUILD",
    "CODEBUILD_GOPATH",
];
/// The same, by how their names begin: what session managers and Jenkins set.
const VOLATILE_PREFIXES: &[&str] =
    &["XDG_", "SSH_", "DBUS_", "JENKINS_", "HUDSON_", "RUN_ARTIFACTS_", "RUN_CHANGES_", "RUN_TESTS_", "RUN_DISPLAY_"];

/// Those of a build's variables that may decide what it builds: all but the ones that differ from run to run.
#[must_use]
pub fn deciding(environment: &BTreeMap<OsString, OsString>) -> BTreeMap<String, String> {
    let texts = environment.iter().filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_string_lossy().into_owned())));
    texts
        .filter(|(name, _)| !VOLATILE.contains(&name.as_str()) && !VOLATILE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// The digest over all files in the site's `directory` save what is built into `output`, the lockfiles between it and `root`, the
/// command and the variables that reach its build. Nothing of it can be read back.
///
/// # Errors
/// [`Exit::Build`] if a file cannot be read.
pub fn digest(
    site: &UnitName,
    root: &Path,
    directory: &Path,
    output: &str,
    command: &str,
    variables: &BTreeMap<String, String>,
) -> Result<Sha256, Failure> {
    let failed = |path: &Path| Failure::new(Exit::Build, format!("site `{site}`: reading `{}` failed", path.display()));
    let mut text = Fields::default();
    text.add(SCHEME);
    text.add(command);
    text.add(output);
    for (name, value) in variables {
        text.add(name);
        text.add(value);
    }
    let built = directory.join(output);
    let skip = |entry: &walkdir::DirEntry| {
        let filled =
            entry.depth() > 0 && entry.file_type().is_dir() && entry.file_name().to_str().is_some_and(|name| FILLED.contains(&name));
        filled || (entry.depth() > 0 && entry.path() == built) || entry.file_name() == super::frozen::RECORD
    };
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().filter_entry(|entry| !skip(entry)) {
        let entry = entry.map_err(|error| failed(directory).because(error))?;
        let path = entry.path();
        if entry.path_is_symlink() {
            let target = std::fs::read_link(path).map_err(|error| failed(path).because(error))?;
            text.add(&path.strip_prefix(directory).unwrap_or(path).to_string_lossy());
            text.add(&target.to_string_lossy());
        } else if entry.file_type().is_file() {
            text.add(&path.strip_prefix(directory).unwrap_or(path).to_string_lossy());
            text.add(&of(path).map_err(|error| failed(path).because(error))?);
        }
    }
    for above in directory.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
        for path in LOCKFILES.iter().map(|name| above.join(name)).filter(|path| path.is_file()) {
            text.add(&path.to_string_lossy());
            text.add(&of(&path).map_err(|error| failed(&path).because(error))?);
        }
    }
    Ok(Sha256::of(text.0.as_bytes()))
}

/// The digest of files that are taken out of an image: `image` is all that went into it, or its address.
#[must_use]
pub fn of_image(image: &str, path: &str, source_maps: bool) -> Sha256 {
    let mut text = Fields::default();
    for field in ["windlass site out of an image 1", image, path, if source_maps { "with source maps" } else { "" }] {
        text.add(field);
    }
    Sha256::of(text.0.as_bytes())
}

fn of(path: &Path) -> std::io::Result<String> {
    Ok(Sha256::of_reader(File::open(path)?)?.0.to_string())
}

/// Fields with their lengths, so that no two lists of fields are the same text.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn add(&mut self, field: &str) {
        self.0.push_str(&field.len().to_string());
        self.0.push(':');
        self.0.push_str(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_reaches_the_build_changes_the_digest_and_what_it_writes_does_not() {
        let root = tempfile::tempdir().unwrap();
        let web = root.path().join("web");
        std::fs::create_dir_all(web.join("src")).unwrap();
        std::fs::write(web.join("src/main.js"), "1").unwrap();
        let with = |command: &str, value: &str| {
            let variables = BTreeMap::from([("VITE_API".to_owned(), value.to_owned())]);
            digest(&"web".parse().unwrap(), root.path(), &web, "dist", command, &variables).unwrap()
        };
        let first = with("build", "/api");
        assert_ne!(first, with("build it", "/api"));
        assert_ne!(first, with("build", "/v2"));
        std::fs::create_dir_all(web.join("dist")).unwrap();
        std::fs::create_dir_all(web.join("node_modules/x")).unwrap();
        std::fs::write(web.join("dist/index.html"), "x").unwrap();
        std::fs::write(web.join("node_modules/x/index.js"), "x").unwrap();
        assert_eq!(first, with("build", "/api"), "what is built or installed follows from the rest");
        std::fs::write(root.path().join("package-lock.json"), "{}").unwrap();
        let locked = with("build", "/api");
        assert_ne!(first, locked, "a workspace's lockfile counts");
        std::fs::write(web.join("src/main.js"), "2").unwrap();
        assert_ne!(locked, with("build", "/api"));
    }
}
