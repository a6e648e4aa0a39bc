//! API tokens, and the browsers that signed in with one. What is kept of both are hashes.

use protocol::api::{Role, TokenView};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, int, natural, parse};

/// A token that is to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    /// Its name.
    pub(crate) name: String,
    /// What may be done with it.
    pub(crate) role: Role,
    /// How it begins.
    pub(crate) prefix: String,
    /// SHA-256 of it, in hexadecimal.
    pub(crate) hash: String,
    /// Who makes it.
    pub(crate) made_by: String,
    /// When it ends, in milliseconds since 1970.
    pub(crate) expires_ms: Option<u64>,
}

/// A token as a request that shows it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// Its name.
    pub(crate) name: String,
    /// What may be done with it.
    pub(crate) role: Role,
    /// When it ends, in milliseconds since 1970.
    pub(crate) expires_ms: Option<u64>,
    /// When its last use was written down.
    pub(crate) used_ms: Option<u64>,
    /// Whether a person ended it.
    pub(crate) revoked: bool,
}

/// A browser that signed in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// SHA-256 of what its cookie holds.
    pub(crate) hash: String,
    /// SHA-256 of the token that it showed.
    pub(crate) token: String,
    /// When it ends, in milliseconds since 1970.
    pub(crate) expires_ms: u64,
}

impl Store {
    /// All tokens, the newest first.
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenView>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY id DESC").fetch_all(&self.readers).await?;
        rows.iter().map(view).collect()
    }

    /// The token with this hash.
    pub(crate) async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        let row = sqlx::query("SELECT * FROM tokens WHERE hash = $1").bind(hash).fetch_optional(&self.readers).await?;
        let token = |row: SqliteRow| {
            Ok(Token {
                name: row.try_get("name")?,
                role: parse("role", row.try_get("role")?)?,
                expires_ms: row.try_get::<Option<i64>, _>("expires_ms")?.map(natural),
                used_ms: row.try_get::<Option<i64>, _>("used_ms")?.map(natural),
                revoked: row.try_get::<Option<i64>, _>("revoked_ms")?.is_some(),
            })
        };
        row.map(token).transpose()
    }

    /// The session whose cookie has this hash.
    pub(crate) async fn session(&self, hash: &str) -> Result<Option<Session>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM sessions WHERE hash = $1").bind(hash).fetch_optional(&self.readers).await?;
        let session = |row: SqliteRow| {
            let expires_ms = natural(row.try_get("expires_ms")?);
            Ok(Session { hash: row.try_get("hash")?, token: row.try_get("token")?, expires_ms })
        };
        row.map(session).transpose()
    }
}

impl Transaction {
    /// Makes a token. Says no when one of this name holds already.
    pub(crate) async fn insert_token(&mut self, token: &NewToken, now_ms: u64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO tokens (name, role, prefix, hash, made_by, created_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(&token.name)
        .bind(token.role.name())
        .bind(&token.prefix)
        .bind(&token.hash)
        .bind(&token.made_by)
        .bind(int(now_ms))
        .bind(token.expires_ms.map(int))
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends the token of this name, and the sessions that were made from it. Gives what is left of it, if one held.
    pub(crate) async fn revoke_token(&mut self, name: &str, now_ms: u64) -> Result<Option<TokenView>, StoreError> {
        let row = sqlx::query("UPDATE tokens SET revoked_ms = $2 WHERE name = $1 AND revoked_ms IS NULL RETURNING *")
            .bind(name)
            .bind(int(now_ms))
            .fetch_optional(&mut *self.tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        sqlx::query("DELETE FROM sessions WHERE token = $1")
            .bind(row.try_get::<&str, _>("hash")?)
            .execute(&mut *self.tx)
            .await?;
        Ok(Some(view(&row)?))
    }

    /// Writes down that a token was used.
    pub(crate) async fn used_token(&mut self, hash: &str, at_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE tokens SET used_ms = max(coalesce(used_ms, 0), $2) WHERE hash = $1")
            .bind(hash)
            .bind(int(at_ms))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Begins a session, and forgets those that are over.
    pub(crate) async fn insert_session(&mut self, session: &Session, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE expires_ms <= $1").bind(int(now_ms)).execute(&mut *self.tx).await?;
        sqlx::query("INSERT INTO sessions (hash, token, created_ms, expires_ms) VALUES ($1, $2, $3, $4)")
            .bind(&session.hash)
            .bind(&session.token)
            .bind(int(now_ms))
            .bind(int(session.expires_ms))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Ends a session.
    pub(crate) async fn remove_session(&mut self, hash: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(hash).execute(&mut *self.tx).await?;
        Ok(())
    }
}

fn view(row: &SqliteRow) -> Result<TokenView, StoreError> {
    let moment = |column: &str| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(natural));
    Ok(TokenView {
        name: row.try_get("name")?,
        role: parse("role", row.try_get("role")?)?,
        prefix: row.try_get("prefix")?,
        made_by: row.try_get("made_by")?,
        created_ms: natural(row.try_get("created_ms")?),
        expires_ms: moment("expires_ms")?,
        used_ms: moment("used_ms")?,
        revoked_ms: moment("revoked_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, hash: &str) -> NewToken {
        let (prefix, made_by) = ("buildr_abcd".to_owned(), "start token".to_owned());
        let role = Role::Developer;
        NewToken { name: name.to_owned(), role, prefix, hash: hash.to_owned(), made_by, expires_ms: Some(90) }
    }

    #[tokio::test]
    async fn a_revoked_token_takes_its_sessions_with_it_and_frees_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let mut tx = store.write().await.unwrap();
        assert!(tx.insert_token(&token("ci", "1"), 5).await.unwrap());
        assert!(!tx.insert_token(&token("ci", "2"), 5).await.unwrap(), "the name is taken");
        for (hash, of) in [("a", "1"), ("b", "other")] {
            let session = Session { hash: hash.to_owned(), token: of.to_owned(), expires_ms: 50 };
            tx.insert_session(&session, 5).await.unwrap();
        }
        tx.used_token("1", 7).await.unwrap();
        tx.used_token("1", 6).await.unwrap();
        tx.commit().await.unwrap();
        let found = store.token("1").await.unwrap().unwrap();
        assert_eq!(
            (found.role, found.used_ms, found.expires_ms, found.revoked),
            (Role::Developer, Some(7), Some(90), false)
        );
        assert!(store.token("2").await.unwrap().is_none());
        let mut tx = store.write().await.unwrap();
        assert_eq!(tx.revoke_token("ci", 9).await.unwrap().unwrap().revoked_ms, Some(9));
        assert!(tx.revoke_token("ci", 9).await.unwrap().is_none());
        assert!(tx.insert_token(&token("ci", "3"), 10).await.unwrap());
        tx.commit().await.unwrap();
        assert!(store.token("1").await.unwrap().unwrap().revoked);
        assert!(store.session("a").await.unwrap().is_none());
        assert!(store.session("b").await.unwrap().is_some());
        let names: Vec<_> = store.tokens().await.unwrap().into_iter().map(|it| (it.name, it.revoked_ms)).collect();
        assert_eq!(names, [("ci".to_owned(), None), ("ci".to_owned(), Some(9))]);
        let mut tx = store.write().await.unwrap();
        let late = Session { hash: "c".to_owned(), token: "3".to_owned(), expires_ms: 99 };
        tx.insert_session(&late, 50).await.unwrap();
        tx.remove_session("c").await.unwrap();
        tx.commit().await.unwrap();
        assert!(store.session("b").await.unwrap().is_none(), "what is over is forgotten");
        assert!(store.session("c").await.unwrap().is_none());
    }
}
