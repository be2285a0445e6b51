//! Values that must not be seen, and how they are taken out of whatever is shown.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE};
use regex::Regex;

/// Shorter values are no secrets, and would blot out ordinary words.
const SHORTEST: usize = 6;

/// A value that is known to be a secret is masked from this length on; one of two characters would blot out the alphabet.
const SHORTEST_KNOWN: usize = 3;

/// What is shown in a secret's place.
const MASKED: &str = "***";

/// Secret values to be taken out of texts. Its `Debug` shows none of them.
#[derive(Clone, Default)]
pub struct Mask {
    /// Longest first, so that a secret that holds another goes as a whole.
    values: Vec<String>,
    /// Whether the passwords of URLs go, too.
    passwords: bool,
}

/// `postgres://user:PASSWORD@host`: what follows the name, up to the last `@` before the host's end.
static PASSWORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(://[^\s:/?\#@"'<>]*:)[^\s/?\#"'<>]+@"#).ok());

impl Mask {
    /// Masks these values, in any form that they are usually written in; those that are too short to be secrets are left out.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = values.into_iter().flat_map(|value| forms(&value, SHORTEST)).collect();
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self { values: all, passwords: false }
    }

    /// Masks the passwords of URLs, too: a container that fails most often quotes the URL of its database, whose value only the container knows.
    #[must_use]
    pub fn and_passwords(self) -> Self {
        Self { passwords: true, ..self }
    }

    /// Masks these values too, each of them and each line of them, down to three characters: they come from a store of secrets, and a short
    /// one is one all the same.
    pub fn add_secrets(&mut self, values: impl IntoIterator<Item = String>) {
        self.values.extend(values.into_iter().flat_map(|value| forms(&value, SHORTEST_KNOWN)));
        self.values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.values.dedup();
    }

    /// `text` without any of the values.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let text =
            self.values.iter().fold(text.to_owned(), |text, value| if text.contains(value) { text.replace(value, MASKED) } else { text });
        match PASSWORD.as_ref().filter(|_| self.passwords && text.contains("://")) {
            Some(pattern) => pattern.replace_all(&text, format!("${{1}}{MASKED}@")).into_owned(),
            None => text,
        }
    }

    /// Where `text` may be cut so that what comes before shows no part of a value that goes on behind the cut: the last such place.
    #[must_use]
    pub fn cut(&self, text: &str) -> usize {
        let longest = self.values.first().map_or(0, String::len);
        let mut cut = text.len().saturating_sub(longest);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        // A value that is whole in the text goes to one of the sides as a whole.
        let mut moved = true;
        while moved {
            let across = self.values.iter().flat_map(|value| text.match_indices(value.as_str()));
            let start = across.filter(|(at, value)| *at < cut && cut < at + value.len()).map(|(at, _)| at).min();
            moved = start.is_some();
            cut = start.unwrap_or(cut);
        }
        cut
    }
}

/// A value as it stands in texts: itself, each of its lines, in JSON, in a URL, and inside of something that is encoded in Base64.
fn forms(value: &str, shortest: usize) -> Vec<String> {
    let mut plain: Vec<&str> = vec![value];
    plain.extend(value.lines().map(str::trim).filter(|line| *line != value));
    plain.retain(|text| text.len() >= shortest);
    let mut all = Vec::new();
    for text in plain {
        let json = serde_json::to_string(text).unwrap_or_default();
        all.extend([text.to_owned(), json.trim_matches('"').to_owned(), percent_encoded(text, false), percent_encoded(text, true)]);
        for engine in [STANDARD, URL_SAFE] {
            all.extend((0..3).filter_map(|before| inside(text, before, &engine)));
        }
    }
    all.retain(|form| form.len() >= shortest);
    all
}

/// The characters of Base64 that stand for the value alone, where `before` bytes (less whole threes) stand before it.
fn inside(value: &str, before: usize, engine: &GeneralPurpose) -> Option<String> {
    let bytes = [&vec![0; before], value.as_bytes()].concat();
    let encoded = engine.encode(&bytes);
    let (start, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    encoded.get(start..end).filter(|form| form.len() > SHORTEST).map(str::to_owned)
}

/// As in a URL (RFC 3986), or in a form (`+` for a space).
fn percent_encoded(value: &str, form: bool) -> String {
    value.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' ' if form => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            byte => {
                out.push('%');
                out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
            }
        }
        out
    })
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} values)", self.values.len())
    }
}

