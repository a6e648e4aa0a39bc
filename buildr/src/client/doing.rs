//! What is asked for about builds that are over, and those that begin by themselves.

use protocol::BuildNumber;
use protocol::api::{Pin, Pinned, Restart, Restarted, ScheduleDone, ScheduleOrder, ScheduleView, StorageView};

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
}
