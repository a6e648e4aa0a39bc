//! What a request says: in its path, its query, its headers and its body. What cannot be read is refused with a sentence.

use std::num::IntErrorKind;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Query};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use protocol::BuildNumber;
use protocol::api::ASKED_BY;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;

/// An answer, or what is said in its place.
pub(super) type Answer<T> = Result<T, Refusal>;

/// What stands in a path. What is no text there is refused as everything else is.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let found: Result<_, PathRejection> = axum::extract::Path::from_request_parts(parts, state).await;
        match found {
            Ok(axum::extract::Path(found)) => Ok(Self(found)),
            Err(rejection) => Err(Refusal::new(rejection.status(), rejection.body_text())),
        }
    }
}

/// A build's number, as it stands in a path. There is none that is too large to be read.
pub(super) fn number(text: &str) -> Answer<BuildNumber> {
    match text.parse::<u64>() {
        Ok(number) => Ok(BuildNumber(number)),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            Err(Refusal::not_found(format!("there is no build #{text}; `buildr builds` lists them")))
        }
        Err(_) => Err(Refusal::bad_request(format!("{text:?} is not a build's number; write one such as 12"))),
    }
}

/// Who asks, as that one says: a short text for people, or nothing.
pub(super) fn asked_by(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(ASKED_BY)?.to_str().ok()?;
    let by: String = said.chars().filter(|c| !c.is_control()).take(100).collect();
    Some(by.trim().to_owned()).filter(|by| !by.is_empty())
}

/// What a person wrote, on one line and not without end; nothing when that leaves nothing.
pub(super) fn said(text: Option<String>) -> Option<String> {
    let text: String = text?.chars().filter(|c| !c.is_control()).take(500).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A query, or what is wrong with it.
pub(super) fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Answer<T> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
    }
}

/// A body, or what is wrong with it.
pub(super) fn json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Answer<T> {
    let body = body.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
    // What is read by names would be read by its order too.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::bad_request(
            "the request cannot be read: it is a list; send an object, `{\"name\": value}`",
        ));
    }
    serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(format!("the request cannot be read: {error}")))
}

/// A body that may be left out, or be `null`.
pub(super) fn json_or_default<T: DeserializeOwned + Default>(body: Result<Bytes, BytesRejection>) -> Answer<T> {
    match body {
        Ok(body) if body.is_empty() => Ok(T::default()),
        body => Ok(json::<Option<T>>(body)?.unwrap_or_default()),
    }
}
