//! Which piece to ask a neighbour for: the reader's window in order, else the rarest.

use std::ops::Range;

use super::bits::Bits;
use super::pieces::{PieceState, Pieces};
use super::random::Random;
use crate::task::PieceIndex;

/// Candidates looked at for the rarest one. A task of the usual 1024 pieces is searched whole; of larger ones a
/// sample from a random place on, whose rarest piece is nearly as rare.
const SCAN_MAX: usize = 1024;

/// Pieces of a reader's window looked at: what a reader buffers is far less.
const WINDOW_MAX: u32 = 1024;

/// The run of missing pieces to ask a neighbour for that holds `theirs`: at most `count_max` pieces.
pub(super) fn choose(
    pieces: &Pieces,
    theirs: &Bits,
    window: &Range<PieceIndex>,
    count_max: u32,
    random: &mut Random,
) -> Option<Range<PieceIndex>> {
    let start = in_window(pieces, theirs, window).or_else(|| rarest(pieces, theirs, random))?;
    Some(extend(pieces, theirs, start, count_max))
}

/// The first missing piece of the window that the neighbour holds.
pub(super) fn in_window(pieces: &Pieces, theirs: &Bits, window: &Range<PieceIndex>) -> Option<PieceIndex> {
    let end = window.end.min(window.start.saturating_add(WINDOW_MAX));
    (window.start..end).find(|piece| pieces.missing().contains(*piece) && theirs.contains(*piece))
}

fn rarest(pieces: &Pieces, theirs: &Bits, random: &mut Random) -> Option<PieceIndex> {
    let start = random.below(pieces.have().pieces());
    let mut best = None;
    let mut ties = 0;
    for piece in pieces.missing().common(theirs, start).take(SCAN_MAX) {
        let holders = pieces.holders(piece);
        match best {
            Some((fewest, _)) if holders > fewest => continue,
            Some((fewest, _)) if holders == fewest => {
                // Each of the equally rare ones is kept with the same chance.
                ties += 1;
                if random.below(ties) == 0 {
                    best = Some((holders, piece));
                }
            }
            _ => {
                ties = 1;
                best = Some((holders, piece));
            }
        }
    }
    best.map(|(_, piece)| piece)
}

/// The run from `start` on of pieces that are missing, held by the neighbour and not more common than the first.
pub(super) fn extend(pieces: &Pieces, theirs: &Bits, start: PieceIndex, count_max: u32) -> Range<PieceIndex> {
    let rarity = pieces.holders(start);
    let mut end = start + 1;
    while end - start < count_max
        && pieces.is(end, PieceState::Missing)
        && theirs.contains(end)
        && pieces.holders(end) <= rarity
    {
        end += 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::HaveMap;

    fn full(pieces: u32) -> Bits {
        let mut bits = Bits::empty(pieces);
        (0..pieces).for_each(|piece| {
            bits.insert(piece);
        });
        bits
    }

    #[test]
    fn the_window_comes_first_and_in_order() {
        let mut pieces = Pieces::new(HaveMap::empty(100));
        pieces.set(40, PieceState::Requested);
        let run = choose(&pieces, &full(100), &(40..60), 1, &mut Random::new(1));
        assert_eq!(run, Some(41..42));
    }

    #[test]
    fn the_rarest_is_chosen_and_a_run_does_not_grow_into_common_pieces() {
        let mut pieces = Pieces::new(HaveMap::empty(200));
        for piece in 0..200 {
            for _ in 0..if (70..73).contains(&piece) { 1 } else { 2 } {
                pieces.holder_added(piece);
            }
        }
        for seed in 0..20 {
            let run = choose(&pieces, &full(200), &(0..0), 8, &mut Random::new(seed)).unwrap_or_default();
            assert!(run.start >= 70 && run.end == 73, "{run:?}");
        }
    }

    #[test]
    fn ties_are_broken_by_the_seed() {
        let pieces = Pieces::new(HaveMap::empty(1000));
        let picks: std::collections::BTreeSet<_> = (0..50)
            .filter_map(|seed| choose(&pieces, &full(1000), &(0..0), 1, &mut Random::new(seed)))
            .map(|run| run.start)
            .collect();
        assert!(picks.len() > 40, "{} different picks of 50", picks.len());
    }

    #[test]
    fn nothing_useful_gives_nothing() {
        let pieces = Pieces::new(HaveMap::full(10));
        assert_eq!(choose(&pieces, &full(10), &(0..10), 4, &mut Random::new(1)), None);
        let pieces = Pieces::new(HaveMap::empty(10));
        assert_eq!(choose(&pieces, &Bits::empty(10), &(0..10), 4, &mut Random::new(1)), None);
    }
}
