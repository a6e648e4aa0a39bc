//! What people do on pages: each is a form that works without scripts, and leads back to the page. The guard has seen
//! to it that the form is one of ours, and that who sent it may.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::post;
use axum::{Extension, Router};
use protocol::api::{Approval, ApproveJob, CancelRequest, ChangeProject, Restart};
use protocol::{AgentId, Branch};

use super::{build, projects, sorry};
use crate::tracker;
use crate::web::Web;
use crate::web::access::Visitor;
use crate::web::agents::agent_name;
use crate::web::api::{Answer, asked_by, number, said};
use crate::web::deeds::{cancelled, restarted, said_at_gate};
use crate::web::deliveries::redelivered;
use crate::web::projects::{changed, removed};
use crate::web::refusal::{Refusal, nothing_here};

/// The fields of a form, in the order in which they stand there.
pub(super) type Fields = Vec<(String, String)>;

/// A form, as it comes.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// What stands before the name of a value that a gate asks for.
const INPUT: &str = "input.";

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        // A stage may be called so too.
        .route("/builds/{number}/cancel", post(cancel).get(build::stage_in_path))
        .route("/builds/{number}/restart", post(restart).get(build::stage_in_path))
        .route("/builds/{number}/approve", post(approve).get(build::stage_in_path))
        .route("/deliveries/{number}/redeliver", post(redeliver))
        // The name of a project has slashes.
        .route("/projects/{*rest}", post(change).get(projects::one))
        .route("/agents/{name}/pause", post(pause))
        .route("/agents/{name}/resume", post(resume))
        .merge(super::agent_posts::router())
        .merge(super::project_posts::router())
}

/// Back to where it was done, or what stood against it.
pub(super) fn back(to: &str, done: Answer<()>) -> Response {
    match done {
        Ok(()) => Redirect::to(to).into_response(),
        Err(refusal) => sorry(refusal),
    }
}

/// What a form says.
pub(super) fn fields(form: Body) -> Answer<Fields> {
    let form = form.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
    Ok(url::form_urlencoded::parse(&form).into_owned().collect())
}

/// What it says in the first field of a name.
pub(super) fn field(fields: &[(String, String)], name: &str) -> Option<String> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

async fn cancel(State(web): State<Arc<Web>>, Path(text): Path<String>, headers: HeaderMap) -> Response {
    let done = async {
        let by = asked_by(&headers).map(|by| format!("cancelled by {by}"));
        cancelled(&web, number(&text)?, CancelRequest { reason: by }).await?;
        Ok(())
    };
    back(&format!("/builds/{text}"), done.await)
}

/// Leads to the build that does it again.
async fn restart(State(web): State<Arc<Web>>, Path(text): Path<String>, headers: HeaderMap, form: Body) -> Response {
    let done = async {
        let failed = field(&fields(form)?, "failed").is_some_and(|failed| failed == "true");
        restarted(&web, &text, Restart { failed, latest: false }, &headers).await
    };
    match done.await {
        Ok(done) => Redirect::to(&format!("/builds/{}", done.build.0)).into_response(),
        Err(refusal) => sorry(refusal),
    }
}

