//! Texts for a shell, and from one.

/// Can a shell have a variable of this name?
pub(super) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A line that sets a variable.
pub(super) fn assignment(name: &str, value: &[u8]) -> Vec<u8> {
    [b"export ", name.as_bytes(), b"=", &quoted(value), b"\n"].concat()
}

/// A text that the shell reads as itself.
pub(super) fn quoted(text: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in text {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// The words that Go, in which `CodeBuild`'s agent is written, has for a signal.
pub(super) fn signal_name(signal: i32) -> String {
    match signal {
        1 => "hangup".to_owned(),
        2 => "interrupt".to_owned(),
        3 => "quit".to_owned(),
        6 => "aborted".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        13 => "broken pipe".to_owned(),
        15 => "terminated".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_has_no_end_of_its_own() {
        assert_eq!(quoted(b"it's $HOME"), b"'it'\\''s $HOME'");
        assert_eq!(assignment("A", b"a\nb"), b"export A='a\nb'\n");
        assert!(is_name("_a1") && !is_name("1a") && !is_name("a-b") && !is_name("") && !is_name("\u{e4}"));
    }
}
