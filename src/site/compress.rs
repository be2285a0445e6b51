//! Stores compressed what CloudFront would serve uncompressed because of its size.
//!
//! CloudFront compresses by itself what has 1,000 to 10,000,000 bytes, for each visitor as the browser asks. A bucket has one object for
//! each key, so that what is stored compressed is served so to everyone: that is for files that only browsers ask for, and all of them
//! take gzip and, over HTTPS, Brotli. <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/ServingCompressedFiles.html>
//!
//! Deliberately absent: `.br` and `.gz` copies beside the files. Nothing in S3 or CloudFront would choose among them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Exit, Failure, Sha256, UnitName};

use super::classify;
use super::scan::Output;

/// What CloudFront compresses by itself has at most so many bytes.
const LARGEST_ON_THE_WAY: u64 = 10_000_000;

/// How a file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Brotli.
    Br,
    /// gzip.
    Gzip,
}

impl Encoding {
    /// `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// A file as the build wrote it, where another form of it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// The stored form of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// How it is compressed.
    pub encoding: Encoding,
    /// Bytes.
    pub size: u64,
    /// Of what is stored.
    pub sha256: Sha256,
    /// Where it lies. Nobody has written it there if it is live already.
    pub file: PathBuf,
}

/// Compresses what is to be stored so, into the directory `at` from `root`, where it stays as long as the site has it. `live` gives what
/// is stored already of a file, by its path and its content: that is not compressed again, and so is the same also where another
/// version of windlass would compress it differently.
///
/// # Errors
/// [`Exit::Build`] if a file cannot be read or written.
pub fn compress(
    name: &UnitName,
    root: &Path,
    output: &mut Output,
    encoding: Encoding,
    at: &str,
    live: impl Fn(&str, &Plain) -> Option<(u64, Sha256)>,
) -> Result<(), Failure> {
    let unusable =
        |error: io::Error| Failure::new(Exit::Build, format!("site `{name}`: the directory `{at}` cannot be used")).because(error);
    let into = std::path::absolute(root.join(at)).map_err(unusable)?;
    let mut used = Vec::new();
    for file in output.files.iter_mut().filter(|file| file.size > LARGEST_ON_THE_WAY && classify::compresses(&file.path)) {
        let packed = format!("{}.{}", file.sha256, encoding.name());
        let plain = Plain { size: file.size, sha256: file.sha256 };
        let stored = |(size, sha256)| Stored { encoding, size, sha256, file: into.join(&packed) };
        if let Some(known) = live(&file.path, &plain) {
            file.stored = Some(stored(known));
            used.push(packed);
            continue;
        }
        let failed = |error: io::Error| {
            let failure = Failure::new(Exit::Build, format!("site `{name}`: compressing `{}` failed", file.path)).because(error);
            failure.hint(format!("nothing live has changed; windlass writes to `{}`", into.display()))
        };
        let made = write(&root.join(&output.directory).join(&file.path), &into.join(&packed), encoding);
        let (sha256, size) = made.and_then(|()| File::open(into.join(&packed))).and_then(Sha256::of_reader).map_err(failed)?;
        // What is compressed already would only be unpacked once more by every browser.
        if size < plain.size / 20 * 19 {
            file.stored = Some(stored((size, sha256)));
            used.push(packed);
        }
    }
    for left in fs::read_dir(&into).into_iter().flatten().flatten() {
        if !used.iter().any(|packed| left.file_name() == packed.as_str()) {
            // What stays is only in the way.
            let _ = fs::remove_file(left.path());
        }
    }
    Ok(())
}

/// The same bytes each time: there is no date in them, and one thread writes them.
fn write(from: &Path, to: &Path, encoding: Encoding) -> io::Result<()> {
    if to.is_file() {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut from = File::open(from)?;
    let half = tempfile::NamedTempFile::new_in(folder)?;
    let out = BufWriter::new(half.as_file());
    match encoding {
        Encoding::Br => {
            // The levels above take minutes for a few percent.
            let mut encoder = brotli::CompressorWriter::new(out, 64 * 1024, 9, 22);
            io::copy(&mut from, &mut encoder)?;
            encoder.into_inner().flush()?;
        }
        Encoding::Gzip => {
            let mut encoder = flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::best());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?.flush()?;
        }
    }
    half.persist(to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::site::scan::{Wanted, scan};

    #[test]
    fn what_is_too_large_for_cloudfront_is_stored_compressed_and_comes_back_whole() {
        let root = tempfile::tempdir().unwrap();
        let text = "all work and no play makes Jack a dull boy\n".repeat(250_000);
        for (name, content) in [("index.html", "small"), ("app.wasm", &text), ("film.mp4", &text), ("data.json.gz", &text)] {
            fs::create_dir_all(root.path().join("dist")).unwrap();
            fs::write(root.path().join("dist").join(name), content).unwrap();
        }
        let web = "web".parse().unwrap();
        let scanned = || scan(&web, root.path(), "dist", Wanted { source_maps: false, index: true }, |_, _| ()).unwrap();
        for encoding in [Encoding::Br, Encoding::Gzip] {
            let mut output = scanned();
            compress(&web, root.path(), &mut output, encoding, "own", |_, _| None).unwrap();
            let stored: Vec<&str> = output.files.iter().filter(|file| file.stored.is_some()).map(|file| file.path.as_str()).collect();
            assert_eq!(stored, ["app.wasm"]);
            let stored = output.files[0].stored.clone().unwrap();
            let packed = fs::read(&stored.file).unwrap();
            assert_eq!((stored.size, stored.sha256), (packed.len() as u64, Sha256::of(&packed)));
            let mut back = String::new();
            match encoding {
                Encoding::Br => brotli::Decompressor::new(&packed[..], 4096).read_to_string(&mut back).unwrap(),
                Encoding::Gzip => flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut back).unwrap(),
            };
            assert!(back == text && stored.size < 100_000);
            // The same bytes once more, from nothing.
            fs::remove_file(&stored.file).unwrap();
            let mut again = scanned();
            compress(&web, root.path(), &mut again, encoding, "own", |_, _| None).unwrap();
            assert_eq!(again, output);
            // What is live is not compressed again, and what is not of use any more goes.
            let mut live = scanned();
            compress(&web, root.path(), &mut live, encoding, "own", |_, _| Some((1, Sha256::of(b"x")))).unwrap();
            assert_eq!(live.files[0].stored.clone().unwrap().size, 1);
            assert_eq!(fs::read_dir(root.path().join("own")).unwrap().count(), 1);
        }
    }
}
