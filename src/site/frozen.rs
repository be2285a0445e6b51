//! What a build freezes into its pages: variables whose values are text in a script from then on, right for one environment alone.
//!
//! A build leaves a record of them in its output. It goes where the output goes, so that `--prebuilt` on another machine can tell whose
//! build it is, and a `release` after a `plan` that it was built already. Deliberately absent: the values. Of each there is a digest, which says that it is the same and not what it is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::{Exit, Failure, Sha256, UnitName, sensitive};

/// The record's file, in the output's root. It is never published.
pub const RECORD: &str = ".windlass-build.json";
/// Why it is not.
pub const STAYS: &str = "windlass's own record of the build";

/// How the variables begin that bundlers put into what they write.
///
/// <https://vite.dev/guide/env-and-mode>, <https://create-react-app.dev/docs/adding-custom-environment-variables>,
/// <https://nextjs.org/docs/app/guides/environment-variables#bundling-environment-variables-for-the-browser>
const PREFIXES: &[&str] = &["VITE_", "REACT_APP_", "NEXT_PUBLIC_", "NUXT_PUBLIC_", "VUE_APP_", "GATSBY_", "EXPO_PUBLIC_", "PUBLIC_URL"];

/// Names of variables with a digest of each value.
pub type Frozen = BTreeMap<String, Sha256>;

/// What a build says of itself beside its output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// 1.
    pub format: u32,
    /// The site that it was built for.
    pub site: UnitName,
    /// The environment that it was built for; empty without environments.
    pub environment: String,
    /// The digest of all that it was made of.
    pub inputs: Sha256,
    /// The digest of what it wrote.
    pub output: Sha256,
    /// What it has frozen.
    pub frozen: Frozen,
}

/// What the build `script` in `directory` freezes: of the variables that it sees, and of the `.env` files that bundlers read.
///
/// `configured` are the names under `env`: they count whatever they are called, unless they are secret by their name.
///
/// # Errors
/// [`Exit::Build`] if an `.env` file cannot be read.
pub fn of_build<'a>(
    site: &UnitName,
    directory: &Path,
    script: &str,
    environment: &BTreeMap<OsString, OsString>,
    configured: impl Iterator<Item = &'a String>,
) -> Result<Frozen, Failure> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for local_wins in [true, false] {
        for file in files(&mode(script), local_wins) {
            let path = directory.join(file);
            if !path.is_file() {
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::new(Exit::Build, format!("site `{site}`: reading `{}` failed", path.display())).because(error))?;
            // In a bundler's own file also the short prefix of SvelteKit and Astro means nothing else.
            let meant = |name: &str| is_frozen(name) || name.starts_with("PUBLIC_");
            values.extend(definitions(&text).filter(|(name, _)| meant(name) && local_wins_for(name) == local_wins));
        }
    }
    let configured: Vec<&String> = configured.filter(|name| !sensitive(name)).collect();
    // What is set already wins over the files, for all of the bundlers.
    for (name, value) in environment {
        if let Some(name) = name.to_str().filter(|name| is_frozen(name) || configured.iter().any(|configured| *configured == name)) {
            values.insert(name.to_owned(), value.to_string_lossy().into_owned());
        }
    }
    Ok(values.into_iter().map(|(name, value)| (name.clone(), Sha256::of(format!("{name}={value}").as_bytes()))).collect())
}

fn is_frozen(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What a build that has frozen `there` would freeze otherwise where `here` would be frozen, in words. In the `same` environment, what is
/// unknown here may have been set where the build ran.
#[must_use]
pub fn differences(there: &Frozen, here: &Frozen, same: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, there) in there {
        match here.get(name) {
            Some(here) if here == there => {}
            Some(_) => wrong.push(format!("`{name}` has another value here")),
            None if same => {}
            None => wrong.push(format!("`{name}` is not set here")),
        }
    }
    let absent = here.keys().filter(|name| !there.contains_key(*name));
    wrong.extend(absent.map(|name| format!("`{name}` is set here, and was not when it was built")));
    wrong
}

