//! One container's life: made, attached to, started, told what to do. `ending` ends it; removing it is the caller's.

use std::collections::HashMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ContainerState, ExecConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder,
    EventsOptionsBuilder, KillContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use protocol::StageEnd;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::silence::Silence;
use super::super::{ExecutorError, Output, Stop};
use super::ending::Ending;
use super::engine::{self, Engine};
use super::handoff::Frame;
use super::hint::Tail;
use super::marks::{Marks, Phase, Piece};

/// How long the daemon may take to tell of an end that must already have happened.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What a process ends with more than that was ended by a signal, as a shell tells it.
const SIGNALLED: i64 = 128;

/// What a process that was sent SIGKILL ends with.
const KILLED: i64 = SIGNALLED + 9;

/// What a container ends with whose wrapper could tell nothing: its frame did not come whole, or there is no shell.
const WITHOUT_A_WORD: [i64; 3] = [125, 126, 127];

/// How long after such an end the daemon's word about it is waited for, such as that it was for want of memory.
const LATE_WORD: Duration = Duration::from_secs(1);

/// What is said to a container and what it says.
pub(super) use bollard::container::AttachContainerResults as Line;

/// A container that was made and not yet started.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) engine: Engine,
    pub(super) id: String,
    /// For sentences, such as "stage test".
    pub(super) title: String,
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
    /// How long what follows its script may take, each part.
    pub(super) after: Duration,
    /// How many bytes of memory it may use, 0 when nothing but the machine says so.
    pub(super) memory: u64,
}

impl Container {
    /// Makes one, of this platform where one is named.
    pub(super) async fn create(
        engine: &Engine,
        title: String,
        image: &str,
        platform: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<Self, ExecutorError> {
        let options = platform.map(|platform| CreateContainerOptionsBuilder::default().platform(platform).build());
        let created = engine.quick.create_container(options, body).await;
        let id = created.map_err(|error| engine.failed(format!("make the container of {title}"), &error))?.id;
        Ok(Self { engine: engine.clone(), id, title, image: image.to_owned() })
    }

    /// Whether a path is there as the container will see it; nothing where the daemon does not look, for whatever reason.
    pub(super) async fn holds(&self, path: &str) -> Result<Option<bool>, ExecutorError> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        match self.engine.quick.get_container_archive_info(&self.id, Some(options)).await {
            Ok(_) => Ok(Some(true)),
            Err(error) if engine::is_absent(&error) => Ok(Some(false)),
            Err(error) if engine::status(&error).is_some() => Ok(None),
            Err(error) => Err(self.failed(&format!("look for {path} in"), &error)),
        }
    }

    /// Begins to listen to it and starts it: from then on it waits for what it is told.
    pub(super) async fn begin(&self) -> Result<Line, ExecutorError> {
        let line = self.attach(true).await?;
        self.start().await?;
        Ok(line)
    }

