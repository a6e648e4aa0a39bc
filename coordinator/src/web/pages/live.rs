//! Keeps pages true while they are looked at: `/live/…` sends the parts of a page that changed, as server-sent events.
//! A page that comes again after a break gets all of them anew, so that nothing has to be remembered for it.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::deliveries::DeliveriesQuery;
use super::home::HomeQuery;
use super::{Onlooker, agents, build, deliveries, home, projects, queue};
use crate::feed::{Change, Listener};
use crate::web::api::{Answer, number};
use crate::web::refusal::Refusal;
use crate::web::shared::Shared;
use crate::web::{Web, assets};

/// How often it is looked although nothing was said: a change may be one of time alone. It is the heart-beat too.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// For how long changes are gathered before it is looked.
const GATHERED: Duration = Duration::from_millis(250);

/// After how long a browser comes again when the line broke, in milliseconds.
const RETRY_MS: u32 = 1000;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        .route("/live/home", get(of_home))
        .route("/live/queue", get(of_queue))
        .route("/live/agents", get(of_agents))
        .route("/live/deliveries", get(of_deliveries))
        .route("/live/projects", get(of_projects))
        .route("/live/projects/{*identity}", get(of_project))
        .route("/live/builds/{number}", get(of_build))
}

/// A part of a page.
pub(super) struct Part {
    id: &'static str,
    html: String,
    /// What of it is news when it changes: not the times that the page's script counts on by itself.
    steady: u64,
}

impl Part {
    /// The part that stands in the element `id`.
    pub(super) fn new(id: &'static str, template: &impl Template) -> Answer<Self> {
        let html = template.render();
        let html = html.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let steady = without_times(&html);
        Ok(Self { id, html, steady })
    }

    /// The same, of which only what `news` says is news.
    pub(super) fn keyed(id: &'static str, template: &impl Template, news: &str) -> Answer<Self> {
        Ok(Self { steady: without_times(news), ..Self::new(id, template)? })
    }
}

/// Names what a part says apart from its times; that one is of another moment is said all the same.
fn without_times(html: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (place, piece) in html.split("<time").enumerate() {
        let (time, rest) = if place == 0 { ("", piece) } else { piece.split_once('>').unwrap_or(("", piece)) };
        // Since when something goes on is beside it in words or a status.
        time.split_once("data-at=").map(|(_, at)| at.split(' ').next()).hash(&mut hasher);
        let rest = if place == 0 { rest } else { rest.split_once("</time>").map_or(rest, |(_, rest)| rest) };
        rest.hash(&mut hasher);
    }
    hasher.finish()
}

/// What a page is about.
enum Source {
    Home(Box<HomeQuery>),
    Queue,
    Agents,
    Deliveries(Box<DeliveriesQuery>),
    Projects,
    Project(String),
    Build(Arc<Shared>),
}

impl Source {
    /// Whether a change of the farm may be one of the page.
    fn is_about(&self, change: Change) -> bool {
        match self {
            Self::Home(_) | Self::Queue | Self::Agents | Self::Build(_) => {
                matches!(change, Change::Build(_) | Change::Agents)
            }
            Self::Deliveries(_) => matches!(change, Change::Deliveries),
            Self::Projects | Self::Project(_) => {
                matches!(change, Change::Build(_) | Change::Deliveries | Change::Projects)
            }
        }
    }
}

/// How it hears of changes.
enum Changes {
    OfFarm(Listener),
    OfBuild(watch::Receiver<u64>),
}

async fn of_home(
    State(web): State<Arc<Web>>,
    onlooker: Onlooker,
    query: Result<Query<HomeQuery>, QueryRejection>,
) -> Answer<Response> {
    let query = query.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    Ok(Live::of_farm(web, Source::Home(Box::new(query.0)), onlooker).streamed())
}

async fn of_queue(State(web): State<Arc<Web>>, onlooker: Onlooker) -> Response {
    Live::of_farm(web, Source::Queue, onlooker).streamed()
}

async fn of_agents(State(web): State<Arc<Web>>, onlooker: Onlooker) -> Response {
    Live::of_farm(web, Source::Agents, onlooker).streamed()
}

async fn of_deliveries(
    State(web): State<Arc<Web>>,
    onlooker: Onlooker,
    query: Result<Query<DeliveriesQuery>, QueryRejection>,
) -> Answer<Response> {
    let query = query.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    Ok(Live::of_farm(web, Source::Deliveries(Box::new(query.0)), onlooker).streamed())
}

async fn of_projects(State(web): State<Arc<Web>>, onlooker: Onlooker) -> Response {
    Live::of_farm(web, Source::Projects, onlooker).streamed()
}

async fn of_project(State(web): State<Arc<Web>>, Path(identity): Path<String>, onlooker: Onlooker) -> Answer<Response> {
    // Asked here, so that a project that is not there is a 404 and no broken stream.
    crate::web::projects::found(&web, &identity).await?;
    Ok(Live::of_farm(web, Source::Project(identity), onlooker).streamed())
}

async fn of_build(State(web): State<Arc<Web>>, Path(text): Path<String>, onlooker: Onlooker) -> Answer<Response> {
    let number = number(&text)?;
    let shared = web.followed.build(&web, number);
    let changes = shared.topic.subscribe();
    // Asked here, so that a build that is not there is a 404 and no broken stream.
    let after = *changes.borrow();
    if shared.look(&web, after).await.is_err() {
        crate::web::api::whole(&web, number).await?;
    }
    Ok(Live::new(web, Source::Build(shared), Changes::OfBuild(changes), onlooker).streamed())
}

