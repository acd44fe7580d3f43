//! Tests of frames: whole or in pieces, and what is none.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::cluster::stream::message::{
    Batch, Heartbeat, Hello, KindState, decode_change, encode_object, tests::any_object,
};

/// Reads all frames of `wire` as they arrive in pieces of these sizes.
fn read(wire: &[u8], sizes: &[usize]) -> Result<Vec<Frame>, DecodeError> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    let mut rest = wire;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(size);
        rest = behind;
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
        assert!(decoder.waiting() <= HEADER + MAX_MESSAGE);
    }
    Ok(frames)
}

fn any_content() -> impl Strategy<Value = Content> {
    let hello =
        (any::<u32>(), any::<u64>(), any::<bool>()).prop_map(|(protocol, epoch, resumed)| {
            Content::Hello(Hello {
                protocol,
                epoch,
                resumed,
            })
        });
    let batch = (any::<u64>(), vec(any_object(), 0..20)).prop_map(|(revision, objects)| {
        let changes = objects.iter().map(encode_object).collect();
        Content::Batch(Batch { revision, changes })
    });
    let state = (
        any::<u32>(),
        any::<bool>(),
        any::<u64>(),
        any::<Option<u64>>(),
    );
    let heartbeat = (any::<u64>(), vec(state, 0..6)).prop_map(|(revision, states)| {
        let kinds = states.into_iter();
        let kinds = kinds.map(|(kind, synced, objects, age_milliseconds)| KindState {
            kind,
            synced,
            objects,
            age_milliseconds,
        });
        Content::Heartbeat(Heartbeat {
            revision,
            kinds: kinds.collect(),
        })
    });
    prop_oneof![hello, batch, heartbeat]
}

proptest! {
    #[test]
    fn frames_come_back_however_they_are_cut(
        contents in vec(any_content(), 0..6),
        sizes in vec(1..200_usize, 1..8),
    ) {
        let mut wire = Vec::new();
        for content in &contents {
            wire.extend_from_slice(&encode(content.clone()).unwrap());
        }
        let frames = read(&wire, &sizes).unwrap();
        let read: Vec<Content> = frames.into_iter().filter_map(|frame| frame.content).collect();
        prop_assert_eq!(read, contents);
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in vec(any::<u8>(), 0..400), size in 1..50_usize) {
        if let Ok(frames) = read(&bytes, &[size]) {
            for frame in frames {
                if let Some(Content::Batch(batch)) = frame.content {
                    for change in batch.changes {
                        let _ = decode_change(change);
                    }
                }
            }
        }
    }
}

#[test]
fn a_frame_that_is_not_here_as_a_whole_is_waited_for() {
    let wire = encode(Content::Hello(Hello {
        protocol: 1,
        epoch: 7,
        resumed: true,
    }))
    .unwrap();
    for end in 0..wire.len() {
        let mut decoder = Decoder::default();
        decoder.push(&wire[..end]);
        assert!(decoder.next_frame().unwrap().is_none(), "{end}");
    }
}

#[test]
fn what_no_frame_can_be_is_refused_by_its_header() {
    let mut decoder = Decoder::default();
    decoder.push(&[2, 0, 0, 0, 1]);
    assert!(matches!(
        decoder.next_frame(),
        Err(DecodeError::Encoding(2))
    ));

    let mut decoder = Decoder::default();
    decoder.push(&[0, 0, 16, 0, 1]);
    assert!(
        matches!(decoder.next_frame(), Err(DecodeError::TooLong(length)) if length == MAX_MESSAGE + 1)
    );
}

#[test]
fn a_small_frame_that_inflates_without_end_is_refused() {
    let bomb = deflate(&vec![0; MAX_MESSAGE + 1]).unwrap();
    assert!(bomb.len() < 2_000);
    let mut decoder = Decoder::default();
    decoder.push(&frame(DEFLATED, &bomb));
    assert!(matches!(decoder.next_frame(), Err(DecodeError::TooLong(_))));
}

#[test]
fn a_deflated_frame_that_is_cut_off_is_refused() {
    let mut whole = deflate(&[7; 4096]).unwrap();
    whole.pop();
    let mut decoder = Decoder::default();
    decoder.push(&frame(DEFLATED, &whole));
    assert!(matches!(decoder.next_frame(), Err(DecodeError::Inflate(_))));
}

#[test]
fn more_changes_than_a_batch_has_are_refused() {
    let changes = vec![Bytes::new(); MAX_CHANGES + 1];
    let wire = encode(Content::Batch(Batch {
        revision: 1,
        changes,
    }))
    .unwrap();
    let mut decoder = Decoder::default();
    decoder.push(&wire);
    assert!(matches!(decoder.next_frame(), Err(DecodeError::TooMany(_))));
}

#[test]
fn a_message_that_does_not_fit_is_not_sent() {
    let changes = vec![Bytes::from(vec![0; MAX_MESSAGE])];
    let batch = Batch {
        revision: 1,
        changes,
    };
    assert!(encode(Content::Batch(batch)).is_err());
}

#[test]
fn frames_of_a_later_version_are_read_as_nothing() {
    // Field 9, a message of two bytes.
    let mut decoder = Decoder::default();
    decoder.push(&frame(PLAIN, &[0x4a, 2, 8, 1]));
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(frame.content, None);
}
