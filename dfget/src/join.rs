//! Join tokens from where they are kept. A token is a secret: it is never printed, and arguments are the last
//! place to put it, since every user can list them.

use std::fs::File;
use std::io::Read;

use dragonfly_core::ErrorKind;
use dragonfly_core::trust::Token;

use crate::error::Failure;

/// The longest text of a token that is read: more than any token has.
const TOKEN_TEXT_MAX: u64 = 32 << 10;

/// Reads `TOKEN`, `@FILE` or `-` (standard input).
pub(crate) fn read_token(text: &str) -> Result<Token, Failure> {
    let text = match text.strip_prefix('@') {
        Some(path) => {
            let doing = format!("cannot read the token in {path}");
            let file = File::open(path).map_err(|e| Failure::io(&doing, &e))?;
            read(file).map_err(|e| Failure::io(&doing, &e))?
        }
        None if text == "-" => {
            read(std::io::stdin().lock()).map_err(|e| Failure::io("cannot read the token from standard input", &e))?
        }
        None => text.to_owned(),
    };
    // The text itself stays out of the message.
    text.trim().parse().map_err(|e| Failure::new(ErrorKind::Config, format!("--join: {e}")))
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(TOKEN_TEXT_MAX).read_to_string(&mut text)?;
    Ok(text)
}
