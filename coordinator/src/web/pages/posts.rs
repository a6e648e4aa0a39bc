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
use protocol::AgentId;
use protocol::api::{ApproveJob, CancelRequest};

use super::{build, sorry};
use crate::tracker;
use crate::web::Web;
use crate::web::access::Visitor;
use crate::web::agents::agent_name;
use crate::web::api::{Answer, asked_by, number, said};
use crate::web::deeds::{cancelled, said_at_gate};
use crate::web::refusal::Refusal;

/// The fields of a form, in the order in which they stand there.
type Fields = Vec<(String, String)>;

/// A form, as it comes.
type Body = Result<Bytes, BytesRejection>;

/// What stands before the name of a value that a gate asks for.
const INPUT: &str = "input.";

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        // A stage may be called so too.
        .route("/builds/{number}/cancel", post(cancel).get(build::stage_in_path))
        .route("/builds/{number}/approve", post(approve).get(build::stage_in_path))
        .route("/agents/{name}/pause", post(pause))
        .route("/agents/{name}/resume", post(resume))
}

/// Back to where it was done, or what stood against it.
fn back(to: &str, done: Answer<()>) -> Response {
    match done {
        Ok(()) => Redirect::to(to).into_response(),
        Err(refusal) => sorry(refusal),
    }
}

fn fields(form: Body) -> Answer<Fields> {
    let form = form.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
    Ok(url::form_urlencoded::parse(&form).into_owned().collect())
}

fn field(fields: &[(String, String)], name: &str) -> Option<String> {
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
    fn what_a_gates_form_says() {
        let filled = [("csrf", "x"), ("job", "deploy (to=prod)"), ("input.REGION", "eu"), ("answer", "approve")];
        check(&filled, Some(("deploy (to=prod)", false, "REGION=eu")));
        check(&[("job", "deploy"), ("input.REGION", "eu"), ("answer", "reject")], Some(("deploy", true, "")));
        check(&[("job", "deploy")], None);
        check(&[("job", ""), ("answer", "approve")], None);
    }
}
