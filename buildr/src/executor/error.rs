//! Why an executor could not do its part.

use protocol::Cause;

/// Why the executor could not do its part. Texts are whole sentences for the person whose build it is.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The daemon does not answer.
    #[error("the Docker daemon at {place} does not answer: {reason}. Start it, or point DOCKER_HOST at one that runs")]
    Unreachable {
        /// The socket or address that was tried.
        place: String,
        /// What came back.
        reason: String,
    },
    /// An image could not be had.
    #[error("the image {image:?} could not be pulled: {reason}")]
    Pull {
        /// As the manifest names it.
        image: String,
        /// What the registry or the daemon said, and what to do.
        reason: String,
        /// Whether it may go better later or elsewhere: the registry did not answer, or had trouble of its own.
        passes: bool,
    },
    /// The image has no shell to run a script with.
    #[error("the image {image:?} has no /bin/sh, which buildr runs a stage's script with; use an image with a shell")]
    NoShell {
        /// As the manifest names it.
        image: String,
    },
    /// A service did not become ready.
    #[error("the service {service:?} did not become ready: {reason}")]
    NotReady {
        /// Its name.
        service: String,
        /// What was seen of it, and what to do.
        reason: String,
    },
    /// A policy of this agent stands against it.
    #[error("{0}")]
    Refused(String),
    /// The job took more of this machine's disk than it may.
    #[error("{0}")]
    TooLarge(String),
    /// The daemon was asked for something and could not do it.
    #[error("failed to {doing}: {reason}")]
    Daemon {
        /// What was being done, such as "start the container of stage test".
        doing: String,
        /// What came back.
        reason: String,
    },
    /// Something on this machine's disk could not be read, written or removed.
    #[error("failed to {doing}")]
    Disk {
        /// What was being done, with the path.
        doing: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ExecutorError {
    /// Whether the same may go well a little later, or on another machine.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Pull { passes, .. } => *passes,
            Self::Unreachable { .. } | Self::Daemon { .. } | Self::Disk { .. } => true,
            Self::NoShell { .. } | Self::NotReady { .. } | Self::TooLarge(_) | Self::Refused(_) => false,
        }
    }

    /// Which part of the farm's work it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Pull { .. } => Cause::Pull,
            Self::NotReady { .. } => Cause::Service,
            Self::Refused(_) | Self::TooLarge(_) => Cause::Limit,
            Self::Unreachable { .. } | Self::NoShell { .. } | Self::Daemon { .. } | Self::Disk { .. } => Cause::Daemon,
        }
    }
}
