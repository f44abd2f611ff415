//! What is fuzzed: everything that reads bytes of somebody else's. Not part of the API.
//!
//! Each target reads any bytes without panicking, and what it understood it writes and reads again as the same. The
//! harness for libFuzzer is in `fuzz/`, a driver that needs no instrumentation in `examples/mutate.rs`, and the
//! corpora of `fuzz/corpus` are replayed by the tests.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use bytes::BytesMut;

use crate::Token;
use crate::task::HaveMap;
use crate::trust::statement::{open_attestation, open_grant, open_seal};
use crate::wire::Address;
use crate::wire::codec::{self, Decoded, FrameDecoder, Framed, decode_statement, encode_statement};
use crate::wire::control::{ToCoordinator, ToMember};
use crate::wire::lane::{Frame, Message, request_values};
use crate::wire::statement::{Evidence, Signed};

/// One way in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Reads the bytes; a panic is a fault.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "control", run: control },
    Target { name: "lane", run: lane },
    Target { name: "statement", run: statement },
    Target { name: "token", run: token },
    Target { name: "address", run: address },
    Target { name: "header", run: crate::source::read_headers },
    Target { name: "have", run: have },
    Target { name: "index", run: crate::store::read_rows },
];

/// What clients ask of a gateway, and what it is told: a target of the programs, whose library always has it.
#[cfg(feature = "gateway")]
pub const GATEWAY: Target = Target { name: "gateway", run: crate::gateway::read_lines };

/// Frames of control streams, either way.
fn control(data: &[u8]) {
    frames::<ToCoordinator>(data);
    frames::<ToMember>(data);
}

/// Frames of lanes.
fn lane(data: &[u8]) {
    for frame in frames::<Frame>(data) {
        if let Frame::Message(Message::Request { values, .. }) = frame {
            let _ = request_values(&values);
        }
    }
    blocks(data);
}

/// Lanes take a block's bytes by its head, as they come: that finds what reading whole frames finds.
fn blocks(data: &[u8]) {
    let (mut whole, mut decoder) = (BytesMut::from(data), FrameDecoder::<Frame>::new());
    let (mut part, mut heads) = (BytesMut::new(), FrameDecoder::<Frame>::new());
    let mut rest = data.chunks(7);
    while let Ok(Some(frame)) = decoder.next(&mut whole) {
        let same = loop {
            match heads.block(&mut part) {
                Ok(Some(head)) => {
                    while part.len() < head.length {
                        part.extend_from_slice(rest.next().unwrap_or_else(|| panic!("{frame:?} ends too late")));
                    }
                    let bytes = part.split_to(head.length).freeze();
                    break Decoded::Message(Frame::Block {
                        request: head.request,
                        piece: head.piece,
                        offset: head.offset,
                        bytes,
                    });
                }
                Ok(None) => {}
                Err(error) => panic!("{frame:?} is refused by its head: {error}"),
            }
            match heads.next(&mut part) {
                Ok(Some(same)) => break same,
                Ok(None) => part.extend_from_slice(rest.next().unwrap_or_else(|| panic!("{frame:?} ends too late"))),
                Err(error) => panic!("{frame:?} is refused in parts: {error}"),
            }
        };
        match (&frame, &same) {
            (Decoded::Message(frame), Decoded::Message(same)) => assert_eq!(frame, same),
            (Decoded::Ignored, Decoded::Ignored) => {}
            _ => panic!("{frame:?} is {same:?} in parts"),
        }
    }
}

/// Reads frames until one is bad. What was read is written and read again.
fn frames<T: Framed + PartialEq + std::fmt::Debug>(data: &[u8]) -> Vec<T> {
    let (mut buffer, mut decoder) = (BytesMut::from(data), FrameDecoder::<T>::new());
    let mut read = Vec::new();
    while let Ok(Some(frame)) = decoder.next(&mut buffer) {
        let Decoded::Message(message) = frame else { continue };
        let mut again = BytesMut::new();
        if codec::encode(&message, &mut again).is_ok() {
            match FrameDecoder::<T>::new().next(&mut again) {
                Ok(Some(Decoded::Message(same))) => assert_eq!(same, message),
                other => panic!("{message:?} is read again as {other:?}"),
            }
        }
        read.push(message);
    }
    read
}

/// Signed statements, and evidence as it is kept with an entry.
fn statement(data: &[u8]) {
    if let Ok(item) = decode_statement::<Evidence>(data)
        && let Ok(bytes) = encode_statement(&item)
    {
        assert_eq!(decode_statement::<Evidence>(&bytes).ok(), Some(item));
    }
    let signed = Signed(data.to_vec());
    let _ = (open_grant(&signed), open_attestation(&signed), open_seal(&signed));
}

