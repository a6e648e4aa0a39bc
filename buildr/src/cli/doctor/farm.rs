//! The farm, where one is named: the coordinator's address, and RabbitMQ.

use std::path::Path;

use protocol::link::rabbitmq::{RabbitSettings, probe};

use super::Finding;
use crate::cli::globals::Globals;
use crate::process::tls;

/// Looks at what is named; a farm that nobody named is not missed.
pub(super) async fn look(globals: &Globals, amqp: Option<&str>, ca: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(server) = globals.named_server() {
        findings.push(coordinator(globals, server).await);
    }
    if let Some(uri) = amqp {
        tls::install();
        let settings = RabbitSettings { ca_file: ca.map(Path::to_owned), ..RabbitSettings::new(uri) };
        findings.push(match probe(&settings).await {
            Ok(place) => Finding::ok("rabbitmq", format!("RabbitMQ answers at {place}")),
            Err(error) => {
                Finding::fail("rabbitmq", error.to_string(), "see that it runs, and that the address is right")
            }
        });
    }
    findings
}

async fn coordinator(globals: &Globals, server: &str) -> Finding {
    let farm = match globals.farm() {
        Ok(farm) => farm,
        Err(error) => return Finding::fail("farm", error.to_string(), "write the address like http://127.0.0.1:8700"),
    };
    match farm.agents().await {
        Ok(agents) if agents.is_empty() => {
            Finding::warn("farm", format!("the farm at {server} has no agents"), "start one with `buildr agent`")
        }
        Ok(agents) => Finding::ok("farm", format!("the farm at {server} answers; it knows {} agents", agents.len())),
        Err(error) => {
            let advice = error.advice().unwrap_or_else(|| "see that the address is right".to_owned());
            Finding::fail("farm", error.to_string(), advice)
        }
    }
}
