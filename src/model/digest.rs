//! Content addresses: the SHA-256 of a file, and the digest of an image manifest.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::Digest as _;

use super::{Invalid, as_text};

/// The SHA-256 of some bytes, shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest and the length in bytes of all that `reader` gives.
    ///
    /// # Errors
    /// Whatever `reader` fails with.
    pub fn of_reader(reader: impl Read) -> io::Result<(Self, u64)> {
        Self::of_reader_through(&mut vec![0; 128 * 1024], reader)
    }

    /// As [`Sha256::of_reader`], with a buffer that can be used again.
    ///
    /// # Errors
    /// Whatever `reader` fails with.
    pub fn of_reader_through(buffer: &mut [u8], mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hash = sha2::Sha256::new();
        let mut length = 0;
        loop {
            let read = reader.read(buffer)?;
            if read == 0 {
                return Ok((Self(hash.finalize().into()), length));
            }
            hash.update(&buffer[..read]);
            length += read as u64;
        }
    }

    /// The digest of a value's JSON, of which no more than a few bytes are in memory at a time.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn of_json(value: &impl serde::Serialize) -> serde_json::Result<Self> {
        let mut hash = Hashing(sha2::Sha256::new());
        serde_json::to_writer(&mut hash, value)?;
        Ok(Self(hash.0.finalize().into()))
    }

    /// The raw 32 bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from its raw 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// A hash that is written to.
struct Hashing(sha2::Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // At once: a manifest has tens of thousands of them.
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("SHA-256", text, "needs 64 lower-case hex digits");
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let nibble = |digit: u8| match digit {
                b'0'..=b'9' => Ok(digit - b'0'),
                b'a'..=b'f' => Ok(digit - b'a' + 10),
                _ => Err(wrong()),
            };
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

as_text!(Sha256, "^[0-9a-f]{64}$");

/// The digest of an image manifest, shown as `sha256:` and 64 hex digits.
///
/// <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageDigest(Sha256);

impl ImageDigest {
    /// The first 12 hex digits, for lines that people read.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.0.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for ImageDigest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.strip_prefix("sha256:")
            .and_then(|hex| hex.parse().ok())
            .map(Self)
            .ok_or_else(|| Invalid::new("image digest", text, "needs `sha256:` and 64 lower-case hex digits"))
    }
}

as_text!(ImageDigest, "^sha256:[0-9a-f]{64}$");

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's example: the digest of "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_digest_of_a_known_text_is_the_published_one() {
        assert_eq!(Sha256::of(b"abc").to_string(), ABC);
        assert_eq!(Sha256::of_reader(&b"abc"[..]).unwrap(), (ABC.parse().unwrap(), 3));
    }

    #[test]
    fn a_digest_of_another_form_is_refused() {
        for text in ["", "sha256:", &ABC.to_uppercase(), &ABC[1..]] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
            assert!(text.parse::<ImageDigest>().is_err(), "{text}");
        }
        assert_eq!(format!("sha256:{ABC}").parse::<ImageDigest>().unwrap().short(), "ba7816bf8f01");
    }
}
