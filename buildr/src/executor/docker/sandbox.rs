//! A job's place on Docker: one fresh container per stage, and an image when the job prepares one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::CommitContainerOptionsBuilder;
use bytes::Bytes;
use protocol::{StageEnd, task};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::{
    ExecutorError, Output, PrepareOrder, Sandbox, SandboxOrder, Served, ServiceOrder, SocketGrant, StageOrder, Stop,
};
use super::container::{Bounds, Container};
use super::disk::{Look, Seat};
use super::handoff;
use super::image::{self, Image};
use super::labels::Labels;
use super::machine::{Live, Machine};
use super::notice;
use super::order::{self, Order};
use super::pulled::Use;
use super::removal;
use super::settings::DiskLimits;
use super::workspace::{self, Copy};

/// How long an image that is being removed is left alone before it is looked for again.
const GOING: Duration = Duration::from_millis(100);

/// A place for one job.
pub(super) struct DockerSandbox {
    machine: Arc<Machine>,
    order: SandboxOrder,
    labels: Labels,
    /// What each name of an image means within this job, whatever is pulled or tagged meanwhile.
    images: HashMap<String, Image>,
    /// What stages without an image of their own start from, once `prepare` has made it.
    prepared: Option<Image>,
    /// The user whose containers may write to the workspace as it now is.
    opened_for: Option<String>,
    /// Containers that are being removed while the job goes on.
    removals: Vec<JoinHandle<()>>,
    /// Copies of the workspace, removed when the place is closed.
    copies: Vec<PathBuf>,
    /// Keeps what this place uses from being removed to make room.
    uses: Vec<Use>,
    _live: Live,
    /// Bytes of the image that `prepare` has made, beyond the one that it is made from.
    made: u64,
    /// Kept by a job that was ended to make room, until that is there.
    seat: Option<Seat>,
}

impl DockerSandbox {
    pub(super) fn new(machine: Arc<Machine>, order: SandboxOrder) -> Self {
        let labels = Labels {
            owner: machine.settings.owner.clone(),
            boot: machine.settings.boot.clone(),
            job: order.job.clone(),
            sandbox: Uuid::new_v4().to_string(),
        };
        let live = machine.begin(&labels.sandbox);
        Self {
            machine,
            order,
            labels,
            images: HashMap::new(),
            prepared: None,
            opened_for: None,
            removals: Vec::new(),
            copies: Vec::new(),
            uses: Vec::new(),
            _live: live,
            made: 0,
            seat: None,
        }
    }

    /// The image of this name; nothing when it was told to stop.
    async fn image(&mut self, name: &str, output: &Output, stop: &Stop) -> Result<Option<Image>, ExecutorError> {
        if let Some(known) = self.images.get(name) {
            return Ok(Some(known.clone()));
        }
        let Machine { engine, settings, pulled, .. } = &*self.machine;
        let (found, used) = loop {
            let Some(found) = image::obtain(engine, name, settings, pulled, output, stop).await? else {
                return Ok(None);
            };
            match pulled.use_image(&found.id) {
                Some(used) => break (found, used),
                // It is just being removed to make room.
                None => tokio::time::sleep(GOING).await,
            }
        };
        self.uses.push(used);
        self.machine.remember(&found.id);
        self.images.insert(name.to_owned(), found.clone());
        Ok(Some(found))
    }

