//! What is kept of a stage that failed, for a person to look into: its container as an image, and how it was run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{ResizeContainerTTYOptionsBuilder, WaitContainerOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use protocol::{StageEnd, StageName, Variable};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use super::super::{ExecutorError, KeepContainers, MountOrder, Output, StageOrder};
use super::carried;
use super::commit::{self, Commit};
use super::container::{Container, Line};
use super::image::Image;
use super::labels;
use super::machine::Machine;
use super::order;
use super::removal;
use super::sandbox::{DockerSandbox, lock};

/// How long such an image is kept.
const KEPT_FOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The repository of what is kept.
const REPOSITORY: &str = "buildr-kept";

/// The shell that a person gets: the first of these that the image has.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash -i; exec sh -i";

/// What is kept of a stage that failed.
#[derive(Debug, Clone)]
pub struct KeptStage {
    /// The job that it was of.
    pub job: String,
    /// Its name.
    pub stage: StageName,
    /// Its container as it was at its end, as an image of this name. It goes after three days.
    pub image: String,
    /// The folder of this machine that was its workspace. A shell needs it to be there still.
    pub folder: PathBuf,
    /// Where it saw that.
    pub mount: String,
    mounts: Vec<MountOrder>,
    environment: Vec<Variable>,
    user: Option<String>,
    /// Where its script began, as the container sees it.
    began_in: String,
}

/// A person's terminal.
pub struct ShellTerminal {
    /// What is typed. The terminal is raw: the container's own makes lines of it.
    pub input: Box<dyn AsyncRead + Send + Unpin>,
    /// What is shown.
    pub output: Box<dyn AsyncWrite + Send + Unpin>,
    /// How many columns and rows it has, now and later.
    pub size: watch::Receiver<(u16, u16)>,
}

impl DockerSandbox {
    /// Keeps a stage's container when it failed and that is wanted.
    pub(super) async fn keep(
        &self,
        container: &str,
        stage: &StageOrder,
        image: &Image,
        end: &StageEnd,
        output: &Output,
    ) -> Result<(), ExecutorError> {
        if self.order.keep == KeepContainers::Nothing || end.passed() || *end == StageEnd::Cancelled {
            return Ok(());
        }
        let tag = uuid::Uuid::new_v4().simple().to_string();
        let (engine, powers) = (&self.machine.engine, self.machine.powers().await);
        let doing = format!("keep the container of stage {}", stage.name);
        let labels = labels::of_kept_for(KEPT_FOR, &self.labels.owner);
        let commit = Commit { container, name: REPOSITORY, tag: &tag, base: &image.config, labels, doing: &doing };
        commit.make(engine, powers).await?;
        let mount = self.order.mount.clone();
        let began_in = match stage.dir.as_deref() {
            Some(dir) if dir.starts_with('/') => dir.to_owned(),
            Some(dir) => format!("{mount}/{dir}"),
            None => mount.clone(),
        };
        let kept = KeptStage {
            job: self.order.job.clone(),
            stage: stage.name.clone(),
            image: format!("{}:{tag}", commit::repository(REPOSITORY, powers)),
            folder: stage.folder.clone().unwrap_or_else(|| self.order.workspace.clone()),
            mount,
            mounts: stage.mounts.clone(),
            environment: stage.environment.clone(),
            user: image.user.clone(),
            began_in,
        };
        let line = format!("buildr: the container of {} is kept as the image {}\n", stage.name, kept.image);
        let _ = output.send(Bytes::from(line)).await;
        lock(&self.machine.kept).push(kept);
        Ok(())
    }
}

/// Gives a person a shell in the state of a stage that failed: its container's files, its mounts that are still there,
/// its environment. Returns the shell's exit code.
pub(super) async fn shell(machine: &Machine, kept: &KeptStage, terminal: ShellTerminal) -> Result<i64, ExecutorError> {
    let engine = &machine.engine;
    let mut mounts = vec![MountOrder { source: kept.folder.clone(), target: kept.mount.clone(), read_only: false }];
    mounts.extend(kept.mounts.iter().cloned());
    mounts.retain(|mount| mount.source.exists());
    let shared = machine.is_shared(&kept.folder) != Some(false);
    let labels = machine.labels().of_stage("shell");
    let body = body(machine, kept, &mounts, shared, labels).await;
    let title = format!("the shell in stage {}", kept.stage);
    let container = Container::create(engine, title, &kept.image, None, body).await?;
    let ended = async {
        if !shared {
            carried::bring(&container, &mounts).await?;
        }
        let code = connected(&container, terminal).await?;
        if !shared {
            carried::fetch(engine, &container.id, &mounts).await?;
        }
        Ok(code)
    };
    let ended = ended.await;
    removal::container(engine, &container.id).await?;
    ended
}

async fn body(
    machine: &Machine,
    kept: &KeptStage,
    mounts: &[MountOrder],
    shared: bool,
    labels: HashMap<String, String>,
) -> ContainerCreateBody {
    let environment = kept.environment.iter().map(|variable| format!("{}={}", variable.name, variable.value));
    let mounts = match shared {
        true => mounts.iter().map(|mount| order::bind(&mount.source, &mount.target, mount.read_only)).collect(),
        false => carried::folders(mounts)
            .into_iter()
            .map(|(target, of_image)| order::volume(target, of_image, &labels))
            .collect(),
    };
    let resources = protocol::plan::Resources::default();
    ContainerCreateBody {
        image: Some(kept.image.clone()),
        entrypoint: Some(["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec()),
        cmd: Some(Vec::new()),
        user: kept.user.clone(),
        env: Some(environment.chain(["TERM=xterm-256color".to_owned()]).collect()),
        working_dir: Some(kept.began_in.clone()),
        labels: Some(labels),
        tty: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            init: Some(true),
            network_mode: machine.settings.network.clone(),
            mounts: Some(mounts),
            ..order::bounded(&machine.settings, machine.powers().await, resources, false)
        }),
        ..ContainerCreateBody::default()
    }
}

/// Connects a container with a terminal, until it ends.
async fn connected(container: &Container, mut terminal: ShellTerminal) -> Result<i64, ExecutorError> {
    let engine = &container.engine;
    let Line { output: mut shown, mut input } = container.attach(true).await?;
    container.start().await?;
    let sizes = async {
        loop {
            let (columns, rows) = *terminal.size.borrow_and_update();
            let size = ResizeContainerTTYOptionsBuilder::default().w(columns.into()).h(rows.into()).build();
            let _ = engine.quick.resize_container_tty(&container.id, size).await;
            if terminal.size.changed().await.is_err() {
                return std::future::pending::<()>().await;
            }
        }
    };
    let typed = async {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = terminal.input.read(&mut bytes).await {
            if input.write_all(&bytes[..length]).await.is_err() || input.flush().await.is_err() {
                break;
            }
        }
        // Who types nothing any more still sees what is shown.
        std::future::pending::<()>().await;
    };
    let showing = async {
        while let Some(Ok(chunk)) = shown.next().await {
            let written = terminal.output.write_all(&chunk.into_bytes()).await;
            if written.is_err() || terminal.output.flush().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = sizes => {}
        () = typed => {}
        () = showing => {}
    }
    let waited = engine.long.wait_container(&container.id, None::<WaitContainerOptions>).next().await;
    Ok(match waited {
        Some(Ok(ended)) => ended.status_code,
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
        _ => 0,
    })
}
