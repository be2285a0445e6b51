//! What an image is built from beside its files: base images and secrets; and an image that someone else has built.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, as_text};

/// A base image, and what it is today.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BaseImage {
    /// As the Dockerfile names it.
    pub image: String,
    /// The platform that it is wanted for, if the Dockerfile names one.
    pub platform: Option<String>,
    /// `sha256:…`: the digest of its manifest or list; of its configuration for what only the engine has.
    pub digest: String,
    /// Who said so.
    pub from: Authority,
}

/// Who said what a base image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// Its own name.
    Name,
    /// Its registry.
    Registry,
    /// The engine: it was made there and never came from a registry.
    Engine,
    /// The engine, because the registry did not answer.
    EngineInstead,
}

/// An image by a tag, which may move: `REPOSITORY:TAG`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageTag {
    /// The repository with its registry.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl FromStr for ImageTag {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("image", text, "needs to be `REPOSITORY@sha256:…`, or `REPOSITORY:TAG`");
        let (repository, tag) = text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).ok_or_else(wrong)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let blank = repository.is_empty() || repository.contains(|c: char| c.is_whitespace() || c == '@');
        if blank || tag.is_empty() || tag.len() > 128 || !tag.chars().all(allowed) {
            return Err(wrong());
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }
}

as_text!(ImageTag, "^[^@\\s]+:[A-Za-z0-9_.-]{1,128}$");

/// A secret that a build may mount, and where its value is: `ID` alone for the variable of this name, `id=ID,env=NAME` or
/// `id=ID,src=FILE`, as the Docker command line has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSecret {
    /// The name that the Dockerfile mounts it by.
    pub id: String,
    /// Where its value is.
    pub from: SecretFrom,
}

/// Where the value of a build's secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// In this variable.
    Env(String),
    /// In this file, from the configuration's directory.
    File(String),
}

impl fmt::Display for BuildSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            SecretFrom::Env(name) => write!(f, "id={},env={name}", self.id),
            SecretFrom::File(path) => write!(f, "id={},src={path}", self.id),
        }
    }
}

impl FromStr for BuildSecret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("build secret", text, "needs to be `NAME`, `id=ID,env=NAME` or `id=ID,src=FILE`");
        if !text.contains(['=', ',']) {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            let plain = !text.is_empty() && text.chars().all(allowed);
            return if plain { Ok(Self { id: text.to_owned(), from: SecretFrom::Env(text.to_owned()) }) } else { Err(wrong()) };
        }
        let (mut id, mut from) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("id", value)) if !value.is_empty() => id = Some(value.to_owned()),
                Some(("env", value)) if !value.is_empty() => from = Some(SecretFrom::Env(value.to_owned())),
                Some(("src" | "source", value)) if !value.is_empty() => from = Some(SecretFrom::File(value.to_owned())),
                _ => return Err(wrong()),
            }
        }
        let id = id.ok_or_else(wrong)?;
        let from = from.unwrap_or_else(|| SecretFrom::Env(id.clone()));
        Ok(Self { id, from })
    }
}

as_text!(BuildSecret, "^.+$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_needs_a_repository_and_a_port_is_none() {
        let parsed: ImageTag = "127.0.0.1:4566/shop/api:v1.2".parse().unwrap();
        assert_eq!((parsed.repository.as_str(), parsed.tag.as_str()), ("127.0.0.1:4566/shop/api", "v1.2"));
        for wrong in ["shop/api", "127.0.0.1:4566/shop/api", ":v1", "a b:v1", "a:v/1", "a:"] {
            assert!(wrong.parse::<ImageTag>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_a_variable_or_a_file() {
        for (text, shown) in [
            ("NPM_TOKEN", "id=NPM_TOKEN,env=NPM_TOKEN"),
            ("id=npm", "id=npm,env=npm"),
            ("id=npm,env=NPM_TOKEN", "id=npm,env=NPM_TOKEN"),
            ("id=npmrc,src=.npmrc", "id=npmrc,src=.npmrc"),
        ] {
            assert_eq!(text.parse::<BuildSecret>().unwrap().to_string(), shown);
        }
        for wrong in ["", "a b", "env=X", "id=", "id=a,type=file", "id=a,src="] {
            assert!(wrong.parse::<BuildSecret>().is_err(), "{wrong}");
        }
    }
}
