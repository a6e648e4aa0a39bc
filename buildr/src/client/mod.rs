//! The client of the coordinator's HTTP API (`protocol::api`): what the command line asks a farm for. The only room
//! that knows HTTP; it never talks to a person.

mod access;
mod artifacts;
mod depot;
mod doing;
mod error;
mod follow;
mod lines;
mod log;
mod projects;

pub use depot::DepotClient;
pub use error::{ClientError, Token};
pub use follow::{Followed, Following};
pub use log::{LogAddress, LogReader};

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::api::{
    ASKED_BY, AgentView, Approve, ApproveJob, Approved, BuildView, Builds, CancelRequest, Cancelled, Forgotten,
    Incidents, LogTimes, Pause, Revoke, Submit, Timeline, Why,
};
use protocol::{AgentId, BuildNumber};
use reqwest::header::{HeaderValue, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::process::tls;

/// How long a farm may take until it begins to answer, and between two parts of an answer that is not a stream.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How long it may take until a connection is there.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// When a silent connection is first probed, so that one whose other end is gone is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// No answer but a log is as long as this: a list of a thousand builds is a hundredth of it.
const LONGEST_ANSWER: usize = 64 << 20;

/// What a refusal says, whichever version of a coordinator answers: the newer ones have a problem (RFC 9457).
#[derive(Deserialize)]
struct Refused {
    detail: Option<String>,
    error: Option<String>,
}

impl Refused {
    fn sentence(self) -> Option<String> {
        self.detail.or(self.error)
    }
}

/// A farm that can be asked for things. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Farm {
    http: Client,
    server: Url,
    token: Option<String>,
    /// Who asks, for people to read.
    asks: Option<HeaderValue>,
}

impl Farm {
    /// A farm at this address; nothing is asked yet. Without a token it can be looked at, not written to.
    ///
    /// # Errors
    /// When the address is not one of HTTP, or no client can be made on this machine.
    pub fn new(server: Url, token: Option<String>) -> Result<Self, ClientError> {
        let bad = |reason| ClientError::Address { server: error::shown(&server), reason };
        if !matches!(server.scheme(), "http" | "https") || server.host().is_none() {
            return Err(bad("it does not begin with http:// or https:// and a host"));
        }
        if !server.username().is_empty() || server.password().is_some() {
            return Err(ClientError::Address {
                server: format!("{}://…@{}", server.scheme(), server.host_str().unwrap_or_default()),
                reason: "it holds a user or a password, where a farm takes a token (--token, BUILDR_TOKEN)",
            });
        }
        if server.query().is_some() || server.fragment().is_some() {
            return Err(bad("it holds a query or a fragment"));
        }
        tls::install();
        let mut builder = Client::builder()
            .user_agent(concat!("buildr/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE);
        if is_loopback(&server) {
            // A proxy's idea of 127.0.0.1 is the proxy.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { http, server, token, asks: None })
    }

    /// The same farm, asked by this person: `ada@laptop`. It is shown with what was asked for, and proves nothing.
    #[must_use]
    pub fn asked_by(self, who: &str) -> Self {
        // A name that no header can hold is not worth an error.
        Self { asks: HeaderValue::from_str(who).ok(), ..self }
    }

    /// Begins a build.
    ///
    /// # Errors
    /// As [`ClientError`] says; the same holds for everything below.
    pub async fn submit(&self, order: &Submit) -> Result<BuildView, ClientError> {
        self.post(&["builds"], order).await
    }

    /// A page of builds, newest first: those before `before`, at most `limit`.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn builds(&self, before: Option<BuildNumber>, limit: u32) -> Result<Builds, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(before.map(|number| ("before", number.0.to_string())));
        self.get(&["builds"], &query).await
    }

    /// One build whole.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn build(&self, number: BuildNumber) -> Result<BuildView, ClientError> {
        self.get(&["builds", &number.0.to_string()], &[]).await
    }

    /// Ends a build.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn cancel(&self, number: BuildNumber, reason: Option<String>) -> Result<Cancelled, ClientError> {
        self.post(&["builds", &number.0.to_string(), "cancel"], &CancelRequest { reason }).await
    }

