//! The configuration file: TOML or YAML. Its keys are the names of the flags; a table's name is the start of the
//! names in it, so that `[log] level = "debug"` is `log-level = "debug"`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::{Arg, ArgAction};
use serde_json::Value;

use crate::error::Failure;
use crate::names::nearest;

/// The longest file that is read.
const FILE_MAX: usize = 256 << 10;
/// Lists in lists, at most; settings are never deeper than a list in a table. The YAML parser takes time that grows
/// with the square of the brackets left open, so this is checked before it.
const NESTING_MAX: usize = 64;
/// Flags that are no settings.
const NO_SETTINGS: [&str; 6] = ["config", "print-config", "check-config", "verbose", "help", "version"];

/// Whether a flag is a setting.
pub(super) fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| !NO_SETTINGS.contains(&long))
}

/// A key of the file and its values as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

/// Reads a file. Unknown keys are refused, with the nearest name.
pub(super) fn read(path: &Path, command: &clap::Command) -> Result<Vec<Entry>, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX as u64 + 1).read_to_string(&mut text))
        .map_err(|e| Failure::io(format_args!("cannot read the configuration {}", path.display()), &e))?;
    let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    parse(&text, yaml, command).map_err(|e| e.while_(path.display()))
}

pub(super) fn parse(text: &str, yaml: bool, command: &clap::Command) -> Result<Vec<Entry>, Failure> {
    if text.len() > FILE_MAX {
        return Err(Failure::usage(format!("longer than {FILE_MAX} bytes: is this the configuration?")));
    }
    if nesting(text) > NESTING_MAX {
        return Err(Failure::usage(format!("more than {NESTING_MAX} brackets are open at a time")));
    }
    let value: Value = if yaml {
        let value = serde_yaml_ng::from_str(text).map_err(|e| Failure::usage(e.to_string()))?;
        if value == Value::Null { Value::Object(serde_json::Map::new()) } else { value }
    } else {
        // Its error shows the line; the last line break is one too many.
        let table = text.parse::<toml::Table>();
        json(toml::Value::Table(table.map_err(|e| Failure::usage(e.to_string().trim_end().to_owned()))?))
    };
    let Value::Object(table) = value else { return Err(Failure::usage("expected keys and values")) };
    let mut entries = Vec::new();
    for (key, value) in table {
        collect(&key, value, command, &mut entries)?;
    }
    Ok(entries)
}

/// How many brackets are open at a time at most, those in texts and comments included.
fn nesting(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// TOML as JSON. A date is a text: no setting is one.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(bool) => Value::Bool(bool),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, json(value))).collect(),
    }
}

fn collect(key: &str, value: Value, command: &clap::Command, entries: &mut Vec<Entry>) -> Result<(), Failure> {
    // Who writes data_dir means data-dir.
    let key = key.replace('_', "-");
    let settings = || command.get_arguments().filter(|arg| is_setting(arg));
    if let Value::Object(table) = value {
        for (name, value) in table {
            collect(&format!("{key}-{name}"), value, command, entries)?;
        }
        return Ok(());
    }
    let Some(arg) = settings().find(|arg| arg.get_long() == Some(&key)) else {
        let near = nearest(&key, settings().filter_map(Arg::get_long));
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(Failure::usage(format!("unknown key `{key}`{hint}")));
    };
    let many = matches!(arg.get_action(), ArgAction::Append);
    let values = match value {
        Value::Array(values) if many || key == "role" => values.iter().map(|value| text(&key, value)).collect(),
        Value::Array(_) => Err(Failure::usage(format!("`{key}` takes one value, not a list"))),
        value => text(&key, &value).map(|text| vec![text]),
    }?;
    let values = if key == "role" { vec![values.join(",")] } else { values };
    if entries.iter().any(|entry| entry.key == key) {
        return Err(Failure::usage(format!("`{key}` is there twice")));
    }
    entries.push(Entry { key, values });
    Ok(())
}

fn text(key: &str, value: &Value) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(bool) => Ok(bool.to_string()),
        _ => Err(Failure::usage(format!("`{key}`: expected a text, a number, true or false"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;
    use crate::daemon::config::Cli;

    fn read(text: &str, yaml: bool) -> Result<Vec<(String, Vec<String>)>, String> {
        let entries = parse(text, yaml, &Cli::command()).map_err(|e| e.message)?;
        let mut pairs: Vec<_> = entries.into_iter().map(|entry| (entry.key, entry.values)).collect();
        pairs.sort();
        Ok(pairs)
    }

    #[test]
    fn both_formats_flat_and_in_tables() {
        let toml =
            "role = [\"seed\", \"peer\"]\nquota = 5\nlisten = [\"/ip4/1.2.3.4/tcp/1\"]\n[log]\nlevel = \"debug\"\n";
        let yaml = "role: [seed, peer]\nquota: 5\nlisten: /ip4/1.2.3.4/tcp/1\nlog:\n  level: debug\n";
        let pair = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
        let wanted = [
            pair("listen", "/ip4/1.2.3.4/tcp/1"),
            pair("log-level", "debug"),
            pair("quota", "5"),
            pair("role", "seed,peer"),
        ];
        assert_eq!(read(toml, false).unwrap(), wanted);
        assert_eq!(read(yaml, true).unwrap(), wanted);
        assert_eq!(read("", true).unwrap(), []);
        assert_eq!(read("data_dir = 'x'", false).unwrap(), [pair("data-dir", "x")]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("lisen = 'x'", "unknown key `lisen`; did you mean `listen`?"),
            ("[log]\nlevl = 'x'", "unknown key `log-levl`; did you mean `log-level`?"),
            ("wibble = 1", "unknown key `wibble`"),
            ("config = 'x'", "unknown key `config`"),
            ("quota = [1, 2]", "takes one value"),
            ("quota = [[1]]", "takes one value"),
            ("listen = [[1]]", "expected a text"),
            ("log-level = 'x'\n[log]\nlevel = 'y'", "twice"),
            ("quota = ", "line 1"),
        ] {
            let message = read(text, false).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
        assert!(read(&"#".repeat(FILE_MAX + 1), false).unwrap_err().contains("longer than"));
        assert!(read(&"[".repeat(NESTING_MAX + 1), true).unwrap_err().contains("brackets"));
        assert!(read("- a", true).unwrap_err().contains("keys and values"));
        assert!(read("a: [", true).unwrap_err().contains("line"));
    }
}
