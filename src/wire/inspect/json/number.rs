//! The numbers of JSON (RFC 8259, section 6).

/// How far a number was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// `-`
    Minus,
    /// A leading zero, which no digit may follow.
    Zero,
    /// Digits before the point.
    Whole,
    Point,
    /// Digits after the point.
    Fraction,
    /// `e` or `E`
    Power,
    /// The sign after it.
    PowerSign,
    /// Digits of the exponent.
    Exponent,
}

impl Number {
    /// The state after the first byte; none when no number starts with it.
    pub(super) fn start(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Whole),
            _ => None,
        }
    }

    /// Whether the number may end here.
    pub(super) fn is_complete(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Exponent)
    }

    /// Reads on, and gives back what is no part of the number; none when a digit follows a leading
    /// zero.
    pub(super) fn read(mut self, mut rest: &[u8]) -> Option<(Self, &[u8])> {
        while let Some((&byte, after)) = rest.split_first() {
            self = match (self, byte) {
                (Self::Minus, b'0') => Self::Zero,
                (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
                (Self::Zero, b'0'..=b'9') => return None,
                (Self::Zero | Self::Whole, b'.') => Self::Point,
                (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
                (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Power,
                (Self::Power, b'+' | b'-') => Self::PowerSign,
                (Self::Power | Self::PowerSign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
                _ => break,
            };
            rest = after;
        }
        Some((self, rest))
    }
}
