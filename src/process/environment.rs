//! The environment of builds that are none of the cloud's business.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// `environment` without what gives access to an AWS account, or says that one is near: every `AWS_…` variable (keys, profile, region,
/// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`) and `ECS_CONTAINER_METADATA_URI…`.
///
/// <https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html#EVarSettings>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html>
#[must_use]
pub fn without_cloud_credentials(environment: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    let hidden =
        |name: &OsString| ["AWS_", "ECS_CONTAINER_METADATA_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
    environment.filter(|(name, _)| !hidden(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_an_account_is_removed_and_nothing_else() {
        let names = [
            "AWS_ACCESS_KEY_ID",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_PROFILE",
            "AWS_REGION",
            "ECS_CONTAINER_METADATA_URI_V4",
            "PATH",
            "MY_AWS_NOTE",
            "AWSOME",
        ];
        let kept = without_cloud_credentials(names.iter().map(|name| (OsString::from(name), OsString::from("x"))));
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), ["AWSOME", "MY_AWS_NOTE", "PATH"]);
    }
}
