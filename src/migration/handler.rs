//! The handlers that windlass ships, and the image that is made of a release's own with one of them.
//!
//! They lie in `docker/migration-handler`, small enough to be read; nothing is added to the application's code.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::model::{ImageDigest, Sha256};

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub text: &'static str,
}

const DJANGO: File = File { name: "windlass_django.py", text: include_str!("../../docker/migration-handler/windlass_django.py") };
const PRISMA: File = File { name: "windlass_prisma.mjs", text: include_str!("../../docker/migration-handler/windlass_prisma.mjs") };
const COMMAND: File = File { name: "windlass_command.py", text: include_str!("../../docker/migration-handler/windlass_command.py") };
const PYTHON: File = File { name: "windlass_runtime.py", text: include_str!("../../docker/migration-handler/windlass_runtime.py") };
const NODE: File = File { name: "windlass_runtime.mjs", text: include_str!("../../docker/migration-handler/windlass_runtime.mjs") };
const PYTHON_SECRETS: File = File { name: "windlass_secrets.py", text: include_str!("../../docker/migration-handler/windlass_secrets.py") };
const NODE_SECRETS: File = File { name: "windlass_secrets.mjs", text: include_str!("../../docker/migration-handler/windlass_secrets.mjs") };

/// What copies an application and its packages into one folder of an image, for a zip.
pub const BUNDLE: File = File { name: "windlass_bundle.py", text: include_str!("../../docker/migration-handler/windlass_bundle.py") };

/// Prisma's engine without native code, and what connects it to PostgreSQL: every version is pinned, and every package's digest.
pub const ENGINE: [File; 2] = [
    File { name: "package.json", text: include_str!("../../docker/migration-handler/prisma/package.json") },
    File { name: "package-lock.json", text: include_str!("../../docker/migration-handler/prisma/package-lock.json") },
];

/// Where the handler lies in an image.
const DIRECTORY: &str = "/opt/windlass";

/// Where [`BUNDLE`] copies to.
pub const BUNDLED: &str = "/opt/windlass/bundle";

/// The folder of a zip that holds the handler: a name that no application has.
const PACKAGE: &str = "_windlass";

/// A framework that windlass has a handler for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Python, with the application's own Django.
    Django,
    /// Node, with the application's own Prisma or the bundle's.
    Prisma,
    /// Any command, in an image with Python.
    Command,
}

impl Kind {
    /// What migrates: the handler without its runtime.
    #[must_use]
    pub fn handler(self) -> File {
        match self {
            Self::Django => DJANGO,
            Self::Prisma => PRISMA,
            Self::Command => COMMAND,
        }
    }

    /// All files of an image's handler: itself, its runtime, and what reads secrets.
    #[must_use]
    pub fn files(self) -> [File; 3] {
        match self {
            Self::Prisma => [PRISMA, NODE, NODE_SECRETS],
            _ => [self.handler(), PYTHON, PYTHON_SECRETS],
        }
    }

    /// What the handler adds to a function's zip, by path: itself, and a module of the name that the function is configured with
    /// (`FILE.FUNCTION`); `None` if that is no name of a handler.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html#naming>
    #[must_use]
    pub fn in_zip(self, configured: &str) -> Option<Vec<(String, String)>> {
        let (module, function) = configured.rsplit_once('.')?;
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
        let module = if self == Self::Prisma { module.to_owned() } else { module.replace('.', "/") };
        let is_path = module.split('/').all(|part| !part.is_empty() && part.trim_matches('.') == part);
        if !is_name(function) || !is_path {
            return None;
        }
        let [handler, _, secrets] = self.files();
        let mut files: Vec<(String, String)> =
            [handler, secrets].iter().map(|file| (format!("{PACKAGE}/{}", file.name), file.text.to_owned())).collect();
        if self == Self::Prisma {
            let up = if module.contains('/') { "../".repeat(module.matches('/').count()) } else { "./".to_owned() };
            let text = format!(
                "import {{ handler }} from \"{up}{PACKAGE}/{}\";\nimport {{ guarded }} from \"{up}{PACKAGE}/{}\";\nconst made = guarded(handler);\nexport {{ made as {function} }};\n",
                handler.name, secrets.name
            );
            files.push((format!("{module}.mjs"), text));
        } else {
            let [handler, secrets] = [handler, secrets].map(|file| file.name.trim_end_matches(".py"));
            let text = format!(
                "from {PACKAGE}.{handler} import handler as windlass\nfrom {PACKAGE}.{secrets} import guarded\n\n{function} = guarded(windlass)\n"
            );
            files.extend([(format!("{PACKAGE}/__init__.py"), String::new()), (format!("{module}.py"), text)]);
        }
        Some(files)
    }

