//! The API that `buildr` and scripts use (`/api/v1`), and the pages that people look at. Only this room knows axum.

mod access;
mod agents;
mod api;
mod artifacts;
mod asked;
mod assets;
mod badge;
mod audit;
mod deliveries;
mod deeds;
mod depot;
mod doing;
mod follow;
mod health;
mod hook;
mod live;
mod log_search;
mod logs;
mod measures;
mod openapi;
mod pages;
mod projects;
mod refusal;
mod secrets;
mod shared;
mod text;
mod tokens;

use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::serve::ListenerExt as _;
use buildr::process::{ProcessError, folders};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::desk::Desk;
use crate::identity::write_secret;
use crate::log_view::Indexes;
use crate::store::StoreError;
use crate::why;
use access::Access;

/// The largest request that is read, in bytes: a repository and a branch, with room.
const BODY_LIMIT: usize = 64 << 10;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The token's file.
    #[error("the API's token in {path} cannot be used: {source}")]
    Token {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The place where the command line looks for it.
    #[error(transparent)]
    Place(#[from] ProcessError),
    /// The setting.
    #[error("--public-url {0:?} names no host; write one such as https://ci.example.org")]
    PublicUrl(String),
    /// What the store has to say before anything is answered.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The listener.
    #[error("the API can no longer be served: {0}")]
    Listener(#[from] io::Error),
}

/// What handlers work with.
struct Web {
    desk: Arc<Desk>,
    access: Access,
    followed: shared::Followed,
    waits: why::Kept,
    boards: pages::Boards,
    /// Room for what forges send and is not kept yet.
    hooks: hook::Room,
    indexes: Indexes,
    /// Room for looking into archives.
    looks: artifacts::Looks,
    /// Room for looking for something in logs.
    searches: log_search::Searches,
    queue_waits: measures::Waits,
    shutdown: CancellationToken,
}

impl Web {
    /// It has counted the waits of the attempts up to this place.
    fn new(desk: Arc<Desk>, access: Access, counted: i64, shutdown: CancellationToken) -> Self {
        let (followed, waits, boards) = (shared::Followed::default(), why::Kept::default(), pages::Boards::default());
        let (hooks, indexes, queue_waits) = (hook::Room::new(), Indexes::default(), measures::Waits::since(counted));
        let (looks, searches) = (artifacts::Looks::default(), log_search::Searches::default());
        Self { desk, access, followed, waits, boards, hooks, indexes, looks, searches, queue_waits, shutdown }
    }
}

/// The token that writes need, from its file in the state folder; made at the first call.
///
/// # Errors
/// When the file cannot be read or written.
pub fn api_token(state_dir: &Path) -> Result<String, WebError> {
    let path = state_dir.join("token");
    let token_error = |source| WebError::Token { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= access::TOKEN_LENGTH => Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(token_error(error)),
        _ => {
            let token = access::fresh_token();
            DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(token_error)?;
            write_secret(&path, token.as_bytes()).map_err(token_error)?;
            Ok(token)
        }
    }
}

/// Serves the API and the pages until `shutdown`; then answers what was asked, ends what is followed, and returns.
pub(crate) async fn serve(desk: Arc<Desk>, listener: TcpListener, shutdown: CancellationToken) -> Result<(), WebError> {
    let address = listener.local_addr()?;
    let token = api_token(&desk.config.state_dir)?;
    let place = Place::of(address, &token)?;
    let state_token = desk.config.state_dir.join("token");
    let token_path = place.path().unwrap_or(&state_token).display();
    tracing::info!("serving http://{address}; the token for writing lies in {token_path}");
    desk.archives.reached_by(&reached_at(&desk.config, address));
    let (recorder, writer) = access::recorder();
    let access = Access::new(&desk.config, address, token, recorder)?;
    // What was waited before is in what others gathered from the program that ran then.
    let counted = desk.store.last_attempt().await?;
    let router = router(Arc::new(Web::new(desk.clone(), access, counted, shutdown.clone())));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let answered = CancellationToken::new();
    // What is written goes at once: else the second piece of an answer waits for the other end's word that it has the
    // first, and that may take it forty milliseconds.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "answers on a connection may be late");
        }
    });
    let answering = async {
        let served = axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        answered.cancel();
        served
    };
    let (served, ()) = tokio::join!(answering, writer.run(&desk.store, answered.clone()));
    Ok(served?)
}

/// How agents reach this listener: by its public URL, else by its address, else by the machine's name.
fn reached_at(config: &Config, address: SocketAddr) -> String {
    match &config.public_url {
        Some(url) => url.clone(),
        None if address.ip().is_unspecified() => {
            format!("http://{}:{}", gethostname::gethostname().to_string_lossy(), address.port())
        }
        None => format!("http://{address}"),
    }
}

fn router(web: Arc<Web>) -> Router {
    Router::new()
        .nest("/api/v1/depot", depot::router())
        .merge(openapi::router())
        .nest("/hooks", hook::router())
        .merge(pages::router())
        .merge(live::router())
        .merge(measures::router())
        .merge(badge::router())
        .merge(assets::router())
        .merge(access::router())
        .fallback(refusal::no_such_page)
        .method_not_allowed_fallback(refusal::no_such_method)
        .layer(middleware::from_fn_with_state(web.clone(), access::guard))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(web)
}

/// Where the command line of this machine's user finds the token: there as long as this lives.
struct Place(Option<(PathBuf, String)>);

impl Place {
    fn of(address: SocketAddr, token: &str) -> Result<Self, WebError> {
        if !address.ip().is_loopback() && !address.ip().is_unspecified() {
            return Ok(Self(None));
        }
        Ok(Self(Some((folders::write_token(address.port(), token)?, token.to_owned()))))
    }

    fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|(path, _)| path.as_path())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((path, token)) = &self.0 else { return };
        // Another coordinator may have taken the port since, and put its own there.
        if std::fs::read_to_string(path).is_ok_and(|text| text.trim() == token) {
            std::fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests;
