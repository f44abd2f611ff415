//! Completions and manual pages are made from the definitions of the command lines, and kept in the repository, for
//! packages. They are current, or this fails; with `DRAGONFLY_UPDATE=1` it writes them instead.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Shell, generate};

/// Every file that is kept, by its path in the crate.
fn files() -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for (name, command) in [("dfget", dfget::dfget_command()), ("dfdaemon", dfget::dfdaemon_command())] {
        for (shell, file) in [
            (Shell::Bash, format!("{name}.bash")),
            (Shell::Zsh, format!("_{name}")),
            (Shell::Fish, format!("{name}.fish")),
        ] {
            let mut text = Vec::new();
            generate(shell, &mut command.clone(), name, &mut text);
            files.push((Path::new("completions").join(file), text));
        }
        manual(command, name, &mut files);
    }
    files
}

/// A page for the command and one for each of its subcommands.
fn manual(command: Command, name: &str, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut page = |command: &Command, name: &str| {
        let mut text = Vec::new();
        // Without a date, so that the page is the same on any day.
        let man = clap_mangen::Man::new(command.clone()).date("").source("dragonfly").manual("Dragonfly");
        man.render(&mut text).unwrap();
        files.push((Path::new("man").join(format!("{name}.1")), text));
    };
    page(&command, name);
    for subcommand in command.get_subcommands() {
        let full = format!("{name}-{}", subcommand.get_name());
        // Its usage line would say `dfget-ls`.
        // Names of commands live for ever; there are a dozen.
        let named =
            subcommand.clone().name(&*full.clone().leak()).bin_name(format!("{name} {}", subcommand.get_name()));
        page(&named, &full);
    }
}

#[test]
fn completions_and_manuals_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let update = std::env::var_os("DRAGONFLY_UPDATE").is_some();
    let files = files();
    assert!(files.len() > 16);
    let mut stale = Vec::new();
    for (path, text) in &files {
        let at = root.join(path);
        if update {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, text).unwrap();
        } else if fs::read(&at).ok().as_ref() != Some(text) {
            stale.push(path);
        }
    }
    assert!(stale.is_empty(), "not current: {stale:?}; run this test with DRAGONFLY_UPDATE=1");
    for dir in ["completions", "man"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let path = Path::new(dir).join(entry.unwrap().file_name());
            assert!(files.iter().any(|(known, _)| *known == path), "{} is of no command", path.display());
        }
    }
}
