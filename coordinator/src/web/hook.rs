//! `/hooks/FORGE/KEY` and `/hooks/FORGE`: where forges deliver. Whoever cannot prove to have a project's secret learns
//! nothing here, not even which projects there are; and nothing that is sent makes this an error of the server's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use buildr::process::clock::now_ms;
use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;
use protocol::api::{DeliveryView, Forge, Received};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::Web;
use super::api::Answer;
use super::projects::fresh_key;
use super::refusal::{Refusal, nothing_here};
use crate::deliveries;
use crate::feed::Change;
use crate::hook::{self, HEADERS, Headers, SECRET_HEADERS};
use crate::store::{Delivery, NewDelivery, Project, SealedFor, Stored};

/// The largest delivery that is read, in bytes: GitHub sends none that is larger.
const LONGEST: usize = 25 << 20;

/// How much of what is sent at the same time is in memory, in MiB: five of the largest, or a hundred usual ones.
const ROOM_MIB: u32 = 128;

/// How long a delivery may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(20);

/// How many projects' secrets are tried for an address that names no project, and how many bytes are hashed for that.
const MOST_TRIED: u32 = 256;
const MOST_HASHED: usize = 256 << 20;

/// A project's deliveries with a bad signature are written down no more often than this, in milliseconds.
const REFUSED_EVERY_MS: u64 = 60_000;

/// What is said of these.
const BAD_SIGNATURE: &str = "refused: signature";

/// How long the only text is that names a project in an address.
const LONGEST_KEY: usize = 64;

/// Room for what is sent and not kept yet: so that many large deliveries together wait instead of filling the memory.
pub(super) struct Room(Semaphore);

impl Room {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(ROOM_MIB as usize))
    }

    /// Reads a delivery whole. It takes room for each MiB of which something has arrived, and waits for that: who says
    /// that much will come and sends nothing takes nobody's room.
    async fn whole(&self, headers: &HeaderMap, body: Body) -> Answer<(Bytes, SemaphorePermit<'_>)> {
        let says = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if says.is_some_and(|length| length > LONGEST) {
            return Err(too_large());
        }
        let full = || {
            let sentence = "too much is delivered at the same time; send it again later";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, sentence)
        };
        let until = Instant::now() + ARRIVES_WITHIN;
        let (mut parts, mut whole) = (body.into_data_stream(), BytesMut::new());
        let mut room = self.0.try_acquire_many(0).map_err(|_| full())?;
        loop {
            let part = timeout_at(until, parts.next()).await.map_err(|_| too_slow())?;
            // Its sender went away and hears nothing of this.
            let Some(part) = part.transpose().map_err(|_| too_slow())? else { break };
            if whole.len() + part.len() > LONGEST {
                return Err(too_large());
            }
            whole.extend_from_slice(&part);
            let needs = u32::try_from(whole.len().div_ceil(1 << 20)).unwrap_or(ROOM_MIB);
            let more = needs.saturating_sub(u32::try_from(room.num_permits()).unwrap_or(ROOM_MIB));
            if more > 0 {
                let taken = timeout_at(until, self.0.acquire_many(more)).await;
                room.merge(taken.ok().and_then(Result::ok).ok_or_else(full)?);
            }
        }
        Ok((whole.freeze(), room))
    }
}

pub(super) fn router() -> Router<Arc<Web>> {
    // Read piece by piece below, within a limit of its own.
    Router::new()
        .route("/{forge}", post(deliver))
        .route("/{forge}/{key}", post(deliver_to))
        .layer(DefaultBodyLimit::disable())
}

type Told = Answer<(StatusCode, Json<Received>)>;

async fn deliver(State(web): State<Arc<Web>>, path: Result<Path<String>, PathRejection>, request: Request) -> Told {
    let Path(forge) = path.map_err(|_| nothing_here())?;
    arrive(&web, &forge, None, request).await
}

async fn deliver_to(
    State(web): State<Arc<Web>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Told {
    let Path((forge, key)) = path.map_err(|_| nothing_here())?;
    arrive(&web, &forge, Some(&key), request).await
}

async fn arrive(web: &Web, forge: &str, key: Option<&str>, request: Request) -> Told {
    let forge: Forge = forge.parse().map_err(|_| nothing_here())?;
    let (parts, body) = request.into_parts();
    let (body, _room) = web.hooks.whole(&parts.headers, body).await?;
    let headers = that_matter(&parts.headers);
    let seen = if forge == Forge::Generic { forge } else { hook::forge_of(&headers) };
    let found = match key {
        Some(key) => at_key(web, forge, seen, key, &headers, &body).await?,
        None => by_secret(web, forge, seen, &headers, &body).await?,
    };
    accept(web, found, seen, headers, body).await
}

fn too_slow() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "the delivery did not arrive in time; send it again")
}

