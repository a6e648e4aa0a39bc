//! One stage's container in its job's place: what it is made of, what is carried to it, what watches it, what becomes
//! of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bollard::models::NetworkConnectRequest;
use protocol::StageEnd;

use super::super::{ExecutorError, Output, StageOrder, Stop};
use super::carried;
use super::container::{Bounds, Container, Line};
use super::disk::Look;
use super::handoff::{self, Frame};
use super::image::Image;
use super::joint::Entered;
use super::machine::Machine;
use super::notice;
use super::order::Order;
use super::sandbox::{DockerSandbox, lock};
use super::settings::DiskLimits;
use super::standing::{Standing, Taken};

impl DockerSandbox {
    /// Runs a stage's script in a fresh container over this folder, which keeps what was written to it when `keeps`
    /// says so; gives the container, ended and not removed. One whose folder keeps what was written may still be about to
    /// end, when its script has ended well and nobody else is left in it.
    pub(super) async fn live(
        &self,
        stage: &StageOrder,
        image: &Image,
        folder: &Path,
        keeps: bool,
        output: &Output,
        stop: &Stop,
    ) -> Result<(String, StageEnd), ExecutorError> {
        let machine = Arc::clone(&self.machine);
        let socket = self.socket(stage)?;
        let before = if socket.is_some() { machine.strangers().await? } else { HashMap::new() };
        let workspace = (folder, self.order.mount.as_str());
        let (powers, labels) = (machine.powers().await, self.labels.of_stage(stage.name.as_str()));
        let mut order = Order::of_stage(&machine.settings, powers, image, labels, workspace, stage, socket.as_deref());
        let mut environment = order.environment();
        environment.extend(stage.environment.iter().cloned());
        let frame = handoff::frame(&environment, stage, &self.order.mount, keeps)?;
        notice::warn_of_names(stage, output).await;
        let title = format!("stage {}", stage.name);
        let (container, line, entered) = match self.standing(&order, &title, keeps).await {
            Some((Standing { container, line, .. }, entered)) => (container, Some(line), entered),
            None => self.make(&mut order, &title).await?,
        };
        self.note(order.shared, output).await;
        let ended = self.in_its_time(&container, line, &order, stage, frame, keeps, output, stop).await;
        if socket.is_some() {
            notice::warn_of_strangers(&before, &machine.strangers().await.unwrap_or_default(), output).await;
        }
        if ended.is_err() || !order.may_join() {
            // Who may do more than others, or may still be there, leaves to nobody else where he was.
            self.joint.spoil();
        }
        drop(entered);
        let id = container.id;
        match ended {
            Ok(end) => Ok((id, end)),
            Err(error) => {
                self.remove_aside(id);
                Err(error)
            }
        }
    }

    /// Makes a container; one that joins its place's namespace, where it may, has begun then.
    async fn make(
        &self,
        order: &mut Order<'_>,
        title: &str,
    ) -> Result<(Container, Option<Line>, Option<Entered<'_>>), ExecutorError> {
        let machine = &self.machine;
        if let Some(entered) = self.joint.enter()
            && let Some(joined) = self.joint.join(machine, order, false).await
        {
            lock(&self.copies).push(joined.files.clone());
            order.joined = Some(joined);
            if let Ok(container) = machine.create(order, title).await {
                match container.begin().await {
                    Ok(line) => return Ok((container, Some(line), Some(entered))),
                    Err(error) => tracing::debug!(%error, "a namespace could not be joined"),
                }
                self.remove_aside(container.id);
            }
            self.joint.spoil();
            order.joined = None;
        }
        Ok((machine.create(order, title).await?, None, None))
    }

    /// The container that stands ready, when it is what this order would make, and nobody else is where it is.
    async fn standing(&self, order: &Order<'_>, title: &str, keeps: bool) -> Option<(Standing, Option<Entered<'_>>)> {
        // What works on a throw-away copy was not foreseen, and others may be.
        let ahead = if keeps { lock(&self.ahead).take()? } else { return None };
        match ahead.take(&order.made()).await {
            Taken::This(mut standing) => {
                title.clone_into(&mut standing.container.title);
                let joins = standing.joined.is_some();
                lock(&self.copies).extend(standing.joined.take());
                let entered = if joins { self.joint.enter() } else { None };
                if joins && entered.is_none() {
                    self.remove_aside(standing.container.id);
                    return None;
                }
                return Some((standing, entered));
            }
            Taken::Other(making) => self.remove_when_made(making),
            Taken::Ended(standing) => {
                lock(&self.copies).extend(standing.joined);
                self.remove_aside(standing.container.id);
            }
            Taken::None => {}
        }
        None
    }

    /// From a container that was made to one that has ended.
    #[expect(clippy::too_many_arguments, reason = "it is one function with the one above, cut in two")]
    async fn in_its_time(
        &self,
        container: &Container,
        line: Option<Line>,
        order: &Order<'_>,
        stage: &StageOrder,
        frame: Frame,
        keeps: bool,
        output: &Output,
        stop: &Stop,
    ) -> Result<StageEnd, ExecutorError> {
        let machine = &self.machine;
        if let Some(line) = line {
            return self.watched(container, line, frame, output, stop, stage).await;
        }
        if order.network.is_some() {
            connect_further(machine, &container.id).await?;
        }
        if order.shared {
            let line = container.begin().await?;
            return self.watched(container, line, frame, output, stop, stage).await;
        }
        let mut seen = order.seen();
        carried::bring(container, &seen).await?;
        let line = container.begin().await?;
        let ended = self.watched(container, line, frame, output, stop, stage).await?;
        if !keeps {
            seen.remove(0);
        }
        carried::fetch(&machine.engine, &container.id, &seen).await?;
        Ok(ended)
    }

    /// Runs a container, and ends it when its job has taken more of the disk than it may.
    async fn watched(
        &self,
        container: &Container,
        line: Line,
        frame: Frame,
        output: &Output,
        stop: &Stop,
        stage: &StageOrder,
    ) -> Result<StageEnd, ExecutorError> {
        let machine = &self.machine;
        let limits = machine.settings.disk;
        let too_large = self.usage.end.clone();
        let bounds = Bounds { too_large, ..machine.bounds(stage, machine.powers().await) };
        if limits == DiskLimits::default() {
            return container.run(line, frame, output, stop, &bounds).await;
        }
        let _counted = self.usage.count(&container.id);
        let (engine, daemon) = (&machine.engine, machine.daemon_folder().await);
        let look = Look { engine, limits, usage: &self.usage, ledger: &machine.ledger, daemon };
        let ended = tokio::select! {
            ended = container.run(line, frame, output, stop, &bounds) => ended,
            never = look.again() => match never {},
        };
        match self.usage.excess() {
            Some(excess) => Err(ExecutorError::TooLarge(excess.to_string())),
            None => ended,
        }
    }
}

/// A container that sees services still reaches what stands on the network which this machine's owner has named.
pub(super) async fn connect_further(machine: &Machine, container: &str) -> Result<(), ExecutorError> {
    let Some(network) = machine.settings.further_network() else { return Ok(()) };
    let request = NetworkConnectRequest { container: container.to_owned(), endpoint_config: None };
    let connected = machine.engine.quick.connect_network(network, request).await;
    connected.map_err(|error| machine.engine.failed(format!("connect a stage with the network {network:?}"), &error))
}
