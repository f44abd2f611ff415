//! What is fuzzed of the programs; see `dragonfly_core::fuzz`. Not part of the API.

use dragonfly_core::fuzz::{GATEWAY, Target};

use crate::daemon::config::{print, resolve_text};
use crate::range::ByteRange;

/// All of them.
pub const TARGETS: [Target; 3] =
    [Target { name: "config", run: config }, GATEWAY, Target { name: "range", run: range }];

/// The daemon's configuration as TOML and as YAML. What was understood is printed and understood again as the same.
fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for yaml in [false, true] {
        let Ok((_, settings)) = resolve_text(&text, yaml) else { continue };
        let Ok(printed) = print(&settings) else { continue };
        let again = match resolve_text(&printed, false) {
            Ok((_, again)) => again,
            Err(refused) => panic!("what was printed is refused: {refused:?}\n{printed}"),
        };
        let mut changed = again.changed(&settings);
        // What is worked out at the start, and what is a secret, is not printed as it was.
        changed.retain(|key| key != "join" && settings.is_from_file(key));
        assert!(changed.is_empty(), "understood as something else: {changed:?}\n{printed}");
    }
}

/// A part of content as people name it. What was understood is written and understood again as the same.
fn range(data: &[u8]) {
    if let Ok(range) = String::from_utf8_lossy(data).parse::<ByteRange>() {
        assert_eq!(range.to_string().parse::<ByteRange>(), Ok(range));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use dragonfly_core::fuzz::{inputs, mutate};

    use super::*;

    /// Changes tried on each file of the corpus.
    const CHANGES: u64 = 200;

    #[test]
    fn the_corpus_is_replayed_and_its_changes_are_read_without_a_panic() {
        for target in TARGETS {
            let inputs = inputs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"), target.name).unwrap();
            assert!(inputs.len() >= 5, "the corpus of {} has {} inputs", target.name, inputs.len());
            for (number, input) in (0..).zip(&inputs) {
                (target.run)(input);
                for change in 0..CHANGES {
                    let other = &inputs[change as usize % inputs.len()];
                    (target.run)(&mutate(number << 32 | change, input, other));
                }
            }
        }
    }

    /// The corpus is about something: most of it is understood.
    #[test]
    fn the_corpus_has_what_is_understood_in_either_format() {
        let inputs = inputs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"), "config").unwrap();
        for yaml in [false, true] {
            let texts = inputs.iter().map(|input| String::from_utf8_lossy(input));
            let understood = texts.filter(|text| resolve_text(text, yaml).is_ok()).count();
            assert!(understood >= 2, "{understood} inputs are understood, yaml: {yaml}");
        }
    }

    /// Nothing that fits into a file that is read is too deep or too wide.
    #[test]
    fn deep_and_self_repeating_files_are_refused() {
        let deep = "a.".repeat(1 << 16) + "a = 1";
        let lists = format!("listen = {}", "[".repeat(1 << 17));
        let flow = format!("listen: {}", "[".repeat(1 << 17));
        let nested: String = (0..600).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        let names: Vec<String> = (b'b'..=b'z').map(|letter| char::from(letter).to_string()).collect();
        let mut laughs = "a: &a [x, x, x, x, x, x, x, x]\n".to_owned();
        let mut last = "a";
        for name in &names {
            laughs += &format!("{name}: &{name} [{}]\n", vec![format!("*{last}"); 8].join(", "));
            last = name;
        }
        for text in [deep, lists, flow, nested, laughs] {
            assert!(resolve_text(&text, false).is_err());
            assert!(resolve_text(&text, true).is_err());
        }
    }
}
