//! The flags of `windlass init`: answers to what a checkout leaves open, and names that it cannot hold.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::detect::{Answers, Application, Topic};
use crate::model::{Exit, Failure, UnitName};

/// What `init` understands.
#[derive(Debug, Args)]
pub(in crate::cli) struct Init {
    /// The checkout [default: the working directory]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print what would be written, and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Ask nothing, also on a terminal
    #[arg(long)]
    pub(super) no_input: bool,
    /// The application's name [default: that of package.json, of the Git remote, or of the directory]
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub(super) app: Option<UnitName>,
    /// Where the state is kept: `s3://BUCKET/PREFIX`, or none [default: `s3://APP-state/windlass`]
    #[arg(long, value_name = "PLACE", help_heading = "Names")]
    pub(super) state: Option<String>,
    /// An environment; may be given several times
    #[arg(long, value_name = "NAME[=ACCOUNT[/REGION]]", help_heading = "Names")]
    pub(super) environment: Vec<EnvironmentFlag>,
    /// A site's bucket [default: APP-SITE]
    #[arg(long, value_name = "[SITE=]NAME", help_heading = "Names")]
    pub(super) bucket: Vec<Named>,
    /// A site's distribution, by its id
    #[arg(long, value_name = "[SITE=]ID", help_heading = "Names")]
    pub(super) distribution: Vec<Named>,
    /// The ECS cluster [default: APP]
    #[arg(long, value_name = "[SERVICE=]NAME", help_heading = "Names")]
    pub(super) cluster: Vec<Named>,
    /// A service's name on ECS [default: the unit's]
    #[arg(long, value_name = "[SERVICE=]NAME", help_heading = "Names")]
    pub(super) ecs_service: Vec<Named>,
    /// The container that runs a service's image [default: the unit's name]
    #[arg(long, value_name = "[SERVICE=]NAME", help_heading = "Names")]
    pub(super) container: Vec<Named>,
    /// A service's repository in the registry [default: APP/SERVICE]
    #[arg(long, value_name = "[SERVICE=]NAME", help_heading = "Names")]
    pub(super) repository: Vec<Named>,
    /// The path that answers when a service is well
    #[arg(long, value_name = "[SERVICE=]PATH", help_heading = "Names")]
    pub(super) health: Vec<Named>,
    /// A Lambda function that migrates, instead of a task like the service's
    #[arg(long, value_name = "[MIGRATION=]NAME", help_heading = "Names")]
    pub(super) function: Vec<Named>,
    /// npm, pnpm, yarn or bun, where lockfiles contradict one another
    #[arg(long, value_name = "[DIR=]TOOL", help_heading = "Answers")]
    package_manager: Vec<Named>,
    /// pip, uv, poetry, pdm or pipenv, where lists of packages do
    #[arg(long, value_name = "[DIR=]TOOL", help_heading = "Answers")]
    python: Vec<Named>,
    /// Django's settings module, where there are several
    #[arg(long, value_name = "[DIR=]MODULE", help_heading = "Answers")]
    settings: Vec<Named>,
    /// Which of several Dockerfiles is built
    #[arg(long, value_name = "[DIR=]FILE", help_heading = "Answers")]
    dockerfile: Vec<Named>,
    /// Which of its stages
    #[arg(long, value_name = "[DIR=]STAGE", help_heading = "Answers")]
    target: Vec<Named>,
    /// The directory that a site's build writes, where its configuration computes it
    #[arg(long, value_name = "[DIR=]DIR", help_heading = "Answers")]
    output: Vec<Named>,
    /// What a directory is: site, service, or skip for nothing
    #[arg(long = "as", value_name = "DIR=KIND", help_heading = "Answers")]
    kind: Vec<Named>,
    /// The service whose image migrates the database of a Prisma schema
    #[arg(long, value_name = "[DIR=]SERVICE", help_heading = "Answers")]
    migrated_by: Vec<Named>,
}

/// A value, perhaps for one unit or directory alone.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) of: Option<String>,
    pub(super) value: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (of, value) = text.split_once('=').map_or((None, text), |(of, value)| (Some(of.to_owned()), value));
        if value.is_empty() || of.as_deref() == Some("") {
            return Err("nothing stands before or after `=`".to_owned());
        }
        Ok(Self { of, value: value.to_owned() })
    }
}

/// An environment, its account and its region.
#[derive(Debug, Clone)]
pub(super) struct EnvironmentFlag {
    pub(super) name: String,
    pub(super) account: Option<String>,
    pub(super) region: Option<String>,
}

