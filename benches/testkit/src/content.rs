//! Pseudo-random content of any length, addressed by a seed: any range of it can be computed on its own.

use bytes::Bytes;
use sha2::Digest as _;

/// Bytes that one counter value yields.
const BLOCK: u64 = 64;

/// The largest buffer that the digests work with.
const STEP: u64 = 256 * 1024;

/// Fills `out` with the content of `seed` from byte `offset` on. A few GB/s.
pub fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    let mut position = offset;
    let mut rest = out;
    while !rest.is_empty() {
        let block = block(seed, position / BLOCK);
        let from = (position % BLOCK) as usize;
        let take = rest.len().min(block.len() - from);
        let (now, later) = rest.split_at_mut(take);
        now.copy_from_slice(&block[from..from + take]);
        position += take as u64;
        rest = later;
    }
}

/// `len` bytes of the content of `seed` from byte `offset` on.
pub fn bytes(seed: u64, offset: u64, len: usize) -> Bytes {
    let mut out = vec![0; len];
    fill(seed, offset, &mut out);
    out.into()
}

/// The BLAKE3 hash of the first `len` bytes of the content of `seed`.
pub fn blake3(seed: u64, len: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    each_step(seed, len, |part| {
        hasher.update(part);
    });
    *hasher.finalize().as_bytes()
}

/// The SHA-256 hash of the first `len` bytes of the content of `seed`.
pub fn sha256(seed: u64, len: u64) -> [u8; 32] {
    let mut hasher = sha2::Sha256::new();
    each_step(seed, len, |part| hasher.update(part));
    hasher.finalize().into()
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn each_step(seed: u64, len: u64, mut use_part: impl FnMut(&[u8])) {
    let mut buffer = vec![0; len.min(STEP) as usize];
    let mut position = 0;
    while position < len {
        let take = (len - position).min(STEP) as usize;
        fill(seed, position, &mut buffer[..take]);
        use_part(&buffer[..take]);
        position += take as u64;
    }
}

/// The 64 bytes with this number: the finaliser of splitmix64 over eight consecutive counters.
fn block(seed: u64, number: u64) -> [u8; BLOCK as usize] {
    let mut out = [0; BLOCK as usize];
    let base = mix(seed ^ 0x6472_6167_6f6e_666c).wrapping_add(number.wrapping_mul(8));
    for (i, word) in out.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&mix(base.wrapping_add(i as u64)).to_le_bytes());
    }
    out
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
