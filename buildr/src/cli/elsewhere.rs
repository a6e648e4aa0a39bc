//! Other repositories, for manifests that include files of theirs: fetched with the keys of the user who asks.

use tokio_util::sync::CancellationToken;

use super::CliError;
use crate::git::{Checkouts, ClonePolicy};
use crate::process::folders;
use crate::runner::Repositories;

/// The mirrors that commands on this machine keep of other repositories, in the user's folder of caches. With `offline`
/// they are what they were.
///
/// # Errors
/// When the user has no home.
pub(super) fn mirrors(offline: bool) -> Result<Checkouts, CliError> {
    let policy = ClonePolicy { local_repos: true, offline, ..ClonePolicy::default() };
    Ok(Checkouts::new(folders::cache("mirrors")?, policy))
}

/// What manifests may include from. Called within the runtime.
///
/// # Errors
/// As [`mirrors`].
pub(super) fn repositories(offline: bool) -> Result<Repositories, CliError> {
    Ok(Repositories::new(mirrors(offline)?, CancellationToken::new()))
}
