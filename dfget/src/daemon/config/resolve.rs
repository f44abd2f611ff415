//! From flags, environment and file to settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches};

use super::file::{self, Entry};
use super::{Cli, Serve};
use crate::error::Failure;

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    Environment,
    File,
    Flag,
}

/// The settings of a run, and where each comes from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) serve: Serve,
    pub(super) matches: ArgMatches,
    pub(super) from_file: Vec<String>,
}

impl Settings {
    /// Where the setting with this flag comes from.
    pub(super) fn source(&self, arg: &clap::Arg) -> Source {
        if arg.get_long().is_some_and(|long| self.is_from_file(long)) {
            return Source::File;
        }
        match self.matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ => Source::Default,
        }
    }

    /// Whether the setting of this name comes from the file.
    pub(crate) fn is_from_file(&self, key: &str) -> bool {
        self.from_file.iter().any(|known| known == key)
    }

    /// The values of a flag as text; empty where it has none.
    pub(super) fn texts(&self, arg: &clap::Arg) -> Vec<String> {
        let raw = self.matches.get_raw(arg.get_id().as_str());
        raw.into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect()
    }

    /// The settings whose values differ from `other`'s, by name.
    pub(crate) fn changed(&self, other: &Self) -> Vec<String> {
        let command = Cli::command();
        let values = |settings: &Self| -> BTreeMap<String, Vec<String>> {
            let args = command.get_arguments().filter(|arg| file::is_setting(arg));
            args.map(|arg| (arg.get_long().unwrap_or_default().to_owned(), settings.texts(arg))).collect()
        };
        let (old, new) = (values(other), values(self));
        new.into_iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(key, _)| key).collect()
    }
}

/// How a command line that is none ends: clap says it better than we could.
#[derive(Debug)]
pub(crate) enum Refused {
    Clap(clap::Error),
    Failure(Failure),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        Self::Clap(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Understands a command line, with the file that it, or the environment, names.
pub(crate) fn resolve(args: &[OsString]) -> Result<(Cli, Settings), Refused> {
    let command = Cli::command();
    let first = command.clone().try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&first)?;
    let Some(path) = cli.serve.config.clone().filter(|_| cli.command.is_none()) else {
        let settings = Settings { serve: cli.serve.clone(), matches: first, from_file: Vec::new() };
        return Ok((cli, settings));
    };
    let entries = file::read(&path, &command)?;
    merge(args, &first, &path, entries, command)
}

/// Understands the text of a file by itself, as TOML or YAML.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn resolve_text(text: &str, yaml: bool) -> Result<(Cli, Settings), Refused> {
    let (command, args) = (Cli::command(), [OsString::from("dfdaemon")]);
    let first = command.clone().try_get_matches_from(&args)?;
    let entries = file::parse(text, yaml, &command)?;
    merge(&args, &first, Path::new("configuration"), entries, command)
}

/// Understands a command line, of which `first` came, together with a file's entries.
fn merge(
    args: &[OsString],
    first: &ArgMatches,
    path: &Path,
    entries: Vec<Entry>,
    command: clap::Command,
) -> Result<(Cli, Settings), Refused> {
    let mut from_file = Vec::new();
    let mut all: Vec<OsString> = args.iter().take(1).cloned().collect();
    for entry in entries {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(&entry.key));
        let Some(arg) = arg else { continue };
        let given = flags(&entry, arg)?;
        check(path, &entry, &given, &command)?;
        let source = first.value_source(arg.get_id().as_str());
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        all.extend(given);
        from_file.push(entry.key);
    }
    all.extend(args.iter().skip(1).cloned());
    let matches = command.try_get_matches_from(all)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let settings = Settings { serve: cli.serve.clone(), matches, from_file };
    Ok((cli, settings))
}

/// The flags that say the same as an entry of the file.
fn flags(entry: &Entry, arg: &clap::Arg) -> Result<Vec<OsString>, Failure> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match entry.values.as_slice() {
            [value] if value == "true" => Ok(vec![format!("--{}", entry.key).into()]),
            [value] if value == "false" => Ok(Vec::new()),
            _ => Err(Failure::usage(format!("`{}` takes true or false", entry.key))),
        };
    }
    Ok(entry.values.iter().map(|value| format!("--{}={value}", entry.key).into()).collect())
}

/// Checks one entry by itself, so that the message can name file and key.
fn check(path: &Path, entry: &Entry, given: &[OsString], command: &clap::Command) -> Result<(), Failure> {
    let alone = [OsString::from("dfdaemon")].into_iter().chain(given.iter().cloned());
    command.clone().try_get_matches_from(alone).map(drop).map_err(|error| {
        let rendered = error.to_string();
        let why = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let secret = entry.key == "join";
        let why = if secret { "the value is not understood" } else { why };
        Failure::usage(format!("{}: `{}`: {why}", path.display(), entry.key))
    })
}
