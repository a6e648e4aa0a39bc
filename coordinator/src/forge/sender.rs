//! Tells forges what they should know: of each repository one thing after the other, of several repositories at once.
//! What does not go through is told again, later each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buildr::process::clock::now_ms;
use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::answer::verdict;
use super::{Http, Kind, Verdict, http, request};
use crate::desk::Desk;
use crate::store::{SealedFor, StoreError, ToTell};

/// How long it sleeps at most while something waits.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long it sleeps when nothing does and nobody wakes it: whoever would have may have ended between its write and that.
const LOOK_UNASKED: Duration = Duration::from_secs(60);

/// How often something is told before it is given up: with the waits between, after most of a day.
const TRIES: u32 = 30;

/// The wait after the first try that came to nothing, in milliseconds; doubled each time.
const FIRST_WAIT_MS: u64 = 5_000;

/// The longest of these.
const LONGEST_WAIT_MS: u64 = 60 * 60 * 1000;

/// How much of an answer is read, in bytes.
const READ: usize = 16 << 10;

/// Tells until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let http = match http() {
        Ok(http) => http,
        Err(error) => {
            tracing::error!("no forge is told how builds go, for no HTTP client can be made: {error}");
            return shutdown.cancelled().await;
        }
    };
    loop {
        let open = match tell(&desk, &http, now_ms()).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!("what forges are told waits: {error}");
                true
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = desk.store.errands().statuses.notified() => {}
            () = sleep(if open { LOOK_EVERY } else { LOOK_UNASKED }) => {}
        }
    }
}

/// Tells all whose time has come, and says whether something waits still.
pub(super) async fn tell(desk: &Desk, http: &Http, now_ms: u64) -> Result<bool, StoreError> {
    let mut by_repo: BTreeMap<String, Vec<ToTell>> = BTreeMap::new();
    for one in desk.store.to_tell(now_ms, LONGEST_WAIT_MS).await? {
        by_repo.entry(one.identity.clone()).or_default().push(one);
    }
    for done in join_all(by_repo.into_values().map(|all| tell_repo(desk, http, all, now_ms))).await {
        done?;
    }
    desk.store.has_to_tell().await
}

/// How long one repository's statuses may take before the others' turn comes again.
const TURN: Duration = Duration::from_secs(20);

/// How long nothing else of a repository is told when its forge is not to be had, in milliseconds at most.
const PAUSE_MS: u64 = 60 * 1000;

async fn tell_repo(desk: &Desk, http: &Http, all: Vec<ToTell>, now_ms: u64) -> Result<(), StoreError> {
    let began = Instant::now();
    for one in all {
        if began.elapsed() >= TURN {
            break;
        }
        let verdict = tell_one(desk, http, &one, now_ms).await;
        let mut tx = desk.store.write().await?;
        let stop = match &verdict {
            Verdict::Told => {
                tx.told(&one, None, now_ms).await?;
                false
            }
            Verdict::Later(wait, why) if one.tries + 1 < TRIES => {
                let at = |ms: u64| now_ms.saturating_add(ms);
                let own = again_after_ms(one.tries).max(wait.unwrap_or(0));
                tx.tell_later(&one, (at(own), at(wait.unwrap_or(own.min(PAUSE_MS)))), why, now_ms).await?;
                true
            }
            Verdict::Later(_, why) | Verdict::Never(why) => {
                tracing::warn!("{} is not told of {}: {why}", one.identity, one.context);
                tx.told(&one, Some(why), now_ms).await?;
                false
            }
        };
        tx.commit().await?;
        if stop {
            // The next would go no better.
            break;
        }
    }
    Ok(())
}

async fn tell_one(desk: &Desk, http: &Http, one: &ToTell, now_ms: u64) -> Verdict {
    let Ok(kind) = one.forge.parse::<Kind>() else {
        return Verdict::Never(format!("{:?} is no forge that this coordinator knows", one.forge));
    };
    let Some(token) = desk.vault.open_text(SealedFor::Statuses, &one.identity, &one.token) else {
        return Verdict::Never(
            "its token was sealed with a key that is not here; `buildr statuses --set` sets it anew".to_owned(),
        );
    };
    let page = format!("{}/builds/{}", desk.page_url(), one.build.0);
    let Some(request) = request(http, kind, one, &token, &page) else {
        return Verdict::Never("its address is not one that a forge has".to_owned());
    };
    let answer = match request.send().await {
        Ok(answer) => answer,
        // Without the address, which is known, and may hold what it should not.
        Err(error) => return Verdict::Later(None, format!("it cannot be reached: {}", error.without_url())),
    };
    let (status, headers) = (answer.status(), answer.headers().clone());
    verdict(kind, status, &headers, &beginning(answer).await, now_ms)
}

/// The beginning of an answer's body.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut body = Vec::new();
    while body.len() < READ
        && let Ok(Some(part)) = answer.chunk().await
    {
        body.extend_from_slice(&part);
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// How long the next try waits after so many.
fn again_after_ms(tries: u32) -> u64 {
    FIRST_WAIT_MS.saturating_mul(2_u64.saturating_pow(tries)).min(LONGEST_WAIT_MS)
}
