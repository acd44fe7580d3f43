//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), one symbol a step.

/// Bits of each symbol's code, by symbol; the last is EOS. The code is canonical: codes of one
/// length are consecutive, in the order of their symbols, and so the lengths are all of it.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LONGEST: usize = 30;
const EOS: u16 = 256;
/// Codes up to this length, 75 symbols of text, are found in one look.
const SHORT: u32 = 8;

/// Everything that follows from [`LENGTHS`].
struct Code {
    /// By the first `SHORT` bits: symbol and length; length 0 when the code is longer.
    short: [(u8, u8); 1 << SHORT],
    /// By length: the first code of the next length, at the top of 32 bits.
    end: [u64; LONGEST + 1],
    /// By length: its first code, at the top of 32 bits.
    first: [u32; LONGEST + 1],
    /// By length: where its symbols start in `symbols`.
    start: [u16; LONGEST + 1],
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
}

static CODE: Code = Code::new();

/// Decodes a whole string, byte by byte into `sink`, and returns how many there were; `None` when
/// it has EOS in it or is not padded with less than eight ones.
pub(super) fn decode(bytes: &[u8], mut sink: impl FnMut(u8)) -> Option<usize> {
    let (mut rest, mut count) = (bytes, 0);
    // Bits that were read and not used yet, from the top.
    let (mut bits, mut held) = (0_u64, 0_u32);
    loop {
        if held <= 32
            && let Some((word, tail)) = rest.split_first_chunk()
        {
            bits |= u64::from(u32::from_be_bytes(*word)) << (32 - held);
            (held, rest) = (held + 32, tail);
        }
        while held < LONGEST as u32
            && let Some((byte, tail)) = rest.split_first()
        {
            bits |= u64::from(*byte) << (56 - held);
            (held, rest) = (held + 8, tail);
        }
        let (symbol, length) = CODE.next((bits >> 32) as u32)?;
        if length > held {
            break;
        }
        sink(symbol);
        (bits, held, count) = (bits << length, held - length, count + 1);
    }
    // What is left is no code: padding, the first bits of EOS.
    (held < 8 && bits == !(u64::MAX >> held)).then_some(count)
}

// === impl Code ===

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            short: [(0, 0); 1 << SHORT],
            end: [0; LONGEST + 1],
            first: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
            symbols: [0; 257],
        };
        let (mut next, mut filled, mut length) = (0_u64, 0, 1);
        while length <= LONGEST {
            code.first[length] = next as u32;
            code.start[length] = filled;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[filled as usize] = symbol as u16;
                    filled += 1;
                    let after = next + (1 << (32 - length));
                    if length <= SHORT as usize {
                        let mut at = (next >> (32 - SHORT)) as usize;
                        while at < (after >> (32 - SHORT)) as usize {
                            code.short[at] = (symbol as u8, length as u8);
                            at += 1;
                        }
                    }
                    next = after;
                }
                symbol += 1;
            }
            code.end[length] = next;
            length += 1;
        }
        code
    }

    /// The symbol that starts at the top of `bits`, and its length; `None` for EOS.
    fn next(&self, bits: u32) -> Option<(u8, u32)> {
        let (symbol, length) = self.short[(bits >> (32 - SHORT)) as usize];
        if length > 0 {
            return Some((symbol, u32::from(length)));
        }
        for length in SHORT as usize + 1..=LONGEST {
            if u64::from(bits) < self.end[length] {
                let offset = (bits - self.first[length]) >> (32 - length);
                let symbol = self.symbols[usize::from(self.start[length]) + offset as usize];
                return (symbol != EOS).then_some((symbol as u8, length as u32));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let count = decode(bytes, |byte| text.push(byte))?;
        assert_eq!(count, text.len());
        Some(text)
    }

    #[test]
    fn the_code_is_complete() {
        assert_eq!(CODE.end[LONGEST], 1 << 32);
        assert_eq!(CODE.symbols[256], EOS);
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7541 appendix C.4.1 and C.6.1.
        assert_eq!(
            decoded(&[
                0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff
            ]),
            Some(b"www.example.com".to_vec())
        );
        assert_eq!(decoded(&[0x64, 0x02]), Some(b"302".to_vec()));
        assert_eq!(decoded(b""), Some(Vec::new()));
    }

    #[test]
    fn padding_is_less_than_eight_ones() {
        // "0" is 00000.
        assert_eq!(decoded(&[0b0000_0111]), Some(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), None);
        assert_eq!(decoded(&[0b0000_0000]), None);
        assert_eq!(decoded(&[0b0000_0111, 0xff]), None);
        assert_eq!(decoded(&[0xff]), None);
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "EOS");
        // The longest code, 30 bits: a line feed.
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xf3]), Some(b"\n".to_vec()));
        assert_eq!(decoded(&[0xff, 0xff, 0xff]), None, "cut");
    }

    proptest! {
        #[test]
        fn what_another_encoder_wrote(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = Vec::new();
            httlib_huffman::encode(&text, &mut bytes).unwrap();
            prop_assert_eq!(decoded(&bytes), Some(text));
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(text) = decoded(&bytes) {
                let mut again = Vec::new();
                httlib_huffman::encode(&text, &mut again).unwrap();
                prop_assert_eq!(again, bytes, "one text has one code");
            }
        }
    }
}
