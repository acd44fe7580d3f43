//! Any bytes as a chunked body: where they are cut must not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::assemble::http1::{
    body::{Body, State},
    head::BodyLength,
};

fn feed(pieces: &[&[u8]]) -> Option<(usize, u64, State)> {
    let mut body = Body::new(BodyLength::Chunked)?;
    let (mut consumed, mut content) = (0, 0);
    for piece in pieces {
        let mut shown = 0;
        let progress = body.push(piece, |content| shown += content.len() as u64);
        assert_eq!(shown, progress.content);
        assert!(progress.consumed <= piece.len());
        consumed += progress.consumed;
        content += progress.content;
        if progress.state != State::More {
            return Some((consumed, content, progress.state));
        }
        assert_eq!(progress.consumed, piece.len());
    }
    assert!(content <= consumed as u64);
    Some((consumed, content, State::More))
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let (left, right) = data.split_at(usize::from(*first) % (data.len() + 1));
    assert_eq!(feed(&[left, right]), feed(&[data]));
});
