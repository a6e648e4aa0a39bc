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
//! | `fail-until N` | ends with code 1 unless the stage runs for the Nth time in its place |
//! | `sleep MS` | takes so many milliseconds of tokio's time |
//! | `hang` | goes on until it is stopped |
//! | `ignore-term` | from here on only a kill, or the end of the grace, ends it |
//! | `oom` | is ended for want of memory |
//! | `write PATH TEXT` | writes a file: in the workspace, or with a leading slash elsewhere in the container |
//! | `append PATH TEXT` | the same, at the end of a file, with a newline |
//! | `hand NAME=VALUE` | appends this to the file that `$BUILDR_ENV` names |
//! | `read PATH` | prints what is in a file, and ends with code 1 when there is none |
//! | `expect-file PATH` | ends with code 1 unless that file is there |
//! | `wait-file PATH` | goes on until that file is in the workspace |
//! | `wait-begun STAGE` | goes on until that stage has begun in the same place |
//! | `stood` | prints for which stage a container stood ready that this one took when it began, or `nothing` |
//! | `wait-stands STAGE` | goes on until a container stands ready for that stage |
//! | `reach NAME` | prints where the service of this name is, and ends with code 1 when there is none |
//! | `unpullable` | its image cannot be had |
//! | `no-shell` | its image has no shell |
//! | `registry-away [N]` | the registry of its image does not answer, in the job's first N attempts or always |
//! | `broken-daemon [N]` | the daemon refuses to start it, in the job's first N attempts or always |
//!
//! Anything else is printed as a shell would complain, and ends it with code 127. In `on_failure` and `after` a
//! script also has `BUILDR_STAGE_STATUS`. The command of a service is a script too: it is ready when that comes to the line `ready` or
//! to its end, what stands after `ready` is done when it is dismissed, and with the line `never-ready` it is not.

mod script;
mod services;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use protocol::plan::Image;
use protocol::{StageEnd, StageName};
use sha2::{Digest as _, Sha256};

use super::{
    Executor, ExecutorError, Output, PrepareOrder, Prepared, Sandbox, SandboxOrder, Served, ServiceOrder, SocketGrant,
    StageOrder, StandbyOrder, Stop, Suits, Swept,
};
use script::{Keeps, Script};
use services::Services;

/// Opens places in which scripts are interpreted.
///
/// Its own platform is [`OWN_PLATFORM`]; others it runs only when it was made to emulate.
#[derive(Debug, Clone, Default)]
pub struct ScriptedExecutor {
    open: Arc<AtomicUsize>,
    emulates: bool,
    /// The workspaces for which something would stand ready.
    standing: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// The platform of places in which scripts are interpreted.
pub const OWN_PLATFORM: &str = "linux/amd64";

impl ScriptedExecutor {
    /// One with no place open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One with no place open, which runs what is for other platforms too.
    #[must_use]
    pub fn emulating() -> Self {
        Self { emulates: true, ..Self::default() }
    }

    /// How many places have been opened and not been closed.
    #[must_use]
    pub fn open_sandboxes(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// For how many workspaces something would stand ready.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.workspaces().len()
    }