/// The mode of a build, which names `.env` files: `vite build --mode staging`.
fn mode(script: &str) -> String {
    let mut words = script.split_whitespace();
    while let Some(word) = words.next() {
        let given = if word == "--mode" { words.next() } else { word.strip_prefix("--mode=") };
        if let Some(mode) = given {
            return mode.trim_matches(['"', '\'']).to_owned();
        }
    }
    "production".to_owned()
}

/// Create React App and Next let `.env.local` win over the file of a mode; Vite does the opposite.
fn local_wins_for(name: &str) -> bool {
    name.starts_with("REACT_APP_") || name.starts_with("NEXT_PUBLIC_")
}

/// The `.env` files of a mode, the weakest first.
fn files(mode: &str, local_wins: bool) -> [String; 4] {
    let of_mode = format!(".env.{mode}");
    let local = ".env.local".to_owned();
    let (weaker, stronger) = if local_wins { (of_mode, local) } else { (local, of_mode) };
    [".env".to_owned(), weaker, stronger, format!(".env.{mode}.local")]
}

/// The definitions of an `.env` file, as `dotenv` reads them; a value over several lines is known by its first.
fn definitions(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.starts_with('#') {
            return None;
        }
        let quoted = value.chars().next().filter(|first| matches!(first, '"' | '\'' | '`'));
        let value = match quoted.and_then(|quote| value[1..].split_once(quote)) {
            Some((inside, _)) => inside,
            None => value.split(" #").next().unwrap_or(value).trim_end(),
        };
        Some((name.to_owned(), value.to_owned()))
    })
}

