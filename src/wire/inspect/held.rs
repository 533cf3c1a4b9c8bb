//! The pieces of a body that are held until it is judged.

use bytes::{Bytes, BytesMut};

/// Pieces shorter than this are copied together: each piece kept as it came costs its own
/// bookkeeping, and pins the buffer of the connection it was read into.
const SMALL_PIECE: usize = 4 * 1024;

/// A body, or a message of one, as it came and without copies of its long pieces. What short pieces
/// cost is bounded by their length: 8 MiB that come byte by byte are held in little more than that.
#[derive(Debug, Default)]
pub struct Held {
    pieces: Vec<Bytes>,
    /// Short pieces since the last of `pieces`.
    short: BytesMut,
    length: usize,
}

impl Held {
    /// Holds a further piece.
    pub fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        if piece.len() < SMALL_PIECE {
            self.short.extend_from_slice(&piece);
        } else {
            self.finish_short();
            self.pieces.push(piece);
        }
    }

    /// How many bytes are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All that was held, in the order it came.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.finish_short();
        self.pieces
    }

    fn finish_short(&mut self) {
        if !self.short.is_empty() {
            self.pieces.push(std::mem::take(&mut self.short).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_kept_in_order() {
        let long = Bytes::from(vec![7; SMALL_PIECE]);
        let mut held = Held::default();
        assert!(held.is_empty());
        for piece in [&b"a"[..], b"", b"bc"] {
            held.push(Bytes::copy_from_slice(piece));
        }
        held.push(long.clone());
        held.push(long.clone());
        held.push(Bytes::from_static(b"d"));
        assert_eq!(held.len(), 4 + 2 * SMALL_PIECE);
        let pieces = held.into_pieces();
        assert_eq!(pieces, [Bytes::from_static(b"abc"), long.clone(), long.clone(), "d".into()]);
        assert_eq!(pieces[1].as_ptr(), long.as_ptr(), "long pieces are not copied");
    }

    #[test]
    fn many_short_pieces_are_one() {
        let mut held = Held::default();
        for _ in 0..100_000 {
            held.push(Bytes::from_static(b"x"));
        }
        assert_eq!(held.into_pieces().len(), 1);
    }
}
