//! Header compression (RFC 7541), as much of it as a test needs: the plainest encoding, and a decoder for everything.

use crate::support::http1::Fields;

/// Encodes each field as a literal that is not indexed, its text as it stands. Nothing is checked, so a test can say
/// what no library would.
pub(crate) fn encode(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            integer(&mut block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

fn integer(block: &mut Vec<u8>, high: u8, bits: u32, mut value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        block.push(high | u8::try_from(value).unwrap());
        return;
    }
    block.push(high | u8::try_from(most).unwrap());
    value -= most;
    while value >= 128 {
        block.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    block.push(u8::try_from(value).unwrap());
}

/// What a peer's encoder has put into the table so far.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The newest first.
    table: Vec<(String, String)>,
}

impl Decoder {
    /// # Panics
    /// When the block is malformed.
    pub(crate) fn decode(&mut self, mut block: &[u8]) -> Fields {
        let mut fields = Fields::new();
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut block, 7);
                fields.push(self.entry(index));
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut block, 6);
                self.table.insert(0, field.clone());
                fields.push(field);
            } else if first & 0x20 != 0 {
                // The size that the peer keeps to. Entries it has evicted it names no more, so keeping them is harmless
                // but for size 0, after which numbering starts anew.
                if take_integer(&mut block, 5) == 0 {
                    self.table.clear();
                }
            } else {
                fields.push(self.literal(&mut block, 4));
            }
        }
        fields
    }

    fn entry(&self, index: usize) -> (String, String) {
        let (name, value) = match STATIC_TABLE.get(index - 1) {
            Some((name, value)) => (*name, *value),
            None => {
                let (name, value) = &self.table[index - 1 - STATIC_TABLE.len()];
                (name.as_str(), value.as_str())
            }
        };
        (name.to_owned(), value.to_owned())
    }

    fn literal(&self, block: &mut &[u8], bits: u32) -> (String, String) {
        let index = take_integer(block, bits);
        let name = if index == 0 { take_text(block) } else { self.entry(index).0 };
        (name, take_text(block))
    }
}

fn take_byte(block: &mut &[u8]) -> u8 {
    let (&first, rest) = block.split_first().expect("a longer header block");
    *block = rest;
    first
}

fn take_integer(block: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut value = usize::from(take_byte(block)) & most;
    if value < most {
        return value;
    }
    let mut shift = 0;
    loop {
        let byte = usize::from(take_byte(block));
        value += (byte & 127) << shift;
        shift += 7;
        if byte & 128 == 0 {
            return value;
        }
    }
}

fn take_text(block: &mut &[u8]) -> String {
    let is_huffman = block.first().expect("a text") & 0x80 != 0;
    let length = take_integer(block, 7);
    let (text, rest) = block.split_at(length);
    *block = rest;
    let text = if is_huffman { huffman_decoded(text) } else { text.to_vec() };
    String::from_utf8_lossy(&text).into_owned()
}

/// The code is canonical: codes of one length follow each other in the order of their symbols, and so do the lengths.
fn huffman_decoded(text: &[u8]) -> Vec<u8> {
    let mut symbols: Vec<u8> = (0..=255).collect();
    symbols.sort_by_key(|&symbol| (CODE_LENGTHS[usize::from(symbol)], symbol));
    let mut decoded = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u32);
    // The first code of the present length, and the place of its symbol.
    let (mut first, mut place) = (0_u32, 0_usize);
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        first <<= 1;
        let of_length = symbols[place..]
            .iter()
            .take_while(|&&symbol| u32::from(CODE_LENGTHS[usize::from(symbol)]) == length)
            .count();
        let offset = usize::try_from(code - first).unwrap();
        if offset < of_length {
            decoded.push(symbols[place + offset]);
            (code, length, first, place) = (0, 0, 0, 0);
        } else {
            first += u32::try_from(of_length).unwrap();
            place += of_length;
        }
    }
    decoded
}

/// RFC 7541, appendix B: how many bits the code of each byte has.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5,
    7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22,
    22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22,
    21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26,
    26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20,
    24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27,
    27, 28, 27, 27, 27, 27, 27, 26,
];

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[test]
fn the_examples_of_the_standard_are_read() {
    // RFC 7541, C.4.1 and C.6.1: Huffman-coded, with the table.
    let mut decoder = Decoder::default();
    let block = [
        0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90,
        0xf4, 0xff,
    ];
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let request = [
        field(":method", "GET"),
        field(":scheme", "http"),
        field(":path", "/"),
        field(":authority", "www.example.com"),
    ];
    assert_eq!(decoder.decode(&block), request);
    assert_eq!(decoder.decode(&[0xbe]), [field(":authority", "www.example.com")]);
    assert_eq!(
        decoder.decode(&encode(&[("a", b"b"), ("long", &[b'x'; 300])])),
        [field("a", "b"), field("long", &"x".repeat(300)),]
    );
}
