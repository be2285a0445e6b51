//! The systems that run builds, by their names.

use std::fmt;

/// A system that runs builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CiSystem {
    /// AWS `CodeBuild`, by itself.
    CodeBuild,
    /// AWS `CodeBuild` as an action of `CodePipeline`.
    CodePipeline,
    /// Jenkins.
    Jenkins,
    /// GitHub Actions.
    GithubActions,
    /// GitLab CI.
    Gitlab,
}

impl fmt::Display for CiSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CodeBuild => "CodeBuild",
            Self::CodePipeline => "CodePipeline",
            Self::Jenkins => "Jenkins",
            Self::GithubActions => "GitHub Actions",
            Self::Gitlab => "GitLab CI",
        })
    }
}