    /// Says at a job's gate whether it may begin.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn approve_job(&self, number: BuildNumber, said: &ApproveJob) -> Result<Approved, ClientError> {
        self.post(&["builds", &number.0.to_string(), "approve"], said).await
    }

    /// A log's bytes from `from` on, up to `until` (both counted from the log's beginning).
    #[must_use]
    pub fn log(&self, log: LogAddress, from: u64, until: u64) -> LogReader {
        LogReader::new(self.clone(), log, from, until)
    }

    /// When the pieces of a log were printed.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn log_times(&self, log: &LogAddress) -> Result<LogTimes, ClientError> {
        let path = ["builds", &log.build.0.to_string(), "logs", log.log.as_str(), "times"];
        self.get(&path, &[("attempt", log.attempt.to_string())]).await
    }

    /// Follows a build from its beginning until it is over and its logs are whole.
    #[must_use]
    pub fn follow(&self, number: BuildNumber) -> Following {
        Following::new(self.clone(), number)
    }

    /// What was not as it should be on the line to the farm's agents.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn incidents(&self) -> Result<Incidents, ClientError> {
        self.get(&["incidents"], &[]).await
    }

    /// The agents that the farm knows.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn agents(&self) -> Result<Vec<AgentView>, ClientError> {
        self.get(&["agents"], &[]).await
    }

    /// One agent.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn agent(&self, agent: &AgentId) -> Result<AgentView, ClientError> {
        self.get(&["agents", agent.as_str()], &[]).await
    }

    /// Enrols an agent by the very key that a person compared.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn approve(&self, agent: &AgentId, approve: &Approve) -> Result<AgentView, ClientError> {
        self.post(&["agents", agent.as_str(), "approve"], approve).await
    }

    /// Has an agent take no jobs.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn pause(&self, agent: &AgentId, note: Option<String>) -> Result<AgentView, ClientError> {
        self.post(&["agents", agent.as_str(), "pause"], &Pause { note }).await
    }

    /// Has an agent take jobs again.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn resume(&self, agent: &AgentId) -> Result<AgentView, ClientError> {
        self.post(&["agents", agent.as_str(), "resume"], &serde_json::json!({})).await
    }

    /// Ends that an agent belongs to the farm.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn revoke(&self, agent: &AgentId, reason: Option<String>) -> Result<AgentView, ClientError> {
        self.post(&["agents", agent.as_str(), "revoke"], &Revoke { reason }).await
    }

    /// Has an agent that is gone listed no longer.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn forget(&self, agent: &AgentId) -> Result<Forgotten, ClientError> {
        self.post(&["agents", agent.as_str(), "forget"], &serde_json::json!({})).await
    }

    /// Why a build is where it is; without a number the newest one that waits, or else the newest one.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn why(&self, number: Option<BuildNumber>) -> Result<Why, ClientError> {
        match number {
            Some(number) => self.get(&["builds", &number.0.to_string(), "why"], &[]).await,
            None => self.get(&["why"], &[]).await,
        }
    }

    /// Where a build's time went.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn timeline(&self, number: BuildNumber) -> Result<Timeline, ClientError> {
        self.get(&["builds", &number.0.to_string(), "timeline"], &[]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::GET, path, query)).await?;
        self.read(response).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, ClientError> {
        let request = self.request(Method::POST, path, &[]).json(body);
        let request = self.asks.iter().fold(request, |request, who| request.header(ASKED_BY, who));
        let response = self.send(request).await?;
        self.read(response).await
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.server.clone();
        // Never fails: `new` took only addresses of HTTP, which have a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends, and gives the answer when it is a good one; its body is still to be read.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = tokio::time::timeout(ANSWER_TIME, request.send()).await.map_err(|_| self.silent())?;
        let response = answer.map_err(|error| ClientError::of(&self.server, &error))?;
        self.good(response).await
    }

    /// An answer, when it is a good one.
    async fn good(&self, response: Response) -> Result<Response, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let server = error::shown(&self.server);
        if status == StatusCode::UNAUTHORIZED {
            let token = if self.token.is_some() { Token::Refused } else { Token::Missing };
            let port = self.server.port_or_known_default().filter(|_| is_loopback(&self.server));
            return Err(ClientError::Unauthorized { server, port, token });
        }
        if let Some(to) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) {
            return Err(ClientError::Moved { server, to: String::from_utf8_lossy(to.as_bytes()).into_owned() });
        }
        let body = self.body(response).await?;
        Err(match serde_json::from_slice(&body).ok().and_then(Refused::sentence) {
            Some(reason) => ClientError::Refused { status, reason },
            None => ClientError::Foreign { server, reason: format!("status {status}"), status: Some(status) },
        })
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(error.to_string()))
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        while let Some(part) = self.part(&mut response).await? {
            if body.len() + part.len() > LONGEST_ANSWER {
                return Err(self.foreign(format!("an answer of more than {} MiB", LONGEST_ANSWER >> 20)));
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    async fn part(&self, response: &mut Response) -> Result<Option<Bytes>, ClientError> {
        let part = tokio::time::timeout(ANSWER_TIME, response.chunk()).await.map_err(|_| self.silent())?;
        part.map_err(|error| ClientError::of(&self.server, &error))
    }

    fn silent(&self) -> ClientError {
        let reason = format!("no answer within {} s", ANSWER_TIME.as_secs());
        ClientError::Broken { server: error::shown(&self.server), reason }
    }

    fn foreign(&self, reason: String) -> ClientError {
        ClientError::Foreign { server: error::shown(&self.server), reason, status: None }
    }
}

/// Whether an address names this very machine: only then may its user's own token be sent there.
#[must_use]
pub fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
