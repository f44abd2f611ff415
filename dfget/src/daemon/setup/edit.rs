//! What of a client's file is ours: put in, and taken out again.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

/// In the first line of files of our own.
const OURS: &str = "Written by dfdaemon setup; dfdaemon setup --undo removes it.";

/// Around our lines in a file of somebody else's.
const MARKS: Marks = Marks { begin: "# dfdaemon setup: begin", end: "# dfdaemon setup: end" };

/// The same in XML.
const XML_MARKS: Marks = Marks { begin: "<!-- dfdaemon setup: begin -->", end: "<!-- dfdaemon setup: end -->" };

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
                let kept = self.without(MARKS, before.unwrap_or_default())?;
                let gap = if kept.is_empty() || kept.ends_with('\n') { "" } else { "\n" };
                Ok(format!("{kept}{gap}{}", MARKS.around(text)))
            }
            Self::Section { head, text } => {
                let kept = match before {
                    Some(before) => self.without(MARKS, before)?,
                    None => format!("{head}\n"),
                };
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
                let kept = match before {
                    Some(before) => self.without(XML_MARKS, before)?,
                    None => skeleton(root, parent),
                };
                within(&kept, (root, parent), text)
            }
        }
    }

    /// A file that has to stay although nothing is in it, as its client can read it.
    pub(super) fn nothing(&self) -> String {
        match self {
            Self::Own { .. } | Self::Lines(_) | Self::Section { .. } => String::new(),
            Self::Element { .. } => "{}\n".to_owned(),
            Self::Xml { root, parent, .. } => elements(root, parent),
        }
    }

    /// A file without our lines, from which they can be told still.
    fn without(&self, marks: Marks, text: &str) -> Result<String, Torn> {
        let Some(ours) = marks.find(text).map_err(|lines| self.torn(text, marks, lines))? else {
            return Ok(text.to_owned());
        };
        Ok(format!("{}{}", &text[..ours.start], &text[ours.end..]))
    }

    /// Says what is left beside these marks.
    fn torn(&self, text: &str, marks: Marks, of_marks: Vec<usize>) -> Torn {
        let (put, around) = match self {
            Self::Own { .. } | Self::Element { .. } => ("", [String::new(), String::new()]),
            Self::Lines(put) => (put.as_str(), [String::new(), String::new()]),
            Self::Section { head, text } => (text.as_str(), [(*head).to_owned(), String::new()]),
            Self::Xml { parent, text, .. } => (text.as_str(), [format!("<{parent}>"), format!("</{parent}>")]),
        };
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let known = |line: &str| put.lines().any(|ours| ours.trim() == line) || around.iter().any(|ours| ours == line);
        let is_ours = |line: &usize| !lines[*line].is_empty() && known(lines[*line]);
        let mut left = BTreeSet::new();
        for mark in of_marks {
            left.insert(mark);
            if lines[mark].contains(marks.begin) {
                left.extend((mark + 1..lines.len()).take_while(is_ours));
            }
            if lines[mark].contains(marks.end) {
                left.extend((0..mark).rev().take_while(is_ours));
            }
        }
        Torn(left.into_iter().map(|line| (line + 1, lines[line].to_owned())).collect())
    }
}

/// Marks of ours in a file that do not go together any more: nobody can tell whose is what is between them. What is left
/// for sure, by the numbers of its lines.
#[derive(Debug)]
pub(super) struct Torn(Vec<(usize, String)>);

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the marks around what dfdaemon setup put in are not both there, each once and on a line of its own; what is left is",
        )?;
        for (i, (number, line)) in self.0.iter().enumerate() {
            write!(f, "{} line {number}: {line}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl From<Torn> for String {
    fn from(torn: Torn) -> Self {
        torn.to_string()
    }
}

/// An XML file of our own, without our lines: others may add theirs.
fn skeleton(root: &str, parent: &str) -> String {
    format!("<!-- {OURS} -->\n{}", elements(root, parent))
}

/// The same without a word of us.
fn elements(root: &str, parent: &str) -> String {
    format!("<{root}>\n<{parent}>\n</{parent}>\n</{root}>\n")
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

/// What [`undone`] leaves of a file.
#[derive(Debug)]
pub(super) enum Left {
    /// All: nothing of it is ours.
    All,
    /// This, which is others'.
    Theirs(String),
    Nothing,
}

/// The file without what is ours.
///
/// # Errors
/// Nobody can tell any more what that is.
pub(super) fn undone(before: &str, change: &Change) -> Result<Left, Torn> {
    let of = |kept: String| match kept {
        kept if kept == before => Left::All,
        kept if kept.is_empty() => Left::Nothing,
        kept => Left::Theirs(kept),
    };
    Ok(match change {
        Change::Own { .. } if is_ours(before) => Left::Nothing,
        Change::Own { .. } => Left::All,
        Change::Lines(_) => of(change.without(MARKS, before)?),
        Change::Section { head, .. } => match of(change.without(MARKS, before)?) {
            // A head alone is of a file that was not there before.
            Left::Theirs(kept) if kept.strip_suffix('\n') == Some(head) => Left::Nothing,
            left => left,
        },
        Change::Xml { root, parent, .. } => {
            let kept = change.without(XML_MARKS, before)?;
            // Somebody else has lines in it by now: then it is his.
            match kept.split_once('\n').filter(|_| is_ours(&kept)) {
                Some(_) if kept == skeleton(root, parent) => Left::Nothing,
                Some((_, his)) => Left::Theirs(his.to_owned()),
                None => of(kept),
            }
        }
        Change::Element { key, value } => without_element(before, key, value).unwrap_or(Left::All),
    })
}

/// `None`: it is not there.
fn without_element(before: &str, key: &str, value: &str) -> Option<Left> {
    let mut object = object(before).ok()?;
    let list = object.get_mut(key)?.as_array_mut()?;
    let count = list.len();
    list.retain(|known| known != value);
    if list.len() == count {
        return None;
    }
    if list.is_empty() {
        object.remove(key);
    }
    Some(if object.is_empty() { Left::Nothing } else { Left::Theirs(shown(&object)) })
}

/// Whether it is a file of our own.
pub(super) fn is_ours(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.trim_end_matches(" -->").ends_with(OURS))
}

impl Marks {
    fn around(self, text: &str) -> String {
        format!("{}\n{text}{}\n", self.begin, self.end)
    }

    /// Where our lines are in a file, marks and all.
    ///
    /// # Errors
    /// Marks do not go together, as where somebody cut one off: the lines that they are.
    fn find(self, text: &str) -> Result<Option<Range<usize>>, Vec<usize>> {
        let (mut marks, mut at) = (Vec::new(), 0);
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if line.contains(self.begin) || line.contains(self.end) {
                // However somebody's editor ends and indents its lines; but not what shares one with others.
                marks.push((number, line.trim(), at..at + line.len()));
            }
            at += line.len();
        }
        match marks.as_slice() {
            [] => Ok(None),
            [(_, first, begin), (_, last, end)] if *first == self.begin && *last == self.end => {
                Ok(Some(begin.start..end.end))
            }
            _ => Err(marks.into_iter().map(|(number, ..)| number).collect()),
        }
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
