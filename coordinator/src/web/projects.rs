//! `/api/v1/projects`: the repositories whose forges begin builds here. A secret is shown once, to whoever adds one.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use buildr::process::clock::now_ms;
use protocol::RepoUrl;
use protocol::api::{
    AddedProject, ChangeProject, CredentialsView, Forge, Keep, NewProject, ProjectKeeps, ProjectView, RemovedProject,
    SetCredentials,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::access::fresh_token;
use super::api::{Answer, Path, json};
use super::refusal::Refusal;
use crate::config::LocalRepos;
use crate::credentials::{Unfit, fit, looked_at};
use crate::feed::Change;
use crate::mail::Address;
use crate::store::{Project, Sealed, SealedFor};

/// What a secret must have at least, in bytes, and may have at most.
const SHORTEST_SECRET: usize = 16;
const LONGEST_SECRET: usize = 256;

/// How many characters name a project in the address of its webhooks.
const KEY_LENGTH: usize = 16;

/// How many people a project names for mail.
const MOST_ADDRESSES: usize = 20;

type Body = Result<Bytes, BytesRejection>;

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default()
        .routes(routes!(list, add))
        .routes(routes!(show))
        .routes(routes!(change))
        .routes(routes!(remove))
}

/// The projects, in the order of their names.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "list_projects",
    responses((status = 200, description = "All of them.", body = Vec<ProjectView>))
)]
async fn list(State(web): State<Arc<Web>>) -> Answer<Json<Vec<ProjectView>>> {
    Ok(Json(listed(&web).await?))
}

/// All projects, in the order of their names.
pub(super) async fn listed(web: &Web) -> Answer<Vec<ProjectView>> {
    Ok(web.desk.store.projects().await?.iter().map(|project| view(web, project)).collect())
}

/// One project.
#[utoipa::path(
    get,
    path = "/{identity}",
    operation_id = "project",
    params(("identity" = String, Path, description = "What all ways to its repository have in common, such as `github.com/ada/cronline` with each `/` as `%2F`, or a URL of it.")),
    responses((status = 200, description = "The project.", body = ProjectView), (status = 404))
)]
async fn show(State(web): State<Arc<Web>>, Path(identity): Path<String>) -> Answer<Json<ProjectView>> {
    Ok(Json(found(&web, &identity).await?))
}

/// The project that goes by this name.
pub(super) async fn found(web: &Web, identity: &str) -> Answer<ProjectView> {
    let project = web.desk.store.project(&named(identity)).await?;
    Ok(view(web, &project.ok_or_else(|| no_such(identity))?))
}

/// Adds a project: its forge's webhooks begin builds from now on.
#[utoipa::path(
    post,
    path = "/",
    operation_id = "add_project",
    request_body = NewProject,
    responses((status = 201, description = "The project, and what its webhooks are to be signed with, this once.", body = AddedProject), (status = 409), (status = 422))
)]
async fn add(State(web): State<Arc<Web>>, body: Body) -> Answer<(StatusCode, Json<AddedProject>)> {
    Ok((StatusCode::CREATED, Json(added(&web, json(body)?).await?)))
}

/// Adds a project, and gives it with its secret: this once.
pub(super) async fn added(web: &Web, new: NewProject) -> Answer<AddedProject> {
    let NewProject { url, forge, secret, default_branch, trusted, approval, credentials, keeps, mail } = new;
    let keeps = sound(keeps)?;
    if url.is_local() && web.desk.config.local_repos == LocalRepos::Refused {
        return Err(crate::intake::IntakeError::LocalRepo(url).into());
    }
    let forge = forge.or_else(|| Forge::of_host(&url)).ok_or_else(|| {
        let names = Forge::ALL.map(Forge::name).join(", ");
        Refusal::bad_request(format!("nobody knows what kind of server {url} lies on; say it with --forge: {names}"))
    })?;
    let secret = match secret {
        Some(secret) => checked(secret)?,
        None => fresh_token(),
    };
    let identity = url.identity();
    let credentials = credentials.map(|given| sealed(web, given, (&identity, &url, forge))).transpose()?.flatten();
    let project = Project {
        credentials,
        secret: web.desk.vault.seal_text(SealedFor::Webhooks, &identity, &secret),
        identity,
        url,
        key: fresh_key(),
        forge,
        default_branch,
        trusted: trusted.unwrap_or(true),
        approval: approval.unwrap_or_default(),
        allowed: true,
        keeps: ProjectKeeps::default().changed(keeps),
        mail: addresses(web, &mail)?,
        created_ms: now_ms(),
    };
    let mut tx = web.desk.store.write().await?;
    if !tx.add_project(&project).await? {
        let identity = &project.identity;
        return Err(Refusal::conflict(format!(
            "the project {identity} is there already; `buildr project show {identity}` has it, `buildr project change` changes it"
        )));
    }
    tx.commit().await?;
    web.desk.feed.say(Change::Projects);
    Ok(AddedProject { project: view(web, &project), secret })
}

