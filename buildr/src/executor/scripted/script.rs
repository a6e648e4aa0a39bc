//! One script on its way, line by line.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::StageEnd;
use tokio::time::sleep;

use super::super::silence::Silence;
use super::super::{AFTER_TIMEOUT, ExecutorError, Output, StageOrder, Stop, millis};
use super::ScriptedSandbox;

/// How many bytes of output are sent at once, as much as a container's come in.
const CHUNK: usize = 32 << 10;

/// How long a script that ignores SIGTERM still runs after it.
const GRACE: Duration = Duration::from_millis(200);

/// How often a script looks for what it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Whether a script has ended, and how.
type Step = Result<Option<StageEnd>, ExecutorError>;

/// Where a script's files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// What is written to the workspace stays.
    Workspace,
    /// All is thrown away.
    Nothing,
}

/// A script on its way.
pub(super) struct Script<'a> {
    place: &'a ScriptedSandbox,
    stage: &'a StageOrder,
    keeps: Keeps,
    output: &'a Output,
    /// The files of the container itself, by where it sees them.
    files: HashSet<PathBuf>,
    /// Whether it ignores SIGTERM.
    deaf: bool,
    silence: Arc<Silence>,
    /// How the script ended, for what runs after it.
    status: Option<&'static str>,
}

impl<'a> Script<'a> {
    pub(super) fn new(
        place: &'a ScriptedSandbox,
        stage: &'a StageOrder,
        keeps: Keeps,
        output: &'a Output,
        files: HashSet<PathBuf>,
    ) -> Self {
        Self { place, stage, keeps, output, files, deaf: false, silence: Arc::new(Silence::new()), status: None }
    }

    /// What it left outside the workspace.
    pub(super) fn into_files(self) -> HashSet<PathBuf> {
        self.files
    }

