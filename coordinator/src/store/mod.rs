//! What the farm knows: one SQLite file, and one file per log. Only this room speaks SQL.
//!
//! There is one writer and a few readers. Every change is made in a [`Transaction`], which begins as a writer
//! (`BEGIN IMMEDIATE`), so that nothing read in it changes before it commits; and a commit is on the disk when it
//! returns (`synchronous=FULL`). Who has much to write does it in one transaction: that is the group commit.
//! Times are milliseconds since 1970, passed in, for people to read; nothing is decided by them but their order.

mod adoptions;
mod agents;
mod archives;
mod attempts;
mod audit;
mod begun;
mod builds;
mod course;
mod deliveries;
mod errands;
mod error;
mod gates;
mod handed;
mod history;
mod identity;
mod incidents;
mod job_views;
mod jobs;
mod log_files;
mod logs;
mod measures;
mod members;
mod notices;
mod outbox;
mod planned;
mod projects;
mod queue;
mod recent;
mod restart;
mod retention;
mod schedule;
mod schema;
mod sealed;
mod secrets;
mod schedules;
mod statuses;
mod terms;
mod timed;
mod timeline;
mod tokens;
mod views;
mod why;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use protocol::{AgentId, ClaimId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Connection as _, Row as _, Sqlite, SqliteConnection, SqlitePool};

use errands::Left;

pub(crate) use adoptions::{Adoption, Settled};
pub(crate) use agents::Agent;
pub(crate) use archives::Archived;
pub(crate) use attempts::{Attempt, AttemptState, Detail, Taking};
pub(crate) use begun::AskedFor;
pub(crate) use builds::{Build, NewBuild};
pub(crate) use course::{AskedToEnd, Asker, Effects};
pub(crate) use deliveries::{Delivery, NewDelivery, Stored};
pub(crate) use errands::Errands;
pub use error::StoreError;
pub(crate) use gates::AtGate;
pub(crate) use handed::{Archive, Received};
pub(crate) use history::Work;
pub(crate) use job_views::Held;
pub(crate) use jobs::{Applied, Job};
pub(crate) use log_files::{LogFiles, LogPlace, Piece};
pub(crate) use logs::{LogMark, LogTarget, UnfinishedLog};
pub(crate) use measures::Measures;
pub(crate) use notices::{Hearers, Notice, SaidBy};
pub(crate) use projects::Project;
pub(crate) use queue::{InLine, InWork};
pub(crate) use recent::{HeldJob, RepoStrips, Strip};
pub(crate) use restart::Past;
pub(crate) use retention::{Among, Old, Removed};
pub(crate) use schedule::{LONGEST_POSTPONED_MS, Offerable, POSTPONED_MS, Waiting};
pub(crate) use schedules::Scheduled;
pub(crate) use sealed::{OldText, Sealed, SealedFor};
pub(crate) use secrets::{KeptSecret, Scope};
pub(crate) use statuses::{Reporting, Said, ToTell};
pub(crate) use terms::{Answer, Terms};
pub(crate) use timed::Timed;
pub(crate) use timeline::{AttemptTimes, Times};
pub(crate) use tokens::{NewToken, Session, Token};
pub(crate) use views::{Page, Snapshot};

/// What cannot be stored at present, each with why not.
#[derive(Debug, Default)]
struct Trouble {
    reports: Option<String>,
    logs: Option<String>,
}

/// What agents send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// What they report.
    Reports,
    /// The bytes of logs.
    Logs,
}

/// The database and the logs of one farm.
pub(crate) struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    logs: LogFiles,
    begun: begun::Begun,
    trouble: Mutex<Trouble>,
    hearers: Arc<Hearers>,
    errands: Arc<Errands>,
    /// Held while this coordinator lives, so that no second one works in the same folder.
    _lock: File,
}

/// How many may read at the same time: pages and followers, of which each reads for a moment.
const READERS: u32 = 4;

/// How many statements each connection keeps prepared: more than there are, so that none is read twice. (A bare `LIMIT $1`
/// would be all the same: SQLite plans a query anew each time a number is bound that its plan may depend on. So they are
/// written `LIMIT 0 + $1`.)
const STATEMENTS: usize = 256;

/// How much of the database each reader keeps in memory, in KiB, as SQLite writes that: what lies in the system's own
/// cache is near enough.
const READER_CACHE: &str = "-512";

/// How long a reader or the writer waits for its turn before that is an error.
const BUSY: Duration = Duration::from_secs(30);

