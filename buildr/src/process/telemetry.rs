//! What a program says about itself: compact lines on stderr, filtered by BUILDR_LOG, else RUST_LOG. A build's
//! output is never said here: that is data.

use std::fmt::Display;
use std::io::{self, Write as _};

use tracing_subscriber::EnvFilter;

use super::ProcessError;
use super::color::Color;

/// Begins to write log messages to stderr. Only the first call in a process has an effect.
///
/// `default_filter` holds where the environment says nothing, such as `info` or `warn,buildr_agent=info`.
///
/// # Errors
/// When the environment's filter cannot be read.
pub fn init(default_filter: &str, color: Color) -> Result<(), ProcessError> {
    let filter = filter(default_filter, |name| std::env::var_os(name)?.into_string().ok())?;
    let ansi = color.is_on(&io::stderr());
    // It fails when a subscriber is there already: the first one stays.
    let subscriber =
        tracing_subscriber::fmt().compact().with_writer(io::stderr).with_ansi(ansi).with_env_filter(filter);
    // Where nobody reads stderr any more, that a line could not be written cannot be said there either: it would panic.
    subscriber.log_internal_errors(false).try_init().ok();
    Ok(())
}

/// Says a sentence to who started the program. Where nobody reads it, the program goes on all the same.
pub fn say(sentence: &impl Display) {
    writeln!(io::stderr(), "{sentence}").ok();
}

fn filter(default: &str, variable: impl Fn(&'static str) -> Option<String>) -> Result<EnvFilter, ProcessError> {
    let named = ["BUILDR_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let text = variable(name).filter(|text| !text.trim().is_empty())?;
        Some((name, text))
    });
    let Some((variable, text)) = named else { return Ok(EnvFilter::new(quiet(default))) };
    EnvFilter::try_new(quiet(&text)).map_err(|error| ProcessError::Filter { variable, text, reason: error.to_string() })
}

/// The AMQP client logs whole messages that were returned to it, and a claim's token is no text for a log. Who wants
/// them all the same names it.
fn quiet(filter: &str) -> String {
    const CLIENT: &str = "lapin";
    if filter.contains(CLIENT) { filter.to_owned() } else { format!("{filter},{CLIENT}=off") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_and_buildrs_own_variable_first() {
        let check = |buildr: Option<&str>, rust: Option<&str>, expect: Result<&str, &str>| {
            let environment = |name: &'static str| match name {
                "BUILDR_LOG" => buildr.map(str::to_owned),
                _ => rust.map(str::to_owned),
            };
            match (filter("warn", environment), expect) {
                (Ok(filter), Ok(expect)) => {
                    let shown = filter.to_string();
                    assert!(shown.contains(expect) && shown.contains("lapin="), "{shown}");
                }
                (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
                (got, expect) => panic!("{got:?} instead of {expect:?}"),
            }
        };
        check(None, None, Ok("warn"));
        check(None, Some("debug"), Ok("debug"));
        check(Some("info"), Some("debug"), Ok("info"));
        check(Some(""), Some("debug"), Ok("debug"));
        check(Some("buildr=loud"), None, Err("BUILDR_LOG=\"buildr=loud\" is no filter"));
    }
}
