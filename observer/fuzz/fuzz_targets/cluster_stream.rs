//! Any bytes as a hub's stream: bounded, and the same however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::cluster::{
    object::Change,
    stream::{
        codec::{Decoder, MAX_CHANGES, MAX_MESSAGE},
        message::{Content, Frame, decode_change, encode_object},
    },
};

/// All frames up to the first that is none, as they arrive in pieces of this size.
fn read(data: &[u8], size: usize) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in data.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
        assert!(decoder.waiting() <= MAX_MESSAGE + 5);
    }
    frames
}

fuzz_target!(|data: &[u8]| {
    // The first byte says how the rest is cut.
    let Some((size, data)) = data.split_first() else {
        return;
    };
    let frames = read(data, data.len().max(1));
    assert_eq!(frames, read(data, usize::from(*size).max(1)));
    for frame in frames {
        let Some(Content::Batch(batch)) = frame.content else {
            continue;
        };
        assert!(batch.changes.len() <= MAX_CHANGES);
        for change in batch.changes {
            // What was understood is what would be sent of it.
            if let Ok(Change::Set(object)) = decode_change(change) {
                assert!(!object.uid().is_empty());
                let again = decode_change(encode_object(&object));
                assert_eq!(again, Ok(Change::Set(object)));
            }
        }
    }
});
