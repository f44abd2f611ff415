//! What of a client's file is ours: put in, and taken out again.

use serde_json::{Map, Value};

/// In the first line of files of our own.
const OURS: &str = "Written by dfdaemon setup; dfdaemon setup --undo removes it.";

/// Around our lines in a file of somebody else's.
const MARKS: Marks = Marks { begin: "# dfdaemon setup: begin\n", end: "# dfdaemon setup: end\n" };

/// The same in XML.
const XML_MARKS: Marks = Marks { begin: "<!-- dfdaemon setup: begin -->\n", end: "<!-- dfdaemon setup: end -->\n" };

#[derive(Clone, Copy)]
struct Marks {
    begin: &'static str,
    end: &'static str,
}

pub(super) enum Change {
    /// A file of our own, that begins with a comment.
    Own { comment: &'static str, text: String },
    /// Lines at the end.
    Lines(String),
    /// Lines at the start of a section, whose head is written like this.
    Section { head: &'static str, text: String },
    /// A string in a list of a JSON object.
    Element { key: &'static str, value: String },
    /// Lines at the start of an XML element, a child of the root element.
    Xml { root: &'static str, parent: &'static str, text: String },
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

    pub(super) const fn xml(root: &'static str, parent: &'static str, text: String) -> Self {
        Self::Xml { root, parent, text }
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
                let kept = MARKS.without(before.unwrap_or_default());
                let gap = if kept.is_empty() || kept.ends_with('\n') { "" } else { "\n" };
                Ok(format!("{kept}{gap}{}", MARKS.around(text)))
            }
            Self::Section { head, text } => {
                let kept = before.map_or_else(|| format!("{head}\n"), |before| MARKS.without(before));
                let ours = MARKS.around(text);
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
                    after = format!("{after}{gap}{}", MARKS.around(&format!("{head}\n{text}")));
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
            Self::Xml { root, parent, text } => {
                let kept = before.map_or_else(|| skeleton(root, parent), |before| XML_MARKS.without(before));
                within(&kept, (root, parent), text)
            }
        }
    }
}

/// An XML file of our own, without our lines: others may add theirs.
fn skeleton(root: &str, parent: &str) -> String {
    format!("<!-- {OURS} -->\n<{root}>\n<{parent}>\n</{parent}>\n</{root}>\n")
}

/// An XML file with lines of ours in it.
fn within(kept: &str, (root, parent): (&str, &str), text: &str) -> Result<String, String> {
    let bare = without_comments(kept);
    let (start, close) = (format!("<{parent}>"), format!("</{root}>"));
    // Our lines stand on lines of their own, so that they go without a trace.
    let at_line = |at: usize| kept[..at].ends_with('\n') || kept[..at].trim_end_matches([' ', '\t']).ends_with('\n');
    if let Some(at) = bare.find(&start) {
        let at = at + start.len();
        let line = kept[at..].find('\n').filter(|end| kept[at..at + end].trim().is_empty());
        let at = at + line.ok_or_else(|| format!("{start} does not end its line"))? + 1;
        return Ok(format!("{}{}{}", &kept[..at], XML_MARKS.around(text), &kept[at..]));
    }
    if bare.contains(&format!("<{parent}")) {
        return Err(format!("its {parent} are written in a way that is not understood"));
    }
    let at = bare.rfind(&close).ok_or_else(|| format!("it has no {close}"))?;
    if !at_line(at) {
        return Err(format!("{close} does not begin its line"));
    }
    let at = kept[..at].rfind('\n').map_or(0, |end| end + 1);
    let ours = XML_MARKS.around(&format!("{start}\n{text}</{parent}>\n"));
    Ok(format!("{}{ours}{}", &kept[..at], &kept[at..]))
}

/// The same text, with blanks for what is in comments.
fn without_comments(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(begin) = rest.find("<!--") {
        let end = rest[begin + 4..].find("-->").map_or(rest.len(), |end| begin + 4 + end + 3);
        out.push_str(&rest[..begin]);
        // As long in bytes: places are the same in both.
        out.extend(std::iter::repeat_n(' ', end - begin));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The file without what is ours: `None` if nothing of it is; `Some(None)` if nothing else is left.
pub(super) fn undone(before: &str, change: &Change) -> Option<Option<String>> {
    match change {
        Change::Own { .. } => is_ours(before).then_some(None),
        Change::Lines(_) => MARKS.undone(before),
        Change::Section { head, .. } => {
            // A head alone is of a file that was not there before.
            MARKS.undone(before).map(|kept| kept.filter(|kept| kept.strip_suffix('\n') != Some(head)))
        }
        Change::Xml { root, parent, .. } => {
            let kept = XML_MARKS.without(before);
            // Somebody else has lines in it by now: then it is his.
            let his = kept.split_once('\n').filter(|_| is_ours(&kept)).map(|(_, his)| his.to_owned());
            match his {
                Some(_) if kept == skeleton(root, parent) => Some(None),
                Some(his) => Some(Some(his)),
                None => (kept != before).then_some(Some(kept)),
            }
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
    text.lines().next().is_some_and(|line| line.trim_end_matches(" -->").ends_with(OURS))
}

impl Marks {
    fn around(self, text: &str) -> String {
        format!("{}{text}{}", self.begin, self.end)
    }

    /// Without our lines.
    fn without(self, text: &str) -> String {
        match text.split_once(self.begin) {
            Some((before, rest)) => match rest.split_once(self.end) {
                Some((_, after)) => format!("{before}{after}"),
                // Somebody cut our end off: nobody can tell whose the rest is.
                None => text.to_owned(),
            },
            None => text.to_owned(),
        }
    }

    /// As [`undone`].
    fn undone(self, before: &str) -> Option<Option<String>> {
        let kept = self.without(before);
        (kept != before).then(|| (!kept.is_empty()).then_some(kept))
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
