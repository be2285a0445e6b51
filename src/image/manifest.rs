//! What a manifest says: which platforms an image is for, and which configuration it has.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/manifest.md>, and `image-index.md` beside it

use serde_json::Value;

/// The digest of an image's configuration, by which an engine knows it; `None` for a list of images.
#[must_use]
pub fn configuration(manifest: &str) -> Option<String> {
    let manifest: Value = serde_json::from_str(manifest).ok()?;
    Some(manifest.pointer("/config/digest")?.as_str()?.to_owned())
}

/// The platforms of a list, as `linux/amd64`; `None` for the manifest of one image, which does not say. Attestations, which tools put
/// into lists as images for an unknown platform, do not count.
#[must_use]
pub fn platforms(manifest: &str) -> Option<Vec<String>> {
    let manifest: Value = serde_json::from_str(manifest).ok()?;
    let listed = manifest.get("manifests")?.as_array()?.iter().filter_map(|entry| platform(entry.get("platform")?));
    Some(listed.filter(|platform| !platform.contains("unknown")).collect())
}

/// The platform of a configuration, or of a list's entry.
#[must_use]
pub fn platform(of: &Value) -> Option<String> {
    Some(format!("{}/{}", of.get("os")?.as_str()?, of.get("architecture")?.as_str()?))
}

/// What ECS calls the architecture of a platform: `X86_64` or `ARM64`.
#[must_use]
pub fn architecture(platform: &str) -> Option<&'static str> {
    match platform {
        "linux/amd64" => Some("X86_64"),
        "linux/arm64" => Some("ARM64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_its_platforms_and_an_image_its_configuration() {
        let list = r#"{"manifests": [
            {"platform": {"os": "linux", "architecture": "amd64"}},
            {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {"platform": {"os": "unknown", "architecture": "unknown"}}]}"#;
        assert_eq!(platforms(list).unwrap(), ["linux/amd64", "linux/arm64"]);
        assert_eq!(configuration(list), None);
        let image = r#"{"config": {"digest": "sha256:12"}, "layers": []}"#;
        assert_eq!((platforms(image), configuration(image).as_deref()), (None, Some("sha256:12")));
    }
}
