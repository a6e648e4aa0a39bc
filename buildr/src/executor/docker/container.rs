//! One container's life: made, attached to, started, told what to do, ended. Removing it is the caller's.

use std::sync::OnceLock;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::exec::StartExecOptions;
use bollard::models::{ContainerCreateBody, ContainerState, ExecConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, ContainerArchiveInfoOptionsBuilder, CreateContainerOptions,
    KillContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use protocol::StageEnd;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::silence::Silence;
use super::super::{ExecutorError, Output, Stop, millis};
use super::engine::{self, Engine};
use super::handoff;
use super::hint::Tail;

/// How long the daemon may take to tell of an end that must already have happened.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long SIGTERM may take to be delivered before SIGKILL is sent instead.
const DELIVERY: Duration = Duration::from_secs(5);

/// A container that was made and not yet started.
#[derive(Debug)]
pub(super) struct Container<'a> {
    engine: &'a Engine,
    pub(super) id: String,
    /// For sentences, such as "stage test".
    title: String,
    /// The image's name, for sentences.
    image: String,
}

/// What bounds a container's life.
#[derive(Debug)]
pub(super) struct Bounds {
    /// How long it may run.
    pub(super) timeout: Duration,
    /// How long it may print nothing.
    pub(super) idle: Option<Duration>,
    /// Ends it at once: its job has taken more of the disk than it may, and would take more while it is asked nicely.
    pub(super) too_large: CancellationToken,
    /// How long it has between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// How many bytes of memory it may use, 0 when nothing but the machine says so.
    pub(super) memory: u64,
}

impl<'a> Container<'a> {
    pub(super) async fn create(
        engine: &'a Engine,
        title: String,
        image: &str,
        body: ContainerCreateBody,
    ) -> Result<Self, ExecutorError> {
        let created = engine.quick.create_container(None::<CreateContainerOptions>, body).await;
        let id = created.map_err(|error| engine.failed(format!("make the container of {title}"), &error))?.id;
        Ok(Self { engine, id, title, image: image.to_owned() })
    }

