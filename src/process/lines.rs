//! Bytes, as they come out of a pipe, to lines of text.

/// The longest line that is given whole, in bytes; a longer one is given in pieces of this size.
const LONGEST: usize = 64 * 1024;

/// Splits at `\n`, `\r` and `\r\n`: a progress bar that redraws its line gives one line for each time.
#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// What the last byte ended: an end of line right after it ends nothing.
    ended: Ended,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Ended {
    #[default]
    Line,
    /// A line, by a `\r` that a `\n` may follow.
    Return,
    /// A piece of a line that was too long.
    Piece,
    Nothing,
}

impl Lines {
    /// Gives every line that `bytes` completes.
    pub(super) fn take(&mut self, bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let text = &rest[..end.unwrap_or(rest.len()).min(LONGEST - self.line.len())];
            self.line.extend_from_slice(text);
            rest = &rest[text.len()..];
            if !text.is_empty() {
                self.ended = Ended::Nothing;
            }
            match rest.first() {
                Some(b'\n') => {
                    if !matches!(self.ended, Ended::Return | Ended::Piece) {
                        self.give(on_line);
                    }
                    self.ended = Ended::Line;
                    rest = &rest[1..];
                }
                Some(b'\r') => {
                    // Bars start with one, to come back to the first column.
                    if self.ended == Ended::Nothing {
                        self.give(on_line);
                        self.ended = Ended::Return;
                    } else if self.ended == Ended::Line {
                        self.ended = Ended::Nothing;
                    }
                    rest = &rest[1..];
                }
                _ if self.line.len() == LONGEST => self.piece(on_line),
                _ => {}
            }
        }
    }

    /// Gives what came after the last end of line.
    pub(super) fn finish(&mut self, on_line: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.give(on_line);
        }
    }

    fn give(&mut self, on_line: &mut impl FnMut(&str)) {
        on_line(&String::from_utf8_lossy(&self.line));
        self.line.clear();
    }

    /// A character of more than one byte is not cut in two.
    fn piece(&mut self, on_line: &mut impl FnMut(&str)) {
        let whole = match std::str::from_utf8(&self.line) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.line.len(),
        };
        let rest = self.line.split_off(whole);
        self.give(on_line);
        self.ended = if rest.is_empty() { Ended::Piece } else { Ended::Nothing };
        self.line = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `bytes`, given in one piece and byte by byte.
    fn split(bytes: &[u8]) -> Vec<String> {
        let read = |size: usize| {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in bytes.chunks(size) {
                lines.take(piece, &mut |line: &str| found.push(line.to_owned()));
            }
            lines.finish(&mut |line: &str| found.push(line.to_owned()));
            found
        };
        let whole = read(bytes.len().max(1));
        assert_eq!(whole, read(1));
        whole
    }

    #[test]
    fn lines_end_in_any_of_the_three_ways() {
        assert_eq!(split(b"a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
        assert_eq!(split(b"a\n\n\r\nb\n"), ["a", "", "", "b"]);
        assert_eq!(split(b"\r1%\r2%\r\n"), ["1%", "2%"]);
        assert_eq!(split(b""), [""; 0]);
        assert_eq!(split(b"\xff\n"), ["\u{fffd}"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let found = split(&[b"x", "ä".repeat(LONGEST / 2 + 5).as_bytes(), b"\nnext"].concat());
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [LONGEST - 1, 12, 4]);
        assert!(!found.iter().any(|line| line.contains('\u{fffd}')));
        assert_eq!(split(format!("{}\nnext", "x".repeat(LONGEST)).as_bytes()).len(), 2);
    }
}