/// One page that is looked at.
struct Live {
    web: Arc<Web>,
    source: Source,
    changes: Changes,
    onlooker: Onlooker,
    /// What each part was when it was sent.
    sent: HashMap<&'static str, u64>,
    /// The number of the last event.
    count: u64,
    events: VecDeque<Bytes>,
    over: bool,
}

/// Why a wait is over.
enum Woken {
    Changed,
    Quiet,
    Ending,
}

impl Live {
    fn of_farm(web: Arc<Web>, source: Source, onlooker: Onlooker) -> Self {
        let changes = Changes::OfFarm(web.desk.feed.listen());
        Self::new(web, source, changes, onlooker)
    }

    fn new(web: Arc<Web>, source: Source, changes: Changes, onlooker: Onlooker) -> Self {
        let (sent, events) = (HashMap::new(), VecDeque::new());
        Self { web, source, changes, onlooker, sent, count: 0, events, over: false }
    }

    fn streamed(self) -> Response {
        let events = stream::try_unfold(self, |mut live| async move {
            Ok::<_, io::Error>(live.next().await?.map(|event| (event, live)))
        });
        let head = [
            (header::CONTENT_TYPE, "text/event-stream"),
            // Proxies that gather a stream before they pass it on are asked not to.
            (HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        (head, Body::from_stream(events)).into_response()
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.over {
                return Ok(None);
            }
            if self.count == 0 {
                let hello = self.event("hello", &Hello { version: &assets::VERSION })?;
                self.events.push_back(Bytes::from(format!("retry: {RETRY_MS}\n")));
                self.events.push_back(hello);
            } else {
                match self.wait().await {
                    Woken::Changed => {}
                    Woken::Quiet => {
                        let alive = self.event("alive", &())?;
                        self.events.push_back(alive);
                    }
                    Woken::Ending => return Ok(None),
                }
            }
            let parts = self.look().await.map_err(|refusal| io::Error::other(refusal.sentence))?;
            for part in parts {
                if self.sent.insert(part.id, part.steady) != Some(part.steady) {
                    let event = self.event("part", &Told { id: part.id, html: &part.html })?;
                    self.events.push_back(event);
                }
            }
            if self.over {
                let over = self.event("over", &())?;
                self.events.push_back(over);
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let changed = async {
            match &mut self.changes {
                Changes::OfFarm(listener) => {
                    listener.next_of(|change| self.source.is_about(change)).await;
                    sleep(GATHERED).await;
                    listener.catch_up();
                }
                // The topic lives as long as what is followed.
                Changes::OfBuild(changes) => {
                    changes.changed().await.ok();
                    sleep(GATHERED).await;
                }
            }
        };
        tokio::select! {
            () = self.web.shutdown.cancelled() => Woken::Ending,
            () = changed => Woken::Changed,
            () = sleep(LOOK_EVERY) => Woken::Quiet,
        }
    }

    async fn look(&mut self) -> Answer<Vec<Part>> {
        let (web, onlooker) = (&self.web, &self.onlooker);
        match &self.source {
            Source::Home(query) => home::parts(web, query, onlooker).await,
            Source::Queue => queue::parts(web, onlooker).await,
            Source::Agents => agents::parts(web, onlooker).await,
            Source::Deliveries(query) => deliveries::parts(web, query, onlooker).await,
            Source::Projects => projects::parts(web, onlooker).await,
            Source::Project(identity) => match projects::parts_of_one(web, identity, onlooker).await {
                Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {
                    self.over = true;
                    Ok(vec![projects::removed()?])
                }
                parts => parts,
            },
            Source::Build(shared) => {
                let after = match &mut self.changes {
                    Changes::OfBuild(changes) => *changes.borrow_and_update(),
                    Changes::OfFarm(_) => 0,
                };
                shared.forget_after(LOOK_EVERY);
                let seen = shared.look(web, after).await;
                let seen = seen.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
                self.over =
                    seen.whole.view.build.status.is_over() && seen.whole.logs.iter().all(|(_, mark)| mark.is_settled());
                build::parts(web, &seen, onlooker).await
            }
        }
    }

    fn event(&mut self, name: &str, told: &impl Serialize) -> io::Result<Bytes> {
        self.count += 1;
        let told = serde_json::to_string(told)?;
        Ok(Bytes::from(format!("id: {}\nevent: {name}\ndata: {told}\n\n", self.count)))
    }
}

/// The first event: a page of another version than this loads itself anew.
#[derive(Serialize)]
struct Hello<'a> {
    version: &'a str,
}

#[derive(Serialize)]
struct Told<'a> {
    id: &'static str,
    html: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_go_by_are_no_news() {
        let html = |time: &str, word: &str| {
            without_times(&format!("<p>{word} <time data-since=\"{time}\">{time} s</time> x</p>"))
        };
        assert_eq!(html("1", "runs"), html("2", "runs"));
        assert_ne!(html("1", "runs"), html("1", "passed"));
        assert_ne!(without_times("<time>1</time>a"), without_times("<time>1</time>b"));
        // The same happened again.
        let at = |at: &str, ago: &str| {
            without_times(&format!("<time datetime=\"x\" title=\"{ago}\" data-at=\"{at}\">{ago} ago</time>"))
        };
        assert_eq!(at("1", "5 h"), at("1", "6 h"));
        assert_ne!(at("1", "5 h"), at("2", "5 h"));
    }
}
