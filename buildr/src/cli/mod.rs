//! The `buildr` command: what a person types, and what they see. One file per command, each with its arguments (whose
//! comments are the help text), what it does, and its tests. The only room that talks to a person.

pub mod limits;
pub mod secrets;
pub mod containers;
pub mod jobs;
pub mod layers;

mod credentials;
mod elsewhere;
mod error;
mod forward;
mod globals;
mod look;
mod occasion;
mod planning;
mod stamps;
mod table;
mod terminal;
mod time;
mod watch;

mod agent;
mod agents;
mod approve;
mod artifacts;
mod audit;
mod builds;
mod cancel;
mod clean;
mod deliveries;
mod expand;
mod graph;
mod doctor;
mod init;
mod import;
mod check;
mod explain;
mod secret;
mod encrypt;
mod incidents;
mod list;
mod logs;
mod papers;
mod pin;
mod project;
mod rabbit;
mod restart;
mod run;
mod schedules;
mod schema;
mod status;
mod statuses;
mod storage;
mod submit;
mod timeline;
mod token;
mod why;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use protocol::BuildNumber;

use error::CliError;
use globals::Globals;

use crate::git;
use crate::process::telemetry;

/// The exit codes that are no build's outcome.
mod exit {
    /// What was asked for was done.
    pub(super) const DONE: u8 = 0;
    /// The command line is wrong.
    pub(super) const USAGE: u8 = 2;
    /// The farm, the network or this machine could not do its part.
    pub(super) const OTHER: u8 = 3;
    /// Ended by a signal.
    pub(super) const CANCELLED: u8 = 130;
}

/// Parses the command line, does what it says, and gives the exit code: 0 passed, 1 failed, 2 usage or manifest,
/// 3 other errors, 130 cancelled.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(&arguments.into_iter().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(end) => {
            // Nobody reads it: there is nobody to tell.
            end.print().ok();
            return if end.use_stderr() { exit::USAGE.into() } else { exit::DONE.into() };
        }
    };
    let color = cli.globals.color();
    match dispatch(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            error.show(&mut io::stderr(), color.is_on(&io::stderr())).ok();
            error.exit_code().into()
        }
    }
}

/// A build farm on Docker and a message queue: the same build on a laptop and on the farm
#[derive(Debug, Parser)]
#[command(
    name = "buildr",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  buildr run                  build the folder at hand, in containers, as the farm would
  buildr submit . --watch     build what is committed here on the farm, and follow it
  buildr logs 12 -f           follow the output of build 12

`buildr COMMAND --help` says more. A COMMAND that is not listed runs the program buildr-COMMAND.";

/// Each command's file has an `Args` and a `run`; here is a line for each, and one in [`GROUPS`].
#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Init(init::Args),
    Import(import::Args),
    Clean(clean::Args),
    List(list::Args),
    Graph(graph::Args),
    Expand(expand::Args),
    Doctor(doctor::Args),
    Check(check::Args),
    Explain(explain::Args),
    Schema(schema::Args),
    Submit(submit::Args),
    Builds(builds::Args),
    Status(status::Args),
    Logs(logs::Args),
    Artifacts(artifacts::Args),
    Approve(approve::Args),
    Cancel(cancel::Args),
    Restart(restart::Args),
    Repro(Box<run::repro::Args>),
    Schedules(schedules::Args),
    Pin(pin::Args),
    Storage(storage::Args),
    Statuses(statuses::Args),
    Agents(agents::Args),
    Why(why::Args),
    Timeline(timeline::Args),
    Incidents(incidents::Args),
    Token(token::Args),
    Secret(secret::Args),
    Encrypt(encrypt::Args),
    Audit(audit::Args),
    Project(project::Args),
    Deliveries(deliveries::Args),
    Completions(papers::CompletionArgs),
    Man(papers::ManArgs),
    Rabbit(rabbit::Args),
    #[command(flatten)]
    OfAgent(agent::Command),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// The commands in the order in which `--help` lists them. Those of other programs are in [`forward::PROGRAMS`].
const GROUPS: [(&str, &[&str]); 5] = [
    (
        "Build here",
        &["run", "check", "list", "graph", "expand", "explain", "schema", "init", "import", "doctor", "clean"],
    ),
    (
        "Ask a farm",
        &[
            "submit",
            "builds",
            "status",
            "why",
            "timeline",
            "logs",
            "artifacts",
            "approve",
            "cancel",
            "restart",
            "repro",
        ],
    ),
    (
        "Look after a farm",
        &[
            "project",
            "deliveries",
            "statuses",
            "schedules",
            "secret",
            "encrypt",
            "token",
            "audit",
            "storage",
            "pin",
            "incidents",
            "agents",
        ],
    ),
    ("Run a farm", &["up", "coordinator", "agent", "rabbit"]),
    ("Set up this program", &["completions", "man"]),
];

