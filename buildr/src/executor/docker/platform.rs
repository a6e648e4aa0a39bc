//! Whether this daemon runs containers of another platform than its own: by emulation, where somebody set that up.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::WaitContainerOptions;
use futures_util::StreamExt as _;
use protocol::plan;
use tokio::time::timeout;

use super::super::{ExecutorError, Output, Stop, Suits};
use super::container::{Container, PATIENCE};
use super::image::{self, Image};
use super::machine::Machine;
use super::removal;

/// With what the container ends that is started to see whether it does: with nothing that a shell or a daemon would say
/// by itself.
const STARTED: i64 = 42;

/// Whether containers of an image run here, on the platform that it names.
pub(super) async fn suits(
    machine: &Machine,
    wanted: &plan::Image,
    output: &Output,
    stop: &Stop,
) -> Result<Suits, ExecutorError> {
    let Some(platform) = &wanted.platform else { return Ok(Suits::Own) };
    let own = machine.platform();
    if own.as_deref().is_some_and(|own| is_own_platform(platform, own)) {
        return Ok(Suits::Own);
    }
    let Machine { engine, settings, pulled, .. } = machine;
    let Some(image) = image::obtain(engine, wanted, settings, pulled, output, stop).await? else {
        return Ok(Suits::Foreign);
    };
    let mut known = machine.starts.lock().await;
    let starts = match known.get(platform) {
        Some(starts) => *starts,
        None => starts(machine, &image).await?,
    };
    known.insert(platform.clone(), starts);
    if starts {
        return Ok(Suits::Foreign);
    }
    let own = own.map_or_else(String::new, |own| format!(", which is {own}"));
    Ok(Suits::Not(format!(
        "Docker on this machine{own}, runs no programs of {platform}; an emulator makes it do so (on Debian and Ubuntu \
         the package qemu-user-static; elsewhere docker run --privileged --rm tonistiigi/binfmt --install all)"
    )))
}

/// Whether what is for `platform`, such as `linux/arm64/v8`, is for a machine of `own` too, of whatever variant.
#[must_use]
pub fn is_own_platform(platform: &str, own: &str) -> bool {
    let system_and_processor = |text: &str| text.splitn(3, '/').take(2).map(str::to_lowercase).collect::<Vec<_>>();
    system_and_processor(platform) == system_and_processor(own)
}

/// Starts a container, looks whether its shell comes so far as to end, and removes it.
async fn starts(machine: &Machine, image: &Image) -> Result<bool, ExecutorError> {
    let engine = &machine.engine;
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(["/bin/sh", "-c"].map(str::to_owned).to_vec()),
        cmd: Some(vec![format!("exit {STARTED}")]),
        labels: Some(machine.labels().of_stage("platform")),
        network_disabled: Some(true),
        ..ContainerCreateBody::default()
    };
    let title = "a look whether its platform runs here".to_owned();
    let container = Container::create(engine, title, &image.name, image.platform.as_deref(), body).await?;
    let ended = match container.start().await {
        Ok(()) => {
            let mut waiting = engine.long.wait_container(&container.id, None::<WaitContainerOptions>);
            let _ = timeout(PATIENCE, waiting.next()).await;
            container.state().await.and_then(|state| state.exit_code)
        }
        // The stage itself says it better.
        Err(ExecutorError::NoShell { .. }) => Some(STARTED),
        // Some daemons refuse to start what others start and see fail.
        Err(ExecutorError::Daemon { .. }) => None,
        Err(error) => {
            removal::container(engine, &container.id).await?;
            return Err(error);
        }
    };
    removal::container(engine, &container.id).await?;
    Ok(ended == Some(STARTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_a_machines_own_whatever_its_variant() {
        for (platform, own, expect) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("Linux/AMD64", "linux/amd64", true),
            ("linux/arm64", "linux/amd64", false),
            ("linux/arm/v7", "linux/arm64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(is_own_platform(platform, own), expect, "{platform} {own}");
        }
    }
}