impl BuildRecord {
    /// Leaves the record in the output; gives what stays behind of the output for that, if it did not before.
    ///
    /// # Errors
    /// [`Exit::Build`] if it cannot be written.
    pub fn write(&self, output: &Path) -> Result<Option<(String, &'static str)>, Failure> {
        let path = output.join(RECORD);
        let left_out = (!path.exists()).then(|| (RECORD.to_owned(), STAYS));
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| std::fs::write(&path, text)).map(|()| left_out).map_err(|error| {
            let failure = Failure::new(Exit::Build, format!("site `{}`: writing the record of its build failed", self.site));
            failure.because(error).hint(format!("nothing live has changed; `{}` has to be writable", path.display()))
        })
    }

    /// The record that a build has left in the output; `None` if it was no build of windlass.
    ///
    /// # Errors
    /// [`Exit::Preflight`] if there is one that cannot be read.
    pub fn read(site: &UnitName, output: &Path) -> Result<Option<Self>, Failure> {
        let path = output.join(RECORD);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text,
        };
        let record = text.and_then(|text| serde_json::from_slice(&text).map_err(std::io::Error::other));
        record.map(Some).map_err(|error| {
            let failure = Failure::new(Exit::Preflight, format!("site `{site}`: reading `{}` failed", path.display())).because(error);
            failure.hint("nothing was changed; it says what the build was made for: build the site again")
        })
    }

    /// Refuses the output for `environment`, which would freeze `here`, if it was made for another.
    ///
    /// Another environment's build is as good as one's own if all that is frozen is the same. A variable that the build has frozen and
    /// that is unknown here says nothing in the same environment: it may have been set where the build ran.
    ///
    /// # Errors
    /// [`Exit::Preflight`], naming the variables.
    pub fn belongs_to(&self, site: &UnitName, environment: &str, here: &Frozen) -> Result<(), Failure> {
        let wrong = differences(&self.frozen, here, self.environment == environment);
        if wrong.is_empty() {
            return Ok(());
        }
        let made_for = match self.environment.as_str() {
            "" => String::new(),
            environment => format!(" for the environment `{environment}`"),
        };
        let failure = Failure::new(Exit::Preflight, format!("site `{site}`: the build was made{made_for}, and is not right for this one"));
        let failure = failure.because(format!("what it has frozen into its pages differs: {}", wrong.join("; ")));
        Err(failure.hint("nothing was changed; build the site for this environment, or take a build that was made for it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(directory: &Path, script: &str, environment: &[(&str, &str)]) -> BTreeMap<String, Sha256> {
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        let configured = ["API".to_owned(), "NPM_TOKEN".to_owned()];
        of_build(&"web".parse().unwrap(), directory, script, &environment, configured.iter()).unwrap()
    }

    fn a_record() -> BuildRecord {
        let (site, environment) = ("web".parse().unwrap(), "staging".to_owned());
        BuildRecord { format: 1, site, environment, inputs: Sha256::of(b""), output: Sha256::of(b""), frozen: Frozen::new() }
    }

    fn value(name: &str, value: &str) -> (String, Sha256) {
        (name.to_owned(), Sha256::of(format!("{name}={value}").as_bytes()))
    }

    #[test]
    fn what_is_frozen_is_named_and_not_told() {
        let root = tempfile::tempdir().unwrap();
        let environment =
            [("VITE_A", "1"), ("HOME", "/root"), ("API", "2"), ("NPM_TOKEN", "secret"), ("NEXT_PUBLIC_B", ""), ("PUBLIC_IP", "::1")];
        let frozen = of(root.path(), "build", &environment);
        assert_eq!(frozen, [value("VITE_A", "1"), value("API", "2"), value("NEXT_PUBLIC_B", "")].into());
    }

    #[test]
    fn files_count_as_each_bundler_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write(".env", "# a comment\nexport VITE_A = \"a # b\" # c\nVITE_B=1 # one\nSECRET=x\nREACT_APP_C=1\nPUBLIC_D=1\nno line\n");
        write(".env.local", "VITE_B=2\nREACT_APP_C=2\n");
        write(".env.production", "VITE_B=3\nREACT_APP_C=3\n");
        write(".env.staging", "VITE_B=4\n");
        let frozen = of(root.path(), "npm run build", &[]);
        assert_eq!(frozen, [value("VITE_A", "a # b"), value("VITE_B", "3"), value("REACT_APP_C", "2"), value("PUBLIC_D", "1")].into());
        assert_eq!(of(root.path(), "vite build --mode staging", &[])["VITE_B"], value("VITE_B", "4").1);
        assert_eq!(of(root.path(), "vite build --mode='staging'", &[("VITE_B", "5")])["VITE_B"], value("VITE_B", "5").1);
    }

    #[test]
    fn a_build_is_for_whoever_would_freeze_the_same() {
        let web: UnitName = "web".parse().unwrap();
        let record = |values: &[(&str, &str)]| {
            let frozen = values.iter().map(|(name, text)| value(name, text)).collect();
            BuildRecord { frozen, ..a_record() }
        };
        let here = |values: &[(&str, &str)]| record(values).frozen;
        let built = record(&[("VITE_A", "1"), ("VITE_B", "1")]);
        let judged = |environment: &str, values: &[(&str, &str)]| {
            built.belongs_to(&web, environment, &here(values)).map_err(|failure| (failure.to_string(), failure.causes()[0].clone()))
        };
        assert!(judged("staging", &[("VITE_A", "1"), ("VITE_B", "1")]).is_ok());
        assert!(judged("production", &[("VITE_A", "1"), ("VITE_B", "1")]).is_ok(), "the same bytes would come of it");
        assert!(judged("staging", &[]).is_ok(), "they were set where it was built");
        let (what, why) = judged("production", &[("VITE_A", "2"), ("VITE_C", "1")]).unwrap_err();
        assert_eq!(what, "site `web`: the build was made for the environment `staging`, and is not right for this one");
        for part in ["`VITE_A` has another value here", "`VITE_B` is not set here", "`VITE_C` is set here, and was not when it was built"] {
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        let web: UnitName = "web".parse().unwrap();
        assert_eq!(BuildRecord::read(&web, root.path()).unwrap(), None);
        let record = BuildRecord { frozen: [value("VITE_A", "1")].into(), ..a_record() };
        record.write(root.path()).unwrap();
        assert_eq!(BuildRecord::read(&web, root.path()).unwrap(), Some(record));
        std::fs::write(root.path().join(RECORD), "{").unwrap();
        assert_eq!(BuildRecord::read(&web, root.path()).unwrap_err().exit(), Exit::Preflight);
    }
}
