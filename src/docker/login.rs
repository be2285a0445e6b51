//! What to log in to registries with: what the caller knows, else what the Docker command line would use.
//!
//! <https://docs.docker.com/reference/cli/docker/login/#credential-stores>

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use tokio::io::AsyncWriteExt as _;

use super::error::DockerError;
use super::push::Credentials;

/// The name that the command line keeps Docker Hub's login under.
const HUB: &str = "https://index.docker.io/v1/";
/// How long a credential helper may take; some ask a keychain that asks a person.
const HELPER: Duration = Duration::from_secs(30);

/// Where logins come from.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    given: BTreeMap<String, Credentials>,
    config: Option<PathBuf>,
}

impl Logins {
    /// The logins of the Docker command line's own configuration.
    #[must_use]
    pub fn of_this_user() -> Self {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker")));
        Self { given: BTreeMap::new(), config: folder.map(|folder| folder.join("config.json")) }
    }

    /// With a login of the caller's, for the registry `host`, which goes before any other.
    #[must_use]
    pub fn with(mut self, host: &str, credentials: Credentials) -> Self {
        self.given.insert(host.to_owned(), credentials);
        self
    }

    /// What to log in with to pull `image`; none for a registry that nobody has logged in to.
    ///
    /// # Errors
    /// A credential helper is named and cannot be run.
    pub async fn of_image(&self, image: &str) -> Result<Option<Credentials>, DockerError> {
        let host = host(image);
        if let Some(credentials) = self.given.get(host) {
            return Ok(Some(credentials.clone()));
        }
        let Some(path) = &self.config else { return Ok(None) };
        let Ok(text) = std::fs::read(path) else { return Ok(None) };
        let unreadable =
            |source: super::error::Cause| DockerError::EndpointUnreadable { name: host.to_owned(), path: path.clone(), source };
        let config: serde_json::Value = serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?;
        let key = if host == "docker.io" { HUB } else { host };
        let helper = config.pointer("/credHelpers").and_then(|helpers| helpers.get(key)).or_else(|| config.get("credsStore"));
        if let Some(helper) = helper.and_then(|helper| helper.as_str()).filter(|helper| !helper.is_empty()) {
            return run(helper, key).await.map_err(|why| unreadable(why.into()));
        }
        let auths = config.get("auths").and_then(|auths| auths.as_object());
        let auth = auths.and_then(|auths| {
            let names = [key.to_owned(), format!("https://{key}"), format!("http://{key}"), format!("https://{key}/v2/")];
            names.iter().find_map(|name| auths.get(name))
        });
        Ok(auth.and_then(|auth| {
            let decoded = STANDARD.decode(auth.get("auth")?.as_str()?).ok()?;
            let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
            Some(Credentials { username: username.to_owned(), password: password.trim_end_matches('\0').to_owned() })
        }))
    }
}

impl From<Credentials> for DockerCredentials {
    fn from(credentials: Credentials) -> Self {
        Self { username: Some(credentials.username), password: Some(credentials.password), ..Self::default() }
    }
}

/// The registry of an image, as Docker reads a name: the first part, if it looks like a host.
#[must_use]
pub fn host(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// `docker-credential-NAME get`. <https://github.com/docker/docker-credential-helpers#development>
async fn run(helper: &str, server: &str) -> Result<Option<Credentials>, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: &dyn std::fmt::Display| format!("`{program} get` failed for `{server}`: {why}");
    let mut command = tokio::process::Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(server.as_bytes()).await.map_err(|error| failed(&error))?;
    }
    let output = tokio::time::timeout(HELPER, child.wait_with_output()).await;
    let output = output.map_err(|_| failed(&"it took too long"))?.map_err(|error| failed(&error))?;
    if !output.status.success() {
        // That is how a helper says that it has no login for the server.
        return Ok(None);
    }
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    let text = |key: &str| answer.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    Ok(text("Username").zip(text("Secret")).map(|(username, password)| Credentials { username, password }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_read_from_a_name_as_docker_does() {
        for (image, expected) in [
            ("python", "docker.io"),
            ("local/python:3", "docker.io"),
            ("localhost/x", "localhost"),
            ("host:5000/x@sha256:00", "host:5000"),
            ("1.dkr.ecr.us-east-1.amazonaws.com/a/b:1", "1.dkr.ecr.us-east-1.amazonaws.com"),
        ] {
            assert_eq!(host(image), expected);
        }
    }

    #[tokio::test]
    async fn logins_come_from_the_caller_then_from_the_command_lines_own_files() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        let auths = serde_json::json!({"auths": {
            HUB: {"auth": STANDARD.encode("ada:hub")},
            "https://reg.example": {"auth": STANDARD.encode("ada:colon:in")},
        }});
        std::fs::write(&config, auths.to_string()).unwrap();
        let known = Credentials { username: "AWS".into(), password: "token".into() };
        let logins = Logins { config: Some(config.clone()), ..Logins::default() }.with("mine.example", known);
        let password = async |image: &str| logins.of_image(image).await.unwrap().map(|found| found.password);
        assert_eq!(password("python:3").await.as_deref(), Some("hub"));
        assert_eq!(password("reg.example/x").await.as_deref(), Some("colon:in"));
        assert_eq!(password("mine.example/x").await.as_deref(), Some("token"));
        assert_eq!(password("other.example/x").await, None);
        std::fs::write(&config, r#"{"credHelpers": {"reg.example": "windlass-absent"}}"#).unwrap();
        let error = logins.of_image("reg.example/x").await.unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("docker-credential-windlass-absent"));
    }
}
