//! Paths of a checkout as texts: `/` between their parts, `.` for the checkout itself.

/// `directory/name`, normal.
pub(super) fn join(directory: &str, name: &str) -> String {
    normal(&format!("{directory}/{name}")).unwrap_or_else(|| name.to_owned())
}

/// Without `.`, `..` and empty parts; `None` where it leads out of the checkout.
pub(super) fn normal(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// The directory that a file or a directory lies in; the checkout's own is its own.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

/// The last part.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What follows the last dot of its name.
pub(super) fn ending(path: &str) -> &str {
    name(path).rsplit_once('.').map_or("", |(_, ending)| ending)
}

/// Does it lie in the directory, or below it, or is it the directory?
pub(super) fn within(path: &str, directory: &str) -> bool {
    directory == "." || path == directory || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// `path` as it is called from `directory`.
pub(super) fn from(directory: &str, path: &str) -> String {
    let split = |path: &str| path.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect::<Vec<_>>();
    let (base, target) = (split(directory), split(path));
    let shared = base.iter().zip(&target).take_while(|(a, b)| a == b).count();
    let parts: Vec<String> = std::iter::repeat_n("..".to_owned(), base.len() - shared).chain(target[shared..].iter().cloned()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// The nearest directory that both lie in.
pub(super) fn common(one: &str, other: &str) -> String {
    upwards(one).into_iter().find(|above| within(other, above)).unwrap_or_else(|| ".".to_owned())
}

/// The directory and those above it, the checkout last.
pub(super) fn upwards(directory: &str) -> Vec<String> {
    let mut found = vec![directory.to_owned()];
    let mut next = directory;
    while next != "." {
        next = parent(next);
        found.push(next.to_owned());
    }
    found
}

/// As a word of a shell's command.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:=+,^~".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('~') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_one_another() {
        assert_eq!(from("apps/web", "."), "../..");
        assert_eq!(from("apps/web", "apps/web/dist"), "dist");
        assert_eq!(from(".", "apps/web/dist"), "apps/web/dist");
        assert_eq!(from("web", "api/static"), "../api/static");
        assert_eq!(upwards("a/b"), ["a/b", "a", "."]);
        assert_eq!(
            (common("services/a", "services/b/c"), common("a", "b"), common("a/b", "a/b")),
            ("services".into(), ".".into(), "a/b".into())
        );
        assert_eq!((normal("a/../b/./c").as_deref(), normal("../x")), (Some("b/c"), None));
        assert!(within("a/b", "a") && within("a", ".") && !within("ab", "a"));
        assert_eq!((shell("a b"), shell("it's"), shell("x")), ("'a b'".into(), "'it'\\''s'".into(), "x".into()));
    }
}
