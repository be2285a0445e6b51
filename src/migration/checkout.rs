//! The migrations that a checkout holds, and what in them may break the code that runs or hold up the database.
//!
//! They are read as text: nothing of the application is run. Deliberately absent: what other packages bring (Django's own `auth`), which
//! no checkout holds.

use std::path::Path;
use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

/// One migration of a checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// As its framework names it: `items.0003_item_stock`, `20260102000000_more`.
    pub name: String,
    /// What may break, in a few words each.
    pub risks: Vec<String>,
}

/// What is known of a database's past, and of the checkout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The migrations of the checkout.
    pub checkout: Vec<Migration>,
    /// What is applied, if anybody knows.
    pub applied: Option<Vec<String>>,
    /// Who says so.
    pub by: String,
}

impl History {
    /// Those of the checkout that are not applied; `None` where nobody knows what is.
    #[must_use]
    pub fn pending(&self) -> Option<Vec<Migration>> {
        let applied = self.applied.as_ref()?;
        Some(self.checkout.iter().filter(|migration| !applied.contains(&migration.name)).cloned().collect())
    }

    pub(super) fn risky_at_all(&self) -> Vec<Migration> {
        let risky = self.checkout.iter().filter(|migration| self.applied.is_none() && !migration.risks.is_empty());
        risky.cloned().collect()
    }
}

/// The frameworks whose migrations are known by their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `APP/migrations/NAME.py`.
    Django,
    /// `prisma/migrations/NAME/migration.sql`.
    Prisma,
}

/// Folders that hold other people's code.
const FOREIGN: [&str; 8] = ["node_modules", "site-packages", ".venv", "venv", ".git", "__pycache__", "dist", "build"];

/// The migrations below `root`, in the order of their names. What cannot be read is left out: they are looked at, not run.
#[must_use]
pub fn migrations(root: &Path, kind: Kind) -> Vec<Migration> {
    let own = |name: &str| !FOREIGN.contains(&name);
    let files = WalkDir::new(root).max_depth(8).into_iter().filter_entry(|entry| entry.file_name().to_str().is_none_or(own));
    let mut found: Vec<Migration> =
        files.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()).filter_map(|entry| one(entry.path(), kind)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn one(path: &Path, kind: Kind) -> Option<Migration> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let parent = path.parent()?;
    match kind {
        Kind::Django => {
            let stem = path.file_stem()?.to_str()?;
            let is_one = path.extension()? == "py" && name(parent)? == "migrations" && !stem.starts_with('_');
            let text = is_one.then(|| std::fs::read_to_string(path).ok())??;
            // A helper beside the migrations is none.
            let is_one = text.contains("class Migration");
            is_one.then(|| Some(Migration { name: format!("{}.{stem}", label(parent.parent()?)?), risks: python(&text) }))?
        }
        Kind::Prisma => {
            let is_one = name(path)? == "migration.sql" && name(parent.parent()?)? == "migrations";
            let text = is_one.then(|| std::fs::read_to_string(path).ok())??;
            Some(Migration { name: name(parent)?, risks: sql(&text) })
        }
    }
}

/// An application's label: its own in `apps.py`, else the name of its folder.
fn label(folder: &Path) -> Option<String> {
    static LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?m)^\s+label\s*=\s*["'](\w+)["']"#).ok());
    let text = std::fs::read_to_string(folder.join("apps.py")).unwrap_or_default();
    let own = LABEL.as_ref().and_then(|label| label.captures(&text)).map(|found| found[1].to_owned());
    own.or_else(|| folder.file_name().and_then(|name| name.to_str()).map(str::to_owned))
}

/// What in a statement of SQL may break the code that runs, or hold up the database.
///
/// Which locks are taken: <https://www.postgresql.org/docs/15/sql-altertable.html>, <https://www.postgresql.org/docs/15/sql-createindex.html>.
const SQL: [(&str, &str); 12] = [
    (r"(?is)\bdrop\s+table\b", "drops a table"),
    (r"(?is)\balter\s+table\b.*\bdrop\s+(column\s+)?(if\s+exists\s+)?[\x22\w]+", "drops a column or a constraint"),
    (r"(?is)\balter\s+table\b.*\brename\b", "renames"),
    (r"(?is)\bdrop\s+(type|view|schema|function)\b", "drops something that code may use"),
    (r"(?is)\btruncate\b", "empties a table"),
    (r"(?is)\bset\s+not\s+null\b", "makes a column NOT NULL: the old code's rows may fail, and the table is scanned under a lock"),
    (r"(?is)\balter\s+(column\s+)?[\x22\w]+\s+(set\s+data\s+)?type\b", "changes a column's type: the table is rewritten under a lock"),
    (r"(?is)\bcreate\s+(unique\s+)?index\s+(if\s+not\s+exists\s+)?[^c]", "builds an index without CONCURRENTLY: writes to the table wait"),
    (
        r"(?is)\badd\s+constraint\b.*\b(unique|primary\s+key|exclude)\b",
        "adds a unique constraint: writes to the table wait while it is built",
    ),
    (r"(?is)\badd\s+constraint\b.*\bforeign\s+key\b", "adds a foreign key: writes to both tables wait while it is checked"),
    (r"(?is)\bdelete\s+from\s+[\x22\w.]+\s*$", "deletes every row of a table"),
    (r"(?is)\bvacuum\s+full\b|\bcluster\b\s+[\x22\w]|\block\s+table\b", "takes a long lock"),
];

