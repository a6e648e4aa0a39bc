//! An agent: takes jobs from the line, runs them, and reports.
//!
//! [`run`] is the whole of it: so many slots (`slot`), each of which takes a job, claims it, and hands it to the
//! one runner that `buildr run` uses too. Beside them: who the coordinator is (`presence`), what it says
//! (`listener`), what it has yet to be told (`reporter`, from `spool`), and whether jobs are taken at all
//! (`standing`, `disk`). The modules stand in a line.

pub mod config;
pub mod home;
pub mod spool;
mod voice;
mod claims;
mod jobs;
mod standing;
mod disk;
mod reporter;
mod presence;
mod listener;
mod senders;
mod standalone;
mod ready;
mod slot;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use buildr::carry::cache::CacheStore;
use buildr::executor::{Executor, ExecutorError, Stop};
use buildr::git::Checkouts;
use buildr::process::supervise::Services;
use buildr::runner::{Rooms, Settled, Source, WorkFolder, WorkspaceError};
use protocol::BootId;
use protocol::control::BEACON_EVERY;
use protocol::link::{AgentLink, Delivered, LinkError};
use protocol::report::{Capacity, Report};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use claims::Claims;
use config::Config;
use disk::Keeper;
use home::{Home, HomeError};
use jobs::Jobs;
use listener::{Ears, LogMarks, Pulse};
use presence::Presence;
use reporter::{Reads, Sender};
use senders::Senders;
use spool::Spool;
use standalone::Console;
use standing::Standing;
use voice::Voice;

/// How many pieces of news from the coordinator may wait: they are read at once.
const HEARD_BOUND: usize = 64;

/// How long an agent that stops waits for the coordinator to store what it still has to say. The rest is kept.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The three ways in which an agent is stopped, each stronger than the one before.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take no more jobs; end when those that run are over.
    pub drain: CancellationToken,
    /// Cancel those that run, and clean up.
    pub cancel: CancellationToken,
}

