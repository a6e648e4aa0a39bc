//! The repositories whose forges begin builds here, and one of them: its settings, when it is built by itself, and what
//! its forge delivered. The secret of its webhooks is on no page but the one that says it was added.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use buildr::process::clock::now_ms;
use protocol::RepoUrl;
use protocol::api::{AddedProject, Approval, BuildRow, Forge, ProjectView, Role, ScheduleView, coming};
use url::form_urlencoded::byte_serialize;

use super::deliveries::{self, DeliveryShown, shown};
use super::live::Part;
use super::said::When;
use super::{Frame, Here, Onlooker, answer};
use crate::web::Web;
use crate::web::api::Answer;
use crate::web::deliveries::ListQuery;
use crate::web::projects::{found, listed};

/// How many deliveries a project's page shows.
const DELIVERIES: u32 = 10;

#[derive(Template)]
#[template(path = "projects.html", blocks = ["projects"])]
struct ProjectsPage {
    frame: Frame,
    forges: [&'static str; Forge::ALL.len()],
    rows: Vec<ProjectShown>,
}

#[derive(Template)]
#[template(path = "project.html", blocks = ["project"])]
struct ProjectPage {
    frame: Frame,
    /// What the forms of its schedules carry, which more people may send than the others.
    schedules_csrf: Option<String>,
    project: ProjectShown,
    approvals: Vec<Choice>,
    schedules: Vec<ScheduleShown>,
    rows: Vec<DeliveryShown>,
    /// Where all deliveries of it are.
    deliveries: String,
    /// Where its builds are listed.
    builds: String,
}

struct ProjectShown {
    name: String,
    link: String,
    url: String,
    forge: &'static str,
    default_branch: Option<String>,
    trusted: bool,
    approval: Approval,
    allowed: bool,
    hook_url: String,
    added: When,
    last: Option<Last>,
    /// What its repository is fetched with, and for how long its builds are kept.
    cloned_with: Option<String>,
    kept: String,
    /// Who gets mail of it, beside those whom the farm names.
    mail: String,
}

/// Its newest build.
struct Last {
    number: u64,
    status: &'static str,
    when: When,
}

struct Choice {
    name: &'static str,
    /// What it means.
    sentence: &'static str,
    chosen: bool,
}

struct ScheduleShown {
    /// As the list of schedules has it.
    repo: String,
    name: String,
    pipeline: Option<String>,
    branch: String,
    cron: String,
    zone: String,
    next: Option<Next>,
    paused_by: Option<String>,
    last: Option<When>,
    last_build: Option<u64>,
}

/// When it comes due.
struct Next {
    at: When,
    ahead: String,
}

pub(super) async fn page(State(web): State<Arc<Web>>, onlooker: Onlooker) -> Response {
    answer(projects(&web, &onlooker).await)
}

async fn projects(web: &Web, onlooker: &Onlooker) -> Answer<ProjectsPage> {
    let (views, now) = (listed(web).await?, now_ms());
    let identities: Vec<&str> = views.iter().map(|view| view.identity.as_str()).collect();
    let mut newest = web.desk.store.newest_of(&identities).await?;
    let shown = |view: ProjectView| {
        let last = newest.remove(&view.identity);
        project_shown(view, last, now)
    };
    let rows = views.into_iter().map(shown).collect();
    let frame = Frame::new("Projects", Here::Projects).live_if(true, "/live/projects");
    Ok(ProjectsPage { frame: frame.seen_by(onlooker, Role::Maintainer), forges: Forge::ALL.map(Forge::name), rows })
}

/// The part of the page that changes.
pub(super) async fn parts(web: &Web, onlooker: &Onlooker) -> Answer<Vec<Part>> {
    Ok(vec![Part::new("projects", &projects(web, onlooker).await?.as_projects())?])
}

/// The same of one project.
pub(super) async fn parts_of_one(web: &Web, identity: &str, onlooker: &Onlooker) -> Answer<Vec<Part>> {
    Ok(vec![Part::new("project", &project(web, identity, onlooker).await?.as_project())?])
}

/// What stands there when it is no project any more.
#[derive(Template)]
#[template(source = "<p class=\"lead\">It is no project any more; its builds stay in the history.</p>", ext = "html")]
struct Removed;

/// What is sent in the place of a project that is gone.
pub(super) fn removed() -> Answer<Part> {
    Part::new("project", &Removed)
}

/// What is said once of a project that was added.
#[derive(Template)]
#[template(path = "project-added.html")]
pub(super) struct AddedPage {
    frame: Frame,
    name: String,
    link: String,
    forge: &'static str,
    hook_url: String,
    secret: String,
}

impl AddedPage {
    /// With its secret, which no other page has.
    pub(super) fn new(AddedProject { project, secret }: AddedProject, onlooker: &Onlooker) -> Self {
        Self {
            frame: Frame::new("A project was added", Here::Projects).seen_by(onlooker, Role::Maintainer),
            link: link(&project.identity),
            name: project.identity,
            forge: project.forge.name(),
            hook_url: project.hook_url,
            secret,
        }
    }
}

pub(super) async fn one(State(web): State<Arc<Web>>, Path(identity): Path<String>, onlooker: Onlooker) -> Response {
    answer(project(&web, &identity, &onlooker).await)
}

async fn project(web: &Web, identity: &str, onlooker: &Onlooker) -> Answer<ProjectPage> {
    let (view, now) = (found(web, identity).await?, now_ms());
    let identity = view.identity.clone();
    let schedules = web.desk.store.schedules().await?;
    let its_own = |it: &ScheduleView| it.repo.parse::<RepoUrl>().is_ok_and(|repo| repo.identity() == identity);
    let query = ListQuery { project: Some(identity.clone()), before: None, limit: Some(DELIVERIES) };
    let delivered = crate::web::deliveries::listed(web, &query).await?.deliveries;
    let last = web.desk.store.newest_of(&[&identity]).await?.remove(&identity);
    let project = project_shown(view, last, now);
    Ok(ProjectPage {
        frame: Frame::new(identity.clone(), Here::Projects)
            .live_if(true, format!("/live{}", link(&identity)))
            .seen_by(onlooker, Role::Maintainer),
        schedules_csrf: Frame::new("", Here::Projects).seen_by(onlooker, Role::Developer).csrf,
        approvals: Approval::ALL
            .map(|it| Choice { name: it.name(), sentence: meaning(it), chosen: it == project.approval })
            .into(),
        schedules: schedules.into_iter().filter(its_own).map(|it| schedule_shown(it, now)).collect(),
        rows: delivered.into_iter().map(|delivery| shown(delivery, now)).collect(),
        deliveries: deliveries::link(Some(&identity), None),
        builds: format!("/?repo={}", byte_serialize(project.url.as_bytes()).collect::<String>()),
        project,
    })
}

/// The page of a project. Its name keeps its slashes.
pub(super) fn link(identity: &str) -> String {
    // A space is a plus in queries alone.
    let part = |part: &str| byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20");
    format!("/projects/{}", identity.split('/').map(part).collect::<Vec<_>>().join("/"))
}

fn project_shown(view: ProjectView, last: Option<BuildRow>, now_ms: u64) -> ProjectShown {
    ProjectShown {
        cloned_with: view.credentials.map(|own| own.to_string()),
        kept: view.kept.to_string(),
        mail: view.mail.join(", "),
        link: link(&view.identity),
        name: view.identity,
        url: view.url,
        forge: view.forge.name(),
        default_branch: view.default_branch.map(|branch| branch.to_string()),
        trusted: view.trusted,
        approval: view.approval,
        allowed: view.allowed,
        hook_url: view.hook_url,
        added: When::new(view.created_ms, now_ms),
        last: last.map(|build| Last {
            number: build.number.0,
            status: build.status.name(),
            when: When::new(build.ended_ms.unwrap_or(build.created_ms), now_ms),
        }),
    }
}

/// Which builds wait, as a part of a sentence.
fn meaning(approval: Approval) -> &'static str {
    match approval {
        Approval::None => "no builds",
        Approval::Forks => "pull requests from other repositories",
        Approval::PullRequests => "all pull requests",
        Approval::All => "all that a webhook begins",
    }
}

fn schedule_shown(it: ScheduleView, now_ms: u64) -> ScheduleShown {
    let next = |at: u64| Next { at: When::new(at, now_ms), ahead: coming(at.saturating_sub(now_ms)) };
    ScheduleShown {
        repo: it.repo,
        name: it.schedule.name,
        pipeline: it.schedule.pipeline,
        branch: it.branch.to_string(),
        cron: it.schedule.cron,
        zone: it.schedule.zone,
        next: it.next_ms.map(next),
        paused_by: it.paused_by,
        last: it.last_due_ms.map(|at| When::new(at, now_ms)),
        last_build: it.last_build.map(|build| build.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_project_is() {
        assert_eq!(link("example.org/a/b"), "/projects/example.org/a/b");
        assert_eq!(link("e.org/a b+/?#%/*"), "/projects/e.org/a%20b%2B/%3F%23%25/*");
        assert_eq!(link("/srv/x"), "/projects//srv/x");
    }
}