    fn workspaces(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // Each change is one step.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Executor for ScriptedExecutor {
    async fn open(&self, order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError> {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.workspaces().remove(&order.workspace);
        Ok(Box::new(ScriptedSandbox { open: Arc::clone(&self.open), order, state: Mutex::default() }))
    }

    /// Nothing takes long here, so nothing stands ready: that it would is all that is kept.
    async fn stand_by(&self, order: StandbyOrder) -> Result<(), ExecutorError> {
        self.workspaces().insert(order.place.workspace);
        Ok(())
    }

    async fn stand_down(&self, workspace: &Path) -> Result<(), ExecutorError> {
        self.workspaces().remove(workspace);
        Ok(())
    }

    async fn sweep(&self) -> Result<Swept, ExecutorError> {
        let stood = std::mem::take(&mut *self.workspaces()).len();
        Ok(Swept { containers: stood + self.open.swap(0, Ordering::SeqCst), ..Swept::default() })
    }

    async fn suits(&self, image: &Image, output: &Output, _stop: &Stop) -> Result<Suits, ExecutorError> {
        let Some(platform) = image.platform.as_deref().filter(|platform| *platform != OWN_PLATFORM) else {
            return Ok(Suits::Own);
        };
        let line = format!("looking whether {platform} runs here\n");
        let _ = output.send(Bytes::from(line)).await;
        if self.emulates {
            return Ok(Suits::Foreign);
        }
        Ok(Suits::Not(format!("scripts are interpreted on {OWN_PLATFORM} alone, and not on {platform}")))
    }

    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        let doing = || format!("remove {}", folder.display());
        crate::folder::remove(folder).map_err(|source| ExecutorError::Disk { doing: doing(), source })
    }
}

struct ScriptedSandbox {
    open: Arc<AtomicUsize>,
    order: SandboxOrder,
    state: Mutex<State>,
}

/// What a place remembers between its scripts.
#[derive(Default)]
struct State {
    /// The files that `prepare` left outside the workspace; stages without an image of their own see them.
    prepared: HashSet<PathBuf>,
    /// How often each stage has begun.
    begun: HashMap<StageName, u32>,
    /// For which stage a container stands ready.
    stands: Option<StageName>,
    /// For which one stood ready when a stage began.
    stood: HashMap<StageName, StageName>,
    /// The images that were used.
    used: BTreeSet<String>,
    services: Services,
}

#[async_trait]
impl Sandbox for ScriptedSandbox {
    async fn prepare(&self, order: &PrepareOrder, output: &Output, stop: &Stop) -> Result<Prepared, ExecutorError> {
        let mut script = self.script(&order.stage, Keeps::Nothing, output)?;
        let end = script.run_in_time(stop).await?;
        let mount = Path::new(&self.order.mount);
        let kept = script.into_files().into_iter().filter(|path| !path.starts_with(mount)).collect();
        self.lock().prepared = kept;
        Ok(Prepared::Ran(end))
    }

    async fn serve(
        &self,
        services: Vec<ServiceOrder>,
        beside: Option<&Served>,
        stop: &Stop,
    ) -> Result<Served, ExecutorError> {
        let mut ready = Vec::new();
        for order in services {
            match services::start(order, stop).await {
                Ok(service) => ready.push(service),
                Err(error) => {
                    services::end(ready).await;
                    return Err(error);
                }
            }
        }
        Ok(self.lock().services.serve(ready, beside))
    }

    async fn dismiss(&self, served: Served) {
        let ready = self.lock().services.dismiss(&served);
        services::end(ready).await;
    }

    async fn digest(&self, image: &Image) -> Option<String> {
        let used = self.lock().used.contains(&image.name);
        used.then(|| format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(&image.name))))
    }

    async fn run(&self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        let mut script = self.script(stage, Keeps::Workspace, output)?;
        {
            let mut state = self.lock();
            *state.begun.entry(stage.name.clone()).or_default() += 1;
            // As a container is told nothing of its stage when it is made, it is for whoever comes.
            if let Some(stood) = state.stands.take() {
                state.stood.insert(stage.name.clone(), stood);
            }
        }
        let end = script.run_in_time(stop).await?;
        script.run_afterwards(end, stop).await;
        Ok(end)
    }

    /// Its script is read when it runs: that something would stand ready is all that is kept.
    fn stand_by(&self, stage: &StageOrder) {
        self.lock().stands = Some(stage.name.clone());
    }

    async fn close(self: Box<Self>) -> Result<(), ExecutorError> {
        // A sweep may have closed it in between.
        let _ = self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| open.checked_sub(1));
        Ok(())
    }
}

impl ScriptedSandbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script<'a>(
        &'a self,
        stage: &'a StageOrder,
        keeps: Keeps,
        output: &'a Output,
    ) -> Result<Script<'a>, ExecutorError> {
        let name = &stage.name;
        if stage.docker && self.order.docker_socket == SocketGrant::Never {
            return Err(ExecutorError::Refused(format!("stage {name} asks for the Docker socket; see docker_socket")));
        }
        if stage.privileged && !self.order.privileged {
            return Err(ExecutorError::Refused(format!("stage {name} asks for a privileged container")));
        }
        let image = stage.image.as_ref().unwrap_or(&self.order.image);
        let mut state = self.lock();
        state.used.insert(image.name.clone());
        let files = if stage.image.is_none() { state.prepared.clone() } else { HashSet::new() };
        Ok(Script::new(self, stage, keeps, output, files))
    }
}
