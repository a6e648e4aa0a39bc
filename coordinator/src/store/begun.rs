//! Builds that are asked for at the same time begin together: one write to the disk serves all of them, and each is
//! answered when it is there.

use protocol::{BuildNumber, JobId, JobKey, LabelSet};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{NewBuild, Store, StoreError, Terms};

/// How many begin together at most: beyond that the write is no longer what takes the time.
const TOGETHER: usize = 64;

/// A build that is asked for.
#[derive(Debug)]
pub(crate) struct AskedFor {
    /// What it is.
    pub(crate) build: NewBuild,
    /// The key of its first job.
    pub(crate) key: JobKey,
    /// What the agent that plans it must have.
    pub(crate) labels: LabelSet,
    /// Who asks, as that one says.
    pub(crate) by: Option<String>,
    /// What a maintainer is asked before it begins; nothing is without it.
    pub(crate) approval: Option<String>,
    /// When, in milliseconds since 1970.
    pub(crate) now_ms: u64,
}

struct Waiting {
    asked: AskedFor,
    answer: oneshot::Sender<Result<BuildNumber, StoreError>>,
}

/// Those that wait to begin.
pub(super) struct Begun {
    ask: mpsc::Sender<Waiting>,
    asked: Mutex<mpsc::Receiver<Waiting>>,
}

impl Begun {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        // Two transactions' worth: while one is written the next gathers, and who comes then waits with the request.
        let (ask, asked) = mpsc::channel(2 * TOGETHER);
        Self { ask, asked: Mutex::new(asked) }
    }
}

impl Store {
    /// Begins a build with its first job. When this returns it is on the disk.
    ///
    /// # Errors
    /// When the database fails; then this build did not begin, whatever became of others.
    pub(crate) async fn begin_build(&self, asked: AskedFor) -> Result<BuildNumber, StoreError> {
        let (answer, answered) = oneshot::channel();
        match self.begun.ask.send(Waiting { asked, answer }).await {
            Ok(()) => {
                self.begin_ungathered().await;
                answered.await.unwrap_or_else(|_| Err(StoreError::Database(sqlx::Error::PoolClosed)))
            }
            // Nobody gathers any more: the coordinator ends, and this is one of the last requests that it answers.
            Err(mpsc::error::SendError(Waiting { asked, .. })) => {
                let begun = self.begin_all([&asked]).await?;
                begun.first().copied().ok_or(StoreError::Database(sqlx::Error::RowNotFound))
            }
        }
    }

    /// Begins what is asked for, until `shutdown`; then what was asked for before that.
    pub(crate) async fn begin_builds(&self, shutdown: CancellationToken) {
        let mut asked = self.begun.asked.lock().await;
        let mut together = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                () = shutdown.cancelled(), if !asked.is_closed() => asked.close(),
                count = asked.recv_many(&mut together, TOGETHER) => {
                    if count == 0 {
                        return;
                    }
                    self.begin_together(std::mem::take(&mut together)).await;
                }
            }
        }
    }

    /// Begins what is asked for where nobody gathers: the coordinator has only just begun.
    async fn begin_ungathered(&self) {
        let Ok(mut asked) = self.begun.asked.try_lock() else { return };
        let together: Vec<Waiting> = std::iter::from_fn(|| asked.try_recv().ok()).collect();
        drop(asked);
        if !together.is_empty() {
            self.begin_together(together).await;
        }
    }

    async fn begin_together(&self, together: Vec<Waiting>) {
        if let Ok(numbers) = self.begin_all(together.iter().map(|waiting| &waiting.asked)).await {
            for (waiting, number) in together.into_iter().zip(numbers) {
                // Who does not wait any more finds it in the list.
                waiting.answer.send(Ok(number)).ok();
            }
            return;
        }
        // Nothing was written. One of them may be why, so each has its own try and its own error.
        for Waiting { asked, answer } in together {
            let begun = self.begin_all([&asked]).await;
            let number = begun
                .and_then(|numbers| numbers.first().copied().ok_or(StoreError::Database(sqlx::Error::RowNotFound)));
            answer.send(number).ok();
        }
    }

    /// All of them or none.
    async fn begin_all<'a>(
        &self,
        all: impl IntoIterator<Item = &'a AskedFor> + Send,
    ) -> Result<Vec<BuildNumber>, StoreError> {
        let all: Vec<&AskedFor> = all.into_iter().collect();
        let mut tx = self.write().await?;
        let mut numbers = Vec::with_capacity(all.len());
        for asked in all {
            numbers.push(tx.begin_build(asked).await?.0);
        }
        tx.commit().await?;
        Ok(numbers)
    }
}

impl super::Transaction {
    /// Begins a build with its first job.
    pub(crate) async fn begin_build(&mut self, asked: &AskedFor) -> Result<(BuildNumber, JobId), StoreError> {
        let build = self.insert_build(&asked.build, asked.now_ms).await?;
        let job = self.insert_job(build, &asked.key, &asked.labels, asked.now_ms).await?;
        if let Some(ask) = &asked.approval {
            self.hold(job, &Terms::approved(ask.clone())).await?;
        }
        if let Some(by) = &asked.by {
            self.asked_by(build, by).await?;
        }
        self.want_statuses(build).await?;
        Ok((build, job))
    }
}
