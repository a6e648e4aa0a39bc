//! Projects: repositories whose forges tell of what happens in them.

use protocol::api::{Approval, CredentialsView, Forge, Keep, ProjectKeeps};
use protocol::{Branch, RepoUrl};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::sealed::sealed_of;
use super::{
    Sealed, Store, StoreError, Transaction, int, json, json_or_none, name, name_or_none, natural, small, to_json,
};

/// A project as it stands. It holds secrets, and is shown to nobody as it is.
#[derive(Clone)]
pub(crate) struct Project {
    /// What all ways to its repository have in common.
    pub(crate) identity: String,
    /// How agents clone it, credentials included.
    pub(crate) url: RepoUrl,
    /// The last part of its webhooks' address.
    pub(crate) key: String,
    /// Where it lies.
    pub(crate) forge: Forge,
    /// What its webhooks are signed with, sealed.
    pub(crate) secret: Sealed,
    /// What its repository is fetched with: what people see of it, and itself, sealed.
    pub(crate) credentials: Option<(CredentialsView, Sealed)>,
    /// The branch that its HEAD means, once it is known.
    pub(crate) default_branch: Option<Branch>,
    /// Whether builds of its own branches are trusted.
    pub(crate) trusted: bool,
    /// Which of its builds wait for a maintainer.
    pub(crate) approval: Approval,
    /// Whether its webhooks begin builds.
    pub(crate) allowed: bool,
    /// For how long its builds are kept, where that is not as the farm's settings say.
    pub(crate) keeps: ProjectKeeps,
    /// Who gets a mail when a branch of it breaks or is fixed, beside those whom the farm names.
    pub(crate) mail: Vec<String>,
    /// When it was added, in milliseconds since 1970.
    pub(crate) created_ms: u64,
}

/// What the URL of an owner ends with: it stands for all of the owner's repositories.
const ALL: &str = "*";

impl Project {
    /// Whether it stands for all repositories of an owner, and is none itself.
    pub(crate) fn is_owner(&self) -> bool {
        self.identity.ends_with("/*")
    }

    /// Whether this repository is the project's, or its owner's.
    pub(crate) fn covers(&self, identity: &str) -> bool {
        match self.identity.strip_suffix(ALL) {
            Some(owner) if self.is_owner() => identity.strip_prefix(owner).is_some_and(|name| !name.is_empty()),
            _ => self.identity == identity,
        }
    }

    /// How one repository of an owner is cloned.
    fn url_of(&self, identity: &str) -> Option<RepoUrl> {
        let name = identity.strip_prefix(self.identity.strip_suffix(ALL)?)?;
        let url: RepoUrl = format!("{}{name}.git", self.url.reveal().strip_suffix(ALL)?).parse().ok()?;
        (url.identity() == identity).then_some(url)
    }

    /// The project of one repository of an owner, with the owner's settings. Its secret is sealed for it; what opens its
    /// repository it takes from the owner whenever it is needed.
    pub(crate) fn of_owner(&self, identity: &str, key: String, secret: Sealed, now_ms: u64) -> Option<Self> {
        let (identity, url) = (identity.to_owned(), self.url_of(identity)?);
        let own = Self { credentials: None, default_branch: None, created_ms: now_ms, ..self.clone() };
        Some(Self { identity, url, key, secret, ..own })
    }
}

const BY_FORGE: &str = "SELECT * FROM projects WHERE forge IN ($1, $2)
                        ORDER BY identity GLOB '*/[*]' DESC, created_ms DESC, identity LIMIT 0 + $3";

impl Store {
    /// All projects, in the order of their names.
    pub(crate) async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        let rows = sqlx::query("SELECT * FROM projects ORDER BY identity").fetch_all(&self.readers).await?;
        rows.iter().map(project_of).collect()
    }

    /// One project.
    pub(crate) async fn project(&self, identity: &str) -> Result<Option<Project>, StoreError> {
        let query = sqlx::query("SELECT * FROM projects WHERE identity = $1").bind(identity);
        query.fetch_optional(&self.readers).await?.as_ref().map(project_of).transpose()
    }

    /// The project whose webhooks come to this address.
    pub(crate) async fn project_at(&self, key: &str) -> Result<Option<Project>, StoreError> {
        let query = sqlx::query("SELECT * FROM projects WHERE key = $1").bind(key);
        query.fetch_optional(&self.readers).await?.as_ref().map(project_of).transpose()
    }

    /// Projects at one of two kinds of servers: first those that stand for all of an owner's, of which there may be more
    /// than so many, then the newest.
    pub(crate) async fn projects_at_forges(
        &self,
        (one, other): (Forge, Forge),
        most: u32,
    ) -> Result<Vec<Project>, StoreError> {
        let rows =
            sqlx::query(BY_FORGE).bind(one.name()).bind(other.name()).bind(most).fetch_all(&self.readers).await?;
        rows.iter().map(project_of).collect()
    }
}

impl Transaction {
    /// One project, as it stands in this transaction.
    pub(crate) async fn project(&mut self, identity: &str) -> Result<Option<Project>, StoreError> {
        let query = sqlx::query("SELECT * FROM projects WHERE identity = $1").bind(identity);
        query.fetch_optional(&mut *self.tx).await?.as_ref().map(project_of).transpose()
    }

