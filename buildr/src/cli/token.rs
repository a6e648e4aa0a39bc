//! `buildr token`: API tokens with roles, for people and programs.

use std::time::Duration;

use protocol::api::{MakeToken, Role, TokenView};

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::table::{cell, table};
use super::time::{age, moment};
use super::{CliError, exit, note, say};
use crate::process::clock::now_ms;

/// Make, list and revoke API tokens, each with a role
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(CreateArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Make a token; it is printed this once
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// What to call it: who or what will use it. What is done with it is noted under this name
    name: String,
    /// What may be done with it: viewer (look), developer (begin, cancel, restart), maintainer (secrets, projects),
    /// admin (tokens, agents)
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Role,
    /// For how long it holds, such as 90d [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = super::limits::time)]
    expires: Option<Duration>,
}

/// List the tokens, with when each was used last
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

/// End a token at once, and sign out the browsers that used it
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Its name
    name: String,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    match &args.command {
        Command::Create(CreateArgs { name, role, expires }) => {
            let for_ms = expires.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let made = farm.make_token(&MakeToken { name: name.clone(), role: *role, for_ms }).await?;
            say(&format!("{}\n", clean(&made.token)))?;
            let until = made
                .view
                .expires_ms
                .map_or_else(|| "until it is revoked".to_owned(), |ms| format!("until {}", moment(ms)));
            note(&format!(
                "this is the token {name}, with the role {role}, {until}; it is not shown again. Use it as BUILDR_TOKEN, or sign in with it on the farm's page"
            ));
        }
        Command::List(args) => {
            let tokens = farm.tokens().await?;
            if args.json {
                say(&super::json(&tokens))?;
            } else if tokens.is_empty() {
                note(
                    "there is none but the start token, which lies in the coordinator's state folder; make one with `buildr token create NAME --role developer`",
                );
            } else {
                say(&shown(&tokens, now_ms(), &Look::of_stdout(globals.color())))?;
            }
        }
        Command::Revoke(RevokeArgs { name }) => {
            farm.revoke_token(name).await?;
            say(&format!("the token {} is revoked\n", clean(name)))?;
        }
    }
    Ok(exit::DONE)
}

fn shown(tokens: &[TokenView], now_ms: u64, look: &Look) -> String {
    let rows = tokens.iter().map(|token| {
        let plain = |text: &str| cell(Tone::Plain, text);
        let over = token.expires_ms.filter(|expires| *expires <= now_ms);
        let (tone, state) = match (token.revoked_ms, over, token.expires_ms) {
            (Some(_), _, _) => (Tone::Faint, "revoked".to_owned()),
            (None, Some(_), _) => (Tone::Odd, "expired".to_owned()),
            (None, None, Some(expires)) => (Tone::Plain, format!("{} left", age(expires - now_ms))),
            (None, None, None) => (Tone::Plain, "holds".to_owned()),
        };
        let used =
            token.used_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", age(now_ms.saturating_sub(ms))));
        let made = format!("{} ago", age(now_ms.saturating_sub(token.created_ms)));
        [
            plain(&token.name),
            plain(token.role.name()),
            plain(&format!("{}…", token.prefix)),
            plain(&used),
            plain(&made),
            plain(&token.made_by),
            cell(tone, &state),
        ]
    });
    table(["TOKEN", "ROLE", "BEGINS", "USED", "MADE", "BY", "STATE"], rows, look)
}

fn role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|error: protocol::api::UnknownRole| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each() {
        let ci = TokenView {
            name: "ci".to_owned(),
            role: Role::Developer,
            prefix: "buildr_abcd".to_owned(),
            made_by: "start token".to_owned(),
            created_ms: 1_000,
            expires_ms: None,
            used_ms: None,
            revoked_ms: None,
        };
        let day = 24 * 60 * 60 * 1000;
        let tokens = [
            ci.clone(),
            TokenView { name: "old".to_owned(), expires_ms: Some(3_000), used_ms: Some(2_000), ..ci.clone() },
            TokenView { name: "new".to_owned(), expires_ms: Some(4_000 + 90 * day), ..ci.clone() },
            TokenView { name: "gone".to_owned(), revoked_ms: Some(3_500), ..ci },
        ];
        let expect = "\
TOKEN  ROLE       BEGINS        USED    MADE    BY           STATE
ci     developer  buildr_abcd…  never   3s ago  start token  holds
old    developer  buildr_abcd…  2s ago  3s ago  start token  expired
new    developer  buildr_abcd…  never   3s ago  start token  90d left
gone   developer  buildr_abcd…  never   3s ago  start token  revoked
";
        assert_eq!(shown(&tokens, 4_000, &Look::plain(None)), expect);
        assert!(role("root").unwrap_err().contains("viewer, developer"));
    }
}
