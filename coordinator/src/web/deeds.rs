//! What people do with builds, whether a program asks for it or a form on a page.

use axum::http::HeaderMap;
use protocol::BuildNumber;
use protocol::api::{ApproveJob, Approved, CancelRequest, Cancelled, Restart, Restarted, Role};

use super::Web;
use super::access::Visitor;
use super::api::{Answer, asked_by, no_such_build, number, said};
use crate::{restart, tracker};

/// Ends a build, and says what that did.
pub(super) async fn cancelled(
    web: &Web,
    number: BuildNumber,
    CancelRequest { reason }: CancelRequest,
) -> Answer<Cancelled> {
    let reason = said(reason).unwrap_or_else(|| "cancelled by hand".to_owned());
    let Some(done) = tracker::cancel(&web.desk, number, &reason).await? else {
        return Err(no_such_build(number));
    };
    let message = match (done.status.is_over(), done.changed) {
        (true, true) => format!("build {number} is cancelled; it had not begun"),
        (true, false) => format!("build {number} was over already: {}", done.status.name()),
        (false, true) => format!("build {number} is being cancelled; its agent ends it"),
        (false, false) => format!("build {number} is being cancelled already"),
    };
    Ok(Cancelled { status: done.status, message })
}

/// A person's answer at a gate, and what became of it.
pub(super) async fn said_at_gate(
    web: &Web,
    text: &str,
    answer: ApproveJob,
    visitor: &Visitor,
    headers: &HeaderMap,
) -> Answer<Approved> {
    let number = number(text)?;
    let answer = ApproveJob { reason: said(answer.reason.clone()), ..answer };
    let by = asked_by(headers);
    let person = tracker::Person { by: by.as_deref(), maintains: visitor.may(Role::Maintainer) };
    Ok(tracker::answer(&web.desk, number, &answer, person).await?)
}

/// Begins a build that does an older one again.
pub(super) async fn restarted(web: &Web, text: &str, ask: Restart, headers: &HeaderMap) -> Answer<Restarted> {
    // Whoever may write here may begin trusted builds.
    Ok(restart::restart(&web.desk, number(text)?, ask, (asked_by(headers).as_deref(), true)).await?)
}
