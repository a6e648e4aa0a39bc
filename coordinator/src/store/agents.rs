//! Agents: who they are, and whether they belong to the farm.

use protocol::api::AgentView;
use protocol::identity::PublicKey;
use protocol::report::Hello;
use protocol::{AgentId, BootId, LabelSet};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, json, json_or_none, name, small, to_json};

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
        }
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
                // Of the key that waits for approval, when one does: that is what a person has to compare.
                fingerprint: agent.refused_key.as_ref().unwrap_or(&agent.key).fingerprint(),
                slots: agent.slots,
                running: small(row.try_get("running")?),
                labels: agent.approved.iter().map(str::to_owned).collect(),
                version: agent.version.clone(),
                host: agent.host.clone(),
                paused: None,
                seen_ms_ago: None,
            };
            Ok((agent, view))
        };
        rows.iter().map(both).collect()
    }
}

impl Transaction {
    /// One agent.
    pub(crate) async fn agent(&mut self, agent: &AgentId) -> Result<Option<Agent>, StoreError> {
        let row = sqlx::query("SELECT * FROM agents WHERE name = $1")
            .bind(agent.as_str())
            .fetch_optional(&mut *self.tx)
            .await?;
        row.as_ref().map(agent_of).transpose()
    }

    /// Writes all that is known of an agent.
    pub(crate) async fn put_agent(&mut self, agent: &Agent) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO agents (name, public_key, refused_key, enrolled, broker_user, offered_labels, approved_labels,
                                 slots, version, host, boot)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (name) DO UPDATE SET
                 public_key = excluded.public_key, refused_key = excluded.refused_key, enrolled = excluded.enrolled,
                 broker_user = excluded.broker_user, offered_labels = excluded.offered_labels,
                 approved_labels = excluded.approved_labels, slots = excluded.slots, version = excluded.version,
                 host = excluded.host, boot = excluded.boot",
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
        .execute(&mut *self.tx)
        .await?;
        Ok(())
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
    })
}