/// Does the name of a variable say that its value is secret?
#[must_use]
pub fn sensitive(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL", "PRIVATE_KEY", "API_KEY", "ACCESS_KEY", "DATABASE_URL"];
    words.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_words_stay() {
        let mask = Mask::new(["s3cr3t-value".to_owned(), "s3cr3t-value-and-more".to_owned(), "no".to_owned()]);
        assert_eq!(mask.apply("a s3cr3t-value-and-more, s3cr3t-value, no"), "a ***, ***, no");
        assert!(format!("{mask:?}").starts_with("Mask("));
        let mut mask = mask;
        mask.add_secrets(["pw1".to_owned(), "-----BEGIN KEY-----\nabc/def\n".to_owned(), "no".to_owned()]);
        assert_eq!(mask.apply("pw1 abc/def no s3cr3t-value"), "*** *** no ***");
        assert!(sensitive("NPM_TOKEN") && sensitive("aws_secret_access_key") && !sensitive("VITE_API"));
    }

    #[test]
    fn the_password_of_a_url_goes_and_its_host_stays() {
        let mask = Mask::default().and_passwords();
        for (text, shown) in [
            ("url was postgres://captain:p%40ss%3Aw@db:5432/x, it said", "url was postgres://captain:***@db:5432/x, it said"),
            ("'redis://:p@ss:w@cache/0'", "'redis://:***@cache/0'"),
            ("a://u:p@h b://v:q@i", "a://u:***@h b://v:***@i"),
        ] {
            assert_eq!(mask.apply(text), shown);
            assert_eq!(Mask::default().apply(text), text);
        }
        for text in [
            "http://127.0.0.1:4566/shop/api@sha256:ab",
            "http://host:8080?mail=a@b",
            "ssh://git@github.com/x",
            "a: b@c",
            "http://host:80/",
            "http://[::1]:80/a@b",
        ] {
            assert_eq!(mask.apply(text), text);
        }
    }

    #[test]
    fn a_secret_is_known_in_what_it_is_encoded_to() {
        let secret = "p\u{e4}ss/w\"rd+42 &more";
        let mask = Mask::new([secret.to_owned()]);
        for text in ["", "u:", "us:", "use:"].map(|before| format!("{before}{secret}@host")) {
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text), STANDARD.encode(&text).trim_end_matches('=').to_owned()] {
                let shown = mask.apply(&encoded);
                assert!(shown.contains(MASKED), "{encoded}");
            }
        }
        assert_eq!(mask.apply("a=p%C3%A4ss%2Fw%22rd%2B42%20%26more;"), "a=***;");
        assert_eq!(mask.apply("a=p%C3%A4ss%2Fw%22rd%2B42+%26more;"), "a=***;");
        assert_eq!(mask.apply(&serde_json::json!({ "a": secret }).to_string()), "{\"a\":\"***\"}");
        let key = Mask::new(["-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\n-----END KEY-----\n".to_owned()]);
        assert_eq!(key.apply("found MIIEowIBAAKCAQEA here"), "found *** here");
    }

    #[test]
    fn a_text_is_cut_where_no_secret_is() {
        let mask = Mask::new(["s3cr3t-value".to_owned()]);
        for text in ["xxxxxxxxxxxxxxxxxxxxxxxxxxxxs3cr3t-value", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxs3cr3t-va", "s3cr3t-values3cr3t-value"]
        {
            let (before, behind) = text.split_at(mask.cut(text));
            assert!(!before.ends_with("s3cr3t") && !before.ends_with("s3cr3t-va"), "{before} {behind}");
            let rest = format!("{behind}lue");
            assert_eq!(mask.apply(before) + &mask.apply(&rest), mask.apply(&format!("{text}lue")));
        }
    }
}
