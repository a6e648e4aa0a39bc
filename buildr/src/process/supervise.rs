//! Watches over a program's long-lived tasks: one that ends before the program does ends it, with its name.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// The long-lived tasks of a program. Dropped, it aborts those that still run.
#[derive(Default)]
pub struct Services {
    ends: FuturesUnordered<BoxFuture<'static, ServiceEnd>>,
    running: Vec<(&'static str, AbortHandle)>,
}

/// How one of them ended.
#[derive(Debug)]
pub struct ServiceEnd {
    /// Its name.
    pub name: &'static str,
    /// Well, or why not: its own error, its panic, or that it was ended by force.
    pub result: Result<(), Box<dyn Error + Send + Sync>>,
}

impl Services {
    /// Starts one.
    pub fn start<E>(&mut self, name: &'static str, service: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        let task = protocol::task::spawn(name, service);
        self.running.push((name, task.abort_handle()));
        self.ends.push(Box::pin(async move {
            let result = match task.await {
                Ok(result) => result.map_err(Into::into),
                Err(error) => Err(error.into()),
            };
            ServiceEnd { name, result }
        }));
    }

    /// Waits for the first that ends; for ever when none runs. Dropped while it waits, it loses no end.
    pub async fn ended(&mut self) -> ServiceEnd {
        match self.ends.next().await {
            Some(end) => {
                self.running.retain(|(_, task)| !task.is_finished());
                end
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for all that still run, at most for `limit`, and ends by force those that then are not over. Ask them
    /// to end before, for it does not.
    pub async fn finish(mut self, limit: Duration) -> Vec<ServiceEnd> {
        let deadline = Instant::now() + limit;
        let mut ends = Vec::new();
        while let Ok(Some(end)) = timeout_at(deadline, self.ends.next()).await {
            ends.push(end);
        }
        self.abort();
        while let Some(end) = self.ends.next().await {
            ends.push(end);
        }
        ends
    }

    fn abort(&self) {
        for (name, task) in &self.running {
            if !task.is_finished() {
                tracing::warn!(service = name, "ends by force: it did not end in time");
                task.abort();
            }
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn an_early_end_names_the_service() {
        let mut services = Services::default();
        services.start("lasting", std::future::pending::<Result<(), std::io::Error>>());
        services.start("broken", async { Err::<(), _>(std::io::Error::other("no disk")) });
        let end = services.ended().await;
        assert_eq!(end.name, "broken");
        assert_eq!(end.result.unwrap_err().to_string(), "no disk");
    }

    #[tokio::test]
    async fn what_does_not_end_in_time_is_ended() {
        let mut services = Services::default();
        services.start("stubborn", std::future::pending::<Result<(), std::io::Error>>());
        let ends = services.finish(Duration::ZERO).await;
        assert_eq!((ends.len(), ends[0].name, ends[0].result.is_err()), (1, "stubborn", true));
    }

    #[tokio::test]
    async fn what_ends_when_it_is_asked_to_is_waited_for() {
        let mut services = Services::default();
        let (ask, asked) = oneshot::channel::<()>();
        services.start("polite", asked);
        ask.send(()).unwrap();
        let ends = services.finish(Duration::from_secs(60)).await;
        assert_eq!((ends.len(), ends[0].name, ends[0].result.is_ok()), (1, "polite", true));
    }

    #[tokio::test]
    async fn a_panic_is_an_end() {
        let mut services = Services::default();
        services.start::<std::io::Error>("fragile", async { panic!("broke") });
        let end = services.ended().await;
        assert!(end.result.unwrap_err().to_string().contains("panicked"));
    }
}