fn dispatch(cli: Cli) -> Result<u8, CliError> {
    let Cli { globals, command } = cli;
    if let Command::Other(words) = &command {
        return forward::run(words, &globals);
    }
    telemetry::init("warn", globals.color())?;
    if matches!(command, Command::Run(_) | Command::Repro(_)) {
        // While there is one thread.
        git::begin_without_authorities();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    let code = runtime.block_on(async {
        match command {
            Command::Clean(args) => clean::run(&args, &globals).await,
            Command::Run(args) => run::run(*args, &globals).await,
            Command::Init(args) => init::run(&args),
            Command::Import(args) => import::run(&args),
            Command::List(args) => list::run(&args, &globals).await,
            Command::Graph(args) => graph::run(&args, &globals).await,
            Command::Expand(args) => expand::run(&args).await,
            Command::Doctor(args) => doctor::run(&args, &globals).await,
            Command::Check(args) => check::run(&args, &globals),
            Command::Explain(args) => explain::run(&args, &globals),
            Command::Schema(args) => schema::run(&args),
            Command::Submit(args) => submit::run(args, &globals).await,
            Command::Builds(args) => builds::run(&args, &globals).await,
            Command::Status(args) => status::run(&args, &globals).await,
            Command::Logs(args) => logs::run(args, &globals).await,
            Command::Artifacts(args) => artifacts::run(&args, &globals).await,
            Command::Approve(args) => approve::run(args, &globals).await,
            Command::Cancel(args) => cancel::run(args, &globals).await,
            Command::Repro(args) => run::repro::run(*args, &globals).await,
            Command::Restart(args) => restart::run(&args, &globals).await,
            Command::Pin(args) => pin::run(&args, &globals).await,
            Command::Statuses(args) => statuses::run(args, &globals).await,
            Command::Storage(args) => storage::run(&args, &globals).await,
            Command::Schedules(args) => schedules::run(args, &globals).await,
            Command::Agents(args) => agents::run(&args, &globals).await,
            Command::Rabbit(args) => rabbit::run(args),
            Command::Completions(args) => papers::completions(&args),
            Command::Man(args) => papers::man(&args),
            Command::Why(args) => why::run(&args, &globals).await,
            Command::Timeline(args) => timeline::run(&args, &globals).await,
            Command::Incidents(args) => incidents::run(&args, &globals).await,
            Command::Token(args) => token::run(&args, &globals).await,
            Command::Secret(args) => secret::run(args, &globals).await,
            Command::Encrypt(args) => encrypt::run(&args, &globals).await,
            Command::Audit(args) => audit::run(&args, &globals).await,
            Command::Project(args) => project::run(args, &globals).await,
            Command::Deliveries(args) => deliveries::run(&args, &globals).await,
            Command::OfAgent(command) => agent::run(command, &globals).await,
            Command::Other(words) => forward::run(&words, &globals),
        }
    });
    // What still runs is a blocked read or look-up that nobody waits for any more.
    runtime.shutdown_background();
    code
}

/// What was typed. `help COMMAND` and `agent approve` and its like are told from other programs' names here: `buildr agent` is
/// `buildr-agent`, and what follows such a name is that program's own.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = match command().try_get_matches_from(arguments) {
        // Clap counts what the environment says as something that was typed, and without it shows the help.
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            command().mut_args(|arg| arg.env(Resettable::Reset)).try_get_matches_from(arguments)?
        }
        matches => matches?,
    };
    let cli = Cli::from_arg_matches(&matches)?;
    let Command::Other(words) = &cli.command else { return Ok(cli) };
    let before = &arguments[..arguments.len() - words.len()];
    let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
    let own: String;
    let instead = match words.as_slice() {
        [help, rest @ ..] if *help == "help" => [rest, &["--help".as_ref()]].concat(),
        [agent, word, rest @ ..] if *agent == "agent" && of_agent(word).is_some() => {
            own = format!("{AGENT_PREFIX}{}", word.to_string_lossy());
            [&[own.as_ref()], rest].concat()
        }
        [name, ..] if !forward::is_known(name) => {
            let alone = forward::closed(command());
            return Err(alone.try_get_matches_from(arguments).err().unwrap_or_else(|| unknown(name)));
        }
        _ => return Ok(cli),
    };
    let again: Vec<OsString> = before.iter().cloned().chain(instead.into_iter().map(OsStr::to_owned)).collect();
    parse(&again)
}

/// What the commands behind `buildr agent` are called towards clap, before their word.
const AGENT_PREFIX: &str = "agent-";

/// A word behind `buildr agent` that is this program's own.
fn of_agent(word: &OsStr) -> Option<&'static str> {
    agent::WORDS.into_iter().find(|own| *own == word)
}

fn unknown(name: &OsStr) -> clap::Error {
    command().error(ErrorKind::InvalidSubcommand, format!("unrecognized subcommand {name:?}"))
}

