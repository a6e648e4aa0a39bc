//! The connection to the daemon, and how its errors become ours.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ImageInspect, SystemVersion};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use url::form_urlencoded::Serializer;

use super::super::ExecutorError;
use super::settings::DockerSettings;
use super::tunnel::Tunnel;

/// What the daemon answers at once may take this long.
const QUICK: Duration = Duration::from_secs(120);

/// A wait, an attach, a pull or a commit answers when it is done; how long that may be is decided elsewhere.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// From which version of its language on a daemon is asked for an image's platform: Docker 28.1.
const PLATFORMS_FROM: ClientVersion = ClientVersion { major_version: 1, minor_version: 49 };

/// Where the daemon is when nobody says otherwise.
const USUAL: &str = "unix:///var/run/docker.sock";

/// The daemon, over two clients: a client's timeout covers the time until the answer begins, so what answers late
/// needs one of its own.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) quick: Docker,
    pub(super) long: Docker,
    /// What the daemon said of itself when it was first spoken to.
    pub(super) told: Arc<SystemVersion>,
    place: String,
    /// The way to a daemon that is reached over ssh.
    tunnel: Option<Arc<Tunnel>>,
}

impl Engine {
    pub(super) async fn connect(settings: &DockerSettings) -> Result<Self, ExecutorError> {
        let host = settings.host.as_deref().filter(|host| !host.is_empty());
        let place = host.unwrap_or(USUAL).to_owned();
        let tunnel = match place.starts_with("ssh://") {
            true => Some(Arc::new(
                Tunnel::open(&settings.ssh, &place)
                    .map_err(|error| ExecutorError::Unreachable { place: place.clone(), reason: error.to_string() })?,
            )),
            false => None,
        };
        let address = tunnel.as_ref().map_or_else(|| place.clone(), |tunnel| tunnel.address());
        let made = agreed(|version| {
            let made = client(&address, settings.tls.as_deref(), version)?;
            Ok(made.with_timeout(QUICK).with_request_modifier(with_urlsafe_credentials))
        });
        let (quick, told) = match made.await {
            Ok(made) => made,
            Err(error) => {
                let complaint = match &tunnel {
                    Some(tunnel) => tunnel.complaint_soon().await,
                    None => None,
                };
                let reason = complaint.unwrap_or_else(|| reason(&error));
                return Err(ExecutorError::Unreachable { place, reason });
            }
        };
        let long = quick.clone().with_timeout(LONG);
        Ok(Self { quick, long, told: Arc::new(told), place, tunnel })
    }