    /// What runs the handler once, with `event` as its argument, without anything being added to an image.
    ///
    /// ECS takes at most 8,192 characters of overrides (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>),
    /// so the handler is deflated.
    #[must_use]
    pub fn inline(self, event: &serde_json::Value) -> Vec<String> {
        let text = self.handler().text;
        // Python's lines keep their beginnings.
        let text = if self == Self::Prisma { uncommented(text) } else { text.to_owned() };
        let packed = STANDARD.encode(deflated(&text));
        let event = event.to_string();
        let python = format!("import base64,zlib;exec(zlib.decompress(base64.b64decode('{packed}'),-15))");
        let node = format!(
            "import('data:text/javascript;base64,'+require('zlib').inflateRawSync(Buffer.from('{packed}','base64')).toString('base64'))"
        );
        let argv: [&str; 5] = match self {
            Self::Prisma => ["node", "-e", &node, "--", &event],
            _ => ["python3", "-u", "-c", &python, &event],
        };
        argv.map(str::to_owned).to_vec()
    }

    /// The Dockerfile of an image that is made of `base`; with `node_modules` ([`ENGINE`], installed) where it brings an engine along.
    #[must_use]
    pub fn dockerfile(self, base: &str, engine: bool) -> String {
        let (program, module) = match self {
            Self::Django => ("\"python3\", \"-u\"", "windlass_django"),
            Self::Command => ("\"python3\", \"-u\"", "windlass_command"),
            Self::Prisma => ("\"node\"", "windlass_prisma.mjs"),
        };
        let [handler, runtime, secrets] = self.files();
        let engine = if engine { format!("COPY node_modules {DIRECTORY}/node_modules/\n") } else { String::new() };
        format!(
            "FROM {base}\nCOPY {} {} {} {DIRECTORY}/\n{engine}ENTRYPOINT [{program}, \"{DIRECTORY}/{}\", \"{module}\"]\nCMD []\n",
            handler.name, runtime.name, secrets.name, runtime.name
        )
    }

    /// The Dockerfile of an image whose folder [`BUNDLED`] holds the application of `base` with its packages.
    #[must_use]
    pub fn bundling(base: &str) -> String {
        // Only root is sure to read and write everything.
        format!("FROM {base}\nUSER 0\nCOPY {0} {DIRECTORY}/\nRUN [\"python3\", \"{DIRECTORY}/{0}\", \"{BUNDLED}\"]\n", BUNDLE.name)
    }

    /// The tag of the image that is made of the image with this digest: another base or another handler is another image.
    #[must_use]
    pub fn tag(self, base: &ImageDigest, engine: bool) -> String {
        let engine = if engine { ENGINE[1].text } else { "" };
        let files: Vec<&str> = self.files().iter().map(|file| file.text).collect();
        let text = format!("{}{}{engine}", self.dockerfile(&base.to_string(), !engine.is_empty()), files.concat());
        let mut tag = format!("migrate-{}", Sha256::of(text.as_bytes()));
        tag.truncate("migrate-".len() + 24);
        tag
    }
}

fn uncommented(text: &str) -> String {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//") && !line.starts_with("/**"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn deflated(text: &str) -> Vec<u8> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    drop(deflate.write_all(text.as_bytes()));
    deflate.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_fits_into_the_overrides_of_a_task() {
        let event = serde_json::json!({ "action": "migrate", "mark": "20261121T103219123Z-8f14b3f52b4d/main/12", "databases": ["default", "audit"] });
        for kind in [Kind::Django, Kind::Prisma] {
            let overrides = serde_json::json!({ "containerOverrides": [{ "name": "web", "command": kind.inline(&event) }] }).to_string();
            assert!(overrides.len() < 7_200, "{kind:?}: {}", overrides.len());
        }
    }

    #[test]
    fn the_tag_follows_the_base() {
        let digest = |digit: &str| -> ImageDigest { format!("sha256:{}", digit.repeat(64)).parse().unwrap() };
        assert_eq!(Kind::Django.tag(&digest("1"), false), Kind::Django.tag(&digest("1"), false));
        assert_ne!(Kind::Django.tag(&digest("1"), false), Kind::Django.tag(&digest("2"), false));
        assert_ne!(Kind::Django.tag(&digest("1"), false), Kind::Command.tag(&digest("1"), false));
        assert_ne!(Kind::Prisma.tag(&digest("1"), false), Kind::Prisma.tag(&digest("1"), true));
        assert_eq!(Kind::Django.tag(&digest("1"), false).len(), 32);
    }

    #[test]
    fn a_zip_has_the_module_that_the_function_is_configured_with() {
        let paths = |kind: Kind, name: &str| -> Vec<String> { kind.in_zip(name).unwrap().into_iter().map(|(path, _)| path).collect() };
        assert_eq!(
            paths(Kind::Django, "jobs.migrate.run"),
            ["_windlass/windlass_django.py", "_windlass/windlass_secrets.py", "_windlass/__init__.py", "jobs/migrate.py"]
        );
        assert_eq!(paths(Kind::Prisma, "index.handler").last().unwrap(), "index.mjs");
        let nested = Kind::Prisma.in_zip("dist/index.handler").unwrap().pop().unwrap().1;
        assert!(nested.contains("\"../_windlass/windlass_prisma.mjs\"") && nested.contains("made as handler"), "{nested}");
        assert_eq!(Kind::Django.in_zip("handler"), None);
        assert_eq!(Kind::Django.in_zip("../x.handler"), None);
    }
}
