//! Any blocks: an observer that joined late or missed one says nothing else than one that saw all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::assemble::hpack::{Decoder, Field, Malformed, Name};

#[derive(Debug, PartialEq)]
enum Told {
    Known(Name, Vec<u8>),
    Other,
    Unknown,
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Told>, Malformed> {
    let mut told = Vec::new();
    decoder.decode(block, &mut |field| {
        told.push(match field {
            Field::Known(name, value) => Told::Known(name, value.to_vec()),
            Field::Other => Told::Other,
            Field::Unknown => Told::Unknown,
        });
    })?;
    assert!(decoder.memory() < 256 << 10);
    Ok(told)
}

fn agree(told: &[Told], right: &[Told]) {
    assert_eq!(told.len(), right.len());
    for (told, right) in told.iter().zip(right) {
        assert!(
            *told == Told::Unknown || told == right,
            "{told:?} {right:?}"
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let mut whole = Decoder::new(true);
    whole.set_limit(u32::MAX);
    let mut joined = Decoder::new(false);
    let mut gapped = Decoder::new(true);
    gapped.set_limit(u32::MAX);
    // Blocks, each behind a byte for its length; the lowest two bits say who sees it.
    let mut rest = data;
    let mut started = false;
    while let Some((head, tail)) = rest.split_first() {
        let (block, tail) = tail.split_at(usize::from(head >> 2).min(tail.len()));
        rest = tail;
        let Ok(right) = decode(&mut whole, block) else {
            return;
        };
        started |= head & 1 != 0;
        if started {
            agree(&decode(&mut joined, block).expect("what is right"), &right);
        }
        if head & 2 != 0 {
            agree(&decode(&mut gapped, block).expect("what is right"), &right);
        } else {
            gapped.lose();
        }
    }
});
