//! The first page: each branch's last results, what runs, what waits and why, and the list of builds.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use buildr::process::clock::now_ms;
use protocol::api::{BuildRow, Role, Status};
use serde::Deserialize;

use super::board::{Board, News, Running, Waiting};
use super::live::Part;
use super::said::{When, short_repo, took};
use super::{Frame, Here, Onlooker, answer};
use crate::store::Strip;
use crate::web::Web;
use crate::web::api::{Answer, ListQuery, list};
use crate::web::refusal::Refusal;

/// How many jobs that run or wait the page names; the queue's own page has them all.
const NAMED: usize = 8;

/// The statuses that the list can be narrowed to.
const STATUSES: [Status; 6] =
    [Status::Queued, Status::Running, Status::Passed, Status::Failed, Status::Errored, Status::Cancelled];

#[derive(Template)]
#[template(path = "home.html", blocks = ["now", "strips", "list"])]
struct HomePage {
    frame: Frame,
    news: Option<News>,
    runs: Vec<Running>,
    more_runs: usize,
    asks: Vec<Waiting>,
    waits: Vec<Waiting>,
    more_waits: usize,
    repos: Vec<RepoShown>,
    rows: Vec<Row>,
    older: Option<String>,
    newest: Option<String>,
    filter: Filter,
    /// Nothing was ever built here.
    is_empty: bool,
    /// Whether messages can be published by hand.
    has_broker: bool,
    /// How others reach this farm, for commands to copy.
    server: String,
}

struct RepoShown {
    name: String,
    url: String,
    link: String,
    strips: Vec<StripShown>,
}

struct StripShown {
    branch: String,
    link: String,
    marks: Vec<Mark>,
    /// How the last one ended, or stands.
    last: &'static str,
    when: When,
}

/// One build on a strip.
struct Mark {
    number: u64,
    status: &'static str,
    title: String,
}

struct Row {
    number: u64,
    status: &'static str,
    repo: String,
    repo_link: String,
    branch: String,
    commit: String,
    subject: String,
    trigger: String,
    message: String,
    when: When,
    took: Option<String>,
}

struct Filter {
    statuses: Vec<Choice>,
    repo: String,
    branch: String,
    is_set: bool,
}

struct Choice {
    name: &'static str,
    chosen: bool,
}

pub(super) async fn page(
    State(web): State<Arc<Web>>,
    onlooker: Onlooker,
    query: Result<Query<HomeQuery>, QueryRejection>,
) -> Response {
    let page = match query {
        Ok(Query(query)) => home(&web, &query, &onlooker).await,
        Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
    };
    answer(page)
}

/// What the list is narrowed to. A form that was left empty narrows it to nothing.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct HomeQuery {
    before: Option<String>,
    status: Option<String>,
    repo: Option<String>,
    branch: Option<String>,
}

impl HomeQuery {
    fn list(&self) -> Answer<ListQuery> {
        let given =
            |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let wrong = |what: &str, text: &str| Refusal::bad_request(format!("{text:?} is no {what}"));
        let before = match given(&self.before) {
            Some(text) => Some(text.parse().map_err(|_| wrong("build's number", &text))?),
            None => None,
        };
        let status = match given(&self.status) {
            Some(text) => {
                let known = STATUSES.into_iter().find(|status| status.name() == text);
                Some(known.ok_or_else(|| wrong("status of a build", &text))?)
            }
            None => None,
        };
        let branch = match given(&self.branch) {
            Some(text) => Some(text.parse().map_err(|error| Refusal::bad_request(format!("{error}")))?),
            None => None,
        };
        Ok(ListQuery { before, limit: Some(30), status, repo: given(&self.repo), branch })
    }

    /// The same as it stands in a URL.
    fn encoded(&self, before: Option<u64>) -> String {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("status", &self.status), ("repo", &self.repo), ("branch", &self.branch)] {
            if let Some(value) = value.as_deref().map(str::trim).filter(|value| !value.is_empty()) {
                text.append_pair(name, value);
            }
        }
        if let Some(before) = before {
            text.append_pair("before", &before.to_string());
        }
        text.finish()
    }
}

/// The parts of the page that change.
pub(super) async fn parts(web: &Web, query: &HomeQuery, onlooker: &Onlooker) -> Answer<Vec<Part>> {
    let page = home(web, query, onlooker).await?;
    let mut parts = vec![Part::new("now", &page.as_now())?, Part::new("strips", &page.as_strips())?];
    // With the first build the page has a list, and loads itself anew for that.
    if !page.is_empty {
        parts.push(Part::new("list", &page.as_list())?);
    }
    Ok(parts)
}