/// What an operation of Django may break. `AddField` and `AlterField` are looked at more closely.
const DJANGO: [(&str, &str); 8] = [
    ("RemoveField", "drops a column"),
    ("DeleteModel", "drops a table"),
    ("RenameField", "renames a column"),
    ("RenameModel", "renames a table"),
    ("AlterModelTable", "renames a table"),
    ("AlterUniqueTogether", "adds a unique constraint: writes to the table wait while it is built"),
    ("AddConstraint", "adds a constraint: the table is scanned under a lock"),
    ("AddIndex", "builds an index without CONCURRENTLY: writes to the table wait"),
];

/// The risks of a script. What a new table gets in the same script holds up nobody.
fn sql(text: &str) -> Vec<String> {
    static SET: LazyLock<Option<RegexSet>> = LazyLock::new(|| RegexSet::new(SQL.map(|(pattern, _)| pattern)).ok());
    static NEW: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?i)\bcreate\s+table\s+(?:if\s+not\s+exists\s+)?([\w."]+)"#).ok());
    static ADD: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"(?is)\badd\s+(?:column\s+)?(?:if\s+not\s+exists\s+)?([\w"]+)\s+[^,;]*"#).ok());
    static TABLE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"(?i)\b(?:alter\s+table|\bon)\s+(?:only\s+)?(?:if\s+exists\s+)?([\w."]+)"#).ok());
    let text = without_comments(text);
    let new: Vec<&str> =
        NEW.iter().flat_map(|new| new.captures_iter(&text)).filter_map(|found| found.get(1)).map(|name| name.as_str()).collect();
    let mut risks = Vec::new();
    for statement in text.split(';') {
        let table = TABLE.as_ref().and_then(|table| table.captures(statement)).and_then(|found| found.get(1)).map(|name| name.as_str());
        if table.is_some_and(|table| new.contains(&table)) {
            continue;
        }
        for index in SET.iter().flat_map(|set| set.matches(statement).into_iter().collect::<Vec<_>>()) {
            risks.push(describe(SQL[index].1, table));
        }
        let lower = statement.to_lowercase();
        if lower.contains("alter table") {
            for added in ADD.iter().flat_map(|add| add.find_iter(statement)) {
                let words = added.as_str().to_lowercase();
                let is_column = !words.starts_with("add constraint");
                if is_column && words.contains("not null") && !words.contains("default") && !words.contains("generated") {
                    risks.push(describe(
                        "adds a NOT NULL column without a default: it fails where there are rows, and the old code's rows fail",
                        table,
                    ));
                }
            }
        }
    }
    risks.dedup();
    risks
}

