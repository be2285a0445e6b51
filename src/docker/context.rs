//! The build context: the files that an engine is sent.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::error::DockerError;
use super::ignore::{Patterns, clean};
use super::walk::walk;

/// What the engine is sent of a directory.
///
/// Deliberately absent: owners, and of the mode all but "may it be executed", so that two checkouts of one commit are the same
/// context; sockets, pipes and devices, which no checkout holds.
#[derive(Debug, Clone)]
pub struct Context {
    /// The directory.
    pub root: PathBuf,
    /// Its files, sorted by path, so that a directory comes before what is in it.
    pub entries: Vec<Entry>,
    /// Of these, what is listed for the engine alone: an ignored Dockerfile or ignore file, which no step sees.
    pub hidden: Vec<String>,
}

/// One file of a build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path from the context's root, with `/`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
}

/// What an entry of a build context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// May its owner execute it?
        executable: bool,
        /// When it was last changed, in seconds since 1970. It goes into the image, as with Docker, because servers make entity tags
        /// of it; it is no part of the digest.
        modified: u64,
        /// What it holds.
        content: Content,
    },
    /// A directory, also an empty one.
    Directory,
    /// A symbolic link, which is sent as such and not followed.
    Symlink {
        /// Where it points, as it is written.
        target: String,
    },
}

/// The BLAKE3 of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content(pub(super) [u8; 32]);

/// Lists what Docker would send of `root`, whose Dockerfile is at `dockerfile` from there.
///
/// Every file is read, so that a context says what it holds. What windlass itself leaves in a checkout (`.windlass`,
/// `.windlass-build.json`) is no part of it. Reads `<Dockerfile>.dockerignore`, else `.dockerignore`. The Dockerfile and `.dockerignore`
/// are always listed: the engine needs them, and itself hides them from `COPY` if they are ignored.
///
/// # Errors
/// [`DockerError::NoContext`], [`DockerError::NoDockerfile`], [`DockerError::DockerfileOutside`], [`DockerError::BadIgnorePattern`], and
/// what cannot be read.
pub fn scan(root: &Path, dockerfile: &str) -> Result<Context, DockerError> {
    if !root.is_dir() {
        return Err(DockerError::NoContext { path: root.to_owned() });
    }
    let dockerfile = within(dockerfile)?;
    if !root.join(&dockerfile).is_file() {
        return Err(DockerError::NoDockerfile { path: root.join(&dockerfile) });
    }
    let (patterns, hidden) = patterns(root, &dockerfile)?;
    let mut entries = walk(root, &patterns)?;
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Context { root: root.to_owned(), entries, hidden })
}

/// A Dockerfile's path, cleaned, and refused if it leaves the context.
pub(super) fn within(dockerfile: &str) -> Result<String, DockerError> {
    let cleaned = clean(dockerfile);
    if cleaned.starts_with('/') || cleaned == ".." || cleaned.starts_with("../") {
        return Err(DockerError::DockerfileOutside { path: dockerfile.to_owned() });
    }
    Ok(cleaned)
}

