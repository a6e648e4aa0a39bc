//! Settings of the long-running programs: flag > environment > file > default, all from one definition.
//!
//! The clap definition is the only list of settings. Each flag `--some-thing` is also the variable
//! `PREFIX_SOME_THING` and the key `some_thing` of the program's TOML file; a key that is no flag is an error.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Command, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use crate::process::ProcessError;
use crate::process::settings::settings;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// A flag or a variable is wrong, or help was asked for. Its own text says which.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] ProcessError),
    /// A file has a key that is no setting.
    #[error("{file}: there is no setting {key:?}; those that exist are {known}")]
    UnknownKey {
        /// Which file.
        file: String,
        /// Which key.
        key: String,
        /// All keys.
        known: String,
    },
    /// A value in a file is of a kind that no setting has.
    #[error("{file}: the value of {key:?} is neither a text, a number, true or false, nor a list of texts")]
    Value {
        /// Which file.
        file: String,
        /// Which key.
        key: String,
    },
}

/// Reads the settings of a program: `name` names its file (`agent` → `agent.toml`), `prefix` its variables.
///
/// # Errors
/// When one of the layers is wrong.
pub fn read<T: CommandFactory + FromArgMatches>(
    name: &str,
    prefix: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<T, LayersError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = with_environment(T::command(), prefix);
    let explicit = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(&arguments)
        .ok()
        .and_then(|matches| matches.try_get_one::<PathBuf>("config").ok().flatten().cloned());
    let file: Table = settings(name, explicit.as_deref())?;
    let shown = explicit.map_or_else(|| format!("{name}.toml"), |path| path.display().to_string());
    let command = with_file(command, &shown, &file)?;
    Ok(T::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
}

/// Every flag can be given as a variable, those of subcommands too.
fn with_environment(command: Command, prefix: &str) -> Command {
    let command = command.mut_args(|arg| {
        if arg.get_long().is_none() || matches!(arg.get_id().as_str(), "help" | "version") {
            return arg;
        }
        let variable = format!("{prefix}_{}", arg.get_id().as_str().to_uppercase());
        arg.env(variable).hide_env(true)
    });
    command.mut_subcommands(|subcommand| with_environment(subcommand, prefix))
}

/// The names of all settings, as keys of a file.
fn keys(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter(|arg| arg.get_long().is_some()).map(|arg| arg.get_id().to_string());
    own.chain(command.get_subcommands().flat_map(keys)).filter(|key| key != "config").collect()
}

fn with_file(mut command: Command, file: &str, table: &Table) -> Result<Command, LayersError> {
    let known = keys(&command);
    for (key, value) in table {
        if !known.contains(key) {
            let known = known.join(", ");
            return Err(LayersError::UnknownKey { file: file.to_owned(), key: key.clone(), known });
        }
        let values = texts(value).ok_or_else(|| LayersError::Value { file: file.to_owned(), key: key.clone() })?;
        command = with_default(command, key, &values);
    }
    Ok(command)
}

/// A default from the file, for the flag wherever it is. Help does not show it: it may be a password.
fn with_default(command: Command, key: &str, values: &[String]) -> Command {
    let command = command.mut_args(|arg| {
        if arg.get_id() != key {
            return arg;
        }
        // A switch shows none, and clap will not have it hidden.
        let hidden = arg.get_action().takes_values();
        let arg = match arg.get_action() {
            ArgAction::Append => arg.default_values(values.to_owned()),
            _ => arg.default_value(values.first().cloned().unwrap_or_default()),
        };
        arg.hide_default_value(hidden)
    });
    command.mut_subcommands(|subcommand| with_default(subcommand, key, values))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(|value| texts(value)?.pop()).collect(),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(choice) => Some(vec![choice.to_string()]),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser, PartialEq)]
    struct Sample {
        /// A file of settings
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long, default_value_t = 1)]
        slots: u32,
        #[arg(long)]
        open: bool,
        #[arg(long, value_delimiter = ',')]
        labels: Vec<String>,
    }

    fn parse(file: &str, flags: &[&str]) -> Result<Sample, LayersError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, file).unwrap();
        let arguments = ["x", "--config", path.to_str().unwrap()].into_iter().chain(flags.iter().copied());
        let mut sample = read::<Sample>("x", "BUILDR_NOWHERE", arguments.map(OsString::from))?;
        sample.config = None;
        Ok(sample)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let sample = |slots, open, labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            Sample { config: None, slots, open, labels }
        };
        assert_eq!(parse("", &[]).unwrap(), sample(1, false, &[]));
        assert_eq!(parse("slots = 3\nopen = true\nlabels = ['a', 'b']", &[]).unwrap(), sample(3, true, &["a", "b"]));
        assert_eq!(
            parse("slots = 3\nlabels = ['a']", &["--slots", "4", "--labels", "c"]).unwrap(),
            sample(4, false, &["c"])
        );
    }

    #[test]
    fn help_does_not_show_what_the_file_says() {
        let help =
            parse("slots = 4711\nopen = true\nlabels = ['s3cret', 'hidden']", &["--help"]).unwrap_err().to_string();
        assert!(help.contains("--labels"), "{help}");
        for value in ["4711", "s3cret", "hidden"] {
            assert!(!help.contains(value), "{help}");
        }
    }

    #[test]
    fn a_wrong_file_is_an_error() {
        let unknown = parse("slot = 3", &[]).unwrap_err().to_string();
        assert!(
            unknown.contains("there is no setting \"slot\"; those that exist are slots, open, labels"),
            "{unknown}"
        );
        let kind = parse("[slots]\nx = 1", &[]).unwrap_err().to_string();
        assert!(kind.contains("\"slots\" is neither"), "{kind}");
        assert!(matches!(parse("slots = 'many'", &[]).unwrap_err(), LayersError::Flags(_)));
    }
}
