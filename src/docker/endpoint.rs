//! Where the engine may be: the order in which the Docker command line looks, then the places of other engines.
//!
//! <https://docs.docker.com/engine/manage-resources/contexts/>, <https://docs.docker.com/reference/cli/docker/#environment-variables>

use std::path::{Path, PathBuf};

use crate::model::Sha256;

use super::error::DockerError;
use super::tls::Tls;

/// An address that an engine may answer at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375`.
    pub(super) address: String,
    /// What named it: `DOCKER_HOST`, "context `colima`".
    pub(super) named_by: String,
    /// How it wants TLS, if it does.
    pub(super) tls: Option<Tls>,
}

/// The addresses to try, best first. More than one only if nothing was chosen by the user.
///
/// # Errors
/// When a chosen Docker context cannot be read: another engine than the chosen one must not be used in its place.
pub(super) fn candidates(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Endpoint>, DockerError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let home = set("HOME").map(PathBuf::from);
    let folder = set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".docker")));
    // DOCKER_HOST beats DOCKER_CONTEXT, as in the command line.
    if let Some(address) = set("DOCKER_HOST") {
        let verify = set("DOCKER_TLS_VERIFY").is_some();
        let files = set("DOCKER_CERT_PATH").map(PathBuf::from).or(folder).unwrap_or_default();
        let tls = (verify || set("DOCKER_TLS").is_some()).then_some(Tls { folder: files, verify });
        return Ok(vec![Endpoint { address, named_by: "DOCKER_HOST".into(), tls }]);
    }
    if let Some(folder) = &folder {
        let name = match set("DOCKER_CONTEXT") {
            Some(name) => Some(name),
            None => current_context(folder)?,
        };
        if let Some(name) = name.filter(|name| name != "default") {
            return Ok(vec![context(folder, &name)?]);
        }
    }
    let runtime = set("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = [
        Some(PathBuf::from("/var/run/docker.sock")),
        // Rootless Docker, Docker Desktop, rootless Podman, Podman.
        runtime.as_ref().map(|folder| folder.join("docker.sock")),
        home.as_ref().map(|folder| folder.join(".docker/run/docker.sock")),
        runtime.as_ref().map(|folder| folder.join("podman/podman.sock")),
        Some(PathBuf::from("/run/podman/podman.sock")),
    ];
    let endpoint =
        |path: PathBuf| Endpoint { address: format!("unix://{}", path.display()), named_by: "the default socket".into(), tls: None };
    Ok(places.into_iter().flatten().map(endpoint).collect())
}

fn current_context(folder: &Path) -> Result<Option<String>, DockerError> {
    let path = folder.join("config.json");
    let Some(config) = json(&path, "config.json")? else { return Ok(None) };
    let name = config.get("currentContext").and_then(|name| name.as_str());
    Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
}

/// Contexts are kept under the SHA-256 of their name.
fn context(folder: &Path, name: &str) -> Result<Endpoint, DockerError> {
    let path = folder.join("contexts/meta").join(Sha256::of(name.as_bytes()).to_string()).join("meta.json");
    let unreadable = |source: &str| DockerError::EndpointUnreadable { name: name.into(), path: path.clone(), source: source.into() };
    let meta = json(&path, name)?.ok_or_else(|| unreadable("there is no context of this name"))?;
    let address = meta.pointer("/Endpoints/docker/Host").and_then(|host| host.as_str());
    let address = address.ok_or_else(|| unreadable("it names no Docker endpoint"))?.to_owned();
    let files = folder.join("contexts/tls").join(Sha256::of(name.as_bytes()).to_string()).join("docker");
    let skips = meta.pointer("/Endpoints/docker/SkipTLSVerify").and_then(serde_json::Value::as_bool).unwrap_or_default();
    let tls = (skips || files.is_dir()).then_some(Tls { folder: files, verify: !skips });
    Ok(Endpoint { address, named_by: format!("the Docker context `{name}`"), tls })
}

fn json(path: &Path, name: &str) -> Result<Option<serde_json::Value>, DockerError> {
    let unreadable = |source: super::error::Cause| DockerError::EndpointUnreadable { name: name.into(), path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Vec<Endpoint>, DockerError> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        candidates(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn docker_host_beats_every_context() {
        let set = [("DOCKER_HOST", "tcp://h:1"), ("DOCKER_CONTEXT", "x"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        let tls = Some(Tls { folder: "/certs".into(), verify: true });
        assert_eq!(with(&set).unwrap(), [Endpoint { address: "tcp://h:1".into(), named_by: "DOCKER_HOST".into(), tls }]);
        let unverified = with(&[("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS", "1"), ("HOME", "/home/ada")]).unwrap();
        assert_eq!(unverified[0].tls, Some(Tls { folder: "/home/ada/.docker".into(), verify: false }));
    }

    #[test]
    fn the_current_context_is_followed_and_an_unknown_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".docker");
        // `printf colima | sha256sum`
        let meta = folder.join("contexts/meta/f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16");
        fs::create_dir_all(&meta).unwrap();
        fs::write(meta.join("meta.json"), r#"{"Name":"colima","Endpoints":{"docker":{"Host":"unix:///c.sock"}}}"#).unwrap();
        fs::write(folder.join("config.json"), r#"{"currentContext":"colima"}"#).unwrap();
        let home = home.path().to_str().unwrap();
        assert_eq!(with(&[("HOME", home)]).unwrap()[0].address, "unix:///c.sock");
        assert_eq!(with(&[("HOME", home), ("DOCKER_CONTEXT", "default")]).unwrap()[0].address, "unix:///var/run/docker.sock");
        let error = with(&[("HOME", home), ("DOCKER_CONTEXT", "gone")]).unwrap_err();
        assert!(error.is_engine_absent() && error.to_string().contains("`gone`"), "{error}");
        fs::write(folder.join("config.json"), "{").unwrap();
        assert!(with(&[("HOME", home)]).unwrap_err().to_string().contains("config.json"));
    }

    #[test]
    fn without_a_choice_the_default_sockets_are_tried_in_order() {
        let found = with(&[("XDG_RUNTIME_DIR", "/run/user/7")]).unwrap();
        let addresses: Vec<_> = found.iter().map(|endpoint| endpoint.address.as_str()).collect();
        let expected = [
            "unix:///var/run/docker.sock",
            "unix:///run/user/7/docker.sock",
            "unix:///run/user/7/podman/podman.sock",
            "unix:///run/podman/podman.sock",
        ];
        assert_eq!(addresses, expected);
    }
}
