//! Any bytes of both directions as a protocol that starts in the clear: bounded, over once and for
//! all, and cut wherever.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::assemble::starttls::{Plain, Step};

/// Reads pieces: a byte of flags, two of length, and the bytes.
fn pieces(mut data: &[u8]) -> Vec<(u8, &[u8], u64)> {
    let mut pieces = Vec::new();
    while let [flags, low, high, rest @ ..] = data {
        let count = u16::from_le_bytes([*low, *high]);
        if flags & SKIP != 0 {
            pieces.push((*flags, &rest[..0], u64::from(count)));
            data = rest;
            continue;
        }
        let (bytes, rest) = rest.split_at(usize::from(count).min(rest.len()));
        pieces.push((*flags, bytes, 0));
        data = rest;
    }
    pieces
}

const CLIENT: u8 = 1;
const SKIP: u8 = 2;

/// The last step that said something, and how many bytes of both directions were not TLS.
fn read(pieces: &[(u8, &[u8], u64)], cut: usize) -> (Step, usize) {
    let mut plain = Plain::new();
    let mut last = Step::More;
    let mut seen = 0;
    for (flags, bytes, count) in pieces {
        if flags & SKIP != 0 {
            match plain.skip(*count) {
                Step::More => {}
                step => last = step,
            }
        }
        for piece in bytes.chunks(cut) {
            let step = plain.push(flags & CLIENT != 0, piece);
            assert!(plain.weight() <= 64 << 10);
            match step {
                Step::More => {}
                Step::Upgraded { protocol, consumed } => {
                    assert!(consumed <= piece.len());
                    let last = Step::Upgraded {
                        protocol,
                        consumed: 0,
                    };
                    assert_eq!(plain.push(true, b"x"), last);
                    return (last, seen + consumed);
                }
                Step::Stays(_) | Step::Unknown => {
                    assert_eq!(plain.weight(), 0);
                    assert_eq!(plain.push(true, b"x"), step);
                    return (step, 0);
                }
                step => last = step,
            }
            seen += piece.len();
        }
    }
    (last, 0)
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let pieces = pieces(data);
    let whole = read(&pieces, usize::MAX);
    assert_eq!(read(&pieces, usize::from(*cut).max(1)), whole);
});
