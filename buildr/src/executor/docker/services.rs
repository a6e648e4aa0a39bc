//! The services of a job and of its stages: containers on a network of their own, each reached by its name.
//!
//! Such a network lives from [`DockerSandbox::begin_services`] until its services are dismissed. A stage that sees
//! services is on their network instead of the machine's usual one: also where that is `host`, for services have no
//! names there. From the network the outside is reached, unless the machine's setting is `none`.

use std::collections::HashMap;
use std::sync::Mutex;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, NetworkingConfig,
};
use bollard::query_parameters::StopContainerOptionsBuilder;
use futures_util::StreamExt as _;
use futures_util::future::{join_all, try_join_all};
use protocol::task;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::super::{ExecutorError, Output, Served, ServiceOrder, Stop};
use super::container::{Container, PATIENCE};
use super::engine::Engine;
use super::image::Image;
use super::order;
use super::ready::{Awaited, Heard};
use super::removal;
use super::sandbox::{DockerSandbox, lock};

/// How long a service has between SIGTERM and SIGKILL, in seconds.
const GRACE_S: i32 = 5;

/// The networks of a job's services, by their ids.
#[derive(Debug, Default)]
pub(super) struct Services(Mutex<HashMap<String, Network>>);

/// One network.
#[derive(Debug, Default)]
struct Network {
    own: Vec<Running>,
    /// Those of another network that are seen here too: name and container.
    borrowed: Vec<(String, String)>,
}

/// A service that has been started.
#[derive(Debug)]
struct Running {
    name: String,
    container: String,
    /// Passes on what it prints, until it has ended.
    listening: JoinHandle<()>,
}

impl DockerSandbox {
    /// Starts services on a network of their own and waits until all are ready; ends them all when one is not.
    pub(super) async fn begin_services(
        &self,
        services: Vec<ServiceOrder>,
        beside: Option<&Served>,
        stop: &Stop,
    ) -> Result<Served, ExecutorError> {
        let served = Served(self.make_network().await?);
        lock(&self.services.0).insert(served.0.clone(), Network::default());
        let begun = async {
            self.borrow(&served, beside, &services).await?;
            try_join_all(services.into_iter().map(|order| self.begin_service(order, &served, stop))).await
        };
        let began = tokio::select! {
            began = begun => began.map(drop),
            () = stop.cancelled() => Err(ExecutorError::NotReady {
                service: "of this build".to_owned(),
                reason: "the build was cancelled while it was waited for".to_owned(),
            }),
        };
        match began {
            Ok(()) => Ok(served),
            Err(error) => {
                self.services.end(&self.machine.engine, &served).await;
                Err(error)
            }
        }
    }

    async fn make_network(&self) -> Result<String, ExecutorError> {
        let engine = &self.machine.engine;
        let request = NetworkCreateRequest {
            name: format!("buildr-{}", Uuid::new_v4().simple()),
            driver: Some("bridge".to_owned()),
            internal: Some(self.machine.settings.is_shut()),
            labels: Some(self.labels.of_stage("services")),
            ..NetworkCreateRequest::default()
        };
        // Some daemons know a network that was just made by its name only.
        let name = request.name.clone();
        let made = engine.quick.create_network(request).await;
        made.map_err(|error| engine.failed("make a network for the services", &error))?;
        Ok(name)
    }

    /// Connects the services of another network with this one, unless one of its own hides them.
    async fn borrow(
        &self,
        served: &Served,
        beside: Option<&Served>,
        own: &[ServiceOrder],
    ) -> Result<(), ExecutorError> {
        let others = beside.map(|beside| self.services.all_of(beside)).unwrap_or_default();
        let engine = &self.machine.engine;
        for (name, container) in others {
            if own.iter().any(|order| order.service.name == name) {
                continue;
            }
            let endpoint_config = Some(endpoint(&name));
            let request = NetworkConnectRequest { container: container.clone(), endpoint_config };
            let connected = engine.quick.connect_network(&served.0, request).await;
            connected.map_err(|error| engine.failed(format!("let a stage see the service {name}"), &error))?;
            if let Some(network) = lock(&self.services.0).get_mut(&served.0) {
                network.borrowed.push((name, container));
            }
        }
        Ok(())
    }

