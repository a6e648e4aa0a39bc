//! Who sends a request: a stranger, a program with a token, or a person whose browser signed in.

use protocol::api::Role;

use axum::http::StatusCode;

use crate::web::refusal::Refusal;

/// What the list of who did what calls the token of the state folder. No token can be called so.
pub(in crate::web) const START_TOKEN: &str = "start token";

/// Who sends a request. Each request carries one as an extension.
#[derive(Debug, Clone, Default)]
pub(in crate::web) struct Visitor {
    name: Option<String>,
    role: Option<Role>,
    csrf: Option<String>,
    session: Option<String>,
}

impl Visitor {
    /// Nobody knows who.
    pub(super) fn stranger() -> Self {
        Self::default()
    }

    /// Whoever has the token of the state folder.
    pub(super) fn owner() -> Self {
        Self { role: Some(Role::Admin), ..Self::default() }
    }

    /// Whoever has the token of this name.
    pub(super) fn named(name: String, role: Role) -> Self {
        Self { name: Some(name), role: Some(role), ..Self::default() }
    }

    /// The same, in a browser that signed in: with the session's hash, and what its forms must carry.
    pub(super) fn signed_in(self, session: String, csrf: String) -> Self {
        Self { session: Some(session), csrf: Some(csrf), ..self }
    }

    /// The name of the token; none for the start token and for strangers.
    pub(in crate::web) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What the visitor may do; a stranger may at most look.
    pub(in crate::web) fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether the visitor has this role, or one that may more.
    pub(in crate::web) fn may(&self, role: Role) -> bool {
        self.role.is_some_and(|own| own >= role)
    }

    /// What the forms of a page must carry in the field `csrf`; none where no browser signed in.
    pub(in crate::web) fn csrf(&self) -> Option<&str> {
        self.csrf.as_deref()
    }

    /// The session's hash, of a browser that signed in.
    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// By which name the visitor stands in the list of who did what.
    pub(in crate::web) fn who(&self) -> &str {
        self.name.as_deref().unwrap_or(START_TOKEN)
    }

    /// For what only some visitors of a route may do.
    ///
    /// # Errors
    /// When this one may not.
    pub(in crate::web) fn need(&self, role: Role) -> Result<(), Refusal> {
        match self.role {
            Some(own) if own >= role => Ok(()),
            Some(own) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                format!(
                    "this needs a token of the role {role}, and {} has the role {own}; ask an admin of the farm for one: `buildr token create NAME --role {role}`",
                    self.who()
                ),
            )),
            None => Err(unknown()),
        }
    }
}

/// Who shows no token that is known here.
pub(super) fn unknown() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "this needs a token of the farm: `Authorization: Bearer TOKEN`. On the coordinator's machine `buildr` finds one by itself; elsewhere set BUILDR_TOKEN to one that an admin made with `buildr token create`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_what_the_ones_before_it_may() {
        let developer = Visitor::named("ci".to_owned(), Role::Developer);
        assert!(developer.may(Role::Viewer) && developer.may(Role::Developer) && !developer.may(Role::Maintainer));
        let refusal = developer.need(Role::Admin).unwrap_err();
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        assert!(refusal.sentence.contains("the role admin, and ci has the role developer"), "{}", refusal.sentence);
        assert!(Visitor::owner().need(Role::Admin).is_ok());
        assert_eq!(Visitor::owner().who(), START_TOKEN);
        assert_eq!(Visitor::stranger().need(Role::Viewer).unwrap_err().status, StatusCode::UNAUTHORIZED);
        assert!(!Visitor::stranger().may(Role::Viewer));
    }
}
