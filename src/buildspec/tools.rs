//! The programs that `CodeBuild` puts on the `PATH` of a build, as shell scripts, so that they run in any image.
//!
//! * `codebuild-hash-files PATTERN…`: one digest over the content of the files;
//! * `codebuild-glob-search PATTERN`: the files, one a line;
//! * `codebuild-tests-run --test-command C --files-search S [--sharding-strategy …]`: this build's share of the files.
//!
//! <https://docs.aws.amazon.com/codebuild/latest/userguide/parallel-test.html>

use std::io;

use super::shell::Shell;

const GLOB: &str = include_str!("tools/codebuild-glob-search");
const HASH: &str = include_str!("tools/codebuild-hash-files");
const RUN: &str = include_str!("tools/codebuild-tests-run");

/// Puts those that the buildspec names on the `PATH`; all of them in a build of a fan-out.
pub(super) fn install(shell: &Shell, text: &str, all: bool) -> io::Result<()> {
    let named = |name: &str| text.contains(name);
    let tests = all || named("codebuild-tests-run");
    if tests {
        shell.add_program("codebuild-tests-run", RUN)?;
    }
    if tests || named("codebuild-hash-files") {
        shell.add_program("codebuild-hash-files", HASH)?;
    }
    if tests || named("codebuild-hash-files") || named("codebuild-glob-search") {
        shell.add_program("codebuild-glob-search", GLOB)?;
    }
    Ok(())
}
