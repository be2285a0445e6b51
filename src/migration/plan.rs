//! Which databases have to be migrated, where, by what, with which code.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Framework, Handler, Migration, RiskyMigrations, Service};
use crate::model::{ImageRef, ImageUri, Refusal, Sha256, UnitName};

use super::checkout::{self, History};
use super::handler::Kind;

mod fit;

pub use fit::{Found, FoundFunction, place, refusal};

/// How long a task or a command may take, unless the configuration says.
const HOUR: Duration = Duration::from_hours(1);

/// One migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// What migrates.
    pub framework: Framework,
    /// Where it runs.
    pub runs: Runs,
    /// The image whose migrations are applied.
    pub image: ImageRef,
    /// The command, where it is not the framework's own.
    pub command: Option<Vec<String>>,
    /// Django's aliases of the databases.
    pub databases: Vec<String>,
    /// How long it may take, in seconds.
    pub timeout_seconds: u64,
    /// Are the migrations of this image applied already, by the record?
    pub applied: bool,
    /// Those of the checkout that are not applied yet, with what may break in them; `None` where nobody knows what is applied.
    pub pending: Option<Vec<checkout::Migration>>,
    /// Who says so.
    pub pending_by: String,
    /// Where nobody knows: the risky ones of the checkout.
    pub risky_at_all: Vec<checkout::Migration>,
    /// What is done about risky ones.
    pub risky: RiskyMigrations,
    /// The RDS instance that a snapshot is taken of first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What the database's lease is called.
    #[serde(default)]
    pub database: String,
    /// The services that are stopped while it migrates; none where the old code gets along with the new schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Stops>,
    /// Do they stay stopped when it has failed before anything was applied?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays_stopped: bool,
}

/// A service that is stopped for a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stops {
    /// The service.
    pub unit: UnitName,
    /// Its cluster.
    pub cluster: String,
    /// Its name on ECS.
    pub service: String,
    /// The tasks that it has, and starts again with.
    pub tasks: i32,
}

/// Where a migration runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum Runs {
    /// In a function of package type Image.
    LambdaImage {
        /// The function.
        function: String,
        /// The handler of windlass that is put on top of the image; `None` where the image has its own.
        handler: Option<Kind>,
        /// Does the function run another image, so that its code is updated first? Unknown until the image is.
        update_code: Option<bool>,
    },
    /// In a function of package type Zip.
    LambdaZip {
        /// The function.
        function: String,
        /// The handler of windlass that the zip holds; `None` where the zip has its own.
        handler: Option<Kind>,
        /// What the zip is made of.
        made_of: MadeOf,
        /// Does the function run another zip, so that its code is updated first? Unknown until the zip is made.
        update_code: Option<bool>,
    },
    /// In a task like those of a service.
    Task {
        /// The service's cluster.
        cluster: String,
        /// The service.
        service: String,
        /// The container of the service that gets the image.
        container: String,
        /// The task definition that the task's revision is made of.
        task_definition: String,
        /// The container that migrates.
        migrates: String,
    },
    /// On this machine.
    Local {
        /// The directory, from the configuration's.
        directory: String,
        /// Variables beside those of this process. They may be secret, as an address of a database is: what is written down has their names
        /// alone, and nothing is run that was read from there.
        #[serde(serialize_with = "names_alone")]
        env: BTreeMap<String, String>,
    },
}

fn names_alone<S: serde::Serializer>(variables: &BTreeMap<String, String>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(variables.keys().map(|name| (name, "***")))
}

/// What a function's zip is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeOf {
    /// It was made elsewhere: its file, from the configuration's directory, and its digest.
    File(String, Sha256),
    /// The application and its packages, as the release's image holds them.
    Image,
    /// Prisma's schema and migrations, from this directory of the checkout, with an engine.
    Prisma(String),
}

impl MigrationPlan {
    /// Windlass's handler for the framework; `None` for a command.
    #[must_use]
    pub fn handler(&self) -> Option<Kind> {
        match self.framework {
            Framework::Django => Some(Kind::Django),
            Framework::Prisma => Some(Kind::Prisma),
            Framework::Command => None,
        }
    }

    /// Where it runs, in a few words that do not change while it is brought about.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.runs {
            Runs::LambdaImage { function, .. } | Runs::LambdaZip { function, .. } => format!("function {function}"),
            Runs::Task { cluster, service, migrates, .. } => format!("task {cluster}/{service}/{migrates}"),
            Runs::Local { directory, .. } => format!("directory {directory}"),
        }
    }

    /// Are risks said?
    #[must_use]
    pub fn says_risks(&self) -> bool {
        self.risky != RiskyMigrations::Allow
    }

    /// Are risky migrations refused?
    #[must_use]
    pub fn refuses_risks(&self) -> bool {
        self.risky == RiskyMigrations::Refuse
    }

    /// May the framework be run again without harm, because it applies what is pending and nothing else?
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.framework != Framework::Command
    }
}

