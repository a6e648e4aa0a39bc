//! What people do on pages: each is a form that works without scripts, and leads back to the page.

use std::sync::Arc;

use axum::Router;

use crate::web::Web;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
}