fn too_large() -> Refusal {
    let limit = LONGEST >> 20;
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a delivery is at most {limit} MiB long"))
}

/// What everybody hears who does not prove to have the secret of a project that is there.
fn unknown() -> Refusal {
    let sentence = "no project's webhooks come from here with such a signature; `buildr project show` has the address, and its secret must be the forge's too";
    Refusal::new(StatusCode::UNAUTHORIZED, sentence)
}

fn that_matter(all: &HeaderMap) -> Headers {
    let value = |name: &str| Some((name.to_owned(), all.get(name)?.to_str().ok()?.to_owned()));
    HEADERS.iter().filter_map(|name| value(name)).collect()
}

/// The project that an address names, when the sender has its secret.
async fn at_key(
    web: &Web,
    forge: Forge,
    seen: Forge,
    key: &str,
    headers: &Headers,
    body: &Bytes,
) -> Answer<Vec<Project>> {
    let known = if key.len() <= LONGEST_KEY { web.desk.store.project_at(key).await? } else { None };
    let known = known.filter(|project| project.forge == forge && hook::fits(forge, seen));
    // Without a project it takes as long as with one.
    let secret = known.as_ref().and_then(|project| secret_of(web, project));
    let secret = secret.unwrap_or_else(|| "no project has this secret".to_owned());
    let good = is_genuine(seen, headers, body, vec![secret]).await == Some(0);
    match known {
        Some(project) if good => Ok(vec![project]),
        Some(project) => {
            refused(web, &project, seen, headers).await?;
            Err(unknown())
        }
        None => Err(unknown()),
    }
}

/// All projects at such a forge with the secret that the sender has.
async fn by_secret(web: &Web, forge: Forge, seen: Forge, headers: &Headers, body: &Bytes) -> Answer<Vec<Project>> {
    if !hook::fits(forge, seen) {
        return Err(unknown());
    }
    let mut projects = web.desk.store.projects_at_forges((forge, seen), MOST_TRIED).await?;
    projects.retain(|project| project.forge == forge);
    let with_secret = |project: Project| secret_of(web, &project).map(|secret| (project, secret));
    let projects: Vec<(Project, String)> = projects.into_iter().filter_map(with_secret).collect();
    let mut secrets: Vec<String> = projects.iter().map(|(_, secret)| secret.clone()).collect();
    secrets.sort_unstable();
    secrets.dedup();
    secrets.truncate((MOST_HASHED / body.len().max(1)).max(1));
    let found = is_genuine(seen, headers, body, secrets.clone()).await;
    let secret = found.and_then(|place| secrets.get(place)).ok_or_else(unknown)?;
    Ok(projects.into_iter().filter(|(_, own)| own == secret).map(|(project, _)| project).collect())
}

/// What a project's webhooks are signed with; nothing when it was sealed with a key that is gone.
fn secret_of(web: &Web, project: &Project) -> Option<String> {
    web.desk.vault.open_text(SealedFor::Webhooks, &project.identity, &project.secret)
}

/// With which of these secrets it was signed. Long ones are hashed on a thread that may take its time.
async fn is_genuine(seen: Forge, headers: &Headers, body: &Bytes, secrets: Vec<String>) -> Option<usize> {
    let now_s = now_ms() / 1000;
    let (headers, body) = (headers.clone(), body.clone());
    let look = move || secrets.iter().position(|secret| hook::is_genuine(seen, &headers, &body, secret, now_s));
    tokio::task::spawn_blocking(look).await.ok().flatten()
}

/// Writes down that somebody came without the secret: now and then, for anybody can come.
async fn refused(web: &Web, project: &Project, seen: Forge, headers: &Headers) -> Answer<()> {
    let now_ms = now_ms();
    let last = web.desk.store.last_refused(&project.identity, BAD_SIGNATURE).await?;
    if last.is_some_and(|last| now_ms.saturating_sub(last) < REFUSED_EVERY_MS) {
        return Ok(());
    }
    let new = NewDelivery {
        project: project.identity.clone(),
        forge: seen,
        event: hook::event_of(seen, headers),
        headers: BTreeMap::new(),
        body: Vec::new(),
        forge_id: None,
        marks: Vec::new(),
        redelivers: None,
        verdict: Some(BAD_SIGNATURE.to_owned()),
    };
    let mut tx = web.desk.store.write().await?;
    tx.keep_delivery(&new, now_ms).await?;
    tx.commit().await?;
    web.desk.feed.say(Change::Deliveries);
    Ok(())
}