/// What was migrated last, by the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The image whose migrations are applied.
    pub image: ImageUri,
    /// What ran them where that is another.
    pub code: Option<String>,
}

/// Draws one migration. `migrated` is what the record says was migrated last.
#[must_use]
pub fn draw(
    migration: &Migration,
    service: &Service,
    image: ImageRef,
    found: &Found,
    migrated: Option<&Migrated>,
    history: &History,
    risky: RiskyMigrations,
) -> MigrationPlan {
    let known = match &image {
        ImageRef::Known(uri) => Some(uri),
        ImageRef::FromStep(_) => None,
    };
    let limit = migration.timeout.map_or(HOUR, |timeout| timeout.0);
    let mut applied = known.is_some() && known == migrated.map(|migrated| &migrated.image);
    let (runs, timeout) = match found {
        Found::Function(function) if function.package_type == "Zip" => {
            let made_of = made_of(migration, service, function);
            let code = match &made_of {
                MadeOf::File(_, digest) => Some(super::zip::code_sha256(digest)),
                _ => None,
            };
            if code.is_some() {
                applied = migrated.is_some_and(|migrated| migrated.code == code);
            }
            let update_code = code.map(|code| function.code.as_ref() != Some(&code));
            let named = migration.handler == Some(Handler::Windlass);
            let ours = named || (migration.handler.is_none() && !matches!(made_of, MadeOf::File(..)));
            let function_name = migration.function.clone().unwrap_or_default();
            let handler = ours.then(|| kind(migration.framework));
            (Runs::LambdaZip { function: function_name, handler, made_of, update_code }, function.timeout)
        }
        Found::Function(function) => {
            let handler = handler(migration, function);
            // Which digest the image with the handler has is seen when it is there.
            let update_code = known.filter(|_| handler.is_none()).map(|uri| function.code.as_deref() != Some(uri.to_string().as_str()));
            let name = migration.function.clone().unwrap_or_default();
            (Runs::LambdaImage { function: name, handler, update_code }, function.timeout)
        }
        Found::TaskDefinition(arn, _) => {
            let runs = Runs::Task {
                cluster: service.cluster.clone(),
                service: service.service.clone(),
                container: service.container.clone(),
                task_definition: arn.clone(),
                migrates: migration.container.clone().unwrap_or_else(|| container(migration, service, found)),
            };
            (runs, limit)
        }
        _ => (Runs::Local { directory: service.path.clone(), env: migration.env.clone() }, limit),
    };
    let databases = if migration.databases.is_empty() { vec!["default".to_owned()] } else { migration.databases.clone() };
    MigrationPlan {
        framework: migration.framework,
        runs,
        command: migration.command.as_ref().map(crate::config::Words::argv),
        databases,
        timeout_seconds: timeout.as_secs(),
        applied,
        image,
        pending: history.pending(),
        pending_by: history.by.clone(),
        risky_at_all: history.risky_at_all(),
        risky,
        snapshot: migration.snapshot.clone(),
        database: migration.database.clone().unwrap_or_default(),
        stops: Vec::new(),
        stays_stopped: false,
    }
}

/// Why pending migrations are refused, if the policy asks for it.
#[must_use]
pub fn risk(name: &UnitName, plan: &MigrationPlan) -> Option<Refusal> {
    let risky = plan.pending.iter().flatten().filter(|migration| !migration.risks.is_empty());
    let risky: Vec<String> = risky.map(|migration| format!("{}: {}", migration.name, migration.risks.join("; "))).collect();
    (plan.risky == RiskyMigrations::Refuse && !plan.applied && !risky.is_empty()).then(|| {
        Refusal::new(
            format!("migration `{name}` is risky, and `policy.risky_migrations` is `refuse`:\n      {}", risky.join("\n      ")),
            "split it: what the old code can live with first, the rest once no old code runs; or write `risky_migrations: warn`",
        )
    })
}

/// Windlass's handler where nothing else says what the function runs.
fn handler(migration: &Migration, function: &FoundFunction) -> Option<Kind> {
    let ours = match migration.handler {
        Some(handler) => handler == Handler::Windlass,
        None => migration.image.is_none() && !function.has_command && (function.plain_application || migration.command.is_some()),
    };
    ours.then(|| kind(migration.framework))
}

fn kind(framework: Framework) -> Kind {
    match framework {
        Framework::Django => Kind::Django,
        Framework::Prisma => Kind::Prisma,
        Framework::Command => Kind::Command,
    }
}

fn made_of(migration: &Migration, service: &Service, function: &FoundFunction) -> MadeOf {
    match (&migration.zip, &function.zip) {
        (Some(file), Some(Ok(digest))) => MadeOf::File(file.clone(), *digest),
        _ if migration.framework == Framework::Prisma => MadeOf::Prisma(service.path.clone()),
        _ => MadeOf::Image,
    }
}

