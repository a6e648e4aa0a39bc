//! `/api/v1/secrets`: the farm's secrets. What is set here goes to builds alone: no answer has a value.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::{Extension, Json};
use buildr::process::clock::now_ms;
use buildr::runner::SHORTEST_SECRET;
use protocol::RepoUrl;
use protocol::api::{RemoveSecret, SecretView, SetSecret};
use protocol::job::TriggerKind;
use protocol::secure::{FarmKey, LONGEST_VALUE};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::access::Visitor;
use super::api::{Answer, json};
use super::refusal::Refusal;
use crate::store::{KeptSecret, Scope};

/// The largest request, in bytes: a value whose every byte JSON writes as six.
const BODY_LIMIT: usize = 6 * LONGEST_VALUE + (16 << 10);

/// How many secrets a farm keeps: more are a mistake of some script.
const MOST: u64 = 5000;

/// How much the secrets of one build take at most, in bytes: they travel in one message with all else of its grant.
const HEAVIEST: u64 = 1 << 20;

/// The longest name, and the longest pattern of branches, in characters.
const LONGEST: usize = 128;

type Body = Result<Bytes, BytesRejection>;

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default()
        .routes(routes!(secrets, set))
        .routes(routes!(remove))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// What values in manifests are sealed with. It is no secret.
#[utoipa::path(
    get,
    path = "/key",
    responses((status = 200, description = "The public key.", body = FarmKey))
)]
pub(super) async fn key(State(web): State<Arc<Web>>) -> Json<FarmKey> {
    Json(web.desk.vault.public().clone())
}

/// The secrets by project and name, without their values.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "list_secrets",
    responses((status = 200, description = "All of them.", body = Vec<SecretView>))
)]
async fn secrets(State(web): State<Arc<Web>>) -> Answer<Json<Vec<SecretView>>> {
    let all = web.desk.store.secrets().await?;
    Ok(Json(all.iter().map(|secret| view(&web, secret)).collect()))
}

/// Keeps a secret, in place of one for the same builds.
#[utoipa::path(
    post,
    path = "/",
    operation_id = "set_secret",
    request_body = SetSecret,
    responses((status = 200, description = "The secret, without its value.", body = SecretView), (status = 409))
)]
async fn set(
    State(web): State<Arc<Web>>,
    Extension(visitor): Extension<Visitor>,
    body: Body,
) -> Answer<Json<SecretView>> {
    let SetSecret { name, value, project, all, branch, events } = json(body)?;
    let scope = scope(name, whose(project, all)?, branch, events)?;
    check_value(&value)?;
    let (key_id, sealed) = web.desk.vault.seal(&scope, &value);
    let (set_by, set_ms) = (visitor.who().to_owned(), now_ms());
    let secret = KeptSecret { id: 0, scope, key_id, sealed, set_by, set_ms };
    let mut tx = web.desk.store.write().await?;
    tx.put_secret(&secret).await?;
    if tx.count_secrets().await? > MOST {
        return Err(Refusal::conflict(format!("the farm keeps {MOST} secrets, and no more; remove some first")));
    }
    if tx.secrets_weight().await? > HEAVIEST {
        let limit = HEAVIEST >> 10;
        return Err(Refusal::conflict(format!(
            "the secrets that a build may have are {limit} KiB together at most; remove some, or give their files to the agents"
        )));
    }
    tx.commit().await?;
    Ok(Json(view(&web, &secret)))
}

