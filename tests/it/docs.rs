//! The user's guide says what is so: its commands are commands, its keys and exit codes are all of them, its links lead somewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::support::scene::Scene;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for users, with its text.
fn pages() -> BTreeMap<PathBuf, String> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<PathBuf> = docs.chain(["README.md", "examples/smart360/README.md"].map(|name| root().join(name))).collect();
    let pages = pages.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The words of a command, as a shell takes them.
fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == ' ' => found.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(c),
        }
    }
    found.extend(Some(word).filter(|word| !word.is_empty()));
    found
}

/// Commands that stand in blocks of shell, without their remarks.
fn commands(text: &str) -> Vec<String> {
    let blocks = Regex::new(r"(?s)```(?:sh|console|bash)\n(.*?)```").unwrap();
    let lines = blocks.captures_iter(text).flat_map(|block| block.get(1).unwrap().as_str().lines().collect::<Vec<_>>());
    let lines = lines.map(|line| line.trim().trim_start_matches("$ ")).filter(|line| line.starts_with("windlass "));
    lines
        .map(|line| line.split(" #").next().unwrap().split(" && ").next().unwrap().split(" > ").next().unwrap().trim().to_owned())
        .collect()
}

#[test]
fn every_command_is_one_that_windlass_takes() {
    let scene = Scene::new("http://127.0.0.1:1");
    let mut seen = 0;
    for (path, text) in pages() {
        for command in commands(&text) {
            let words = words(&command);
            let arguments: Vec<&str> = words[1..].iter().map(String::as_str).chain(["--help"]).collect();
            let outcome = scene.windlass(&arguments);
            assert_eq!(outcome.code, Some(0), "{}: `{command}`\n{}", path.display(), outcome.stderr);
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} commands were found");
}

/// In running text a command may have placeholders: its verb and its flags are looked for.
#[test]
fn every_command_in_running_text_has_a_verb_and_flags_that_there_are() {
    let scene = Scene::new("http://127.0.0.1:1");
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let inline = Regex::new(r"`windlass ([a-z][a-z-]*)([^`]*)`").unwrap();
    let flag = Regex::new(r"--[a-z][a-z-]+").unwrap();
    for (path, text) in pages() {
        for command in inline.captures_iter(&text.replace('\n', " ")) {
            let verb = command[1].to_owned();
            let help = helps.entry(verb.clone()).or_insert_with(|| scene.windlass(&[&verb, "--help"]).expect(0).stdout);
            for wanted in flag.find_iter(&command[2]) {
                assert!(help.contains(wanted.as_str()), "{}: `windlass {verb}` has no {}", path.display(), wanted.as_str());
            }
        }
    }
    assert!(helps.len() > 8, "{:?}", helps.keys());
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    for (path, text) in pages() {
        for found in link.captures_iter(&text) {
            let target = path.parent().unwrap().join(&found[1]);
            assert!(target.exists(), "{}: {} leads nowhere", path.display(), &found[1]);
        }
    }
}

#[test]
fn every_exit_code_is_explained() {
    let source = std::fs::read_to_string(root().join("src/model/failure.rs")).unwrap();
    let page = std::fs::read_to_string(root().join("docs/exit-codes.md")).unwrap();
    let code = Regex::new(r"(?m)^    [A-Z]\w+ = (\d+),$").unwrap();
    let codes: Vec<String> = code.captures_iter(&source).map(|found| found[1].to_owned()).chain(["0".to_owned(), "2".to_owned()]).collect();
    assert!(codes.len() > 20);
    for code in codes {
        assert!(page.contains(&format!("\n| {code} | ")), "exit code {code} is not in docs/exit-codes.md");
    }
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let schema: Value = serde_json::from_str(&Scene::new("http://127.0.0.1:1").windlass(&["schema"]).expect(0).stdout).unwrap();
    let path = root().join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mark = "<!-- Below: made of the schema. -->\n";
    let (head, there) = page.split_once(mark).unwrap();
    let made = Keys { schema: &schema, text: String::new() }.all();
    if std::env::var_os("WINDLASS_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{mark}{made}")).unwrap();
    } else {
        assert_eq!(there, made, "docs/configuration.md: run this test with WINDLASS_WRITE_DOCS=1 to have it written");
    }
}

