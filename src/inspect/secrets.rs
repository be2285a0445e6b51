//! Variables that look like secrets, told by their names or their form and never by their values.

use std::collections::BTreeMap;

use crate::model::sensitive;

/// The names of variables whose plain values look like secrets, each with why.
pub(super) fn plain(variables: &BTreeMap<String, String>) -> Vec<String> {
    variables.iter().filter_map(|(name, value)| Some(format!("{name} ({})", why(name, value)?))).collect()
}

fn why(name: &str, value: &str) -> Option<&'static str> {
    let value = value.trim();
    if value.is_empty() || is_reference(value) {
        return None;
    }
    // user:password@host, in any scheme.
    let login = value.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()?.rsplit_once('@'));
    if login.is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, password)| !password.is_empty())) {
        return Some("an address with a password");
    }
    let key = value.len() == 20 && (value.starts_with("AKIA") || value.starts_with("ASIA"));
    if key && value.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        return Some("an AWS access key");
    }
    if value.contains("-----BEGIN") && value.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    let prefixes = ["ghp_", "github_pat_", "sk_live_", "xoxb-", "xoxp-", "glpat-"];
    if prefixes.iter().any(|prefix| value.starts_with(prefix)) {
        return Some("a token by its form");
    }
    // `DATABASE_URL` without a password is an address, and a switch or a time about secrets is none.
    let harmless =
        value.len() < 4 || value.bytes().all(|byte| byte.is_ascii_digit()) || matches!(value, "true" | "false" | "none" | "None");
    let named = sensitive(name) && !name.to_ascii_uppercase().contains("DATABASE_URL");
    (named && !harmless).then_some("secret by its name")
}

/// It says where the secret is, and not what.
fn is_reference(value: &str) -> bool {
    value.starts_with("arn:") || value.starts_with("{{resolve:") || value.starts_with("ssm:") || value.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_named_and_its_value_is_not() {
        let variables = [
            ("DEBUG", "0"),
            ("DATABASE_URL", "postgres://shop:hunter22@db.example/shop"),
            ("DATABASE_URL_2", "postgres://db.example/shop"),
            ("SECRET_KEY", "django-insecure-1"),
            ("DATABASE_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:1:secret:x"),
            ("TOKEN_LIFETIME", "3600"),
            ("CACHE", "redis://:pw@cache.example:6379/0"),
            ("ID", "AKIAIOSFODNN7EXAMPLE"),
            ("API_TOKEN", ""),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let found = plain(&variables);
        let names: Vec<&str> = found.iter().map(|text| text.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["CACHE", "DATABASE_URL", "ID", "SECRET_KEY"]);
        assert!(!found.join(" ").contains("hunter22"));
    }
}
