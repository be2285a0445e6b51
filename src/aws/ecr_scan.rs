//! ECR: what a scan has found in an image.

use std::collections::BTreeMap;

use aws_sdk_ecr::operation::describe_image_scan_findings::DescribeImageScanFindingsOutput;
use aws_sdk_ecr::types::{ImageIdentifier, ImageScanFindings, ImageScanStatus, ScanStatus};

use super::{Aws, AwsError};
use crate::model::ImageDigest;

/// The state of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// It goes on.
    Pending,
    /// It has ended, or goes on for as long as the image is there.
    Found(ScanFindings),
    /// There is none, and will be none; why.
    None(String),
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanFindings {
    /// How many of each severity, by ECR's words: `CRITICAL`, `HIGH`.
    pub counts: BTreeMap<String, u32>,
    /// The first thousand, each with its severity: (`HIGH`, `CVE-2024-1 in openssl 3.0.1`).
    pub named: Vec<(String, String)>,
}

impl Aws {
    /// What ECR's scan of an image has found: the basic one, or Inspector's.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html>
    ///
    /// # Errors
    /// No such image; not allowed.
    pub async fn image_scan(&self, repository: &str, digest: ImageDigest) -> Result<Scan, AwsError> {
        let image = ImageIdentifier::builder().image_digest(digest.to_string()).build();
        let request = self.0.ecr.describe_image_scan_findings().repository_name(repository).image_id(image).max_results(1000);
        let resource = format!("{repository}@{digest}");
        match request.send().await.map_err(AwsError::of("ecr:DescribeImageScanFindings", resource)) {
            Err(error) if error.code() == Some("ScanNotFoundException") => Ok(Scan::None("it was never scanned".to_owned())),
            answer => answer.map(read),
        }
    }
}

fn read(answer: DescribeImageScanFindingsOutput) -> Scan {
    let status = answer.image_scan_status.unwrap_or_else(|| ImageScanStatus::builder().build());
    match &status.status {
        Some(ScanStatus::InProgress | ScanStatus::Pending) | None => return Scan::Pending,
        Some(ScanStatus::Complete | ScanStatus::Active) => {}
        Some(other) => {
            let why = status.description.map_or(String::new(), |why| format!(": {why}"));
            return Scan::None(format!("{}{why}", other.as_str()));
        }
    }
    let findings = answer.image_scan_findings;
    let counts = findings.as_ref().and_then(|findings| findings.finding_severity_counts.clone()).unwrap_or_default();
    let counts = counts.into_iter().map(|(severity, count)| (severity.as_str().to_owned(), u32::try_from(count).unwrap_or_default()));
    let basic = findings.iter().flat_map(ImageScanFindings::findings).map(|finding| {
        let attribute = |name: &str| finding.attributes().iter().find(|attribute| attribute.key() == name).and_then(|found| found.value());
        let package = attribute("package_name").map_or(String::new(), |package| {
            format!(" in {package} {}", attribute("package_version").unwrap_or_default()).trim_end().to_owned()
        });
        let severity = finding.severity.as_ref().map_or("UNDEFINED", |severity| severity.as_str());
        (severity.to_owned(), format!("{}{package}", finding.name.as_deref().unwrap_or("?")))
    });
    let enhanced = findings.iter().flat_map(ImageScanFindings::enhanced_findings).map(|finding| {
        let severity = finding.severity.clone().unwrap_or_else(|| "UNDEFINED".to_owned());
        (severity, finding.title.clone().unwrap_or_else(|| "?".to_owned()))
    });
    Scan::Found(ScanFindings { counts: counts.collect(), named: basic.chain(enhanced).collect() })
}
