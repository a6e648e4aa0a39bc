//! What people do on the pages of projects beyond changing one: add another, and say when its schedules begin builds.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::post;
use buildr::process::clock::now_ms;
use protocol::api::{Forge, NewProject, ScheduleAct, ScheduleOrder};
use protocol::{Branch, RepoUrl};

use super::posts::{Body, field, fields};
use super::projects::{self, AddedPage};
use super::{Onlooker, answer, sorry};
use crate::clock;
use crate::web::Web;
use crate::web::api::{Answer, asked_by};
use crate::web::projects::added;
use crate::web::refusal::Refusal;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new().route("/projects", post(add).get(projects::page)).route("/schedules", post(order))
}

/// Leads nowhere: what it says, it says once.
async fn add(State(web): State<Arc<Web>>, onlooker: Onlooker, form: Body) -> Response {
    let done = async { Ok(AddedPage::new(added(&web, project_of(&fields(form)?)?).await?, &onlooker)) };
    answer(done.await)
}

/// What the form of a new project says.
fn project_of(fields: &[(String, String)]) -> Answer<NewProject> {
    let said = |name| field(fields, name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let url = said("url").ok_or_else(|| Refusal::bad_request("the form does not say which repository"))?;
    let forge = said("forge").map(|text| text.parse::<Forge>()).transpose();
    let branch = said("default_branch").map(|text| text.parse::<Branch>()).transpose();
    let url = url.parse::<RepoUrl>().map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok(NewProject {
        forge: forge.map_err(Refusal::bad_request)?,
        default_branch: branch.map_err(|error| Refusal::bad_request(error.to_string()))?,
        ..NewProject::new(url)
    })
}

/// Back to the project; a build that was begun is where to look next.
async fn order(State(web): State<Arc<Web>>, headers: HeaderMap, form: Body) -> Response {
    let done = async {
        let fields = fields(form)?;
        let order = order_of(&fields)?;
        let done = clock::order(&web.desk, &order, asked_by(&headers).as_deref(), now_ms()).await?;
        Ok((field(&fields, "project").unwrap_or_default(), done.build))
    };
    match done.await {
        Ok((_, Some(build))) => Redirect::to(&format!("/builds/{}", build.0)).into_response(),
        Ok((project, None)) => Redirect::to(&projects::link(&project)).into_response(),
        Err(refusal) => sorry(refusal),
    }
}

/// What the form of a schedule says.
fn order_of(fields: &[(String, String)]) -> Answer<ScheduleOrder> {
    let order = match field(fields, "order").as_deref() {
        Some("pause") => ScheduleAct::Pause,
        Some("resume") => ScheduleAct::Resume,
        Some("run") => ScheduleAct::Run,
        _ => return Err(Refusal::bad_request("the form does not say what to do; load the page again")),
    };
    let name = field(fields, "name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refusal::bad_request("the form names no schedule; load the page again"))?;
    let said = |name| field(fields, name).filter(|text| !text.is_empty());
    Ok(ScheduleOrder { name, repo: said("repo"), pipeline: said("pipeline"), order })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn what_the_form_of_a_new_project_says() {
        let whole = [("url", " https://e.org/a/b "), ("forge", "gitea"), ("default_branch", "next")];
        for (fields, expect) in [
            (&whole[..], Some("https://e.org/a/b gitea next")),
            (
                &[("url", "https://e.org/a/b"), ("forge", ""), ("secret", "sixteen letters!")],
                Some("https://e.org/a/b - -"),
            ),
            (&[("url", "")], None),
            (&[("url", "https://e.org/a/b"), ("forge", "x")], None),
            (&[("url", "https://e.org/a/b"), ("default_branch", "a..b")], None),
        ] {
            let got = project_of(&form(fields)).ok().map(|new| {
                assert!(new.secret.is_none());
                let branch = new.default_branch.map_or("-".to_owned(), |branch| branch.to_string());
                format!("{} {} {branch}", new.url, new.forge.map_or("-", Forge::name))
            });
            assert_eq!(got.as_deref(), expect, "{fields:?}");
        }
    }

    #[test]
    fn what_the_form_of_a_schedule_says() {
        let order = order_of(&form(&[("name", "nightly"), ("repo", "r"), ("pipeline", ""), ("order", "run")])).unwrap();
        assert_eq!((order.name.as_str(), order.repo.as_deref(), order.pipeline), ("nightly", Some("r"), None));
        assert_eq!(order.order, ScheduleAct::Run);
        assert!(order_of(&form(&[("name", "nightly")])).is_err());
        assert!(order_of(&form(&[("name", ""), ("order", "run")])).is_err());
    }
}
