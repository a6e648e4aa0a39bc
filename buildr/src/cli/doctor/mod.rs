//! `buildr doctor`: looks whether this machine can build, and says of each thing that is not well what to do.

mod docker;
mod farm;
mod machine;

use serde::Serialize;

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::{CliError, exit, say};

/// Look whether this machine can build, and say what to do where it cannot
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It changes nothing. To see whether Docker sees this machine's folders, it makes a container and removes it unstarted.
The exit code is 0 when builds can run, and 3 when something stands against it.")]
pub(super) struct Args {
    /// Look at a RabbitMQ too: amqp://USER:PASSWORD@HOST:5672/VHOST
    #[arg(long, value_name = "URI", env = "BUILDR_DOCTOR_AMQP", hide_env_values = true)]
    amqp: Option<String>,
    /// A file with certificates to trust when looking at RabbitMQ
    #[arg(long, value_name = "FILE", requires = "amqp")]
    amqp_ca: Option<std::path::PathBuf>,
    /// The folder for workspaces, where it is not the usual one
    #[arg(long, value_name = "DIR")]
    work_dir: Option<std::path::PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How well one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Builds run, some of them not as their author may think.
    Warn,
    /// Builds do not run.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What it is.
    name: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What to do; none where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), advice: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let mut findings = vec![Finding::ok("buildr", format!("version {}", env!("CARGO_PKG_VERSION")))];
    let work = machine::work_folder(args.work_dir.as_deref());
    findings.extend(docker::look(&work).await);
    findings.extend(machine::look(&work));
    findings.extend(farm::look(globals, args.amqp.as_deref(), args.amqp_ca.as_deref()).await);
    let worst = findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok);
    if args.json {
        say(&super::json(&findings))?;
    } else {
        say(&shown(&findings, &Look::of_stdout(globals.color())))?;
    }
    Ok(if worst == State::Fail { exit::OTHER } else { exit::DONE })
}

/// A line for each, and below it what to do.
fn shown(findings: &[Finding], look: &Look) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { name, state, found, advice } in findings {
        let (word, tone) = match state {
            State::Ok => ("ok  ", Tone::Good),
            State::Warn => ("warn", Tone::Odd),
            State::Fail => ("fail", Tone::Bad),
        };
        text += &format!("{}  {name:width$}  {}\n", look.paint(tone, word), clean(found));
        if let Some(advice) = advice {
            text += &format!("{:indent$}{}\n", "", clean(advice), indent = width + 8);
        }
    }
    let count = |state: State| findings.iter().filter(|finding| finding.state == state).count();
    let end = match (count(State::Fail), count(State::Warn)) {
        (0, 0) => "all is well".to_owned(),
        (0, warns) => format!("builds can run; {warns} to look at"),
        (fails, _) => format!("{fails} in the way of builds"),
    };
    text + &end + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_and_what_to_do() {
        let findings = [
            Finding::ok("docker", "version 28 at unix:///x"),
            Finding::warn("ssh", "no agent\u{1b}[2J", "start one"),
            Finding::fail("disk", "full", "make room"),
        ];
        let expect = "\
ok    docker  version 28 at unix:///x
warn  ssh     no agent [2J
              start one
fail  disk    full
              make room
1 in the way of builds
";
        assert_eq!(shown(&findings, &Look::plain(None)), expect);
        assert!(shown(&findings[..2], &Look::plain(None)).ends_with("builds can run; 1 to look at\n"));
        assert!(shown(&findings[..1], &Look::plain(None)).ends_with("all is well\n"));
        let json = super::super::json(&findings);
        assert!(json.contains("\"state\": \"warn\"") && !json.contains("null"), "{json}");
    }
}
