//! The daemon, this machine's rules, and what has been learnt about both.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::SystemVersion;
use bollard::query_parameters::ListContainersOptionsBuilder;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::{ExecutorError, SandboxOrder, StageOrder};
use super::container::{Bounds, Container};
use super::disk::Ledger;
use super::engine::Engine;
use super::image::Image;
use super::joint::Joint;
use super::kept::KeptStage;
use super::labels::{self, Labels};
use super::namespace::{Namespace, Namespaces};
use super::order::Order;
use super::powers::Powers;
use super::prepared::Making;
use super::pulled::Pulled;
use super::removal;
use super::settings::DockerSettings;
use super::standing::Ahead;

/// What lies in the folder by which it is found out what a daemon sees.
const PROBE: &str = "seen";

/// The daemon, this machine's rules, and what has been learnt about both.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) settings: DockerSettings,
    /// Whether the daemon sees what lies in a place as this process does, where that was found out.
    shared: Mutex<HashMap<Place, bool>>,
    /// What the daemon can do.
    powers: OnceCell<Powers>,
    /// The prepared images that are being made, by their keys: whoever wants one waits for it.
    pub(super) making: Making,
    /// What was kept of stages that failed.
    pub(super) kept: Mutex<Vec<KeptStage>>,
    /// An image that is known to be here.
    pub(super) at_hand: Mutex<Option<String>>,
    /// The images that were pulled.
    pub(super) pulled: Pulled,
    /// The places of jobs that are not yet closed.
    live: Arc<Mutex<HashSet<String>>>,
    /// What the jobs that run take of the disk.
    pub(super) ledger: Ledger,
    /// Where the daemon keeps its things, when that is a folder of this machine.
    daemon_folder: OnceCell<Option<PathBuf>>,
    /// Whether containers of other platforms start here, as far as that was tried.
    pub(super) starts: tokio::sync::Mutex<HashMap<String, bool>>,
    /// The network namespaces that stages join.
    pub(super) namespaces: Namespaces,
    /// The places in which a container stands before their jobs are known, by their workspaces.
    reserved: Mutex<HashMap<PathBuf, Reserved>>,
}

/// A place whose job is not known yet.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) order: SandboxOrder,
    pub(super) labels: Labels,
    pub(super) live: Live,
    pub(super) ahead: Option<Ahead>,
    pub(super) joint: Arc<Joint>,
}

/// A job's place is in use, for as long as this lives.
#[derive(Debug)]
pub(super) struct Live {
    sandbox: String,
    all: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.sandbox);
    }
}

impl Machine {
    pub(super) fn new(engine: Engine, settings: DockerSettings) -> Self {
        let pulled = Pulled::open(settings.pulled_images.clone());
        Self {
            engine,
            settings,
            shared: Mutex::default(),
            powers: OnceCell::new(),
            making: Making::default(),
            kept: Mutex::default(),
            at_hand: Mutex::default(),
            pulled,
            live: Arc::default(),
            ledger: Ledger::default(),
            daemon_folder: OnceCell::new(),
            starts: tokio::sync::Mutex::default(),
            namespaces: Namespaces::default(),
            reserved: Mutex::default(),
        }
    }

    /// Whether stages join namespaces here: where root in a container may write to files that this process made.
    pub(super) async fn has_namespaces(&self) -> bool {
        let Powers { podman, rootless, remapped, .. } = self.powers().await;
        self.settings.namespaces > 0 && self.settings.is_plain() && !podman && !rootless && !remapped
    }

    /// A namespace that stands ready, or is made now.
    pub(super) async fn obtain_namespace(&self, image: &str) -> Option<Namespace> {
        let labels = self.labels().of_stage("network");
        self.namespaces.obtain(&self.engine, &self.settings, image, labels).await
    }

