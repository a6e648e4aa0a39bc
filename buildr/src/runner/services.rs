//! Services of a job and of its stages: their logs, each on its way to the sink while they live.

use futures_util::future::join_all;
use protocol::plan::Service;
use protocol::{LogName, StageName};
use tokio::sync::mpsc;

use super::redact::Redactor;
use super::telling::Pen;
use crate::executor::{OUTPUT_BOUND, ServiceOrder, Stop};
use crate::sink::{EventSink, SinkError};

/// The logs of services, from their first start to the end of the last.
pub(super) struct ServiceLogs<'a> {
    services: &'a [Service],
    pens: Vec<Pen<'a>>,
}

impl<'a> ServiceLogs<'a> {
    /// Those of a stage's services, or of the whole job's.
    pub(super) fn new(
        services: &'a [Service],
        stage: Option<&StageName>,
        sink: &'a dyn EventSink,
        redactor: &'a Redactor,
    ) -> Self {
        let pen = |service: &Service| Pen::new(sink, redactor, LogName::of_service(stage, &service.name));
        Self { services, pens: services.iter().map(pen).collect() }
    }

    /// Orders to start them, and what carries their output until they have ended.
    pub(super) fn begin<'l>(&'l mut self, stop: &'l Stop) -> (Vec<ServiceOrder>, impl Future<Output = ()> + 'l) {
        let (mut orders, mut pumps) = (Vec::new(), Vec::new());
        for (service, pen) in self.services.iter().zip(&mut self.pens) {
            let (output, printed) = mpsc::channel(OUTPUT_BOUND);
            orders.push(ServiceOrder { service: service.clone(), output });
            pumps.push(pen.pump(printed, None, None, stop));
        }
        (orders, async {
            join_all(pumps).await;
        })
    }

    /// Tells how long the logs have become.
    pub(super) async fn complete(self) -> Result<(), SinkError> {
        for pen in self.pens {
            pen.complete().await?;
        }
        Ok(())
    }
}
