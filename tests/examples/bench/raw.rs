//! The floors: what Docker itself takes, asked by its command and by a thin client of its API.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The label of what is made here; its value is this process.
const LABEL: &str = "buildr.bench";

/// How long the machine is left alone before something is timed, so that nothing is charged with what was before it.
pub(crate) const REST: Duration = Duration::from_millis(300);

/// Milliseconds since a moment.
pub(crate) fn ms_since(moment: Instant) -> f64 {
    moment.elapsed().as_secs_f64() * 1000.0
}

/// One `docker run --rm IMAGE true` on the bridge network, in milliseconds.
pub(crate) async fn docker_run() -> Result<f64> {
    let mut command = Command::new("docker");
    command.args(["run", "--rm", &farm::docker::image(), "true"]).stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status().await.context("the docker command")?;
    let took = ms_since(began);
    ensure!(status.success(), "docker run ended with {status}");
    Ok(took)
}

/// A daemon, asked by a thin client.
#[derive(Clone)]
pub(crate) struct Raw {
    docker: Docker,
}

/// A container that was started ahead and waits for its script.
pub(crate) struct Waiting {
    id: String,
    attached: AttachContainerResults,
}

impl Raw {
    /// The daemon of this machine.
    pub(crate) fn connect() -> Result<Self> {
        Ok(Self { docker: Docker::connect_with_defaults()? })
    }

    /// Whether the daemon was told of a runtime of this name.
    pub(crate) async fn knows_runtime(&self, name: &str) -> Result<bool> {
        Ok(self.docker.info().await?.runtimes.is_some_and(|runtimes| runtimes.contains_key(name)))
    }

    async fn create(&self, network: &str, cmd: &[&str], speaks: bool, folder: Option<&Path>) -> Result<String> {
        let quiet = HostConfigLogConfig { typ: Some("none".to_owned()), config: None };
        let body = ContainerCreateBody {
            image: Some(farm::docker::image()),
            cmd: Some(cmd.iter().map(|&word| word.to_owned()).collect()),
            labels: Some(HashMap::from([(LABEL.to_owned(), std::process::id().to_string())])),
            open_stdin: Some(speaks),
            stdin_once: Some(speaks),
            attach_stdin: Some(speaks),
            host_config: Some(HostConfig {
                network_mode: Some(network.to_owned()),
                binds: folder.map(|folder| vec![format!("{}:/work", folder.display())]),
                log_config: Some(quiet),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        Ok(self.docker.create_container(None::<CreateContainerOptions>, body).await?.id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        Ok(self.docker.start_container(id, None::<StartContainerOptions>).await?)
    }

    async fn attach(&self, id: &str, speaks: bool) -> Result<AttachContainerResults> {
        let options = AttachContainerOptionsBuilder::default().stream(true).stdin(speaks).stdout(true).stderr(true);
        Ok(self.docker.attach_container(id, Some(options.build())).await?)
    }

    async fn wait(&self, id: &str) -> Result<()> {
        match self.docker.wait_container(id, None::<WaitContainerOptions>).next().await {
            Some(Ok(ended)) if ended.status_code == 0 => Ok(()),
            other => bail!("a container did not end well: {other:?}"),
        }
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let forced = RemoveContainerOptionsBuilder::default().force(true).build();
        Ok(self.docker.remove_container(id, Some(forced)).await?)
    }

    /// Create, start, wait, remove of `true`, in milliseconds.
    pub(crate) async fn whole(&self, network: &str) -> Result<f64> {
        let began = Instant::now();
        let id = self.create(network, &["true"], false, None).await?;
        self.start(&id).await?;
        self.wait(&id).await?;
        self.remove(&id).await?;
        Ok(ms_since(began))
    }

    /// The least that a stage of a build is: a container on a network and with a folder, which is told its script and
    /// whose output and end are heard. From the telling to the end, in milliseconds.
    pub(crate) async fn stage(&self, network: &str, folder: &Path, script: &str) -> Result<f64> {
        let waiting = self.ahead(network, Some(folder)).await?;
        self.hand_off(waiting, script).await
    }

    /// Removes what an end in the midst of something left.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let ours = HashMap::from([("label".to_owned(), vec![format!("{LABEL}={}", std::process::id())])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&ours).build();
        for id in self.docker.list_containers(Some(options)).await?.into_iter().filter_map(|found| found.id) {
            self.remove(&id).await?;
        }
        Ok(())
    }

    /// A container that sleeps on the bridge network, for others to join; remove it by [`Raw::end`].
    pub(crate) async fn sleeper(&self) -> Result<String> {
        let id = self.create("bridge", &["sleep", "3600"], false, None).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// Removes a container where it stands.
    pub(crate) async fn end(&self, id: &str) -> Result<()> {
        self.remove(id).await
    }

    /// A container that was made and started ahead, with a shell that waits for its script; with a folder mounted,
    /// where there is one.
    pub(crate) async fn ahead(&self, network: &str, folder: Option<&Path>) -> Result<Waiting> {
        let id = self.create(network, &["sh"], true, folder).await?;
        let attached = self.attach(&id, true).await?;
        self.start(&id).await?;
        Ok(Waiting { id, attached })
    }

    /// From the decision to run a script in it until its end is known, in milliseconds; removes it after that.
    pub(crate) async fn hand_off(&self, waiting: Waiting, script: &str) -> Result<f64> {
        let Waiting { id, attached: AttachContainerResults { mut output, mut input } } = waiting;
        let began = Instant::now();
        input.write_all(format!("{script}\nexit 0\n").as_bytes()).await?;
        input.flush().await?;
        while let Some(printed) = output.next().await {
            printed?;
        }
        self.wait(&id).await?;
        let took = ms_since(began);
        self.remove(&id).await?;
        Ok(took)
    }

    /// Runs a script and gives what it prints to `read`, which is told at once.
    pub(crate) async fn printed(&self, script: &str, mut read: impl FnMut(&[u8])) -> Result<()> {
        let id = self.create("none", &["sh", "-c", script], false, None).await?;
        let AttachContainerResults { mut output, .. } = self.attach(&id, false).await?;
        self.start(&id).await?;
        while let Some(printed) = output.next().await {
            read(&printed?.into_bytes());
        }
        self.wait(&id).await?;
        self.remove(&id).await
    }
}

/// How many times a second something can be done, with so many at once.
pub(crate) async fn rate<F: Future<Output = Result<f64>>>(
    count: u32,
    at_once: usize,
    once: impl Fn() -> F,
) -> Result<f64> {
    let began = Instant::now();
    let mut all = futures_util::stream::iter((0..count).map(|_| once())).buffer_unordered(at_once);
    while let Some(one) = all.next().await {
        one?;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
