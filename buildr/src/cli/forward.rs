//! Commands of other programs: `buildr SUB` runs `buildr-SUB` from beside this program or from PATH, as git and cargo
//! do. So this crate knows neither the agent nor the coordinator, and one name leads to all.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::builder::Resettable;

use super::CliError;
use super::globals::Globals;

/// A command that comes with buildr as a program of its own.
pub(super) struct Program {
    /// What is typed.
    pub(super) name: &'static str,
    /// What runs.
    file: &'static str,
    /// What it is told before the words that were typed.
    first: Option<&'static str>,
    about: &'static str,
}

/// The farm's own programs.
pub(super) const PROGRAMS: [Program; 3] = [
    Program {
        name: "up",
        file: "buildr-coordinator",
        first: Some("up"),
        about: "Run a whole farm on this machine, in one process",
    },
    Program {
        name: "coordinator",
        file: "buildr-coordinator",
        first: None,
        about: "Run a coordinator, whose agents are elsewhere",
    },
    Program {
        name: "agent",
        file: "buildr-agent",
        first: None,
        about: "Run an agent, which builds what a farm asks for",
    },
];

/// What a command of another program is for; nothing for one that does not come with buildr.
pub(super) fn about(name: &str) -> Option<String> {
    program(name).map(|program| program.about.to_owned())
}

/// As if there were no other commands than buildr's own and those of the farm's programs: for clap's own words and
/// suggestions about a name that is misspelt.
pub(super) fn closed(command: clap::Command) -> clap::Command {
    command
        .allow_external_subcommands(false)
        .external_subcommand_value_parser(Resettable::Reset)
        .subcommands(PROGRAMS.iter().map(|program| clap::Command::new(program.name)))
}

/// Whether there is, or should be, a program behind this name.
pub(super) fn is_known(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| program(name).is_some() || Search::here().find(&file_of(name)).is_some())
}

/// Becomes the program that `words` name, with the rest of them as its arguments. Returns only when it cannot.
pub(super) fn run(words: &[OsString], globals: &Globals) -> Result<u8, CliError> {
    let mut command = prepare(words, globals, &Search::here())?;
    let program = command.get_program().to_string_lossy().into_owned();
    Err(CliError::Forward { program, source: command.exec() })
}

fn prepare(words: &[OsString], globals: &Globals, search: &Search) -> Result<Command, CliError> {
    let (name, arguments) =
        words.split_first().map_or((OsStr::new(""), words), |(name, rest)| (name.as_os_str(), rest));
    let name = name.to_string_lossy();
    let file = file_of(&name);
    let Some(path) = search.find(&file) else {
        let beside = search.beside.as_deref().unwrap_or(Path::new("buildr")).display().to_string();
        return Err(CliError::NoProgram { command: name.into_owned(), program: file, beside });
    };
    let mut command = Command::new(path);
    command.args(program(&name).and_then(|program| program.first)).args(arguments).envs(globals.environment());
    Ok(command)
}

fn program(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

fn file_of(name: &str) -> String {
    program(name).map_or_else(|| format!("buildr-{name}"), |program| program.file.to_owned())
}

/// Where programs are looked for.
struct Search {
    /// This program itself.
    beside: Option<PathBuf>,
    path: OsString,
}

impl Search {
    fn here() -> Self {
        Self { beside: env::current_exe().ok(), path: env::var_os("PATH").unwrap_or_default() }
    }

    fn find(&self, file: &str) -> Option<PathBuf> {
        // A name that leads into another folder is none.
        if file.contains('/') {
            return None;
        }
        let beside = self.beside.as_deref().and_then(Path::parent).map(Path::to_owned);
        // An empty part of PATH is the present folder to some programs; a program from there is not what was meant.
        let path = env::split_paths(&self.path).filter(|folder| folder.is_absolute());
        beside.into_iter().chain(path).map(|folder| folder.join(file)).find(|path| is_program(path))
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use clap::Parser as _;

    use super::*;
    use crate::folder::testing::once_let_go;

    fn fake(folder: &Path, name: &str) {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\necho \"$0|$BUILDR_SERVER|$*\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run_fake(line: &str, search: &Search) -> Result<String, String> {
        #[derive(clap::Parser)]
        struct Words {
            #[command(flatten)]
            globals: Globals,
            #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
            words: Vec<OsString>,
        }
        let Words { globals, words } = Words::parse_from(format!("x {line}").split(' '));
        let mut command = prepare(&words, &globals, search).map_err(|error| error.to_string())?;
        // Just written, it is open in a process that another test starts at this moment.
        let output = once_let_go("it can be run", || match command.output() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => None,
            output => Some(output.unwrap()),
        });
        Ok(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn a_program_beside_this_one_wins_over_path() {
        let (beside, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let search = Search { beside: Some(beside.path().join("buildr")), path: path.path().into() };
        let show = |folder: &Path, name: &str, rest: &str| Ok(format!("{}|{rest}\n", folder.join(name).display()));
        fake(path.path(), "buildr-x");
        assert_eq!(run_fake("x a --b", &search), show(path.path(), "buildr-x", "|a --b"));
        fake(beside.path(), "buildr-x");
        let told = show(beside.path(), "buildr-x", "http://h:1|a");
        assert_eq!(run_fake("--server http://h:1 x a", &search), told);
        fake(beside.path(), "buildr-coordinator");
        assert_eq!(run_fake("up --slots 2", &search), show(beside.path(), "buildr-coordinator", "|up --slots 2"));
        assert_eq!(run_fake("coordinator", &search), show(beside.path(), "buildr-coordinator", "|"));
    }

    #[test]
    fn what_is_no_program_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("buildr-plain"), "#!/bin/sh\n").unwrap();
        fs::create_dir(folder.path().join("buildr-folder")).unwrap();
        let search = Search { beside: None, path: folder.path().into() };
        for name in ["plain", "folder", "missing", "../x", ""] {
            assert!(run_fake(name, &search).unwrap_err().contains("neither beside"), "{name}");
        }
    }
}
