//! `buildr schema`: the language as a JSON Schema, for editors.

use super::{CliError, exit, json, say};
use crate::manifest::schema;

/// Print the manifest's JSON Schema, from which editors complete and check
///
/// In an editor with the YAML language server: write it to a file, and begin the manifest with
/// `# yaml-language-server: $schema=FILE`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> Result<u8, CliError> {
    say(&json(&schema()))?;
    Ok(exit::DONE)
}
