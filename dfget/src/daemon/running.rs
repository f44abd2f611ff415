//! Finds the daemon of a data directory.

use std::fs;
use std::path::{Path, PathBuf};

use dragonfly_core::ErrorKind;
use serde::{Deserialize, Serialize};

use super::commands::Which;
use super::files::write_json;
use crate::client::Client;
use crate::error::Failure;

/// The note in the data directory of where its daemon's API is.
const NOTE: &str = "dfdaemon.json";
/// The note is a path and a number: what is longer is something else.
const NOTE_MAX: u64 = 8 << 10;

#[derive(Serialize, Deserialize)]
struct Note {
    api: PathBuf,
}

/// Notes where the API of this data directory's daemon is.
pub(super) fn note_api(data_dir: &Path, api: &Path) -> Result<(), Failure> {
    let api = std::path::absolute(api).map_err(|e| Failure::io("cannot tell the working directory", &e))?;
    write_json(&data_dir.join(NOTE), &Note { api })
}

/// A connection to the daemon that is meant; `None` if none runs there. One that was named by its socket must answer.
pub(super) async fn find(which: &Which) -> Result<Option<Client>, Failure> {
    if let Some(path) = &which.api {
        return Client::connect(path).await.map(Some).map_err(|e| {
            Failure::new(ErrorKind::Config, format!("no daemon answers at unix:{}: {e}", path.display()))
        });
    }
    match noted_api(&which.data_dir()?) {
        Some(path) => Ok(Client::connect(&path).await.ok()),
        None => Ok(None),
    }
}

fn noted_api(data_dir: &Path) -> Option<PathBuf> {
    let path = data_dir.join(NOTE);
    if fs::metadata(&path).ok()?.len() > NOTE_MAX {
        return None;
    }
    serde_json::from_slice::<Note>(&fs::read(path).ok()?).ok().map(|note| note.api)
}
