//! A job's place on Docker: one fresh container per stage, an image when the job prepares one, and its services.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use protocol::{StageEnd, task};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::{
    ExecutorError, Output, PrepareOrder, Prepared, Sandbox, SandboxOrder, Served, ServiceOrder, SocketGrant,
    StageOrder, StandbyOrder, Stop,
};
use super::ahead::Maker;
use super::disk::Usage;
use super::home;
use super::image::Image;
use super::images::Images;
use super::joint::Joint;
use super::labels::Labels;
use super::machine::{Live, Machine, Reserved};
use super::notice;
use super::removal;
use super::services::Services;
use super::settings::DockerSettings;
use super::standing::{Ahead, Standing};
use super::workspace;

/// A place for one job. Several of its stages may run at once.
pub(super) struct DockerSandbox {
    pub(super) machine: Arc<Machine>,
    pub(super) order: SandboxOrder,
    pub(super) labels: Labels,
    pub(super) images: Arc<Images>,
    /// A container that stands ready for a stage to come.
    pub(super) ahead: Mutex<Option<Ahead>>,
    /// What stages without an image of their own start from, once `prepare` has made it.
    pub(super) prepared: Mutex<Option<Base>>,
    /// By folder: the user whose containers may write to it as it now is.
    opened: Mutex<HashMap<PathBuf, String>>,
    /// Whether an image was made for this place alone, or may have been.
    pub(super) commits: AtomicBool,
    /// The network namespace of its stages.
    pub(super) joint: Arc<Joint>,
    /// Containers that are being removed while the job goes on.
    removals: Mutex<Vec<JoinHandle<()>>>,
    /// Copies of the workspace, removed when the place is closed.
    pub(super) copies: Mutex<Vec<PathBuf>>,
    pub(super) usage: Usage,
    pub(super) services: Services,
    /// Whether what the daemon cannot do was said.
    noted: AtomicBool,
    live: Live,
}

impl DockerSandbox {
    /// A place for this job; the one that was kept for its workspace, if any.
    pub(super) fn open(machine: Arc<Machine>, order: SandboxOrder) -> Self {
        let reserved = machine.reserved(&order.workspace).unwrap_or_else(|| reserve(&machine, order.clone()));
        Self::of(machine, Reserved { order, ..reserved })
    }

    /// Keeps a place for a job that is not known yet, with a container that stands ready for this stage of it. Gives the
    /// place that was kept before, if any. Where nobody knows yet whether the daemon sees the place, that is found out
    /// first: nobody writes there meanwhile.
    pub(super) async fn keep_ready(machine: Arc<Machine>, standby: StandbyOrder) -> Option<Self> {
        let StandbyOrder { place, stage, prepared } = standby;
        let looks_first = machine.is_shared(&place.workspace).is_none();
        let place = Self::of(Arc::clone(&machine), reserve(&machine, place));
        let looks = place.make_ready(&stage, true, prepared);
        if let Some(looks) = looks.filter(|_| looks_first) {
            // It is never told: it is over when nobody could any more.
            let _ = looks.await;
        }
        let Self { order, labels, live, ahead, joint, .. } = place;
        let ahead = ahead.into_inner().unwrap_or_else(PoisonError::into_inner);
        let before = machine.reserve(Reserved { order, labels, live, ahead, joint });
        before.map(|before| Self::of(machine, before))
    }

    /// A place as it was kept.
    pub(super) fn of(machine: Arc<Machine>, reserved: Reserved) -> Self {
        let Reserved { order, labels, live, ahead, joint } = reserved;
        let labels = Labels { job: order.job.clone(), ..labels };
        let usage = Usage::default();
        usage.add_folder(&order.workspace);
        Self {
            machine,
            order,
            labels,
            images: Arc::default(),
            ahead: Mutex::new(ahead),
            commits: AtomicBool::new(false),
            joint,
            prepared: Mutex::default(),
            opened: Mutex::default(),
            removals: Mutex::default(),
            copies: Mutex::default(),
            usage,
            services: Services::default(),
            noted: AtomicBool::new(false),
            live,
        }
    }

    /// The socket's path, when this stage gets it.
    pub(super) fn socket(&self, stage: &StageOrder) -> Result<Option<PathBuf>, ExecutorError> {
        let given = match self.order.docker_socket {
            SocketGrant::Always => true,
            SocketGrant::Asked => stage.docker,
            SocketGrant::Never if stage.docker => {
                return Err(ExecutorError::Refused(format!(
                    "stage {} asks for the Docker socket (docker: true), which this agent does not give to this \
                     repository; its owner decides that by docker_socket and trusted_repos in the agent's settings",
                    stage.name
                )));
            }
            SocketGrant::Never => false,
        };
        if !given {
            return Ok(None);
        }
        let none = || {
            let sentence = "the Docker socket cannot be given to a stage: this agent's daemon is not on a local socket";
            ExecutorError::Refused(sentence.to_owned())
        };
        self.machine.settings.socket().ok_or_else(none).map(Some)
    }

