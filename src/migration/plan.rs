//! Which databases have to be migrated, by which function, with which image.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Migration;
use crate::model::{ImageRef, ImageUri, Refusal, UnitName};

/// One migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// The Lambda function.
    pub function: String,
    /// The image whose migrations are applied.
    pub image: ImageRef,
    /// Does the function run another image, so that its code is updated first? Unknown until the image is.
    pub update_code: Option<bool>,
    /// How long the function may take, in seconds.
    pub timeout_seconds: u64,
    /// Are the migrations of this image applied already, by the record?
    pub applied: bool,
}

/// The function of a migration, as preflight finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `Image` or `Zip`.
    pub package_type: String,
    /// The image that it runs.
    pub image: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// `Active`, `Pending`, `Failed` …
    pub state: String,
}

/// Draws one migration. `applied` is the image that the record says was migrated last.
#[must_use]
pub fn draw(function: &str, image: ImageRef, found: &Found, applied: Option<&ImageUri>) -> MigrationPlan {
    let known = match &image {
        ImageRef::Known(uri) => Some(uri),
        ImageRef::FromStep(_) => None,
    };
    MigrationPlan {
        function: function.to_owned(),
        update_code: known.map(|uri| found.image.as_deref() != Some(uri.to_string().as_str())),
        timeout_seconds: found.timeout.as_secs(),
        applied: known.is_some() && known == applied,
        image,
    }
}

/// Why a migration cannot run, if it cannot.
#[must_use]
pub fn refusal(name: &UnitName, migration: &Migration, found: Option<&Found>) -> Option<Refusal> {
    let function = migration.function.as_deref().unwrap_or_default();
    let Some(found) = found else {
        return Some(Refusal::new(
            format!("migration `{name}`: there is no Lambda function `{function}`"),
            "create it (package type Image; its first image can be pushed with `windlass stage images`), or correct `function`",
        ));
    };
    if found.package_type != "Image" {
        let what =
            format!("migration `{name}`: the function `{function}` is made of a {}, and the driver is `lambda-image`", found.package_type);
        return Some(Refusal::new(what, "make a function of package type Image: the type of a function cannot be changed"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_record_says_is_applied_is_not_run_again() {
        let image = |digit: &str| -> ImageUri { format!("host/shop/api@sha256:{}", digit.repeat(64)).parse().unwrap() };
        let found = Found {
            package_type: "Image".into(),
            image: Some(image("1").to_string()),
            timeout: Duration::from_mins(1),
            state: "Active".into(),
        };
        let same = draw("f", ImageRef::Known(image("1")), &found, Some(&image("1")));
        assert_eq!((same.applied, same.update_code), (true, Some(false)));
        let new = draw("f", ImageRef::Known(image("2")), &found, Some(&image("1")));
        assert_eq!((new.applied, new.update_code), (false, Some(true)));
        let unbuilt = draw("f", ImageRef::FromStep("api".parse().unwrap()), &found, Some(&image("1")));
        assert_eq!((unbuilt.applied, unbuilt.update_code), (false, None));
        assert!(!draw("f", ImageRef::Known(image("1")), &found, None).applied);
    }
}
