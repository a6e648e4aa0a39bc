//! Images that could go, to make room: those that buildr pulled itself and that no container has. They are removed by
//! their name and never by force, so an image that somebody gave a name of his own stays.

use std::path::PathBuf;

use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveImageOptionsBuilder};

use super::super::{ExecutorError, Spare};
use super::engine::{self, Engine};
use super::pulled::Pulled;

/// The folder in which the daemon keeps images and containers, where this process can see it.
pub(super) async fn store(engine: &Engine) -> Option<PathBuf> {
    let info = engine.quick.info().await.ok()?;
    // A daemon in a virtual machine or beside this container names a folder of its own world.
    info.docker_root_dir.map(PathBuf::from).filter(|folder| folder.is_dir())
}

/// Removes an image, unless somebody uses it; says whether its name is gone.
pub(super) async fn remove(engine: &Engine, pulled: &Pulled, spare: &Spare) -> Result<bool, ExecutorError> {
    let name = &spare.name;
    let Some((record, _leaving)) = pulled.leave(name) else { return Ok(false) };
    let now = match engine.quick.inspect_image(name).await {
        Ok(found) => found.id,
        Err(error) if engine::is_absent(&error) => None,
        Err(error) => return Err(engine.failed(format!("look for the image {name:?}"), &error)),
    };
    // Removed, or pulled anew, by somebody else.
    if now.as_deref() != Some(&record.id) {
        pulled.forget(name);
        return Ok(false);
    }
    if has_container(engine, &record.id).await? {
        return Ok(false);
    }
    // Parents without a name may be another's work.
    let options = RemoveImageOptionsBuilder::default().force(false).noprune(true).build();
    match engine.long.remove_image(name, Some(options), None).await {
        Ok(_) => {}
        Err(error) if engine::is_absent(&error) => {}
        // A container has it since.
        Err(error) if engine::status(&error) == Some(409) => return Ok(false),
        Err(error) => return Err(engine.failed(format!("remove the image {name:?}"), &error)),
    }
    pulled.forget(name);
    Ok(true)
}

/// Whether a container, running or not and whosever it is, was made from this image.
async fn has_container(engine: &Engine, id: &str) -> Result<bool, ExecutorError> {
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let found = engine.quick.list_containers(Some(options)).await;
    let found = found.map_err(|error| engine.failed("list containers", &error))?;
    Ok(found.into_iter().any(|one| one.image_id.as_deref() == Some(id)))
}
