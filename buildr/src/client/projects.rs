//! Projects and what their forges delivered.

use protocol::api::{AddedProject, ChangeProject, Deliveries, NewProject, ProjectView, Received, RemovedProject};

use super::{ClientError, Farm};

impl Farm {
    /// Has the webhooks of a repository begin builds.
    ///
    /// # Errors
    /// As [`Farm::submit`]; so do the others.
    pub async fn add_project(&self, project: &NewProject) -> Result<AddedProject, ClientError> {
        self.post(&["projects"], project).await
    }

    /// All projects.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn projects(&self) -> Result<Vec<ProjectView>, ClientError> {
        self.get(&["projects"], &[]).await
    }

    /// One project, by its identity or a URL of its repository.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn project(&self, name: &str) -> Result<ProjectView, ClientError> {
        self.get(&["projects", name], &[]).await
    }

    /// Changes what is given of a project.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn change_project(&self, name: &str, change: &ChangeProject) -> Result<ProjectView, ClientError> {
        self.post(&["projects", name, "change"], change).await
    }

    /// Has the webhooks of a repository begin nothing more.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn remove_project(&self, name: &str) -> Result<RemovedProject, ClientError> {
        self.post(&["projects", name, "remove"], &serde_json::json!({})).await
    }

    /// What forges delivered, the newest first: before `before`, at most `limit`, of one project or of all.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn deliveries(
        &self,
        project: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Deliveries, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(before.map(|number| ("before", number.to_string())));
        query.extend(project.map(|project| ("project", project.to_owned())));
        self.get(&["deliveries"], &query).await
    }

    /// Has a delivery handled once more.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn redeliver(&self, number: u64) -> Result<Received, ClientError> {
        self.post(&["deliveries", &number.to_string(), "redeliver"], &serde_json::json!({})).await
    }
}
