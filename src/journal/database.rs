//! A database's lease: whoever migrates it holds it, also where two applications share the database and the state.
//!
//! It is a lock as a release's, but for three things. It lasts as long as the migration can, because that goes on in the cloud when windlass is
//! killed; so a holder whose process has ended is not dead. And the same migration of the same application takes its own lease
//! again: it finds out first what came of the attempt that it was taken for.

use std::time::Duration;

use super::lock::Want;
use super::{Attempt, Holder, Journal, JournalError};

/// A database as leases name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// What the configuration calls it, or where it is migrated.
    pub name: String,
    /// The application's migration that asks.
    pub owner: String,
}

impl Journal {
    /// Takes the lease of a database for at least `lasts`. `unchanged` is as for a release's lock.
    ///
    /// # Errors
    /// S3 fails, or the object is unreadable.
    pub async fn take_database(
        &self,
        database: &Database,
        holder: &Holder,
        lasts: Duration,
        unchanged: Option<&str>,
    ) -> Result<Attempt, JournalError> {
        let want = Want { holder, lease: lasts, unchanged, guard: false, owner: Some(&self.owner_of(database)), glimpse: None };
        self.take(self.database_key(database), &want).await
    }

    fn owner_of(&self, database: &Database) -> String {
        format!("{}/{}", self.prefix, database.owner)
    }

    /// Beside the applications, so that they share it. A name may hold what no key should.
    fn database_key(&self, database: &Database) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let name: String = database.name.chars().map(safe).collect();
        let parts = [self.shared.as_str(), "databases", &self.environment, &format!("{name}.json")];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}