/// The tables of the configuration's keys, made of its schema.
struct Keys<'a> {
    schema: &'a Value,
    text: String,
}

impl<'a> Keys<'a> {
    fn all(mut self) -> String {
        self.table("The file", self.schema);
        let definitions = &self.schema["$defs"];
        for (title, name) in [
            ("`environments.NAME`", "Environment"),
            ("`sites.NAME`", "Site"),
            ("`sites.NAME.from_image`", "FromImage"),
            ("`sites.NAME.keep`", "Keep"),
            ("`sites.NAME.headers`, each", "HeaderRule"),
            ("`services.NAME`", "Service"),
            ("`services.NAME.image`", "BuildImage"),
            ("`migrations.NAME`", "Migration"),
            ("`policy`", "Policy"),
        ] {
            self.table(title, &definitions[name]);
        }
        let with_keys = definitions.as_object().unwrap().iter().filter(|(_, definition)| definition["properties"].is_object()).count();
        assert_eq!(self.text.matches("\n## ").count() - 1, with_keys, "a part of the configuration has no table");
        self.text
    }

    fn table(&mut self, title: &str, of: &Value) {
        let about = of["description"].as_str().unwrap_or_default();
        self.text += &["\n## ", title, "\n\n", about, "\n\n| key | value | if absent | meaning |\n|---|---|---|---|\n"].concat();
        let required: Vec<&str> = of["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, value) in of["properties"].as_object().unwrap() {
            let absent = match &value["default"] {
                _ if required.contains(&key.as_str()) => "**needed**".to_owned(),
                Value::Null => "–".to_owned(),
                Value::String(text) if text.is_empty() => "empty".to_owned(),
                Value::String(text) => format!("`{text}`"),
                Value::Object(_) => "see below".to_owned(),
                Value::Array(list) if list.is_empty() => "none".to_owned(),
                other => format!("`{other}`"),
            };
            let choices = self.choices(value);
            let meaning = value["description"]
                .as_str()
                .map(str::to_owned)
                .or_else(|| self.resolved(value)["description"].as_str().map(str::to_owned));
            let meaning = format!("{}{choices}", meaning.unwrap_or_default()).replace('\n', " ").replace('|', "\\|");
            self.text += &["| `", key, "` | ", &self.kind(value), " | ", &absent, " | ", &meaning, " |\n"].concat();
        }
    }

    /// What a reference stands for, through `anyOf: [X, null]`.
    fn resolved(&self, value: &'a Value) -> &'a Value {
        let inner = value["anyOf"]
            .as_array()
            .and_then(|any| any.iter().find(|one| one["type"] != "null"))
            .filter(|_| value["anyOf"][1]["type"] == "null");
        let value = inner.unwrap_or(value);
        match value["$ref"].as_str() {
            Some(name) => &self.schema["$defs"][name.rsplit('/').next().unwrap()],
            None => value,
        }
    }

    fn choices(&self, value: &'a Value) -> String {
        let of = self.resolved(value);
        let list = of["oneOf"].as_array().or(of["anyOf"].as_array()).into_iter().flatten();
        let said = list.filter_map(|one| {
            let about = one["description"].as_str()?;
            Some(one["const"].as_str().map_or_else(|| about.to_owned(), |word| format!("`{word}`: {about}")))
        });
        let said: Vec<String> = said.collect();
        if said.is_empty() { String::new() } else { format!(" {}", said.join(" ")) }
    }

    fn kind(&self, value: &'a Value) -> String {
        let of = self.resolved(value);
        let word = |kind: &str| match kind {
            "string" => "text",
            "integer" => "number",
            "boolean" => "true or false",
            "array" => "list",
            _ => "mapping",
        };
        let kinds = of["type"].as_array().cloned().unwrap_or_else(|| vec![of["type"].clone()]);
        let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").map(word).collect();
        if of["oneOf"].is_array() {
            return "a word".to_owned();
        }
        match kinds[..] {
            [] if of["anyOf"].is_array() => "several forms".to_owned(),
            [] => "as there".to_owned(),
            _ => kinds.join(" or "),
        }
    }
}
