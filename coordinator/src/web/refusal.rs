//! What comes back instead of an answer: always a sentence, and for programs always as a problem (RFC 9457).

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::api::Problem;

use crate::clock::ScheduleRefusal;
use crate::forge::ReportRefusal;
use crate::intake::IntakeError;
use crate::restart::RestartRefusal;
use crate::store::StoreError;
use crate::tracker::{AgentRefusal, GateRefusal};

/// The kind of content that a refusal is.
pub(super) const PROBLEM: &str = "application/problem+json";

/// A status of 4xx or 5xx with a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The status.
    pub(super) status: StatusCode,
    /// What is wrong and what to do.
    pub(super) sentence: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }

    pub(super) fn bad_request(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    pub(super) fn conflict(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, sentence)
    }

    pub(super) fn not_found(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, sentence)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, sentence } = self;
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: sentence.clone(),
            error: sentence,
        };
        (status, [(header::CONTENT_TYPE, PROBLEM)], Json(problem)).into_response()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!("a request could not be answered: {error}");
        let status = match error {
            StoreError::Full => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Store(error) => error.into(),
            IntakeError::LocalRepo(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        }
    }
}

impl From<AgentRefusal> for Refusal {
    fn from(refusal: AgentRefusal) -> Self {
        match refusal {
            AgentRefusal::Store(error) => error.into(),
            AgentRefusal::Unknown(_) => Self::not_found(refusal.to_string()),
            AgentRefusal::ThisProcess(_) | AgentRefusal::Here(_) | AgentRefusal::Busy(_) => {
                Self::conflict(refusal.to_string())
            }
        }
    }
}

impl From<GateRefusal> for Refusal {
    fn from(refusal: GateRefusal) -> Self {
        let status = match refusal {
            GateRefusal::Store(error) => return error.into(),
            GateRefusal::NoBuild(_) | GateRefusal::NoJob(..) => StatusCode::NOT_FOUND,
            GateRefusal::Inputs(..) => StatusCode::BAD_REQUEST,
            GateRefusal::NotAllowed(..) | GateRefusal::NotMaintainer(_) => StatusCode::FORBIDDEN,
            GateRefusal::NoGate(_) | GateRefusal::Several(..) | GateRefusal::NotOpen(..) => StatusCode::CONFLICT,
        };
        Self::new(status, refusal.to_string())
    }
}

impl From<RestartRefusal> for Refusal {
    fn from(refusal: RestartRefusal) -> Self {
        match refusal {
            RestartRefusal::Store(error) => error.into(),
            RestartRefusal::Intake(error) => error.into(),
            RestartRefusal::NoBuild(_) => Self::not_found(refusal.to_string()),
            RestartRefusal::NotOver(_) | RestartRefusal::NothingFailed(_) => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<ScheduleRefusal> for Refusal {
    fn from(refusal: ScheduleRefusal) -> Self {
        match refusal {
            ScheduleRefusal::Store(error) => error.into(),
            ScheduleRefusal::Intake(error) => error.into(),
            ScheduleRefusal::Unknown(_) => Self::not_found(refusal.to_string()),
            ScheduleRefusal::Several(..) => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<ReportRefusal> for Refusal {
    fn from(refusal: ReportRefusal) -> Self {
        match refusal {
            ReportRefusal::Store(error) => error.into(),
            ReportRefusal::Unknown(_) => Self::not_found(refusal.to_string()),
            ReportRefusal::Forge(_) | ReportRefusal::Kind(_) | ReportRefusal::Api(_) | ReportRefusal::Token => {
                Self::bad_request(refusal.to_string())
            }
        }
    }
}

/// For a path that leads nowhere.
pub(super) async fn no_such_page() -> Refusal {
    nothing_here()
}

/// The same.
pub(super) fn nothing_here() -> Refusal {
    Refusal::not_found("there is nothing at this path; the API is under /api/v1, the list of builds at /")
}

/// For a path that is there, but not so.
pub(super) async fn no_such_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path is there, but cannot be used with this method")
}
