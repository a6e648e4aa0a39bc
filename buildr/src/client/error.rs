//! Why the farm did not do what it was asked for: what happened, and beside it what to do.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use reqwest::StatusCode;
use url::Url;

use crate::process::folders;

/// Why the farm did not do what it was asked for. The text says what happened, [`ClientError::advice`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's address cannot be one.
    #[error("{server:?} is not a farm's address: {reason}")]
    Address {
        /// What was given.
        server: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No client can be made on this machine.
    #[error("failed to make an HTTP client")]
    Setup(#[source] reqwest::Error),
    /// Nobody listens there.
    #[error("no farm answers at {server} ({reason})")]
    Away {
        /// Where it was looked for.
        server: String,
        /// What came back, such as "connection refused".
        reason: String,
    },
    /// The connection broke, or stayed silent, before the answer was there.
    #[error("the connection to the farm at {server} broke ({reason})")]
    Broken {
        /// Where the farm is.
        server: String,
        /// What came back.
        reason: String,
    },
    /// The token is missing or not the farm's.
    #[error("the farm at {server} {}", match .token { Token::Missing => "asks for a token, and none is known here", Token::Refused => "does not know the token that it was given" })]
    Unauthorized {
        /// Where the farm is.
        server: String,
        /// The port that it listens on: its token's file is named so.
        port: Option<u16>,
        /// What was sent.
        token: Token,
    },
    /// The farm says no, in its own words.
    #[error("{reason}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file of this machine that should be sent or written.
    #[error("the file {} cannot be used: {reason}", path.display())]
    Local {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The answer leads elsewhere. It is not followed: a token goes to no other place than the one that was named.
    #[error("the server at {server} sends on to {to}")]
    Moved {
        /// Who answered.
        server: String,
        /// Where to.
        to: String,
    },
    /// What answers is no farm, or one that speaks another version.
    #[error("what answers at {server} is not a buildr farm of this version ({reason}; this is buildr {})", env!("CARGO_PKG_VERSION"))]
    Foreign {
        /// Who answered.
        server: String,
        /// What was odd.
        reason: String,
        /// The HTTP status, when that was it.
        status: Option<StatusCode>,
    },
}

/// What was sent to a farm that asked for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// None.
    Missing,
    /// One that is not the farm's.
    Refused,
}

impl ClientError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some("write it like http://127.0.0.1:8700".to_owned()),
            Self::Away { .. } => {
                Some("start one with `buildr up`, or point --server / BUILDR_SERVER at one".to_owned())
            }
            Self::Unauthorized { port, .. } => Some(token_advice(*port)),
            Self::Moved { to, .. } => Some(format!("if that is the farm, pass its address with --server: {to}")),
            Self::Foreign { .. } => {
                Some("check --server / BUILDR_SERVER, and that both sides are of the same version".to_owned())
            }
            Self::Broken { .. } => Some("run the command again; what the farm accepted, it keeps".to_owned()),
            Self::Setup(_) | Self::Refused { .. } | Self::Local { .. } => None,
        }
    }

    /// Whether the same request may succeed a little later: the farm restarts, or a network recovers.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let gateway = |status: StatusCode| matches!(status.as_u16(), 502..=504);
        match self {
            Self::Away { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => gateway(*status),
            Self::Foreign { status, .. } => status.is_some_and(gateway),
            Self::Address { .. }
            | Self::Setup(_)
            | Self::Unauthorized { .. }
            | Self::Moved { .. }
            | Self::Local { .. } => false,
        }
    }

    /// Whether the farm is in trouble itself, which may be over while one waits: it is away, or says so.
    #[must_use]
    pub fn is_the_farms(&self) -> bool {
        match self {
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Foreign { status, .. } => status.is_some_and(|status| status.is_server_error()),
            other => other.may_pass(),
        }
    }

    /// Whether what was sent is more than the farm takes.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status == StatusCode::PAYLOAD_TOO_LARGE,
            Self::Foreign { status, .. } => *status == Some(StatusCode::PAYLOAD_TOO_LARGE),
            _ => false,
        }
    }

    /// From what the HTTP client says.
    pub(super) fn of(server: &Url, error: &reqwest::Error) -> Self {
        let (server, reason) = (shown(server), root_cause(error));
        if error.is_connect() { Self::Away { server, reason } } else { Self::Broken { server, reason } }
    }
}

/// An address as people write it.
pub(super) fn shown(server: &Url) -> String {
    server.as_str().trim_end_matches('/').to_owned()
}

fn token_advice(port: Option<u16>) -> String {
    let general = "pass the farm's token with BUILDR_TOKEN or --token";
    let Some(port) = port else { return general.to_owned() };
    let places: Vec<String> = folders::token_places(port).iter().map(|path| path.display().to_string()).collect();
    format!(
        "{general}; on the farm's own machine, the user who started the farm needs none: it is read from {}",
        places.join(" or ")
    )
}

/// The innermost reason: the layers around it only say that a request failed.
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>() {
        // Without the number that the system's own text ends with.
        Some(error) if error.raw_os_error().is_some() => error.kind().to_string(),
        _ => cause.to_string(),
    }
}