async fn redeliver(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Response {
    back("/deliveries", redelivered(&web, &text).await.map(drop))
}

async fn change(State(web): State<Arc<Web>>, Path(rest): Path<String>, form: Body) -> Response {
    if let Some(identity) = rest.strip_suffix("/remove") {
        return back("/projects", removed(&web, identity).await.map(drop));
    }
    let Some(identity) = rest.strip_suffix("/change") else { return sorry(nothing_here()) };
    let done = async {
        changed(&web, identity, change_of(&fields(form)?)?).await?;
        Ok(())
    };
    back(&projects::link(identity), done.await)
}

/// What the form of a project says. What is left empty stays.
fn change_of(fields: &[(String, String)]) -> Answer<ChangeProject> {
    let said = |name| field(fields, name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let branch = said("default_branch").map(|text| text.parse::<Branch>()).transpose();
    let trusted = match said("trusted").as_deref() {
        None => None,
        Some("yes") => Some(true),
        Some("no") => Some(false),
        Some(_) => {
            return Err(Refusal::bad_request(
                "the form says neither that its builds are trusted nor that they are not; load the page again",
            ));
        }
    };
    let approval = said("approval").map(|text| text.parse::<Approval>()).transpose();
    Ok(ChangeProject {
        default_branch: branch.map_err(|error| Refusal::bad_request(error.to_string()))?,
        trusted,
        approval: approval.map_err(Refusal::bad_request)?,
        ..ChangeProject::default()
    })
}

async fn approve(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Body,
) -> Response {
    let done = async {
        let answer = answer_of(&fields(form)?)?;
        said_at_gate(&web, &text, answer, &visitor, &headers).await?;
        Ok(())
    };
    back(&format!("/builds/{text}"), done.await)
}

/// What the form of a gate says.
fn answer_of(fields: &[(String, String)]) -> Answer<ApproveJob> {
    let job = field(fields, "job").map(|job| job.parse()).transpose();
    let inputs = fields.iter().filter_map(|(name, value)| Some((name.strip_prefix(INPUT)?.to_owned(), value.clone())));
    let reject = match field(fields, "answer").as_deref() {
        Some("approve") => false,
        Some("reject") => true,
        _ => return Err(Refusal::bad_request("the form says neither approve nor reject; load the page again")),
    };
    Ok(ApproveJob {
        job: job.map_err(|error: protocol::id::InvalidName| Refusal::bad_request(error.to_string()))?,
        // What is rejected is given nothing.
        inputs: inputs.filter(|_| !reject).collect(),
        reject,
        reason: field(fields, "reason"),
    })
}

async fn pause(State(web): State<Arc<Web>>, Path(name): Path<String>, headers: HeaderMap, form: Body) -> Response {
    let done = async {
        let note = said(field(&fields(form)?, "note")).unwrap_or_else(|| "no reason given".to_owned());
        let name: AgentId = agent_name(&name)?;
        tracker::pause_agent(&web.desk, &name, note, asked_by(&headers)).await?;
        Ok(())
    };
    back("/agents", done.await)
}

async fn resume(State(web): State<Arc<Web>>, Path(name): Path<String>) -> Response {
    let done = async {
        tracker::resume_agent(&web.desk, &agent_name(&name)?).await?;
        Ok(())
    };
    back("/agents", done.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &[(&str, &str)], expect: Option<(&str, bool, &str)>) {
        let form: Vec<(String, String)> = form.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let got = answer_of(&form).ok().map(|answer| {
            let inputs: Vec<String> = answer.inputs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (answer.job.map(|job| job.to_string()).unwrap_or_default(), answer.reject, inputs.join(" "))
        });
        assert_eq!(got, expect.map(|(job, reject, inputs)| (job.to_owned(), reject, inputs.to_owned())));
    }

    #[test]
    fn what_a_projects_form_says() {
        for (form, expect) in [
            (&[("default_branch", " main "), ("trusted", "no"), ("approval", "all")][..], Some("main no all")),
            (&[("default_branch", ""), ("trusted", "yes")], Some("- yes -")),
            (&[("csrf", "x"), ("url", "https://evil.example/x"), ("secret", "x")], Some("- - -")),
            (&[("default_branch", "a..b")], None),
            (&[("trusted", "maybe")], None),
            (&[("approval", "some")], None),
        ] {
            let fields: Vec<(String, String)> =
                form.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let got = change_of(&fields).ok().map(|asked| {
                assert!(asked.url.is_none() && asked.secret.is_none());
                let branch = asked.default_branch.map_or("-".to_owned(), |branch| branch.to_string());
                let trusted = asked.trusted.map_or("-", |trusted| if trusted { "yes" } else { "no" });
                format!("{branch} {trusted} {}", asked.approval.map_or("-", Approval::name))
            });
            assert_eq!(got.as_deref(), expect, "{form:?}");
        }
    }

    #[test]
    fn what_a_gates_form_says() {
        let filled = [("csrf", "x"), ("job", "deploy (to=prod)"), ("input.REGION", "eu"), ("answer", "approve")];
        check(&filled, Some(("deploy (to=prod)", false, "REGION=eu")));
        check(&[("job", "deploy"), ("input.REGION", "eu"), ("answer", "reject")], Some(("deploy", true, "")));
        check(&[("job", "deploy")], None);
        check(&[("job", ""), ("answer", "approve")], None);
    }
}