/// Join tokens as text.
fn token(data: &[u8]) {
    if let Ok(token) = String::from_utf8_lossy(data).parse::<Token>() {
        let text = token.to_text();
        assert_eq!(text.parse::<Token>().map(|token| token.to_text()).ok(), Some(text));
    }
}

/// Addresses, as text and as bytes.
fn address(data: &[u8]) {
    if let Ok(address) = String::from_utf8_lossy(data).parse::<Address>() {
        let _ = (address.peer(), address.ip());
        assert_eq!(address.to_string().parse::<Address>().ok(), Some(address));
    }
    if let Ok(address) = minicbor::decode::<Address>(data) {
        let _ = (address.peer(), address.ip(), address.without_peer().to_string());
    }
}

/// Have-map deltas: runs as a lane's messages carry them, applied to a map whose size the first two bytes say.
fn have(data: &[u8]) {
    let Some((size, rest)) = data.split_first_chunk::<2>() else { return };
    let pieces = u32::from(u16::from_le_bytes(*size));
    let mut map = HaveMap::empty(pieces);
    for frame in frames::<Frame>(rest) {
        let (runs, gain) = match frame {
            Frame::Message(Message::Have { runs, .. } | Message::Allot { runs, .. }) => (runs, true),
            Frame::Message(Message::Lost { runs, .. }) => (runs, false),
            _ => continue,
        };
        for range in runs.iter().filter_map(|run| run.range()).filter(|range| range.end <= pieces) {
            for piece in range {
                if gain {
                    map.insert(piece)
                } else {
                    map.remove(piece)
                };
            }
        }
    }
    let held: u32 = map.runs().map(|run| run.end - run.start).sum();
    assert_eq!((held, held == pieces), (map.held(), map.is_complete()));
    assert!(map.iter().all(|piece| piece < pieces && map.contains(piece)));
}

/// The inputs of a target's corpus, in the order of their names. `corpora` is the directory with one for each target.
///
/// # Errors
/// A file or directory cannot be read.
pub fn inputs(corpora: &Path, target: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for file in fs::read_dir(corpora.join(target))? {
        paths.push(file?.path());
    }
    paths.sort();
    paths.into_iter().map(fs::read).collect()
}

/// Feeds changed inputs of a target's corpus to it for `span`: no instrumentation, any toolchain. How many there were.
///
/// # Errors
/// The corpus cannot be read.
pub fn drive(corpora: &Path, target: Target, span: Duration) -> io::Result<u64> {
    let inputs = inputs(corpora, target.name)?;
    let (started, mut runs) = (Instant::now(), 0_u64);
    while started.elapsed() < span && !inputs.is_empty() {
        for _ in 0..100 {
            // The number alone tells the input: a panic's number of runs is enough to have it again.
            let input = &inputs[runs as usize % inputs.len()];
            let other = &inputs[(runs as usize / inputs.len()) % inputs.len()];
            (target.run)(&mutate(runs, input, other));
            runs += 1;
        }
    }
    Ok(runs)
}

/// A change of `input` that `seed` draws: flips, cuts, repeats, numbers at their bounds, and parts of `other`.
pub fn mutate(seed: u64, input: &[u8], other: &[u8]) -> Vec<u8> {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    let mut random = SmallRng::seed_from_u64(seed);
    let mut out = input.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=out.len());
        match random.random_range(0..8) {
            0 => out.insert(at, random.random()),
            1 => out.truncate(at),
            2 if at < out.len() => out[at] ^= 1 << random.random_range(0..8),
            3 if at < out.len() => out[at] = [0, 1, 0x7f, 0x80, 0xff, 0x1b, 0x9f, 0xbf][random.random_range(0..8)],
            4 => {
                let end = random.random_range(at..=out.len());
                let part = out[at..end].to_vec();
                out.splice(at..at, part);
            }
            5 => {
                let end = random.random_range(at..=out.len().min(at + 16));
                out.drain(at..end);
            }
            6 if !other.is_empty() => {
                let from = random.random_range(0..other.len());
                let to = random.random_range(from..=other.len());
                out.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let numbers = [0, 1, u64::from(u32::MAX), u64::MAX, 1 << 63, 65_536];
                let bytes = numbers[random.random_range(0..numbers.len())].to_be_bytes();
                let width = [1, 2, 4, 8][random.random_range(0..4)];
                out.splice(at..at, bytes[8 - width..].iter().copied());
            }
        }
    }
    // Longer than any frame teaches nothing.
    out.truncate(512 << 10);
    out
}
