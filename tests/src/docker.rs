//! A real Docker daemon, and an owner of its own for one test, of whom nothing is left afterwards.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::Path;

use async_trait::async_trait;
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder,
};
use buildr::executor::docker::{DockerExecutor, DockerSettings, OutlivingImage};
use buildr::executor::{Executor, ExecutorError};
use uuid::Uuid;

use crate::contract::executor::{Do, ExecutorRig};
use crate::farm::until;
use crate::rabbit::setting;

/// The image that tests run in, unless `BUILDR_TEST_IMAGE` names another.
const IMAGE: &str = "debian:bookworm-slim";

/// A daemon, an owner and a workspace for one test.
#[derive(Debug)]
pub struct DockerRig {
    executor: DockerExecutor,
    settings: DockerSettings,
    folder: tempfile::TempDir,
    /// The daemon, to look behind the executor's back.
    pub docker: Docker,
}

/// Runs a test against the daemon, or another that `change` names, and removes whatever it leaves, also when it fails.
///
/// # Panics
/// When the daemon is required (`BUILDR_TEST_REQUIRE`) and does not answer, or the test does.
pub async fn with_docker<F: Future<Output = ()> + Send + 'static>(
    change: impl FnOnce(&mut DockerSettings),
    test: impl FnOnce(std::sync::Arc<DockerRig>) -> F + Send + 'static,
) {
    let mut settings = DockerSettings::new(format!("test-{}", Uuid::new_v4().simple()), "this-life");
    settings.network = Some("none".to_owned());
    settings.grace = std::time::Duration::from_secs(2);
    change(&mut settings);
    let rig = match DockerRig::make(settings).await {
        Ok(rig) => std::sync::Arc::new(rig),
        Err(reason) => {
            let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "docker");
            assert!(!required, "Docker is required and not there: {reason}");
            eprintln!("skipped: no Docker daemon ({reason})");
            return;
        }
    };
    let outcome = protocol::task::spawn("test", test(rig.clone())).await;
    let after = rig.another_life().await;
    after.sweep().await.expect("what a test leaves is removed");
    remove_kept_by(&after, &rig.settings.owner).await;
    let left = rig.left().await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
    assert_eq!(left, 0, "something stayed after the sweep");
}

/// The image that tests run in.
#[must_use]
pub fn image() -> String {
    setting("BUILDR_TEST_IMAGE", IMAGE)
}

/// Whether there is a daemon; a test that has none says that it is skipped.
///
/// # Panics
/// When a daemon is required (`BUILDR_TEST_REQUIRE`) and does not answer.
pub async fn is_there() -> bool {
    let Err(reason) = anybody().await else { return true };
    let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "docker");
    assert!(!required, "Docker is required and not there: {reason}");
    eprintln!("skipped: no Docker daemon ({reason})");
    false
}

/// How a life of `owner` finds the daemon.
pub(crate) fn settings(owner: &str, boot: &str) -> DockerSettings {
    let mut settings = DockerSettings::new(owner, boot);
    settings.host = Some(setting("DOCKER_HOST", "")).filter(|host| !host.is_empty());
    settings
}

/// All that bears an owner's label: containers, images, volumes, networks. `host` is a daemon's address where it is
/// not the tests' own.
///
/// # Panics
/// When the daemon does not answer.
pub async fn left_of(host: Option<&str>, owner: &str) -> Vec<String> {
    let docker = match host {
        Some(host) => Docker::connect_with_host(host),
        None => Docker::connect_with_defaults(),
    };
    let docker = docker.expect("the daemon's address");
    let filter = HashMap::from([("label".to_owned(), vec![format!("buildr.agent={owner}")])]);
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
    let images = ListImagesOptionsBuilder::default().filters(&filter).build();
    let networks = ListNetworksOptionsBuilder::default().filters(&filter).build();
    let volumes = ListVolumesOptionsBuilder::default().filters(&filter).build();
    let containers = docker.list_containers(Some(containers)).await.expect("the daemon answers");
    let images = docker.list_images(Some(images)).await.expect("the daemon answers");
    let networks = docker.list_networks(Some(networks)).await.expect("the daemon answers");
    let volumes = docker.list_volumes(Some(volumes)).await.expect("the daemon answers").volumes;
    let containers = containers.into_iter().map(|found| {
        let stage = found.labels.and_then(|mut labels| labels.remove("buildr.stage")).unwrap_or_default();
        format!("container {:?} of {stage}", found.names)
    });
    let images = images.into_iter().map(|found| format!("image {}", found.id));
    let networks = networks.into_iter().map(|found| format!("network {:?}", found.name));
    let volumes = volumes.unwrap_or_default().into_iter().map(|found| format!("volume {}", found.name));
    containers.chain(images).chain(networks).chain(volumes).collect()
}

/// What a killed life of an owner had asked the daemon for, and the daemon made after its death.
///
/// # Panics
/// When the daemon refuses.
pub async fn made_after_death_of(owner: &str) {
    let labels = [("buildr.agent", owner), ("buildr.boot", "a life that was killed"), ("buildr.sandbox", "its place")];
    let body = ContainerCreateBody {
        image: Some(image()),
        labels: Some(labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()),
        ..ContainerCreateBody::default()
    };
    let docker = Docker::connect_with_defaults().expect("the daemon answers");
    docker.create_container(None::<CreateContainerOptions>, body).await.expect("the daemon answers");
}

