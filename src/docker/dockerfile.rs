//! What a Dockerfile asks for from outside its context: base images, secrets, agents.
//!
//! Only as much of the language is read as that takes: continued lines, heredocs, `ARG` before the first `FROM`, the flags of `FROM`,
//! `COPY` and `RUN`. Deliberately absent: judging the rest, which the builder does.
//! <https://docs.docker.com/reference/dockerfile/>

use std::collections::BTreeMap;

use super::digest::Recipe;

/// What the stages that a build needs ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// Images that it begins or copies from, each once, in their order.
    pub bases: Vec<Base>,
    /// The secrets that its steps mount.
    pub secrets: Vec<SecretMount>,
    /// The line of the first step that mounts an SSH agent.
    pub ssh: Option<usize>,
}

/// An image that a build begins or copies from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// As it is written, with its variables filled in: `python:3.11`.
    pub image: String,
    /// The platform, if `--platform` names one.
    pub platform: Option<String>,
    /// Its line, from 1.
    pub line: usize,
}

impl Base {
    /// Does its name already say which bytes it is?
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.image.contains("@sha256:")
    }
}

/// A secret that a step mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    /// Its id.
    pub id: String,
    /// Does the step say `required=false`?
    pub optional: bool,
    /// Its line, from 1.
    pub line: usize,
}

/// What is wrong with a Dockerfile: the line, and what.
pub(super) type Wrong = (usize, String);

/// Reads what `recipe` makes of a Dockerfile's text.
///
/// # Errors
/// The line, and what is wrong with it: an image whose name is empty once its variables are filled in, a stage that is not there.
pub(super) fn parse(text: &str, recipe: &Recipe) -> Result<Dockerfile, Wrong> {
    let mut arguments = platform_arguments(&recipe.platform);
    let mut stages: Vec<Stage> = Vec::new();
    for Instruction { line, name, rest } in instructions(text) {
        match name.as_str() {
            "ARG" if stages.is_empty() => {
                for word in words(&rest) {
                    let (key, default) = word.split_once('=').map_or((word.as_str(), None), |(key, value)| (key, Some(value)));
                    let value = recipe.args.get(key).cloned().or_else(|| default.map(|value| expand(value, &arguments)));
                    arguments.extend(value.map(|value| (key.to_owned(), value)));
                }
            }
            "FROM" => stages.push(from(line, &rest, &arguments)?),
            "COPY" | "ADD" => {
                let Some(stage) = stages.last_mut() else { continue };
                let sources = flags(&rest).filter_map(|flag| flag.strip_prefix("--from="));
                stage.uses.extend(sources.map(|source| (source.to_owned(), line)));
            }
            "RUN" => {
                let Some(stage) = stages.last_mut() else { continue };
                for mount in flags(&rest).filter_map(|flag| flag.strip_prefix("--mount=")) {
                    stage.mount(mount, line);
                }
            }
            _ => {}
        }
    }
    needed(&stages, recipe)
}

/// A stage, with all that it names.
#[derive(Debug, Default)]
struct Stage {
    name: Option<String>,
    base: String,
    platform: Option<String>,
    line: usize,
    /// What it copies from or mounts: a stage's name or number, or an image.
    uses: Vec<(String, usize)>,
    secrets: Vec<SecretMount>,
    ssh: Option<usize>,
}

impl Stage {
    /// <https://docs.docker.com/reference/dockerfile/#run---mount>
    fn mount(&mut self, mount: &str, line: usize) {
        let mount = mount.trim_matches('"');
        let option = |names: &[&str]| {
            mount.split(',').find_map(|part| part.split_once('=').filter(|(key, _)| names.contains(key)).map(|(_, value)| value))
        };
        match option(&["type"]) {
            Some("secret") => {
                let target = || option(&["target", "dst", "destination"]).and_then(|target| target.rsplit('/').next());
                let id = option(&["id"]).or_else(target).unwrap_or_default().to_owned();
                self.secrets.push(SecretMount { id, optional: option(&["required"]) == Some("false"), line });
            }
            Some("ssh") => self.ssh = self.ssh.or(Some(line)),
            _ => self.uses.extend(option(&["from"]).map(|from| (from.to_owned(), line))),
        }
    }
}

fn from(line: usize, rest: &str, arguments: &BTreeMap<String, String>) -> Result<Stage, Wrong> {
    let platform = flags(rest).find_map(|flag| flag.strip_prefix("--platform=")).map(|value| expand(value, arguments));
    let plain: Vec<String> = words(rest).into_iter().filter(|word| !word.starts_with("--")).collect();
    let written = plain.first().map(String::as_str).unwrap_or_default();
    let base = expand(written, arguments);
    if base.is_empty() {
        return Err((line, format!("`FROM {written}` names no image: give the argument a default, or a value under `args`")));
    }
    let name = plain.get(1).filter(|word| word.eq_ignore_ascii_case("as")).and_then(|_| plain.get(2)).map(|name| name.to_lowercase());
    Ok(Stage { name, base, platform: platform.filter(|platform| !platform.is_empty()), line, ..Stage::default() })
}