/// Forgets the secret that was set for these very builds.
#[utoipa::path(
    post,
    path = "/remove",
    operation_id = "remove_secret",
    request_body = RemoveSecret,
    responses((status = 200, description = "The secret that was.", body = SecretView), (status = 404))
)]
async fn remove(State(web): State<Arc<Web>>, body: Body) -> Answer<Json<SecretView>> {
    let RemoveSecret { name, project, all, branch, events } = json(body)?;
    let scope = scope(name, whose(project, all)?, branch, events)?;
    let known = web.desk.store.secrets().await?;
    let mut tx = web.desk.store.write().await?;
    if !tx.remove_secret(&scope).await? {
        return Err(Refusal::not_found(not_there(&scope, &known)));
    }
    tx.commit().await?;
    let secret = known.iter().find(|secret| secret.scope == scope);
    secret.map(|secret| Json(view(&web, secret))).ok_or_else(|| Refusal::not_found(not_there(&scope, &known)))
}

/// Which builds a secret is for that was set with other words.
fn not_there(scope: &Scope, known: &[KeptSecret]) -> String {
    let same = known.iter().map(|secret| &secret.scope).filter(|other| other.name == scope.name);
    let others: Vec<String> = same.take(5).map(shown).collect();
    if others.is_empty() {
        format!("there is no secret {}; `buildr secret list` has them all", scope.name)
    } else {
        format!(
            "there is no secret {} for {}; there is one for {}",
            scope.name,
            shown(scope),
            others.join(", and for ")
        )
    }
}

fn shown(scope: &Scope) -> String {
    let mut text = if scope.project.is_empty() { "all projects".to_owned() } else { scope.project.clone() };
    if !scope.branch.is_empty() {
        text += &format!(" --branch {}", scope.branch);
    }
    if !scope.events.is_empty() {
        text += &format!(" --event {}", scope.events);
    }
    text
}

/// The identity of the repository, or nothing for all.
fn whose(project: Option<RepoUrl>, all: bool) -> Answer<String> {
    match (project, all) {
        (Some(project), false) => Ok(project.identity()),
        (None, true) => Ok(String::new()),
        _ => Err(Refusal::bad_request("say for which builds it is: `project` with a repository's URL, or `all`")),
    }
}

fn scope(name: String, project: String, branch: Option<String>, events: Vec<TriggerKind>) -> Answer<Scope> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(legal) {
        return Err(Refusal::bad_request(format!(
            "{name:?} cannot name a secret; write 1 to {LONGEST} letters, digits, `_`, `-`, `.` or `/`"
        )));
    }
    if name == "CI" || name.starts_with("BUILDR_") {
        return Err(Refusal::bad_request(format!(
            "{name} is a variable of buildr's own; give the secret another name"
        )));
    }
    let branch = branch.unwrap_or_default();
    if branch.len() > LONGEST || branch.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Refusal::bad_request(format!("{branch:?} is no pattern of branches; write one such as release/*")));
    }
    let mut events: Vec<&str> = events.into_iter().map(TriggerKind::name).collect();
    events.sort_unstable();
    events.dedup();
    Ok(Scope { project, name, branch, events: events.join(",") })
}

fn check_value(value: &str) -> Answer<()> {
    let length = value.len();
    if length < SHORTEST_SECRET {
        return Err(Refusal::bad_request(format!(
            "the value has {length} characters, too few to be masked in logs; a secret has {SHORTEST_SECRET} or more"
        )));
    }
    if length > LONGEST_VALUE {
        let limit = LONGEST_VALUE >> 10;
        return Err(Refusal::bad_request(format!(
            "the value is longer than {limit} KiB, which no program takes as a variable"
        )));
    }
    if value.contains('\0') {
        return Err(Refusal::bad_request("the value holds a NUL, which no variable can"));
    }
    Ok(())
}

fn view(web: &Web, secret: &KeptSecret) -> SecretView {
    let Scope { project, name, branch, events } = &secret.scope;
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    // They were written by this room, from the same names.
    let event = |name: &str| serde_json::from_value(serde_json::Value::from(name)).ok();
    SecretView {
        name: name.clone(),
        project: some(project),
        branch: some(branch),
        events: events.split(',').filter_map(event).collect(),
        set_by: secret.set_by.clone(),
        set_ms: secret.set_ms,
        lost: !web.desk.vault.knows(&secret.key_id),
    }
}
