//! Zips with the same bytes for the same files: sorted, without times, without owners.
//!
//! Deliberately absent: where the files come from, and what becomes of the zip.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use walkdir::WalkDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::model::Sha256;

/// What a function's code may come to when it is unpacked, layers included: 250 MB.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub const UNPACKED: u64 = 250 * 1024 * 1024;

/// The files of a zip, by their paths in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files(BTreeMap<String, File>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    body: Vec<u8>,
    executable: bool,
}

impl Files {
    /// Adds a file; one of this name gives way.
    pub fn add(&mut self, path: impl Into<String>, body: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), File { body: body.into(), executable: false });
    }

    /// Is there such a file?
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// The paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How large they are together, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.values().map(|file| file.body.len() as u64).sum()
    }

    /// Adds what `keep` wants of a folder, below `prefix` (which is empty or ends with `/`). Links are followed.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn add_folder(&mut self, folder: &Path, prefix: &str, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
            let entry = entry.map_err(io::Error::from)?;
            let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            let Some(below) = below.to_str().map(|below| below.replace('\\', "/")) else { continue };
            if entry.file_type().is_file() && keep(&below) {
                let executable = is_executable(&entry.metadata().map_err(io::Error::from)?);
                self.0.insert(format!("{prefix}{below}"), File { body: std::fs::read(entry.path())?, executable });
            }
        }
        Ok(())
    }

    /// The zip.
    ///
    /// # Errors
    /// A path is longer than a zip can hold.
    pub fn pack(&self) -> io::Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (path, file) in &self.0 {
            // Lambda reads as nobody's owner: https://docs.aws.amazon.com/lambda/latest/dg/python-package.html
            let mode = if file.executable { 0o755 } else { 0o644 };
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
            let options = options.last_modified_time(DateTime::default()).unix_permissions(mode);
            zip.start_file(path.as_str(), options).map_err(io::Error::from)?;
            zip.write_all(&file.body)?;
        }
        Ok(zip.finish().map_err(io::Error::from)?.into_inner())
    }
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

/// A digest as Lambda writes it (`CodeSha256`): in base64.
#[must_use]
pub fn code_sha256(digest: &Sha256) -> String {
    STANDARD.encode(digest.bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/x.py"), "1").unwrap();
        let mut one = Files::default();
        one.add_folder(folder.path(), "app/", |path| path != "b/x.pyc").unwrap();
        one.add("a.py", "2");
        std::fs::write(folder.path().join("b/x.py"), "1").unwrap();
        std::fs::write(folder.path().join("b/x.pyc"), "").unwrap();
        let mut other = Files::default();
        other.add("a.py", "2");
        other.add_folder(folder.path(), "app/", |path| path != "b/x.pyc").unwrap();
        assert_eq!(one.pack().unwrap(), other.pack().unwrap());
        assert_eq!(one.paths().collect::<Vec<_>>(), ["a.py", "app/b/x.py"]);
        let mut zip = zip::ZipArchive::new(Cursor::new(one.pack().unwrap())).unwrap();
        let mut text = String::new();
        zip.by_name("app/b/x.py").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "1");
    }
}