    /// Tells it, which has begun, what to do, and stays until it has ended, or nothing in it can do anything any more, and
    /// all its output is passed on.
    pub(super) async fn run(
        &self,
        line: Line,
        frame: Frame,
        output: &Output,
        stop: &Stop,
        bounds: &Bounds,
    ) -> Result<StageEnd, ExecutorError> {
        let Line { output: printed, input } = line;
        let (mut tail, silence) = (Tail::default(), Silence::new());
        let (phase, seen) = watch::channel(Phase::default());
        let (tidies, marks) = (frame.tidies, Marks::of(&frame.mark));
        let ending = Ending { container: self, stop, bounds, silence: &silence, tidies, output, phase: seen };
        let mut reason = None;
        let is_whole = tokio::select! {
            drained = drain(printed, output, &mut tail, &silence, marks, &phase) => {
                let is_whole = drained.map_err(|error| self.failed("read the output of", &error))?;
                if *phase.borrow() == Phase::Alone {
                    return Ok(reason.unwrap_or(StageEnd::Exited { code: 0 }));
                }
                is_whole
            }
            error = ending.in_time(&mut reason) => return Err(error),
            never = feed(input, frame.bytes) => match never {},
        };
        let ended = self.ended(bounds.memory).await?;
        if let Some(reason) = reason {
            return Ok(reason);
        }
        if !is_whole && !self.died_unheard(&ended).await {
            return Err(ExecutorError::Daemon {
                doing: format!("follow the container of {}", self.title),
                reason: "the connection to it was lost, so how it ended and all that it printed is not known; was the Docker daemon started anew?".to_owned(),
            });
        }
        // What follows the script may have been ended; the script has ended by itself.
        let end = match (ended, phase.borrow().code()) {
            (StageEnd::Exited { .. }, Some(code)) => StageEnd::Exited { code },
            (other, _) => other,
        };
        let end = match end {
            StageEnd::Exited { code: KILLED } if self.wanted_memory_late().await => {
                StageEnd::OutOfMemory { limit_bytes: bounds.memory }
            }
            end => end,
        };
        if end == (StageEnd::Exited { code: 127 }) && self.holds("/bin/sh").await? == Some(false) {
            return Err(ExecutorError::NoShell { image: self.image.clone() });
        }
        if let Some(hint) = tail.hint().filter(|_| !end.passed()) {
            let _ = output.send(Bytes::from_static(hint.as_bytes())).await;
        }
        Ok(end)
    }

    /// Begins to listen to it; to a service nobody speaks.
    pub(super) async fn attach(&self, speaks: bool) -> Result<Line, ExecutorError> {
        let options = AttachContainerOptionsBuilder::default().stream(true).stdin(speaks).stdout(true).stderr(true);
        let attached = self.engine.long.attach_container(&self.id, Some(options.build())).await;
        attached.map_err(|error| self.failed("attach to", &error))
    }

    pub(super) async fn start(&self) -> Result<(), ExecutorError> {
        let started = self.engine.quick.start_container(&self.id, None::<StartContainerOptions>).await;
        let Err(error) = started else { return Ok(()) };
        // Where there is no init before it, it is the start that fails when there is nothing to execute.
        let refused = matches!(engine::status(&error), Some(400 | 500));
        if refused && self.holds("/bin/sh").await.is_ok_and(|there| there == Some(false)) {
            return Err(ExecutorError::NoShell { image: self.image.clone() });
        }
        Err(self.failed("start", &error))
    }

    pub(super) async fn state(&self) -> Option<ContainerState> {
        self.engine.quick.inspect_container(&self.id, None).await.ok()?.state
    }

    /// Has a shell of it run this as root, and waits until it has.
    pub(super) async fn exec(&self, script: &str) -> Result<(), bollard::errors::Error> {
        // The image's user may have started what only root may signal.
        let cmd = Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        let attach_stdout = Some(true);
        let config = ExecConfig { cmd, user: Some("0".to_owned()), attach_stdout, ..ExecConfig::default() };
        let exec = self.engine.quick.create_exec(&self.id, config).await?.id;
        let started = self.engine.quick.start_exec(&exec, None::<StartExecOptions>).await?;
        if let StartExecResults::Attached { mut output, .. } = started {
            while output.next().await.is_some() {}
        }
        Ok(())
    }

    /// SIGKILL; fine when it has already ended.
    pub(super) async fn kill(&self) -> Result<(), bollard::errors::Error> {
        let options = KillContainerOptionsBuilder::default().signal("KILL").build();
        match self.engine.quick.kill_container(&self.id, Some(options)).await {
            Err(error) if !matches!(engine::status(&error), Some(404 | 409)) => Err(error),
            _ => Ok(()),
        }
    }