async fn home(web: &Web, query: &HomeQuery, onlooker: &Onlooker) -> Answer<HomePage> {
    let asked = query.list()?;
    let found = list(web, &asked).await?;
    let board = web.boards.look(web).await?;
    let now = now_ms();
    let is_set = asked.status.is_some() || asked.repo.is_some() || asked.branch.is_some() || asked.before.is_some();
    let encoded = query.encoded(asked.before);
    let waits: Vec<Waiting> = board.queue.iter().chain(&board.turns).cloned().collect();
    let live = if encoded.is_empty() { "/live/home".to_owned() } else { format!("/live/home?{encoded}") };
    Ok(HomePage {
        // What is older does not change once it is over.
        frame: Frame::new("Builds", Here::Home)
            .live_if(asked.before.is_none() || found.builds.iter().any(|build| !build.status.is_over()), live)
            .seen_by(onlooker, Role::Developer),
        news: board.news(),
        more_runs: board.runs.len().saturating_sub(NAMED),
        runs: board.runs.iter().take(NAMED).cloned().collect(),
        asks: board.asks.iter().take(NAMED).cloned().collect(),
        more_waits: (board.queued + board.turns.len()).saturating_sub(NAMED),
        waits: waits.into_iter().take(NAMED).collect(),
        repos: repos(&board, now),
        is_empty: found.builds.is_empty() && !is_set,
        rows: found.builds.iter().map(|build| row(build, now)).collect(),
        older: found.next.map(|next| format!("/?{}", query.encoded(Some(next.0)))),
        newest: asked.before.map(|_| format!("/?{}", query.encoded(None))),
        filter: Filter {
            statuses: STATUSES
                .map(|status| Choice { name: status.name(), chosen: query.status.as_deref() == Some(status.name()) })
                .into(),
            repo: query.repo.clone().unwrap_or_default(),
            branch: query.branch.clone().unwrap_or_default(),
            is_set,
        },
        // With an agent of its own it is one process, whose queue is in memory.
        has_broker: web.desk.config.known_agents.is_empty(),
        server: onlooker.server.clone(),
    })
}

fn repos(board: &Board, now: u64) -> Vec<RepoShown> {
    let link = |repo: &str, branch: Option<&str>| {
        let branch = branch.map(str::to_owned);
        let query = HomeQuery { repo: Some(repo.to_owned()), branch, ..HomeQuery::default() };
        format!("/?{}", query.encoded(None))
    };
    let strip = |repo: &str, strip: &Strip| {
        let last = strip.builds.last()?;
        Some(StripShown {
            branch: strip.branch.clone().unwrap_or_default(),
            link: link(repo, strip.branch.as_deref()),
            marks: strip.builds.iter().map(mark).collect(),
            last: last.status.name(),
            when: When::new(last.ended_ms.or(last.started_ms).unwrap_or(last.created_ms), now),
        })
    };
    let shown = board.repos.iter().map(|repo| RepoShown {
        name: short_repo(&repo.repo),
        url: repo.repo.clone(),
        link: link(&repo.repo, None),
        strips: repo.strips.iter().filter_map(|one| strip(&repo.repo, one)).collect(),
    });
    shown.collect()
}

fn mark(build: &BuildRow) -> Mark {
    let time = build.started_ms.zip(build.ended_ms).map(|(from, to)| format!(" · {}", took(to.saturating_sub(from))));
    let subject = build.subject.as_ref().map(|subject| format!(" · {subject}"));
    Mark {
        number: build.number.0,
        status: build.status.name(),
        title: format!(
            "{} {}{}{}",
            build.number,
            build.status.name(),
            time.unwrap_or_default(),
            subject.unwrap_or_default()
        ),
    }
}

fn row(build: &BuildRow, now: u64) -> Row {
    let from = build.started_ms.unwrap_or(build.created_ms);
    Row {
        number: build.number.0,
        status: build.status.name(),
        repo: short_repo(&build.repo),
        repo_link: format!("/?{}", HomeQuery { repo: Some(build.repo.clone()), ..HomeQuery::default() }.encoded(None)),
        branch: build.branch.as_ref().map(ToString::to_string).unwrap_or_default(),
        commit: build.commit.as_ref().map(|commit| commit.short().to_owned()).unwrap_or_default(),
        subject: build.subject.clone().unwrap_or_default(),
        trigger: build.trigger.clone(),
        message: build.message.clone().unwrap_or_default(),
        when: When::new(build.created_ms, now),
        took: build.ended_ms.map(|ended| took(ended.saturating_sub(from))),
    }
}
