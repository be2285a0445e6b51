//! The image of a service, in `windlass.yml`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::{BuildSecret, ImageTag, ImageUri};

use super::words::{Duration, Platform};

/// The image of a service.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[serde(untagged)]
pub enum Image {
    /// Built elsewhere: `REPOSITORY@sha256:…`.
    Prebuilt(ImageUri),
    /// Built elsewhere, by a tag that may move: `REPOSITORY:TAG`.
    Tag(ImageTag),
    /// Built from the service's directory.
    Build(BuildImage),
}

/// By hand, because serde's own reading of an untagged enum forgets which key was wrong and where.
impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Image;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image (`REPOSITORY@sha256:…` or `REPOSITORY:TAG`), or a mapping that says how it is built")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Image, E> {
                if text.contains('@') {
                    return text.parse().map(Image::Prebuilt).map_err(E::custom);
                }
                text.parse().map(Image::Tag).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Image, A::Error> {
                BuildImage::deserialize(MapAccessDeserializer::new(map)).map(Image::Build)
            }
        }
        from.deserialize_any(Either)
    }
}

/// How an image is built.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildImage {
    /// From the service's directory.
    #[serde(default = "dockerfile")]
    pub dockerfile: String,
    /// The repository's name in the registry: `shop/api`.
    pub repository: String,
    /// `OS/ARCHITECTURE`.
    #[serde(default)]
    pub platform: Platform,
    /// The stage of the Dockerfile; the last if empty.
    #[serde(default)]
    pub target: String,
    /// Build arguments. They stay readable in the image's history: nothing secret.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// Secrets that the build may mount: a variable's name, `id=ID,env=NAME` or `id=ID,src=FILE`. They stay in no layer.
    #[serde(default)]
    pub secrets: Vec<BuildSecret>,
    /// Create the repository where it is absent: immutable tags, scan on push, a lifecycle rule.
    #[serde(default)]
    pub create: bool,
    /// Build anew after so long although nothing has changed, without what the builder remembers.
    #[serde(default)]
    pub max_age: Option<Duration>,
    /// Write a bill of materials (`CycloneDX`) of what the image's package managers have installed, to `.windlass/sbom/SERVICE.cdx.json`.
    #[serde(default)]
    pub sbom: bool,
}

/// What happens when ECR's scan of an image finds something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageFindings {
    /// Nobody asks.
    #[default]
    Ignore,
    /// It is said.
    Warn,
    /// The release ends before anything live changes; so it does where there is no scan. An image that is named by its digest counts as
    /// judged by whoever named it.
    Refuse,
}

fn dockerfile() -> String {
    "Dockerfile".to_owned()
}
