//! What forges delivered, and what came of it: where somebody looks whose push began no build.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use buildr::process::clock::now_ms;
use protocol::api::{DeliveryView, Role};
use serde::Deserialize;

use super::live::Part;
use super::said::When;
use super::{Frame, Here, Onlooker, answer, projects};
use crate::web::Web;
use crate::web::api::Answer;
use crate::web::deliveries::{ListQuery, listed};
use crate::web::refusal::Refusal;

/// How many a page has.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "deliveries.html", blocks = ["deliveries"])]
struct DeliveriesPage {
    frame: Frame,
    rows: Vec<DeliveryShown>,
    /// The project whose deliveries alone are shown.
    project: Option<String>,
    /// Those of before a number are shown.
    is_older: bool,
    newest: String,
    older: Option<String>,
}

/// A delivery, as a row of a table.
pub(super) struct DeliveryShown {
    pub(super) number: u64,
    pub(super) project: String,
    pub(super) project_link: String,
    pub(super) forge: &'static str,
    pub(super) event: String,
    pub(super) when: When,
    pub(super) verdict: VerdictShown,
    pub(super) builds: Vec<u64>,
    pub(super) replays: u32,
    /// The one that it repeats.
    pub(super) redelivers: Option<u64>,
    pub(super) redeliverable: bool,
}

/// What came of a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VerdictShown {
    /// The state whose mark and colour it has.
    pub(super) tone: &'static str,
    pub(super) word: &'static str,
    /// Nothing when the build itself says it.
    pub(super) sentence: String,
}

/// Which deliveries a page shows. A form that was left empty narrows them to nothing.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct DeliveriesQuery {
    project: Option<String>,
    before: Option<u64>,
}

pub(super) async fn page(
    State(web): State<Arc<Web>>,
    onlooker: Onlooker,
    query: Result<Query<DeliveriesQuery>, QueryRejection>,
) -> Response {
    let page = match query {
        Ok(Query(query)) => deliveries(&web, &query, &onlooker).await,
        Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
    };
    answer(page)
}

/// The part of the page that changes.
pub(super) async fn parts(web: &Web, query: &DeliveriesQuery, onlooker: &Onlooker) -> Answer<Vec<Part>> {
    Ok(vec![Part::new("deliveries", &deliveries(web, query, onlooker).await?.as_deliveries())?])
}

async fn deliveries(web: &Web, query: &DeliveriesQuery, onlooker: &Onlooker) -> Answer<DeliveriesPage> {
    let DeliveriesQuery { project, before } = query.clone();
    let project = project.filter(|project| !project.is_empty());
    let found = listed(web, &ListQuery { project: project.clone(), before, limit: Some(PAGE) }).await?;
    let now = now_ms();
    Ok(DeliveriesPage {
        // Older ones stay as they are.
        frame: Frame::new("Deliveries", Here::Deliveries)
            .live_if(before.is_none(), format!("/live{}", link(project.as_deref(), None)))
            .seen_by(onlooker, Role::Maintainer),
        rows: found.deliveries.into_iter().map(|delivery| shown(delivery, now)).collect(),
        is_older: before.is_some(),
        newest: link(project.as_deref(), None),
        older: found.next.map(|next| link(project.as_deref(), Some(next))),
        project,
    })
}

/// Where the deliveries of a project are listed, or all.
pub(super) fn link(project: Option<&str>, before: Option<u64>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(project.map(|project| ("project", project)));
    query.extend_pairs(before.map(|before| ("before", before.to_string())));
    let query = query.finish();
    if query.is_empty() { "/deliveries".to_owned() } else { format!("/deliveries?{query}") }
}

/// A delivery as it is said at `now_ms`.
pub(super) fn shown(delivery: DeliveryView, now_ms: u64) -> DeliveryShown {
    DeliveryShown {
        number: delivery.number,
        project_link: projects::link(&delivery.project),
        verdict: verdict(&delivery),
        project: delivery.project,
        forge: delivery.forge.name(),
        event: delivery.event,
        when: When::new(delivery.received_ms, now_ms),
        builds: delivery.builds.iter().map(|build| build.0).collect(),
        replays: delivery.replays,
        redelivers: delivery.redelivers,
        redeliverable: delivery.redeliverable,
    }
}

/// What came of it, by the word that its verdict begins with.
fn verdict(delivery: &DeliveryView) -> VerdictShown {
    let Some(said) = delivery.verdict.as_deref() else {
        let sentence = "It is kept, and handled next.".to_owned();
        return VerdictShown { tone: "queued", word: "waits", sentence };
    };
    if let [build, ..] = delivery.builds.as_slice() {
        // The link to the build says all of it. One push may be several changes, each with a verdict of its own.
        let said = if said == format!("build {build}") { "" } else { said };
        return VerdictShown { tone: "passed", word: "built", sentence: said.to_owned() };
    }
    let (tone, word, sentence) = match said.split_once(": ") {
        Some(("ignored", why)) => ("skipped", "ignored", why),
        Some(("refused", "signature")) => (
            "failed",
            "refused",
            "It was not signed with the project's secret; write the same secret at the forge, or give the project another with `buildr project change`.",
        ),
        Some(("refused", why)) => ("failed", "refused", why),
        _ if said == "ping" => ("passed", "ping", "The forge asked whether anybody is there."),
        _ => ("passed", "done", said),
    };
    VerdictShown { tone, word, sentence: sentence.to_owned() }
}

#[cfg(test)]
mod tests {
    use protocol::BuildNumber;
    use protocol::api::Forge;

    use super::*;

    #[test]
    fn what_came_of_a_delivery() {
        for (said, builds, tone, word, sentence) in [
            (None, &[][..], "queued", "waits", "handled next"),
            (Some("build #12"), &[12], "passed", "built", ""),
            (Some("build #12, which waits for approval"), &[12], "passed", "built", "waits for approval"),
            (Some("ignored: x; build #3"), &[3], "passed", "built", "ignored: x; build #3"),
            (Some("ignored: a branch was deleted"), &[], "skipped", "ignored", "a branch was deleted"),
            (Some("refused: signature"), &[], "failed", "refused", "not signed with the project's secret"),
            (Some("refused: it is no JSON: at 3"), &[], "failed", "refused", "it is no JSON: at 3"),
            (Some("ping"), &[], "passed", "ping", "anybody"),
            (Some("cancelled #3"), &[], "passed", "done", "cancelled #3"),
        ] {
            let delivery = DeliveryView {
                number: 1,
                project: "example.org/a/b".to_owned(),
                forge: Forge::GitHub,
                event: "push".to_owned(),
                forge_id: None,
                received_ms: 0,
                verdict: said.map(str::to_owned),
                builds: builds.iter().copied().map(BuildNumber).collect(),
                replays: 0,
                redelivers: None,
                redeliverable: false,
            };
            let got = verdict(&delivery);
            assert_eq!((got.tone, got.word), (tone, word), "{said:?}");
            assert!(got.sentence.contains(sentence), "{got:?}");
            assert_eq!(got.sentence.is_empty(), sentence.is_empty(), "{got:?}");
        }
    }

    #[test]
    fn where_deliveries_are_listed() {
        assert_eq!(link(None, None), "/deliveries");
        assert_eq!(link(Some("a.org/b?c"), Some(7)), "/deliveries?project=a.org%2Fb%3Fc&before=7");
    }
}
