//! Layout, have-map, manifest and digests against models.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::task::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Deterministic bytes in which no two pieces are alike.
fn bytes(length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn values(layout: &Layout, content: &[u8]) -> Vec<PieceHash> {
    let piece = |i| {
        let range = layout.range_of(i).unwrap();
        hash_piece(layout, i, &content[range.start as usize..range.end as usize]).unwrap()
    };
    (0..layout.pieces()).map(piece).collect()
}

#[test]
fn piece_values_merge_to_the_hash_of_the_content() {
    for piece_length in [64 * KIB, 128 * KIB, MIB] {
        let p = piece_length;
        for length in [0, 1, 1023, 1025, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, p - 1, p, p + 1, 2 * p, 3 * p, 5 * p + 7]
        {
            let content = bytes(length as usize);
            let layout = Layout::new(length, piece_length).unwrap();
            let root = *blake3::hash(&content).as_bytes();
            assert_eq!(root_of(&values(&layout, &content)), root, "{length} in {piece_length}");
        }
    }
}

#[test]
fn a_manifest_knows_what_it_learnt() {
    let layout = Layout::new(3 * 64 * KIB, 64 * KIB).unwrap();
    let mut manifest = Manifest::new(layout);
    assert_eq!(manifest.learn(1, [1; 32]), Learnt::New);
    assert_eq!(manifest.learn(1, [1; 32]), Learnt::Same);
    assert_eq!(manifest.learn(1, [2; 32]), Learnt::Conflict);
    assert_eq!(manifest.value(1), Some(&[1; 32]), "a conflict changes nothing");
    assert_eq!(manifest.learn(3, [1; 32]), Learnt::OutOfRange);
    assert_eq!(manifest.learn(0, [0; 32]), Learnt::New);
    assert_eq!((manifest.known(), manifest.root()), (2, None));
    manifest.forget(1);
    manifest.forget(1);
    manifest.forget(9);
    assert_eq!((manifest.known(), manifest.value(1)), (1, None));
    manifest.learn(1, [1; 32]);
    manifest.learn(2, [2; 32]);
    assert_eq!(manifest.root(), Some(root_of(&[[0; 32], [1; 32], [2; 32]])));
}

#[test]
fn digests_have_their_known_answers() {
    // "abc": RFC 1321 A.5, FIPS 180-2 B.1 and C.1, the BLAKE3 reference; CRC-32C of "123456789": RFC 3720 B.4's polynomial.
    for (algorithm, input, hex) in [
        (Algorithm::Md5, "abc", "900150983cd24fb0d6963f7d28e17f72"),
        (Algorithm::Sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Algorithm::Sha512,
            "abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (Algorithm::Blake3, "abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
        (Algorithm::Blake3, "", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (Algorithm::Crc32c, "123456789", "e3069283"),
    ] {
        let mut hasher = DigestHasher::new(algorithm);
        let (a, b) = input.as_bytes().split_at(input.len() / 2);
        hasher.update(a);
        hasher.update(b);
        assert_eq!(hasher.finish().to_string(), format!("{}:{hex}", algorithm.name()));
    }
}

#[test]
fn text_that_is_no_digest_is_refused() {
    for text in
        ["", "sha256", "sha256:", "sha256:ab", "SHA256:00", "crc32c:0000000", "crc32c:0000000g", "x:00", "md5 :"]
    {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
    let upper: Digest = "crc32c:ABCDEF01".parse().unwrap();
    assert_eq!(upper.to_string(), "crc32c:abcdef01");
}

proptest! {
    #[test]
    fn pieces_tile_the_content(length in 0..=20 * MIB, shift in 0_u32..6) {
        let layout = Layout::new(length, (64 * KIB) << shift).unwrap();
        let mut at = 0;
        for index in 0..layout.pieces() {
            let range = layout.range_of(index).unwrap();
            prop_assert_eq!(range.start, at);
            prop_assert!(!range.is_empty());
            prop_assert_eq!(layout.pieces_of(range.clone()), index..index + 1);
            prop_assert_eq!(layout.length_of(index), Some(range.end - range.start));
            at = range.end;
        }
        prop_assert_eq!(at, length);
        prop_assert_eq!(layout.range_of(layout.pieces()), None);
        prop_assert_eq!(layout.length_of(u32::MAX), None);
    }

    #[test]
    fn pieces_of_is_what_overlaps(length in 0..=4 * MIB, start in 0..=5 * MIB, n in 0..=2 * MIB) {
        let layout = Layout::new(length, 64 * KIB).unwrap();
        let found: Vec<u32> = layout.pieces_of(start..start + n).collect();
        let overlap = |i: &u32| {
            let range = layout.range_of(*i).unwrap();
            range.start < start + n && start < range.end
        };
        let expected: Vec<u32> = (0..layout.pieces()).filter(|i| n > 0 && overlap(i)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn piece_lengths_grow_with_the_content_and_keep_the_rules(a in 0_u64..=1 << 62, shift in 0_u32..62, b in 0_u64..=1 << 62) {
        let (a, b) = ((a >> shift).min(b), (a >> shift).max(b));
        prop_assert!(piece_length_for(a) <= piece_length_for(b));
        for length in [a, b] {
            let piece_length = piece_length_for(length);
            prop_assert!(piece_length.is_power_of_two() && piece_length >= 64 * KIB);
            prop_assert!(length.div_ceil(piece_length) <= u64::from(PIECES_MAX));
            prop_assert!(piece_length <= 4 * MIB || length > 2 * MIB * u64::from(PIECES_MAX));
            prop_assert!(Layout::of_length(length).is_ok());
        }
    }

    #[test]
    fn a_claimed_layout_is_valid_or_refused(length: u64, shift in 0_u32..64, odd: u64, index: u32, bytes: (u64, u64)) {
        prop_assert!(Layout::new(length, odd).is_err() || odd.is_power_of_two());
        if let Ok(layout) = Layout::new(length >> (shift / 2), 1 << shift) {
            prop_assert!(layout.pieces() <= PIECES_MAX);
            prop_assert_eq!(layout.range_of(index).is_some(), index < layout.pieces());
            prop_assert!(layout.pieces_of(bytes.0..bytes.1).end <= layout.pieces());
        }
    }

    #[test]
    fn a_have_map_is_a_set(pieces in 0_u32..300, steps in proptest::collection::vec((0_u8..4, 0_u32..310, 0_u32..80), 0..60)) {
        let (mut map, mut model) = (HaveMap::empty(pieces), BTreeSet::new());
        for (kind, index, n) in steps {
            match kind {
                0 => prop_assert_eq!(map.insert(index), index < pieces && model.insert(index)),
                1 => prop_assert_eq!(map.remove(index), model.remove(&index)),
                2 => {
                    map.insert_range(index..index + n);
                    model.extend((index..index + n).filter(|i| *i < pieces));
                }
                _ => {
                    prop_assert_eq!(map.contains(index), model.contains(&index));
                    prop_assert_eq!(map.next(index, true), model.range(index..).next().copied());
                    prop_assert_eq!(map.next(index, false), (index..pieces).find(|i| !model.contains(i)));
                }
            }
            prop_assert_eq!(map.held() as usize, model.len());
            prop_assert_eq!(map.is_complete(), model.len() == pieces as usize);
            prop_assert!(map.iter().eq(model.iter().copied()));
            let runs: Vec<_> = map.runs().collect();
            prop_assert!(runs.iter().all(|run| !run.is_empty()));
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "runs are maximal");
        }
        prop_assert!(HaveMap::full(pieces).is_complete());
    }

    #[test]
    fn a_root_is_the_hash_whatever_the_lengths(length in 0_usize..=600 << 10, shift in 0_u32..3) {
        let content = bytes(length);
        let layout = Layout::new(length as u64, (64 * KIB) << shift).unwrap();
        prop_assert_eq!(root_of(&values(&layout, &content)), *blake3::hash(&content).as_bytes());
    }

    #[test]
    fn a_piece_hasher_neither_panics_nor_takes_a_byte_too_many(
        length in 0..=300 * KIB, made_for in prop_oneof![0_u32..6, any::<u32>()], index in prop_oneof![0_u32..6, any::<u32>()],
        piece_length in prop_oneof![Just(64 * KIB), (0_u32..64).prop_map(|n| 1 << n), any::<u64>()],
        parts in proptest::collection::vec(prop_oneof![0_usize..=100 << 10, Just(44 << 10), Just(64 << 10)], 0..4),
    ) {
        let layout = Layout::new(length, 64 * KIB).unwrap();
        let mut hasher = PieceHasher::new(made_for, piece_length);
        for part in parts {
            let before = hasher.taken();
            match hasher.update(&vec![0; part]) {
                Ok(()) => prop_assert_eq!(hasher.taken(), before + part as u64),
                Err(e) => prop_assert!(e.taken > e.expected && hasher.taken() == before),
            }
        }
        let taken = hasher.taken();
        prop_assert!(taken <= piece_length);
        if hasher.finish(&layout, index).is_ok() {
            prop_assert_eq!(layout.length_of(index), Some(taken));
        }
    }

    #[test]
    fn digests_print_and_parse(algorithm in proptest::sample::select(Algorithm::ALL.to_vec()), seed: [u8; 64], noise in "\\PC{0,20}") {
        let digest = Digest::new(algorithm, &seed[..algorithm.length()]).unwrap();
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        prop_assert!(Digest::new(algorithm, &seed[..algorithm.length() - 1]).is_none());
        let _ = noise.parse::<Digest>();
    }
}
