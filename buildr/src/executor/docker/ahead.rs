//! How a container comes to stand before its stage begins: by the same steps as at its stage, but that nothing is
//! pulled, nothing is carried, and whatever goes wrong is left to the stage to find out and to tell.

use std::path::PathBuf;
use std::sync::Arc;

use protocol::task;
use tokio::sync::oneshot;

use super::super::{ExecutorError, SandboxOrder, StageOrder};
use super::home;
use super::image::Image;
use super::images::Images;
use super::joint::Joint;
use super::labels::Labels;
use super::machine::Machine;
use super::order::Order;
use super::removal;
use super::stage::connect_further;
use super::standing::{Ahead, Made, Standing};

/// What a container is made with before its stage begins.
pub(super) struct Maker {
    pub(super) machine: Arc<Machine>,
    pub(super) images: Arc<Images>,
    pub(super) place: SandboxOrder,
    pub(super) labels: Labels,
    /// What stages without an image of their own start from, when `prepare` has made it.
    pub(super) prepared: Option<Image>,
    /// The key of the image that `prepare` will probably take, where it has not run yet.
    pub(super) foreseen: Option<String>,
    pub(super) stage: StageOrder,
    pub(super) socket: Option<PathBuf>,
    pub(super) joint: Arc<Joint>,
    /// Whether a namespace is made for it to join, when there is none.
    pub(super) makes_namespace: bool,
    /// Dropped when nothing but the container itself looks at its folders any more.
    pub(super) looks: oneshot::Sender<()>,
}

impl Maker {
    /// Begins to make it.
    pub(super) fn begin(self) -> Ahead {
        let (tell, made) = oneshot::channel();
        let making = task::spawn("container made ahead", async move {
            match self.make(tell).await {
                Ok(standing) => standing,
                Err(error) => {
                    tracing::debug!(%error, "no container stands ready");
                    None
                }
            }
        });
        Ahead { made, making }
    }

    async fn make(self, tell: oneshot::Sender<Made>) -> Result<Option<Standing>, ExecutorError> {
        let Self { machine, images, place, labels, prepared, foreseen, stage, socket, joint, makes_namespace, looks } =
            self;
        // Only what is at the other end of a socket of this machine stays connected for as long as it may take.
        if machine.settings.socket().is_none() || machine.powers().await.podman {
            return Ok(None);
        }
        let image = match (&stage.image, prepared) {
            (None, Some(prepared)) => prepared,
            (own, _) => {
                let base = images.at_hand(&machine, own.as_ref().unwrap_or(&place.image)).await?;
                let image = match (base, foreseen.filter(|_| own.is_none())) {
                    (Some(base), Some(key)) => images.kept(&machine, &key, &base).await?,
                    (base, _) => base,
                };
                let Some(image) = image else { return Ok(None) };
                image
            }
        };
        let labels = labels.of_stage(stage.name.as_str());
        let mounts = home::resolved(&machine.engine, &image, &stage.environment, &stage.mounts, labels.clone()).await?;
        let stage = StageOrder { mounts, ..stage };
        let folder = stage.folder.as_ref().unwrap_or(&place.workspace);
        let powers = machine.powers().await;
        let workspace = (folder.as_path(), place.mount.as_str());
        let mut order =
            Order::of_stage(&machine.settings, powers, &image, labels, workspace, &stage, socket.as_deref());
        // Whoever wanted to know is gone when nobody receives it, and then it is not wanted any more.
        if tell.send(order.made()).is_err() {
            return Ok(None);
        }
        order.joined = joint.join(&machine, &order, makes_namespace).await;
        let joined = order.joined.as_ref().map(|joined| joined.files.clone());
        let container = machine.create(&mut order, &format!("stage {}", stage.name)).await?;
        drop(looks);
        let begun = async {
            if !order.shared {
                return Ok(None);
            }
            if order.network.is_some() {
                connect_further(&machine, &container.id).await?;
            }
            container.begin().await.map(Some)
        };
        match begun.await {
            Ok(Some(line)) => Ok(Some(Standing { container, line, joined })),
            other => {
                removal::container(&machine.engine, &container.id).await?;
                other.map(|_| None)
            }
        }
    }
}
