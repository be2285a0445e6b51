//! `windlass init`: what a checkout holds becomes `windlass.yml`, buildspecs, a `Jenkinsfile`, and Dockerfiles where there are none.
//!
//! All of it is rendered, and the configuration read back, before the first file is written; a file that is there is never written to.

mod ask;
mod batch;
mod flags;
mod image;
mod jenkins;
mod names;
mod page;
mod said;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{self, Given};
use crate::detect::{self, Application, DetectError};
use crate::model::yaml::{Entry, Node, Value};
use crate::model::{Exit, Failure};

use super::arguments::{Common, Format};
pub(super) use flags::Init;
use names::Names;
use write::{Fate, File};

/// The buildspecs that windlass ships, as they lie in its own `buildspecs/`.
const BUILDSPECS: &[(&str, &str)] = &[
    ("batch.yml", include_str!("../../buildspecs/batch.yml")),
    ("build.yml", include_str!("../../buildspecs/build.yml")),
    ("migrations.yml", include_str!("../../buildspecs/migrations.yml")),
    ("publish.yml", include_str!("../../buildspecs/publish.yml")),
    ("release.yml", include_str!("../../buildspecs/release.yml")),
    ("services.yml", include_str!("../../buildspecs/services.yml")),
];

pub(super) fn run(common: &Common, verb: &Init) -> Result<ExitCode, Failure> {
    let file = common.file().unwrap_or_else(|| verb.directory().join("windlass.yml"));
    let root = file.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    if verb.given_directory().is_some_and(|directory| same_directory(directory, &root).is_none()) {
        let what = format!("`{}` does not lie in `{}`", file.display(), verb.directory().display());
        return Err(
            Failure::new(Exit::Config, what).hint("the configuration lies at the root of the checkout: leave out the one or the other")
        );
    }
    let there = file.exists();
    let terminal = ask::terminal(verb.no_input);
    let mut answers = verb.answers();
    let mut application = look(&root, &answers)?;
    verb.check_units(&application)?;
    loop {
        let open = open(&application, there, &root);
        let Some(question) = open.first() else { break };
        if !terminal {
            return Err(refused(&open, common, &application));
        }
        let answer = ask::choose(question)?;
        answers.give(question.topic, Some(&question.directory), &answer);
        application = look(&root, &answers)?;
    }
    let (units, text, checks, app) = if there {
        (existing(&file)?, None, Vec::new(), None)
    } else {
        if application.sites.is_empty() && application.services.is_empty() {
            return Err(nothing(&root, &application));
        }
        let mut names = Names::new(verb, &application);
        if terminal {
            ask::names(&mut names, &application)?;
        }
        let page = page::render(&application, &names);
        read_back(&page.text, &names)?;
        (jenkins::Units::of(&application, &names), Some(page.text), page.checks, Some(names.app.value))
    };
    let name = file.file_name().map_or_else(|| "windlass.yml".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut files: Vec<File> = Vec::new();
    files.extend(text.map(|text| File::new(&name, text)));
    for (name, text) in BUILDSPECS {
        let text = if *name == "batch.yml" { batch::render(text, &units) } else { (*text).to_owned() };
        files.push(File::new(&format!("buildspecs/{name}"), text));
    }
    files.push(File::new("Jenkinsfile", jenkins::render(&units, &name)));
    for service in application.services.iter().filter(|service| service.recipe.is_some()) {
        files.extend(image::files(service));
    }
    let fates = write::all(&root, &files, verb.dry_run)?;
    let kept = there.then(|| (name.clone(), Fate::Kept));
    let said = said::Said {
        application: &application,
        files: &files,
        fates: &fates,
        kept,
        checks: &checks,
        app: app.as_deref(),
        config: &name,
        dry_run: verb.dry_run,
    };
    match common.format {
        Format::Human => super::print(&said.text())?,
        Format::Json => super::print_json(&said.json())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn look(root: &Path, answers: &detect::Answers) -> Result<Application, Failure> {
    detect::look(root, answers).map_err(|error| {
        let hint = match &error {
            DetectError::List(..) => "name the directory of a checkout: `windlass init DIR`",
            DetectError::Wrong { .. } => "correct the file, and run `windlass init` again; nothing was written",
        };
        Failure::new(Exit::Config, "reading the checkout failed").because(error).hint(hint)
    })
}

/// `Some` if both are the same directory.
fn same_directory(one: &Path, other: &Path) -> Option<()> {
    (one.canonicalize().ok()? == other.canonicalize().ok()?).then_some(())
}

/// The questions whose answer something depends on that is still to be written.
fn open<'a>(application: &'a Application, there: bool, root: &Path) -> Vec<&'a detect::Question> {
    let needed = |question: &&detect::Question| {
        let missing = |service: &&detect::Service| service.recipe.is_some() && !root.join(&service.dockerfile).exists();
        !there
            || application
                .services
                .iter()
                .filter(missing)
                .any(|service| service.directory == question.directory || service.path == question.directory)
    };
    application.questions.iter().filter(needed).collect()
}

/// What is not clear, and which flag says it.
fn refused(open: &[&detect::Question], common: &Common, application: &Application) -> Failure {
    let mut lines = Vec::new();
    let mut flags = Vec::new();
    for question in open {
        lines.push(format!("{}:", question.what));
        let width = question.choices.iter().map(|(value, _)| value.len()).max().unwrap_or_default();
        lines.extend(question.choices.iter().map(|(value, at)| format!("   {value:<width$}  {at}")));
        let values: Vec<&str> = question.choices.iter().map(|(value, _)| value.as_str()).collect();
        let values = if values.is_empty() { "DIR".to_owned() } else { values.join("|") };
        flags.push(format!("{} {}={values}", question.topic.flag(), question.directory));
    }
    if common.format == Format::Json {
        // The failure's own line follows; findings help to answer.
        let _ = super::print_json(&said::questions(application, open));
    }
    let count = if open.len() == 1 { "one thing".to_owned() } else { format!("{} things", open.len()) };
    let failure = Failure::new(Exit::Config, format!("{count} in this checkout can be read in more than one way; nothing was written"));
    failure.because(lines.join("\n   ")).hint(format!("say which: windlass init {}", flags.join(" ")))
}

fn nothing(root: &Path, application: &Application) -> Failure {
    let failure =
        Failure::new(Exit::Config, format!("nothing that can be released was recognised in `{}`; nothing was written", root.display()));
    let found: Vec<String> = application.findings.iter().map(|finding| format!("{}: {}", finding.at, finding.what)).collect();
    let looked = "looked for package.json (Vite, Create React App, Next.js, Angular, Vue, Astro, NestJS, Express …), manage.py, Dockerfiles and index.html";
    let cause = if found.is_empty() { looked.to_owned() } else { format!("{looked}\n   {}", found.join("\n   ")) };
    failure
        .because(cause)
        .hint("run it at the root of a checkout, or write windlass.yml by hand: `windlass schema` prints what it may hold")
}

/// The configuration that was rendered has to pass windlass's own reader, in every environment.
fn read_back(text: &str, names: &Names) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::new(Exit::Bug, "making a temporary directory failed").because(error))?;
    let file = folder.path().join("windlass.yml");
    std::fs::write(&file, text).map_err(|error| Failure::new(Exit::Bug, "writing into a temporary directory failed").because(error))?;
    let environments: Vec<Option<String>> = match names.environments() {
        [] => vec![None],
        some => some.iter().map(|environment| Some(environment.name.clone())).collect(),
    };
    for environment in environments {
        let given = Given { file: Some(file.clone()), environment, ..Given::default() };
        config::load(&given).map_err(|failure| {
            let shown = failure.to_string().replace(&file.display().to_string(), "windlass.yml");
            let causes = failure.causes().join("\n   ").replace(&file.display().to_string(), "windlass.yml");
            let refused = Failure::new(
                Exit::Config,
                format!("the configuration that follows from the checkout is refused: {shown}; nothing was written"),
            );
            let refused = if causes.is_empty() { refused } else { refused.because(causes) };
            refused.hint("correct a name that was given by a flag; `windlass init --dry-run` shows what was found")
        })?;
    }
    Ok(())
}

