//! What was not as it should be on the line, for people: equal incidents are one with a count, and of each kind the
//! newest are kept, so that a storm of one kind hides no other and fills no disk.

use protocol::api::{DeadLetterView, IncidentKind, IncidentView};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, int, natural, parse};

/// How many incidents of one kind are kept.
const KEPT: i64 = 100;

/// How long an incident that does not come again is kept.
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// The longest sentence that is kept, in letters: what strangers write is part of it.
const LONGEST: usize = 300;

/// How much of a message laid aside a person is shown, in bytes.
const EXCERPT: i64 = 200;

/// How many messages laid aside are listed.
const LISTED: i64 = 20;

impl Store {
    /// All incidents that are kept, the newest first.
    pub(crate) async fn incidents(&self) -> Result<Vec<IncidentView>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM incidents ORDER BY last_ms DESC, id DESC").fetch_all(&self.readers).await?;
        rows.iter().map(incident).collect()
    }

    /// How many incidents came after this time or came again, and the newest of them.
    pub(crate) async fn incidents_since(&self, since_ms: u64) -> Result<(u64, Option<IncidentView>), StoreError> {
        let rows = sqlx::query("SELECT * FROM incidents WHERE last_ms >= $1 ORDER BY last_ms DESC, id DESC")
            .bind(int(since_ms))
            .fetch_all(&self.readers)
            .await?;
        Ok((rows.len() as u64, rows.first().map(incident).transpose()?))
    }

    /// How many messages were laid aside and are still known of, and the newest of them.
    pub(crate) async fn dead_letters(&self) -> Result<(u64, Vec<DeadLetterView>), StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters").fetch_one(&self.readers).await?;
        let rows = sqlx::query(
            "SELECT queue, reason, at_ms, length(body) AS bytes, substr(body, 1, $1) AS excerpt
             FROM dead_letters ORDER BY id DESC LIMIT 0 + $2",
        )
        .bind(EXCERPT)
        .bind(LISTED)
        .fetch_all(&self.readers)
        .await?;
        let letter = |row: &SqliteRow| {
            Ok(DeadLetterView {
                queue: row.try_get("queue")?,
                reason: row.try_get("reason")?,
                at_ms: natural(row.try_get("at_ms")?),
                bytes: natural(row.try_get("bytes")?),
                excerpt: String::from_utf8_lossy(row.try_get("excerpt")?).into_owned(),
            })
        };
        Ok((natural(count), rows.iter().map(letter).collect::<Result<_, StoreError>>()?))
    }
}

impl Transaction {
    /// Notes an incident, or that it came again.
    pub(crate) async fn note_incident(
        &mut self,
        kind: IncidentKind,
        about: &str,
        sentence: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let short = |text: &str| text.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect::<String>();
        let known: i64 = sqlx::query_scalar(
            "INSERT INTO incidents (kind, about, sentence, first_ms, last_ms) VALUES ($1, $2, $3, $4, $4)
             ON CONFLICT DO UPDATE SET count = count + 1, last_ms = max(last_ms, excluded.last_ms) RETURNING count",
        )
        .bind(kind.name())
        .bind(short(about))
        .bind(short(sentence))
        .bind(int(now_ms))
        .fetch_one(&mut *self.tx)
        .await?;
        if known == 1 {
            sqlx::query(
                "DELETE FROM incidents WHERE last_ms < $3 OR kind = $1 AND id NOT IN
                 (SELECT id FROM incidents WHERE kind = $1 ORDER BY last_ms DESC, id DESC LIMIT 0 + $2)",
            )
            .bind(kind.name())
            .bind(KEPT)
            .bind(int(now_ms.saturating_sub(KEPT_MS)))
            .execute(&mut *self.tx)
            .await?;
        }
        Ok(())
    }
}

fn incident(row: &SqliteRow) -> Result<IncidentView, StoreError> {
    Ok(IncidentView {
        kind: parse("kind of incident", row.try_get("kind")?)?,
        about: row.try_get("about")?,
        sentence: row.try_get("sentence")?,
        first_ms: natural(row.try_get("first_ms")?),
        last_ms: natural(row.try_get("last_ms")?),
        count: natural(row.try_get("count")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn note(store: &Store, kind: IncidentKind, sentence: &str, now_ms: u64) {
        let mut tx = store.write().await.unwrap();
        tx.note_incident(kind, "oak", sentence, now_ms).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn equal_ones_are_one_and_each_kind_has_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        note(&store, IncidentKind::Forged, "a\nb", 5).await;
        for time in 10..310 {
            note(&store, IncidentKind::Unreadable, &format!("this is {}", time % 150), time).await;
        }
        note(&store, IncidentKind::Forged, "ab", 400).await;
        let all = store.incidents().await.unwrap();
        assert_eq!(all.len(), 101);
        assert_eq!((all[0].kind, all[0].sentence.as_str()), (IncidentKind::Forged, "ab"));
        assert_eq!((all[0].first_ms, all[0].last_ms, all[0].count), (5, 400, 2));
        assert_eq!((all[1].sentence.as_str(), all[1].last_ms), ("this is 9", 309));
        let (count, newest) = store.incidents_since(308).await.unwrap();
        assert_eq!((count, newest.unwrap().last_ms), (3, 400));
        note(&store, IncidentKind::Unreadable, &"x".repeat(1000), KEPT_MS + 405).await;
        let all = store.incidents().await.unwrap();
        assert_eq!((all.len(), all[0].sentence.len()), (1, LONGEST), "old ones are forgotten");
    }
}