impl Store {
    /// Opens what lies in `folder`, or begins it.
    ///
    /// # Errors
    /// When the folder cannot be used, another coordinator has it, or a newer one wrote it.
    pub(crate) async fn open(folder: &Path) -> Result<Self, StoreError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::File { path, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_error(folder))?;
        let lock = lock(folder)?;
        let path = folder.join("buildr.db");
        // SQLite gives its side files the mode of this one: it holds what people put into URLs.
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(file_error(&path))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .statement_cache_capacity(STATEMENTS)
            .foreign_keys(true);
        let pool = |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(BUSY);
        let writer = pool(1).after_release(|connection, _| is_sound(connection).boxed());
        let writer = writer.connect_with(options.clone()).await?;
        schema::migrate(&writer, &path).await?;
        identity::identify_all(&writer).await?;
        let options = options.pragma("cache_size", READER_CACHE).read_only(true);
        let readers = pool(READERS).connect_with(options).await?;
        let logs = LogFiles::new(folder.join("logs"));
        let begun = begun::Begun::new();
        Ok(Self {
            writer,
            readers,
            logs,
            begun,
            trouble: Mutex::default(),
            hearers: Arc::default(),
            errands: Arc::default(),
            _lock: lock,
        })
    }

    /// Begins to write. Whoever else wants to write waits until this is committed or dropped.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn write(&self) -> Result<Transaction, StoreError> {
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Transaction {
            tx,
            effects: Effects::default(),
            agents: HashMap::new(),
            attempts: HashMap::new(),
            grouped: None,
            tells: None,
            hearers: Arc::clone(&self.hearers),
            left: Left::default(),
            errands: Arc::clone(&self.errands),
        })
    }

    /// What agents sent could be stored, or why not. What could not is sent again, so this does not outlive its cause.
    pub(crate) fn note_trouble(&self, with: Sent, trouble: Option<String>) {
        let mut all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match with {
            Sent::Reports => all.reports = trouble,
            Sent::Logs => all.logs = trouble,
        }
    }

    /// Why what agents send cannot be stored at present.
    pub(crate) fn trouble(&self) -> Option<String> {
        let all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        all.reports.clone().or_else(|| all.logs.clone())
    }

    /// The files with the logs' bytes.
    pub(crate) fn log_files(&self) -> &LogFiles {
        &self.logs
    }

    /// Ends all connections, so that the database is whole in one file.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Some changes that are made together or not at all. Dropped, it changed nothing.
pub(crate) struct Transaction {
    tx: sqlx::Transaction<'static, Sqlite>,
    effects: Effects,
    /// The agents that were looked up in it: nearly all reports of a batch are of the same few.
    agents: HashMap<AgentId, Option<Agent>>,
    /// The attempts that were looked up in it, and have not changed since: several reports of a batch are of the same.
    attempts: HashMap<ClaimId, Attempt>,
    /// Whether anything is in a group, once that was looked up.
    grouped: Option<bool>,
    /// Whether any forge is told how builds go, once that was looked up.
    tells: Option<bool>,
    /// Whether somebody wants to hear when a branch breaks or is fixed.
    hearers: Arc<Hearers>,
    /// What it leaves to others to do.
    left: Left,
    errands: Arc<Errands>,
}

impl Transaction {
    /// Makes the changes. When this returns they are on the disk.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await?;
        self.errands.wake(&self.left);
        Ok(())
    }
}

/// Whether a connection that was given back can be used again. On a full disk SQLite undoes a transaction by itself,
/// and the connection goes on counting it as open: nothing more could ever be begun on it.
async fn is_sound(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // What was dropped is undone before this is answered.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file_error = |source| StoreError::File { path: path.clone(), source };
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(file_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(folder.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(file_error(source)),
    }
}

/// SQLite's numbers are signed; what is too large for one is as good as its largest.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(if number < 0 { 0 } else { u32::MAX })
}

fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged { what, reason: error.to_string() })
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged { what, reason: error.to_string() })
}

/// A column that holds the text of one of the farm's names.
fn name<T>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    parse(column, row.try_get(column)?)
}

/// The same, where there may be none.
fn name_or_none<T>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    row.try_get::<Option<&str>, _>(column)?.map(|text| parse(column, text)).transpose()
}

fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    from_json(column, row.try_get(column)?)
}

fn json_or_none<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError> {
    row.try_get::<Option<&str>, _>(column)?.map(|text| from_json(column, text)).transpose()
}

fn parse<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    T::from_str(text).map_err(|error| StoreError::Damaged { what, reason: error.to_string() })
}

#[cfg(test)]
mod tests;
