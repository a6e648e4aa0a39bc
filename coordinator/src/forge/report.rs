//! Which repositories' forges are told how builds go.

use protocol::api::{ReportTo, ReportView, Reported};
use url::Url;

use super::Kind;
use crate::desk::Desk;
use crate::store::{Reporting, SealedFor, StoreError};

/// Why a forge is not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportRefusal {
    /// Nobody knows what kind it is.
    #[error("nobody knows what kind of forge {0} is; name it with --forge github, gitlab, gitea, forgejo or bitbucket")]
    Forge(String),
    /// No such kind is known.
    #[error("{0}")]
    Kind(String),
    /// It is no address.
    #[error("{0:?} is no address of an API; write one such as https://git.example.org/api/v1")]
    Api(String),
    /// The token could not be sent.
    #[error("the token is empty, or holds what no header can; copy it anew")]
    Token,
    /// The repository is not told of.
    #[error("no forge is told of {0}; `buildr statuses` lists those that are")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All that are told, without their tokens.
///
/// # Errors
/// When the store fails.
pub(crate) async fn reporting(desk: &Desk) -> Result<Vec<ReportView>, StoreError> {
    desk.store.reporting().await
}

/// Has a repository's forge told from now on.
///
/// # Errors
/// When what is said cannot be, or the store fails.
pub(crate) async fn set(desk: &Desk, ask: &ReportTo) -> Result<Reported, ReportRefusal> {
    let identity = ask.repo.identity();
    let host = identity.split('/').next().unwrap_or_default().to_owned();
    let kind = match &ask.forge {
        Some(name) => name.parse().map_err(ReportRefusal::Kind)?,
        None => Kind::of_host(&host).ok_or_else(|| ReportRefusal::Forge(host.clone()))?,
    };
    let api = ask.api.clone().unwrap_or_else(|| kind.api_at(&host));
    let parsed = Url::parse(&api).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if parsed.is_none() || identity.starts_with('/') {
        return Err(ReportRefusal::Api(api));
    }
    let token = ask.token.trim().to_owned();
    if token.is_empty() || token.len() > 4096 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ReportRefusal::Token);
    }
    let message = format!("{identity} is told how its builds go, as {kind} at {api}");
    let mut tx = desk.store.write().await?;
    let token = desk.vault.seal_text(SealedFor::Statuses, &identity, &token);
    tx.put_reporting(&Reporting { identity, forge: kind.name().to_owned(), api, token }).await?;
    tx.commit().await?;
    Ok(Reported { message })
}

/// Has a repository's forge told no longer.
///
/// # Errors
/// When it was not, or the store fails.
pub(crate) async fn forget(desk: &Desk, identity: &str) -> Result<Reported, ReportRefusal> {
    let mut tx = desk.store.write().await?;
    if !tx.forget_reporting(identity).await? {
        return Err(ReportRefusal::Unknown(identity.to_owned()));
    }
    tx.commit().await?;
    Ok(Reported { message: format!("{identity} is told nothing more") })
}
