//! Any bytes as messages of DNS, over UDP and TCP: bounded, and every lookup told once.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use observer::{
    assemble::dns::{Channel, Config, Lookups, message, tcp::Frames},
    model::{
        connection::{ConnectionId, Direction, Owner},
        lookup::{MAX_ANSWERS, Transport},
        time::Monotonic,
    },
};

fuzz_target!(|data: &[u8]| {
    // The first byte says how the rest is cut: as TCP would, in pieces of that size.
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    if let Ok(message) = message::parse(data) {
        assert!(message.answers.len() <= MAX_ANSWERS);
        assert!(message.question.is_some() || message.response);
        // What is there of a message is what is there of its start.
        for end in (0..data.len()).step_by(16) {
            if let Ok(start) = message::parse(&data[..end]) {
                assert_eq!(start.question, message.question);
                assert!(message.answers.starts_with(&start.answers));
            }
        }
    }
    let mut whole = Vec::new();
    Frames::default().push(data, |message| whole.push(message.to_vec()));
    let mut frames = Frames::default();
    let mut pieces = Vec::new();
    for piece in data.chunks(usize::from(*cut).max(1)) {
        frames.push(piece, |message| pieces.push(message.to_vec()));
    }
    let limit = observer::assemble::dns::tcp::MAX_MESSAGE;
    for message in whole.iter_mut().chain(&mut pieces) {
        message.truncate(limit);
    }
    assert_eq!(whole, pieces);

    let mut lookups = Lookups::new(Config {
        timeout: Duration::from_secs(5),
        max_waiting: 8,
    });
    let owner = Owner::default();
    let mut told = 0;
    for (number, bytes) in whole.iter().enumerate() {
        let channel = Channel {
            socket: ConnectionId(1),
            owner: &owner,
            transport: Transport::Tcp,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.0.0.2:53".parse().unwrap(),
        };
        let direction = if bytes.get(2).is_some_and(|flags| flags & 0x80 != 0) {
            Direction::Ingress
        } else {
            Direction::Egress
        };
        let time = Monotonic(number as u64);
        told += usize::from(lookups.push(&channel, direction, time, bytes).is_some());
        assert!(lookups.table().entries <= 8);
    }
    lookups.tick(Monotonic(u64::MAX), |_| told += 1);
    assert_eq!(lookups.table().entries, 0);
    assert!(told <= whole.len());
});
