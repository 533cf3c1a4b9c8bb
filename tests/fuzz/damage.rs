//! Random changes to an input.

use fastrand::Rng;

/// What was damaged is no longer than this.
const MAX_BYTES: usize = 1500;

/// Numbers at which something changes.
const EDGES: &[u8] =
    &[0, 1, 2, 9, 10, 13, 31, 32, 34, 37, 47, 92, 127, 128, 191, 192, 194, 237, 255];

/// Damages an input in one to four places; `others` are inputs to take pieces from.
pub(crate) fn damaged(
    input: &[u8],
    others: &[Vec<u8>],
    words: &[&[u8]],
    random: &mut Rng,
) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..random.usize(1..=4) {
        let (start, end) = range(&input, random);
        match random.u8(..12) {
            0..=3 if !words.is_empty() => {
                let word = words[random.usize(..words.len())];
                let end = if random.bool() { start } else { end };
                input.splice(start..end, word.iter().copied());
            }
            4 if start < input.len() => input[start] ^= 1 << random.u8(..8),
            5 if start < input.len() => input[start] = EDGES[random.usize(..EDGES.len())],
            6 => input.insert(start, random.u8(..)),
            7 => drop(input.drain(start..end)),
            8 => {
                let piece = input[start..end].to_vec();
                let (place, _) = range(&input, random);
                input.splice(place..place, piece);
            }
            9 => {
                let piece = input[start..end].repeat(random.usize(1..=300));
                input.splice(end..end, piece.into_iter().take(MAX_BYTES));
            }
            10 if !others.is_empty() => {
                let other = &others[random.usize(..others.len())];
                let (from, to) = range(other, random);
                input.splice(start..end, other[from..to].iter().copied());
            }
            11 if random.bool() => input.truncate(start),
            _ => {}
        }
    }
    input.truncate(MAX_BYTES);
    input
}

/// A range, mostly a short one.
fn range(input: &[u8], random: &mut Rng) -> (usize, usize) {
    let start = random.usize(..=input.len());
    let longest = if random.u8(..4) == 0 { input.len() } else { 8 };
    (start, (start + random.usize(..=longest)).min(input.len()))
}
