//! `buildr clean`: removes what runs on this machine have kept for later ones.

use std::path::{Path, PathBuf};

use protocol::BootId;

use super::containers::ContainerArgs;
use super::globals::Globals;
use super::look::{Look, Tone};
use super::terminal::size;
use super::{CliError, note, say};
use crate::executor::Executor as _;
use crate::executor::docker::{DockerExecutor, OutlivingImage};
use crate::folder::{Entry, walk};
use crate::process::folders;

/// Remove what runs keep for later ones: caches, prepared images, what --keep left
///
/// The next run makes it again. What an agent of this machine keeps is its own and stays. While a run goes on, only
/// images are removed: the run may be using the rest.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only show what would be removed, and how large it is
    #[arg(long)]
    dry_run: bool,
}

/// What is kept in this program's own folder: its name there, and what it is to people.
const FOLDERS: [(&str, &str); 3] =
    [("caches", "caches of stages"), ("kept", "workspaces of --keep"), ("out", "results of runs without a folder")];

/// Removes, or shows.
pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let home = folders::cache("run")?;
    let there = folders_of(&home);
    let executor = DockerExecutor::connect(ContainerArgs::default().docker("clean", BootId::fresh())).await;
    let images = match &executor {
        Ok(executor) => {
            let all = executor.outliving().await.map_err(super::run::RunError::from)?;
            all.into_iter().filter(is_of_a_run).collect()
        }
        Err(error) => {
            note(&format!("images are left out: {error}"));
            Vec::new()
        }
    };
    let verb = if args.dry_run { "would be removed" } else { "removed" };
    let (mut table, mut total) = (Vec::new(), 0);
    for (path, what) in &there {
        let bytes = bytes_of(path);
        if args.dry_run || removed(executor.as_ref().ok(), path).await {
            total += bytes;
            table.push(((*what).to_owned(), bytes));
        }
    }
    for image in &images {
        if args.dry_run || gone(executor.as_ref().ok(), image).await {
            total += image.bytes;
            table.push((format!("image {}", image.name), image.bytes));
        }
    }
    let look = Look::of_stdout(globals.color());
    let mut text = String::new();
    for (what, bytes) in &table {
        text += &format!("{:>10}  {what}\n", size(*bytes));
    }
    text += &match table.len() {
        0 => "nothing is kept\n".to_owned(),
        _ => format!("{} {verb}\n", look.paint(Tone::Strong, &size(total))),
    };
    say(&text)?;
    Ok(super::exit::DONE)
}

/// The folders that may go. While a run goes on that is none: it reads and writes there.
fn folders_of(home: &Path) -> Vec<(PathBuf, &'static str)> {
    let all = FOLDERS.iter().map(|(name, what)| (home.join(name), *what));
    let there: Vec<(PathBuf, &str)> = all.filter(|(path, _)| path.exists()).collect();
    if there.is_empty() || !super::run::one_goes_on(home) {
        return there;
    }
    let names: Vec<&str> = there.iter().map(|(_, what)| *what).collect();
    note(&format!("a run goes on and may be using them, so these stay: {}", names.join(", ")));
    Vec::new()
}

/// Whether a run made it. What an agent of this machine made is the agent's, and so is what an older version made that
/// did not write down by whom; both go by themselves when their time is over.
fn is_of_a_run(image: &OutlivingImage) -> bool {
    image.keeper.as_deref().is_some_and(super::run::is_of_a_run)
}

/// Containers may have left files there that this user may not remove.
async fn removed(executor: Option<&DockerExecutor>, path: &Path) -> bool {
    let removed = match executor {
        Some(executor) => executor.discard(path).await.map_err(|error| error.to_string()),
        None => std::fs::remove_dir_all(path).map_err(|error| error.to_string()),
    };
    removed.map_err(|error| note(&format!("{} stays: {error}", path.display()))).is_ok()
}

/// What a folder takes of the disk. What cannot be read counts as nothing.
fn bytes_of(path: &Path) -> u64 {
    let mut bytes = 0;
    let walked = walk(path, &mut |entry: &Entry<'_>| {
        bytes += u64::try_from(entry.stat.st_blocks).unwrap_or(0) * 512;
        Ok(())
    });
    walked.map_or(0, |()| bytes)
}

async fn gone(executor: Option<&DockerExecutor>, image: &OutlivingImage) -> bool {
    let Some(executor) = executor else { return false };
    let gone = executor.remove_outliving(image).await;
    if !gone {
        note(&format!("the image {} is in use and stays", image.name));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_keeps_stays() {
        let check = |keeper: Option<&str>, expect: bool| {
            let image = OutlivingImage { name: "x".to_owned(), bytes: 1, keeper: keeper.map(str::to_owned) };
            assert_eq!(is_of_a_run(&image), expect, "{keeper:?}");
        };
        check(Some(&format!("run-{}", BootId::fresh())), true);
        check(Some("oak-0a1b2c3d"), false);
        check(Some("run-0a1b2c3d"), false);
        check(None, false);
    }
}
