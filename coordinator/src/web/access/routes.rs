//! Which route needs what: the one place where it stands. The first rule that fits a request counts.

use axum::http::Method;
use protocol::api::Role;

/// What a request needs to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Need {
    /// Nothing here: there is nothing to hide, or the route looks for itself at what it is shown.
    Nothing,
    /// That its sender may look at builds.
    Reading,
    /// That its sender has this role, or one that may more.
    Role(Role),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// GET and HEAD.
    Reading,
    /// Everything else.
    Writing,
    Anything,
}

/// What is done, below which path, and what that needs.
type Rule = (Doing, &'static str, Need);

const RULES: [Rule; 21] = [
    // Deliveries of forges: each is signed.
    (Doing::Anything, "/hooks", Need::Nothing),
    // Archives of artifacts: agents show the token of a claim.
    (Doing::Anything, "/api/v1/depot", Need::Nothing),
    (Doing::Anything, "/sign-in", Need::Nothing),
    (Doing::Reading, "/healthz", Need::Nothing),
    (Doing::Reading, "/readyz", Need::Nothing),
    (Doing::Reading, "/api/v1/health", Need::Nothing),
    (Doing::Reading, "/badge", Need::Nothing),
    (Doing::Reading, "/assets", Need::Nothing),
    // What farm values are sealed to is no secret, and `buildr encrypt` runs anywhere.
    (Doing::Reading, "/api/v1/key", Need::Nothing),
    (Doing::Anything, "/sign-out", Need::Role(Role::Viewer)),
    (Doing::Anything, "/api/v1/tokens", Need::Role(Role::Admin)),
    (Doing::Anything, "/api/v1/audit", Need::Role(Role::Admin)),
    (Doing::Writing, "/api/v1/agents", Need::Role(Role::Admin)),
    (Doing::Writing, "/agents", Need::Role(Role::Admin)),
    // Values are never given, but names tell something too.
    (Doing::Anything, "/api/v1/secrets", Need::Role(Role::Maintainer)),
    (Doing::Writing, "/api/v1/projects", Need::Role(Role::Maintainer)),
    (Doing::Writing, "/projects", Need::Role(Role::Maintainer)),
    (Doing::Writing, "/api/v1/deliveries", Need::Role(Role::Maintainer)),
    (Doing::Writing, "/deliveries", Need::Role(Role::Maintainer)),
    // Tokens of forges are set there.
    (Doing::Writing, "/api/v1/statuses", Need::Role(Role::Maintainer)),
    (Doing::Writing, "", Need::Role(Role::Developer)),
];

/// What a request needs.
pub(in crate::web) fn need(method: &Method, path: &str) -> Need {
    let reads = reads(method);
    let fits = |(doing, below, _): &&Rule| {
        let same = match doing {
            Doing::Reading => reads,
            Doing::Writing => !reads,
            Doing::Anything => true,
        };
        same && lies_below(path, below)
    };
    // What is no path at all is asked for everything, when it does more than look.
    let usual = if reads { Need::Reading } else { Need::Role(Role::Admin) };
    RULES.iter().find(fits).map_or(usual, |(_, _, need)| *need)
}

/// Whether a request only looks.
pub(super) fn reads(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// By whole parts: `/agents` has `/agents/oak` below it, and not `/agents-of-old`.
fn lies_below(path: &str, below: &str) -> bool {
    path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_what() {
        use Need::{Nothing, Reading};
        let role = Need::Role;
        for (request, expect) in [
            ("GET /", Reading),
            ("GET /builds/7", Reading),
            ("HEAD /api/v1/builds", Reading),
            ("GET /api/v1/agents", Reading),
            ("GET /nothing/here", Reading),
            ("GET /healthz", Nothing),
            ("POST /healthz", role(Role::Developer)),
            ("POST /hooks/github", Nothing),
            ("POST /hooksmith", role(Role::Developer)),
            ("GET /badge/x.svg", Nothing),
            ("GET /assets/style.css", Nothing),
            ("PUT /api/v1/depot/0", Nothing),
            ("POST /sign-in", Nothing),
            ("POST /sign-out", role(Role::Viewer)),
            ("POST /api/v1/builds", role(Role::Developer)),
            ("POST /builds/7/cancel", role(Role::Developer)),
            ("POST /builds/7/restart", role(Role::Developer)),
            ("GET /projects/example.org/a/b", Reading),
            ("POST /projects/example.org/a/b/change", role(Role::Maintainer)),
            ("POST /deliveries/7/redeliver", role(Role::Maintainer)),
            ("DELETE /anything", role(Role::Developer)),
            ("OPTIONS /api/v1/builds", role(Role::Developer)),
            ("POST /api/v1/agents/oak/pause", role(Role::Admin)),
            ("POST /agents/oak/pause", role(Role::Admin)),
            ("GET /api/v1/tokens", role(Role::Admin)),
            ("POST /api/v1/tokens/ci/revoke", role(Role::Admin)),
            ("GET /api/v1/audit", role(Role::Admin)),
            ("GET /api/v1/secrets", role(Role::Maintainer)),
            ("POST /api/v1/secrets", role(Role::Maintainer)),
            ("POST /api/v1/projects", role(Role::Maintainer)),
            ("GET /api/v1/projects", Reading),
            ("POST /api/v1/statuses/forget", role(Role::Maintainer)),
            ("GET /api/v1/key", Nothing),
            ("OPTIONS *", role(Role::Admin)),
            // As axum, which finds no route for it.
            ("POST //api/v1/tokens", role(Role::Developer)),
        ] {
            let (method, path) = request.split_once(' ').unwrap();
            assert_eq!(need(&method.parse().unwrap(), path), expect, "{request}");
        }
    }
}