    /// What an image is for a platform, where the daemon keeps it for several (containerd's store does). What says so has an
    /// id of its own, of which no container can be made.
    pub(super) async fn variant(&self, image: &str, platform: &str) -> Result<Option<ImageInspect>, Error> {
        if spoken(&self.told).is_none_or(|spoken| spoken < PLATFORMS_FROM) {
            return Ok(None);
        }
        // The client's own question has no room for it.
        let query = Serializer::new(String::new()).append_pair("platform", &described(platform)).finish();
        let asks = self.quick.clone().with_request_modifier(move |request| with_query(request, &query));
        match asks.inspect_image(image).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What went wrong while something was done, such as "start the container of stage test".
    pub(super) fn failed(&self, doing: impl Into<String>, error: &Error) -> ExecutorError {
        match error {
            Error::HyperLegacyError { .. }
                if self.tunnel.as_ref().is_some_and(|tunnel| tunnel.complaint().is_some()) =>
            {
                let reason = self.tunnel.as_ref().and_then(|tunnel| tunnel.complaint()).unwrap_or_default();
                ExecutorError::Unreachable { place: self.place.clone(), reason }
            }
            Error::HyperLegacyError { err } if err.is_connect() => {
                ExecutorError::Unreachable { place: self.place.clone(), reason: reason(error) }
            }
            Error::SocketNotFoundError(_) => {
                ExecutorError::Unreachable { place: self.place.clone(), reason: reason(error) }
            }
            _ => ExecutorError::Daemon { doing: doing.into(), reason: reason(error) },
        }
    }
}

/// A client that speaks the newest version of the language which it and the daemon both know, and what the daemon said
/// of itself. The client's own way to agree asks the same, and keeps nothing of the answer, for which a daemon starts
/// other programs.
async fn agreed(client: impl Fn(&ClientVersion) -> Result<Docker, Error>) -> Result<(Docker, SystemVersion), Error> {
    let newest = client(API_DEFAULT_VERSION)?;
    let told = newest.version().await?;
    match spoken(&told).filter(|spoken| spoken < API_DEFAULT_VERSION) {
        Some(older) => Ok((client(&older)?, told)),
        None => Ok((newest, told)),
    }
}

/// The newest version of the language that the daemon knows.
fn spoken(told: &SystemVersion) -> Option<ClientVersion> {
    let (major, minor) = told.api_version.as_deref()?.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// A platform such as `linux/arm/v7` as a daemon reads it.
fn described(platform: &str) -> String {
    let names = ["os", "architecture", "variant"];
    let parts: serde_json::Map<_, _> =
        names.into_iter().zip(platform.split('/')).map(|(name, part)| (name.to_owned(), part.into())).collect();
    serde_json::Value::from(parts).to_string()
}

/// The same request with one more thing said in its address.
fn with_query(mut request: bollard::BollardRequest, query: &str) -> bollard::BollardRequest {
    let sign = if request.uri().query().is_some() { '&' } else { '?' };
    if let Ok(longer) = format!("{}{sign}{query}", request.uri()).parse() {
        *request.uri_mut() = longer;
    }
    request
}

/// A client for a place; over TCP with the certificates in a folder, where there is one.
fn client(place: &str, certificates: Option<&Path>, version: &ClientVersion) -> Result<Docker, Error> {
    let is_tcp = ["tcp://", "http://", "https://"].iter().any(|scheme| place.starts_with(scheme));
    match certificates {
        Some(folder) if is_tcp => {
            let file = |name: &str| folder.join(name);
            let (key, certificate, roots) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
            Docker::connect_with_ssl(place, &key, &certificate, &roots, QUICK.as_secs(), version)
        }
        _ if is_tcp => Docker::connect_with_http(place, QUICK.as_secs(), version),
        _ if place.starts_with("unix://") => Docker::connect_with_unix(place, QUICK.as_secs(), version),
        // It says what such a place should look like.
        _ => Docker::connect_with_host(place),
    }
}

/// The HTTP status with which the daemon refused, when it did.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether what was asked for is not there.
pub(super) fn is_absent(error: &Error) -> bool {
    status(error) == Some(404)
}

/// What the daemon, or the way to it, said: the innermost cause, without the names of layers between.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => return message.trim().to_owned(),
        Error::DockerStreamError { error } => return error.trim().to_owned(),
        Error::RequestTimeoutError => return "it did not answer in time".to_owned(),
        Error::SocketNotFoundError(path) => return format!("there is no socket at {path}"),
        _ => {}
    }
    let mut innermost: &dyn std::error::Error = match error {
        Error::IOError { err } => err,
        other => other,
    };
    let mut forbidden = false;
    loop {
        if let Some(io) = innermost.downcast_ref::<std::io::Error>() {
            forbidden |= io.kind() == std::io::ErrorKind::PermissionDenied;
        }
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    let hint = if forbidden { " (this user may not open the socket: add it to the group that owns it)" } else { "" };
    format!("{innermost}{hint}")
}

/// The daemon reads credentials in the URL-safe alphabet and takes anything else for none at all; bollard writes
/// the standard one, which differs for some passwords.
fn with_urlsafe_credentials(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("X-Registry-Auth") {
        let urlsafe: Vec<u8> = value.as_bytes().iter().map(|byte| urlsafe(*byte)).collect();
        if let Ok(mended) = urlsafe.as_slice().try_into() {
            *value = mended;
        }
    }
    request
}

fn urlsafe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_errors_reason_is_its_innermost_cause() {
        let check = |error: Error, expected: &str| assert_eq!(reason(&error), expected);
        check(Error::DockerResponseServerError { status_code: 500, message: " no space\n".into() }, "no space");
        check(Error::RequestTimeoutError, "it did not answer in time");
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        check(
            Error::IOError { err: denied },
            "permission denied (this user may not open the socket: add it to the group that owns it)",
        );
    }

    #[test]
    fn a_platform_is_said_as_a_daemon_reads_it() {
        let check = |platform, expected: serde_json::Value| {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&described(platform)).unwrap(), expected);
        };
        check("linux/arm/v7", json!({"os": "linux", "architecture": "arm", "variant": "v7"}));
        check("linux/amd64", json!({"os": "linux", "architecture": "amd64"}));
        let check = |version: Option<&str>, knows: bool| {
            let told = SystemVersion { api_version: version.map(str::to_owned), ..SystemVersion::default() };
            assert_eq!(spoken(&told).is_some_and(|spoken| spoken >= PLATFORMS_FROM), knows, "{version:?}");
        };
        check(Some("1.49"), true);
        check(Some("1.48"), false);
        check(Some("2.0"), true);
        check(Some("latest"), false);
        check(None, false);
    }

    #[test]
    fn credentials_travel_in_the_alphabet_that_the_daemon_reads() {
        let mended: Vec<u8> = b"ab+/=".iter().map(|byte| urlsafe(*byte)).collect();
        assert_eq!(mended, b"ab-_=");
    }
}
