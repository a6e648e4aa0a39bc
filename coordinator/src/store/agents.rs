//! Agents: who they are, and whether they belong to the farm.

use protocol::api::{AgentView, Paused};
use protocol::identity::PublicKey;
use protocol::report::Hello;
use protocol::{AgentId, BootId, JobId, LabelSet};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, int, json, json_or_none, name, natural, small, to_json};

/// An agent that has said hello at least once.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// Its name.
    pub(crate) name: AgentId,
    /// What its claims are verified with, once it is enrolled.
    pub(crate) key: PublicKey,
    /// Another key under its name, which was refused.
    pub(crate) refused_key: Option<PublicKey>,
    /// Whether its claims are looked at.
    pub(crate) enrolled: bool,
    /// The broker's user that it came as, when the broker vouched for one.
    pub(crate) broker_user: Option<String>,
    /// What it says that it offers.
    pub(crate) offered: LabelSet,
    /// What a grant looks at.
    pub(crate) approved: LabelSet,
    /// How many jobs it runs at once.
    pub(crate) slots: u32,
    /// The version of its program.
    pub(crate) version: String,
    /// Its machine.
    pub(crate) host: String,
    /// Its present life.
    pub(crate) boot: BootId,
    /// That a person wants it to take no jobs.
    pub(crate) pause: Option<Paused>,
    /// Why a person revoked it.
    pub(crate) revoked: Option<String>,
    /// Whether a person chose which of its labels count.
    pub(crate) labels_chosen: bool,
    /// When its last sign of life was written down, in milliseconds since 1970.
    pub(crate) seen_ms: Option<u64>,
}

/// A key that a person revoked.
#[derive(Debug, Clone)]
pub(crate) struct RevokedKey {
    /// Whose it was.
    pub(crate) agent: AgentId,
    /// Why.
    pub(crate) reason: String,
}

impl Agent {
    /// An agent as it presents itself, which does not belong to the farm yet.
    pub(crate) fn presented(hello: &Hello, user: Option<&str>) -> Self {
        Self {
            name: hello.agent.clone(),
            key: hello.key.clone(),
            refused_key: None,
            enrolled: false,
            broker_user: user.map(str::to_owned),
            offered: hello.labels.clone(),
            approved: LabelSet::default(),
            slots: hello.slots,
            version: hello.version.clone(),
            host: hello.host.clone(),
            boot: hello.boot,
            pause: None,
            revoked: None,
            labels_chosen: false,
            seen_ms: None,
        }
    }

    /// The key that it showed last: the one that a person has to compare.
    pub(crate) fn shown_key(&self) -> &PublicKey {
        self.refused_key.as_ref().unwrap_or(&self.key)
    }
}

impl Store {
    /// All agents, by name, as the store knows them: when they were seen is added by whoever saw them.
    pub(crate) async fn agents(&self) -> Result<Vec<(Agent, AgentView)>, StoreError> {
        let rows = sqlx::query(
            "SELECT *, (SELECT count(*) FROM jobs WHERE state <> 'ended' AND jobs.agent = agents.name) AS running
             FROM agents ORDER BY name",
        )
        .fetch_all(&self.readers)
        .await?;
        let both = |row: &SqliteRow| {
            let agent = agent_of(row)?;
            let view = AgentView {
                name: agent.name.to_string(),
                enrolled: agent.enrolled,
                fingerprint: agent.shown_key().fingerprint(),
                enrolled_key: agent.refused_key.as_ref().filter(|_| agent.enrolled).map(|_| agent.key.fingerprint()),
                slots: agent.slots,
                running: small(row.try_get("running")?),
                labels: agent.approved.iter().map(str::to_owned).collect(),
                offered: agent.offered.iter().map(str::to_owned).collect(),
                version: agent.version.clone(),
                host: agent.host.clone(),
                paused: None,
                pause: agent.pause.clone(),
                heard: false,
                revoked: agent.revoked.clone(),
                draining: false,
                free_ms: None,
                capacity: None,
                seen_ms_ago: None,
                last_seen_ms: agent.seen_ms,
            };
            Ok((agent, view))
        };
        rows.iter().map(both).collect()
    }
}