    /// The socket's path, when this stage gets it.
    fn socket(&self, stage: &StageOrder) -> Result<Option<PathBuf>, ExecutorError> {
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

    /// Runs a stage's script in a fresh container over this folder; gives the container, ended and not removed.
    async fn live(
        &mut self,
        stage: &StageOrder,
        image: &Image,
        folder: &Path,
        output: &Output,
        stop: &Stop,
    ) -> Result<(String, StageEnd), ExecutorError> {
        let machine = Arc::clone(&self.machine);
        let socket = self.socket(stage)?;
        let before = if socket.is_some() { machine.strangers().await? } else { HashMap::new() };
        let mount = self.order.mount.clone();
        let order = Order {
            settings: &machine.settings,
            image,
            labels: self.labels.of_stage(stage.name.as_str()),
            workspace: (folder, &mount),
            socket: socket.as_deref(),
        };
        let mut environment = order.environment();
        environment.extend(stage.environment.iter().cloned());
        let frame = handoff::frame(&environment, &stage.script)?;
        notice::warn_of_names(stage, output).await;
        let container = machine.create(&order, stage, folder).await?;
        let bounds = machine.bounds(stage);
        let ended = match machine.prove(&container, folder, &mount).await {
            Ok(()) => self.watched(&container, frame, output, stop, &bounds).await,
            Err(error) => Err(error),
        };
        if socket.is_some() {
            notice::warn_of_strangers(&before, &machine.strangers().await.unwrap_or_default(), output).await;
        }
        let id = container.id;
        match ended {
            Ok(end) => Ok((id, end)),
            Err(error) => {
                self.remove_aside(id);
                Err(error)
            }
        }
    }

    /// Runs a container, and ends it when its job has taken more of the disk than it may.
    async fn watched(
        &mut self,
        container: &Container<'_>,
        frame: Bytes,
        output: &Output,
        stop: &Stop,
        bounds: &Bounds,
    ) -> Result<StageEnd, ExecutorError> {
        let machine = Arc::clone(&self.machine);
        let limits = machine.settings.disk;
        if limits == DiskLimits::default() {
            return container.run(frame, output, stop, bounds).await;
        }
        let mut folders = vec![self.order.workspace.clone()];
        folders.extend(self.copies.iter().cloned());
        let (seat, why) = (machine.ledger.seat(), OnceLock::new());
        let daemon = machine.daemon_folder().await;
        let look =
            Look { engine: &machine.engine, limits, folders, container: &container.id, image: self.made, daemon };
        let ended = tokio::select! {
            ended = container.run(frame, output, stop, bounds) => ended,
            never = look.again(&seat, &bounds.too_large, &why) => match never {},
        };
        match why.into_inner() {
            Some(excess) => {
                // Until the place is closed nobody else has to make room.
                self.seat = Some(seat);
                Err(ExecutorError::TooLarge(excess.to_string()))
            }
            None => ended,
        }
    }

    /// Removes a container while the job goes on; closing the place makes sure of it.
    fn remove_aside(&mut self, id: String) {
        let machine = Arc::clone(&self.machine);
        self.removals.push(task::spawn("container removal", async move {
            if let Err(error) = removal::container(&machine.engine, &id).await {
                tracing::warn!(%error, "a container is left to the closing of its job's place");
            }
        }));
    }

    /// Makes an image of what `prepare` left.
    async fn commit(&mut self, container: &str, base: &Image, stage: &StageOrder) -> Result<(), ExecutorError> {
        let options = CommitContainerOptionsBuilder::default()
            .container(container)
            .repo("buildr-prepared")
            .tag(&tag(&self.order.job))
            .pause(false)
            .build();
        let mut config = order::as_the_base(&base.config);
        config.labels = Some(self.labels.of_stage(stage.name.as_str()));
        let engine = &self.machine.engine;
        let committed = engine.long.commit_container(options, config).await;
        let id = committed.map_err(|error| engine.failed("keep what prepare made as an image", &error))?.id;
        self.made = image::grown(engine, &base.id, &id).await;
        self.prepared = Some(Image { id, ..base.clone() });
        Ok(())
    }

    /// A copy of the workspace that `prepare` may write to; nothing when it was told to stop.
    async fn copy(&mut self, image: &Image, stop: &Stop) -> Result<Option<Copy>, ExecutorError> {
        let (original, as_root, watched) = (self.order.workspace.clone(), image.runs_as_root(), stop.clone());
        let copied = blocking("copy the workspace for prepare", move || {
            if !as_root {
                workspace::open_to_all(&original)?;
            }
            Copy::make(&original, &watched)
        });
        let copied = copied.await?;
        self.copies.extend(copied.iter().map(|copy| copy.folder.clone()));
        Ok(copied)
    }

    /// Lets this image's user write to the workspace.
    async fn open_workspace(&mut self, image: &Image) -> Result<(), ExecutorError> {
        let user = image.config.user.clone();
        if !image.runs_as_root() && self.opened_for != user {
            let folder = self.order.workspace.clone();
            blocking("make the workspace writable", move || workspace::open_to_all(&folder)).await?;
        }
        self.opened_for = user;
        Ok(())
    }
}

impl DockerSandbox {
    async fn prepare(&mut self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        // A refusal comes before a pull.
        self.socket(stage)?;
        let name = self.order.image.name.clone();
        let Some(image) = self.image(&name, output, stop).await? else { return Ok(StageEnd::Cancelled) };
        let copy = self.copy(&image, stop).await?;
        let Some(copy) = copy.filter(|_| !stop.is_cancelled()) else { return Ok(StageEnd::Cancelled) };
        let (container, end) = self.live(stage, &image, &copy.folder, output, stop).await?;
        let made = if end.passed() { self.commit(&container, &image, stage).await } else { Ok(()) };
        self.remove_aside(container);
        made?;
        let written = blocking("look at what prepare wrote", move || copy.written()).await?;
        notice::warn_of_writes(&self.order.mount, &written, output).await;
        Ok(end)
    }

