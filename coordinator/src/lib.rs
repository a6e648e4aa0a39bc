//! Triggers, store, schedule, truth, API and pages: the coordinator of a farm.
//!
//! A request or a message becomes a build and its first job (`intake`); the `dispatcher` puts waiting jobs on
//! their queues; agents claim them, work, and report; the `tracker` turns reports into what is true; the
//! `watchdog` sees that nothing waits for what will not come; and the `web` shows it. All of it stands in the
//! `store`, so a coordinator can end at any moment and go on later: the agents keep working meanwhile.
//!
//! The modules stand in a line: each uses only those before it.

pub mod mail;
pub mod config;
mod hook;
mod store;
mod log_view;
mod feed;
mod identity;
mod vault;
mod credentials;
mod presence;
mod receipts;
mod depot;
mod desk;
mod intake;
mod why;
mod timeline;
mod dispatcher;
mod tracker;
mod deliveries;
mod downstream;
mod restart;
mod clock;
mod forge;
mod notify;
mod watchdog;
mod expiry;
pub mod embedded;
mod web;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use buildr::process::supervise::{ServiceEnd, Services};
use protocol::link::CoordinatorLink;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use identity::KeyError;
pub use store::StoreError;
pub use vault::VaultError;
pub use web::{WebError, api_token};

use desk::Desk;
use feed::Feed;
use presence::Presence;
use receipts::Receipts;
use store::Store;
use vault::Vault;

/// Why the coordinator cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What it knows cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who it is cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What its secrets are kept with cannot be had.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A part of it ended before it was asked to.
    #[error("the {part} ended though nobody asked it to: {reason}")]
    Ended {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

/// How long the end waits for requests that are being answered, at most: a slow reader of a long log may never end.
const ANSWERING: Duration = Duration::from_secs(10);

/// Coordinates the agents at the other end of `link`, and serves the API on `listener`, until `shutdown`.
///
/// # Errors
/// When the state folder cannot be used, or a part of it ends too early.
pub async fn run(
    config: Config,
    link: Arc<dyn CoordinatorLink>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let desk = open(config, link).await?;
    work(desk, listener, shutdown).await
}

/// All that the parts work on, with what is known from before.
async fn open(config: Config, link: Arc<dyn CoordinatorLink>) -> Result<Arc<Desk>, RunError> {
    let store = Store::open(&config.state_dir).await?.with_hearers(notify::hearers(&config));
    let identity = identity::load(&config.state_dir)?;
    let vault = Vault::load(&config.secrets_key, &config.state_dir)?;
    vault.renew(&store).await?;
    let archives = depot::Archives::new(&config.state_dir, &identity);
    let presence = Presence::new(config.lease);
    let (feed, receipts, beacon_now) = (Feed::new(), Receipts::new(), Notify::new());
    let desk = Arc::new(Desk { config, store, link, feed, presence, receipts, identity, vault, archives, beacon_now });
    watchdog::resume(&desk).await?;
    Ok(desk)
}

/// Starts the parts, and ends them together.
async fn work(desk: Arc<Desk>, listener: TcpListener, shutdown: CancellationToken) -> Result<(), RunError> {
    let stop = shutdown.child_token();
    let mut parts = Services::default();
    parts.start("dispatcher", lasting(dispatcher::run(desk.clone(), stop.clone())));
    parts.start("tracker", lasting(tracker::run(desk.clone(), stop.clone())));
    parts.start("intake", lasting(intake::run(desk.clone(), stop.clone())));
    parts.start("log keeper", lasting(tracker::keep_logs(desk.clone(), stop.clone())));
    parts.start("receipts", lasting(tracker::tell_receipts(desk.clone(), stop.clone())));
    parts.start("outbox", lasting(tracker::send_outbox(desk.clone(), stop.clone())));
    parts.start("watchdog", lasting(watchdog::run(desk.clone(), stop.clone())));
    parts.start("downstream", lasting(downstream::run(desk.clone(), stop.clone())));
    parts.start("clock", lasting(clock::run(desk.clone(), stop.clone())));
    parts.start("deliveries", lasting(deliveries::run(desk.clone(), stop.clone())));
    parts.start("forges", lasting(forge::run(desk.clone(), stop.clone())));
    parts.start("notices", lasting(notify::run(desk.clone(), stop.clone())));
    parts.start("expiry", lasting(expiry::run(desk.clone(), stop.clone())));
    parts.start("beacon", lasting(watchdog::beacon::run(desk.clone(), stop.clone())));
    parts.start("web", web::serve(desk.clone(), listener, stop.clone()));

    let early = tokio::select! {
        () = shutdown.cancelled() => None,
        end = parts.ended() => Some(end),
    };
    stop.cancel();
    parts.finish(ANSWERING).await;
    desk.store.close().await;
    match early {
        // The signal to end and the first end may be seen in either order.
        Some(end) if !shutdown.is_cancelled() => Err(ended(end)),
        _ => Ok(()),
    }
}

/// A part that has no errors of its own to end with: it waits them out.
async fn lasting(part: impl Future<Output = ()>) -> Result<(), Infallible> {
    part.await;
    Ok(())
}

fn ended(end: ServiceEnd) -> RunError {
    let reason =
        end.result.err().map_or_else(|| "the line to the agents was closed".to_owned(), |error| error.to_string());
    RunError::Ended { part: end.name, reason }
}

#[cfg(test)]
mod testing;
