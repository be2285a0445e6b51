//! Nouns that cannot be wrong: a value of these types has been checked when it was made.
//!
//! Deliberately absent: I/O, async, and every word of AWS's SDK or Docker's API.

mod answer;
mod build;
mod ci;
mod definition;
mod digest;
mod failure;
mod headers;
mod image;
mod mask;
pub mod merge_keys;
mod name;
mod release;
pub mod yaml;

pub use answer::{Check, Finding, Status, Unfinished, UnitStatus, Verdict, Verification};
pub use build::{Authority, BaseImage, BuildSecret, ImageTag, SecretFrom};
pub use ci::CiSystem;
pub use definition::ANSWERED_ONLY;
pub use digest::{ImageDigest, Sha256};
pub use failure::{Exit, Failure, Refusal};
pub use headers::SharedHeaders;
pub use image::{BuildStep, ImageLayer, ImageRef, ImageUri, Made, Severity};
pub use mask::{Mask, sensitive};
pub use name::{Glob, Headers, ObjectKey, UnitKind, UnitName};
pub use release::{Commit, Over, Promoted, ReleaseId, Stage};

/// Why a text is not a value of the type that it was parsed as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}`: {why}")]
pub struct Invalid {
    /// What it should have been: "image digest", "unit name".
    pub what: &'static str,
    /// The text as it was given.
    pub text: String,
    /// The rule that it breaks.
    pub why: String,
}

impl Invalid {
    pub(crate) fn new(what: &'static str, text: &str, why: impl Into<String>) -> Self {
        Self { what, text: text.to_owned(), why: why.into() }
    }
}

/// Serialises a type through its `Display` and parses it back through its `FromStr`.
macro_rules! as_text {
    ($type:ty, $schema:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $schema })
            }
        }
    };
}
pub(crate) use as_text;
