//! Values that must not be seen, and how they are taken out of whatever is shown.

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
}

impl Mask {
    /// Masks these values; those that are too short to be secrets are left out.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut values: Vec<String> = values.into_iter().filter(|value| value.len() >= SHORTEST).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self { values }
    }

    /// Masks these values too, each of them and each line of them, down to three characters: they come from a store of secrets, and a short
    /// one is one all the same.
    pub fn add_secrets(&mut self, values: impl IntoIterator<Item = String>) {
        for value in values {
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_KNOWN).map(str::to_owned);
            self.values.extend(lines.collect::<Vec<_>>());
            if value.len() >= SHORTEST_KNOWN {
                self.values.push(value);
            }
        }
        self.values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.values.dedup();
    }

    /// `text` without any of the values.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, value| if text.contains(value) { text.replace(value, MASKED) } else { text })
    }
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
        assert_eq!(format!("{mask:?}"), "Mask(2 values)");
        let mut mask = mask;
        mask.add_secrets(["pw1".to_owned(), "-----BEGIN KEY-----\nabc/def\n".to_owned(), "no".to_owned()]);
        assert_eq!(mask.apply("pw1 abc/def no s3cr3t-value"), "*** *** no ***");
        assert!(sensitive("NPM_TOKEN") && sensitive("aws_secret_access_key") && !sensitive("VITE_API"));
    }
}