    /// Whether a path is there as the container will see it.
    pub(super) async fn holds(&self, path: &str) -> Result<bool, ExecutorError> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        match self.engine.quick.get_container_archive_info(&self.id, Some(options)).await {
            Ok(_) => Ok(true),
            Err(error) if engine::is_absent(&error) => Ok(false),
            Err(error) => Err(self.failed(&format!("look for {path} in"), &error)),
        }
    }

    /// Starts it, tells it what to do, and stays until it has ended and all its output is passed on.
    pub(super) async fn run(
        &self,
        frame: Bytes,
        output: &Output,
        stop: &Stop,
        bounds: &Bounds,
    ) -> Result<StageEnd, ExecutorError> {
        let AttachContainerResults { output: printed, input } = self.attach().await?;
        self.start().await?;
        // Why it was made to end; empty when it ended by itself.
        let reason = OnceLock::new();
        let (mut tail, silence) = (Tail::default(), Silence::new());
        tokio::select! {
            drained = drain(printed, output, &mut tail, &silence) => {
                drained.map_err(|error| self.failed("read the output of", &error))?;
            }
            error = self.end_in_time(stop, bounds, &silence, &reason) => return Err(error),
            never = feed(input, frame) => match never {},
        }
        let end = self.ending(bounds.memory).await?;
        if let Some(reason) = reason.into_inner() {
            return Ok(reason);
        }
        if end == (StageEnd::Exited { code: 127 }) && !self.holds("/bin/sh").await? {
            return Err(ExecutorError::NoShell { image: self.image.clone() });
        }
        if let Some(hint) = tail.hint().filter(|_| !end.passed()) {
            let _ = output.send(Bytes::from_static(hint.as_bytes())).await;
        }
        Ok(end)
    }

    async fn attach(&self) -> Result<AttachContainerResults, ExecutorError> {
        let options =
            AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true).build();
        let attached = self.engine.long.attach_container(&self.id, Some(options)).await;
        attached.map_err(|error| self.failed("attach to", &error))
    }

    async fn start(&self) -> Result<(), ExecutorError> {
        let started = self.engine.quick.start_container(&self.id, None::<StartContainerOptions>).await;
        let Err(error) = started else { return Ok(()) };
        // Where there is no init before it, it is the start that fails when there is nothing to execute.
        let refused = matches!(engine::status(&error), Some(400 | 500));
        if refused && self.holds("/bin/sh").await.is_ok_and(|there| !there) {
            return Err(ExecutorError::NoShell { image: self.image.clone() });
        }
        Err(self.failed("start", &error))
    }

    async fn state(&self) -> Option<ContainerState> {
        self.engine.quick.inspect_container(&self.id, None).await.ok()?.state
    }

    /// Waits for a reason to end it and does so, politely first. Returns only when it would not end.
    async fn end_in_time(
        &self,
        stop: &Stop,
        bounds: &Bounds,
        silence: &Silence,
        reason: &OnceLock<StageEnd>,
    ) -> ExecutorError {
        let polite = tokio::select! {
            biased;
            () = stop.killed() => false,
            () = stop.cancelled() => true,
            () = bounds.too_large.cancelled() => false,
            () = sleep(bounds.timeout) => {
                let _ = reason.set(StageEnd::TimedOut { limit_ms: millis(bounds.timeout) });
                true
            }
            () = silence.lasts(bounds.idle) => {
                let limit_ms = millis(bounds.idle.unwrap_or_default());
                let _ = reason.set(StageEnd::IdleTimedOut { limit_ms });
                true
            }
        };
        let _ = reason.set(StageEnd::Cancelled);
        // When SIGTERM cannot be delivered there is nothing to wait for.
        if polite && matches!(timeout(DELIVERY, self.terminate()).await, Ok(Ok(()))) {
            tokio::select! {
                () = stop.killed() => {}
                () = bounds.too_large.cancelled() => {}
                () = sleep(bounds.grace) => {}
            }
        }
        // One that has ended while its output still waits for a slow reader is no failure.
        let reason = loop {
            let killed = self.kill().await;
            sleep(PATIENCE).await;
            if let Err(error) = killed {
                break engine::reason(&error);
            }
            if self.state().await.is_none_or(|state| state.running == Some(true)) {
                break format!("it still runs {} s after SIGKILL", PATIENCE.as_secs());
            }
        };
        ExecutorError::Daemon { doing: format!("end the container of {}", self.title), reason }
    }

    /// SIGTERM to every process of it.
    async fn terminate(&self) -> Result<(), bollard::errors::Error> {
        let words = ["/bin/sh", "-c", handoff::TERMINATE].map(str::to_owned).to_vec();
        // The image's user may have started what only root may signal.
        let config = ExecConfig { cmd: Some(words), user: Some("0".to_owned()), ..ExecConfig::default() };
        let exec = self.engine.quick.create_exec(&self.id, config).await?.id;
        let detached = StartExecOptions { detach: true, ..StartExecOptions::default() };
        self.engine.quick.start_exec(&exec, Some(detached)).await.map(drop)
    }

    /// SIGKILL; fine when it has already ended.
    async fn kill(&self) -> Result<(), bollard::errors::Error> {
        let options = KillContainerOptionsBuilder::default().signal("KILL").build();
        match self.engine.quick.kill_container(&self.id, Some(options)).await {
            Err(error) if !matches!(engine::status(&error), Some(404 | 409)) => Err(error),
            _ => Ok(()),
        }
    }

    /// How it ended, once its output has.
    async fn ending(&self, memory: u64) -> Result<StageEnd, ExecutorError> {
        let mut waiting = self.engine.long.wait_container(&self.id, None::<WaitContainerOptions>);
        let Ok(waited) = timeout(PATIENCE, waiting.next()).await else {
            let _ = self.kill().await;
            let reason = "its output ended, yet it went on; it has been killed".to_owned();
            return Err(ExecutorError::Daemon { doing: format!("follow the container of {}", self.title), reason });
        };
        if let Some(Ok(answer)) = waited
            && answer.status_code == 0
        {
            return Ok(StageEnd::Exited { code: 0 });
        }
        let found = self.engine.quick.inspect_container(&self.id, None).await;
        let state = found.map_err(|error| self.failed("look at the end of", &error))?.state.unwrap_or_default();
        if state.running == Some(true) {
            let reason = "it runs although its output has ended; the connection to it was lost".to_owned();
            return Err(ExecutorError::Daemon { doing: format!("follow the container of {}", self.title), reason });
        }
        let code = state.exit_code.unwrap_or_default();
        Ok(match state.oom_killed {
            Some(true) if code != 0 => StageEnd::OutOfMemory { limit_bytes: memory },
            _ => StageEnd::Exited { code },
        })
    }

    fn failed(&self, doing: &str, error: &bollard::errors::Error) -> ExecutorError {
        self.engine.failed(format!("{doing} the container of {}", self.title), error)
    }
}

/// Writes the frame, and holds the input open for as long as it is polled. A write that fails tells nothing that
/// the container's end does not tell better.
async fn feed(mut input: std::pin::Pin<Box<dyn AsyncWrite + Send>>, frame: Bytes) -> std::convert::Infallible {
    if input.write_all(&frame).await.is_ok() {
        let _ = input.flush().await;
    }
    std::future::pending().await
}

/// Passes on everything that is printed, until its end. When nobody listens any more it is read all the same, for
/// a container that is not read stands still.
async fn drain<S>(
    mut printed: S,
    output: &Output,
    tail: &mut Tail,
    silence: &Silence,
) -> Result<(), bollard::errors::Error>
where
    S: Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
{
    while let Some(chunk) = printed.next().await {
        let bytes = chunk?.into_bytes();
        tail.push(&bytes);
        let _ = silence.broken_by(output.send(bytes)).await;
    }
    Ok(())
}
