//! The jobs that run here at the moment, as a person sees them: what an agent that is being stopped waits for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use buildr::sink::{EventSink, SinkError};
use bytes::Bytes;
use protocol::LogName;
use protocol::job::WorkOrder;
use protocol::report::JobEvent;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often it is said what is still waited for.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The jobs of one agent. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    running: BTreeMap<u64, Running>,
    /// How jobs ended, and how many so, since this was looked at last.
    ended: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Running {
    /// Which build of which repository.
    what: String,
    since: Instant,
    stage: Option<String>,
}

/// A job that runs, and the sink that sees how far it is. Dropped, it is over.
pub(crate) struct Watched<'a> {
    jobs: Jobs,
    number: u64,
    sink: &'a dyn EventSink,
}

impl Jobs {
    /// A job begins, which tells what happens to `sink`.
    pub(crate) fn begin<'a>(&self, order: &WorkOrder, sink: &'a dyn EventSink) -> Watched<'a> {
        let what = match order.build {
            Some(build) => format!("build {build} of {}", order.repo),
            None => format!("a build of {}", order.repo),
        };
        let mut inner = self.lock();
        inner.next += 1;
        let number = inner.next;
        inner.running.insert(number, Running { what, since: Instant::now(), stage: None });
        Watched { jobs: self.clone(), number, sink }
    }

    /// Says what is waited for: when `drain` comes, every minute after that, and the sum when `done` does.
    pub(crate) async fn tell_drain(self, drain: CancellationToken, done: CancellationToken) {
        let begun = tokio::select! {
            () = drain.cancelled() => Instant::now(),
            () = done.cancelled() => return,
        };
        self.lock().ended.clear();
        loop {
            match self.waited_for(Instant::now()) {
                Some(list) => tracing::info!("taking no more jobs; waiting for {list}"),
                None => tracing::info!("taking no more jobs; none runs"),
            }
            tokio::select! {
                () = done.cancelled() => break,
                () = tokio::time::sleep(SAY_EVERY) => {}
            }
        }
        tracing::info!("{}", sum(&self.lock().ended, begun.elapsed()));
    }

    fn waited_for(&self, now: Instant) -> Option<String> {
        let inner = self.lock();
        let one = |running: &Running| {
            let mut text = format!("{}, for {} now", running.what, time(now.saturating_duration_since(running.since)));
            if let Some(stage) = &running.stage {
                // A String takes all that is written to it.
                write!(text, ", in {stage}").ok();
            }
            text
        };
        let all: Vec<String> = inner.running.values().map(one).collect();
        let jobs = if all.len() == 1 { "1 job".to_owned() } else { format!("{} jobs", all.len()) };
        (!all.is_empty()).then(|| format!("{jobs}: {}", all.join("; ")))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is one step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched<'_> {
    fn running(&self, change: impl FnOnce(&mut Running)) {
        if let Some(running) = self.jobs.lock().running.get_mut(&self.number) {
            change(running);
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.jobs.lock().running.remove(&self.number);
    }
}

#[async_trait]
impl EventSink for Watched<'_> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        match &event {
            JobEvent::StageStarted { stage, .. } => self.running(|running| running.stage = Some(stage.to_string())),
            JobEvent::StageEnded { .. } => self.running(|running| running.stage = None),
            JobEvent::Finished { ending, .. } => *self.jobs.lock().ended.entry(ending.outcome.name()).or_default() += 1,
            _ => {}
        }
        self.sink.emit(event).await
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        if let JobEvent::StageStarted { stage, .. } = &event {
            self.running(|running| running.stage = Some(stage.to_string()));
        }
        self.sink.emit_certain(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        self.sink.log(log, bytes).await
    }
}

/// What became of the jobs that were waited for.
fn sum(ended: &BTreeMap<&str, u64>, took: Duration) -> String {
    if ended.is_empty() {
        return "drained; no job had to be waited for".to_owned();
    }
    let counts: Vec<String> = ended.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let jobs = match ended.values().sum() {
        1 => "1 job".to_owned(),
        count => format!("{count} jobs"),
    };
    format!("drained in {}; {jobs} ended meanwhile: {}", time(took), counts.join(", "))
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Cause, Ending, JobId};

    use super::*;

    struct Nowhere;

    #[async_trait]
    impl EventSink for Nowhere {
        async fn emit(&self, _: JobEvent) -> Result<(), SinkError> {
            Ok(())
        }
        async fn emit_certain(&self, _: JobEvent) -> Result<(), SinkError> {
            Ok(())
        }
        async fn log(&self, _: &LogName, _: Bytes) -> Result<(), SinkError> {
            Ok(())
        }
    }

    fn order(build: Option<u64>) -> WorkOrder {
        WorkOrder {
            build: build.map(protocol::BuildNumber),
            ..WorkOrder::new(
                JobId::fresh(),
                protocol::job::TriggerKind::Manual,
                "https://example.org/x".parse().unwrap(),
            )
        }
    }

    #[tokio::test]
    async fn what_is_waited_for_is_named_with_its_stage() {
        let (jobs, start) = (Jobs::default(), Instant::now());
        assert_eq!(jobs.waited_for(start), None);
        let first = jobs.begin(&order(Some(7)), &Nowhere);
        let stage = JobEvent::StageStarted { stage: "test".parse().unwrap(), image: "x".to_owned(), not_twice: false };
        first.emit(stage).await.unwrap();
        let second = jobs.begin(&order(None), &Nowhere);
        let said = jobs.waited_for(start + Duration::from_secs(150)).unwrap();
        assert_eq!(
            said,
            "2 jobs: build #7 of https://example.org/x, for 2 min now, in test; a build of https://example.org/x, for 2 min now"
        );
        first.emit(JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }).await.unwrap();
        second
            .emit(JobEvent::Finished { ending: Ending::errored(Cause::Limit, "x"), spent: Vec::new() })
            .await
            .unwrap();
        drop((first, second));
        assert_eq!(jobs.waited_for(start), None);
        let ended = jobs.lock().ended.clone();
        assert_eq!(
            sum(&ended, Duration::from_secs(3700)),
            "drained in 1 h 1 min; 2 jobs ended meanwhile: 1 errored, 1 passed"
        );
        assert_eq!(sum(&BTreeMap::new(), Duration::ZERO), "drained; no job had to be waited for");
    }
}
