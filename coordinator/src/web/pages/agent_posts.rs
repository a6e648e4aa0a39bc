//! What admins say about agents on their page: that one belongs to the farm, or no longer, or is listed no longer.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use protocol::LabelSet;
use protocol::api::Approve;

use super::posts::{Body, back, field, fields};
use crate::tracker;
use crate::web::Web;
use crate::web::agents::{agent_name, approved, revoked};
use crate::web::api::Answer;
use crate::web::refusal::Refusal;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        .route("/agents/{name}/approve", post(approve))
        .route("/agents/{name}/revoke", post(revoke))
        .route("/agents/{name}/forget", post(forget))
}

async fn approve(State(web): State<Arc<Web>>, Path(name): Path<String>, form: Body) -> Response {
    let done = async {
        let asked = approval_of(&fields(form)?)?;
        approved(&web, &agent_name(&name)?, &asked).await
    };
    back("/agents", done.await)
}

/// What the form says: the very key that stood on the page, and of the labels those that were ticked. Others that the
/// agent offers by now were not seen.
fn approval_of(fields: &[(String, String)]) -> Answer<Approve> {
    let fingerprint = field(fields, "fingerprint").filter(|text| !text.is_empty());
    let fingerprint = fingerprint
        .ok_or_else(|| Refusal::bad_request("the form does not say which key was compared; load the page again"))?;
    let ticked = fields.iter().filter(|(name, _)| name == "label").map(|(_, label)| label.clone());
    let labels = LabelSet::new(ticked).map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok(Approve { fingerprint, labels: Some(labels) })
}

async fn revoke(State(web): State<Arc<Web>>, Path(name): Path<String>, form: Body) -> Response {
    let done = async {
        let reason = field(&fields(form)?, "reason");
        revoked(&web, &agent_name(&name)?, reason).await
    };
    back("/agents", done.await)
}

async fn forget(State(web): State<Arc<Web>>, Path(name): Path<String>) -> Response {
    let done = async {
        tracker::forget(&web.desk, &agent_name(&name)?).await?;
        Ok(())
    };
    back("/agents", done.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_form_to_approve_says() {
        for (form, expect) in [
            (&[("csrf", "x"), ("fingerprint", "k1"), ("label", "gpu"), ("label", "arm")][..], Some("k1 arm+gpu")),
            (&[("fingerprint", "k1")], Some("k1 ")),
            (&[("fingerprint", ""), ("label", "gpu")], None),
            (&[("label", "gpu")], None),
            (&[("fingerprint", "k1"), ("label", "a b")], None),
        ] {
            let fields: Vec<(String, String)> =
                form.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let got = approval_of(&fields)
                .ok()
                .map(|asked| format!("{} {}", asked.fingerprint, asked.labels.unwrap_or_default()));
            assert_eq!(got.as_deref(), expect, "{form:?}");
        }
    }
}
