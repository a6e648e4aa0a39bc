//! What the tests of the whole farm share: contracts that every implementation of a seam keeps, real parts made for
//! one test, and the whole farm.

pub mod contract;
pub mod docker;
pub mod rabbit;
pub mod registry;
pub mod disk;
pub mod raw_amqp;
pub mod smart_http;
pub mod tls;
pub mod farm;
pub mod browser;
pub mod clock;
pub mod proxy;
pub mod own_rabbit;
pub mod own_docker;
pub mod ports;
pub mod hearing;
pub mod sshd;
pub mod processes;
pub mod chance;
pub mod simulation;
pub mod soak;
