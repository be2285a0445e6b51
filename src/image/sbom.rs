//! A bill of materials: the packages that an image holds, as `CycloneDX` says it.
//!
//! <https://cyclonedx.org/docs/1.6/json/>, <https://github.com/package-url/purl-spec>. It names no time: the same image has the same
//! bill, byte for byte.

use std::path::Path;

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::docker::{self, Credentials, Engine, Inventory, Manager, Package};
use crate::event::{Events, Outcome, Step};
use crate::model::{Exit, Failure, ImageUri, Stage};

use super::plan::ImagePlan;

/// Where the bill of a service lies, from the configuration's directory: where no build context has it in.
pub(super) fn place(name: &str) -> String {
    format!(".windlass/sbom/{name}.cdx.json")
}

/// Writes the bill of an image for each of `names`, unless it is there.
///
/// # Errors
/// [`Exit::Images`]: no engine answers, the image cannot be read, or a file cannot be written; nothing live has changed.
pub(super) async fn write(
    aws: &Aws,
    engine: Option<&Engine>,
    root: &Path,
    names: &[&str],
    plan: &ImagePlan,
    uri: &ImageUri,
    events: &Events,
) -> Result<(), Failure> {
    let missing: Vec<_> = names.iter().map(|name| root.join(place(name))).filter(|path| !is_of(path, uri)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let shown = names.join(", ");
    let failed = |error: &dyn std::fmt::Display, hint: Option<String>| {
        let failure = Failure::new(Exit::Images, format!("service `{shown}`: writing the bill of materials of its image failed"));
        let hint = hint.unwrap_or_else(|| "run again".to_owned());
        failure.because(error.to_string()).hint(format!("nothing live has changed; {hint}"))
    };
    let work = async {
        let connected;
        let engine = if let Some(engine) = engine {
            engine
        } else {
            connected = docker::connect().await.map_err(|error| failed(&error, error.hint()))?;
            &connected
        };
        let token = aws.registry_credentials().await.map_err(|error| failed(&error, error.hint()))?;
        let credentials = Credentials { username: token.username, password: token.password };
        let found = docker::packages(engine, &uri.to_string(), Some(&credentials)).await;
        let found = found.map_err(|error| failed(&error, error.hint()))?;
        let text = format!("{:#}\n", bill(&found, plan, uri));
        for path in &missing {
            let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, &text));
            written.map_err(|error| failed(&format!("`{}`: {error}", path.display()), None))?;
        }
        for unread in &found.unread {
            events.note(format!("{shown}: `{unread}` is in the image, and its packages are not in the bill of materials"));
        }
        Ok((
            (),
            Outcome::Done,
            format!("{} packages, in {}", found.packages.len(), names.iter().map(|name| place(name)).collect::<Vec<_>>().join(", ")),
        ))
    };
    events.step(Step::of(Stage::Images, &shown, "sbom"), work).await
}

/// Does a file hold the bill of this image?
fn is_of(path: &Path, uri: &ImageUri) -> bool {
    let Ok(text) = std::fs::read(path) else { return false };
    let bill: Value = serde_json::from_slice(&text).unwrap_or_default();
    bill.pointer("/metadata/component/version").and_then(Value::as_str) == Some(&uri.digest.to_string())
}

fn bill(found: &Inventory, plan: &ImagePlan, uri: &ImageUri) -> Value {
    let digest = uri.digest.to_string();
    let name = plan.repository.rsplit('/').next().unwrap_or(&plan.repository);
    let image =
        format!("pkg:oci/{}@{}?repository_url={}&tag={}", encoded(name), encoded(&digest), encoded(&uri.repository), encoded(&plan.tag));
    let components = found.packages.iter().map(|package| {
        let purl = purl(package, found.distribution.as_ref());
        json!({"type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl})
    });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&digest),
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "windlass", "version": env!("CARGO_PKG_VERSION")}]},
            "component": {"type": "container", "bom-ref": image, "name": uri.repository, "version": digest, "purl": image},
            "properties": [
                {"name": "windlass:covers", "value": "dpkg, apk, Python's dist-info and egg-info, Node's node_modules"},
                {"name": "windlass:unread", "value": found.unread.iter().cloned().collect::<Vec<_>>().join(" ")},
            ],
        },
        "components": components.collect::<Vec<_>>(),
    })
}

/// A version 8 UUID of what the image is: <https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-8>.
fn serial(digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    format!("urn:uuid:{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

fn purl(package: &Package, distribution: Option<&(String, String)>) -> String {
    let Package { manager, name, version, architecture } = package;
    let (id, release) = distribution.map_or(("", ""), |(id, release)| (id.as_str(), release.as_str()));
    let of_system = |kind: &str, otherwise: &str| {
        let vendor = if id.is_empty() { otherwise } else { id };
        let mut qualifiers: Vec<String> = architecture.iter().map(|architecture| format!("arch={}", encoded(architecture))).collect();
        qualifiers.push(format!("distro={}", encoded(format!("{vendor}-{release}").trim_end_matches('-'))));
        format!("pkg:{kind}/{}/{}@{}?{}", encoded(vendor), encoded(name), encoded(version), qualifiers.join("&"))
    };
    match manager {
        Manager::Dpkg => of_system("deb", "debian"),
        Manager::Apk => of_system("apk", "alpine"),
        // PyPI takes `_`, `.` and capitals for the same name: <https://peps.python.org/pep-0503/#normalized-names>
        Manager::Python => format!("pkg:pypi/{}@{}", encoded(&name.to_lowercase().replace(['_', '.'], "-")), encoded(version)),
        Manager::Node => match name.split_once('/') {
            Some((scope, name)) => format!("pkg:npm/{}/{}@{}", encoded(scope), encoded(name), encoded(version)),
            None => format!("pkg:npm/{}@{}", encoded(name), encoded(version)),
        },
    }
}

fn encoded(text: &str) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_an_address_that_scanners_know() {
        let package = |manager, name: &str, version: &str, architecture: Option<&str>| Package {
            manager,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.map(str::to_owned),
        };
        let debian = ("debian".to_owned(), "12".to_owned());
        for (package, address) in [
            (
                package(Manager::Dpkg, "libstdc++6", "1:12.2.0-14+b1", Some("amd64")),
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bb1?arch=amd64&distro=debian-12",
            ),
            (package(Manager::Python, "Django_REST.x", "5.0", None), "pkg:pypi/django-rest-x@5.0"),
            (package(Manager::Node, "@nestjs/core", "10.0.0", None), "pkg:npm/%40nestjs/core@10.0.0"),
        ] {
            assert_eq!(purl(&package, Some(&debian)), address);
        }
        assert_eq!(purl(&package(Manager::Apk, "musl", "1.2", None), None), "pkg:apk/alpine/musl@1.2?distro=alpine");
        assert_eq!(serial(&format!("sha256:{}", "0123456789abcdef".repeat(4))), "urn:uuid:01234567-89ab-8def-a123-456789abcdef");
    }
}
