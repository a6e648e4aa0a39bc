//! Jobs from their first line to their end, without containers: what a runner tells of them.

use std::net::TcpListener;
use std::sync::{LazyLock, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use protocol::plan::Image;
use protocol::{JobId, LogName};
use tempfile::TempDir;

use super::*;
use crate::executor::scripted::ScriptedExecutor;
use crate::executor::{ExecutorError, Output, Sandbox, SandboxOrder, StandbyOrder, Suits, Swept};
use crate::git::{Checkouts, ClonePolicy};
use crate::sink::SinkError;

mod course;
mod given;
mod keeping;
mod killed;
mod overlay;
mod side_by_side;
mod walk;

/// Keeps what is told, and cancels the job for a reason when its first stage begins, if it has one.
struct Told<'a> {
    logs: Mutex<String>,
    events: Mutex<Vec<JobEvent>>,
    stop: &'a Stop,
    cancel_because: Option<&'static str>,
}

#[async_trait]
impl EventSink for Told<'_> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        if let (JobEvent::StageStarted { .. }, Some(reason)) = (&event, self.cancel_because) {
            self.stop.cancel_because(reason);
        }
        self.events.lock().unwrap().push(event);
        Ok(())
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        self.emit(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        // As one that writes to a disk: others come to want their turn meanwhile.
        tokio::task::yield_now().await;
        let mut logs = self.logs.lock().unwrap();
        for line in String::from_utf8_lossy(&bytes).lines() {
            logs.push_str(&format!("{log}: {line}\n"));
        }
        Ok(())
    }
}

type Removes = dyn Fn(&Path) -> std::io::Result<()> + Send + Sync;

/// An executor that runs nothing: its containers would see what it says, and it removes as it is told.
struct Inert {
    sees: Option<bool>,
    remove: Box<Removes>,
}

#[async_trait]
impl Executor for Inert {
    async fn open(&self, _order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError> {
        Err(ExecutorError::Refused("nothing is run here".to_owned()))
    }

    async fn stand_by(&self, _order: StandbyOrder) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn stand_down(&self, _workspace: &Path) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn suits(&self, _image: &Image, _output: &Output, _stop: &Stop) -> Result<Suits, ExecutorError> {
        Ok(Suits::Own)
    }

    async fn sweep(&self) -> Result<Swept, ExecutorError> {
        Ok(Swept::default())
    }

    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        (self.remove)(folder).map_err(|source| ExecutorError::Disk { doing: "remove it".to_owned(), source })
    }

    async fn sees(&self, folder: &Path) -> Option<bool> {
        assert!(folder.is_dir(), "it is there while somebody is asked");
        self.sees
    }
}

/// One job, and where it is run.
struct Ground {
    folder: TempDir,
    order: WorkOrder,
    secrets: Vec<Variable>,
    times: TimeLimits,
    cancel_because: Option<&'static str>,
    stop: Stop,
}

impl Ground {
    /// A job with one stage of this script.
    fn of(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join(".buildr.yml"), format!("image: any\nonly:\n  script: {script}\n")).unwrap();
        let order = WorkOrder {
            trusted: true,
            ..WorkOrder::new(JobId::fresh(), TriggerKind::Injected, "/nowhere".parse().unwrap())
        };
        let (secrets, times) = (Vec::new(), TimeLimits::default());
        Self { folder, order, secrets, times, cancel_because: None, stop: Stop::new() }
    }

    /// Runs it. Gives its ending, and its logs with their names before each line.
    async fn run(&self, source: Option<Source<'_>>) -> (Ending, String) {
        let (ending, logs, _) = self.run_whole(source).await;
        (ending, logs)
    }

    /// The same, with all events.
    async fn run_whole(&self, source: Option<Source<'_>>) -> (Ending, String, Vec<JobEvent>) {
        let tree = self.folder.path().join("tree");
        let (executor, stop) = (ScriptedExecutor::new(), self.stop.clone());
        let work = WorkFolder::at(&self.folder.path().join("work")).unwrap();
        let archives = self.folder.path().join("archives");
        let caches = CacheStore::at(self.folder.path().join("caches"), 1 << 30);
        let rooms = Rooms {
            secrets: &self.secrets,
            times: self.times,
            archives: Some(&archives),
            caches: Some(&caches),
            ..rooms(source.unwrap_or(Source::Tree(&tree)), &executor, &work)
        };
        let told =
            Told { logs: Mutex::default(), events: Mutex::default(), stop: &stop, cancel_because: self.cancel_because };
        let Ended { ending, rest } = run(&self.order, &rooms, &told, &stop).await;
        rest.clear(&executor).await;
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "the workspace is gone");
        assert_eq!(executor.open_sandboxes(), 0, "the sandbox is closed");
        (ending, told.logs.into_inner().unwrap(), told.events.into_inner().unwrap())
    }
}

