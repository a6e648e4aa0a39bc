//! A farm of the real programs over RabbitMQ, in a vhost of its own: coordinator, agent, and a server of repositories.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent::home::Home;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use buildr::client::{self, Followed};
use farm::disk::unmount_below;
use farm::farm::Folders;
use farm::rabbit::{Vhost, with_vhost};
use protocol::api::{BuildView, Status, Submit};
use protocol::link::rabbitmq::permissions::{Replies, Role};
use protocol::{AgentId, BuildNumber, RepoUrl};
use tokio::process::{Child, Command};

use crate::raw::ms_since;
use crate::town::Town;

/// How long anything may take before it is an error.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The farm.
pub(crate) struct Rig {
    /// The coordinator's API.
    pub(crate) api: client::Farm,
    /// Its host and port.
    pub(crate) address: String,
    /// The token for writing.
    pub(crate) token: String,
    /// Where repositories come from.
    pub(crate) town: Town,
    /// Where its messages go.
    pub(crate) vhost: Vhost,
    /// Where all of it lies.
    pub(crate) folder: PathBuf,
    coordinator: Child,
    agent: Option<Child>,
}

/// What a farm is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parts<'a> {
    /// The agent's slots; no agent without any.
    pub(crate) slots: u32,
    /// Runs scripts within the agent's process, without Docker.
    pub(crate) scripted: bool,
    /// More that the agent is told.
    pub(crate) agent: &'a [&'a str],
    /// A coordinator's folder to begin with.
    pub(crate) state: Option<&'a Path>,
}

/// Does something with a farm, and removes it whatever comes of it.
pub(crate) async fn with_rig<T>(parts: Parts<'_>, work: impl AsyncFnOnce(&Rig) -> Result<T>) -> Result<T> {
    let result = Mutex::new(None);
    with_vhost(async |vhost| {
        let done = in_vhost(vhost, parts, work).await;
        if let Ok(mut result) = result.lock() {
            *result = Some(done);
        }
    })
    .await;
    result.into_inner().ok().flatten().unwrap_or_else(|| Err(anyhow!("there is no RabbitMQ with its management")))
}

/// What a farm leaves when this program is told to end in the midst of it: its vhost, and the label of its containers.
static LEFT: Mutex<Option<(Vhost, Option<String>)>> = Mutex::new(None);

fn leaves(what: Option<(Vhost, Option<String>)>) {
    *LEFT.lock().unwrap_or_else(PoisonError::into_inner) = what;
}

/// Removes what a farm left whose work was dropped; its processes and folders went with that.
pub(crate) async fn clean() {
    let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((vhost, label)) = left else { return };
    if let Some(label) = label {
        farm::docker::remove_all_of(None, &label).await;
    }
    vhost.remove().await;
}

/// Where all of a farm lies.
struct Ground(tempfile::TempDir);

impl Drop for Ground {
    fn drop(&mut self) {
        // An agent that was killed unmounts nothing, and what is mounted cannot be removed.
        unmount_below(self.0.path());
    }
}

async fn in_vhost<T>(vhost: Vhost, parts: Parts<'_>, work: impl AsyncFnOnce(&Rig) -> Result<T>) -> Result<T> {
    let folder = Ground(tempfile::tempdir()?);
    let place = folder.0.path();
    let name: AgentId = "bench".parse()?;
    let folders = Folders::at(place.join("agent"));
    let label = Home::open(&folders.state(), Some(name.clone())).context("an agent's folder")?.label();
    leaves(Some((vhost.clone(), Some(label.clone()).filter(|_| !parts.scripted))));
    let begun = Rig::begin(vhost, place, parts, &name, &folders).await;
    let done = match begun {
        Ok(mut rig) => {
            let done = work(&rig).await;
            rig.stop().await;
            done.with_context(|| rig.last_words())
        }
        Err(error) => Err(error),
    };
    if !parts.scripted && parts.slots > 0 {
        farm::docker::remove_all_of(None, &label).await;
    }
    leaves(None);
    done
}

impl Rig {
    async fn begin(vhost: Vhost, folder: &Path, parts: Parts<'_>, name: &AgentId, folders: &Folders) -> Result<Self> {
        let state = parts.state.map_or_else(|| folder.join("coordinator"), Path::to_owned);
        let uri = vhost.uri_of(Role::Coordinator).await;
        let mut arguments = vec!["--state-dir".to_owned(), state.display().to_string(), "--amqp".to_owned(), uri];
        arguments.extend(["--listen", "127.0.0.1:0", "--open-enrolment", "--local-repos"].map(str::to_owned));
        let coordinator = spawn(&beside("buildr-coordinator")?, &arguments, folder, "coordinator")?;
        let address = until("the coordinator's address", async || {
            let said = said(folder, "coordinator");
            let line = said.lines().rfind(|line| line.contains("http://"))?.to_owned();
            Some(line.split("http://").nth(1)?.split([',', ';']).next()?.to_owned())
        })
        .await?;
        let token = coordinator::api_token(&state)?;
        let api = client::Farm::new(format!("http://{address}").parse()?, Some(token.clone()))?;
        let town = Town::open(folder.join("repositories")).await?;
        until("the coordinator's answer", async || api.agents().await.ok()).await?;
        let mut rig = Self { api, address, token, town, vhost, folder: folder.to_owned(), coordinator, agent: None };
        if parts.slots > 0 {
            rig.agent = Some(rig.start_agent(parts, name, folders).await?);
            until("the agent", async || {
                let agents = rig.api.agents().await.ok()?;
                agents.into_iter().find(|agent| agent.enrolled && agent.seen_ms_ago.is_some())
            })
            .await?;
        }
        Ok(rig)
    }

