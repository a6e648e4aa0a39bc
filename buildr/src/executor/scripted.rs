//! An executor without containers, steered by the script itself: for scenarios, and for measuring all but Docker.
//!
//! It keeps the contract of [`super`] and counts the places that are open. Each line of a script is a word and
//! what follows it:
//!
//! | line | does |
//! |---|---|
//! | `print TEXT` | prints the text and a newline |
//! | `bytes N` | prints N bytes, lines of 80 |
//! | `env NAME` | prints the variable's value and a newline |
//! | `exit N` | ends with this code |
//! | `sleep MS` | takes so many milliseconds of tokio's time |
//! | `hang` | goes on until it is stopped |
//! | `ignore-term` | from here on only a kill, or the end of the grace, ends it |
//! | `oom` | is ended for want of memory |
//! | `write PATH TEXT` | writes a file: in the workspace, or with a leading slash elsewhere in the container |
//! | `expect-file PATH` | ends with code 1 unless that file is there |
//! | `wait-file PATH` | goes on until that file is in the workspace |
//! | `unpullable` | its image cannot be had |
//! | `no-shell` | its image has no shell |
//! | `broken-daemon` | the daemon refuses to start it |
//!
//! Anything else is printed as a shell would complain, and ends it with code 127.

use std::collections::HashSet;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::StageEnd;
use protocol::plan::Image;
use tokio::time::sleep;

use super::silence::Silence;
use super::{
    Executor, ExecutorError, Output, PrepareOrder, Sandbox, SandboxOrder, Served, ServiceOrder, SocketGrant,
    StageOrder, Stop, Swept, millis,
};

/// How many bytes of output are sent at once, as much as a container's come in.
const CHUNK: usize = 32 << 10;

/// How long a script that ignores SIGTERM still runs after it.
const GRACE: Duration = Duration::from_millis(200);

/// How often a script looks for a file that it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Opens places in which scripts are interpreted.
#[derive(Debug, Clone, Default)]
pub struct ScriptedExecutor {
    open: Arc<AtomicUsize>,
}

impl ScriptedExecutor {
    /// One with no place open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many places have been opened and not been closed.
    #[must_use]
    pub fn open_sandboxes(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Executor for ScriptedExecutor {
    async fn open(&self, order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError> {
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(ScriptedSandbox { open: Arc::clone(&self.open), order, prepared: Mutex::default() }))
    }

    async fn sweep(&self) -> Result<Swept, ExecutorError> {
        Ok(Swept { containers: self.open.swap(0, Ordering::SeqCst), ..Swept::default() })
    }

    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        match tokio::fs::remove_dir_all(folder).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ExecutorError::Disk { doing: format!("remove {}", folder.display()), source })
            }
            _ => Ok(()),
        }
    }
}

struct ScriptedSandbox {
    open: Arc<AtomicUsize>,
    order: SandboxOrder,
    /// The files that `prepare` left outside the workspace; stages without an image of their own see them.
    prepared: Mutex<HashSet<PathBuf>>,
}

#[async_trait]
impl Sandbox for ScriptedSandbox {
    async fn prepare(&self, order: &PrepareOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        let mut script = self.script(&order.stage, Keeps::Nothing, output)?;
        let end = script.run_in_time(stop).await?;
        let mount = Path::new(&self.order.mount);
        let kept = script.files.into_iter().filter(|path| !path.starts_with(mount)).collect();
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(end)
    }

    async fn serve(
        &self,
        services: Vec<ServiceOrder>,
        _beside: Option<&Served>,
        _stop: &Stop,
    ) -> Result<Served, ExecutorError> {
        match services.first() {
            // The helper of this room gives it a meaning.
            Some(order) => Err(ExecutorError::NotReady {
                service: order.service.name.clone(),
                reason: "scripts have no services".to_owned(),
            }),
            None => Ok(Served(String::new())),
        }
    }

    async fn dismiss(&self, _served: Served) {}

    async fn digest(&self, _image: &Image) -> Option<String> {
        None
    }

    async fn run(&self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        self.script(stage, Keeps::Workspace, output)?.run_in_time(stop).await
    }

    async fn close(self: Box<Self>) -> Result<(), ExecutorError> {
        // A sweep may have closed it in between.
        let _ = self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| open.checked_sub(1));
        Ok(())
    }
}

/// Whether a script has ended, and how.
type Step = Result<Option<StageEnd>, ExecutorError>;

impl ScriptedSandbox {
    fn script<'a>(
        &'a self,
        stage: &'a StageOrder,
        keeps: Keeps,
        output: &'a Output,
    ) -> Result<Script<'a>, ExecutorError> {
        if stage.docker && self.order.docker_socket == SocketGrant::Never {
            let name = &stage.name;
            return Err(ExecutorError::Refused(format!("stage {name} asks for the Docker socket; see docker_socket")));
        }
        let files = if stage.image.is_none() {
            self.prepared.lock().unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            HashSet::new()
        };
        Ok(Script { order: &self.order, stage, keeps, output, files, deaf: false, silence: Arc::new(Silence::new()) })
    }
}

/// Where a script's files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// What is written to the workspace stays.
    Workspace,
    /// All is thrown away.
    Nothing,
}