    /// Keeps a place for the job that comes to its workspace. Gives the one that was kept for it before.
    pub(super) fn reserve(&self, place: Reserved) -> Option<Reserved> {
        let workspace = place.order.workspace.clone();
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).insert(workspace, place)
    }

    /// The place that is kept for a workspace.
    pub(super) fn reserved(&self, workspace: &Path) -> Option<Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(workspace)
    }

    /// A place comes into use: until it is closed, no sweep touches what is made for it.
    pub(super) fn begin(&self, sandbox: &str) -> Live {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(sandbox.to_owned());
        Live { sandbox: sandbox.to_owned(), all: Arc::clone(&self.live) }
    }

    pub(super) fn is_live(&self, sandbox: &str) -> bool {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).contains(sandbox)
    }

    /// What the daemon can do.
    pub(super) async fn powers(&self) -> &Powers {
        let ask = async || Powers::ask(&self.engine, self.settings.socket().as_deref()).await;
        self.powers.get_or_init(ask).await
    }

    /// Makes a container. Whether the daemon sees its folders is found out at the first: if not, they are carried to
    /// it (and `order` says so).
    pub(super) async fn create(&self, order: &mut Order<'_>, title: &str) -> Result<Container, ExecutorError> {
        let (folder, _) = order.workspace;
        order.shared = self.is_shared(folder) != Some(false);
        let first = self.make(order, title).await;
        let refused = match first {
            Ok(container) if order.shared && self.is_shared(folder).is_none() => {
                match self.prove(&container, order).await {
                    Ok(true) => return Ok(container),
                    Ok(false) => removal::container(&self.engine, &container.id).await?,
                    Err(error) => {
                        removal::container(&self.engine, &container.id).await?;
                        return Err(error);
                    }
                }
                None
            }
            // A daemon may refuse to mount what it does not see; what is not here either cannot be carried.
            Err(error @ ExecutorError::Daemon { .. }) if self.is_shared(folder).is_none() && folder.is_dir() => {
                Some(error)
            }
            other => return other,
        };
        order.shared = false;
        match (self.make(order, title).await, refused) {
            (Ok(container), _) => {
                self.note_shared(folder, false);
                Ok(container)
            }
            // It was not the folder.
            (Err(_), Some(first)) => Err(first),
            (Err(error), None) => Err(error),
        }
    }

    /// Makes a container of exactly this order.
    async fn make(&self, order: &Order<'_>, title: &str) -> Result<Container, ExecutorError> {
        let Image { name, platform, .. } = order.image;
        Container::create(&self.engine, title.to_owned(), name, platform.as_deref(), order.body()).await
    }

    /// Makes sure, once per place on the disk, that the daemon mounts the very folder that this process sees, and may do
    /// there what this process may: the daemon of another user may look around and not write.
    async fn prove(&self, container: &Container, order: &Order<'_>) -> Result<bool, ExecutorError> {
        let (folder, mount) = order.workspace;
        let name = format!(".buildr-probe-{}", Uuid::new_v4());
        let probe = folder.join(&name);
        let disk = |source| ExecutorError::Disk { doing: format!("write {}", probe.display()), source };
        // Nobody else may look into it.
        std::fs::DirBuilder::new().mode(0o700).create(&probe).map_err(disk)?;
        let written = std::fs::write(probe.join(PROBE), "").map_err(disk);
        let path = format!("{mount}/{name}/{PROBE}");
        let seen = match written {
            Ok(()) => match container.holds(&path).await {
                Ok(None) if order.socket.is_some() => self.holds_without_socket(order, &path).await,
                looked => looked,
            },
            Err(error) => Err(error),
        };
        std::fs::remove_dir_all(&probe).map_err(disk)?;
        // Who may not look there does not see it.
        let seen = seen? == Some(true);
        if seen {
            self.note_shared(folder, true);
        }
        Ok(seen)
    }

    /// Asks a container that is the same but for the daemon's socket. Several versions of Docker (29.5.1 is the first, and
    /// distributions have given it to older ones) look into no container that has a file mounted below a link, as
    /// `/var/run` is in most images: <https://github.com/moby/moby/issues/52653>.
    async fn holds_without_socket(&self, order: &Order<'_>, path: &str) -> Result<Option<bool>, ExecutorError> {
        let (labels, joined) = (order.labels.clone(), order.joined.clone());
        let plain = Order { socket: None, labels, joined, ..*order };
        let container = self.make(&plain, "a look at the workspace").await?;
        let looked = container.holds(path).await;
        removal::container(&self.engine, &container.id).await?;
        looked
    }

    /// What bounds a stage's container.
    pub(super) fn bounds(&self, stage: &StageOrder, powers: &Powers) -> Bounds {
        Bounds {
            timeout: stage.timeout,
            idle: stage.idle,
            too_large: CancellationToken::new(),
            grace: self.settings.grace,
            after: self.settings.after,
            memory: self.settings.limits.within(stage.resources, powers).memory.unwrap_or_default(),
        }
    }

    /// Where the daemon keeps its things, when it is on this machine and this process sees the folder.
    pub(super) async fn daemon_folder(&self) -> Option<&Path> {
        let ask = async || {
            self.settings.socket()?;
            let folder = self.engine.quick.info().await.ok()?.docker_root_dir.map(PathBuf::from)?;
            folder.exists().then_some(folder)
        };
        self.daemon_folder.get_or_init(ask).await.as_deref()
    }

    /// The daemon's own platform, `linux/amd64` and its like.
    pub(super) fn platform(&self) -> Option<String> {
        let SystemVersion { os, arch, .. } = &*self.engine.told;
        Some(format!("{}/{}", os.as_ref()?, arch.as_ref()?))
    }

    /// The containers that no buildr made, by id.
    pub(super) async fn strangers(&self) -> Result<HashMap<String, String>, ExecutorError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let found = self.engine.quick.list_containers(Some(options)).await;
        let found = found.map_err(|error| self.engine.failed("list containers", &error))?;
        let strangers = found.into_iter().filter(|one| !one.labels.as_ref().is_some_and(labels::is_ours));
        let named = strangers.filter_map(|one| {
            let name = one.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            Some((one.id?, name.trim_start_matches('/').to_owned()))
        });
        Ok(named.collect())
    }

    /// Whether the daemon sees a folder; nothing while nobody knows.
    pub(super) fn is_shared(&self, folder: &Path) -> Option<bool> {
        self.known_of(&Place::of(folder))
    }

    /// Whether the daemon is known to see what lies beside a folder.
    pub(super) fn sees_beside(&self, folder: &Path) -> bool {
        self.known_of(&Place::beside(folder)) == Some(true)
    }

    fn known_of(&self, place: &Place) -> Option<bool> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(place).copied()
    }

    fn note_shared(&self, folder: &Path, is_shared: bool) {
        let place = Place::of(folder);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // That one mount was not seen says nothing of the next.
        if is_shared || !place.mounted {
            shared.insert(place, is_shared);
        }
        if is_shared {
            // Who sees what is mounted there sees where that is.
            shared.insert(Place::beside(folder), true);
        }
    }

    pub(super) fn remember(&self, image: &str) {
        *self.at_hand.lock().unwrap_or_else(PoisonError::into_inner) = Some(image.to_owned());
    }

    /// The labels of what is made for no job in particular.
    pub(super) fn labels(&self) -> Labels {
        let DockerSettings { owner, boot, .. } = &self.settings;
        Labels { owner: owner.clone(), boot: boot.clone(), job: String::new(), sandbox: String::new() }
    }
}

/// Where workspaces lie, each in a folder of its job's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    folder: PathBuf,
    /// The file system that the jobs' folders lie on.
    disk: u64,
    /// Whether each workspace is mounted in its job's folder. Each such mount is a file system of its own, and a daemon
    /// that sees one of them sees the next.
    mounted: bool,
}

impl Place {
    fn of(workspace: &Path) -> Self {
        let parent = workspace.parent().unwrap_or(workspace);
        let disk = |folder: &Path| folder.metadata().ok().map(|metadata| metadata.dev());
        let (own, around) = (disk(workspace), disk(parent));
        let mounted = own.is_some() && own != around;
        Self { folder: parent.parent().unwrap_or(parent).to_owned(), disk: around.unwrap_or(0), mounted }
    }

    /// What lies beside a workspace, which nothing is mounted over.
    fn beside(workspace: &Path) -> Self {
        Self { mounted: false, ..Self::of(workspace) }
    }
}