/// The units and environments of a configuration that is there.
fn existing(file: &Path) -> Result<jenkins::Units, Failure> {
    let wrong = |why: String| {
        let failure = Failure::new(Exit::Config, format!("`{}` is there, and cannot be read; nothing was written", file.display()));
        failure.because(why).hint("correct it, or move it away to have it made anew")
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let root = crate::model::yaml::parse(&text).map_err(|error| wrong(format!("{}: {error}", error.place)))?;
    let root = crate::model::merge_keys::merged(root, &mut |_| ());
    let entries = |section: &str| root.get(section).map(Node::entries).unwrap_or_default();
    let keys = |section: &str| entries(section).iter().map(|entry| entry.key.clone()).collect();
    let from = |entry: &Entry| match &entry.value.get("from_image")?.get("service")?.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    };
    let sites = entries("sites").iter().map(|entry| (entry.key.clone(), from(entry))).collect();
    let mut images: Vec<(String, Vec<String>)> = Vec::new();
    for entry in entries("services") {
        let made = ["path", "image"].map(|key| entry.value.get(key).map(written).unwrap_or_default()).join("\n");
        match images.iter_mut().find(|(other, _)| *other == made) {
            Some((_, names)) => names.push(entry.key.clone()),
            None => images.push((made, vec![entry.key.clone()])),
        }
    }
    let images = images.into_iter().map(|(_, names)| names).collect();
    Ok(jenkins::Units { services: keys("services"), images, sites, environments: keys("environments") })
}

/// What a node holds, wherever it stands.
fn written(node: &Node) -> String {
    match &node.value {
        Value::Null => String::new(),
        Value::Scalar { text, .. } => format!("{text:?}"),
        Value::Sequence(items) => items.iter().map(written).collect::<Vec<_>>().join(","),
        Value::Mapping(entries) => {
            let mut pairs: Vec<String> = entries.iter().map(|entry| format!("{}:{}", entry.key, written(&entry.value))).collect();
            pairs.sort_unstable();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    /// A buildspec that is added to the repository's folder and not to the table would not be written.
    #[test]
    fn every_buildspec_that_is_shipped_is_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/buildspecs");
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| std::path::Path::new(name).extension().is_some_and(|extension| extension == "yml"));
        names.sort();
        let mut table: Vec<&str> = super::BUILDSPECS.iter().map(|(name, _)| *name).collect();
        table.sort_unstable();
        assert_eq!(table, names);
    }
}