impl FromStr for EnvironmentFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, place) = text.split_once('=').map_or((text, None), |(name, place)| (name, Some(place)));
        name.parse::<UnitName>().map_err(|error| error.to_string())?;
        let (account, region) = place.map_or((None, None), |place| match place.split_once('/') {
            Some((account, region)) => (Some(account), Some(region)),
            None => (Some(place), None),
        });
        if account.is_some_and(|account| account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err("an account has 12 digits: staging=111111111111/eu-central-1".to_owned());
        }
        if region.is_some_and(|region| region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')) {
            return Err("a region is a name such as eu-central-1".to_owned());
        }
        Ok(Self { name: name.to_owned(), account: account.map(str::to_owned), region: region.map(str::to_owned) })
    }
}

impl Init {
    pub(super) fn directory(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new("."))
    }

    pub(super) fn given_directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    fn topics(&self) -> [(Topic, &[Named]); 8] {
        [
            (Topic::PackageManager, &self.package_manager),
            (Topic::Python, &self.python),
            (Topic::Settings, &self.settings),
            (Topic::Dockerfile, &self.dockerfile),
            (Topic::Target, &self.target),
            (Topic::Output, &self.output),
            (Topic::Kind, &self.kind),
            (Topic::MigratedBy, &self.migrated_by),
        ]
    }

    /// The answers among the flags.
    pub(super) fn answers(&self) -> Answers {
        let mut answers = Answers::default();
        for (topic, given) in self.topics() {
            for named in given {
                answers.give(topic, named.of.as_deref(), &named.value);
            }
        }
        answers
    }

    /// Refuses an answer that no directory is for, or that is none of those that there are: a slip would be passed over in silence.
    pub(super) fn check_units(&self, application: &Application) -> Result<(), Failure> {
        let words: [(Topic, &[&str]); 3] = [
            (Topic::PackageManager, &["npm", "pnpm", "yarn", "bun"]),
            (Topic::Python, &["pip", "uv", "poetry", "pdm", "pipenv"]),
            (Topic::Kind, &["site", "service", "skip"]),
        ];
        let wrong = |what: String, hint: String| Err(Failure::new(Exit::Config, format!("{what}; nothing was written")).hint(hint));
        for (topic, given) in self.topics() {
            for named in given {
                if let Some((_, known)) = words.iter().find(|(of, _)| *of == topic)
                    && !known.contains(&named.value.as_str())
                {
                    return wrong(format!("{} does not know `{}`", topic.flag(), named.value), format!("it takes {}", known.join(", ")));
                }
                let Some(of) = &named.of else { continue };
                let of = of.trim_start_matches("./").trim_end_matches('/');
                if !application.directories.iter().any(|known| known == of || known.rsplit('/').next() == Some(of)) {
                    let known = application.directories.join(", ");
                    return wrong(
                        format!("{} names `{of}`, where nothing was recognised", topic.flag()),
                        format!("something was in: {known}"),
                    );
                }
            }
        }
        // Who has the image of another has its repository, too.
        let owners = application.services.iter().filter(|service| service.image_of.is_none());
        let units: [(&str, &[Named], Vec<&str>); 8] = [
            ("--bucket", &self.bucket, application.sites.iter().map(|site| site.name.as_str()).collect()),
            ("--distribution", &self.distribution, application.sites.iter().map(|site| site.name.as_str()).collect()),
            ("--cluster", &self.cluster, application.services.iter().map(|service| service.name.as_str()).collect()),
            ("--ecs-service", &self.ecs_service, application.services.iter().map(|service| service.name.as_str()).collect()),
            ("--container", &self.container, application.services.iter().map(|service| service.name.as_str()).collect()),
            ("--repository", &self.repository, owners.map(|service| service.name.as_str()).collect()),
            ("--health", &self.health, application.services.iter().map(|service| service.name.as_str()).collect()),
            ("--function", &self.function, application.migrations.iter().map(|migration| migration.name.as_str()).collect()),
        ];
        for (flag, given, known) in units {
            for named in given {
                match &named.of {
                    Some(of) if !known.contains(&of.as_str()) => {
                        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                        return wrong(format!("{flag} names `{of}`, which is no such unit"), format!("there are: {known}"));
                    }
                    // One bucket, one distribution, one function cannot be that of several.
                    None if known.len() > 1 && !matches!(flag, "--cluster" | "--health" | "--container") => {
                        return wrong(
                            format!("{flag} `{}` could be that of {}", named.value, known.join(", ")),
                            format!("say whose: {flag} {}={}", known[0], named.value),
                        );
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
