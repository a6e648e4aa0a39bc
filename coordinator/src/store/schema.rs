//! How the database came to be what it is, step by step, and how an older one becomes so.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr as _, SqlitePool};

use super::StoreError;

/// How the schema came to be, step by step; one that has landed is never changed.
const MIGRATIONS: [(i64, &str, &str); 23] = [
    (1, "first", include_str!("../../migrations/0001_first.sql")),
    (2, "why", include_str!("../../migrations/0002_why.sql")),
    (3, "incidents", include_str!("../../migrations/0003_incidents.sql")),
    (4, "not twice", include_str!("../../migrations/0004_not_twice.sql")),
    (5, "several jobs", include_str!("../../migrations/0005_several_jobs.sql")),
    (6, "turns", include_str!("../../migrations/0006_turns.sql")),
    (7, "default branch", include_str!("../../migrations/0007_default_branch.sql")),
    (8, "spent", include_str!("../../migrations/0008_spent.sql")),
    (9, "through", include_str!("../../migrations/0009_through.sql")),
    (10, "hooks", include_str!("../../migrations/0010_hooks.sql")),
    (11, "access", include_str!("../../migrations/0011_access.sql")),
    (12, "doing", include_str!("../../migrations/0012_doing.sql")),
    (13, "statuses", include_str!("../../migrations/0013_statuses.sql")),
    (15, "notices", include_str!("../../migrations/0015_notices.sql")),
    (16, "sealed", include_str!("../../migrations/0016_sealed.sql")),
    (17, "credentials", include_str!("../../migrations/0017_credentials.sql")),
    (18, "owners", include_str!("../../migrations/0018_owners.sql")),
    (20, "expired", include_str!("../../migrations/0020_expired.sql")),
    (21, "branch states", include_str!("../../migrations/0021_branch_states.sql")),
    (22, "refused", include_str!("../../migrations/0022_refused.sql")),
    (23, "cancels", include_str!("../../migrations/0023_cancels.sql")),
    (24, "identity", include_str!("../../migrations/0024_identity.sql")),
    (25, "scheduled states", include_str!("../../migrations/0025_scheduled_states.sql")),
];

fn step(&(version, name, sql): &(i64, &'static str, &'static str)) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// Brings a database up to date.
///
/// # Errors
/// When it was written by a newer program, or the database fails.
pub(super) async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let migrations: Vec<Migration> = MIGRATIONS.iter().map(step).collect();
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    Migrator::with_migrations(migrations).run(writer).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::TooNew { path: path.to_owned(), version, known },
        source => StoreError::Migration { path: path.to_owned(), source },
    })
}

/// A new database as a program left it that knew the first steps alone, up to this one.
#[cfg(test)]
pub(super) async fn older(path: &Path, last: i64) -> SqlitePool {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Wal)).await.unwrap();
    let steps = MIGRATIONS.iter().filter(|(version, ..)| *version <= last).map(step).collect();
    Migrator::with_migrations(steps).run(&pool).await.unwrap();
    pool
}
