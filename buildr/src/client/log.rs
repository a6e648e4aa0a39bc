//! The bytes of one log, as far as they are in the farm's store.

use bytes::Bytes;
use protocol::{BuildNumber, LogName};
use reqwest::{Method, Response};

use super::{ClientError, Farm};

/// How often in a row a log is asked for again when the connection breaks before a byte has come.
const TRIES: u32 = 3;

/// Which log.
#[derive(Debug, Clone)]
pub struct LogAddress {
    /// Of which build.
    pub build: BuildNumber,
    /// Of which attempt, from 1.
    pub attempt: u32,
    /// Its name.
    pub log: LogName,
}

/// Reads a log from one place to another. A connection that breaks is opened again where it broke.
#[derive(Debug)]
pub struct LogReader {
    farm: Farm,
    log: LogAddress,
    at: u64,
    until: u64,
    response: Option<Response>,
    failures: u32,
}

impl LogReader {
    pub(super) fn new(farm: Farm, log: LogAddress, from: u64, until: u64) -> Self {
        Self { farm, log, at: from, until, response: None, failures: 0 }
    }

    /// The next bytes; nothing at the end, which comes early when the store holds less than was asked for.
    ///
    /// # Errors
    /// As [`ClientError`] says, after three tries.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while self.at < self.until {
            let begins = self.response.is_none();
            match self.part().await {
                Ok(Some(bytes)) if !bytes.is_empty() => {
                    self.failures = 0;
                    let wanted = usize::try_from(self.until - self.at).unwrap_or(usize::MAX).min(bytes.len());
                    self.at += wanted as u64;
                    return Ok(Some(bytes.slice(..wanted)));
                }
                Ok(Some(_)) => {}
                // An answer without a byte: there is no more.
                Ok(None) if begins => return Ok(None),
                // A farm may answer with a part of what was asked for.
                Ok(None) => self.response = None,
                Err(error) => {
                    self.response = None;
                    self.failures += 1;
                    if self.failures >= TRIES || !error.may_pass() {
                        return Err(error);
                    }
                }
            }
        }
        Ok(None)
    }

    async fn part(&mut self) -> Result<Option<Bytes>, ClientError> {
        let response = match self.response.take() {
            Some(response) => response,
            None => {
                let LogAddress { build, attempt, log } = &self.log;
                let query = [("attempt", attempt.to_string()), ("from", self.at.to_string())];
                let path = ["builds", &build.0.to_string(), "logs", log.as_str()];
                self.farm.send(self.farm.request(Method::GET, &path, &query)).await?
            }
        };
        let response = self.response.insert(response);
        self.farm.part(response).await
    }
}