    async fn run(&mut self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        self.socket(stage)?;
        let image = match (&stage.image, &self.prepared) {
            (None, Some(prepared)) => Some(prepared.clone()),
            (own, _) => {
                let name = own.as_ref().map_or_else(|| self.order.image.name.clone(), |image| image.name.clone());
                self.image(&name, output, stop).await?
            }
        };
        let Some(image) = image.filter(|_| !stop.is_cancelled()) else { return Ok(StageEnd::Cancelled) };
        self.open_workspace(&image).await?;
        let folder = self.order.workspace.clone();
        let (container, end) = self.live(stage, &image, &folder, output, stop).await?;
        self.remove_aside(container);
        Ok(end)
    }

    async fn close(mut self: Box<Self>) -> Result<(), ExecutorError> {
        for removal in self.removals.drain(..) {
            if let Err(error) = removal.await {
                tracing::warn!(%error, "the removal of a container ended unusually");
            }
        }
        let removed = removal::all(&self.machine.engine, &self.labels.filter()).await;
        for copy in self.copies.drain(..) {
            self.machine.discard(&copy).await?;
        }
        drop(self.seat.take());
        removed
    }
}

/// A place whose stages run one after the other.
pub(super) struct Place(Mutex<DockerSandbox>);

impl Place {
    pub(super) fn new(sandbox: DockerSandbox) -> Self {
        Self(Mutex::new(sandbox))
    }
}

#[async_trait]
impl Sandbox for Place {
    async fn prepare(&self, order: &PrepareOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        self.0.lock().await.prepare(&order.stage, output, stop).await
    }

    async fn serve(
        &self,
        services: Vec<ServiceOrder>,
        _beside: Option<&Served>,
        _stop: &Stop,
    ) -> Result<Served, ExecutorError> {
        match services.first() {
            Some(order) => Err(ExecutorError::NotReady {
                service: order.service.name.clone(),
                reason: "this version runs no services".to_owned(),
            }),
            None => Ok(Served(String::new())),
        }
    }

    async fn dismiss(&self, _served: Served) {}

    async fn digest(&self, image: &protocol::plan::Image) -> Option<String> {
        self.0.lock().await.images.get(&image.name).map(|image| image.id.clone())
    }

    async fn run(&self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError> {
        self.0.lock().await.run(stage, output, stop).await
    }

    async fn close(self: Box<Self>) -> Result<(), ExecutorError> {
        Box::new(self.0.into_inner()).close().await
    }
}

async fn blocking<T, F>(doing: &str, work: F) -> Result<T, ExecutorError>
where
    T: Send + 'static,
    F: FnOnce() -> std::io::Result<T> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|source| ExecutorError::Disk { doing: doing.to_owned(), source })
}

/// A job's name as the tag of an image.
fn tag(job: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let tag: String = job.chars().map(allowed).take(100).collect();
    let tag = tag.trim_start_matches(['.', '-']);
    if tag.is_empty() { "job".to_owned() } else { tag.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_becomes_a_tag() {
        let check = |job: &str, expected: &str| assert_eq!(tag(job), expected);
        check("0192-ab", "0192-ab");
        check("--x", "x");
        check("a b/c", "a-b-c");
        check("", "job");
    }
}
