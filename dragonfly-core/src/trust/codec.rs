//! CBOR in and out, strict about what is left over.

use minicbor::{Decode, Encode};

/// Encodes `value`.
pub(super) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to a vector has no way to fail, and no type of ours refuses to be encoded.
    minicbor::to_vec(value).unwrap_or_else(|_| unreachable!("a vector takes every byte"))
}

/// Decodes a value that takes up all of `bytes`.
pub(super) fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Option<T> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().ok()?;
    (decoder.position() == bytes.len()).then_some(value)
}

/// Decodes a value that has exactly one encoding, this one. For what grants rights: a field that we do not know
/// may be a restriction, so it must not be ignored.
pub(super) fn decode_canonical<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8]) -> Option<T> {
    decode(bytes).filter(|value| encode(value) == bytes)
}
