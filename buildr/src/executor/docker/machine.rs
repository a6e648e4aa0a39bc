//! The daemon, this machine's rules, and what has been learnt about both.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::query_parameters::ListContainersOptionsBuilder;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::{ExecutorError, StageOrder};
use super::container::{Bounds, Container};
use super::disk::Ledger;
use super::engine::Engine;
use super::labels::{self, Labels};
use super::order::Order;
use super::pulled::Pulled;
use super::removal;
use super::settings::DockerSettings;

/// How many images are tried for a container that removes a folder, before it is given up.
const HELPING_IMAGES: usize = 5;

/// What to do about a folder that the daemon does not see.
const CHOOSE: &str = "choose one that it sees by --work-dir: a daemon in a virtual machine sees only the folders that \
                      are shared with it, and one in or beside a container needs the folder at the same path on both \
                      sides";

/// The daemon, this machine's rules, and what has been learnt about both.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) settings: DockerSettings,
    /// Folders whose children the daemon is known to see as this process does.
    proven: Mutex<HashSet<PathBuf>>,
    /// An image that is known to be here.
    at_hand: Mutex<Option<String>>,
    /// The images that were pulled.
    pub(super) pulled: Pulled,
    /// The places of jobs that are not yet closed.
    live: Arc<Mutex<HashSet<String>>>,
    /// What the jobs that run take of the disk.
    pub(super) ledger: Ledger,
    /// Where the daemon keeps its things, when that is a folder of this machine.
    daemon_folder: OnceCell<Option<PathBuf>>,
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
            proven: Mutex::default(),
            at_hand: Mutex::default(),
            pulled,
            live: Arc::default(),
            ledger: Ledger::default(),
            daemon_folder: OnceCell::new(),
        }
    }

    /// A place comes into use: until it is closed, no sweep touches what is made for it.
    pub(super) fn begin(&self, sandbox: &str) -> Live {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(sandbox.to_owned());
        Live { sandbox: sandbox.to_owned(), all: Arc::clone(&self.live) }
    }

    pub(super) fn is_live(&self, sandbox: &str) -> bool {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).contains(sandbox)
    }

    pub(super) async fn create<'a>(
        &'a self,
        order: &Order<'_>,
        stage: &StageOrder,
        folder: &Path,
    ) -> Result<Container<'a>, ExecutorError> {
        let title = format!("stage {}", stage.name);
        let created = Container::create(&self.engine, title, &order.image.name, order.body()).await;
        match created {
            Err(ExecutorError::Daemon { doing, reason }) if !self.is_proven(folder) => {
                let reason = format!("{reason}. If the daemon does not see {}, {CHOOSE}", folder.display());
                Err(ExecutorError::Daemon { doing, reason })
            }
            other => other,
        }
    }

    /// Makes sure, once per place on the disk, that the daemon mounts the very folder that this process sees.
    pub(super) async fn prove(
        &self,
        container: &Container<'_>,
        folder: &Path,
        mount: &str,
    ) -> Result<(), ExecutorError> {
        if self.is_proven(folder) {
            return Ok(());
        }
        let name = format!(".buildr-probe-{}", Uuid::new_v4());
        let probe = folder.join(&name);
        let disk = |source| ExecutorError::Disk { doing: format!("write {}", probe.display()), source };
        std::fs::write(&probe, "").map_err(disk)?;
        let seen = container.holds(&format!("{mount}/{name}")).await;
        std::fs::remove_file(&probe).map_err(disk)?;
        if seen? {
            self.keep_proof(folder);
            return Ok(());
        }
        Err(ExecutorError::Daemon {
            doing: format!("mount {}", folder.display()),
            reason: format!("the Docker daemon sees another folder at that path; {CHOOSE}"),
        })
    }

    pub(super) fn bounds(&self, stage: &StageOrder) -> Bounds {
        Bounds {
            timeout: stage.timeout,
            idle: stage.idle,
            too_large: CancellationToken::new(),
            grace: self.settings.grace,
            memory: self.settings.limits.memory.unwrap_or_default(),
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

    fn is_proven(&self, folder: &Path) -> bool {
        let parent = folder.parent().unwrap_or(folder);
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).contains(parent)
    }

    fn keep_proof(&self, folder: &Path) {
        let parent = folder.parent().unwrap_or(folder).to_path_buf();
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).insert(parent);
    }

    pub(super) fn remember(&self, image: &str) {
        *self.at_hand.lock().unwrap_or_else(PoisonError::into_inner) = Some(image.to_owned());
    }

    /// Removes a folder; what root left in it from within a container, as root.
    pub(super) async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        let Err(first) = remove(folder).await else { return Ok(()) };
        let failed = |source| ExecutorError::Disk { doing: format!("remove {}", folder.display()), source };
        if first.kind() != ErrorKind::PermissionDenied {
            return Err(failed(first));
        }
        let mut images: Vec<_> = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        images.extend(removal::images_at_hand(&self.engine).await?);
        for image in images.into_iter().take(HELPING_IMAGES) {
            if let Err(error) = removal::folder(&self.engine, &image, folder, self.labels().of_stage("discard")).await {
                tracing::debug!(%error, image, "this image does not help to remove a folder");
            }
            if remove(folder).await.is_ok() {
                return Ok(());
            }
        }
        Err(failed(first))
    }

    /// The labels of what is made for no job in particular.
    fn labels(&self) -> Labels {
        let DockerSettings { owner, boot, .. } = &self.settings;
        Labels { owner: owner.clone(), boot: boot.clone(), job: String::new(), sandbox: String::new() }
    }
}

async fn remove(folder: &Path) -> std::io::Result<()> {
    let folder = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || crate::folder::remove(&folder)).await;
    removed.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