    pub(super) async fn run_in_time(&mut self, stop: &Stop) -> Result<StageEnd, ExecutorError> {
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

    /// `on_failure` and `after`, which change nothing.
    pub(super) async fn run_afterwards(&mut self, end: StageEnd, stop: &Stop) {
        let stage = self.stage;
        self.status = Some(match end {
            end if end.passed() => "passed",
            StageEnd::Cancelled => "cancelled",
            StageEnd::TimedOut { .. } | StageEnd::IdleTimedOut { .. } => "timed_out",
            _ => "failed",
        });
        let has_failed = matches!(self.status, Some("failed" | "timed_out"));
        let on_failure: &[String] = if has_failed { &stage.on_failure } else { &[] };
        let lines = async {
            for lines in [on_failure, &stage.after] {
                for line in lines {
                    if !matches!(self.step(line).await, Ok(None)) {
                        break;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.killed() => {}
            () = lines => {}
            () = sleep(AFTER_TIMEOUT) => {}
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
            "fail-until" if self.time() < number(rest) => return self.fail("not this time", 1).await,
            "fail-until" => {}
            "sleep" => sleep(Duration::from_millis(number(rest))).await,
            "hang" => std::future::pending().await,
            "oom" => return Ok(Some(StageEnd::OutOfMemory { limit_bytes: 0 })),
            "write" | "append" | "hand" => return self.write(word, rest).await,
            "read" => return self.read(rest).await,
            "expect-file" if !self.holds(rest) => return self.fail(&format!("{rest}: no such file"), 1).await,
            "expect-file" => {}
            "wait-file" => until(|| self.holds(rest)).await,
            "wait-stands" => {
                let stands = || self.place.lock().stands.as_ref().is_some_and(|name| name.as_str() == rest);
                until(stands).await;
            }
            "stood" => {
                let stood = self.place.lock().stood.get(&self.stage.name).map(ToString::to_string);
                self.print(format!("{}\n", stood.unwrap_or_else(|| "nothing".to_owned()))).await;
            }
            "wait-begun" => until(|| self.place.lock().begun.keys().any(|name| name.as_str() == rest)).await,
            "reach" => return self.reach(rest).await,
            // With a number, in the job's first attempts alone.
            "broken-daemon" | "registry-away" if number(self.variable("BUILDR_ATTEMPT")) > last(rest) => {}
            "unpullable" | "registry-away" | "no-shell" | "broken-daemon" => return Err(self.error(word)),
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

    async fn reach(&self, service: &str) -> Step {
        let found = self.place.lock().services.find(self.stage.network.as_ref(), service).cloned();
        match found {
            Some(network) => self.print(format!("{service} is in {}\n", network.0)).await,
            None => return self.fail(&format!("{service}: no such host"), 1).await,
        }
        Ok(None)
    }

    /// For the how manieth time the stage runs.
    fn time(&self) -> u64 {
        self.place.lock().begun.get(&self.stage.name).copied().unwrap_or_default().into()
    }

    fn variable(&self, name: &str) -> &str {
        match self.status {
            Some(status) if name == "BUILDR_STAGE_STATUS" => status,
            _ => {
                let last = self.stage.environment.iter().rev().find(|variable| variable.name == name);
                last.map_or("", |variable| variable.value.as_str())
            }
        }
    }

    async fn write(&mut self, word: &str, rest: &str) -> Step {
        let (path, text) = match word {
            "hand" => (self.variable("BUILDR_ENV").to_owned(), format!("{rest}\n")),
            _ => {
                let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
                (path.to_owned(), if word == "append" { format!("{text}\n") } else { text.to_owned() })
            }
        };
        let seen = self.seen(&path);
        match self.on_disk(&seen) {
            Some((_, true)) => return self.fail(&format!("{path}: read-only file system"), 1).await,
            Some((file, false)) if self.keeps == Keeps::Workspace => {
                put(&file, word != "write", &text)
                    .map_err(|source| ExecutorError::Disk { doing: format!("write {}", file.display()), source })?;
            }
            _ => {
                self.files.insert(seen);
            }
        }
        Ok(None)
    }

    async fn read(&self, path: &str) -> Step {
        let text = self.on_disk(&self.seen(path)).and_then(|(file, _)| std::fs::read_to_string(file).ok());
        match text {
            Some(text) if text.ends_with('\n') => self.print(text).await,
            Some(text) => self.print(format!("{text}\n")).await,
            None => return self.fail(&format!("{path}: no such file"), 1).await,
        }
        Ok(None)
    }

    fn holds(&self, path: &str) -> bool {
        let seen = self.seen(path);
        self.files.contains(&seen) || self.on_disk(&seen).is_some_and(|(path, _)| path.exists())
    }

    /// A path as the container sees it. Nothing climbs out by `..`.
    fn seen(&self, path: &str) -> PathBuf {
        let begins = Path::new(&self.place.order.mount).join(self.stage.dir.as_deref().unwrap_or(""));
        let path = begins.join(path.trim());
        path.components().filter(|part| matches!(part, Component::RootDir | Component::Normal(_))).collect()
    }

    /// Where this machine holds it, when it does, and whether it can only be read.
    fn on_disk(&self, seen: &Path) -> Option<(PathBuf, bool)> {
        let below = |target: &str, source: &Path| {
            let within = seen.strip_prefix(target).ok()?;
            // A file that is mounted has nothing below it.
            Some(if within.as_os_str().is_empty() { source.to_owned() } else { source.join(within) })
        };
        let order = &self.place.order;
        let mounts = self.stage.mounts.iter();
        let mounted = mounts.filter_map(|mount| {
            below(&mount.target, &mount.source).map(|file| (mount.target.len(), file, mount.read_only))
        });
        match mounted.max_by_key(|(length, ..)| *length) {
            Some((_, file, read_only)) => Some((file, read_only)),
            None => {
                let workspace = self.stage.folder.as_ref().unwrap_or(&order.workspace);
                below(&order.mount, workspace).map(|file| (file, false))
            }
        }
    }

    fn error(&self, word: &str) -> ExecutorError {
        let image = self.stage.image.clone().unwrap_or_else(|| self.place.order.image.clone());
        match word {
            "unpullable" => {
                ExecutorError::Pull { image: image.name, reason: "no registry has it".to_owned(), passes: false }
            }
            "registry-away" => ExecutorError::Pull {
                image: image.name,
                reason: "the registry does not answer".to_owned(),
                passes: true,
            },
            "no-shell" => ExecutorError::NoShell { image: image.name },
            _ => ExecutorError::Daemon {
                doing: format!("start the container of stage {}", self.stage.name),
                reason: "the script says so".to_owned(),
            },
        }
    }
}

async fn until(mut there: impl FnMut() -> bool) {
    while !there() {
        sleep(LOOK_EVERY).await;
    }
}

fn put(file: &Path, append: bool, text: &str) -> io::Result<()> {
    file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let mut opened = OpenOptions::new().create(true).write(true).append(append).truncate(!append).open(file)?;
    opened.write_all(text.as_bytes())
}

/// The last attempt in which something fails.
fn last(text: &str) -> u64 {
    text.trim().parse().unwrap_or(u64::MAX)
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}
