//! Where the broker is: the URI read, the connection opened within a time, and what went wrong as a sentence that
//! says what to do.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::RabbitSettings;
use super::stream::{self, Raw, Screened};
use crate::link::LinkError;

/// How long opening one connection may take. A broker that accepts and then keeps silent would hold it forever.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// How many seconds may pass between two signs of life, unless the URI says otherwise. A dead peer is noticed after
/// twice that.
const HEARTBEAT_SECONDS: u16 = 20;

/// The longest frame that is asked for, in bytes: a quarter of a piece of a log with its overhead. lapin keeps room for 32
/// frames in each direction of each connection, and touches all of it: with a broker's own 128 KiB that is 16 MB.
const FRAME_MAX: u32 = (16 << 10) + 8;

const ACCESS_REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;

/// A broker's address, checked.
pub(super) struct Address {
    uri: AMQPUri,
    certificates: Option<String>,
    /// `host:port`, for people.
    place: String,
    /// Whose name may stand in `user_id`; none when the broker knows the user by other means than the URI.
    user: Option<ShortString>,
}

impl Address {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`LinkError::BadSettings`], without ever showing the URI, for it holds a password.
    pub(super) fn read(settings: &RabbitSettings) -> Result<Self, LinkError> {
        const FORM: &str =
            "write amqp://USER:PASSWORD@HOST:5672/VHOST (in the password and the vhost '@' is %40 and '/' is %2F)";
        let bad = |what: &str| LinkError::BadSettings(format!("the AMQP address {what}; {FORM}"));
        let url = url::Url::parse(&settings.uri).map_err(|error| bad(&format!("cannot be read ({error})")))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(bad("does not begin with amqp:// or amqps://"));
        }
        let Some(host) = url.host().filter(|host| !host.to_string().is_empty()) else {
            return Err(bad("names no host"));
        };
        let mut uri: AMQPUri = settings.uri.parse().map_err(|_| bad("cannot be read"))?;
        if let url::Host::Ipv6(host) = host {
            // The parser overlooks these and would go to localhost instead.
            uri.authority.host = host.to_string();
        }
        if uri.vhost.is_empty() {
            // By the letter, a lone '/' at the end names the vhost "". Whoever writes it means the default one.
            "/".clone_into(&mut uri.vhost);
        }
        if uri.vhost.len() > 255 {
            return Err(bad("names a vhost of more than 255 bytes"));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        let named = matches!(uri.query.auth_mechanism, None | Some(SASLMechanism::Plain | SASLMechanism::AMQPlain));
        let user = ShortString::try_new(uri.authority.userinfo.username.clone())
            .map_err(|_| bad("names a user of more than 255 bytes"))?;
        let certificates = settings.ca_file.as_deref().map(certificates);
        let place = format!("{host}:{}", uri.authority.port);
        Ok(Self { certificates: certificates.transpose()?, place, user: named.then_some(user), uri })
    }

    /// `host:port`, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The name that may stand in a message's `user_id`.
    pub(super) fn user(&self) -> Option<ShortString> {
        self.user.clone()
    }

    /// Opens one connection, shown as `name` on the broker's page.
    ///
    /// # Errors
    /// Says in a sentence what is wrong and what to do.
    pub(super) async fn connect(&self, name: &str) -> Result<Connection, String> {
        let unable = |error: lapin::Error| self.why(&error);
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.certificates.clone() };
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "buildr".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let plug = Plug::default();
        let socket = plug.0.clone();
        let tokio = lapin::runtime::default_runtime().map_err(unable)?;
        let opening = Connection::connector(
            self.uri.clone(),
            stream::runtime(),
            async move |uri, _| {
                let AMQPAuthority { host, port, .. } = &uri.authority;
                let found = tokio::time::timeout(CONNECT_WITHIN, async {
                    let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await?.collect();
                    Raw::connect(&tokio, addresses).await
                });
                let mut stream = found.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    Wire::put_in(&socket, plain.get_ref().as_fd().try_clone_to_owned()?)?;
                }
                if uri.scheme == AMQPScheme::AMQPS {
                    stream = stream.into_tls(host, tls.as_ref()).await?;
                }
                Ok(AsyncTcpStream::Plain(Screened::new(stream)))
            },
            properties,
        );
        match tokio::time::timeout(CONNECT_WITHIN, opening).await {
            Ok(opened) => {
                plug.leave();
                opened.map_err(unable)
            }
            Err(_) => Err(format!(
                "RabbitMQ at {} did not answer within {} s; check that the address is that of its AMQP port and that no \
                 firewall swallows the connection",
                self.place,
                CONNECT_WITHIN.as_secs()
            )),
        }
    }

    /// What an error of a whole connection means, and what to do about it.
    pub(super) fn why(&self, error: &lapin::Error) -> String {
        let Self { place, uri, .. } = self;
        let (user, vhost) = (&uri.authority.userinfo.username, &uri.vhost);
        match error.kind() {
            ErrorKind::ProtocolError(error) if error.get_id() == ACCESS_REFUSED => {
                let local = "; RabbitMQ lets the user guest in from its own machine only";
                let hint = if user == "guest" { local } else { "" };
                format!(
                    "RabbitMQ at {place} refuses the user {user:?}: the name or the password is wrong; check them in \
                     the AMQP address{hint}"
                )
            }
            ErrorKind::ProtocolError(error) if error.get_id() == NOT_ALLOWED => format!(
                "RabbitMQ at {place} has no vhost {vhost:?} that the user {user:?} may use; check the name in the AMQP \
                 address, or make it with `rabbitmqctl add_vhost` and `rabbitmqctl set_permissions` ({})",
                error.get_message()
            ),
            ErrorKind::ProtocolError(error) => {
                format!("RabbitMQ at {place} closed the connection: {}", error.get_message())
            }
            ErrorKind::IOError(error) if error.kind() == io::ErrorKind::ConnectionRefused => format!(
                "nothing listens at {place} (connection refused); check that RabbitMQ runs there and that the AMQP \
                 address is right"
            ),
            ErrorKind::IOError(error) if uri.scheme == AMQPScheme::AMQPS => self.why_not_trusted(error),
            ErrorKind::IOError(error) => format!("RabbitMQ at {place} cannot be reached: {error}"),
            ErrorKind::MissingHeartbeatError => format!("RabbitMQ at {place} has given no sign of life for too long"),
            ErrorKind::ParsingError(_) => {
                format!("{place} sent what is no AMQP; check that the address is that of RabbitMQ's AMQP port")
            }
            _ => format!("the connection to RabbitMQ at {place} broke: {error}"),
        }
    }

    /// Why a connection over TLS did not come to be.
    fn why_not_trusted(&self, error: &io::Error) -> String {
        let Self { place, uri, .. } = self;
        let found = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(rustls::Error::InvalidCertificate(reason)) = found else {
            return format!("no TLS connection to RabbitMQ at {place} ({error}); check that the port speaks TLS");
        };
        match reason {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the certificate of RabbitMQ at {place} is not made out to {:?}; write the name that it is made out to \
                 into the AMQP address",
                uri.authority.host
            ),
            CertificateError::UnknownIssuer => format!(
                "the certificate of RabbitMQ at {place} is signed by nobody whom this machine trusts; name a file with \
                 the certificate of its authority (--amqp-ca)"
            ),
            other => format!("the certificate of RabbitMQ at {place} cannot be trusted: {other}"),
        }
    }
}

