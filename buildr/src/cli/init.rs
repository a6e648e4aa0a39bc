//! `buildr init`: a first manifest for the project at hand.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{CliError, exit, note, say};
use crate::init::propose;

/// Write a first manifest for this project
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It looks at the files here (Rust, Go, Java, C, Python, Node, Dockerfile), runs nothing, and writes .buildr.yml.
  buildr init --show                        only shows it
  buildr init --image debian:bookworm-slim  one image for all, into which the tools are installed")]
pub(super) struct Args {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// The image to use; a bare Debian or Ubuntu gets the tools installed by `prepare`
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Show the manifest and write nothing
    #[arg(long)]
    show: bool,
    /// Write over a .buildr.yml that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    if !args.folder.is_dir() {
        return Err(CliError::Usage {
            what: format!("{} is not a folder", args.folder.display()),
            instead: Some("buildr init, in the project's folder".to_owned()),
        });
    }
    let proposal = propose(&args.folder, args.image.as_deref());
    match proposal.found.as_slice() {
        [] => note("found: nothing that tells how the project is built; the manifest has one stage to fill in"),
        found => note(&format!("found: {}", found.join(", "))),
    }
    if args.show {
        say(&proposal.manifest)?;
        return Ok(exit::DONE);
    }
    write(&args.folder, &proposal.manifest, args.force)?;
    note(&format!("written: {}", args.folder.join(NAME).display()));
    note("next: `buildr check` looks it over, `buildr run` runs it here");
    Ok(exit::DONE)
}

/// The manifest's name.
const NAME: &str = ".buildr.yml";

/// Writes a manifest into a folder, never over one that is there unless `force` says so.
pub(super) fn write(folder: &Path, manifest: &str, force: bool) -> Result<(), CliError> {
    let path = folder.join(NAME);
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let opened = options.open(&path).and_then(|mut file| file.write_all(manifest.as_bytes()));
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::Usage {
            what: format!("{} is there already, and is left as it is", path.display()),
            instead: Some("write over it with --force, or look at the new one first and leave this one".to_owned()),
        },
        _ => CliError::Write { path: path.display().to_string(), source: error },
    })
}
