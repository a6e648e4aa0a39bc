//! What the rooms of the coordinator work on together.

use std::sync::Arc;

use protocol::identity::Identity;
use protocol::link::CoordinatorLink;
use tokio::sync::Notify;

use crate::config::Config;
use crate::depot::Archives;
use crate::feed::Feed;
use crate::presence::Presence;
use crate::receipts::Receipts;
use crate::store::Store;
use crate::vault::Vault;

/// Store, line and what goes with them. Made once, by the composition root.
pub(crate) struct Desk {
    /// What the coordinator was told.
    pub(crate) config: Config,
    /// What the farm knows.
    pub(crate) store: Store,
    /// The line to the agents.
    pub(crate) link: Arc<dyn CoordinatorLink>,
    /// Says that something changed.
    pub(crate) feed: Feed,
    /// Who was seen, and when.
    pub(crate) presence: Presence,
    /// What agents are told when there is a moment.
    pub(crate) receipts: Receipts,
    /// Signs the grants.
    pub(crate) identity: Identity,
    /// Seals and opens the farm's secrets.
    pub(crate) vault: Vault,
    /// The artifacts of builds.
    pub(crate) archives: Archives,
    /// Has the next beacon sent at once.
    pub(crate) beacon_now: Notify,
}

impl Desk {
    /// Where people find the pages, without a `/` at its end: by the public URL, else as agents reach this coordinator.
    pub(crate) fn page_url(&self) -> &str {
        let url = self.config.public_url.as_deref().or_else(|| self.archives.url());
        url.unwrap_or("http://127.0.0.1:8700").trim_end_matches('/')
    }
}