    async fn start_agent(&self, parts: Parts<'_>, name: &AgentId, folders: &Folders) -> Result<Child> {
        let uri = self.vhost.uri_of(Role::Agent(name, Replies::FromCoordinator)).await;
        let (state, work) = (folders.state().display().to_string(), folders.work().display().to_string());
        let slots = parts.slots.to_string();
        let mut arguments = vec!["--amqp", &uri, "--name", name.as_str(), "--state-dir", &state];
        arguments.extend(["--slots", &slots]);
        let program = if parts.scripted {
            arguments.insert(0, "scripted-agent");
            arguments.extend(["--work-dir", &work]);
            std::env::current_exe()?
        } else {
            arguments.extend(["--work-dir", &work, "--local-repos", "--standalone", "never"]);
            arguments.extend(parts.agent);
            beside("buildr-agent")?
        };
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        spawn(&program, &arguments, &self.folder, "agent")
    }

    /// The coordinator's process.
    pub(crate) fn coordinator(&self) -> Result<u32> {
        self.coordinator.id().context("the coordinator has ended")
    }

    /// The agent's process.
    pub(crate) fn agent(&self) -> Result<u32> {
        self.agent.as_ref().and_then(Child::id).context("the agent has ended")
    }

    /// Asks for a build of a repository's `main`.
    pub(crate) async fn submit(&self, repo: &RepoUrl) -> Result<BuildNumber> {
        let order = Submit::new(repo.clone(), Some("main".parse()?));
        Ok(self.api.submit(&order).await?.build.number)
    }

    /// Follows a build until it is over; it must have passed.
    pub(crate) async fn passes(&self, number: BuildNumber) -> Result<BuildView> {
        let mut following = self.api.follow(number);
        let over = async {
            while let Some(followed) = following.next().await? {
                if let Followed::Build(view) = followed
                    && view.build.status.is_over()
                {
                    return Ok(*view);
                }
            }
            bail!("build {number} cannot be followed to its end")
        };
        let view = tokio::time::timeout(PATIENCE, over).await.context("a build does not end")??;
        ensure!(
            view.build.status == Status::Passed,
            "build {number}: {:?}: {:?}",
            view.build.status,
            view.build.message
        );
        Ok(view)
    }

    /// From the request for a build until its result is recorded and told to a follower, in milliseconds.
    pub(crate) async fn timed(&self, repo: &RepoUrl) -> Result<f64> {
        self.timed_build(repo).await.map(|(took, _)| took)
    }

    /// The same, with the build's number.
    pub(crate) async fn timed_build(&self, repo: &RepoUrl) -> Result<(f64, BuildNumber)> {
        let began = Instant::now();
        let number = self.submit(repo).await?;
        self.passes(number).await?;
        Ok((ms_since(began), number))
    }

    async fn stop(&mut self) {
        for child in self.agent.iter_mut().chain([&mut self.coordinator]) {
            let Some(id) = child.id() else { continue };
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await.ok();
            if tokio::time::timeout(Duration::from_secs(30), child.wait()).await.is_err() {
                child.kill().await.ok();
            }
        }
    }

    /// What the programs said last, for somebody who has to find out.
    fn last_words(&self) -> String {
        let last = |who: &str| {
            let said = said(&self.folder, who);
            let from = said.lines().count().saturating_sub(5);
            said.lines().skip(from).map(|line| format!("\n  {who}: {line}")).collect::<String>()
        };
        format!("with a farm that said last:{}{}", last("coordinator"), last("agent"))
    }
}

/// Waits for what no feed tells of.
pub(crate) async fn until<T>(what: &str, found: impl AsyncFn() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = found().await {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("waited for {what} in vain")
}

fn said(folder: &Path, who: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{who}.log"))).unwrap_or_default()
}

fn spawn(program: &Path, arguments: &[String], folder: &Path, who: &str) -> Result<Child> {
    let log = std::fs::File::create(folder.join(format!("{who}.log")))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    // Settings of the one who runs this are none of the farm's, nor is the room on their disk.
    command.current_dir(folder).env("XDG_CONFIG_HOME", folder).env("BUILDR_AGENT_DISK_WATERMARK", "0");
    command.spawn().with_context(|| format!("{} cannot be started", program.display()))
}

/// A program of this workspace: in the folder that `BUILDR_BENCH_PROGRAMS` names, or one above this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let named = std::env::var_os("BUILDR_BENCH_PROGRAMS").map(PathBuf::from);
    let folders = named.iter().map(PathBuf::as_path).chain(here.ancestors().skip(1).take(2));
    let place = folders.map(|folder| folder.join(name)).find(|place| place.exists());
    place.with_context(|| format!("{name} is missing: run scripts/bench"))
}

/// A figure of a process's memory in MB, by its name in /proc: `VmRSS`, or `VmHWM` since [`forget_peak`].
pub(crate) fn memory(process: u32, figure: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')).context("a figure")?;
    let kib: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(kib / 1000.0 * 1.024)
}

/// Has the kernel count the peak of a process's memory from now on.
pub(crate) fn forget_peak(process: u32) -> Result<()> {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").context("the peak of a process's memory")
}
