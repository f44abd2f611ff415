//! What of a client's file is ours: put in, and taken out again.

use serde_json::{Map, Value};

/// In the first line of files of our own.
const OURS: &str = "Written by dfdaemon setup; dfdaemon setup --undo removes it.";

/// Around our lines in a file of somebody else's.
const BEGIN: &str = "# dfdaemon setup: begin\n";
const END: &str = "# dfdaemon setup: end\n";

pub(super) enum Change {
    /// A file of our own, that begins with a comment.
    Own { comment: &'static str, text: String },
    /// Lines at the end.
    Lines(String),
    /// Lines at the start of a section, whose head is written like this.
    Section { head: &'static str, text: String },
    /// A string in a list of a JSON object.
    Element { key: &'static str, value: String },
}

impl Change {
    pub(super) const fn own(comment: &'static str, text: String) -> Self {
        Self::Own { comment, text }
    }

    pub(super) const fn lines(text: String) -> Self {
        Self::Lines(text)
    }

    pub(super) const fn section(head: &'static str, text: String) -> Self {
        Self::Section { head, text }
    }

    pub(super) const fn element(key: &'static str, value: String) -> Self {
        Self::Element { key, value }
    }

    /// The file with ours in it, whether or not it was there before.
    ///
    /// # Errors
    /// The file is somebody else's, or not what it should be.
    pub(super) fn apply(&self, before: Option<&str>) -> Result<String, String> {
        match self {
            Self::Own { comment, text } => match before {
                Some(before) if !is_ours(before) => Err("there is another file of this name".to_owned()),
                _ => Ok(format!("{comment} {OURS}\n{text}")),
            },
            Self::Lines(text) => {
                let kept = without(before.unwrap_or_default());
                Ok(format!(
                    "{kept}{}{BEGIN}{text}{END}",
                    if kept.is_empty() || kept.ends_with('\n') { "" } else { "\n" }
                ))
            }
            Self::Section { head, text } => {
                let kept = without(before.unwrap_or_default());
                let ours = format!("{BEGIN}{text}{END}");
                let mut after = String::with_capacity(kept.len() + ours.len());
                let mut placed = false;
                for line in kept.split_inclusive('\n') {
                    after.push_str(line);
                    if !placed && line.trim() == *head {
                        if !line.ends_with('\n') {
                            after.push('\n');
                        }
                        after.push_str(&ours);
                        placed = true;
                    }
                }
                if !placed {
                    // The head is ours, too: it goes when we go.
                    let gap = if after.is_empty() || after.ends_with('\n') { "" } else { "\n" };
                    after = format!("{after}{gap}{BEGIN}{head}\n{text}{END}");
                }
                Ok(after)
            }
            Self::Element { key, value } => {
                let mut object = object(before.unwrap_or("{}"))?;
                let list = object.entry(*key).or_insert_with(|| Value::Array(Vec::new()));
                let list = list.as_array_mut().ok_or_else(|| format!("{key} is no list"))?;
                if !list.iter().any(|known| known == value) {
                    list.insert(0, Value::String(value.clone()));
                }
                Ok(shown(&object))
            }
        }
    }
}

/// The file without what is ours: `None` if nothing of it is; `Some(None)` if nothing else is left.
pub(super) fn undone(before: &str, change: &Change) -> Option<Option<String>> {
    match change {
        Change::Own { .. } => is_ours(before).then_some(None),
        Change::Lines(_) | Change::Section { .. } => {
            let kept = without(before);
            (kept != before).then(|| (!kept.is_empty()).then_some(kept))
        }
        Change::Element { key, value } => {
            let mut object = object(before).ok()?;
            let list = object.get_mut(*key)?.as_array_mut()?;
            let count = list.len();
            list.retain(|known| known != value);
            if list.len() == count {
                return None;
            }
            if list.is_empty() {
                object.remove(*key);
            }
            Some((!object.is_empty()).then(|| shown(&object)))
        }
    }
}

fn is_ours(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.ends_with(OURS))
}

/// Without our lines.
fn without(text: &str) -> String {
    match text.split_once(BEGIN) {
        Some((before, rest)) => match rest.split_once(END) {
            Some((_, after)) => format!("{before}{after}"),
            // Somebody cut our end off: nobody can tell whose the rest is.
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(if text.trim().is_empty() { "{}" } else { text }) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(e) => Err(format!("it is no JSON: {e}")),
    }
}

fn shown(object: &Map<String, Value>) -> String {
    let mut text = serde_json::to_string_pretty(object).unwrap_or_default();
    text.push('\n');
    text
}
