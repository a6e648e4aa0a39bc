//! The network namespace that the stages of one place join, as long as they run one after the other.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;
use uuid::Uuid;

use super::machine::Machine;
use super::namespace::Namespace;
use super::order::Order;

/// The namespace of one place, once there is one.
#[derive(Debug, Default)]
pub(super) struct Joint {
    namespace: Mutex<Option<Namespace>>,
    /// A stage runs in it.
    busy: AtomicBool,
    /// Somebody may have changed it so that nobody sees it.
    spoiled: AtomicBool,
}

/// What a container is told that joins a namespace.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    pub(super) mode: String,
    pub(super) annotations: HashMap<String, String>,
    /// Its own copies of what it would share with all that join: a folder of this machine.
    pub(super) files: PathBuf,
}

/// A stage runs in the namespace, until this is dropped.
#[derive(Debug)]
pub(super) struct Entered<'a>(&'a Joint);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Joint {
    /// Lets a stage in, unless another is.
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        let was_busy = self.busy.swap(true, Ordering::AcqRel);
        (!was_busy).then(|| Entered(self))
    }

    /// Nobody else shall have it.
    pub(super) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Release);
    }

    /// How the container of this order joins it; nothing where it has to go its own way. What is not there yet is
    /// obtained, and made where `makes` says so.
    pub(super) async fn join(&self, machine: &Machine, order: &Order<'_>, makes: bool) -> Option<Joined> {
        let folder = order.workspace.0;
        if !machine.has_namespaces().await || !order.may_join() || !machine.sees_beside(folder) {
            return None;
        }
        let mut namespace = self.namespace.lock().await;
        if self.spoiled.load(Ordering::Acquire) {
            return None;
        }
        if namespace.is_none() {
            *namespace = match makes {
                true => machine.obtain_namespace(&order.image.id).await,
                false => machine.namespaces.take(&machine.engine, &order.image.id).await,
            };
        }
        // What was obtained for another's place may be held by another image.
        let namespace = namespace.as_ref().filter(|namespace| namespace.is_of(&order.image.id))?;
        let (mode, annotations) = (namespace.mode(), namespace.annotations());
        match write(folder, namespace.files()) {
            Ok(files) => Some(Joined { mode, annotations, files }),
            Err(error) => {
                tracing::debug!(%error, "a container goes without the namespace that stands ready");
                None
            }
        }
    }

    /// Nobody is in it any more.
    pub(super) async fn leave(&self, machine: &Machine) {
        let Some(namespace) = self.namespace.lock().await.take() else { return };
        if self.spoiled.load(Ordering::Acquire) {
            namespace.remove(&machine.engine).await;
        } else {
            machine.namespaces.give_back(namespace, &machine.engine).await;
        }
    }
}

/// Writes a container's own copies beside its workspace.
fn write(workspace: &Path, files: Vec<(&'static str, Vec<u8>)>) -> io::Result<PathBuf> {
    let folder = workspace.parent().unwrap_or(workspace).join(format!(".buildr-net-{}", Uuid::new_v4().simple()));
    fs::create_dir(&folder)?;
    for (name, contents) in files {
        let file = folder.join(name);
        fs::write(&file, contents)?;
        fs::set_permissions(&file, Permissions::from_mode(0o644))?;
    }
    Ok(folder)
}