    /// Refuses what asks for a privileged container and may not have one.
    pub(super) fn privilege(&self, who: &str, asks: bool) -> Result<(), ExecutorError> {
        if !asks || self.order.privileged {
            return Ok(());
        }
        Err(ExecutorError::Refused(format!(
            "{who} asks for a privileged container (privileged: true), which is root on its machine, and this agent does \
             not give to this repository; its owner decides that, as for the Docker socket, by docker_socket and \
             trusted_repos in the agent's settings"
        )))
    }

    /// What can be refused before anything is pulled.
    fn allow(&self, stage: &StageOrder) -> Result<(), ExecutorError> {
        self.socket(stage)?;
        self.privilege(&format!("stage {}", stage.name), stage.privileged)
    }

    /// What a stage starts from; nothing when it was told to stop.
    async fn image(&self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<Option<Image>, ExecutorError> {
        let prepared = lock(&self.prepared).clone();
        match (&stage.image, prepared) {
            (None, Some(prepared)) => Ok(Some(prepared.image)),
            (own, _) => {
                let wanted = own.as_ref().unwrap_or(&self.order.image);
                self.images.obtain(&self.machine, wanted, output, stop).await
            }
        }
    }

    /// Says once what the daemon cannot do for this job.
    pub(super) async fn note(&self, shared: bool, output: &Output) {
        let powers = self.machine.powers().await;
        if !self.noted.swap(true, Ordering::Relaxed) {
            notice::say_what_is_missing(powers, shared, output).await;
        }
    }

    /// Removes a container while the job goes on; closing the place makes sure of it.
    pub(super) fn remove_aside(&self, id: String) {
        let machine = Arc::clone(&self.machine);
        lock(&self.removals).push(task::spawn("container removal", async move {
            removal::in_background(&machine.engine, &id).await;
        }));
    }

    /// The same of a container that has ended, or is about to.
    fn remove_ended_aside(&self, id: String) {
        let machine = Arc::clone(&self.machine);
        lock(&self.removals).push(task::spawn("container removal", async move {
            removal::ended_in_background(&machine.engine, &id).await;
        }));
    }

    /// Removes a container once it is there, while the job goes on.
    pub(super) fn remove_when_made(&self, making: JoinHandle<Option<Standing>>) {
        let machine = Arc::clone(&self.machine);
        lock(&self.removals).push(task::spawn("container removal", async move {
            let Ok(Some(Standing { container, joined, .. })) = making.await else { return };
            removal::in_background(&machine.engine, &container.id).await;
            if let Some(files) = joined {
                machine.discard(&files).await.ok();
            }
        }));
    }

    /// Has the container of a stage started that will probably run next; in a namespace that is made for it, where
    /// nobody waits for that. What is given ends when its folders are no longer looked at.
    fn make_ready(
        &self,
        stage: &StageOrder,
        makes_namespace: bool,
        foreseen: Option<String>,
    ) -> Option<oneshot::Receiver<()>> {
        let (looks, looked) = oneshot::channel();
        let maker = match self.socket(stage) {
            Ok(socket) if self.allow(stage).is_ok() => Maker {
                machine: Arc::clone(&self.machine),
                images: Arc::clone(&self.images),
                place: self.order.clone(),
                labels: self.labels.clone(),
                prepared: lock(&self.prepared).as_ref().map(|prepared| prepared.image.clone()),
                foreseen,
                stage: stage.clone(),
                socket,
                joint: Arc::clone(&self.joint),
                makes_namespace,
                looks,
            },
            // It will be refused.
            _ => return None,
        };
        if let Some(before) = lock(&self.ahead).replace(maker.begin()) {
            self.remove_when_made(before.making);
        }
        Some(looked)
    }

    /// Lets this image's user write to a folder.
    pub(super) async fn open_folder(&self, folder: &Path, image: &Image) -> Result<(), ExecutorError> {
        let is_owner = image.runs_as_root() && !self.machine.powers().await.remapped;
        let user = image.user().to_owned();
        if !is_owner && lock(&self.opened).get(folder) != Some(&user) {
            let path = folder.to_owned();
            blocking("make the workspace writable", move || workspace::open_to_all(&path)).await?;
        }
        // Whoever writes now leaves files that others may not write to.
        lock(&self.opened).insert(folder.to_owned(), if is_owner { String::new() } else { user });
        Ok(())
    }
}

#[async_trait]
impl Sandbox for DockerSandbox {
    async fn prepare(&self, order: &PrepareOrder, output: &Output, stop: &Stop) -> Result<Prepared, ExecutorError> {
        self.allow(&order.stage)?;
        match self.images.obtain(&self.machine, &self.order.image, output, stop).await? {
            Some(base) => self.make_image(order, &base, output, stop).await,
            None => Ok(Prepared::Ran(StageEnd::Cancelled)),
        }
    }

