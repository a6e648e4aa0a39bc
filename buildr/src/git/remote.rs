//! The other end: who we are to it, and when to stop talking.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use git2::{
    AutotagOption, CertificateCheckStatus, Direction, ErrorClass, ErrorCode, FetchOptions, ProxyOptions, Remote,
    RemoteCallbacks, RemoteConnection, Repository,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::authorities;
use super::credentials::{Credentials, public_url};
use super::error::GitError;
use super::order::Order;
use super::status;
use super::watch::Watch;

/// A log that grows by more lines than this while objects come in tells nobody more.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// What one checkout says on its way. It holds no sender of its own, so that the reader's end comes when the caller
/// has gone, even if a connection is still waiting for its time to run out.
pub(super) struct Progress {
    lines: mpsc::WeakSender<String>,
    last: Cell<Instant>,
}

impl Progress {
    pub(super) fn to(lines: &mpsc::Sender<String>) -> Self {
        Self { lines: lines.downgrade(), last: Cell::new(Instant::now()) }
    }

    /// A line that must not be lost: waits for the reader. Called on a blocking thread only.
    pub(super) fn say(&self, line: String) {
        if let Some(lines) = self.lines.upgrade() {
            // A reader that has gone wants no lines.
            lines.blocking_send(line).ok();
        }
    }

    /// A line about how far we are: left out when the last was just now, or when the reader is behind.
    pub(super) fn tick(&self, line: impl FnOnce() -> String) {
        if self.last.get().elapsed() >= BETWEEN_LINES {
            self.last.set(Instant::now());
            if let Some(lines) = self.lines.upgrade() {
                lines.try_send(line()).ok();
            }
        }
    }
}

/// One checkout's talk with one repository, over as many connections as it takes.
pub(super) struct Session<'a> {
    /// Where to connect, and what to call it: without password.
    pub(super) url: String,
    pub(super) stop: &'a CancellationToken,
    pub(super) progress: &'a Progress,
    pub(super) watch: &'a Watch,
    runtime: &'a Handle,
    credentials: RefCell<Credentials>,
    host_key: RefCell<Option<HostKey>>,
}

struct HostKey {
    host: String,
    fingerprint: String,
}

impl<'a> Session<'a> {
    pub(super) fn new(order: &'a Order, progress: &'a Progress) -> Self {
        let credentials = match order.policy.anonymous {
            true => Credentials::none(),
            false => Credentials::new(&order.repo, order.policy.home.clone(), order.own.clone()),
        };
        Self {
            url: public_url(order.repo.reveal()),
            stop: &order.stop,
            progress,
            watch: &order.watch,
            runtime: &order.runtime,
            credentials: RefCell::new(credentials),
            host_key: RefCell::new(None),
        }
    }

    /// Stops here when somebody asked to.
    pub(super) fn go_on(&self) -> Result<(), GitError> {
        if self.stop.is_cancelled() { Err(GitError::Cancelled) } else { Ok(()) }
    }

