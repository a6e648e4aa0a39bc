//! The form by which a browser signs in; what it sends is looked at in `access`.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};

use super::{Frame, Here};
use crate::web::refusal::Refusal;

#[derive(Template)]
#[template(path = "sign-in.html")]
struct SignIn<'a> {
    frame: Frame,
    /// Where to go on.
    to: &'a str,
    /// Why it is shown, when that was not asked for.
    sentence: Option<&'a str>,
}

/// The form, with where it leads, and what went wrong.
pub(in crate::web) fn page(status: StatusCode, to: &str, sentence: Option<&str>) -> Response {
    let page = SignIn { frame: Frame::new("Sign in", Here::SignIn), to, sentence };
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
