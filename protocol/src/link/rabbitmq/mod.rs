//! The line over RabbitMQ. Only this room names lapin.
//!
//! lapin's own recovery stays off: it hides the loss of a delivery, and the farm has to see that. Instead each end
//! keeps two connections, one that consumes and one that publishes (a broker short of memory or disk stops reading
//! from the second alone), and opens both anew when either breaks. Everything that hangs on them is thrown away with
//! them; such a life is an `connection::Epoch`, counted in [`super::Health::Up`].
//!
//! A channel is used for one thing at a time: one publish until its confirm, one waiting `next_job`. An error of
//! AMQP closes the whole channel, so this is how an answer belongs to its question, and how one forbidden message
//! spoils no other.

use std::path::PathBuf;

mod screen;
mod stream;
mod address;
mod channel;
mod connection;
mod topology;
pub mod permissions;
mod message;
mod publish;
mod jobs;
mod controls;
mod feed;
mod agent;
mod coordinator;
mod probe;

pub use agent::RabbitAgent;
pub use coordinator::RabbitCoordinator;
pub use probe::probe;

/// Where the broker is, and how to reach it.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://` for TLS. `?heartbeat=SECONDS` is understood (20 without).
    pub uri: String,
    /// A PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
}

impl RabbitSettings {
    /// The broker at this URI, with the system's certificates.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), ca_file: None }
    }
}

impl std::fmt::Debug for RabbitSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URI holds the password.
        f.debug_struct("RabbitSettings").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}