/// Rooms with nothing in them but where code comes from, where it runs, and where it lies.
fn rooms<'a>(source: Source<'a>, executor: &'a ScriptedExecutor, work: &'a WorkFolder) -> Rooms<'a> {
    static NO_SOCKET: LazyLock<SocketPolicy> = LazyLock::new(SocketPolicy::default);
    Rooms {
        includes: None,
        source,
        executor,
        work,
        socket: &NO_SOCKET,
        own_environment: &[],
        more_environment: &[],
        secrets: &[],
        times: TimeLimits::default(),
        agent: "oak",
        stage_parallelism: 2,
        archives: None,
        reports: None,
        caches: None,
        keep: crate::executor::KeepContainers::Nothing,
        visitor: None,
        ready: Mutex::default(),
    }
}

#[tokio::test]
async fn a_cancelled_job_says_why_in_its_log() {
    let ground = Ground { cancel_because: Some("a newer commit is built"), ..Ground::of("hang") };
    let (ending, logs) = ground.run(None).await;
    assert_eq!(ending.outcome, Outcome::Cancelled);
    let told = logs.lines().any(|line| line.starts_with("0-job: ") && line.contains("a newer commit is built"));
    assert!(told, "{logs}");
}

#[tokio::test]
async fn secrets_are_given_to_trusted_jobs_alone_and_masked_in_all() {
    for (trusted, given) in [(true, "***"), (false, "")] {
        let mut ground = Ground::of("[\"env TOKEN\", \"print it is s3cret-value\"]");
        ground.order.trusted = trusted;
        ground.secrets = vec![Variable::new("TOKEN", "s3cret-value")];
        let (ending, logs) = ground.run(None).await;
        assert_eq!(ending.outcome, Outcome::Passed, "{logs}");
        assert!(logs.contains("it is ***") && !logs.contains("s3cret"), "{logs}");
        let first = logs.lines().find_map(|line| line.strip_prefix("only: ")).unwrap();
        assert_eq!(first, given, "{logs}");
    }
}

#[tokio::test]
async fn a_silent_stage_ends_when_its_time_is_over() {
    let mut ground = Ground::of("hang");
    ground.times.idle = Some(Duration::from_millis(50));
    let (ending, logs) = ground.run(None).await;
    assert_eq!(ending.outcome, Outcome::Failed, "{logs}");
    assert!(ending.message.unwrap().contains("printed nothing"), "{logs}");
}

#[tokio::test]
async fn a_clone_ends_when_its_time_is_over() {
    // Takes connections, and says nothing on them.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ground = Ground::of("print never");
    ground.order.repo = format!("git://{}/x", server.local_addr().unwrap()).parse().unwrap();
    ground.times.clone = Duration::from_secs(1);
    let policy = ClonePolicy { home: None, ..ClonePolicy::default() };
    let checkouts = Checkouts::new(ground.folder.path().join("cache"), policy);
    let (ending, logs) = ground.run(Some(Source::Clone(&checkouts))).await;
    assert_eq!(ending.outcome, Outcome::Errored { cause: Cause::Clone }, "{logs}");
    assert!(ending.message.unwrap().contains("longer than 1 s"), "{logs}");
    assert!(logs.contains("--clone-timeout"), "{logs}");
}