/// Removes all that bears an owner's label and can be swept.
///
/// # Panics
/// When the daemon does not answer.
pub async fn remove_all_of(host: Option<&str>, owner: &str) {
    let mut settings = settings(owner, "a-test-that-cleans-up");
    settings.host = host.map(str::to_owned).or(settings.host);
    let executor = DockerExecutor::connect(settings).await.expect("the daemon answers");
    executor.sweep().await.expect("what a test leaves is removed");
    remove_kept_by(&executor, owner).await;
}

/// Removes the images that an owner keeps for builds to come. Nobody else's builds are of the same files.
///
/// # Panics
/// When the daemon does not answer, or somebody uses one of them for long.
async fn remove_kept_by(executor: &DockerExecutor, owner: &str) {
    let is_kept = |image: &OutlivingImage| image.keeper.as_deref() == Some(owner);
    // Another test may have a container of any image at hand for a moment.
    until("the images that a test has kept to be free", async || {
        remove_outliving(executor, is_kept).await.then_some(())
    })
    .await;
}

/// Removes some of the images that outlive their builds; says whether all of those are gone.
async fn remove_outliving(executor: &DockerExecutor, which: impl Fn(&OutlivingImage) -> bool) -> bool {
    let mut are_gone = true;
    for image in executor.outliving().await.expect("the daemon answers").iter().filter(|image| which(image)) {
        are_gone &= executor.remove_outliving(image).await;
    }
    are_gone
}

/// The names of all images that outlive their builds, whoever keeps them; none where there is no daemon.
///
/// # Panics
/// When there is one and it refuses.
pub async fn outliving() -> HashSet<String> {
    let Ok(executor) = anybody().await else { return HashSet::new() };
    executor.outliving().await.expect("the daemon answers").into_iter().map(|image| image.name).collect()
}

/// Removes those that were not there before, for tests whose builds share what one of them has prepared. One that
/// somebody uses stays.
///
/// # Panics
/// When the daemon refuses.
pub async fn remove_outliving_but(before: &HashSet<String>) {
    let Ok(executor) = anybody().await else { return };
    remove_outliving(&executor, |image| !before.contains(&image.name)).await;
}

/// The daemon as somebody sees it who makes nothing there.
async fn anybody() -> Result<DockerExecutor, ExecutorError> {
    DockerExecutor::connect(settings("nobody", "nowhere")).await
}

impl DockerRig {
    async fn make(mut settings: DockerSettings) -> Result<Self, String> {
        let own = settings.host.clone();
        settings.host = own.clone().or_else(|| Some(setting("DOCKER_HOST", "")).filter(|host| !host.is_empty()));
        let executor = DockerExecutor::connect(settings.clone()).await.map_err(|error| error.to_string())?;
        let docker = match own {
            Some(host) if host.starts_with("unix:") => Docker::connect_with_host(&host),
            _ => Docker::connect_with_defaults(),
        };
        let docker = docker.map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        std::fs::create_dir(folder.path().join("workspace")).map_err(|error| error.to_string())?;
        Ok(Self { executor, settings, folder, docker })
    }

    /// The same owner after a restart.
    ///
    /// # Panics
    /// When the daemon does not answer.
    pub async fn another_life(&self) -> DockerExecutor {
        let settings = DockerSettings { boot: "another-life".to_owned(), ..self.settings.clone() };
        DockerExecutor::connect(settings).await.expect("the daemon answers")
    }

    /// The executor itself.
    #[must_use]
    pub fn docker_executor(&self) -> &DockerExecutor {
        &self.executor
    }

    /// Finds what this test's owner made.
    #[must_use]
    pub fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("buildr.agent={}", self.settings.owner)])])
    }

    /// How many containers of this test's owner there are.
    ///
    /// # Panics
    /// When the daemon does not answer.
    pub async fn containers(&self) -> usize {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&self.filter()).build();
        self.docker.list_containers(Some(options)).await.expect("the daemon answers").len()
    }
}

#[async_trait]
impl ExecutorRig for DockerRig {
    fn executor(&self) -> &dyn Executor {
        &self.executor
    }

    fn workspace(&self) -> std::path::PathBuf {
        self.folder.path().join("workspace")
    }

    fn image(&self) -> String {
        image()
    }

    fn say(&self, command: &Do) -> String {
        match command {
            Do::Print(text) => format!("echo {text}"),
            // The last byte is a newline, so that what follows begins a line.
            Do::Bytes(count) => format!("head -c {} /dev/zero | tr '\\0' .; echo", count - 1),
            Do::Env(name) => format!("printf '%s\\n' \"${name}\""),
            Do::Exit(code) => format!("exit {code}"),
            Do::Hang => "sleep 1000".to_owned(),
            Do::IgnoreTerm => "trap '' TERM".to_owned(),
            Do::Write(path) => format!("echo x >{path}"),
            Do::Expect(path) => format!("test -f {path}"),
            Do::Await(path) => format!("until test -f {path}; do sleep 0.1; done"),
        }
    }

    async fn left(&self) -> usize {
        let filter = self.filter();
        let images = ListImagesOptionsBuilder::default().filters(&filter).build();
        let networks = ListNetworksOptionsBuilder::default().filters(&filter).build();
        let volumes = ListVolumesOptionsBuilder::default().filters(&filter).build();
        let images = self.docker.list_images(Some(images)).await.expect("the daemon answers").len();
        let networks = self.docker.list_networks(Some(networks)).await.expect("the daemon answers").len();
        let volumes = self.docker.list_volumes(Some(volumes)).await.expect("the daemon answers").volumes;
        let folders = std::fs::read_dir(self.folder.path()).map_or(0, |entries| entries.flatten().count());
        // The workspace itself is the test's own.
        let beside = folders - usize::from(Path::new(&self.workspace()).exists());
        self.containers().await + images + networks + volumes.unwrap_or_default().len() + beside
    }
}
