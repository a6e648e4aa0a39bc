//! Follows a build to its end over connections that may break. A farm tells a build from its beginning on each
//! connection; the offsets say which bytes have been told before, and nothing is told twice.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use protocol::api::{BuildView, Follow};
use protocol::{BuildNumber, LogName};
use reqwest::{Method, Response};
use tokio::time::{Instant, sleep};

use super::lines::{Lines, TooLong};
use super::{ClientError, Farm, error};

/// How long a farm that was there may be away before following is given up: a restart takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first pause before a broken connection is opened again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is told of a build.
#[derive(Debug)]
pub enum Followed {
    /// Where the build stands; first, after each change, and again after a connection broke.
    Build(Box<BuildView>),
    /// A log grew.
    Log {
        /// Of which attempt.
        attempt: u32,
        /// Which log.
        log: LogName,
        /// Where these bytes begin.
        offset: u64,
        /// How many bytes right before these are lost for good.
        missing: u64,
        /// The bytes; never those that were told before.
        bytes: Bytes,
    },
    /// The connection broke; it is being opened again.
    Interrupted {
        /// Why.
        reason: ClientError,
    },
}

/// A build that is being followed.
#[derive(Debug)]
pub struct Following {
    farm: Farm,
    build: BuildNumber,
    state: State,
    outage: Option<Outage>,
    /// How far each log has been told, in bytes.
    told: HashMap<(u32, LogName), u64>,
}

#[derive(Debug)]
enum State {
    /// Nobody has answered yet: an error is the caller's at once.
    New,
    Connected {
        opened: Instant,
        response: Response,
        lines: Lines,
    },
    Away,
    Over,
}

/// A time without news. It ends when something new is told or a connection lasts: that one can be opened is not
/// enough, for it may break again at once.
#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Instant,
    pause: Duration,
}

impl Following {
    pub(super) fn new(farm: Farm, build: BuildNumber) -> Self {
        Self { farm, build, state: State::New, outage: None, told: HashMap::new() }
    }

    /// What is told next; nothing when the build is over and its logs are whole. Dropped while it waits, it loses
    /// nothing.
    ///
    /// # Errors
    /// When the farm does not answer the first time, says no, or stays away for a minute.
    pub async fn next(&mut self) -> Result<Option<Followed>, ClientError> {
        loop {
            match &mut self.state {
                State::Over => return Ok(None),
                State::New => self.state = self.connect().await?,
                State::Away => {
                    sleep(self.outage.map_or(FIRST_PAUSE, |outage| outage.pause)).await;
                    match self.connect().await {
                        Ok(connected) => self.state = connected,
                        Err(error) => {
                            self.lose(error)?;
                        }
                    }
                }
                State::Connected { opened, response, lines } => match line(&self.farm, response, lines).await {
                    Ok(line) => {
                        if let Some(told) = self.take(&line)? {
                            return Ok(Some(told));
                        }
                    }
                    Err(error) => {
                        if opened.elapsed() >= LONGEST_PAUSE {
                            self.outage = None;
                        }
                        if let Some(news) = self.lose(error)? {
                            return Ok(Some(news));
                        }
                    }
                },
            }
        }
    }

    async fn connect(&self) -> Result<State, ClientError> {
        let path = ["builds", &self.build.0.to_string(), "follow"];
        let response = self.farm.send(self.farm.request(Method::GET, &path, &[])).await?;
        Ok(State::Connected { opened: Instant::now(), response, lines: Lines::default() })
    }

    /// The connection is lost: to be opened again, unless that is of no use. Told once in each outage.
    fn lose(&mut self, reason: ClientError) -> Result<Option<Followed>, ClientError> {
        if !reason.may_pass() {
            self.state = State::Over;
            return Err(reason);
        }
        self.state = State::Away;
        let Some(outage) = &mut self.outage else {
            self.outage = Some(Outage { since: Instant::now(), pause: FIRST_PAUSE });
            return Ok(Some(Followed::Interrupted { reason }));
        };
        outage.pause = (outage.pause * 2).min(LONGEST_PAUSE);
        if outage.since.elapsed() < PATIENCE { Ok(None) } else { Err(reason) }
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<Followed>, ClientError> {
        match serde_json::from_slice(line).map_err(|error| self.farm.foreign(error.to_string()))? {
            Follow::Build { view } => Ok(Some(Followed::Build(view))),
            Follow::Log { attempt, log, offset, base64 } => {
                let bytes = BASE64.decode(base64).map_err(|error| self.farm.foreign(error.to_string()))?;
                Ok(self.take_log(attempt, log, offset, &Bytes::from(bytes)))
            }
            Follow::End => {
                self.state = State::Over;
                Ok(None)
            }
            Follow::Unknown => Ok(None),
        }
    }

    fn take_log(&mut self, attempt: u32, log: LogName, offset: u64, bytes: &Bytes) -> Option<Followed> {
        let told = self.told.entry((attempt, log.clone())).or_default();
        let known = usize::try_from(told.saturating_sub(offset)).unwrap_or(usize::MAX);
        if known >= bytes.len() {
            return None;
        }
        let missing = offset.saturating_sub(*told);
        *told = offset + bytes.len() as u64;
        self.outage = None;
        Some(Followed::Log { attempt, log, offset: offset + known as u64, missing, bytes: bytes.slice(known..) })
    }
}

/// The next line of the stream. Its end without a last word is a broken connection.
async fn line(farm: &Farm, response: &mut Response, lines: &mut Lines) -> Result<Bytes, ClientError> {
    loop {
        match lines.next() {
            Ok(Some(line)) => return Ok(line),
            Ok(None) => {}
            Err(TooLong) => return Err(farm.foreign("a line without an end".to_owned())),
        }
        // No limit of time: a stage may be silent for hours, and a peer that is gone is noticed by keep-alive.
        match response.chunk().await {
            Ok(Some(part)) => lines.push(&part),
            Ok(None) => {
                let reason = "it closed the connection".to_owned();
                return Err(ClientError::Broken { server: error::shown(&farm.server), reason });
            }
            Err(broken) => return Err(ClientError::of(&farm.server, &broken)),
        }
    }
}
