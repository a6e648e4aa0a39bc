//! `buildr init`: a first manifest for the project at hand.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
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

/// Writes a manifest into a folder, never over one that is there unless `force` says so. It is there whole or not at
/// all: one that is written over is lost only when the new one is on the disk.
pub(super) fn write(folder: &Path, manifest: &str, force: bool) -> Result<(), CliError> {
    let path = folder.join(NAME);
    put(&path, manifest, force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::Usage {
            what: format!("{} is there already, and is left as it is", path.display()),
            instead: Some("write over it with --force, or look at the new one first and leave this one".to_owned()),
        },
        _ => CliError::Write { path: path.display().to_string(), source: error },
    })
}

fn put(path: &Path, manifest: &str, force: bool) -> io::Result<()> {
    // A link stays one: what it leads to is written over.
    let target = if force && path.is_symlink() { path.canonicalize()? } else { path.to_owned() };
    let folder = target.parent().unwrap_or(Path::new("."));
    // As any new file of this user: others may read it as the umask has it.
    let mut aside = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    aside.write_all(manifest.as_bytes())?;
    aside.as_file().sync_all()?;
    let put = if force { aside.persist(&target) } else { aside.persist_noclobber(&target) };
    put.map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_manifest_is_written_whole_and_over_none_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, path) = (folder.path(), folder.path().join(NAME));
        write(folder, "first", false).unwrap();
        let refused = write(folder, "second", false).unwrap_err().to_string();
        assert!(refused.contains("is there already"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        // Whoever reads it meanwhile has the whole of the old one.
        let mut before = fs::File::open(&path).unwrap();
        write(folder, "second", true).unwrap();
        assert_eq!(io::read_to_string(&mut before).unwrap(), "first");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        let usual = folder.join("usual");
        fs::write(&usual, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
        fs::rename(&path, &usual).unwrap();
        std::os::unix::fs::symlink("usual", &path).unwrap();
        write(folder, "third", true).unwrap();
        assert!(path.is_symlink() && fs::read_to_string(&usual).unwrap() == "third");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "nothing is left aside");
    }
}
