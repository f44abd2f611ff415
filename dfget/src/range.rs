//! A part of content as people name it: `A-B`, `A-`, `-N`, as in curl and in HTTP; both ends count.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use dragonfly_core::ErrorKind;

use crate::error::Failure;

/// A part of content whose length is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// From the first to the last byte, or to the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

impl FromStr for ByteRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("{text:?}: expected FIRST-LAST, FIRST- or -COUNT, in bytes");
        let number = |text: &str| text.parse::<u64>().map_err(|_| malformed());
        let (first, last) = text.split_once('-').ok_or_else(malformed)?;
        let range = match (first, last) {
            ("", count) => Self::Last(number(count)?),
            (first, "") => Self::From(number(first)?, None),
            (first, last) => Self::From(number(first)?, Some(number(last)?)),
        };
        match range {
            Self::From(first, Some(last)) if last < first => Err(format!("{text:?} ends before it starts")),
            Self::Last(0) => Err(format!("{text:?} names no byte")),
            range => Ok(range),
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(first, Some(last)) => write!(f, "{first}-{last}"),
            Self::From(first, None) => write!(f, "{first}-"),
            Self::Last(count) => write!(f, "-{count}"),
        }
    }
}

impl ByteRange {
    /// The part of content of this length; what is beyond its end is left out. An error if nothing remains.
    pub(crate) fn within(self, length: u64) -> Result<Range<u64>, Failure> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        if range.start >= range.end {
            let message = format!("the range starts at byte {}, the content has {length}", range.start);
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_of_content() {
        let part = |text: &str| {
            let range: ByteRange = text.parse().unwrap();
            assert_eq!(range.to_string(), text);
            range.within(10).ok()
        };
        assert_eq!(part("0-0"), Some(0..1));
        assert_eq!(part("2-5"), Some(2..6));
        assert_eq!(part("2-"), Some(2..10));
        assert_eq!(part("-3"), Some(7..10));
        assert_eq!(part("-30"), Some(0..10));
        assert_eq!(part("8-100"), Some(8..10));
        assert_eq!(part("10-"), None);
        for wrong in ["", "-", "5", "5-2", "-0", "a-b", "1-2-3", " 1-2"] {
            assert!(wrong.parse::<ByteRange>().is_err(), "{wrong}");
        }
    }
}
