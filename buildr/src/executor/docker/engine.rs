//! The connection to the daemon, and how its errors become ours.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;

use super::super::ExecutorError;
use super::settings::DockerSettings;

/// What the daemon answers at once may take this long.
const QUICK: Duration = Duration::from_secs(120);

/// A wait, an attach, a pull or a commit answers when it is done; how long that may be is decided elsewhere.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the daemon is when nobody says otherwise.
const USUAL: &str = "unix:///var/run/docker.sock";

/// The daemon, over two clients: a client's timeout covers the time until the answer begins, so what answers late
/// needs one of its own.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) quick: Docker,
    pub(super) long: Docker,
    place: String,
}

impl Engine {
    pub(super) async fn connect(settings: &DockerSettings) -> Result<Self, ExecutorError> {
        let host = settings.host.as_deref().filter(|host| !host.is_empty());
        let place = host.unwrap_or(USUAL).to_owned();
        let unreachable = |error: Error| ExecutorError::Unreachable { place: place.clone(), reason: reason(&error) };
        let quick = Docker::connect_with_host(&place)
            .map_err(unreachable)?
            .with_timeout(QUICK)
            .with_request_modifier(with_urlsafe_credentials)
            .negotiate_version()
            .await
            .map_err(unreachable)?;
        let long = quick.clone().with_timeout(LONG);
        Ok(Self { quick, long, place })
    }

    /// What went wrong while something was done, such as "start the container of stage test".
    pub(super) fn failed(&self, doing: impl Into<String>, error: &Error) -> ExecutorError {
        match error {
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
    fn credentials_travel_in_the_alphabet_that_the_daemon_reads() {
        let mended: Vec<u8> = b"ab+/=".iter().map(|byte| urlsafe(*byte)).collect();
        assert_eq!(mended, b"ab-_=");
    }
}
