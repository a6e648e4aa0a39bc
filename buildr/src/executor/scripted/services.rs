//! Services that are scripts: what they print until they are ready, and what when they are dismissed.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::super::{ExecutorError, Output, Served, ServiceOrder, Stop};

/// The services of one place, by their networks.
#[derive(Default)]
pub(super) struct Services {
    networks: HashMap<Served, Network>,
    made: u32,
}

struct Network {
    /// Where each service that is seen in it is.
    seen: BTreeMap<String, Served>,
    running: Vec<Running>,
}

/// A service that is ready.
pub(super) struct Running {
    name: String,
    output: Output,
    /// What it prints when it is dismissed.
    last: Vec<String>,
}

impl Services {
    pub(super) fn serve(&mut self, running: Vec<Running>, beside: Option<&Served>) -> Served {
        self.made += 1;
        let served = Served(format!("network-{}", self.made));
        let beside = beside.and_then(|beside| self.networks.get(beside));
        let mut seen = beside.map(|network| network.seen.clone()).unwrap_or_default();
        seen.extend(running.iter().map(|service| (service.name.clone(), served.clone())));
        self.networks.insert(served.clone(), Network { seen, running });
        served
    }

    pub(super) fn dismiss(&mut self, served: &Served) -> Vec<Running> {
        self.networks.remove(served).map(|network| network.running).unwrap_or_default()
    }

    /// The network of a service that is seen from this one.
    pub(super) fn find(&self, from: Option<&Served>, name: &str) -> Option<&Served> {
        let seen = &self.networks.get(from?)?.seen;
        seen.get(name).filter(|served| self.networks.contains_key(*served))
    }
}

/// Does what stands before `ready`.
pub(super) async fn start(order: ServiceOrder, stop: &Stop) -> Result<Running, ExecutorError> {
    let ServiceOrder { service, output } = order;
    if service.image.name == "unpullable" {
        let reason = "no registry has it".to_owned();
        return Err(ExecutorError::Pull { image: service.image.name, reason, passes: false });
    }
    let mut lines = service.command.iter();
    for line in lines.by_ref() {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let not_ready =
            |reason: &str| Err(ExecutorError::NotReady { service: service.name.clone(), reason: reason.to_owned() });
        match word {
            "ready" => break,
            "never-ready" => return not_ready("the script says so"),
            "hang" => {
                stop.cancelled().await;
                return not_ready("it was stopped");
            }
            "env" => {
                let value = service.environment.iter().rev().find(|variable| variable.name == rest);
                print(&output, value.map_or("", |variable| variable.value.as_str())).await;
            }
            "print" => print(&output, rest).await,
            other => return not_ready(&format!("it has no word {other:?}")),
        }
    }
    Ok(Running { name: service.name, output, last: lines.cloned().collect() })
}

/// Does what stands after `ready`.
pub(super) async fn end(running: Vec<Running>) {
    for service in running {
        for line in &service.last {
            if let Some(text) = line.trim().strip_prefix("print ") {
                print(&service.output, text).await;
            }
        }
    }
}

async fn print(output: &Output, text: &str) {
    // Nobody listening is no reason to stop.
    let _ = output.send(Bytes::from(format!("{text}\n"))).await;
}
