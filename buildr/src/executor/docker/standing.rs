//! Containers that were started before anybody needed them: each runs, and waits for what it is told.
//!
//! Nothing of one build is in what the daemon is told when a container is made, but its folders. So one that stands may
//! be taken by whoever would have made exactly the same, and by nobody else: [`Made`] is what is compared.

use std::path::PathBuf;

use bollard::models::ContainerCreateBody;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::container::{Container, Line, waits};

/// What the daemon was told, or would be, when a container is made: all but its labels, and the namespace that it joins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    body: ContainerCreateBody,
    platform: Option<String>,
}

impl Made {
    pub(super) fn of(body: ContainerCreateBody, platform: Option<String>) -> Self {
        Self { body: ContainerCreateBody { labels: None, ..body }, platform }
    }
}

/// A container that runs and waits.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) container: Container,
    pub(super) line: Line,
    /// The files beside the workspace that it has for itself, when it has joined its place's namespace.
    pub(super) joined: Option<PathBuf>,
}

/// One that is being made, or stands.
#[derive(Debug)]
pub(super) struct Ahead {
    /// What it is made of, as soon as that is known.
    pub(super) made: oneshot::Receiver<Made>,
    /// It; nothing when it could not be made.
    pub(super) making: JoinHandle<Option<Standing>>,
}

/// What became of the wish to have one that stands.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is this.
    This(Standing),
    /// It is another, or has ended, and is to be removed when it is there.
    Other(JoinHandle<Option<Standing>>),
    /// It has ended, and is to be removed.
    Ended(Standing),
    /// It could not be made.
    None,
}

impl Ahead {
    /// Waits for it, if it is made of this.
    pub(super) async fn take(self, wanted: &Made) -> Taken {
        match self.made.await {
            Ok(made) if made == *wanted => {}
            _ => return Taken::Other(self.making),
        }
        match self.making.await.ok().flatten() {
            Some(mut standing) => {
                if waits(&mut standing.line) {
                    Taken::This(standing)
                } else {
                    Taken::Ended(standing)
                }
            }
            None => Taken::None,
        }
    }
}