/// A script on its way.
struct Script<'a> {
    order: &'a SandboxOrder,
    stage: &'a StageOrder,
    keeps: Keeps,
    output: &'a Output,
    /// The files of the container itself, by where it sees them.
    files: HashSet<PathBuf>,
    /// Whether it ignores SIGTERM.
    deaf: bool,
    silence: Arc<Silence>,
}

impl Script<'_> {
    async fn run_in_time(&mut self, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        let (timeout, idle) = (self.stage.timeout, self.stage.idle);
        let silence = Arc::clone(&self.silence);
        tokio::select! {
            biased;
            () = stop.killed() => Ok(StageEnd::Cancelled),
            end = self.run(stop) => end,
            () = sleep(timeout) => Ok(StageEnd::TimedOut { limit_ms: millis(timeout) }),
            () = silence.lasts(idle) => Ok(StageEnd::IdleTimedOut { limit_ms: millis(idle.unwrap_or_default()) }),
        }
    }

    async fn run(&mut self, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        for line in &self.stage.script {
            if line.trim() == "ignore-term" {
                self.deaf = true;
                continue;
            }
            let deaf = self.deaf;
            let stopped = async {
                stop.cancelled().await;
                if deaf {
                    sleep(GRACE).await;
                }
            };
            let ended = tokio::select! {
                biased;
                () = stopped => return Ok(StageEnd::Cancelled),
                ended = self.step(line) => ended?,
            };
            if let Some(end) = ended {
                return Ok(end);
            }
        }
        Ok(StageEnd::Exited { code: 0 })
    }

    async fn step(&mut self, line: &str) -> Step {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match word {
            "print" => self.print(format!("{rest}\n")).await,
            "bytes" => self.bytes(number(rest)).await,
            "env" => self.print(format!("{}\n", self.variable(rest))).await,
            "exit" => return Ok(Some(StageEnd::Exited { code: rest.trim().parse().unwrap_or(2) })),
            "sleep" => sleep(Duration::from_millis(number(rest))).await,
            "hang" => std::future::pending().await,
            "oom" => return Ok(Some(StageEnd::OutOfMemory { limit_bytes: 0 })),
            "write" => self.write(rest)?,
            "expect-file" if !self.holds(rest) => return self.fail(&format!("{rest}: no such file"), 1).await,
            "expect-file" => {}
            "wait-file" => {
                while !self.holds(rest) {
                    sleep(LOOK_EVERY).await;
                }
            }
            "unpullable" | "no-shell" | "broken-daemon" => return Err(self.error(word)),
            _ => return self.fail(&format!("{word}: not found"), 127).await,
        }
        Ok(None)
    }

    async fn print(&self, text: String) {
        // Nobody listening is no reason to stop.
        let _ = self.silence.broken_by(self.output.send(Bytes::from(text))).await;
    }

    async fn bytes(&self, mut left: u64) {
        let line = [&[b'.'; 79][..], b"\n"].concat();
        let chunk = Bytes::from(line.repeat(CHUNK / line.len()));
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            let _ = self.silence.broken_by(self.output.send(chunk.slice(..length))).await;
            left -= length as u64;
        }
    }

    async fn fail(&self, complaint: &str, code: i64) -> Step {
        self.print(format!("{complaint}\n")).await;
        Ok(Some(StageEnd::Exited { code }))
    }

    fn variable(&self, name: &str) -> &str {
        let last = self.stage.environment.iter().rev().find(|variable| variable.name == name);
        last.map_or("", |variable| variable.value.as_str())
    }

    fn write(&mut self, rest: &str) -> Result<(), ExecutorError> {
        let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let seen = self.seen(path);
        match self.on_disk(&seen).filter(|_| self.keeps == Keeps::Workspace) {
            None => {
                self.files.insert(seen);
                Ok(())
            }
            Some(path) => {
                let disk = |source| ExecutorError::Disk { doing: format!("write {}", path.display()), source };
                path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(disk)?;
                std::fs::write(&path, text).map_err(disk)
            }
        }
    }

    fn holds(&self, path: &str) -> bool {
        let seen = self.seen(path);
        self.files.contains(&seen) || self.on_disk(&seen).is_some_and(|path| path.exists())
    }

    /// A path as the container sees it. Nothing climbs out by `..`.
    fn seen(&self, path: &str) -> PathBuf {
        let path = Path::new(&self.order.mount).join(path.trim());
        path.components().filter(|part| matches!(part, Component::RootDir | Component::Normal(_))).collect()
    }

    /// Where the workspace holds it, when it is in there.
    fn on_disk(&self, seen: &Path) -> Option<PathBuf> {
        seen.strip_prefix(&self.order.mount).ok().map(|within| self.order.workspace.join(within))
    }

    fn error(&self, word: &str) -> ExecutorError {
        let image = self.stage.image.clone().unwrap_or_else(|| self.order.image.clone());
        match word {
            "unpullable" => ExecutorError::Pull { image: image.name, reason: "no registry has it".to_owned() },
            "no-shell" => ExecutorError::NoShell { image: image.name },
            _ => ExecutorError::Daemon {
                doing: format!("start the container of stage {}", self.stage.name),
                reason: "the script says so".to_owned(),
            },
        }
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}