/// The command line as clap knows it, with the commands in groups.
fn command() -> clap::Command {
    let mut command = Cli::command();
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    let mut groups = String::new();
    for (title, names) in GROUPS {
        groups += &format!("{title}:\n");
        for name in names {
            let own = command.find_subcommand(name).and_then(clap::Command::get_about).map(ToString::to_string);
            let about = own.or_else(|| forward::about(name)).unwrap_or_default();
            groups += &format!("  {:width$}  {about}\n", name.replace('-', " "));
        }
        if names.contains(&"agents") {
            groups += &format!(
                "  {:width$}  {}\n",
                "agent WORD",
                format_args!("Look after one: {}", agent::WORDS.join(", "))
            );
        }
        groups.push('\n');
    }
    // Now each command has the options of all, and those that ask no farm need not list where one is.
    command.build();
    for name in GROUPS[0].1 {
        command = command.mut_subcommand(name, |own| {
            own.mut_args(|arg| if OF_A_FARM.contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg })
        });
    }
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}"
    ))
}

/// The options that say which farm is meant.
const OF_A_FARM: [&str; 2] = ["server", "token"];

/// Reads a build's number as people write it: `12` or `#12`.
fn build_number(text: &str) -> Result<BuildNumber, String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    digits.parse().map(BuildNumber).map_err(|_| "a build's number is written like 12".to_owned())
}

/// Reads a value with its name, as `NAME=VALUE`.
fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it like NAME=VALUE".to_owned()),
    }
}

/// JSON as people and programs read it.
fn json(value: &impl serde::Serialize) -> String {
    // Never fails: the API's types hold no maps with keys that are not texts.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

/// Says something beside the output, on stderr. Where nobody listens, nothing is lost.
fn note(text: &str) {
    writeln!(io::stderr(), "{}", look::clean(text)).ok();
}

/// Says something on stdout, whole.
fn say(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_listed_once() {
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut there: Vec<String> = Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        // Those of one agent stand in one line.
        let of_agent: Vec<String> = there.extract_if(.., |name| name.starts_with(AGENT_PREFIX)).collect();
        let words: Vec<&str> = of_agent.iter().filter_map(|name| name.strip_prefix(AGENT_PREFIX)).collect();
        assert_eq!(words, agent::WORDS);
        there.extend(forward::PROGRAMS.iter().map(|program| program.name.to_owned()));
        listed.sort_unstable();
        there.sort_unstable();
        assert_eq!(listed, there);
        assert!(command().get_subcommands().all(|sub| sub.get_about().is_some()));
    }

    #[test]
    fn help_fits_a_tall_window() {
        let help = parse(&words("buildr --help")).unwrap_err().to_string();
        assert!(help.lines().count() <= 70 && help.lines().all(|line| line.chars().count() <= 100), "{help}");
        for text in ["Ask a farm:", "  agent WORD  ", "approve, pause", "  up  ", "Examples:", "--server <URL>"] {
            assert!(help.contains(text), "{text} is not in\n{help}");
        }
        assert_eq!(parse(&words("buildr help")).unwrap_err().to_string(), help);
        let shown = |line: &str| parse(&words(line)).unwrap_err().to_string();
        for line in ["buildr run --help", "buildr clean --help"] {
            let help = shown(line);
            assert!(!help.contains("--server") && !help.contains("--token") && help.contains("--color"), "{help}");
        }
        assert!(shown("buildr status --help").contains("--server"));
    }

    #[test]
    fn words_reach_whom_they_are_for() {
        let check = |line: &str, expect: &str| {
            let got = match parse(&words(line)) {
                Ok(Cli { command: Command::Other(words), .. }) => format!("other {words:?}"),
                Ok(Cli { command, globals }) => format!("{} {command:?}", globals.command("x")),
                Err(error) => error.to_string(),
            };
            assert!(got.contains(expect), "{line}: {got}");
        };
        check("buildr agent --slots 4 --server x", r#"other ["agent", "--slots", "4", "--server", "x"]"#);
        check(
            "buildr agent approve a1 --server http://x:1",
            "buildr x --server http://x:1 OfAgent(Approve(Args { name: AgentId(\"a1\")",
        );
        check(
            "buildr --server http://x:1 agent approve a1",
            "buildr x --server http://x:1 OfAgent(Approve(Args { name: AgentId(\"a1\")",
        );
        check("buildr agent approve", "Usage: buildr agent approve [OPTIONS] <NAME>");
        check("buildr agent drain a1 --note x", "OfAgent(Drain(DrainArgs { name: AgentId(\"a1\"), note: \"x\"");
        check("buildr agent approve a1 --key short", "give 8 characters of it or more");
        check("buildr agent --labels approve", r#"other ["agent", "--labels", "approve"]"#);
        check("buildr help agent pause", "Usage: buildr agent pause [OPTIONS] <NAME>");
        check("buildr up --slots 1", r#"other ["up", "--slots", "1"]"#);
        check("buildr help up", r#"other ["up", "--help"]"#);
        check("buildr help status", "Usage: buildr status [OPTIONS] <BUILD>");
        check("buildr help agent approve", "Usage: buildr agent approve [OPTIONS] <NAME>");
        check(
            "buildr status #12 --server http://x:1",
            "buildr x --server http://x:1 Status(Args { build: BuildNumber(12)",
        );
        check("buildr status twelve", "a build's number is written like 12");
        check("buildr --server x:1 builds", "write it like http://");
        check("buildr biulds", "a similar subcommand exists: 'builds'");
        check("buildr agnet", "similar subcommand");
    }
}
