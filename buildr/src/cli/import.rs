//! `buildr import`: another system's file as a manifest, with a list of what a person must look at.

use std::io;
use std::path::{Path, PathBuf};

use super::{CliError, exit, note, say};
use crate::import::{Imported, Kind, NoteKind, import};
use crate::manifest::MAX_BYTES;

/// Make a manifest of another system's file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What could not be carried over stands in the manifest as a comment at its place, and is listed here.
  buildr import .gitlab-ci.yml              shows the manifest
  buildr import .travis.yml --write         writes it to .buildr.yml
Files of GitHub are in .github/workflows; each is a manifest of its own.")]
pub(super) struct Args {
    /// The file: .gitlab-ci.yml, .travis.yml, .woodpecker.yml, .drone.yml or a workflow of GitHub's
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose file it is, where neither its name nor its contents tell
    #[arg(long, value_name = "SYSTEM", value_enum)]
    from: Option<System>,
    /// Write the manifest to .buildr.yml in this folder instead of showing it
    #[arg(long)]
    write: bool,
    /// Write over a .buildr.yml that is there
    #[arg(long, requires = "write")]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum System {
    Gitlab,
    Github,
    Travis,
    Woodpecker,
    Drone,
}

impl From<System> for Kind {
    fn from(system: System) -> Self {
        match system {
            System::Gitlab => Self::Gitlab,
            System::Github => Self::Github,
            System::Travis => Self::Travis,
            System::Woodpecker => Self::Woodpecker,
            System::Drone => Self::Drone,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    let bytes = read(&args.file)?;
    // A file named by itself may lie in a folder that tells whose it is.
    let path = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    let imported = import(&bytes, &path, args.from.map(Kind::from))?;
    if args.write {
        super::init::write(Path::new("."), &imported.manifest, args.force)?;
        note(&format!("written: .buildr.yml, from {} of {}", args.file.display(), imported.kind.title()));
    } else {
        say(&imported.manifest)?;
    }
    tell(&imported, args.write);
    Ok(exit::DONE)
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    use io::Read as _;
    let unreadable = |error: io::Error| CliError::Usage {
        what: format!("{} could not be read: {error}", path.display()),
        instead: Some("name a file of another system, such as .gitlab-ci.yml".to_owned()),
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Lists the notes on stderr, and counts them.
fn tell(imported: &Imported, written: bool) {
    let count = |kind: NoteKind| imported.notes.iter().filter(|note| note.kind == kind).count();
    for line in imported.notes.iter().filter(|note| note.kind != NoteKind::Moot) {
        note(&line.to_string());
    }
    note(&format!(
        "{} not carried over, {} to look at, {} not needed here: each stands in the manifest as a comment",
        count(NoteKind::Lost),
        count(NoteKind::Look),
        count(NoteKind::Moot)
    ));
    if written {
        note("next: read .buildr.yml from its head, then `buildr run`");
    }
}
