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

/// Where the handler lies in an image.
const DIRECTORY: &str = "/opt/windlass";

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

    /// All files of an image's handler.
    #[must_use]
    pub fn files(self) -> [File; 2] {
        [self.handler(), if self == Self::Prisma { NODE } else { PYTHON }]
    }

    /// What runs the handler once, with `event` as its argument, without anything being added to an image.
    ///
    /// ECS takes at most 8,192 characters of overrides (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>),
    /// so the handler is deflated.
    #[must_use]
    pub fn inline(self, event: &serde_json::Value) -> Vec<String> {
        let packed = STANDARD.encode(deflated(self.handler().text));
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

    /// The Dockerfile of an image that is made of `base`.
    #[must_use]
    pub fn dockerfile(self, base: &str) -> String {
        let (program, module) = match self {
            Self::Django => ("\"python3\", \"-u\"", "windlass_django"),
            Self::Command => ("\"python3\", \"-u\"", "windlass_command"),
            Self::Prisma => ("\"node\"", "windlass_prisma.mjs"),
        };
        let [handler, runtime] = self.files();
        format!(
            "FROM {base}\nCOPY {} {} {DIRECTORY}/\nENTRYPOINT [{program}, \"{DIRECTORY}/{}\", \"{module}\"]\nCMD []\n",
            handler.name, runtime.name, runtime.name
        )
    }

    /// The tag of the image that is made of the image with this digest: another base or another handler is another image.
    #[must_use]
    pub fn tag(self, base: &ImageDigest) -> String {
        let text = format!("{}{}{}", self.dockerfile(&base.to_string()), self.files()[0].text, self.files()[1].text);
        let mut tag = format!("migrate-{}", Sha256::of(text.as_bytes()));
        tag.truncate("migrate-".len() + 24);
        tag
    }
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
            assert!(overrides.len() < 7_000, "{kind:?}: {}", overrides.len());
        }
    }

    #[test]
    fn the_tag_follows_the_base() {
        let digest = |digit: &str| -> ImageDigest { format!("sha256:{}", digit.repeat(64)).parse().unwrap() };
        assert_eq!(Kind::Django.tag(&digest("1")), Kind::Django.tag(&digest("1")));
        assert_ne!(Kind::Django.tag(&digest("1")), Kind::Django.tag(&digest("2")));
        assert_ne!(Kind::Django.tag(&digest("1")), Kind::Command.tag(&digest("1")));
        assert_eq!(Kind::Django.tag(&digest("1")).len(), 32);
    }
}
