//! Real processes over a real RabbitMQ and a real Docker, broken in the midst of builds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

mod agent;
mod coordinator;
mod network;

/// The image that builds run in.
fn image() -> String {
    farm::docker::image()
}