/// What names a project in the address of its webhooks.
pub(super) fn fresh_key() -> String {
    fresh_token().chars().filter(char::is_ascii_alphanumeric).take(KEY_LENGTH).collect()
}

/// Changes a project; what is not given stays.
#[utoipa::path(
    post,
    path = "/{identity}/change",
    operation_id = "change_project",
    params(("identity" = String, Path, description = "What all ways to its repository have in common, such as `github.com/ada/cronline` with each `/` as `%2F`, or a URL of it.")),
    request_body = ChangeProject,
    responses((status = 200, description = "The project.", body = ProjectView), (status = 404))
)]
async fn change(State(web): State<Arc<Web>>, Path(identity): Path<String>, body: Body) -> Answer<Json<ProjectView>> {
    Ok(Json(changed(&web, &identity, json(body)?).await?))
}

/// Changes of a project what is asked for, and gives it as it is then.
pub(super) async fn changed(web: &Web, identity: &str, asked: ChangeProject) -> Answer<ProjectView> {
    let mut tx = web.desk.store.write().await?;
    let mut project = tx.project(&named(identity)).await?.ok_or_else(|| no_such(identity))?;
    if let Some(url) = asked.url {
        if url.identity() != project.identity {
            let own = &project.identity;
            return Err(Refusal::bad_request(format!("{url} is another repository than {own}; add it instead")));
        }
        project.url = url;
    }
    project.forge = asked.forge.unwrap_or(project.forge);
    match (asked.credentials, &project.credentials) {
        (Some(given), _) => {
            project.credentials = sealed(web, given, (&project.identity, &project.url, project.forge))?;
        }
        // Another way to the repository may have no use for what there is.
        (None, Some((view, _))) => fit(view.kind, &project.url).map_err(unfit)?,
        (None, None) => {}
    }
    if let Some(secret) = asked.secret {
        project.secret = web.desk.vault.seal_text(SealedFor::Webhooks, &project.identity, &checked(secret)?);
    }
    project.default_branch = asked.default_branch.or(project.default_branch);
    project.trusted = asked.trusted.unwrap_or(project.trusted);
    project.approval = asked.approval.unwrap_or(project.approval);
    project.allowed = asked.allowed.unwrap_or(project.allowed);
    project.keeps = project.keeps.changed(sound(asked.keeps)?);
    if let Some(mail) = asked.mail {
        project.mail = addresses(web, &mail)?;
    }
    tx.change_project(&project).await?;
    tx.commit().await?;
    web.desk.feed.say(Change::Projects);
    Ok(view(web, &project))
}

/// Of nothing there is no newest: such a number is a slip.
fn sound(keeps: ProjectKeeps) -> Answer<ProjectKeeps> {
    let ProjectKeeps { builds, days, logs_days, artifacts_days } = keeps;
    match [builds, days, logs_days, artifacts_days].contains(&Some(Keep::Last(0))) {
        true => Err(Refusal::bad_request("what is kept is at least one build, or one day; `all` keeps all")),
        false => Ok(keeps),
    }
}

