//! Texts that the farm itself needs as they are: what webhooks are signed with, what forges are shown, what opens
//! repositories. They lie sealed in the tables that they belong to; what seals and opens them is the vault's.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Executor as _, Row as _};

use super::{Store, StoreError, Transaction};

/// A sealed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Which key sealed it.
    pub(crate) key_id: String,
    /// Nonce, content and tag.
    pub(crate) content: Vec<u8>,
}

/// What a sealed text is for: it opens for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealedFor {
    /// The webhooks of a project are signed with it.
    Webhooks,
    /// It is shown to the forge that hears how builds go.
    Statuses,
    /// The project's repository is fetched with it.
    Credentials,
}

/// A text that is to be sealed anew.
#[derive(Debug, Clone)]
pub(crate) struct OldSeal {
    /// What it is for.
    pub(crate) purpose: SealedFor,
    /// Of which repository.
    pub(crate) identity: String,
    /// How it lies there.
    pub(crate) text: OldText,
}

/// How such a text lies there.
#[derive(Debug, Clone)]
pub(crate) enum OldText {
    /// As it is: an older program wrote it.
    Clear(String),
    /// Sealed with another key.
    Sealed(Sealed),
}

/// The text of this database that says that nothing of what once was clear is left in its free pages. A newer program's
/// larger number means the same.
const SCRUBBED: i64 = 1;

impl SealedFor {
    const ALL: [Self; 3] = [Self::Webhooks, Self::Statuses, Self::Credentials];

    /// By which the seal is bound to the purpose.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Webhooks => "webhooks",
            Self::Statuses => "statuses",
            Self::Credentials => "credentials",
        }
    }

    /// Those that this key has not sealed. All have `identity`, `clear`, `sealed_by` and `sealed`.
    fn of_other_keys(self) -> &'static str {
        match self {
            Self::Webhooks => {
                "SELECT identity, secret AS clear, secret_by AS sealed_by, secret_sealed AS sealed
                 FROM projects WHERE secret_by IS NOT $1"
            }
            Self::Statuses => {
                "SELECT identity, token AS clear, token_by AS sealed_by, token_sealed AS sealed
                 FROM reporting WHERE token_by IS NOT $1"
            }
            Self::Credentials => {
                "SELECT identity, '' AS clear, credentials_by AS sealed_by, credentials_sealed AS sealed
                 FROM projects WHERE credentials_by <> $1"
            }
        }
    }

    fn reseal(self) -> &'static str {
        match self {
            Self::Webhooks => "UPDATE projects SET secret = '', secret_by = $2, secret_sealed = $3 WHERE identity = $1",
            Self::Statuses => "UPDATE reporting SET token = '', token_by = $2, token_sealed = $3 WHERE identity = $1",
            Self::Credentials => "UPDATE projects SET credentials_by = $2, credentials_sealed = $3 WHERE identity = $1",
        }
    }
}

impl Store {
    /// Leaves nothing in the database's files of what was changed or removed, once: until this release secrets lay in it
    /// as they are, and what is no longer in a table still lies in free pages and in the journal.
    ///
    /// # Errors
    /// When the database fails. It is done again at the next start then.
    pub(crate) async fn scrub(&self) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let row = connection.fetch_one("PRAGMA user_version").await?;
        if row.try_get::<i64, _>(0)? >= SCRUBBED {
            return Ok(());
        }
        connection.execute("VACUUM").await?;
        // It is written through the journal too, which is emptied for that reason.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await?;
        connection.execute(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {SCRUBBED}"))).await?;
        connection.ping().await?;
        Ok(())
    }
}

impl Transaction {
    /// The texts that this key has not sealed.
    pub(crate) async fn old_seals(&mut self, key_id: &str) -> Result<Vec<OldSeal>, StoreError> {
        let mut all = Vec::new();
        for purpose in SealedFor::ALL {
            let rows = sqlx::query(purpose.of_other_keys()).bind(key_id).fetch_all(&mut *self.tx).await?;
            for row in &rows {
                let text = match row.try_get::<Option<String>, _>("sealed_by")? {
                    Some(_) => OldText::Sealed(sealed_of(row, "sealed_by", "sealed")?),
                    None => OldText::Clear(row.try_get("clear")?),
                };
                all.push(OldSeal { purpose, identity: row.try_get("identity")?, text });
            }
        }
        Ok(all)
    }