/// What the target stage needs, directly or through other stages.
fn needed(stages: &[Stage], recipe: &Recipe) -> Result<Dockerfile, Wrong> {
    let find = |name: &str, before: usize| {
        let by_name = stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(&*name.to_lowercase()));
        by_name.or_else(|| name.parse().ok().filter(|&index: &usize| index < before))
    };
    let target = match recipe.target.as_deref() {
        Some(name) => find(name, stages.len()).ok_or_else(|| (0, format!("there is no stage `{name}` for `target`")))?,
        None if stages.is_empty() => return Err((0, "it has no `FROM`".to_owned())),
        None => stages.len() - 1,
    };
    let mut found = Dockerfile::default();
    let mut open = vec![target];
    let mut seen = vec![false; stages.len()];
    let mut bases = Vec::new();
    while let Some(index) = open.pop() {
        if std::mem::replace(&mut seen[index], true) {
            continue;
        }
        let stage = &stages[index];
        let own = std::iter::once((stage.base.as_str(), stage.line, stage.platform.clone()));
        let used = stage.uses.iter().map(|(source, line)| (source.as_str(), *line, None));
        for (source, line, platform) in own.chain(used) {
            match find(source, index) {
                Some(other) => open.push(other),
                // A variable there is one of the stage's own, which the builder itself does not fill in either.
                None if source == "scratch" || source.contains('$') => {}
                None => bases.push(Base { image: source.to_owned(), platform, line }),
            }
        }
    }
    for (stage, _) in stages.iter().zip(&seen).filter(|(_, seen)| **seen) {
        found.secrets.extend(stage.secrets.iter().cloned());
        found.ssh = found.ssh.or(stage.ssh);
    }
    bases.sort_by_key(|base| base.line);
    for base in bases {
        if !found.bases.iter().any(|other: &Base| other.image == base.image && other.platform == base.platform) {
            found.bases.push(base);
        }
    }
    Ok(found)
}

/// The arguments that every `FROM` sees. <https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope>
fn platform_arguments(platform: &str) -> BTreeMap<String, String> {
    let (os, architecture) = platform.split_once('/').unwrap_or((platform, ""));
    let names = [("PLATFORM", platform), ("OS", os), ("ARCH", architecture)];
    let own = std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64");
    let build = format!("linux/{own}");
    let mut arguments: BTreeMap<String, String> = names.map(|(name, value)| (format!("TARGET{name}"), value.to_owned())).into();
    arguments.extend([("BUILDPLATFORM".to_owned(), build), ("BUILDOS".to_owned(), "linux".to_owned()), ("BUILDARCH".to_owned(), own)]);
    arguments
}

struct Instruction {
    line: usize,
    name: String,
    rest: String,
}

/// The instructions, each on one line, without comments and heredocs.
fn instructions(text: &str) -> Vec<Instruction> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape(text);
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let mut joined = String::new();
        let mut next = Some(first);
        while let Some(part) = next {
            let trimmed = part.trim();
            // Comments and empty lines vanish from the middle of an instruction.
            if trimmed.starts_with('#') || (trimmed.is_empty() && !joined.is_empty()) {
                if joined.is_empty() {
                    break;
                }
                next = lines.next().map(|(_, line)| line);
                continue;
            }
            let Some(begun) = trimmed.strip_suffix(escape) else {
                joined.push_str(trimmed);
                break;
            };
            joined.push_str(begun);
            joined.push(' ');
            next = lines.next().map(|(_, line)| line);
        }
        let Some((name, rest)) = joined.trim().split_once(char::is_whitespace) else { continue };
        let name = name.to_ascii_uppercase();
        if matches!(name.as_str(), "RUN" | "COPY" | "ADD") {
            for end in heredocs(rest) {
                for (_, line) in lines.by_ref() {
                    if line.trim_start_matches('\t') == end {
                        break;
                    }
                }
            }
        }
        found.push(Instruction { line: number + 1, name, rest: rest.trim().to_owned() });
    }
    found
}

/// The words that end the heredocs which an instruction begins: `<<EOF`, `<<-"EOF"`.
fn heredocs(rest: &str) -> Vec<String> {
    let ends = words(rest).into_iter().filter_map(|word| {
        let (before, name) = word.split_once("<<")?;
        let name = name.trim_start_matches('-').trim_matches(|c| c == '"' || c == '\'');
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && before.bytes().all(|b| b.is_ascii_digit());
        let end: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        plain.then_some(end)
    });
    ends.collect()
}