/// The addresses of people, each once.
fn addresses(web: &Web, said: &[String]) -> Answer<Vec<String>> {
    if said.len() > MOST_ADDRESSES {
        let sentence = format!("at most {MOST_ADDRESSES} addresses; a mailing list has room for more people");
        return Err(Refusal::bad_request(sentence));
    }
    if !said.is_empty() && web.desk.config.mail.is_none() {
        let sentence = "this farm sends no mail; its coordinator needs a mail server (--smtp, --mail-from)";
        return Err(Refusal::conflict(sentence));
    }
    let mut all = Vec::new();
    for text in said {
        let address = text.parse::<Address>().map_err(Refusal::bad_request)?.to_string();
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

type Credentials = Option<(CredentialsView, Sealed)>;

/// What opens a project's repository, as it is kept.
fn sealed(web: &Web, given: SetCredentials, of: (&str, &RepoUrl, Forge)) -> Answer<Credentials> {
    let (identity, url, forge) = of;
    let Some((view, credentials)) = looked_at(given, url, forge).map_err(unfit)? else {
        return Ok(None);
    };
    let text = serde_json::to_string(&credentials).map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok(Some((view, web.desk.vault.seal_text(SealedFor::Credentials, identity, &text))))
}

fn unfit(why: Unfit) -> Refusal {
    Refusal::bad_request(why.to_string())
}

/// Removes a project and its schedules; its builds stay in the history.
#[utoipa::path(
    post,
    path = "/{identity}/remove",
    operation_id = "remove_project",
    params(("identity" = String, Path, description = "What all ways to its repository have in common, such as `github.com/ada/cronline` with each `/` as `%2F`, or a URL of it.")),
    responses((status = 200, description = "What was done.", body = RemovedProject), (status = 404))
)]
async fn remove(State(web): State<Arc<Web>>, Path(identity): Path<String>) -> Answer<Json<RemovedProject>> {
    Ok(Json(removed(&web, &identity).await?))
}

/// Removes a project, and says what that means.
pub(super) async fn removed(web: &Web, identity: &str) -> Answer<RemovedProject> {
    let mut tx = web.desk.store.write().await?;
    let Some(project) = tx.project(&named(identity)).await? else {
        return Err(no_such(identity));
    };
    tx.remove_project(&project.identity).await?;
    // Whoever removes it wants nothing of it to begin by itself, and what opened its repository has gone with it.
    let schedules = tx.schedules_of(&project.url).await?;
    tx.put_schedules(&schedules, &[]).await?;
    tx.commit().await?;
    web.desk.feed.say(Change::Projects);
    let gone = match schedules.len() {
        0 => String::new(),
        1 => ", and its schedule is gone until its default branch is built again".to_owned(),
        many => format!(", and its {many} schedules are gone until its default branch is built again"),
    };
    let message = format!("{} is no project any more{gone}; its builds stay in the history", project.identity);
    Ok(RemovedProject { message })
}

/// A project goes by its identity, and by every URL of its repository.
fn named(text: &str) -> String {
    let is_url = text.contains("://") || text.contains('@') || text.starts_with('/');
    match text.parse::<protocol::RepoUrl>() {
        Ok(url) if is_url => url.identity(),
        _ => text.trim_end_matches('/').to_owned(),
    }
}

fn no_such(identity: &str) -> Refusal {
    Refusal::not_found(format!("there is no project {identity}; `buildr project list` lists them"))
}

fn checked(secret: String) -> Answer<String> {
    if !(SHORTEST_SECRET..=LONGEST_SECRET).contains(&secret.len()) {
        return Err(Refusal::bad_request(format!(
            "a secret has {SHORTEST_SECRET} to {LONGEST_SECRET} bytes; leave it out, and a good one is made"
        )));
    }
    if secret.trim() != secret || secret.chars().any(char::is_control) {
        return Err(Refusal::bad_request("a secret neither begins nor ends with white space, and is one line"));
    }
    Ok(secret)
}

fn view(web: &Web, project: &Project) -> ProjectView {
    let hook_url = format!("{}/hooks/{}/{}", web.desk.archives.url().unwrap_or_default(), project.forge, project.key);
    ProjectView {
        identity: project.identity.clone(),
        url: project.url.to_string(),
        forge: project.forge,
        default_branch: project.default_branch.clone(),
        trusted: project.trusted,
        approval: project.approval,
        allowed: project.allowed,
        hook_url,
        created_ms: project.created_ms,
        credentials: project
            .credentials
            .as_ref()
            .map(|(view, sealed)| CredentialsView { lost: !web.desk.vault.knows(&sealed.key_id), ..view.clone() }),
        keeps: project.keeps,
        kept: project.keeps.over(&web.desk.config.keeps),
        // All of them were read as addresses when they were taken.
        mail: project.mail.iter().filter_map(|text| Some(text.parse::<Address>().ok()?.shortened())).collect(),
    }
}
