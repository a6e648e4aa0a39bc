//! What every command takes: which farm, with which token, and whether in colour.

use std::ffi::OsStr;

use protocol::api::DEFAULT_SERVER;
use url::Url;

use super::CliError;
use crate::client::{Farm, is_loopback};
use crate::process::color::Color;
use crate::process::folders;

/// Options of every command, listed after its own.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Globals {
    /// The farm's address
    #[arg(long, global = true, display_order = 901, env = SERVER, value_name = "URL", default_value = DEFAULT_SERVER, value_parser = server, hide_env_values = true)]
    server: Url,
    /// The farm's token, to begin and end builds; on its own machine, who started the farm needs none
    #[arg(long, global = true, display_order = 902, env = "BUILDR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Colours: auto, always or never; auto heeds NO_COLOR
    #[arg(
        long,
        global = true,
        display_order = 903,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    color: clap::ColorChoice,
}

impl Globals {
    /// The farm that is meant.
    pub(super) fn farm(&self) -> Result<Farm, CliError> {
        self.farm_at(None)
    }

    /// The farm at this address, or else the one that is meant anyway. No other than that gets the token.
    pub(super) fn farm_at(&self, server: Option<&Url>) -> Result<Farm, CliError> {
        let other = server.filter(|server| server.origin() != self.server.origin());
        if let Some(other) = other {
            let token = other.port_or_known_default().filter(|_| is_loopback(other)).map(folders::read_token);
            return Ok(Farm::new(other.clone(), token.transpose()?.flatten())?.asked_by(&who()));
        }
        let given = self.token.as_deref().map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        let token = match (given, self.server.port_or_known_default()) {
            (None, Some(port)) if is_loopback(&self.server) => folders::read_token(port)?,
            (given, _) => given,
        };
        Ok(Farm::new(self.server.clone(), token)?.asked_by(&who()))
    }

    /// The farm's address, when it is another than the usual one.
    pub(super) fn named_server(&self) -> Option<&str> {
        let server = self.server.as_str().trim_end_matches('/');
        (server != DEFAULT_SERVER).then_some(server)
    }

    pub(super) fn color(&self) -> Color {
        match self.color {
            clap::ColorChoice::Auto => Color::Auto,
            clap::ColorChoice::Always => Color::Always,
            clap::ColorChoice::Never => Color::Never,
        }
    }

    /// The farm's address, unless it is meant where nothing is said. The usual one is said where the environment has
    /// another.
    fn said_server(&self) -> Option<&str> {
        let own = self.server.as_str().trim_end_matches('/');
        let here = std::env::var_os(SERVER);
        said(own, here.as_deref().and_then(OsStr::to_str)).then_some(own)
    }

    /// A command for the same farm, as a person would type it.
    pub(super) fn command(&self, words: &str) -> String {
        match self.said_server() {
            None => format!("buildr {words}"),
            Some(server) => format!("buildr {words} --server {server}"),
        }
    }

    /// What was said before another program's name, as the environment by which it is told.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = Vec::new();
        environment.extend(self.said_server().map(|server| (SERVER, server.to_owned())));
        environment.extend(self.token.clone().map(|token| ("BUILDR_TOKEN", token)));
        match self.color() {
            Color::Auto => {}
            // An empty NO_COLOR says nothing, and one that is there would win.
            Color::Always => {
                environment.extend([("CLICOLOR_FORCE", "1".to_owned()), ("NO_COLOR", String::new())]);
            }
            Color::Never => environment.push(("NO_COLOR", "1".to_owned())),
        }
        environment
    }
}

/// The variable that names a farm.
const SERVER: &str = "BUILDR_SERVER";

/// Whether a farm has to be named, where the environment names this one.
fn said(own: &str, environment: Option<&str>) -> bool {
    let named = environment.filter(|named| !named.is_empty()).map(|named| named.trim_end_matches('/'));
    own != DEFAULT_SERVER || named.is_some_and(|named| named != DEFAULT_SERVER)
}

/// Who types this, for those who look at what was asked for: `ada@laptop`.
fn who() -> String {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    format!("{user}@{}", gethostname::gethostname().to_string_lossy())
}

fn server(text: &str) -> Result<Url, String> {
    let like = "write it like http://127.0.0.1:8700";
    // An empty variable, as compose files leave it, says nothing.
    let text = if text.is_empty() { DEFAULT_SERVER } else { text };
    let url = Url::parse(text).map_err(|error| format!("{error}; {like}"))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(format!("a farm is reached by http; {like}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_is_told_by_its_environment() {
        let globals = |server: &str, token: Option<&str>, color| Globals {
            server: server.parse().unwrap(),
            token: token.map(str::to_owned),
            color,
        };
        let plain = globals(DEFAULT_SERVER, None, clap::ColorChoice::Auto);
        assert!(plain.environment().is_empty());
        assert_eq!(plain.command("cancel 1"), "buildr cancel 1");
        let told = globals("https://farm.example.org/", Some("t"), clap::ColorChoice::Never);
        let expect = [("BUILDR_SERVER", "https://farm.example.org"), ("BUILDR_TOKEN", "t"), ("NO_COLOR", "1")];
        assert_eq!(told.environment(), expect.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(told.command("cancel 1"), "buildr cancel 1 --server https://farm.example.org");
        let colored = globals(DEFAULT_SERVER, None, clap::ColorChoice::Always);
        let expect = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")];
        assert_eq!(colored.environment(), expect.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn the_usual_farm_is_named_where_the_environment_names_another() {
        assert!(!said(DEFAULT_SERVER, None) && !said(DEFAULT_SERVER, Some("")));
        assert!(!said(DEFAULT_SERVER, Some(&format!("{DEFAULT_SERVER}/"))));
        assert!(said(DEFAULT_SERVER, Some("https://prod")));
        assert!(said("https://prod", Some("https://prod")) && said("https://prod", None));
    }
}