/// Why an agent could not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its folder for what is to be sent cannot be used.
    #[error("failed to use the spool in the state folder: {0}; choose another with --state-dir")]
    Spool(#[source] io::Error),
    /// Its own folder cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its executor does not work.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// Its workspaces cannot be what they are to be.
    #[error(transparent)]
    Work(#[from] WorkspaceError),
    /// One of its tasks ended before it should.
    #[error("the agent's {0} ended by itself; this is a fault in buildr")]
    Fault(&'static str),
}

/// How large the caches that this agent keeps for its builds may become together.
const CACHE_BYTES: u64 = 20 << 30;

/// What a running agent's parts share.
pub(crate) struct Agent {
    config: Config,
    home: Arc<Home>,
    boot: BootId,
    link: Arc<dyn AgentLink>,
    executor: Arc<dyn Executor>,
    checkouts: Checkouts,
    caches: CacheStore,
    work: WorkFolder,
    spool: Spool,
    claims: Claims,
    marks: LogMarks,
    presence: watch::Receiver<Presence>,
    standing: Standing,
    capacity: watch::Sender<Option<Capacity>>,
    /// Has the disks looked at now.
    look_at_disks: Arc<Notify>,
    jobs: Jobs,
    console: Console,
    heartbeat_every: Arc<watch::Sender<Duration>>,
    senders: Senders,
    shutdown: Shutdown,
}

/// Runs an agent until it is told to stop and its jobs are over.
///
/// # Errors
/// When it cannot begin, or one of its parts fails.
pub async fn run(
    config: Config,
    home: Arc<Home>,
    boot: BootId,
    work: WorkFolder,
    link: Arc<dyn AgentLink>,
    executor: Arc<dyn Executor>,
    shutdown: Shutdown,
) -> Result<(), AgentError> {
    // Without its daemon it is no agent; what could not be removed is tried again.
    executor.sweep().await?;
    let standing = Standing::open(Arc::clone(&home))?;
    let spool = Spool::open(home.spool()).map_err(AgentError::Spool)?;
    let (tell_presence, presence) = watch::channel(Presence::Unknown);
    let agent = Arc::new(Agent {
        checkouts: Checkouts::new(home.mirrors(), config.clone_policy()),
        caches: CacheStore::at(home.path().join("caches"), CACHE_BYTES),
        config,
        link: Arc::new(Voice::new(link, Arc::clone(&home), boot)),
        home,
        boot,
        executor,
        work,
        spool,
        claims: Claims::default(),
        marks: LogMarks::default(),
        presence,
        standing,
        capacity: watch::Sender::new(None),
        look_at_disks: Arc::default(),
        jobs: Jobs::default(),
        console: Console::default(),
        heartbeat_every: Arc::new(watch::Sender::new(BEACON_EVERY)),
        senders: Senders::default(),
        shutdown,
    });
    agent.send_leftovers()?;
    let keeper = agent.keeper();
    keeper.sweep().await;
    agent.settle_workspaces().await?;
    // Before the first job is taken it is known whether there is room for one.
    let lacking = keeper.look(&[]).await;
    let done = CancellationToken::new();
    let mut services = agent.start_services(tell_presence, keeper.keep(lacking, done.clone()), &done);
    let slots: JoinSet<()> = (0..agent.config.slots).map(|_| slot::keep(Arc::clone(&agent))).collect();
    let ended = tokio::select! {
        ended = agent.until_drained(slots) => ended,
        // What it had to say would never be said, and the heartbeats would hold its claim all the same.
        () = agent.senders.fallen() => Err(AgentError::Fault("sender of reports")),
        service = services.ended() => Err(AgentError::Fault(service.name)),
    };
    agent.last_words().await;
    agent.executor.retire().await;
    done.cancel();
    services.finish(LAST_WORDS).await;
    ended
}

impl Agent {
    /// What every job of this agent is run with.
    fn rooms(&self) -> Rooms<'_> {
        Rooms {
            includes: None,
            source: Source::Clone(&self.checkouts),
            executor: self.executor.as_ref(),
            work: &self.work,
            socket: &self.config.socket,
            own_environment: &self.config.environment,
            more_environment: &[],
            secrets: &self.config.secrets,
            times: self.config.times,
            agent: self.home.name().as_str(),
            stage_parallelism: self.config.stage_parallelism(),
            archives: None,
            reports: None,
            caches: Some(&self.caches),
            keep: buildr::executor::KeepContainers::Nothing,
            visitor: None,
            ready: std::sync::Mutex::default(),
        }
    }

    /// Finds out how code comes into workspaces, and says so.
    async fn settle_workspaces(&self) -> Result<(), WorkspaceError> {
        let Settled { way, because } = self.work.settle(self.executor.as_ref(), self.checkouts.folder()).await?;
        match because {
            None => tracing::info!("workspaces are {way}"),
            Some(because) => tracing::info!("workspaces are {way}: {because}"),
        }
        Ok(())
    }

    fn keeper(&self) -> Keeper {
        Keeper {
            mark: self.config.mark,
            mirror_cap: self.config.mirror_cap,
            state: self.home.path().to_owned(),
            spool: self.spool.path().to_owned(),
            work: self.work.clone(),
            checkouts: self.checkouts.clone(),
            executor: Arc::clone(&self.executor),
            standing: self.standing.clone(),
            capacity: self.capacity.clone(),
            look_now: Arc::clone(&self.look_at_disks),
        }
    }

    fn start_services(
        self: &Arc<Self>,
        presence: watch::Sender<Presence>,
        keeper: impl Future<Output = ()> + Send + 'static,
        done: &CancellationToken,
    ) -> Services {
        let (tell, heard) = mpsc::channel(HEARD_BOUND);
        let watch = presence::Watch {
            link: Arc::clone(&self.link),
            home: Arc::clone(&self.home),
            boot: self.boot,
            labels: presence::offered(&self.config.labels),
            slots: self.config.slots,
            join: self.config.join.clone(),
            standalone: self.config.standalone,
            heard,
            presence,
            heartbeat_every: Arc::clone(&self.heartbeat_every),
        };
        let pulse = Pulse {
            link: Arc::clone(&self.link),
            agent: self.home.name().clone(),
            boot: self.boot,
            slots: self.config.slots,
            claims: self.claims.clone(),
            presence: self.presence.clone(),
            standing: self.standing.follow(),
            capacity: self.capacity.subscribe(),
            drain: self.shutdown.drain.clone(),
            every: self.heartbeat_every.subscribe(),
        };
        let ears = Ears {
            link: Arc::clone(&self.link),
            me: self.boot,
            claims: self.claims.clone(),
            marks: self.marks.clone(),
            standing: self.standing.clone(),
            heard: tell,
        };
        let mut services = Services::default();
        services.start("watch on the coordinator", well(watch.keep(done.clone())));
        services.start("pulse", well(pulse.keep(done.clone())));
        services.start("listener", well(done.clone().run_until_cancelled_owned(ears.listen())));
        services.start("keeper of room", well(keeper));
        services.start("teller", well(self.jobs.clone().tell_drain(self.shutdown.drain.clone(), done.clone())));
        services
    }

    /// Starts sending what a claim's spool holds and will hold.
    fn send(&self, sender: Sender) {
        let claim = sender.spool.claim();
        let marks = self.marks.clone();
        let sending = async move {
            sender.send_all().await;
            marks.forget(claim);
        };
        self.senders.begin(sending);
    }

    /// Says something beside what goes on; what became of it comes on the receiver. Dropping that takes nothing back.
    fn say(&self, report: Report) -> oneshot::Receiver<Result<Delivered, LinkError>> {
        let (tell, told) = oneshot::channel();
        let link = Arc::clone(&self.link);
        let saying = async move {
            // Who has heard enough does not listen any more.
            tell.send(link.report(&report).await).ok();
        };
        self.senders.begin(saying);
        told
    }

    /// What an earlier life left: results are sent until they are recorded; of builds that died with it only the
    /// logs, for their lease ends them.
    fn send_leftovers(&self) -> Result<(), AgentError> {
        for spool in self.spool.leftovers().map_err(AgentError::Spool)? {
            let claim = spool.claim();
            let recorded = if spool.is_finished() {
                self.claims.leftover(claim)
            } else {
                // It is no more than a courtesy: who follows the log need not wait for the rest.
                if let Err(error) = spool.close_logs() {
                    tracing::warn!(%error, "that a log has no more bytes could not be kept");
                }
                watch::channel(true).1
            };
            tracing::info!(?claim, finished = spool.is_finished(), "an earlier life left something to be sent");
            let kept = self.marks.follow(claim);
            // Nothing is known of what that coordinator reads.
            let (spool, link) = (Arc::new(spool), Arc::clone(&self.link));
            self.send(Sender { spool, link, recorded, kept, reads: Reads::default() });
        }
        Ok(())
    }

    /// Waits for the slots, and passes on a stronger wish to stop. A slot that panics ends the agent: its claim would be
    /// held for ever by the heartbeats, and nobody would take its place.
    async fn until_drained(&self, mut slots: JoinSet<()>) -> Result<(), AgentError> {
        let cancel = async {
            self.shutdown.cancel.cancelled().await;
            self.claims.cancel_all(&self.is_being_stopped());
            std::future::pending::<()>().await;
        };
        let all = async {
            while let Some(ended) = slots.join_next().await {
                if ended.is_err_and(|error| error.is_panic()) {
                    return Err(AgentError::Fault("slot"));
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = all => ended,
            () = cancel => Ok(()),
        }
    }

    /// Cancels a job that begins when those that run were cancelled already.
    fn cancel_too(&self, stop: &Stop) {
        if self.shutdown.cancel.is_cancelled() {
            stop.cancel_because(&self.is_being_stopped());
        }
    }

    fn is_being_stopped(&self) -> String {
        format!("agent {} is being stopped", self.home.name())
    }

    /// Gives the coordinator some time to store what was said last.
    async fn last_words(&self) {
        if tokio::time::timeout(LAST_WORDS, self.senders.finish()).await.is_err() {
            tracing::warn!("the coordinator has not stored everything; the rest is sent when this agent runs again");
        }
    }
}

/// A service that cannot fail, only end.
async fn well<T>(service: impl Future<Output = T>) -> Result<(), Infallible> {
    service.await;
    Ok(())
}

#[cfg(test)]
mod tests;
