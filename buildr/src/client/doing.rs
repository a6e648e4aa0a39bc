//! What is asked for about builds that are over, and those that begin by themselves.

use protocol::BuildNumber;
use protocol::api::{Restart, Restarted, ScheduleDone, ScheduleOrder, ScheduleView};

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
}