/// The container that migrates, where none is named: the service's, or the only one of a task definition of the migration's own.
fn container(migration: &Migration, service: &Service, found: &Found) -> String {
    match found {
        Found::TaskDefinition(_, containers) if migration.task_definition.is_some() && !containers.contains(&service.container) => {
            containers.first().cloned().unwrap_or_default()
        }
        _ => service.container.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn uri(digit: &str) -> ImageUri {
        format!("host/shop/api@sha256:{}", digit.repeat(64)).parse().unwrap()
    }

    pub(super) fn service() -> Service {
        let service = serde_json::json!({"image": {"repository": "shop/api"}, "cluster": "shop", "service": "api", "container": "web"});
        serde_json::from_value(service).unwrap()
    }

    pub(super) fn migration(more: &serde_json::Value) -> Migration {
        let mut value = serde_json::json!({"framework": "django", "driver": "lambda-image", "from": "api", "function": "f"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    pub(super) fn function() -> FoundFunction {
        FoundFunction {
            package_type: "Image".into(),
            code: Some(uri("1").to_string()),
            runtime: None,
            handler: None,
            zip: None,
            timeout: Duration::from_mins(1),
            architecture: "x86_64".into(),
            has_command: false,
            plain_application: false,
        }
    }

    #[test]
    fn what_the_record_says_is_applied_is_not_run_again() {
        let draw = |image, applied: Option<&Migrated>| {
            draw(
                &migration(&serde_json::json!({})),
                &service(),
                image,
                &Found::Function(function()),
                applied,
                &History::default(),
                RiskyMigrations::Warn,
            )
        };
        let update = |plan: &MigrationPlan| match plan.runs {
            Runs::LambdaImage { update_code, .. } => update_code,
            _ => None,
        };
        let last = Migrated { image: uri("1"), code: None };
        let same = draw(ImageRef::Known(uri("1")), Some(&last));
        assert_eq!((same.applied, update(&same)), (true, Some(false)));
        let new = draw(ImageRef::Known(uri("2")), Some(&last));
        assert_eq!((new.applied, update(&new)), (false, Some(true)));
        let unbuilt = draw(ImageRef::FromStep("api".parse().unwrap()), Some(&last));
        assert_eq!((unbuilt.applied, update(&unbuilt)), (false, None));
        assert!(!draw(ImageRef::Known(uri("1")), None).applied);
    }

    #[test]
    fn variables_of_a_command_are_written_down_by_their_names_alone() {
        let more = serde_json::json!({"driver": "local", "env": {"DATABASE_URL": "postgres://ada:s3cr3t@db/shop"}});
        let (image, none) = (ImageRef::Known(uri("1")), History::default());
        let plan = draw(&migration(&more), &service(), image, &Found::Machine, None, &none, RiskyMigrations::Warn);
        assert!(matches!(&plan.runs, Runs::Local { env, .. } if env["DATABASE_URL"].contains("s3cr3t")));
        let written = serde_json::to_string(&plan).unwrap();
        assert!(written.contains("DATABASE_URL") && !written.contains("s3cr3t"), "{written}");
        assert!(serde_json::from_str::<MigrationPlan>(&written).is_ok());
    }

    #[test]
    fn what_is_pending_and_risky_is_refused_where_the_policy_asks_for_it() {
        let one = |name: &str, risk: &str| checkout::Migration { name: name.into(), risks: vec![risk.into()] };
        let checkout = vec![one("a.1", "drops a table"), one("a.2", "drops a column")];
        let draw = |applied: Option<Vec<String>>, risky| {
            let history = History { checkout: checkout.clone(), applied, by: "the record".into() };
            let image = ImageRef::FromStep("api".parse().unwrap());
            draw(&migration(&serde_json::json!({})), &service(), image, &Found::Function(function()), None, &history, risky)
        };
        let refuse = |plan: &MigrationPlan| risk(&"main".parse().unwrap(), plan).map(|refusal| refusal.what);
        let known = draw(Some(vec!["a.1".into()]), RiskyMigrations::Refuse);
        assert_eq!(known.pending.as_ref().map(Vec::len), Some(1));
        assert!(refuse(&known).unwrap().contains("a.2: drops a column"));
        assert_eq!(refuse(&draw(Some(vec!["a.1".into()]), RiskyMigrations::Warn)), None);
        let unknown = draw(None, RiskyMigrations::Refuse);
        assert_eq!((unknown.pending.clone(), refuse(&unknown)), (None, None), "the stage asks again");
    }

    #[test]
    fn windlass_brings_its_handler_where_nobody_else_does() {
        let ours = |more: serde_json::Value, function: FoundFunction| handler(&migration(&more), &function).is_some();
        let plain = FoundFunction { plain_application: true, ..function() };
        assert!(ours(serde_json::json!({}), plain.clone()));
        assert!(!ours(serde_json::json!({}), function()), "an image that brings its own runtime");
        assert!(!ours(serde_json::json!({}), FoundFunction { has_command: true, ..plain.clone() }), "the function names its handler");
        assert!(!ours(serde_json::json!({"handler": "own"}), plain.clone()));
        assert!(ours(serde_json::json!({"handler": "windlass"}), FoundFunction { has_command: true, ..plain }));
    }
}