impl Transaction {
    /// One agent.
    pub(crate) async fn agent(&mut self, agent: &AgentId) -> Result<Option<Agent>, StoreError> {
        if let Some(known) = self.agents.get(agent) {
            return Ok(known.clone());
        }
        let row = sqlx::query("SELECT * FROM agents WHERE name = $1")
            .bind(agent.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        let found = row.as_ref().map(agent_of).transpose()?;
        self.agents.insert(agent.clone(), found.clone());
        Ok(found)
    }

    /// Writes all that is known of an agent.
    pub(crate) async fn put_agent(&mut self, agent: &Agent) -> Result<(), StoreError> {
        self.agents.remove(&agent.name);
        sqlx::query(
            "INSERT INTO agents (name, public_key, refused_key, enrolled, broker_user, offered_labels, approved_labels,
                                 slots, version, host, boot, pause, revoked, labels_chosen, seen_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             ON CONFLICT (name) DO UPDATE SET
                 public_key = excluded.public_key, refused_key = excluded.refused_key, enrolled = excluded.enrolled,
                 broker_user = excluded.broker_user, offered_labels = excluded.offered_labels,
                 approved_labels = excluded.approved_labels, slots = excluded.slots, version = excluded.version,
                 host = excluded.host, boot = excluded.boot, pause = excluded.pause, revoked = excluded.revoked,
                 labels_chosen = excluded.labels_chosen, seen_ms = excluded.seen_ms",
        )
        .bind(agent.name.as_str())
        .bind(to_json("key", &agent.key)?)
        .bind(agent.refused_key.as_ref().map(|key| to_json("key", key)).transpose()?)
        .bind(agent.enrolled)
        .bind(&agent.broker_user)
        .bind(to_json("labels", &agent.offered)?)
        .bind(to_json("labels", &agent.approved)?)
        .bind(agent.slots)
        .bind(&agent.version)
        .bind(&agent.host)
        .bind(agent.boot.to_string())
        .bind(agent.pause.as_ref().map(|pause| to_json("pause", pause)).transpose()?)
        .bind(&agent.revoked)
        .bind(agent.labels_chosen)
        .bind(agent.seen_ms.map(int))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Forgets all that is known of an agent, but not a key of it that was revoked.
    pub(crate) async fn forget_agent(&mut self, agent: &AgentId) -> Result<(), StoreError> {
        self.agents.remove(agent);
        sqlx::query("DELETE FROM agents WHERE name = $1").bind(agent.as_str()).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Remembers that a key belongs to the farm no longer.
    pub(crate) async fn revoke_key(
        &mut self,
        key: &PublicKey,
        agent: &AgentId,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO revoked_keys (public_key, agent, reason, at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (public_key) DO UPDATE SET reason = excluded.reason, at_ms = excluded.at_ms",
        )
        .bind(to_json("key", key)?)
        .bind(agent.as_str())
        .bind(reason)
        .bind(int(now_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A person takes a key in again.
    pub(crate) async fn unrevoke_key(&mut self, key: &PublicKey) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM revoked_keys WHERE public_key = $1")
            .bind(to_json("key", key)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Whether a key was revoked, whoever shows it.
    pub(crate) async fn revoked_key(&mut self, key: &PublicKey) -> Result<Option<RevokedKey>, StoreError> {
        let row = sqlx::query("SELECT agent, reason FROM revoked_keys WHERE public_key = $1")
            .bind(to_json("key", key)?)
            .fetch_optional(&mut *self.tx)
            .await?;
        let revoked = |row: &SqliteRow| Ok(RevokedKey { agent: name(row, "agent")?, reason: row.try_get("reason")? });
        row.as_ref().map(revoked).transpose()
    }

    /// The jobs that an agent works on.
    pub(crate) async fn jobs_with(&mut self, agent: &AgentId) -> Result<Vec<JobId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM jobs WHERE state <> 'ended' AND state = 'running' AND agent = $1")
            .bind(agent.as_str())
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(|row| name(row, "id")).collect()
    }
}

fn agent_of(row: &SqliteRow) -> Result<Agent, StoreError> {
    Ok(Agent {
        name: name(row, "name")?,
        key: json(row, "public_key")?,
        refused_key: json_or_none(row, "refused_key")?,
        enrolled: row.try_get("enrolled")?,
        broker_user: row.try_get("broker_user")?,
        offered: json(row, "offered_labels")?,
        approved: json(row, "approved_labels")?,
        slots: small(row.try_get("slots")?),
        version: row.try_get("version")?,
        host: row.try_get("host")?,
        boot: name(row, "boot")?,
        pause: json_or_none(row, "pause")?,
        revoked: row.try_get("revoked")?,
        labels_chosen: row.try_get("labels_chosen")?,
        seen_ms: row.try_get::<Option<i64>, _>("seen_ms")?.map(natural),
    })
}