    /// Starts a service, and waits until it is ready.
    async fn begin_service(&self, order: ServiceOrder, served: &Served, stop: &Stop) -> Result<(), ExecutorError> {
        let ServiceOrder { service, output } = order;
        let machine = &self.machine;
        let image = self.images.obtain(machine, &service.image, &output, stop).await?;
        // It is over for all of them, and that is told elsewhere.
        let Some(image) = image else { return std::future::pending().await };
        let body = self.service_body(&service, &image, served).await;
        let title = format!("service {}", service.name);
        let platform = image.platform.as_deref();
        let container = Container::create(&machine.engine, title, &image.name, platform, body).await?;
        let printed = container.attach(false).await?.output;
        let (heard, hears) = watch::channel(Heard::default());
        let listening = task::spawn("service's output", listen(printed, output, heard));
        if let Some(network) = lock(&self.services.0).get_mut(&served.0) {
            let (name, container) = (service.name.clone(), container.id.clone());
            network.own.push(Running { name, container, listening });
        }
        container.start().await?;
        Awaited { sandbox: self, container: &container, service: &service, image: &image, network: &served.0, hears }
            .until_ready()
            .await
    }

    async fn service_body(
        &self,
        service: &protocol::plan::Service,
        image: &Image,
        served: &Served,
    ) -> ContainerCreateBody {
        let machine = &self.machine;
        let words = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
        let environment = service.environment.iter().map(|variable| format!("{}={}", variable.name, variable.value));
        let bounded = order::bounded(&machine.settings, machine.powers().await, service.resources, service.privileged);
        ContainerCreateBody {
            image: Some(image.id.clone()),
            hostname: Some(service.name.clone()),
            user: image.user.clone(),
            entrypoint: image.entrypoint.clone(),
            cmd: words(&service.command),
            env: Some(environment.collect()),
            labels: Some(self.labels.of_stage(&format!("service {}", service.name))),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            // Whether it is ready is asked from here, and far more often.
            healthcheck: image.config.healthcheck.is_some().then(order::no_health_check),
            host_config: Some(HostConfig { network_mode: Some(served.0.clone()), ..bounded }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(served.0.clone(), endpoint(&service.name))])),
            }),
            ..ContainerCreateBody::default()
        }
    }
}

impl Services {
    /// Ends the services of a network and removes them with it. What cannot be removed is left to the closing of the
    /// place.
    pub(super) async fn end(&self, engine: &Engine, served: &Served) {
        let Some(network) = lock(&self.0).remove(&served.0) else { return };
        for (_, container) in &network.borrowed {
            let request = NetworkDisconnectRequest { container: container.clone(), force: Some(true) };
            let _ = engine.quick.disconnect_network(&served.0, request).await;
        }
        join_all(network.own.into_iter().map(|running| running.end(engine))).await;
        if let Err(error) = removal::network(engine, &served.0).await {
            tracing::warn!(%error, "a network is left to the closing of its job's place");
        }
    }

    /// Waits until all that they printed is passed on, once their containers have been removed.
    pub(super) async fn forget(&self) {
        let networks: Vec<_> = lock(&self.0).drain().collect();
        for running in networks.into_iter().flat_map(|(_, network)| network.own) {
            let _ = timeout(PATIENCE, running.listening).await;
        }
    }

    /// All services that are seen on a network, by name.
    fn all_of(&self, served: &Served) -> Vec<(String, String)> {
        let all = lock(&self.0);
        let Some(network) = all.get(&served.0) else { return Vec::new() };
        let own = network.own.iter().map(|running| (running.name.clone(), running.container.clone()));
        own.chain(network.borrowed.iter().cloned()).collect()
    }
}

impl Running {
    async fn end(self, engine: &Engine) {
        let options = StopContainerOptionsBuilder::default().t(GRACE_S).build();
        if let Err(error) = engine.long.stop_container(&self.container, Some(options)).await {
            tracing::debug!(%error, service = self.name, "it is removed as it is");
        }
        let listening = self.listening.abort_handle();
        let listened = timeout(PATIENCE, self.listening).await;
        if let Err(error) = removal::container(engine, &self.container).await {
            tracing::warn!(%error, "a service is left to the closing of its job's place");
            // Its output has no end then, and the job would wait for that.
            listening.abort();
        }
        if listened.is_err() {
            tracing::warn!(service = self.name, "what it printed last was not passed on in time");
        }
    }
}

/// A service's place on a network.
fn endpoint(name: &str) -> EndpointSettings {
    EndpointSettings { aliases: Some(vec![name.to_owned()]), ..EndpointSettings::default() }
}

/// Passes on what a service prints, and remembers the end of it, until it has ended.
async fn listen<S>(mut printed: S, output: Output, heard: watch::Sender<Heard>)
where
    S: futures_util::Stream<Item = Result<bollard::container::LogOutput, bollard::errors::Error>> + Unpin,
{
    while let Some(Ok(chunk)) = printed.next().await {
        let bytes = chunk.into_bytes();
        heard.send_modify(|heard| heard.push(&bytes));
        // Nobody listening is no reason for it to stand still.
        let _ = output.send(bytes).await;
    }
    heard.send_modify(Heard::end);
}