/// The character that continues a line. <https://docs.docker.com/reference/dockerfile/#escape>
fn escape(text: &str) -> char {
    for line in text.lines() {
        let Some((key, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else { break };
        if key.trim().eq_ignore_ascii_case("escape") {
            return value.trim().chars().next().unwrap_or('\\');
        }
    }
    '\\'
}

/// The flags that an instruction begins with.
fn flags(rest: &str) -> impl Iterator<Item = &str> {
    rest.split_whitespace().take_while(|word| word.starts_with("--"))
}

/// Words between blanks; quotes are taken off and keep blanks together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:+other}`. What is unknown is empty, as with the builder.
fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some(inner) = rest.strip_prefix('{') {
            let end = closing(inner);
            let body = &inner[..end];
            rest = inner.get(end + 1..).unwrap_or_default();
            let split = body.find(|c| !is_name(c)).unwrap_or(body.len());
            let (name, operator) = body.split_at(split);
            let value = values.get(name);
            let set = value.is_some_and(|value| !value.is_empty());
            let text = if let Some(default) = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-').filter(|_| value.is_none()))
            {
                if set { value.cloned().unwrap_or_default() } else { expand(default, values) }
            } else if let Some(other) = operator.strip_prefix(":+") {
                if set { expand(other, values) } else { String::new() }
            } else {
                value.cloned().unwrap_or_default()
            };
            out.push_str(&text);
        } else {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            out.push_str(values.get(&rest[..end]).map(String::as_str).unwrap_or_default());
            rest = &rest[end..];
        }
    }
    out + rest
}

/// Where the brace that was opened before `text` is closed.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, target: Option<&str>) -> Result<Dockerfile, Wrong> {
        let args = BTreeMap::from([("GIVEN".to_owned(), "given:1".to_owned())]);
        parse(text, &Recipe { dockerfile: "Dockerfile".into(), args, target: target.map(str::to_owned), platform: "linux/arm64".into() })
    }

    fn images(text: &str, target: Option<&str>) -> Vec<String> {
        of(text, target).unwrap().bases.into_iter().map(|base| base.image).collect()
    }

    #[test]
    fn bases_are_found_with_their_variables_filled_in() {
        for (text, expected) in [
            ("FROM scratch", &[] as &[&str]),
            ("from python:3.11 as Base\nFROM base\n", &["python:3.11"]),
            ("ARG V=3\nARG B=\"python:${V}\"\nFROM ${B}-slim", &["python:3-slim"]),
            ("ARG GIVEN=other\nFROM $GIVEN", &["given:1"]),
            ("ARG X\nFROM ${X:-node:20}", &["node:20"]),
            ("ARG X\nFROM node:20${X:+-slim}${GIVEN:+-no}", &["node:20"]),
            ("# escape=`\nFROM `\n  a:1 AS x\nCOPY --from=b `\n / /", &["a:1", "b"]),
            ("FROM --platform=$BUILDPLATFORM a AS x\nFROM b\nCOPY --from=x a b\nCOPY --chown=1 --from=c:2 a b", &["a", "b", "c:2"]),
            ("FROM a\nFROM b\nCOPY --from=0 a b\nRUN --mount=type=bind,from=d,target=/x y", &["a", "b", "d"]),
            ("FROM a\nRUN <<EOF\nFROM not-one\nEOF\nCOPY <<-'X' /f\nFROM not\n\tX\nFROM b", &["b"]),
            ("FROM a \\\n# a comment\n\n  AS x\nRUN echo \\\n FROM y", &["a"]),
            ("FROM a@sha256:00\nFROM a AS b\nFROM b AS c\nFROM c", &["a"]),
            ("\u{feff}FROM a\r\nRUN x\r\n", &["a"]),
        ] {
            assert_eq!(images(text, None), expected, "{text}");
        }
    }

    #[test]
    fn only_what_the_target_needs_counts() {
        let text = "FROM a AS one\nRUN --mount=type=secret,id=x y\nFROM b AS two\nFROM c AS three\nCOPY --from=one a b\n";
        assert_eq!(images(text, Some("two")), ["b"]);
        assert_eq!(images(text, Some("Three")), ["a", "c"]);
        assert_eq!(images(text, Some("0")), ["a"]);
        assert_eq!(of(text, Some("two")).unwrap().secrets, []);
        assert_eq!(of(text, Some("three")).unwrap().secrets.len(), 1);
        assert!(of(text, Some("four")).unwrap_err().1.contains("`four`"));
        assert!(
            of("ARG X\nFROM $X", None).unwrap_err()
                == (2, "`FROM $X` names no image: give the argument a default, or a value under `args`".into())
        );
        assert!(of("# nothing\n", None).unwrap_err().1.contains("no `FROM`"));
    }

    #[test]
    fn mounts_of_secrets_and_agents_are_seen() {
        let text = "FROM a\nRUN --mount=type=secret,id=npm,required=false --mount=type=secret,target=/run/secrets/pip \\\n \
                    --mount=type=cache,target=/c x\nRUN --mount=type=ssh y";
        let found = of(text, None).unwrap();
        let secrets: Vec<_> = found.secrets.iter().map(|secret| (secret.id.as_str(), secret.optional, secret.line)).collect();
        assert_eq!(secrets, [("npm", true, 2), ("pip", false, 2)]);
        assert_eq!(found.ssh, Some(4));
    }
}
