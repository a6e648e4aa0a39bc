//! Removing what was made, and looking whether it is gone.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ImageSummary, Network, Volume};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::super::{ExecutorError, Swept};
use super::engine::{self, Engine};
use super::labels;

/// How often a removal is tried: the daemon may be busy with the same thing, or still starting it.
const TRIES: u32 = 5;

/// How long whoever is about to end may take for it.
const ABOUT_TO_END: Duration = Duration::from_secs(2);

/// How long to wait before the second try; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Removes a container by force, with its volumes. One that is gone already is fine.
pub(super) async fn container(engine: &Engine, id: &str) -> Result<(), ExecutorError> {
    let mut wait = FIRST_WAIT;
    for left in (0..TRIES).rev() {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match engine.long.remove_container(id, Some(options)).await {
            Ok(()) => return Ok(()),
            Err(error) if engine::is_absent(&error) => return Ok(()),
            Err(error) if left == 0 => return Err(engine.failed(format!("remove the container {id}"), &error)),
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait *= 2;
    }
    Ok(())
}

/// Removes a container in the background of a place, whose closing finds what stays.
pub(super) async fn in_background(engine: &Engine, container: &str) {
    if let Err(error) = self::container(engine, container).await {
        tracing::warn!(%error, "a container is left to the closing of its job's place");
    }
}

/// The same of one that is about to end by itself, or has: it is let do so, which is less work for the daemon than to be
/// told to end it.
pub(super) async fn ended_in_background(engine: &Engine, container: &str) {
    let mut end = engine.long.wait_container(container, None::<WaitContainerOptions>);
    // However it ended, and also when it did not: then it is ended now.
    let _ = timeout(ABOUT_TO_END, end.next()).await;
    in_background(engine, container).await;
}

/// Removes an image by force. One that is gone already is fine.
pub(super) async fn image(engine: &Engine, id: &str) -> Result<(), ExecutorError> {
    let mut wait = FIRST_WAIT;
    for left in (0..TRIES).rev() {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        match engine.long.remove_image(id, Some(options), None).await {
            Ok(_) => return Ok(()),
            Err(error) if engine::is_absent(&error) => return Ok(()),
            Err(error) if left == 0 => return Err(engine.failed(format!("remove the image {id}"), &error)),
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait *= 2;
    }
    Ok(())
}

/// Removes a network. One that is gone already is fine.
pub(super) async fn network(engine: &Engine, id: &str) -> Result<(), ExecutorError> {
    let mut wait = FIRST_WAIT;
    for left in (0..TRIES).rev() {
        match engine.quick.remove_network(id).await {
            Ok(()) => return Ok(()),
            Err(error) if engine::is_absent(&error) => return Ok(()),
            Err(error) if left == 0 => return Err(engine.failed(format!("remove the network {id}"), &error)),
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait *= 2;
    }
    Ok(())
}

/// Removes everything that the filter finds, until nothing is found. Images are looked for only where some may be: the
/// daemon reads the settings of all that it has for that.
pub(super) async fn all(
    engine: &Engine,
    filter: &HashMap<String, Vec<String>>,
    may_have_images: bool,
) -> Result<(), ExecutorError> {
    let images = async || if may_have_images { images(engine, filter).await } else { Ok(Found::new()) };
    for _ in 0..TRIES {
        let found = tokio::join!(containers(engine, filter), images(), others(engine, filter));
        let (containers, images, others) = (found.0?, found.1?, found.2?);
        for (id, _) in &containers {
            container(engine, id).await?;
        }
        for (id, _) in &images {
            image(engine, id).await?;
        }
        if others.remove(engine, |_| true).await == 0 && containers.is_empty() && images.is_empty() {
            return Ok(());
        }
    }
    let reason = "it is still there after it has been removed; the next sweep tries again".to_owned();
    Err(ExecutorError::Daemon { doing: "remove what the job made".to_owned(), reason })
}

/// Removes everything that this owner made and nobody uses any more.
pub(super) async fn sweep(
    engine: &Engine,
    owner: &str,
    boot: &str,
    is_live: impl Fn(&str) -> bool,
) -> Result<Swept, ExecutorError> {
    let is_left = |labels: &HashMap<String, String>| labels::is_left(labels, boot, &is_live);
    let filter = labels::of_owner(owner);
    let mut swept = Swept::default();
    for (id, labels) in containers(engine, &filter).await? {
        if is_left(&labels) {
            container(engine, &id).await?;
            swept.containers += 1;
        }
    }
    for (id, labels) in images(engine, &filter).await? {
        if is_left(&labels) {
            image(engine, &id).await?;
            swept.images += 1;
        }
    }
    swept.others = others(engine, &filter).await?.remove(engine, is_left).await;
    swept.images += expired(engine).await?;
    Ok(swept)
}

/// An image that outlives the build which made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlivingImage {
    /// Its name, `REPOSITORY:TAG`; its id when it has lost that.
    pub name: String,
    /// How many bytes it takes, those that it shares with its base among them.
    pub bytes: u64,
    /// Whose process made it ([`super::DockerSettings`]'s owner), where that is written down.
    pub keeper: Option<String>,
}

/// Those that there are, whoever made them.
pub(super) async fn outliving(engine: &Engine) -> Result<Vec<OutlivingImage>, ExecutorError> {
    let options = ListImagesOptionsBuilder::default().filters(&labels::of_kept()).build();
    let found = engine.quick.list_images(Some(options)).await;
    let found = found.map_err(|error| engine.failed("list the images that are kept", &error))?;
    let image = |image: ImageSummary| OutlivingImage {
        keeper: labels::keeper(&image.labels),
        name: image.repo_tags.first().cloned().unwrap_or(image.id),
        bytes: u64::try_from(image.size).unwrap_or(0),
    };
    Ok(found.into_iter().map(image).collect())
}

/// Removes one that nobody uses.
pub(super) async fn remove_outliving(engine: &Engine, image: &OutlivingImage) -> bool {
    let options = RemoveImageOptionsBuilder::default().build();
    engine.long.remove_image(&image.name, Some(options), None).await.is_ok()
}

/// Removes the images that were kept for a time which is long over, whoever made them; one that is in use stays until it
/// is not. Gives how many.
async fn expired(engine: &Engine) -> Result<usize, ExecutorError> {
    let mut removed = 0;
    for (id, labels) in images(engine, &labels::of_kept()).await? {
        if labels::may_go(&labels) {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            removed += usize::from(engine.long.remove_image(&id, Some(options), None).await.is_ok());
        }
    }
    Ok(removed)
}

/// The images at hand, newest first.
pub(super) async fn images_at_hand(engine: &Engine) -> Result<Vec<String>, ExecutorError> {
    Ok(images(engine, &HashMap::new()).await?.into_iter().map(|(id, _)| id).collect())
}

type Found = Vec<(String, HashMap<String, String>)>;

async fn containers(engine: &Engine, filter: &HashMap<String, Vec<String>>) -> Result<Found, ExecutorError> {
    let options = ListContainersOptionsBuilder::default().all(true).filters(filter).build();
    let found = engine.quick.list_containers(Some(options)).await;
    let found = found.map_err(|error| engine.failed("list containers", &error))?;
    Ok(found.into_iter().filter_map(|one| Some((one.id?, one.labels.unwrap_or_default()))).collect())
}

async fn images(engine: &Engine, filter: &HashMap<String, Vec<String>>) -> Result<Found, ExecutorError> {
    let options = ListImagesOptionsBuilder::default().filters(filter).build();
    let found = engine.quick.list_images(Some(options)).await;
    let found = found.map_err(|error| engine.failed("list images", &error))?;
    Ok(found.into_iter().map(|one| (one.id, one.labels)).collect())
}

/// Networks and volumes.
struct Others {
    networks: Vec<Network>,
    volumes: Vec<Volume>,
}

async fn others(engine: &Engine, filter: &HashMap<String, Vec<String>>) -> Result<Others, ExecutorError> {
    let networks = ListNetworksOptionsBuilder::default().filters(filter).build();
    let volumes = ListVolumesOptionsBuilder::default().filters(filter).build();
    let (networks, volumes) =
        tokio::join!(engine.quick.list_networks(Some(networks)), engine.quick.list_volumes(Some(volumes)));
    let networks = networks.map_err(|error| engine.failed("list networks", &error))?;
    let volumes = volumes.map_err(|error| engine.failed("list volumes", &error))?;
    Ok(Others { networks, volumes: volumes.volumes.unwrap_or_default() })
}

impl Others {
    /// Removes those that are left; gives how many. One that is in use is left to the next sweep.
    async fn remove(self, engine: &Engine, is_left: impl Fn(&HashMap<String, String>) -> bool) -> usize {
        let mut removed = 0;
        for one in self.networks {
            let stale = is_left(&one.labels.unwrap_or_default());
            if let Some(id) = one.id.filter(|_| stale) {
                removed += usize::from(network(engine, &id).await.is_ok());
            }
        }
        for volume in self.volumes {
            if is_left(&volume.labels) {
                let options = RemoveVolumeOptionsBuilder::default().force(true).build();
                removed += usize::from(engine.quick.remove_volume(&volume.name, Some(options)).await.is_ok());
            }
        }
        removed
    }
}
