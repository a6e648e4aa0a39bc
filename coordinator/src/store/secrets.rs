//! Secrets of the farm, as they are kept: sealed. What seals and opens them is the vault's.

use protocol::job::TriggerKind;
use protocol::repo_glob::glob_matches;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, int, natural};

/// Which builds a secret is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The identity of the repository; empty for all.
    pub(crate) project: String,
    /// The secret's name.
    pub(crate) name: String,
    /// A glob over branches; empty for all builds, also those without a branch.
    pub(crate) branch: String,
    /// The names of events, sorted, with commas between them; empty for all.
    pub(crate) events: String,
}

impl Scope {
    /// Whether a build of its project may have it.
    pub(crate) fn fits(&self, branch: Option<&str>, event: TriggerKind) -> bool {
        let of_branch = self.branch.is_empty() || branch.is_some_and(|branch| glob_matches(&self.branch, branch));
        of_branch && (self.events.is_empty() || self.events.split(',').any(|known| known == event.name()))
    }

    /// How closely it is meant: of two that fit, the higher one counts. One project before all, then a branch by its
    /// whole name before a glob before all, then some events before all.
    pub(crate) fn closeness(&self) -> (bool, u8, usize, bool) {
        let glob = self.branch.contains('*');
        let branch = if self.branch.is_empty() { 0 } else { 2 - u8::from(glob) };
        (!self.project.is_empty(), branch, self.branch.len(), !self.events.is_empty())
    }
}

/// A secret, sealed.
#[derive(Debug, Clone)]
pub(crate) struct KeptSecret {
    /// Its row; 0 for one that has none yet.
    pub(crate) id: u64,
    /// Which builds it is for.
    pub(crate) scope: Scope,
    /// Which key sealed it.
    pub(crate) key_id: String,
    /// Nonce, content and tag.
    pub(crate) sealed: Vec<u8>,
    /// Who set it.
    pub(crate) set_by: String,
    /// When, in milliseconds since 1970.
    pub(crate) set_ms: u64,
}

impl Store {
    /// All of them, by project and name.
    pub(crate) async fn secrets(&self) -> Result<Vec<KeptSecret>, StoreError> {
        let rows = sqlx::query("SELECT * FROM secrets ORDER BY project, name, branch, events")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(kept).collect()
    }
}

impl Transaction {
    /// Those that a build of this project could have: its own, and those of all projects.
    pub(crate) async fn secrets_for(&mut self, project: &str) -> Result<Vec<KeptSecret>, StoreError> {
        let rows = sqlx::query("SELECT * FROM secrets WHERE project IN ('', $1) ORDER BY id")
            .bind(project)
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(kept).collect()
    }

