//! Registries with real images in them: one of Debian's package `docker-registry`, and images of real layers without an engine.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::ministack;
use super::scene::until;

/// A running registry on loopback; it ends when this is dropped.
pub(crate) struct Registry {
    child: Child,
    host: String,
    storage: tempfile::TempDir,
}

/// The login of a registry that wants one. The password needs the alphabet of base64 that is for URLs.
pub(crate) const LOGIN: (&str, &str) = ("AWS", "a?~>?~>b");
/// Its bcrypt, as `htpasswd -nbB` makes it.
const HTPASSWD: &str = "AWS:$2b$05$gH.bXSTlfy3R/0D8wgeLHOr8h63U1tM95F84Cb2zEl/hc/ESStGTO\n";

impl Registry {
    /// Starts one, which takes everybody's word.
    pub(crate) fn start() -> Self {
        Self::new(false)
    }

    /// Starts one that wants a [`LOGIN`].
    pub(crate) fn with_login() -> Self {
        Self::new(true)
    }

    fn new(login: bool) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let storage = tempfile::tempdir().unwrap();
        let host = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'}}\n",
            storage.path().display()
        );
        let htpasswd = storage.path().join("htpasswd");
        std::fs::write(&htpasswd, HTPASSWD).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: registry, path: {}}}}}\n", htpasswd.display());
        let config = if login { config + &auth } else { config };
        let file = storage.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("`docker-registry` is there: apt-get install docker-registry");
        until("the registry listens", || TcpStream::connect(&host).is_ok());
        Self { child, host, storage }
    }

    /// `127.0.0.1:34567`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The digest that it has by a tag, by its own files: its HTTP may want a login.
    pub(crate) fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        let link = format!("docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link");
        std::fs::read_to_string(self.storage.path().join(link)).ok()
    }

    /// Its tags.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let folder = self.storage.path().join(format!("docker/registry/v2/repositories/{repository}/_manifests/tags"));
        let Ok(tags) = std::fs::read_dir(folder) else { return Vec::new() };
        tags.map(|tag| tag.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Gives a registry an image of two layers, one of them of 3 MB, and gives its digest. Another `content` makes another image.
pub(crate) fn push(host: &str, repository: &str, tag: &str, content: &str) -> String {
    let script = r#"
import hashlib, json, sys, urllib.request
host, repository, tag, content = sys.argv[1:]
def ask(method, url, body=None, kind="application/octet-stream"):
    request = urllib.request.Request(url if url.startswith("http") else f"http://{host}{url}", data=body, method=method)
    request.add_header("content-type", kind)
    return urllib.request.urlopen(request)
def blob(data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    place = ask("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["location"]
    place = ask("PATCH", place, data).headers["location"]
    ask("PUT", place + ("&" if "?" in place else "?") + "digest=" + digest, b"")
    return {"digest": digest, "size": len(data)}
config = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Labels": {"content": content}}}).encode()
layers = [blob(content.encode() * 3), blob((content.encode() + b"\0" * 1024) * 3000)]
kinds = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"
manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": blob(config) | {"mediaType": kinds[0]}, "layers": [layer | {"mediaType": kinds[1]} for layer in layers]}).encode()
ask("PUT", f"/v2/{repository}/manifests/{tag}", manifest, "application/vnd.docker.distribution.manifest.v2+json")
print("sha256:" + hashlib.sha256(manifest).hexdigest())
"#;
    python(script, &[host, repository, tag, content])
}

/// The digest that a registry has by a tag, with every layer of it; empty if anything is missing.
pub(crate) fn has(host: &str, repository: &str, tag: &str) -> String {
    let script = r#"
import hashlib, json, sys, urllib.request, urllib.error
host, repository, tag = sys.argv[1:]
def get(path):
    request = urllib.request.Request(f"http://{host}/v2/{repository}/{path}")
    request.add_header("accept", "application/vnd.docker.distribution.manifest.v2+json")
    return urllib.request.urlopen(request).read()
try:
    manifest = get(f"manifests/{tag}")
    parts = json.loads(manifest)
    for part in [parts["config"], *parts["layers"]]:
        assert "sha256:" + hashlib.sha256(get("blobs/" + part["digest"])).hexdigest() == part["digest"]
    print("sha256:" + hashlib.sha256(manifest).hexdigest())
except urllib.error.HTTPError:
    pass
"#;
    python(script, &[host, repository, tag])
}

fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new(ministack::python()).args(["-c", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