    /// Adds a project. Gives whether it was not there.
    pub(crate) async fn add_project(&mut self, project: &Project) -> Result<bool, StoreError> {
        let added = sqlx::query(
            "INSERT INTO projects (identity, url, key, forge, secret, secret_by, secret_sealed, default_branch, trusted,
                                   approval, allowed, created_ms)
             VALUES ($1, $2, $3, $4, '', $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (identity) DO NOTHING",
        )
        .bind(&project.identity)
        .bind(project.url.reveal())
        .bind(&project.key)
        .bind(project.forge.name())
        .bind(&project.secret.key_id)
        .bind(&project.secret.content)
        .bind(project.default_branch.as_ref().map(Branch::as_str))
        .bind(project.trusted)
        .bind(project.approval.name())
        .bind(project.allowed)
        .bind(int(project.created_ms))
        .execute(&mut *self.tx)
        .await?;
        if added.rows_affected() == 0 {
            return Ok(false);
        }
        self.set_owners(project).await?;
        Ok(true)
    }

    /// Writes down what its owners set for it.
    async fn set_owners(&mut self, project: &Project) -> Result<(), StoreError> {
        let (view, sealed) = project.credentials.as_ref().map(|(view, sealed)| (view, sealed)).unzip();
        sqlx::query(
            "UPDATE projects SET credentials_shown = $2, credentials_by = $3, credentials_sealed = $4, keep_builds = $5,
                    keep_days = $6, keep_logs_days = $7, keep_artifacts_days = $8, mail = $9
             WHERE identity = $1",
        )
        .bind(&project.identity)
        .bind(view.map(|view| to_json("view of credentials", view)).transpose()?)
        .bind(sealed.map(|sealed| sealed.key_id.as_str()))
        .bind(sealed.map(|sealed| sealed.content.as_slice()))
        .bind(number_of(project.keeps.builds))
        .bind(number_of(project.keeps.days))
        .bind(number_of(project.keeps.logs_days))
        .bind(number_of(project.keeps.artifacts_days))
        .bind(to_json("addresses", &project.mail)?)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// How a repository is fetched by what its project has of its own, or its owner: the URL, the project that has it, and
    /// the sealed credentials.
    pub(crate) async fn credentials_for(
        &mut self,
        identity: &str,
    ) -> Result<Option<(RepoUrl, String, Sealed)>, StoreError> {
        // Itself, then what stands for all below each of the folders above it.
        let above = identity.rmatch_indices('/').map(|(end, _)| format!("{}/{ALL}", &identity[..end]));
        let names: Vec<String> = std::iter::once(identity.to_owned()).chain(above).collect();
        let rows = sqlx::query(
            "SELECT * FROM projects WHERE credentials_by IS NOT NULL AND identity IN (SELECT value FROM json_each($1))",
        )
        .bind(to_json("names", &names)?)
        .fetch_all(&mut *self.tx)
        .await?;
        let mut found = rows.iter().map(project_of).collect::<Result<Vec<_>, _>>()?;
        found.sort_by_key(|project| names.iter().position(|name| *name == project.identity));
        let opened = |project: Project| {
            let url = if project.is_owner() { project.url_of(identity)? } else { project.url };
            Some((url, project.identity, project.credentials?.1))
        };
        Ok(found.into_iter().find_map(opened))
    }

    /// Writes down what of a project may change.
    pub(crate) async fn change_project(&mut self, project: &Project) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE projects SET url = $2, forge = $3, secret_by = $4, secret_sealed = $5, default_branch = $6,
                    trusted = $7, approval = $8, allowed = $9
             WHERE identity = $1",
        )
        .bind(&project.identity)
        .bind(project.url.reveal())
        .bind(project.forge.name())
        .bind(&project.secret.key_id)
        .bind(&project.secret.content)
        .bind(project.default_branch.as_ref().map(Branch::as_str))
        .bind(project.trusted)
        .bind(project.approval.name())
        .bind(project.allowed)
        .execute(&mut *self.tx)
        .await?;
        self.set_owners(project).await
    }

    /// Removes a project with its deliveries; its builds stay.
    pub(crate) async fn remove_project(&mut self, identity: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM projects WHERE identity = $1").bind(identity).execute(&mut *self.tx).await?;
        Ok(())
    }
}

fn project_of(row: &SqliteRow) -> Result<Project, StoreError> {
    let shown: Option<CredentialsView> = json_or_none(row, "credentials_shown")?;
    let sealed = |view| Ok::<_, StoreError>((view, sealed_of(row, "credentials_by", "credentials_sealed")?));
    Ok(Project {
        credentials: shown.map(sealed).transpose()?,
        identity: row.try_get("identity")?,
        url: name(row, "url")?,
        key: row.try_get("key")?,
        forge: name(row, "forge")?,
        secret: sealed_of(row, "secret_by", "secret_sealed")?,
        default_branch: name_or_none(row, "default_branch")?,
        trusted: row.try_get("trusted")?,
        approval: name(row, "approval")?,
        allowed: row.try_get("allowed")?,
        keeps: ProjectKeeps {
            builds: keep_of(row, "keep_builds")?,
            days: keep_of(row, "keep_days")?,
            logs_days: keep_of(row, "keep_logs_days")?,
            artifacts_days: keep_of(row, "keep_artifacts_days")?,
        },
        mail: json(row, "mail")?,
        created_ms: natural(row.try_get("created_ms")?),
    })
}

/// As it stands in a column: 0 is without end.
fn number_of(keep: Option<Keep>) -> Option<i64> {
    match keep? {
        Keep::Farm => None,
        Keep::All => Some(0),
        Keep::Last(count) => Some(count.into()),
    }
}

fn keep_of(row: &SqliteRow, column: &str) -> Result<Option<Keep>, StoreError> {
    let number: Option<i64> = row.try_get(column)?;
    Ok(number.map(|number| if number == 0 { Keep::All } else { Keep::Last(small(number)) }))
}