    /// How it ended, once its output has.
    async fn ended(&self, memory: u64) -> Result<StageEnd, ExecutorError> {
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

    /// Whether a container that ended without a word of its wrapper's ended so by itself: before that was told anything, for
    /// want of a shell or of memory, or by a signal that nobody can answer. A daemon that was started anew meanwhile tells
    /// the same of one that it ended, or lost; it remembers no death of it.
    async fn died_unheard(&self, ended: &StageEnd) -> bool {
        match ended {
            StageEnd::Exited { code } if *code > SIGNALLED => self.is_remembered("die").await,
            StageEnd::Exited { code } => WITHOUT_A_WORD.contains(code),
            _ => true,
        }
    }

    /// Whether the daemon heard after the end that memory was what it ended for: the two come to it by different ways, and
    /// what it heard second stands among its events alone.
    async fn wanted_memory_late(&self) -> bool {
        self.is_remembered("oom").await
    }

    /// Whether the daemon, since it was started, has heard this of it, or does in a moment.
    async fn is_remembered(&self, event: &str) -> bool {
        let filters = HashMap::from([("container", vec![self.id.as_str()]), ("event", vec![event])]);
        // All that it remembers of this container.
        let order = EventsOptionsBuilder::default().since("0").filters(&filters).build();
        let mut events = self.engine.long.events(Some(order));
        // Where nothing comes, and where it cannot be asked, what is known is the code.
        matches!(timeout(LATE_WORD, events.next()).await, Ok(Some(Ok(_))))
    }

    pub(super) fn failed(&self, doing: &str, error: &bollard::errors::Error) -> ExecutorError {
        self.engine.failed(format!("{doing} the container of {}", self.title), error)
    }
}

/// Whether what is at the other end of a line still waits for what it is told. Whatever has ended, for its own reasons or
/// with its daemon, is of no use to anybody.
pub(super) fn waits(line: &mut Line) -> bool {
    line.output.next().now_or_never().is_none()
}

/// Writes the frame, and holds the input open for as long as it is polled. A write that fails tells nothing that
/// the container's end does not tell better.
async fn feed(mut input: std::pin::Pin<Box<dyn AsyncWrite + Send>>, frame: Bytes) -> std::convert::Infallible {
    if input.write_all(&frame).await.is_ok() {
        let _ = input.flush().await;
    }
    std::future::pending().await
}

/// Passes on everything that is printed, until its end or until nobody is left to print, and tells the phases. When
/// nobody listens any more it is read all the same, for a container that is not read stands still. Gives whether it is
/// whole: whether the wrapper's last word was there.
async fn drain<S>(
    mut printed: S,
    output: &Output,
    tail: &mut Tail,
    silence: &Silence,
    mut marks: Marks,
    phase: &watch::Sender<Phase>,
) -> Result<bool, bollard::errors::Error>
where
    S: Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
{
    let (mut ends_line, mut is_whole) = (true, false);
    while let Some(chunk) = printed.next().await {
        for piece in marks.push(chunk?.into_bytes()) {
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Phase(reached) => {
                    phase.send_replace(reached);
                    if reached == Phase::Alone {
                        return Ok(true);
                    }
                    heading(reached, ends_line)
                }
                Piece::Left => {
                    is_whole = true;
                    continue;
                }
            };
            if bytes.is_empty() {
                continue;
            }
            ends_line = bytes.ends_with(b"\n");
            // A hint is for what the script says.
            if *phase.borrow() == Phase::Script {
                tail.push(&bytes);
            }
            let _ = silence.broken_by(output.send(bytes)).await;
        }
    }
    if let Some(rest) = marks.rest() {
        let _ = output.send(rest).await;
    }
    Ok(is_whole)
}

/// What stands over what is printed from here on.
fn heading(phase: Phase, ends_line: bool) -> Bytes {
    let name = match phase {
        Phase::Script | Phase::Over(_) | Phase::Alone => return Bytes::new(),
        Phase::OnFailure(_) => "on_failure",
        Phase::After(_) => "after",
    };
    Bytes::from(format!("{}buildr: {name}\n", if ends_line { "" } else { "\n" }))
}
