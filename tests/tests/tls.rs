//! The line to RabbitMQ over TLS, with an authority of the farm's own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::PathBuf;

use farm::contract::link::{beat, numbers, soon};
use farm::rabbit::{Vhost, with_vhost};
use farm::tls::TlsPort;
use protocol::control::Control;
use protocol::job::OfferBody;
use protocol::link::rabbitmq::{RabbitAgent, RabbitCoordinator, RabbitSettings};
use protocol::link::{Address, AgentLink as _, CoordinatorLink as _, Delivered, Health, LinkError};
use protocol::{AgentId, BootId, BuildNumber, ClaimId, JobId, LabelSet};
use tokio::sync::watch;

async fn port(vhost: &Vhost) -> TlsPort {
    let uri: url::Url = vhost.uri().parse().unwrap();
    TlsPort::in_front_of(&format!("{}:{}", uri.host_str().unwrap(), uri.port().unwrap_or(5672))).await
}

fn settings(vhost: &Vhost, port: &TlsPort, host: &str, ca_file: Option<PathBuf>) -> RabbitSettings {
    let plain: url::Url = vhost.uri().parse().unwrap();
    let user = format!("{}:{}", plain.username(), plain.password().unwrap_or_default());
    RabbitSettings { uri: format!("amqps://{user}@{host}:{}{}", port.address.port(), plain.path()), ca_file }
}

async fn agent(settings: RabbitSettings) -> Result<RabbitAgent, LinkError> {
    let name: AgentId = "a".parse().unwrap();
    RabbitAgent::connect(settings, &name, BootId::fresh()).await
}

async fn up(mut health: watch::Receiver<Health>) {
    let up = soon(health.wait_for(|health| matches!(health, Health::Up(_)))).await;
    up.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farm_trusts_its_own_authority() {
    with_vhost(|vhost| async move {
        let port = port(&vhost).await;
        let settings = settings(&vhost, &port, "localhost", Some(port.ca()));
        let coordinator = RabbitCoordinator::connect(settings.clone()).await.unwrap();
        up(coordinator.health()).await;
        let agent = agent(settings).await.unwrap();
        up(agent.health()).await;
        let offer = OfferBody { job_id: JobId::fresh(), build: BuildNumber(1), repo: "x".to_owned(), branch: None };
        coordinator.offer(&LabelSet::default(), &offer).await.unwrap();
        let job = soon(agent.next_job(&[LabelSet::default()])).await.unwrap();
        assert!(job.ack().await);
        assert_eq!(soon(agent.report(&beat(7))).await.unwrap(), Delivered::Yes);
        let batch = soon(coordinator.next_reports(9)).await.unwrap();
        assert_eq!(numbers(&batch), [7]);
        assert!(batch.ack().await);
        let claim = ClaimId::fresh();
        coordinator.control(&Address::All, &Control::Recorded { claim }).await.unwrap();
        assert!(matches!(soon(agent.next_control()).await, Ok(Control::Recorded { claim: c }) if c == claim));
        agent.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_to_be_trusted_is_named() {
    with_vhost(|vhost| async move {
        let port = port(&vhost).await;
        let cases = [
            ("localhost", None, "is signed by nobody whom this machine trusts; name a file with the certificate"),
            ("localhost", Some(port.other_ca()), "is signed by nobody whom this machine trusts; name a file with the"),
            ("127.0.0.1", Some(port.ca()), "is not made out to \"127.0.0.1\"; write the name that it is made out to"),
        ];
        for (host, ca_file, expect) in cases {
            let agent = agent(settings(&vhost, &port, host, ca_file)).await.unwrap();
            let mut health = agent.health();
            let said = soon(health.wait_for(|health| match health {
                Health::Away { reason } => !reason.contains("has not answered yet"),
                _ => true,
            }))
            .await
            .unwrap()
            .clone();
            assert!(matches!(&said, Health::Away { reason } if reason.contains(expect)), "{said:?}");
            assert!(matches!(soon(agent.report(&beat(1))).await, Err(LinkError::Away(_))));
            agent.close().await;
        }
        assert!(vhost.connections("buildr-agent").await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_a_certificate_is_named_at_once() {
    with_vhost(|vhost| async move {
        let port = port(&vhost).await;
        let cut = std::fs::read(port.ca()).unwrap();
        let cases = [
            (PathBuf::from("/nowhere/ca.pem"), "/nowhere/ca.pem cannot be read"),
            (port.file("empty.pem", b""), "empty.pem holds no certificate"),
            (port.file("text.pem", b"this is no certificate"), "text.pem holds no certificate"),
            (port.file("binary.pem", b"\x30\x82\xff\xfe\x00"), "binary.pem"),
            (port.file("cut.pem", &cut[..cut.len() / 2]), "cut.pem"),
            (port.file("der.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "der.pem"),
        ];
        for (file, expect) in cases {
            let error = agent(settings(&vhost, &port, "localhost", Some(file))).await.err();
            let Some(LinkError::BadSettings(said)) = error else { panic!("{error:?} instead of {expect}") };
            assert!(said.contains(expect), "{said}");
        }
    })
    .await;
}
