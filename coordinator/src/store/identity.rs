//! Which repository a build is of, however its URL is written.

use protocol::{BuildNumber, RepoUrl};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::{StoreError, name, natural};

/// Writes down which repository a build of this row is of, by its number and URL. Gives the number.
pub(super) async fn identify(tx: &mut SqliteConnection, row: &SqliteRow) -> Result<BuildNumber, StoreError> {
    let (number, repo): (i64, RepoUrl) = (row.try_get("number")?, name(row, "repo")?);
    sqlx::query("UPDATE builds SET identity = $2 WHERE number = $1")
        .bind(number)
        .bind(repo.identity())
        .execute(tx)
        .await?;
    Ok(BuildNumber(natural(number)))
}

/// The same for all that are not over, of a coordinator that did not write it down yet.
pub(super) async fn identify_all(writer: &SqlitePool) -> Result<(), StoreError> {
    let mut tx = writer.begin().await?;
    let rows = sqlx::query("SELECT number, repo FROM builds WHERE ended_ms IS NULL AND identity IS NULL")
        .fetch_all(&mut *tx)
        .await?;
    for row in &rows {
        identify(&mut tx, row).await?;
    }
    Ok(tx.commit().await?)
}
