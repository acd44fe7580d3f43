//! Any bytes of both directions as TLS: bounded, over once and for all, and cut wherever.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::{
    assemble::tls::{Progress, Tls},
    model::security::Handshake,
};

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

fn read(pieces: &[(u8, &[u8], u64)], cut: usize) -> Handshake {
    let mut tls = Tls::new();
    let mut over = false;
    for (flags, bytes, count) in pieces {
        let from_client = flags & CLIENT != 0;
        let mut take = |tls: &mut Tls, progress: Progress| {
            assert!(!over || progress == Progress::Done);
            over |= matches!(
                progress,
                Progress::Done | Progress::Broken | Progress::NotTls
            );
            assert!(tls.weight() <= 4 * (64 << 10));
            assert!(!over || tls.weight() == 0);
        };
        if flags & SKIP != 0 {
            let progress = tls.skip(from_client, *count);
            take(&mut tls, progress);
            continue;
        }
        for piece in bytes.chunks(cut) {
            let progress = tls.push(from_client, piece);
            take(&mut tls, progress);
        }
    }
    tls.handshake().clone()
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let pieces = pieces(data);
    let whole = read(&pieces, usize::MAX);
    assert_eq!(read(&pieces, usize::from(*cut).max(1)), whole);
    assert!(!whole.established || whole.version.is_some());
});