fn describe(what: &str, table: Option<&str>) -> String {
    table.map_or_else(|| what.to_owned(), |table| format!("{what} ({})", table.trim_matches('"')))
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The risks of a migration of Django's.
fn python(text: &str) -> Vec<String> {
    let mut risks = Vec::new();
    let new: Vec<String> =
        operations(text).filter(|(name, _)| *name == "CreateModel").filter_map(|(_, body)| argument(body, "name")).collect();
    for (name, body) in operations(text) {
        let model = argument(body, "model_name");
        let of = || [model.clone(), argument(body, "name")].into_iter().flatten().collect::<Vec<_>>().join(".");
        if model.as_ref().is_some_and(|model| new.iter().any(|new| new.eq_ignore_ascii_case(model))) {
            continue;
        }
        if let Some((_, what)) = DJANGO.iter().find(|(operation, _)| *operation == name) {
            risks.push(format!("{what} ({})", of()));
        }
        let nullable = body.contains("null=True") || body.contains("db_default=") || body.contains("ManyToManyField");
        match name {
            // Django drops the default again once the rows are there: https://docs.djangoproject.com/en/5.2/ref/models/fields/#db-default
            "AddField" if !nullable => {
                risks.push(format!("adds a NOT NULL column without a default in the database: the old code's rows fail ({})", of()));
            }
            "AlterField" => risks.push(format!("alters a column: its table may be rewritten or scanned under a lock ({})", of())),
            "RunSQL" => risks.extend(sql(body)),
            _ => {}
        }
    }
    risks
}

/// The operations of a migration, each with the text between its parentheses.
fn operations(text: &str) -> impl Iterator<Item = (&str, &str)> {
    static OPERATION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(?:migrations|operations|\w*)\.?\b([A-Z]\w+)\(").ok());
    let list = text.split_once("operations").map_or("", |(_, rest)| rest);
    OPERATION.iter().flat_map(move |operation| {
        operation.captures_iter(list).filter_map(move |found| {
            let (name, whole) = (found.get(1)?.as_str(), found.get(0)?);
            Some((name, body(&list[whole.end()..])))
        })
    })
}

/// The text up to the parenthesis that closes.
fn body(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// A keyword's text: `name="stock"`.
fn argument(body: &str, name: &str) -> Option<String> {
    body.match_indices(name).find_map(|(at, _)| {
        let before = body[..at].chars().next_back();
        let rest = body[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
        let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
        let whole = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        whole.then(|| rest[1..].split(quote).next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_risky_in_sql_is_named() {
        for (text, risk) in [
            ("DROP TABLE \"Boat\";", "drops a table"),
            ("ALTER TABLE \"Boat\" DROP COLUMN \"name\";", "drops a column or a constraint (Boat)"),
            ("ALTER TABLE boat RENAME COLUMN a TO b;", "renames (boat)"),
            (
                "ALTER TABLE \"Boat\" ADD COLUMN \"x\" TEXT NOT NULL;",
                "adds a NOT NULL column without a default: it fails where there are rows, and the old code's rows fail (Boat)",
            ),
            (
                "ALTER TABLE \"Boat\" ALTER COLUMN \"x\" SET NOT NULL;",
                "makes a column NOT NULL: the old code's rows may fail, and the table is scanned under a lock (Boat)",
            ),
            ("CREATE UNIQUE INDEX \"i\" ON \"Boat\"(\"x\");", "builds an index without CONCURRENTLY: writes to the table wait (Boat)"),
            (
                "ALTER TABLE \"Boat\" ALTER COLUMN \"x\" SET DATA TYPE BIGINT;",
                "changes a column's type: the table is rewritten under a lock (Boat)",
            ),
        ] {
            assert_eq!(sql(text), [risk], "{text}");
        }
        for text in [
            "CREATE TABLE \"A\" (id INT NOT NULL);\nCREATE INDEX \"i\" ON \"A\"(\"id\");",
            "ALTER TABLE \"Boat\" ADD COLUMN \"x\" TEXT;",
            "ALTER TABLE \"Boat\" ADD COLUMN \"x\" INT NOT NULL DEFAULT 0;",
            "CREATE INDEX CONCURRENTLY i ON boat(x);",
            "-- DROP TABLE boat;\nINSERT INTO boat VALUES (1);",
        ] {
            assert_eq!(sql(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_risky_in_django_is_named() {
        let migration = |operations: &str| {
            format!(
                "from django.db import migrations, models\nclass Migration(migrations.Migration):\n    dependencies = []\n    operations = [\n{operations}\n]\n"
            )
        };
        for (text, risk) in [
            ("migrations.RemoveField(model_name=\"item\", name=\"price\")", "drops a column (item.price)"),
            ("migrations.DeleteModel(name=\"Item\")", "drops a table (Item)"),
            ("migrations.RenameField(model_name='item', old_name='a', new_name='b')", "renames a column (item)"),
            (
                "migrations.AddField(model_name=\"item\", name=\"stock\", field=models.IntegerField(default=0))",
                "adds a NOT NULL column without a default in the database: the old code's rows fail (item.stock)",
            ),
            ("migrations.RunSQL(\"DROP TABLE x\")", "drops a table"),
        ] {
            assert_eq!(python(&migration(text)), [risk], "{text}");
        }
        for text in [
            "migrations.CreateModel(name=\"Item\", fields=[(\"id\", models.AutoField())]),\nmigrations.AddIndex(model_name=\"item\", index=models.Index(fields=[\"id\"], name=\"i\"))",
            "migrations.AddField(model_name=\"item\", name=\"x\", field=models.TextField(null=True))",
            "migrations.RunPython(forwards, migrations.RunPython.noop)",
        ] {
            assert_eq!(python(&migration(text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn migrations_are_named_as_their_framework_names_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("items/migrations/0001_initial.py", "class Migration:\n    operations = []");
        write("items/migrations/__init__.py", "");
        write("stock/migrations/0001_initial.py", "class Migration:\n    operations = []");
        write("stock/apps.py", "class StockConfig(AppConfig):\n    label = \"goods\"\n");
        write(".venv/lib/x/migrations/0001_initial.py", "class Migration: pass");
        write("prisma/migrations/20260101_init/migration.sql", "SELECT 1;");
        let names = |kind| migrations(root.path(), kind).into_iter().map(|migration| migration.name).collect::<Vec<_>>();
        assert_eq!(names(Kind::Django), ["goods.0001_initial", "items.0001_initial"]);
        assert_eq!(names(Kind::Prisma), ["20260101_init"]);
    }
}