/// The certificates in a PEM file.
fn certificates(file: &Path) -> Result<String, LinkError> {
    let shown = file.display();
    let bad =
        |what: String| LinkError::BadSettings(format!("{what}; name a PEM file with the authority's certificate"));
    let text =
        std::fs::read(file).map_err(|error| bad(format!("the certificates in {shown} cannot be read: {error}")))?;
    let mut trusted = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.map_err(|error| bad(format!("the certificates in {shown} are damaged: {error}")))?;
        trusted.add(certificate).map_err(|error| bad(format!("a certificate in {shown} is none: {error}")))?;
    }
    match String::from_utf8(text) {
        Ok(text) if !trusted.is_empty() => Ok(text),
        _ => Err(bad(format!("{shown} holds no certificate"))),
    }
}

/// A second handle on the socket of a connection that is being opened. lapin runs each connection on a thread of
/// its own, which a silent peer would hold forever; pulling the plug lets it go.
#[derive(Default)]
struct Plug(Arc<Mutex<Wire>>);

#[derive(Default)]
enum Wire {
    /// There is no socket yet.
    #[default]
    Waiting,
    /// This is it.
    In(TcpStream),
    /// Nobody waits for the connection any more.
    Pulled,
}

impl Wire {
    fn put_in(place: &Mutex<Self>, socket: std::os::fd::OwnedFd) -> io::Result<()> {
        let mut wire = place.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*wire, Self::Pulled) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        *wire = Self::In(socket.into());
        Ok(())
    }
}

impl Plug {
    /// Forgets the socket without touching it.
    fn leave(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Wire::Waiting;
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let mut wire = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Wire::In(socket) = std::mem::replace(&mut *wire, Wire::Pulled) {
            // It fails only when the socket is gone already.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, expect: &str) {
        let got = match Address::read(&RabbitSettings::new(uri)) {
            Ok(address) => {
                let Address { uri, place, .. } = &address;
                let host = &uri.authority.host;
                format!("{place} host={host} vhost={} heartbeat={}", uri.vhost, uri.query.heartbeat.unwrap())
            }
            Err(error) => {
                assert!(!error.to_string().contains("hunter2"), "{error}");
                format!("error: {error}")
            }
        };
        assert!(got.starts_with(expect), "{uri}\n  expected {expect}\n  got      {got}");
    }

    #[test]
    fn addresses() {
        check("amqp://h", "h:5672 host=h vhost=/ heartbeat=20");
        check("amqp://h/", "h:5672 host=h vhost=/ heartbeat=20");
        check("amqp://u:p@h:1/%2f", "h:1 host=h vhost=/ heartbeat=20");
        check("amqps://h/farm?heartbeat=5", "h:5671 host=h vhost=farm heartbeat=5");
        check("amqp://127.0.0.1/x", "127.0.0.1:5672 host=127.0.0.1 vhost=x");
        check("amqp://u:p@[::1]:5673/x", "[::1]:5673 host=::1 vhost=x");
    }

    #[test]
    fn what_is_no_address() {
        check("", "error: the AMQP address cannot be read");
        check("localhost", "error: the AMQP address cannot be read");
        check("localhost:5672", "error: the AMQP address does not begin with amqp://");
        check("http://u:hunter2@h", "error: the AMQP address does not begin with amqp://");
        check("amqp:///x", "error: the AMQP address names no host");
        check("amqp://u:hunter2@h:port/x", "error: the AMQP address cannot be read");
        check("amqp://u:hunter2@h/x?heartbeat=often", "error: the AMQP address cannot be read");
        let settings = RabbitSettings { ca_file: Some("/nowhere.pem".into()), ..RabbitSettings::new("amqps://h") };
        let error = Address::read(&settings).err().unwrap().to_string();
        assert!(error.contains("/nowhere.pem"), "{error}");
    }
}
