//! The archives that a build has for people: those of its own stages, and of the jobs that it takes over.

use protocol::BuildNumber;
use protocol::api::ArtifactView;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, int, name, natural};

/// An archive, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archived {
    /// What is shown of it.
    pub(crate) view: ArtifactView,
    /// The build in whose folder its bytes are.
    pub(crate) place: BuildNumber,
}

impl Store {
    /// The archives of a build in the order of its plan, those whose time is over too. Of each job the last attempt
    /// counts that was not lost.
    pub(crate) async fn archives(&self, build: BuildNumber) -> Result<Vec<Archived>, StoreError> {
        let rows = sqlx::query(
            "WITH taken AS (
                 SELECT j.rowid AS job, j.key, j.carried_from, r.build AS place,
                        (SELECT a.claim FROM attempts a WHERE a.job = r.id AND a.state NOT IN ('lost', 'abandoned')
                                AND a.loss IS NULL ORDER BY a.rowid DESC LIMIT 1) AS claim
                 FROM jobs j JOIN jobs r ON r.id = coalesce(j.carried, j.id) WHERE j.build = $1),
             archives AS (
                 SELECT t.*, k.stage, k.files, k.bytes, k.sha256, k.at_ms + k.expire_ms AS expires_ms, 0 AS expired
                 FROM taken t JOIN kept k ON k.claim = t.claim
                 UNION ALL
                 SELECT t.*, e.stage, e.files, e.bytes, e.sha256, NULL, 1
                 FROM taken t JOIN expired e ON e.claim = t.claim)
             SELECT a.* FROM archives a LEFT JOIN stages s ON s.claim = a.claim AND s.name = a.stage
             ORDER BY a.job, s.rowid, a.stage",
        )
        .bind(int(build.0))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(archived).collect()
    }
}

fn archived(row: &SqliteRow) -> Result<Archived, StoreError> {
    let number = |column| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(natural));
    let view = ArtifactView {
        job: name(row, "key")?,
        stage: name(row, "stage")?,
        files: natural(row.try_get("files")?),
        bytes: natural(row.try_get("bytes")?),
        sha256: row.try_get("sha256")?,
        carried_from: number("carried_from")?.map(BuildNumber),
        expires_ms: number("expires_ms")?,
        expired: row.try_get("expired")?,
    };
    Ok(Archived { view, place: BuildNumber(natural(row.try_get("place")?)) })
}
