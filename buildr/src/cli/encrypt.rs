//! `buildr encrypt`: a value sealed for one project of a farm, to stand in its manifest.

use std::path::PathBuf;

use protocol::RepoUrl;

use super::globals::Globals;
use super::{CliError, exit, note, say};
use crate::runner::SHORTEST_SECRET;

/// Seal a value for a manifest, so that only the farm opens it, and only for one project
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The value is read from --from-file or from standard input, less a line's end at its end; at a terminal it is asked for.
It never leaves this machine: the farm's public key is fetched, and the value sealed here.")]
pub(super) struct Args {
    /// The variable in which it arrives
    #[arg(default_value = "TOKEN", value_parser = variable)]
    name: String,
    /// The repository whose builds may have it
    #[arg(long, value_name = "URL")]
    project: RepoUrl,
    /// A file with the value
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let Args { name, project, from_file } = args;
    let key = globals.farm()?.sealing_key().await?;
    let value = super::secret::value(from_file.as_deref(), name)?;
    let usage = |what: String| CliError::Usage { what, instead: None };
    if value.len() < SHORTEST_SECRET || value.contains('\0') {
        let length = value.len();
        return Err(usage(format!(
            "the value has {length} characters, too few to be masked in logs, or holds a NUL; a secret has {SHORTEST_SECRET} or more"
        )));
    }
    let sealed = key.seal(&project.identity(), &value).map_err(|error| usage(error.to_string()))?;
    note(&format!("put this into .buildr.yml of {}; it opens for no other project:", project.identity()));
    say(&shown(name, &sealed.to_string()))?;
    Ok(exit::DONE)
}

fn shown(name: &str, sealed: &str) -> String {
    format!("secrets:\n  {name}:\n    secure: {sealed}\n")
}

fn variable(text: &str) -> Result<String, String> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let own = text == "CI" || text.starts_with("BUILDR_");
    if first && !own && text.chars().all(part) {
        return Ok(text.to_owned());
    }
    Err("write a variable's name: letters, digits and `_`, and none of buildr's own".to_owned())
}

#[cfg(test)]
mod tests {
    use protocol::secure::{OpeningKey, SecureText};

    use super::*;

    #[test]
    fn what_is_printed_is_a_part_of_a_manifest() {
        let farm = OpeningKey::from_seed(&[7; 32]);
        let project: RepoUrl = "git@example.org:a/b.git".parse().unwrap();
        let sealed = farm.public().seal(&project.identity(), "s3cret-value").unwrap();
        let text = shown("TOKEN", &sealed.to_string());
        let read: SecureText = text.split_once("secure: ").unwrap().1.trim().parse().unwrap();
        assert_eq!(farm.open("example.org/a/b", &read).unwrap(), "s3cret-value");
        for name in ["1A", "a-b", "", "CI", "BUILDR_X"] {
            assert!(variable(name).is_err(), "{name}");
        }
    }
}
