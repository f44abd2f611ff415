//! `--print-config`: what counts, and why, in the form of a configuration file.

use std::fmt::Write as _;

use clap::{ArgAction, CommandFactory};

use super::resolve::{Settings, Source};
use super::{Cli, file};
use crate::error::Failure;

/// Every setting as TOML. What is worked out at the start is shown as it came out; secrets are not shown.
pub(crate) fn print(settings: &Settings) -> Result<String, Failure> {
    let mut text = String::new();
    for arg in Cli::command().get_arguments().filter(|arg| file::is_setting(arg)) {
        let Some(long) = arg.get_long() else { continue };
        let source = match settings.source(arg) {
            Source::Default => "default",
            Source::Environment => "environment",
            Source::File => "file",
            Source::Flag => "flag",
        };
        let values = match settings.texts(arg) {
            values if values.is_empty() => computed(settings, long)?,
            values => values,
        };
        let value = match arg.get_action() {
            _ if long == "join" && !values.is_empty() => {
                let _ = writeln!(text, "# join is set ({source}) and not shown: it may be a secret");
                continue;
            }
            ArgAction::SetTrue => values.first().cloned().unwrap_or_else(|| "false".to_owned()),
            ArgAction::Append => {
                let quoted: Vec<_> = values.iter().map(|value| quote(value)).collect();
                format!("[{}]", quoted.join(", "))
            }
            _ => match values.first() {
                Some(value) => quote(value),
                None => {
                    let _ = writeln!(text, "# {long} is not set");
                    continue;
                }
            },
        };
        let _ = writeln!(text, "{long} = {value} # {source}");
    }
    Ok(text)
}

/// The defaults that depend on the machine.
fn computed(settings: &Settings, long: &str) -> Result<Vec<String>, Failure> {
    let serve = &settings.serve;
    Ok(match long {
        "data-dir" => vec![serve.data_dir()?.display().to_string()],
        "listen" => serve.listen()?.iter().map(ToString::to_string).collect(),
        "api" => vec![serve.api().map_or("none".to_owned(), |path| format!("unix:{}", path.display()))],
        "connections" => serve.connections().iter().map(ToString::to_string).collect(),
        "api-token-file" => vec![serve.api_token_file()?.display().to_string()],
        _ => Vec::new(),
    })
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