    async fn serve(
        &self,
        services: Vec<ServiceOrder>,
        beside: Option<&Served>,
        stop: &Stop,
    ) -> Result<Served, ExecutorError> {
        for order in &services {
            self.privilege(&format!("service {}", order.service.name), order.service.privileged)?;
        }
        self.begin_services(services, beside, stop).await
    }

    async fn dismiss(&self, served: Served) {
        self.services.end(&self.machine.engine, &served).await;
    }

    async fn run(&self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        self.allow(stage)?;
        let pulling = stage.ledger.pull(&stage.name);
        let image = self.image(stage, output, stop).await?;
        drop(pulling);
        let Some(image) = image.filter(|_| !stop.is_cancelled()) else { return Ok(StageEnd::Cancelled) };
        let folder = stage.folder.as_ref().unwrap_or(&self.order.workspace);
        self.usage.add_folder(folder);
        self.open_folder(folder, &image).await?;
        let (engine, labels) = (&self.machine.engine, self.labels.of_stage(stage.name.as_str()));
        let mounts = home::resolved(engine, &image, &stage.environment, &stage.mounts, labels).await?;
        for mount in mounts.iter().filter(|mount| !mount.read_only && mount.source.is_dir()) {
            self.open_folder(&mount.source, &image).await?;
        }
        let stage = &StageOrder { mounts, ..stage.clone() };
        let (container, end) = self.live(stage, &image, folder, true, output, stop).await?;
        let kept = self.keep(&container, stage, &image, &end, output).await;
        self.remove_ended_aside(container);
        kept.map(|()| end)
    }

    fn stand_by(&self, stage: &StageOrder) {
        // Its place has been looked at by the stage before it.
        drop(self.make_ready(stage, false, None));
    }

    fn prepared(&self) -> Option<String> {
        lock(&self.prepared).as_ref().and_then(|prepared| prepared.key.clone())
    }

    async fn digest(&self, image: &protocol::plan::Image) -> Option<String> {
        self.images.digest(image).await
    }

    async fn close(self: Box<Self>) -> Result<(), ExecutorError> {
        if let Some(ahead) = lock(&self.ahead).take() {
            self.remove_when_made(ahead.making);
        }
        let removals: Vec<_> = lock(&self.removals).drain(..).collect();
        for removal in removals {
            if let Err(error) = removal.await {
                tracing::warn!(%error, "the removal of a container ended unusually");
            }
        }
        // Now nobody is in it any more.
        self.joint.leave(&self.machine).await;
        let commits = self.commits.load(Ordering::Relaxed);
        let removed = removal::all(&self.machine.engine, &self.labels.filter(), commits).await;
        self.services.forget().await;
        let copies: Vec<_> = lock(&self.copies).drain(..).collect();
        for copy in copies {
            self.machine.discard(&copy).await?;
        }
        removed
    }
}

/// What stages without an image of their own start from, once `prepare` has made or found it.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) image: Image,
    /// What later jobs find it by, where it is kept for them.
    pub(super) key: Option<String>,
}

/// A place that nobody has come to yet.
fn reserve(machine: &Machine, order: SandboxOrder) -> Reserved {
    let DockerSettings { owner, boot, .. } = &machine.settings;
    let labels = Labels {
        owner: owner.clone(),
        boot: boot.clone(),
        job: order.job.clone(),
        sandbox: Uuid::new_v4().to_string(),
    };
    let live = machine.begin(&labels.sandbox);
    Reserved { order, labels, live, ahead: None, joint: Arc::default() }
}

/// What is held is whole whatever panicked beside it: each change is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what blocks on a thread of its own.
pub(super) async fn blocking<T, F>(doing: &str, work: F) -> Result<T, ExecutorError>
where
    T: Send + 'static,
    F: FnOnce() -> std::io::Result<T> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|source| ExecutorError::Disk { doing: doing.to_owned(), source })
}