    /// Writes down that one was sealed anew.
    pub(crate) async fn reseal(
        &mut self,
        purpose: SealedFor,
        identity: &str,
        sealed: &Sealed,
    ) -> Result<(), StoreError> {
        sqlx::query(purpose.reseal())
            .bind(identity)
            .bind(&sealed.key_id)
            .bind(&sealed.content)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

/// A sealed text that lies in two columns. It is there in all rows once the coordinator has begun.
pub(super) fn sealed_of(row: &SqliteRow, by: &str, content: &str) -> Result<Sealed, StoreError> {
    Ok(Sealed { key_id: row.try_get(by)?, content: row.try_get(content)? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::schema;
    use super::*;
    use crate::config::SecretsKey;
    use crate::vault::Vault;

    /// What an older program kept as it is, and what it had kept before and changed or removed since.
    const CLEAR: [&str; 5] = [
        "clear-webhook-secret",
        "clear-forge-token",
        "changed-webhook-secret",
        "changed-forge-token",
        "removed-webhook-secret",
    ];

    /// Which of them lie in the files of the state folder.
    fn lying(folder: &Path) -> Vec<&'static str> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                all.extend(std::fs::read(path).unwrap());
            }
        }
        let lies = |text: &&str| all.windows(text.len()).any(|part| part == text.as_bytes());
        CLEAR.into_iter().filter(lies).collect()
    }

    async fn write_as_before(folder: &Path) {
        let pool = schema::older(&folder.join("buildr.db"), 15).await;
        let add = "INSERT INTO projects (identity, url, key, forge, secret, trusted, approval, created_ms)
                   VALUES ($1, 'https://' || $1, $1, 'github', $2, 1, 'forks', 1)";
        for (identity, secret) in [("e.org/a", CLEAR[2]), ("e.org/b", CLEAR[4])] {
            sqlx::query(add).bind(identity).bind(secret).execute(&pool).await.unwrap();
        }
        let add = "INSERT INTO reporting (identity, forge, api, token) VALUES ('e.org/a', 'github', 'https://api', $1)";
        sqlx::query(add).bind(CLEAR[3]).execute(&pool).await.unwrap();
        sqlx::query("UPDATE projects SET secret = $1 WHERE identity = 'e.org/a'")
            .bind(CLEAR[0])
            .execute(&pool)
            .await
            .unwrap();
        sqlx::query("UPDATE reporting SET token = $1").bind(CLEAR[1]).execute(&pool).await.unwrap();
        sqlx::query("DELETE FROM projects WHERE identity = 'e.org/b'").execute(&pool).await.unwrap();
        pool.close().await;
    }

    #[tokio::test]
    async fn of_an_older_database_nothing_is_left_in_the_clear() {
        let folder = tempfile::tempdir().unwrap();
        write_as_before(folder.path()).await;
        assert!(lying(folder.path()).len() >= 2, "{:?}", lying(folder.path()));

        let vault = Vault::load(&SecretsKey::OfState, folder.path()).unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        vault.renew(&store).await.unwrap();
        assert_eq!(lying(folder.path()), Vec::<&str>::new(), "also while it runs");
        let project = store.project("e.org/a").await.unwrap().unwrap();
        let opened = vault.open_text(SealedFor::Webhooks, "e.org/a", &project.secret);
        assert_eq!(opened.as_deref(), Some(CLEAR[0]));
        assert_eq!(vault.open_text(SealedFor::Statuses, "e.org/a", &project.secret), None, "for one purpose alone");
        assert_eq!(vault.open_text(SealedFor::Webhooks, "e.org/b", &project.secret), None, "for one project alone");
        let mut tx = store.write().await.unwrap();
        let row = sqlx::query("SELECT token_by, token_sealed FROM reporting").fetch_one(&mut *tx.tx).await.unwrap();
        let token = sealed_of(&row, "token_by", "token_sealed").unwrap();
        assert_eq!(vault.open_text(SealedFor::Statuses, "e.org/a", &token).as_deref(), Some(CLEAR[1]));
        assert!(tx.old_seals(&token.key_id).await.unwrap().is_empty());
        drop(tx);
        store.close().await;
        assert_eq!(lying(folder.path()), Vec::<&str>::new());
    }

    #[tokio::test]
    async fn with_a_new_key_it_is_sealed_anew() {
        let folder = tempfile::tempdir().unwrap();
        write_as_before(folder.path()).await;
        let (old, new) = ("11".repeat(32), "22".repeat(32));
        let vault = |text: String| {
            let key = SecretsKey::Text(crate::config::KeyText::new(text));
            Vault::load(&key, Path::new("/")).unwrap()
        };
        let store = Store::open(folder.path()).await.unwrap();
        vault(old.clone()).renew(&store).await.unwrap();
        vault(format!("{new}\n{old}")).renew(&store).await.unwrap();
        let project = store.project("e.org/a").await.unwrap().unwrap();
        let opened = vault(new).open_text(SealedFor::Webhooks, "e.org/a", &project.secret);
        assert_eq!(opened.as_deref(), Some(CLEAR[0]));
        assert_eq!(vault(old).open_text(SealedFor::Webhooks, "e.org/a", &project.secret), None);
        store.close().await;
    }
}
