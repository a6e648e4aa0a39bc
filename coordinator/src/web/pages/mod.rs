//! The pages that people look at: made here whole, readable without scripts, and kept true by what `live` says.

mod agent_posts;
mod agents;
mod board;
pub(in crate::web) mod build;
mod deliveries;
mod home;
mod live;
mod log;
mod posts;
mod project_posts;
mod projects;
mod queue;
pub(in crate::web) mod said;
pub(in crate::web) mod sign_in;

use std::convert::Infallible;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use protocol::api::Role;

use super::Web;
use super::access::Visitor;
use super::assets;
use super::refusal::Refusal;

pub(in crate::web) use board::Boards;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        .route("/", get(home::page))
        .route("/queue", get(queue::page))
        .route("/agents", get(agents::page))
        .route("/deliveries", get(deliveries::page))
        .route("/builds/{number}", get(build::page))
        .route("/builds/{number}/{stage}", get(build::stage))
        .route("/builds/{number}/logs/{log}", get(log::page))
        .route("/builds/{number}/artifacts/{sha256}", get(build::artifact))
        .merge(live::router())
        .merge(posts::router())
}

/// A place that the head of each page leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    Home,
    Queue,
    Agents,
    Projects,
    Deliveries,
    /// The page to which the head leads who is nobody yet.
    SignIn,
    /// A page that is under none of them.
    Elsewhere,
}

struct Place {
    path: &'static str,
    name: &'static str,
    here: bool,
}

/// What stands around each page.
struct Frame {
    title: String,
    here: Here,
    version: &'static str,
    /// Where the page hears of changes.
    live: Option<String>,
    /// What its forms carry; without it there are none.
    csrf: Option<String>,
    who: Option<SignedIn>,
}

/// Somebody who signed in.
struct SignedIn {
    /// By the name of the token.
    name: String,
    /// What the form to sign out carries.
    csrf: String,
}

/// Who looks at a page, and how this farm was reached for that.
#[derive(Debug, Clone)]
pub(in crate::web) struct Onlooker {
    visitor: Visitor,
    /// `https://ci.example.org`
    server: String,
}

impl FromRequestParts<Arc<Web>> for Onlooker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Infallible> {
        let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("localhost");
        let server = web.desk.config.public_url.clone().unwrap_or_else(|| format!("http://{host}"));
        // The guard says who it is; what came past it is a stranger's.
        let visitor = parts.extensions.get::<Visitor>().cloned().unwrap_or_default();
        Ok(Self { visitor, server: server.trim_end_matches('/').to_owned() })
    }
}

impl Frame {
    fn new(title: impl Into<String>, here: Here) -> Self {
        Self { title: title.into(), here, version: &assets::VERSION, live: None, csrf: None, who: None }
    }

    /// For one who may do what takes a role; others see no forms for it.
    fn seen_by(self, onlooker: &Onlooker, role: Role) -> Self {
        let Some(csrf) = onlooker.visitor.csrf() else { return self };
        let csrf = csrf.to_owned();
        let name = onlooker.visitor.who().to_owned();
        let may = onlooker.visitor.may(role);
        Self { csrf: may.then(|| csrf.clone()), who: Some(SignedIn { name, csrf }), ..self }
    }

    /// For one who may do nothing on it that others may not.
    fn named(self, onlooker: &Onlooker) -> Self {
        let csrf = onlooker.visitor.csrf().map(str::to_owned);
        let who = csrf.map(|csrf| SignedIn { name: onlooker.visitor.who().to_owned(), csrf });
        Self { who, ..self }
    }

    fn live_if(self, changes: bool, path: impl Into<String>) -> Self {
        Self { live: changes.then(|| path.into()), ..self }
    }

    fn is_sign_in(&self) -> bool {
        self.here == Here::SignIn
    }

    fn places(&self) -> [Place; 5] {
        [
            ("/", "Builds", Here::Home),
            ("/queue", "Queue", Here::Queue),
            ("/agents", "Agents", Here::Agents),
            ("/projects", "Projects", Here::Projects),
            ("/deliveries", "Deliveries", Here::Deliveries),
        ]
        .map(|(path, name, place)| Place { path, name, here: self.here == place })
    }
}

/// What is said instead of a page.
#[derive(Template)]
#[template(path = "sorry.html")]
struct Sorry {
    frame: Frame,
    heading: &'static str,
    sentence: String,
}

/// A page, or what is said in its place.
fn answer<T: Template>(page: Result<T, Refusal>) -> Response {
    match page {
        Ok(page) => match page.render() {
            Ok(html) => Html(html).into_response(),
            Err(error) => sorry(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        },
        Err(refusal) => sorry(refusal),
    }
}

/// A refusal, for people.
pub(super) fn sorry(refusal: Refusal) -> Response {
    let heading = match refusal.status {
        StatusCode::NOT_FOUND => "There is no such page",
        StatusCode::UNAUTHORIZED => "Sign in to look",
        status if status.is_client_error() => "This cannot be done so",
        _ => "The farm could not do this",
    };
    let page = Sorry { frame: Frame::new(heading, Here::Elsewhere), heading, sentence: refusal.sentence };
    match page.render() {
        Ok(html) => (refusal.status, Html(html)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
