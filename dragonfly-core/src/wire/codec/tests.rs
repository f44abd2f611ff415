//! Tests of the codec: round trips of every message, golden bytes, and what a stranger may send.
#![allow(clippy::unwrap_used)]

mod golden;
mod hostile;
mod strategies;

use proptest::prelude::*;

use super::*;
use crate::wire::lane::Frame;

/// Everything that comes out of `bytes`, fed in parts of `part` bytes, and what is left over.
fn decode_all<T: Framed>(bytes: &[u8], part: usize) -> Result<(Vec<Decoded<T>>, usize), CodecError> {
    let (mut decoder, mut buffer, mut found) = (FrameDecoder::new(), BytesMut::new(), Vec::new());
    for part in bytes.chunks(part.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            let wanted = decoder.wanted(buffer.len());
            match decoder.next(&mut buffer)? {
                Some(message) => found.push(message),
                None => {
                    assert!(decoder.wanted(buffer.len()) > 0 || wanted > 0, "waits for nothing");
                    break;
                }
            }
        }
    }
    Ok((found, buffer.len()))
}

fn round_trip<T: Framed + PartialEq + std::fmt::Debug + Clone>(messages: &[T], part: usize) {
    let mut bytes = BytesMut::new();
    for message in messages {
        encode(message, &mut bytes).unwrap();
    }
    let (found, rest) = decode_all(&bytes, part).unwrap();
    assert_eq!(found, messages.iter().cloned().map(Decoded::Message).collect::<Vec<_>>());
    assert_eq!(rest, 0);
}

proptest! {
    #[test]
    fn messages_to_coordinators_round_trip(
        messages in proptest::collection::vec(strategies::to_coordinator(), 1..4), part in 1_usize..200,
    ) {
        round_trip(&messages, part);
    }

    #[test]
    fn messages_to_members_round_trip(
        messages in proptest::collection::vec(strategies::to_member(), 1..4), part in 1_usize..200,
    ) {
        round_trip(&messages, part);
    }

    #[test]
    fn lane_frames_round_trip(frames in proptest::collection::vec(strategies::frame(), 1..4), part in 1_usize..200) {
        round_trip(&frames, part);
    }

    #[test]
    fn statements_round_trip(
        grant in strategies::grant(), attestation in strategies::attestation(), seal in strategies::seal(),
    ) {
        prop_assert_eq!(&decode_statement::<crate::wire::statement::Grant>(&encode_statement(&grant).unwrap()).unwrap(), &grant);
        let bytes = encode_statement(&attestation).unwrap();
        prop_assert_eq!(decode_statement::<crate::wire::statement::Attestation>(&bytes).unwrap(), attestation);
        prop_assert_eq!(decode_statement::<crate::wire::statement::Seal>(&encode_statement(&seal).unwrap()).unwrap(), seal);
    }
}

#[test]
fn a_blocks_bytes_are_not_copied() {
    let block = Frame::Block { request: 1, piece: 2, offset: 3, bytes: Bytes::from(vec![9; BLOCK_BYTES_MAX]) };
    let mut buffer = BytesMut::new();
    encode(&block, &mut buffer).unwrap();
    let start = buffer.as_ptr() as usize;
    let found = FrameDecoder::<Frame>::new().next(&mut buffer).unwrap();
    assert_eq!(found, Some(Decoded::Message(block)));
    let Some(Decoded::Message(Frame::Block { bytes, .. })) = found else { panic!("no block") };
    assert_eq!(bytes.as_ptr() as usize, start + HEADER_BYTES + BLOCK_HEADER_BYTES);
}

/// Whether its head is taken apart or it is taken whole, and however its bytes arrive.
#[test]
fn a_blocks_head_is_had_before_its_bytes() {
    let bytes = Bytes::from_static(b"abc");
    let mut stream = BytesMut::new();
    encode(&Frame::Block { request: 1, piece: 2, offset: 3, bytes: bytes.clone() }, &mut stream).unwrap();
    let message = Frame::Message(crate::wire::lane::Message::Cancel { request: 4 });
    encode(&message, &mut stream).unwrap();
    let (mut decoder, mut buffer) = (FrameDecoder::<Frame>::new(), BytesMut::new());
    for byte in stream.split_to(HEADER_BYTES + BLOCK_HEADER_BYTES - 1) {
        buffer.extend_from_slice(&[byte]);
        assert_eq!(decoder.block(&mut buffer).unwrap(), None);
        assert_eq!(decoder.next(&mut buffer).unwrap(), None);
    }
    buffer.unsplit(stream);
    let head = decoder.block(&mut buffer).unwrap();
    assert_eq!(head, Some(BlockHead { request: 1, piece: 2, offset: 3, length: 3 }));
    assert!(decoder.is_between());
    assert_eq!(buffer.split_to(3), bytes);
    assert_eq!(decoder.block(&mut buffer).unwrap(), None, "a message is no block");
    assert_eq!(decoder.next(&mut buffer).unwrap(), Some(Decoded::Message(message)));
    assert!(buffer.is_empty());
}

#[test]
fn a_head_without_bytes_is_refused() {
    for length in [0, BLOCK_HEADER_BYTES] {
        let mut buffer = BytesMut::new();
        buffer.put_u32(length as u32);
        buffer.put_u8(Kind::Block.byte());
        assert!(matches!(FrameDecoder::<Frame>::new().block(&mut buffer), Err(CodecError::Frame(_))), "{length}");
    }
}

#[test]
fn a_header_made_apart_is_that_of_the_frame() {
    let bytes = Bytes::from_static(b"abc");
    let mut whole = BytesMut::new();
    encode(&Frame::Block { request: 1, piece: 2, offset: 3, bytes: bytes.clone() }, &mut whole).unwrap();
    assert_eq!(whole, [&block_header(1, 2, 3, 3).unwrap()[..], &bytes].concat());
    assert!(matches!(block_header(1, 2, 3, 0), Err(CodecError::Frame(_))));
    assert!(matches!(block_header(1, 2, 3, BLOCK_BYTES_MAX + 1), Err(CodecError::TooLong { .. })));
}

#[test]
fn what_is_wanted_is_what_is_missing() {
    let mut frame = BytesMut::new();
    encode(&ToCoordinator::KeepAlive, &mut frame).unwrap();
    let (mut decoder, mut buffer) = (FrameDecoder::<ToCoordinator>::new(), BytesMut::new());
    assert_eq!(decoder.wanted(2), 3);
    buffer.extend_from_slice(&frame[..HEADER_BYTES]);
    assert_eq!(decoder.next(&mut buffer).unwrap(), None);
    assert_eq!(decoder.wanted(buffer.len()), frame.len() - HEADER_BYTES);
    buffer.extend_from_slice(&frame[HEADER_BYTES..]);
    assert_eq!(decoder.next(&mut buffer).unwrap(), Some(Decoded::Message(ToCoordinator::KeepAlive)));
    assert_eq!(decoder.wanted(0), HEADER_BYTES);
}
