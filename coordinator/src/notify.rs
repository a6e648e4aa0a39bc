//! Says to whoever wants to hear it that a branch broke or was fixed: one webhook for the farm, signed as Standard
//! Webhooks are. One after the other, so that nobody hears of an end before its beginning.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildr::process::clock::now_ms;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Notify;
use crate::desk::Desk;
use crate::feed::Change;
use crate::forge::{HttpError, http, post};
use crate::store::{Notice, StoreError};

/// How long it sleeps at most while something waits.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often something is said before it is given up: for about three days.
const TRIES: u32 = 12;

/// The wait after the first try that came to nothing, in milliseconds; four times as long each time.
const FIRST_WAIT_MS: u64 = 5_000;

/// The longest of these.
const LONGEST_WAIT_MS: u64 = 10 * 60 * 60 * 1000;

/// Says it until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let Some(notify) = &desk.config.notify else { return shutdown.cancelled().await };
    let http = match http() {
        Ok(http) => http,
        Err(error) => {
            tracing::error!("nobody hears when a branch breaks, for no HTTP client can be made: {error}");
            return shutdown.cancelled().await;
        }
    };
    let mut changes = desk.feed.listen();
    loop {
        changes.catch_up();
        let open = match say(&desk, &http, notify, now_ms()).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!("what is to be said of branches waits: {error}");
                true
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changes.next_of(|change| matches!(change, Change::Build(_))) => {}
            () = sleep(LOOK_EVERY), if open => {}
        }
    }
}

/// Says all whose time has come, and gives whether something waits still.
async fn say(desk: &Desk, http: &crate::forge::Http, notify: &Notify, now_ms: u64) -> Result<bool, StoreError> {
    while let Some(notice) = desk.store.next_notice(now_ms).await? {
        let body = body(&notice, desk.page_url());
        let headers = headers(&notice.message, now_ms / 1000, &body, &notify.key);
        let said = post(http, &notify.url, &headers, body).await;
        let mut tx = desk.store.write().await?;
        match said {
            Err(error) if notice.tries + 1 < TRIES => {
                tracing::warn!("it is said again that a branch is {}: {error}", notice.kind);
                tx.notice_later(notice.id, now_ms.saturating_add(again_after_ms(notice.tries))).await?;
            }
            said => {
                if let Err(HttpError(why)) = said {
                    tracing::error!("nobody hears that a branch is {}: {why}", notice.kind);
                }
                tx.notice_done(notice.id).await?;
            }
        }
        tx.commit().await?;
    }
    desk.store.has_notices().await
}

fn body(notice: &Notice, pages: &str) -> String {
    let Notice { kind, build, before, at_ms, .. } = notice;
    let moment = i64::try_from(*at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let page = |number: u64| format!("{pages}/builds/{number}");
    json!({
        "type": format!("branch.{kind}"),
        "timestamp": moment.map(|moment| moment.to_string()),
        "data": {
            "repo": build.repo, "branch": build.branch, "commit": build.commit, "subject": build.subject,
            "build": build.number, "status": build.status, "message": build.message, "url": page(build.number.0),
            "before": {"build": before, "url": page(before.0)},
        },
    })
    .to_string()
}

/// As <https://www.standardwebhooks.com> has them: the receiver computes the same, and looks at the time.
fn headers(id: &str, seconds: u64, body: &str, key: &[u8]) -> [(&'static str, String); 3] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    [("webhook-id", id.to_owned()), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signature)]
}

fn again_after_ms(tries: u32) -> u64 {
    FIRST_WAIT_MS.saturating_mul(4_u64.saturating_pow(tries)).min(LONGEST_WAIT_MS)
}

#[cfg(test)]
mod tests;
