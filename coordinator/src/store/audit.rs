//! Who did what. Entries are added and grow old; the database itself lets none be changed.

use protocol::api::AuditEntry;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, int, natural, parse, small};

/// How many entries are kept.
const KEPT: i64 = 100_000;

/// How long one is kept, in milliseconds: a year and a bit, so that a year can be looked back on.
const KEPT_MS: u64 = 400 * 24 * 60 * 60 * 1000;

impl Store {
    /// So many entries before this one, the newest first.
    pub(crate) async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE id < $1 ORDER BY id DESC LIMIT 0 + $2")
            .bind(before.map_or(i64::MAX, int))
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(entry).collect()
    }
}

impl Transaction {
    /// Adds an entry; its `id` is given here.
    pub(crate) async fn insert_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit (at_ms, who, role, said, method, path, status, address)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(int(entry.at_ms))
        .bind(&entry.who)
        .bind(entry.role.name())
        .bind(&entry.said)
        .bind(&entry.method)
        .bind(&entry.path)
        .bind(entry.status)
        .bind(&entry.address)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Forgets what is too old, and what is too much.
    pub(crate) async fn trim_audit(&mut self, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM audit WHERE at_ms < $1 OR id <= (SELECT max(id) FROM audit) - $2")
            .bind(int(now_ms.saturating_sub(KEPT_MS)))
            .bind(KEPT)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

fn entry(row: &SqliteRow) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        id: natural(row.try_get("id")?),
        at_ms: natural(row.try_get("at_ms")?),
        who: row.try_get("who")?,
        role: parse("role", row.try_get("role")?)?,
        said: row.try_get("said")?,
        method: row.try_get("method")?,
        path: row.try_get("path")?,
        status: u16::try_from(small(row.try_get("status")?)).unwrap_or(u16::MAX),
        address: row.try_get("address")?,
    })
}

#[cfg(test)]
mod tests {
    use protocol::api::Role;

    use super::*;

    #[tokio::test]
    async fn entries_grow_old_and_are_never_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let mut tx = store.write().await.unwrap();
        let entry = |at_ms| AuditEntry {
            id: 0,
            at_ms,
            who: "ci".to_owned(),
            role: Role::Developer,
            said: None,
            method: "POST".to_owned(),
            path: "/api/v1/builds".to_owned(),
            status: 201,
            address: "127.0.0.1".to_owned(),
        };
        for at_ms in [1, KEPT_MS, KEPT_MS + 1] {
            tx.insert_audit(&entry(at_ms)).await.unwrap();
        }
        tx.trim_audit(KEPT_MS + 2).await.unwrap();
        let changed = sqlx::query("UPDATE audit SET who = 'nobody'").execute(&mut *tx.tx).await;
        assert!(changed.unwrap_err().to_string().contains("only added to"));
        tx.commit().await.unwrap();
        let times = |entries: Vec<AuditEntry>| entries.iter().map(|entry| entry.at_ms).collect::<Vec<_>>();
        let all = store.audit(None, 10).await.unwrap();
        assert_eq!(all[0], AuditEntry { id: 3, ..entry(KEPT_MS + 1) });
        assert_eq!(times(all), [KEPT_MS + 1, KEPT_MS]);
        assert_eq!(times(store.audit(Some(3), 10).await.unwrap()), [KEPT_MS]);
        assert_eq!(times(store.audit(None, 1).await.unwrap()), [KEPT_MS + 1]);
    }
}
