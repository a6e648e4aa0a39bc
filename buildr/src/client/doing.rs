//! What is asked for about builds that are over, and those that begin by themselves.

use protocol::api::{
    Pin, Pinned, ReportNoMore, ReportTo, ReportView, Reported, Repro, Restart, Restarted, ScheduleDone, ScheduleOrder,
    ScheduleView, StorageView,
};
use protocol::{BuildNumber, RepoUrl};

use super::{ClientError, Farm};

impl Farm {
    /// Begins a build that does another one again.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn restart(&self, number: BuildNumber, ask: &Restart) -> Result<Restarted, ClientError> {
        self.post(&["builds", &number.0.to_string(), "restart"], ask).await
    }

    /// When builds begin by themselves.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, ClientError> {
        self.get(&["schedules"], &[]).await
    }

    /// Does something with a schedule.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn order_schedule(&self, order: &ScheduleOrder) -> Result<ScheduleDone, ClientError> {
        self.post(&["schedules"], order).await
    }

    /// Keeps a build, however old it becomes; or no longer than others.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn pin(&self, number: BuildNumber, pinned: bool) -> Result<Pinned, ClientError> {
        self.post(&["builds", &number.0.to_string(), "pin"], &Pin { pinned }).await
    }

    /// What the farm keeps, and how much room that takes.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn storage(&self) -> Result<StorageView, ClientError> {
        self.get(&["storage"], &[]).await
    }

    /// What it takes to do a build elsewhere.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn repro(&self, number: BuildNumber) -> Result<Repro, ClientError> {
        self.get(&["builds", &number.0.to_string(), "repro"], &[]).await
    }

    /// Which forges are told how builds go.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn reporting(&self) -> Result<Vec<ReportView>, ClientError> {
        self.get(&["statuses"], &[]).await
    }

    /// Tells a repository's forge from now on.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn report_to(&self, to: &ReportTo) -> Result<Reported, ClientError> {
        self.post(&["statuses"], to).await
    }

    /// Tells a repository's forge no longer.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn report_no_more(&self, repo: RepoUrl) -> Result<Reported, ClientError> {
        self.post(&["statuses", "forget"], &ReportNoMore { repo }).await
    }
}
