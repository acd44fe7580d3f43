//! Any bytes as an answer of the kernel's connection tracking: what is read is read again as it
//! was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::host::translation::message::{
    Answer, Direction, LONGEST_REQUEST, read, write_request,
};

fuzz_target!(|data: &[u8]| {
    let Some((sequence, datagram)) = data.split_first_chunk() else {
        return;
    };
    let sequence = u32::from_ne_bytes(*sequence);
    let Ok(Some(Answer::Entry(entry))) = read(datagram, sequence) else {
        return;
    };
    let mut question = Vec::new();
    for tuple in [entry.original, entry.reply] {
        for direction in [Direction::Original, Direction::Reply] {
            write_request(&mut question, &tuple, direction, sequence);
            assert!(question.len() <= LONGEST_REQUEST);
        }
        if let Some(answerer) = entry.answerer(&tuple) {
            assert_ne!(answerer, tuple.destination);
        }
        if let Some((client, dialled)) = entry.caller(&tuple) {
            assert!(client != tuple.destination || dialled != tuple.source);
        }
    }
});