    /// Sets one, in place of one of the same scope.
    pub(crate) async fn put_secret(&mut self, secret: &KeptSecret) -> Result<(), StoreError> {
        let Scope { project, name, branch, events } = &secret.scope;
        sqlx::query(
            "INSERT INTO secrets (project, name, branch, events, key_id, sealed, set_by, set_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (project, name, branch, events) DO UPDATE
             SET key_id = excluded.key_id, sealed = excluded.sealed, set_by = excluded.set_by, set_ms = excluded.set_ms",
        )
        .bind(project)
        .bind(name)
        .bind(branch)
        .bind(events)
        .bind(&secret.key_id)
        .bind(&secret.sealed)
        .bind(&secret.set_by)
        .bind(int(secret.set_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The most bytes that those of one project and those of all take together.
    pub(crate) async fn secrets_weight(&mut self) -> Result<u64, StoreError> {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT (SELECT coalesce(sum(length(sealed)), 0) FROM secrets WHERE project = '')
                  + (SELECT coalesce(max(bytes), 0) FROM
                     (SELECT sum(length(sealed)) AS bytes FROM secrets WHERE project <> '' GROUP BY project))",
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(natural(bytes))
    }

    /// How many there are.
    pub(crate) async fn count_secrets(&mut self) -> Result<u64, StoreError> {
        Ok(natural(sqlx::query_scalar("SELECT count(*) FROM secrets").fetch_one(&mut *self.tx).await?))
    }

    /// Removes the one of this scope; says whether there was one.
    pub(crate) async fn remove_secret(&mut self, scope: &Scope) -> Result<bool, StoreError> {
        let Scope { project, name, branch, events } = scope;
        let done = sqlx::query("DELETE FROM secrets WHERE project = $1 AND name = $2 AND branch = $3 AND events = $4")
            .bind(project)
            .bind(name)
            .bind(branch)
            .bind(events)
            .execute(&mut *self.tx)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Those that were not sealed with this key.
    pub(crate) async fn secrets_of_other_keys(&mut self, key_id: &str) -> Result<Vec<KeptSecret>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM secrets WHERE key_id <> $1").bind(key_id).fetch_all(&mut *self.tx).await?;
        rows.iter().map(kept).collect()
    }

    /// Writes down that one was sealed anew.
    pub(crate) async fn reseal_secret(&mut self, secret: &KeptSecret) -> Result<(), StoreError> {
        sqlx::query("UPDATE secrets SET key_id = $2, sealed = $3 WHERE id = $1")
            .bind(int(secret.id))
            .bind(&secret.key_id)
            .bind(&secret.sealed)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

fn kept(row: &SqliteRow) -> Result<KeptSecret, StoreError> {
    Ok(KeptSecret {
        id: natural(row.try_get("id")?),
        scope: Scope {
            project: row.try_get("project")?,
            name: row.try_get("name")?,
            branch: row.try_get("branch")?,
            events: row.try_get("events")?,
        },
        key_id: row.try_get("key_id")?,
        sealed: row.try_get("sealed")?,
        set_by: row.try_get("set_by")?,
        set_ms: natural(row.try_get("set_ms")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(project: &str, branch: &str, events: &str) -> Scope {
        let (project, branch, events) = (project.to_owned(), branch.to_owned(), events.to_owned());
        Scope { project, name: "T".to_owned(), branch, events }
    }

    #[test]
    fn which_builds_a_secret_is_for() {
        use TriggerKind::{Manual, PullRequest, Push, Tag};
        for (branch, events, of, event, expect) in [
            ("", "", None, Manual, true),
            ("", "", Some("main"), Push, true),
            ("main", "", Some("main"), Push, true),
            ("main", "", Some("maintenance"), Push, false),
            ("main", "", None, Push, false),
            ("release/*", "", Some("release/1"), Push, true),
            ("release/*", "", Some("release/1/x"), Push, false),
            ("release/**", "", Some("release/1/x"), Push, true),
            ("", "push,tag", Some("main"), Tag, true),
            ("", "push,tag", Some("main"), PullRequest, false),
            ("main", "push", Some("main"), PullRequest, false),
        ] {
            assert_eq!(scope("", branch, events).fits(of, event), expect, "{branch} {events} {of:?} {event}");
        }
    }

    #[test]
    fn which_of_two_counts() {
        let rising = [
            scope("", "", ""),
            scope("", "", "push"),
            scope("", "r*", ""),
            scope("", "release*", ""),
            scope("", "main", ""),
            scope("", "main", "push"),
            scope("e.org/a", "", ""),
            scope("e.org/a", "m*", ""),
            scope("e.org/a", "main", "push"),
        ];
        assert!(rising.is_sorted_by_key(Scope::closeness));
    }

    #[tokio::test]
    async fn one_of_a_scope_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let mut tx = store.write().await.unwrap();
        let secret = |scope, text: &str| {
            let (key_id, sealed) = ("k".to_owned(), text.as_bytes().to_vec());
            KeptSecret { id: 0, scope, key_id, sealed, set_by: "ci".to_owned(), set_ms: 5 }
        };
        for (scope, text) in [
            (scope("e.org/a", "", ""), "1"),
            (scope("e.org/a", "main", ""), "2"),
            (scope("e.org/b", "", ""), "3"),
            (scope("", "", ""), "4"),
            (scope("e.org/a", "", ""), "5"),
        ] {
            tx.put_secret(&secret(scope, text)).await.unwrap();
        }
        assert_eq!(tx.count_secrets().await.unwrap(), 4);
        assert_eq!(tx.secrets_weight().await.unwrap(), 3, "one for all, and two of the project with the most");
        let texts =
            |all: Vec<KeptSecret>| all.into_iter().map(|it| String::from_utf8(it.sealed).unwrap()).collect::<Vec<_>>();
        assert_eq!(texts(tx.secrets_for("e.org/a").await.unwrap()), ["5", "2", "4"]);
        assert!(tx.remove_secret(&scope("e.org/a", "main", "")).await.unwrap());
        assert!(!tx.remove_secret(&scope("e.org/a", "main", "")).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(texts(store.secrets().await.unwrap()), ["4", "5", "3"]);
    }
}
