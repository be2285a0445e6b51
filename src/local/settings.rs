//! Where the local cloud lives. Read from an environment that is given: this room does not look at its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::LocalError;

/// Where the local cloud lives.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its programs, logs and process ids. Several local clouds, on ports of their own, may share it.
    pub directory: PathBuf,
    /// The emulator's TCP port, on 127.0.0.1.
    pub port: u16,
    /// The database server's TCP port.
    pub database_port: u16,
    /// An access key's id and secret. The emulator lets `test` do everything; with `AUTH=true` in its environment it holds the keys of
    /// others, which its IAM has given out, against their policies.
    pub keys: (String, String),
    /// The environment of what is started. `PATH`, `DOCKER_HOST` and pip's and proxies' settings are of use; what could give access to
    /// an AWS account is taken out here.
    pub environment: BTreeMap<OsString, OsString>,
}

impl Settings {
    /// The settings of `environment`: `${XDG_CACHE_HOME:-$HOME/.cache}/windlass/local`, port 4566 or `WINDLASS_LOCAL_PORT`, and for the
    /// database 25432 or `WINDLASS_LOCAL_DATABASE_PORT`; the keys `test` and `test`, or `WINDLASS_LOCAL_ACCESS_KEY_ID` and
    /// `WINDLASS_LOCAL_SECRET_ACCESS_KEY`.
    ///
    /// # Errors
    /// [`LocalError::BadPort`], and [`LocalError::NoHome`] when neither variable is an absolute path.
    pub fn from_environment(environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, LocalError> {
        let environment: BTreeMap<_, _> = environment.collect();
        let value = |name: &str| environment.get(&OsString::from(name)).filter(|value| !value.is_empty());
        let folder = |name: &str| value(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // A relative one is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
        let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache"))).ok_or(LocalError::NoHome)?;
        let port = |name: &'static str, default| match value(name).map(|text| text.to_string_lossy().into_owned()) {
            None => Ok(default),
            Some(text) => text.parse().ok().filter(|port| *port > 0).ok_or(LocalError::BadPort { variable: name, text }),
        };
        let key = |name: &str| value(name).map_or_else(|| "test".to_owned(), |text| text.to_string_lossy().into_owned());
        Ok(Self {
            keys: (key("WINDLASS_LOCAL_ACCESS_KEY_ID"), key("WINDLASS_LOCAL_SECRET_ACCESS_KEY")),
            directory: cache.join("windlass/local"),
            port: port("WINDLASS_LOCAL_PORT", 4566)?,
            // Below the ports that systems give to those who connect: one of them, taken for a minute, would keep the server from listening.
            database_port: port("WINDLASS_LOCAL_DATABASE_PORT", 25432)?,
            environment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, LocalError> {
        Settings::from_environment(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn the_environment_decides_and_is_checked() {
        let settings = with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")]).unwrap();
        assert_eq!((settings.directory.to_str(), settings.port), (Some("/h/.cache/windlass/local"), 4566));
        let settings = with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("WINDLASS_LOCAL_PORT", "14599")]).unwrap();
        assert_eq!((settings.directory.to_str(), settings.port), (Some("/c/windlass/local"), 14599));
        for text in ["0", "x", "70000"] {
            let error = with(&[("HOME", "/h"), ("WINDLASS_LOCAL_PORT", text)]).unwrap_err();
            assert!(error.to_string().contains("WINDLASS_LOCAL_PORT") && error.to_string().contains(text), "{error}");
        }
        assert!(matches!(with(&[]), Err(LocalError::NoHome)));
    }
}
