//! What can go wrong with the store, and what of that trying again does not help.

use std::io;
use std::path::PathBuf;

use sqlx::migrate::MigrateError;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A folder or file.
    #[error("{path} cannot be used: {source}; look at its owner and at the room on its disk")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another coordinator has it.
    #[error("another coordinator works in {0}; end it first, or name another folder with --state-dir")]
    InUse(PathBuf),
    /// A newer program wrote it.
    #[error(
        "the database {path} was last used by a newer buildr (its schema has version {version}, this program knows {known}); use that version again, or restore a backup from before the update"
    )]
    TooNew {
        /// Where it lies.
        path: PathBuf,
        /// The schema that it has.
        version: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// It could not be brought up to date.
    #[error(
        "the database {path} cannot be brought up to date: {source}; restore a backup, or move it away to begin with an empty one"
    )]
    Migration {
        /// Where it lies.
        path: PathBuf,
        /// Why not.
        source: MigrateError,
    },
    /// The disk takes no more.
    #[error("the disk that the farm's database lies on is full, so nothing can be stored; make room on it")]
    Full,
    /// The database failed.
    #[error("the database failed: {0}; look at the disk that it lies on")]
    Database(sqlx::Error),
    /// What it holds is not what this program writes.
    #[error("the database holds a {what} that cannot be read: {reason}; restore a backup")]
    Damaged {
        /// What kind of thing.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Whether it lies in what was to be written rather than in the disk: trying again does not help.
    pub(crate) fn is_about_the_content(&self) -> bool {
        use sqlx::error::ErrorKind;
        match self {
            Self::Damaged { .. } => true,
            Self::Database(sqlx::Error::Database(error)) => !matches!(error.kind(), ErrorKind::Other),
            Self::Database(error) => matches!(error, sqlx::Error::Encode(_) | sqlx::Error::ColumnDecode { .. }),
            _ => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(found) if found.code().is_some_and(|code| FULL.contains(&&*code)) => Self::Full,
            _ => Self::Database(error),
        }
    }
}

/// What SQLite says when the disk takes no more: SQLITE_FULL, and SQLITE_IOERR_SHMSIZE for the index of its log.
const FULL: [&str; 2] = ["13", "4874"];
