//! Reading the table.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

/// The table as it is in the file.
pub const TABLE: &str = include_str!("../cases.txt");

/// The table that a run is to go by: the one in the file that `DRAGONFLY_TABLE` names, or the table as it is.
///
/// # Errors
/// That file cannot be read.
pub fn given() -> anyhow::Result<String> {
    let Some(path) = std::env::var_os("DRAGONFLY_TABLE") else { return Ok(TABLE.to_owned()) };
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A line of the table.
#[derive(Clone, Debug)]
pub enum Row {
    /// What the origin serves under a path.
    Resource(Case),
    /// What must happen.
    Case(Case),
}

/// A name, what is done with it, and the rest.
#[derive(Clone, Debug)]
pub struct Case {
    /// A case's name, or a resource's path.
    pub name: String,
    /// What a case does; empty for a resource.
    pub operation: String,
    /// Everything else; a key without a value has an empty one.
    pub keys: BTreeMap<String, String>,
}

impl Case {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// The number that a key has.
    ///
    /// # Errors
    /// It has none.
    pub fn number(&self, key: &str) -> anyhow::Result<u64> {
        let value = self.get(key).with_context(|| format!("{}: no {key}", self.name))?;
        value.parse().with_context(|| format!("{}: {key}={value}", self.name))
    }
}

/// The rows of a table.
///
/// # Errors
/// A line is malformed.
pub fn table(text: &str) -> anyhow::Result<Vec<Row>> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(row).collect()
}

fn row(line: &str) -> anyhow::Result<Row> {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let mut word = || words.next().map(str::to_owned).with_context(|| format!("too short: {line}"));
    let name = word()?;
    let operation = if kind == "case" { word()? } else { String::new() };
    let pairs = words.map(|word| word.split_once('=').unwrap_or((word, "")));
    let keys = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let row = Case { name, operation, keys };
    match kind {
        "case" => Ok(Row::Case(row)),
        "resource" => Ok(Row::Resource(row)),
        _ => bail!("neither resource nor case: {line}"),
    }
}

/// CRC-32 as in zip: what every language has, or can have in ten lines.
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    let table: [u32; 256] = std::array::from_fn(|byte| (0..8).fold(byte as u32, |crc, _| step(crc)));
    !bytes.iter().fold(!0_u32, |crc, byte| (crc >> 8) ^ table[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    fn line_of(case: &Case) -> &'static str {
        TABLE.lines().find(|line| line.starts_with(&format!("case {} ", case.name))).unwrap_or_default()
    }

    /// A line with the checksum of this content, if it has one at all.
    fn with_crc(line: &str, case: &Case, content: &[u8]) -> String {
        match case.get("crc") {
            Some(given) => line.replace(&format!("crc={given}"), &format!("crc={:08x}", crc32(content))),
            None => line.to_owned(),
        }
    }

    /// The expected checksums are those of the content that the table itself describes. `DRAGONFLY_BLESS=1` fills in
    /// those that are a question mark.
    #[test]
    fn the_table_agrees_with_itself() -> anyhow::Result<()> {
        let rows = table(TABLE)?;
        let mut text = TABLE.to_owned();
        for row in &rows {
            let Row::Case(case) = row else { continue };
            if case.operation == "source" && case.get("crc").is_some() {
                let content: Vec<u8> = (0..case.number("length")?).map(|at| (at % 251) as u8).collect();
                text = text.replace(line_of(case), &with_crc(line_of(case), case, &content));
            }
            let Some(path) = case.get("path") else { continue };
            let Some(resource) = rows.iter().find_map(|row| match row {
                Row::Resource(resource) if resource.name == path => Some(resource),
                _ => None,
            }) else {
                assert_eq!(case.get("error"), Some("not_found"), "{}", case.name);
                continue;
            };
            let length = resource.number("length")?;
            let content = dragonfly_testkit::content::bytes(resource.number("seed")?, 0, length as usize);
            let line = line_of(case);
            let mut right = with_crc(line, case, &content);
            if case.name == "digest_right" {
                let sum = dragonfly_testkit::content::hex(&dragonfly_testkit::content::sha256(
                    resource.number("seed")?,
                    length,
                ));
                let given = case.get("digest").unwrap_or_default();
                right = right.replace(&format!("digest={given}"), &format!("digest=sha256:{sum}"));
            }
            for read in case.get("reads").into_iter().flat_map(|reads| reads.split(',')) {
                let (place, given) = read.split_once(':').context("a read without its checksum")?;
                let (offset, count) = place.split_once('+').context("a read without its length")?;
                let (offset, count): (usize, usize) = (offset.parse()?, count.parse()?);
                let sum = crc32(&content[offset..(offset + count).min(content.len())]);
                right = right.replacen(&format!("{place}:{given}"), &format!("{place}:{sum:08x}"), 1);
            }
            text = text.replace(line, &right);
        }
        if std::env::var_os("DRAGONFLY_BLESS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/cases.txt"), &text)?;
            return Ok(());
        }
        assert_eq!(text, TABLE);
        Ok(())
    }
}
