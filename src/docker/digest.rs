//! The digest of an image before it is built: what it would be built from.

use std::collections::BTreeMap;
use std::fs;

use crate::model::{BaseImage, Sha256};

use super::context::{Context, Kind, within};
use super::error::DockerError;

/// Changes when the encoding or the way of building does, so that no image of another way is taken for this one.
const SCHEME: &[u8] = b"windlass build context 3";

/// How an image is built from its context.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The Dockerfile's path, from the context's root.
    pub dockerfile: String,
    /// Build arguments. They end up in the image's history: no place for secrets.
    pub args: BTreeMap<String, String>,
    /// The stage to stop at; the last one if `None`.
    pub target: Option<String>,
    /// The platform: "linux/amd64".
    pub platform: String,
}

/// The digest of `context`, `recipe` and `bases`: the same for the same files, wherever and whenever they are checked out.
///
/// It covers the Dockerfile, every entry with its path, kind, executable bit, link target and content, the build arguments, the target
/// and the platform, every base image with what it is today, and the `period`: a number that changes when an image has to be built again
/// although nothing else has. Each field has its length before it. Deliberately absent: times and owners; and what `apt-get upgrade`
/// would fetch, which only a build can tell.
///
/// # Errors
/// When the Dockerfile cannot be read.
pub fn digest(context: &Context, recipe: &Recipe, bases: &[BaseImage], period: Option<u64>) -> Result<Sha256, DockerError> {
    let dockerfile = within(&recipe.dockerfile)?;
    let path = context.root.join(&dockerfile);
    let recipe_text = fs::read(&path).map_err(|source| DockerError::Read { path, source })?;

    let mut encoded = Vec::with_capacity(128 * context.entries.len());
    let mut field = |bytes: &[u8]| {
        encoded.extend((bytes.len() as u64).to_le_bytes());
        encoded.extend(bytes);
    };
    field(SCHEME);
    field(dockerfile.as_bytes());
    field(&recipe_text);
    field(&(context.entries.len() as u64).to_le_bytes());
    for entry in &context.entries {
        field(entry.path.as_bytes());
        match &entry.kind {
            Kind::File { executable, content, .. } => {
                field(if *executable { b"executable" } else { b"file" });
                field(&content.0);
            }
            Kind::Directory => field(b"directory"),
            Kind::Symlink { target } => {
                field(b"symlink");
                field(target.as_bytes());
            }
        }
    }
    field(&(recipe.args.len() as u64).to_le_bytes());
    for (name, value) in &recipe.args {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    field(recipe.target.as_deref().unwrap_or_default().as_bytes());
    field(recipe.platform.as_bytes());
    field(&(bases.len() as u64).to_le_bytes());
    for base in bases {
        field(base.image.as_bytes());
        field(base.platform.as_deref().unwrap_or_default().as_bytes());
        field(base.digest.as_bytes());
    }
    field(&period.map_or_else(Vec::new, |period| period.to_le_bytes().to_vec()));
    Ok(Sha256::of(&encoded))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::super::context::{scan, tests::plant};
    use super::*;

    fn recipe() -> Recipe {
        Recipe { dockerfile: "Dockerfile".into(), args: BTreeMap::new(), target: None, platform: "linux/amd64".into() }
    }

    fn of(root: &Path, recipe: &Recipe) -> Sha256 {
        digest(&scan(root, &recipe.dockerfile).unwrap(), recipe, &[], None).unwrap()
    }

    #[test]
    fn two_checkouts_of_one_commit_have_one_digest() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        plant(one.path());
        plant(two.path());
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::options().append(true).open(two.path().join("a.py")).unwrap().set_modified(long_ago).unwrap();
        fs::set_permissions(two.path().join("a.py"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(of(one.path(), &recipe()), of(two.path(), &recipe()));
        let dotted = Recipe { dockerfile: "./Dockerfile".into(), ..recipe() };
        assert_eq!(of(one.path(), &recipe()), of(two.path(), &dotted));
    }

    #[test]
    fn every_change_that_a_build_could_see_changes_the_digest() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        plant(root);
        symlink("foobar", root.join("link")).unwrap();
        let mut seen = vec![of(root, &recipe())];
        let changes: [&dyn Fn(); 7] = [
            &|| fs::write(root.join("a.py"), "changed").unwrap(),
            &|| fs::rename(root.join("a.py"), root.join("b.py")).unwrap(),
            &|| fs::set_permissions(root.join("b.py"), fs::Permissions::from_mode(0o755)).unwrap(),
            &|| fs::create_dir(root.join("another")).unwrap(),
            &|| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("x.log", root.join("link")).unwrap();
            },
            &|| fs::write(root.join("Dockerfile"), "FROM scratch\n").unwrap(),
            &|| fs::write(root.join(".dockerignore"), "*.log").unwrap(),
        ];
        for change in changes {
            change();
            seen.push(of(root, &recipe()));
        }
        let args = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for other in [
            Recipe { args: args("A", "bc"), ..recipe() },
            Recipe { args: args("Ab", "c"), ..recipe() },
            Recipe { target: Some("base".into()), ..recipe() },
            Recipe { platform: "linux/arm64".into(), ..recipe() },
            Recipe { dockerfile: "a/Dockerfile".into(), ..recipe() },
        ] {
            seen.push(of(root, &other));
        }
        let base = |image: &str, digest: &str| BaseImage {
            image: image.to_owned(),
            platform: None,
            digest: digest.to_owned(),
            from: crate::model::Authority::Registry,
        };
        let context = scan(root, "Dockerfile").unwrap();
        for (bases, period) in [
            (vec![base("a", "1")], None),
            (vec![base("a", "2")], None),
            (vec![base("a", "2"), base("b", "1")], None),
            (Vec::new(), Some(0)),
            (Vec::new(), Some(1)),
        ] {
            seen.push(digest(&context, &recipe(), &bases, period).unwrap());
        }
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }
}
