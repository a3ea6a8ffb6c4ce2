//! `quorate completions` and `quorate man`: what a shell and a reader of manuals get out of the command line's own description.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use crate::Arguments;
use crate::failure::{Done, Failure, Kind, tell};

/// Print a script that completes quorate's words in a shell
#[derive(Args)]
#[command(after_help = "Examples:
  quorate completions bash > /etc/bash_completion.d/quorate
  quorate completions fish > ~/.config/fish/completions/quorate.fish")]
pub(crate) struct Completions {
    /// Whose script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Write a manual page for every verb
#[derive(Args)]
#[command(after_help = "Example:
  quorate man /usr/local/share/man/man1      then: man quorate-up")]
pub(crate) struct Man {
    /// The directory to write to; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "quorate", &mut script);
        // A reader that went away is no reason to fail.
        let _ = io::stdout().write_all(&script);
        Ok(Done::Yes)
    }
}

impl Man {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let written = std::fs::create_dir_all(&self.directory)
            .and_then(|()| write_pages(&self.directory))
            .map_err(|error| {
                let what = format!("write manual pages to {}", self.directory.display());
                Failure::new(Kind::Data, what, error, "name a directory that can be written to")
            })?;
        tell(&format!("{written} pages in {}", self.directory.display()));
        Ok(Done::Yes)
    }
}

/// Writes a page for each command, and says how many.
fn write_pages(directory: &Path) -> io::Result<usize> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    write_page(directory, &command, "quorate")
}

/// A page a command, its own first; `git log`'s is called `git-log`, and so are ours.
fn write_page(directory: &Path, command: &Command, name: &str) -> io::Result<usize> {
    let page = clap_mangen::Man::new(command.clone().display_name(name.to_string()));
    page.render(&mut File::create(directory.join(format!("{name}.1")))?)?;
    let mut written = 1;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        written += write_page(directory, verb, &format!("{name}-{}", verb.get_name()))?;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(command: &Command, name: &str) -> Vec<String> {
        let verbs = command.get_subcommands();
        let below = verbs.flat_map(|verb| paths(verb, &format!("{name}-{}", verb.get_name())));
        std::iter::once(name.to_string()).chain(below).collect()
    }

    #[test]
    fn every_verb_has_a_page_that_says_what_it_is_for() {
        let name = format!("quorate-man-test-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let written = write_pages(&directory).unwrap();
        let names = paths(&Arguments::command(), "quorate");
        assert_eq!(written, names.len());
        for name in names {
            let page = std::fs::read_to_string(directory.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".TH"), "{name}: {page}");
            assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        let up = std::fs::read_to_string(directory.join("quorate-up.1")).unwrap();
        assert!(up.contains("Start a cluster on this machine"), "{up}");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn every_shell_completes_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "quorate", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in Arguments::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }
}