/// The patterns of the ignore file, and which of the files that the engine needs they leave out.
fn patterns(root: &Path, dockerfile: &str) -> Result<(Patterns, Vec<String>), DockerError> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        let file = root.join(name);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(DockerError::Read { path: file, source }),
        };
        let text = String::from_utf8_lossy(&bytes);
        let needed = [".dockerignore", dockerfile];
        let parse = |always: &[&str]| {
            Patterns::parse(&text, always).map_err(|pattern| DockerError::BadIgnorePattern { file: file.clone(), pattern })
        };
        let as_written = parse(&[])?;
        let hidden = needed.into_iter().filter(|path| as_written.excludes(path, None).0).map(str::to_owned).collect();
        return Ok((parse(&needed)?, hidden));
    }
    Ok((Patterns::default(), Vec::new()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The tree that the golden table is about. A name that ends in `/` is an empty directory.
    const TREE: [&str; 24] = [
        "Dockerfile",
        "README.md",
        "a.py",
        "a/Dockerfile",
        "a/b/c.py",
        "a/b/keep.log",
        "a/b/x.log",
        "a/keep.log",
        "a/x.log",
        "build/out.js",
        "build/sub/keep.js",
        "build/sub/out.js",
        "empty/",
        "foo/bar",
        "foo/baz/qux",
        "foobar",
        "keep.log",
        "node_modules/p/index.js",
        "node_modules/q/index.js",
        "web/node_modules/p/index.js",
        "web/src/main.js",
        "with space/file name",
        "x.log",
        "#hash",
    ];

    /// Patterns, and what of the tree's files they leave out. Checked against the Docker command line by `engine_tests`.
    pub(in crate::docker) const GOLDEN: [(&str, &[&str]); 26] = [
        ("", &[]),
        ("*.log", &["keep.log", "x.log"]),
        ("**/*.log", &["a/b/keep.log", "a/b/x.log", "a/keep.log", "a/x.log", "keep.log", "x.log"]),
        ("**/*.log\n!**/keep.log", &["a/b/x.log", "a/x.log", "x.log"]),
        ("*.log\n!keep.log", &["x.log"]),
        ("!keep.log\n*.log", &["keep.log", "x.log"]),
        ("foo", &["foo/bar", "foo/baz/qux"]),
        ("foo/", &["foo/bar", "foo/baz/qux"]),
        ("/foo", &["foo/bar", "foo/baz/qux"]),
        ("./foo/../foo//baz", &["foo/baz/qux"]),
        ("node_modules", &["node_modules/p/index.js", "node_modules/q/index.js"]),
        ("**/node_modules", &["node_modules/p/index.js", "node_modules/q/index.js", "web/node_modules/p/index.js"]),
        ("build\n!build/sub/keep.js", &["build/out.js", "build/sub/out.js"]),
        ("build/*\n!build/sub", &["build/out.js"]),
        ("build\n!**/keep.js", &["build/out.js", "build/sub/keep.js", "build/sub/out.js"]),
        ("node_modules/**\n!node_modules/q", &["node_modules/p/index.js"]),
        ("# a comment\n  # not one\n#hash\n\\#hash", &["#hash"]),
        (".", &[]),
        ("with space", &["with space/file name"]),
        ("  with space/file name  ", &["with space/file name"]),
        ("fo?\nfoo[a-c]ar", &["foo/bar", "foo/baz/qux", "foobar"]),
        ("foo/**/qux\n*/b", &["a/b/c.py", "a/b/keep.log", "a/b/x.log", "foo/baz/qux"]),
        ("*/b\n!**/keep.log", &["a/b/c.py", "a/b/keep.log", "a/b/x.log"]),
        ("foo\n!foo/baz\nfoo*", &["foo/bar", "foobar"]),
        (
            "**\n!web/src\n! a.py",
            &[
                "#hash",
                "README.md",
                "a/Dockerfile",
                "a/b/c.py",
                "a/b/keep.log",
                "a/b/x.log",
                "a/keep.log",
                "a/x.log",
                "build/out.js",
                "build/sub/keep.js",
                "build/sub/out.js",
                "empty/",
                "foo/bar",
                "foo/baz/qux",
                "foobar",
                "keep.log",
                "node_modules/p/index.js",
                "node_modules/q/index.js",
                "web/node_modules/p/index.js",
                "with space/file name",
                "x.log",
            ],
        ),
        ("empty\nDockerfile\n.dockerignore\n**/Dockerfile\r\n", &["a/Dockerfile", "empty/"]),
    ];

    pub(in crate::docker) fn plant(root: &Path) {
        for name in TREE {
            let path = root.join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, name).unwrap();
            }
        }
        fs::write(root.join("Dockerfile"), "FROM scratch\nCOPY . /context/\n").unwrap();
    }

    /// Files, and empty directories with a `/`, as the tree above names them.
    fn listed(root: &Path) -> Vec<String> {
        let entries = scan(root, "Dockerfile").unwrap().entries;
        let names = entries.iter().filter_map(|entry| match entry.kind {
            Kind::Directory => (entry.path == "empty").then(|| "empty/".to_owned()),
            _ => Some(entry.path.clone()),
        });
        names.filter(|name| name != ".dockerignore").collect()
    }

    #[test]
    fn dockerignore_leaves_out_what_the_golden_table_says() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        for (patterns, left_out) in GOLDEN {
            fs::write(root.path().join(".dockerignore"), patterns).unwrap();
            let mut expected: Vec<_> = TREE.iter().filter(|name| !left_out.contains(name)).map(|name| (*name).to_owned()).collect();
            expected.sort();
            assert_eq!(listed(root.path()), expected, "{patterns:?}");
        }
    }

    #[test]
    fn the_dockerfiles_own_ignore_file_comes_first() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        fs::write(root.path().join(".dockerignore"), "*.py").unwrap();
        fs::write(root.path().join("Dockerfile.dockerignore"), "*.log").unwrap();
        let names = listed(root.path());
        assert!(names.contains(&"a.py".to_owned()) && !names.contains(&"x.log".to_owned()));
        let other = scan(root.path(), "./a/Dockerfile").unwrap();
        assert!(other.entries.iter().all(|entry| entry.path != "a.py"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(scan(&root.path().join("gone"), "Dockerfile"), Err(DockerError::NoContext { .. })));
        assert!(matches!(scan(root.path(), "Dockerfile"), Err(DockerError::NoDockerfile { .. })));
        assert!(matches!(scan(root.path(), "../Dockerfile"), Err(DockerError::DockerfileOutside { .. })));
        plant(root.path());
        fs::write(root.path().join(".dockerignore"), "ok\n[").unwrap();
        let error = scan(root.path(), "Dockerfile").unwrap_err();
        assert!(error.to_string().contains(".dockerignore") && error.to_string().contains("`[`"), "{error}");
    }

    #[test]
    fn kinds_are_told_apart_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path());
        std::os::unix::fs::symlink("../foo", root.path().join("a/link")).unwrap();
        fs::set_permissions(root.path().join("a.py"), fs::Permissions::from_mode(0o755)).unwrap();
        let entries = scan(root.path(), "Dockerfile").unwrap().entries;
        let kind = |path: &str| entries.iter().find(|entry| entry.path == path).map(|entry| entry.kind.clone());
        assert_eq!(kind("a/link"), Some(Kind::Symlink { target: "../foo".into() }));
        assert!(matches!(kind("a.py"), Some(Kind::File { size: 4, executable: true, modified: 1.., .. })));
        assert!(matches!(kind("foobar"), Some(Kind::File { size: 6, executable: false, .. })));
        assert_eq!(kind("empty"), Some(Kind::Directory));
        assert!(entries.is_sorted_by(|a, b| a.path < b.path));
    }
}
