//! Says to whoever wants to hear it that a branch broke or was fixed: by one webhook for the farm, signed as Standard
//! Webhooks are, and by mail. To each one after the other, so that nobody hears of an end before its beginning.

mod letter;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildr::process::clock::now_ms;
use futures_util::future::join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Notify};
use crate::desk::Desk;
use crate::feed::Change;
use crate::forge::{Http, HttpError, http, post};
use crate::mail::{Address, Letter, MailError, Post};
use crate::store::{Hearers, Notice, SaidBy, StoreError};

/// How long it sleeps at most while something waits.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often something is said before it is given up: for about three days.
const TRIES: u32 = 12;

/// The wait after the first try that came to nothing, in milliseconds; four times as long each time.
const FIRST_WAIT_MS: u64 = 5_000;

/// The longest of these.
const LONGEST_WAIT_MS: u64 = 10 * 60 * 60 * 1000;

/// Who wants to hear it, as the settings say.
pub(crate) fn hearers(config: &Config) -> Hearers {
    let mail = config.mail.as_ref().map(|mail| mail.to.iter().map(Address::to_string).collect());
    Hearers { webhook: config.notify.is_some(), mail }
}

/// How it is said.
enum Way<'a> {
    Webhook(Http, &'a Notify),
    Mail(Box<Post>),
}

/// Why it was not said.
#[derive(Debug, thiserror::Error)]
enum Unsaid {
    #[error(transparent)]
    Webhook(#[from] HttpError),
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error("{0}")]
    Address(String),
}

impl Way<'_> {
    fn by(&self) -> SaidBy {
        match self {
            Self::Webhook(..) => SaidBy::Webhook,
            Self::Mail(_) => SaidBy::Mail,
        }
    }

    async fn say(&self, notice: &Notice, pages: &str, now_ms: u64) -> Result<(), Unsaid> {
        match self {
            Self::Webhook(http, notify) => {
                let body = body(notice, pages);
                let headers = headers(&notice.message, now_ms / 1000, &body, &notify.key);
                Ok(post(http, &notify.url, &headers, body).await?)
            }
            Self::Mail(post) => {
                let to = notice.recipient.parse().map_err(Unsaid::Address)?;
                let (subject, text) = (letter::subject(notice), letter::text(notice, pages));
                Ok(post.send(&Letter { id: &notice.message, to: &to, subject, text }).await?)
            }
        }
    }
}

/// Says it until `shutdown`. Neither way waits for the other.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let webhook = desk.config.notify.as_ref().and_then(|notify| match http() {
        Ok(http) => Some(Way::Webhook(http, notify)),
        Err(error) => {
            tracing::error!("no webhook tells when a branch breaks, for no HTTP client can be made: {error}");
            None
        }
    });
    let mail = desk.config.mail.as_ref().and_then(|settings| match Post::new(settings) {
        Ok(post) => Some(Way::Mail(Box::new(post))),
        Err(error) => {
            tracing::error!("no mail tells when a branch breaks: {error}");
            None
        }
    });
    let ways = webhook.into_iter().chain(mail);
    join_all(ways.map(|way| keep_saying(&desk, way, &shutdown))).await;
    shutdown.cancelled().await;
}

async fn keep_saying(desk: &Desk, way: Way<'_>, shutdown: &CancellationToken) {
    let mut changes = desk.feed.listen();
    loop {
        changes.catch_up();
        let open = match say(desk, &way, now_ms()).await {
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
async fn say(desk: &Desk, way: &Way<'_>, now_ms: u64) -> Result<bool, StoreError> {
    while let Some(notice) = desk.store.next_notice(way.by(), now_ms, LONGEST_WAIT_MS).await? {
        let said = way.say(&notice, desk.page_url(), now_ms).await;
        let mut tx = desk.store.write().await?;
        match said {
            Err(error) if notice.tries + 1 < TRIES => {
                tracing::warn!("it is said again that a branch is {}: {error}", notice.kind);
                tx.notice_later(notice.id, now_ms.saturating_add(again_after_ms(notice.tries))).await?;
            }
            said => {
                if let Err(why) = said {
                    tracing::error!("somebody does not hear that a branch is {}: {why}", notice.kind);
                }
                tx.notice_done(notice.id).await?;
            }
        }
        tx.commit().await?;
    }
    desk.store.has_notices(way.by()).await
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