/// Keeps a genuine delivery, and answers when it is on the disk. What it asks for is done behind that.
async fn accept(web: &Web, mut projects: Vec<Project>, seen: Forge, mut headers: Headers, body: Bytes) -> Told {
    for name in SECRET_HEADERS {
        headers.remove(name);
    }
    let mut delivery = Delivery { view: view_of(seen, &headers), headers, body: body.to_vec() };
    // Several have the secret when the address names none: then the one that it is about.
    let about = projects.iter().position(|project| {
        let told = deliveries::read(project, &delivery);
        told.is_ok_and(|told| !told.repositories.is_empty())
    });
    let of_many = projects.len() > 1;
    let project = match about {
        Some(place) => projects.swap_remove(place),
        None if of_many => return Err(of_no_project()),
        None => projects.pop().ok_or_else(unknown)?,
    };
    let own = of_owner(web, &project, &delivery);
    let unreadable = deliveries::read(&project, &delivery).err();
    let mut tx = web.desk.store.write().await?;
    let project = match own {
        None => project,
        Some(own) => match tx.project(&own.identity).await? {
            Some(known) => known,
            None => {
                tx.add_project(&own).await?;
                tracing::info!("{} is a project now, as its owner's webhooks say", own.identity);
                own
            }
        },
    };
    delivery.view.project.clone_from(&project.identity);
    let new = NewDelivery {
        project: project.identity.clone(),
        forge: seen,
        event: delivery.view.event.clone(),
        marks: marks(seen, &delivery),
        forge_id: delivery.view.forge_id,
        headers: delivery.headers,
        body: delivery.body,
        redelivers: None,
        verdict: unreadable.as_ref().map(|reason| format!("refused: {reason}")),
    };
    let stored = tx.keep_delivery(&new, now_ms()).await?;
    tx.commit().await?;
    web.desk.feed.say(Change::Deliveries);
    let received = match (stored, unreadable) {
        (Stored::Replay(delivery), _) => Received { delivery, message: "it came before, and does nothing".to_owned() },
        (Stored::New(_), Some(reason)) => return Err(Refusal::bad_request(reason.to_string())),
        (Stored::New(delivery), None) => Received { delivery, message: "it is kept, and handled now".to_owned() },
    };
    Ok((StatusCode::ACCEPTED, Json(received)))
}

/// The project of one repository, when the address is its owner's and there is something to build.
fn of_owner(web: &Web, project: &Project, delivery: &Delivery) -> Option<Project> {
    let told = deliveries::read(project, delivery).ok().filter(|_| project.is_owner())?;
    let builds = |verdict: &hook::Verdict| {
        matches!(verdict, hook::Verdict::Build(_) | hook::Verdict::Cancel { .. } | hook::Verdict::Again(_))
    };
    let about = told.repositories.iter().find(|identity| project.covers(identity))?;
    let secret = web.desk.vault.seal_text(SealedFor::Webhooks, about, &secret_of(web, project)?);
    told.verdicts.iter().any(builds).then(|| project.of_owner(about, fresh_key(), secret, now_ms()))?
}

fn of_no_project() -> Refusal {
    let sentence = "no project has the repository that the delivery is about; add it with `buildr project add URL`";
    Refusal::not_found(sentence)
}

fn view_of(seen: Forge, headers: &Headers) -> DeliveryView {
    DeliveryView {
        number: 0,
        project: String::new(),
        forge: seen,
        event: hook::event_of(seen, headers),
        forge_id: hook::id_of(seen, headers),
        received_ms: 0,
        verdict: None,
        builds: Vec::new(),
        replays: 0,
        redelivers: None,
        redeliverable: true,
    }
}

/// By what it is known when it comes again.
fn marks(seen: Forge, delivery: &Delivery) -> Vec<String> {
    let mut marks: Vec<String> = delivery.view.forge_id.iter().map(|id| format!("id {id}")).collect();
    if hook::is_known_by_its_bytes(seen) {
        marks.push(format!("body {}", HEXLOWER.encode(&Sha256::digest(&delivery.body))));
    }
    marks
}
