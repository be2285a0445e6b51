//! What a site's build is made of, as one digest: where it is the live release's, nothing has to be built.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use crate::model::{Exit, Failure, Sha256, UnitName};

use super::reach;

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

/// The digest over all files in the site's `directory` save what is built into `output`, what its build may read outside of it, the
/// lockfiles between it and `root`, the command and the variables that reach its build. Nothing of it can be read back.
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
    let whole = reach::cleaned(&built).map_err(|error| failed(&built).because(error))?;
    let skip = |entry: &walkdir::DirEntry| {
        let filled = entry.file_type().is_dir() && entry.file_name().to_str().is_some_and(|name| FILLED.contains(&name));
        let filled = filled || entry.path() == built || entry.path() == whole;
        entry.depth() > 0 && filled || entry.file_name() == super::frozen::RECORD
    };
    let mut add = |entry: walkdir::DirEntry, from: &Path| {
        let path = entry.path();
        let named = path.strip_prefix(from).unwrap_or(path).to_string_lossy();
        if entry.path_is_symlink() {
            let target = std::fs::read_link(path).map_err(|error| failed(path).because(error))?;
            text.add(&named);
            text.add(&target.to_string_lossy());
        } else if entry.file_type().is_file() {
            text.add(&named);
            text.add(&of(path).map_err(|error| failed(path).because(error))?);
        }
        Ok(())
    };
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().filter_entry(|entry| !skip(entry)) {
        add(entry.map_err(|error| failed(directory).because(error))?, directory)?;
    }
    let elsewhere = reach::built(root);
    let skip = |entry: &walkdir::DirEntry| {
        skip(entry) || entry.file_type().is_dir() && entry.depth() > 0 && elsewhere.contains(&*entry.file_name().to_string_lossy())
    };
    let top = reach::cleaned(root).map_err(|error| failed(root).because(error))?;
    for path in reach::outside(&top, directory, command, &skip).map_err(|error| failed(directory).because(error))? {
        for entry in walkdir::WalkDir::new(&path).sort_by_file_name().into_iter().filter_entry(|entry| !skip(entry)) {
            let entry = entry.map_err(|error| failed(&path).because(error))?;
            let at_the_top = entry.depth() == 1 && path == top && !entry.file_type().is_dir();
            if !at_the_top || reach::configures(&entry.file_name().to_string_lossy()) {
                add(entry, &top)?;
            }
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

    /// Files by their paths; then which of them the build of `apps/web` reaches.
    fn reached(files: &[(&str, &str)], command: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (path, text) in files {
            write(path, text);
        }
        let digest =
            || digest(&"web".parse().unwrap(), root.path(), &root.path().join("apps/web"), "dist", command, &BTreeMap::new()).unwrap();
        let first = digest();
        let reached = |(path, text): &&(&str, &str)| {
            write(path, &format!("{text} "));
            let other = digest() != first;
            write(path, text);
            other
        };
        files.iter().filter(reached).map(|(path, _)| (*path).to_owned()).collect()
    }

    #[test]
    fn what_sources_name_outside_of_the_site_counts() {
        let others = [("apps/api/main.py", "x"), ("plan.json", "{}"), ("apps/web/dist/a.js", "import '../../../plan.json'")];
        let with = |mine: &[(&'static str, &'static str)], command: &str| {
            let files: Vec<_> = mine.iter().chain(&others).copied().collect();
            reached(&files, command)
        };
        let shared = ("shared/src/text.ts", "x");
        let import = ("apps/web/src/main.ts", "import { a } from '../../../shared/src/text'\nconst b = [...a]; import c from './d'");
        assert_eq!(with(&[shared, import], "vite build"), [shared.0, import.0], "an import without its ending");
        assert_eq!(with(&[shared, ("apps/web/a.js", "import '../b'; f(...x); 1..toFixed()")], "b"), ["apps/web/a.js"]);
        let package = [("shared/package.json", "{}"), shared, ("shared/more.ts", "x")];
        let linked = ("apps/web/package.json", r#"{"dependencies": {"shared": "file:../../shared"}}"#);
        assert_eq!(with(&[&package[..], &[linked]].concat(), "b").len(), 4, "a package counts as a whole");
        assert_eq!(with(&[shared, ("apps/web/src/a.sh", "")], "cp -r ../../shared/src dist").len(), 2, "by the command");
        let script = ("apps/web/scripts/build.sh", "cp \"$PWD/../../shared/src/text.ts\" dist");
        assert_eq!(with(&[shared, script], "sh scripts/build.sh").len(), 2, "a script's paths count from where the build runs");
        let all = with(&[shared, ("apps/web/a.js", "x")], "cd ../.. && make web");
        assert_eq!(all, [shared.0, "apps/web/a.js", "apps/api/main.py"], "but for what may be written there by us");
        let config = ("apps/web/vite.config.js", "resolve(__dirname, '..', 'shared')");
        assert!(with(&[shared, config], "b").contains(&"apps/api/main.py".to_owned()));
        let through = ("shared/src/text.ts", "export * from '../../deep/x.js'");
        assert_eq!(with(&[through, import, ("deep/x.js", "1")], "b").len(), 3, "what these name in turn");
    }

    #[test]
    fn packages_of_the_workspace_count() {
        let files = [
            ("package.json", r#"{"workspaces": ["apps/*", "packages/*"]}"#),
            ("plan.json", "{}"),
            ("tsconfig.base.json", "{}"),
            ("apps/web/package.json", r#"{"name": "@q/web", "dependencies": {"@q/ui": "1.0.0", "react": "19"}}"#),
            ("apps/api/package.json", r#"{"name": "@q/api", "dependencies": {"@q/ui": "1.0.0"}}"#),
            ("apps/api/src/main.ts", "x"),
            ("packages/ui/package.json", r#"{"name": "@q/ui", "peerDependencies": {"@q/base": "1"}}"#),
            ("packages/ui/src/a.ts", "x"),
            ("packages/ui/dist/a.js", "x"),
            ("packages/base/package.json", r#"{"name": "@q/base"}"#),
            ("packages/base/src/b.ts", "x"),
            (".gitignore", "dist/\nnode_modules\n"),
        ];
        let expected = ["package.json", "tsconfig.base.json", "apps/web/package.json", "packages/ui/package.json", "packages/ui/src/a.ts"];
        let expected = [&expected[..], &["packages/base/package.json", "packages/base/src/b.ts"]].concat();
        assert_eq!(reached(&files, "vite build"), expected);
        let mut nx = files.to_vec();
        nx.push(("nx.json", "{}"));
        assert!(reached(&nx, "nx build web").contains(&"apps/api/src/main.ts".to_owned()), "its graph is its own");
    }
}