    /// The remote, bound to `mirror` when there is one; only a bound one can download.
    pub(super) fn remote<'repo>(&self, mirror: Option<&'repo Repository>) -> Result<Remote<'repo>, GitError> {
        match mirror {
            Some(mirror) => mirror.remote_anonymous(&self.url),
            None => Remote::create_detached(self.url.as_str()),
        }
        .map_err(|e| self.explain(&e))
    }

    /// Connects. `Ok(None)`: a credential broke the connection and others are left, so make the remote anew.
    ///
    /// A key that libssh2 cannot read (it has a passphrase) ends the whole connection instead of being refused.
    pub(super) fn connect<'repo, 'c>(
        &'c self,
        remote: &'c mut Remote<'repo>,
    ) -> Result<Option<RemoteConnection<'repo, 'c, 'c>>, GitError> {
        self.go_on()?;
        authorities::read();
        let before = self.credentials.borrow().offered();
        let mut proxy = ProxyOptions::new();
        proxy.auto();
        match self
            .watch
            .during(&self.url, || remote.connect_auth(Direction::Fetch, Some(self.callbacks()), Some(proxy)))
        {
            Ok(connection) => {
                let mut credentials = self.credentials.borrow_mut();
                if credentials.offered() > before {
                    credentials.succeeded();
                }
                Ok(Some(connection))
            }
            Err(error) => {
                let broke = error.class() == ErrorClass::Ssh && error.code() == ErrorCode::GenericError;
                if broke && self.credentials.borrow().offered() > before && !self.stop.is_cancelled() {
                    return Ok(None);
                }
                Err(self.not_connected(&error))
            }
        }
    }

    /// How a download is done: no tags beyond those asked for, nothing written but objects, stopped when asked.
    pub(super) fn fetch_options(&self) -> FetchOptions<'_> {
        let mut proxy = ProxyOptions::new();
        proxy.auto();
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(self.callbacks())
            .proxy_options(proxy)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false);
        options
    }

    /// Says why there is no connection. A web server that answers, and not with git, is asked once more what it means.
    fn not_connected(&self, error: &git2::Error) -> GitError {
        let explained = self.explain(error);
        let answered = error.class() == ErrorClass::Http && error.code() == ErrorCode::GenericError;
        if !answered || !explained.retry_worthy() {
            return explained;
        }
        match self.watch.during(&self.url, || status::of(&self.url, self.runtime)) {
            Some(code) if status::is_final(code) => GitError::NotFound {
                repo: self.url.clone(),
                detail: format!("the server answers with HTTP status {code}"),
                tried: self.credentials.borrow().tried(),
            },
            _ => explained,
        }
    }

    /// Says what a git error of this talk means, by its type.
    pub(super) fn explain(&self, error: &git2::Error) -> GitError {
        let repo = self.url.clone();
        let detail = error.message().trim().to_owned();
        let tried = self.credentials.borrow().tried();
        if self.stop.is_cancelled() {
            return GitError::Cancelled;
        }
        match (error.class(), error.code()) {
            (_, ErrorCode::Certificate) => self.distrust(detail),
            (_, ErrorCode::Auth) => GitError::Denied { repo, tried },
            (_, ErrorCode::Owner) => GitError::ForeignOwner { path: repo },
            // An ssh server that lets us in and then says nothing has no such repository for us.
            (ErrorClass::Ssh | ErrorClass::Net, ErrorCode::Eof) | (ErrorClass::Repository, _) => {
                GitError::NotFound { repo, detail, tried }
            }
            _ => GitError::Network { repo, detail },
        }
    }

    fn distrust(&self, detail: String) -> GitError {
        match self.host_key.borrow().as_ref() {
            Some(key) => GitError::HostKey {
                host: key.host.clone(),
                fingerprint: key.fingerprint.clone(),
                scan: match url::Url::parse(&self.url).ok().and_then(|url| url.port()) {
                    Some(port) => format!("-p {port} {}", key.host),
                    None => key.host.clone(),
                },
            },
            None => GitError::Certificate { repo: self.url.clone(), detail },
        }
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.credentials(|url, user, allowed| self.credentials.borrow_mut().next(url, user, allowed));
        callbacks.certificate_check(|cert, host| {
            let sha256 = cert.as_hostkey().and_then(|key| key.hash_sha256().copied());
            if cert.as_hostkey().is_some() {
                let fingerprint =
                    sha256.map_or("no SHA-256".into(), |h| format!("SHA256:{}", STANDARD_NO_PAD.encode(h)));
                *self.host_key.borrow_mut() = Some(HostKey { host: host.to_owned(), fingerprint });
            }
            // libgit2's own verdict stands: known_hosts for ssh, the system's authorities for https.
            Ok(CertificateCheckStatus::CertificatePassthrough)
        });
        callbacks.transfer_progress(|got| {
            self.watch.hear();
            let (objects, total) = (got.received_objects(), got.total_objects());
            self.progress.tick(|| match objects {
                _ if objects < total => {
                    format!("receiving objects: {objects} of {total}, {} KiB", got.received_bytes() / 1024)
                }
                _ => format!("resolving deltas: {} of {}", got.indexed_deltas(), got.total_deltas()),
            });
            !self.stop.is_cancelled()
        });
        callbacks.sideband_progress(|_| {
            self.watch.hear();
            !self.stop.is_cancelled()
        });
        callbacks
    }
}
