//! Numbers in base 62, alphabet `0-9A-Za-z`, most significant digit first, padded with `0`.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Writes the number whose big-endian bytes are `number` into exactly `out.len()` digits.
/// Digits that do not fit are dropped from the front, so the caller picks a length that holds it.
pub(super) fn encode(number: &mut [u8], out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
}

pub(super) fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(number: u64, digits: usize) -> String {
        let mut out = vec![0; digits];
        encode(&mut number.to_be_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_the_most_significant_digit_first_and_pads_with_zero() {
        assert_eq!(encoded(0, 6), "000000");
        assert_eq!(encoded(9, 2), "09");
        assert_eq!(encoded(10, 2), "0A");
        assert_eq!(encoded(35, 2), "0Z");
        assert_eq!(encoded(36, 2), "0a");
        assert_eq!(encoded(61, 2), "0z");
        assert_eq!(encoded(62, 2), "10");
        assert_eq!(encoded(u64::from(u32::MAX), 6), "4gfFC3");
    }
}
