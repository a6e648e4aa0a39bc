//! `buildr completions` and `buildr man`: what shells and manuals want to know of the command line, from the very
//! definition that parses it.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{AGENT_PREFIX, Cli, CliError, exit, forward, note, say};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where they go:
  buildr completions bash > /etc/bash_completion.d/buildr
  buildr completions zsh > /usr/local/share/zsh/site-functions/_buildr
  buildr completions fish > ~/.config/fish/completions/buildr.fish")]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page, or write all of them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
  buildr man | man -l -                       reads it
  buildr man --dir /usr/local/share/man/man1  writes a page for each command")]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder, which is made when it is not there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionArgs) -> Result<u8, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut whole(), "buildr", &mut text);
    say(&String::from_utf8_lossy(&text))?;
    Ok(exit::DONE)
}

pub(super) fn man(args: &ManArgs) -> Result<u8, CliError> {
    match &args.dir {
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(whole()).render(&mut text).map_err(CliError::Output)?;
            say(&String::from_utf8_lossy(&text))?;
        }
        Some(folder) => {
            write(folder).map_err(|source| CliError::Write { path: folder.display().to_string(), source })?;
            note(&format!("written: a page for each command, in {}", folder.display()));
        }
    }
    Ok(exit::DONE)
}

fn write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(whole(), folder)
}

/// The command line as a person types it: `agent approve` is a word behind `agent`, and the farm's other programs are
/// commands too.
fn whole() -> clap::Command {
    let base = Cli::command();
    let (of_agent, own): (Vec<&clap::Command>, Vec<&clap::Command>) =
        base.get_subcommands().partition(|command| command.get_name().starts_with(AGENT_PREFIX));
    let words = of_agent.into_iter().map(|command| {
        let word = command.get_name().trim_start_matches(AGENT_PREFIX).to_owned();
        // Hidden only from the list of commands, where all of them are one line.
        command.clone().name(word).hide(false)
    });
    let mut words: Option<Vec<clap::Command>> = Some(words.collect());
    let others = forward::PROGRAMS.iter().map(|program| {
        let command = clap::Command::new(program.name).about(forward::about(program.name).unwrap_or_default());
        let words = if program.name == "agent" { words.take() } else { None };
        command.subcommands(words.unwrap_or_default())
    });
    let about = base.get_about().cloned().unwrap_or_default();
    let after = base.get_after_help().cloned().unwrap_or_default();
    clap::Command::new("buildr")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_help(after)
        .args(base.get_arguments())
        .subcommands(own.into_iter().cloned())
        .subcommands(others)
        .disable_help_subcommand(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        whole().debug_assert();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut whole(), "buildr", &mut text);
            let text = String::from_utf8(text).unwrap();
            for word in ["submit", "coordinator", "approve", "--server", "doctor"] {
                assert!(text.contains(word.trim_start_matches('-')), "{shell}: {word}");
            }
            assert!(!text.contains("agent-approve"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man1");
        write(&pages).unwrap();
        let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap_or_else(|_| panic!("no {name}"));
        for command in Cli::command().get_subcommands() {
            let text = page(&format!("buildr-{}.1", command.get_name()));
            assert!(text.contains(".SH SYNOPSIS"), "{text}");
        }
        assert!(page("buildr.1").contains("buildr\\-submit(1)"));
        assert!(page("buildr-agent.1").contains("approve"));
    }
}
