//! Any bytes as the first datagram of a QUIC connection, and as the frames inside of one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::{
    assemble::quic::{Attempts, Crypto, Hello, initial},
    model::{
        connection::{ConnectionId, Role},
        time::Monotonic,
    },
};

fuzz_target!(|data: &[u8]| {
    // The first byte says how many bytes are one datagram, or the frames of one packet.
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let segment = usize::from(*cut) * 8;
    let key = (ConnectionId(1), "192.0.2.1:443".parse().unwrap());
    let mut attempts = Attempts::default();
    let found = attempts.push(key, Role::Client, Monotonic(0), segment, data);
    if let Some(quic) = found {
        assert!(initial::is_version(quic.version));
        assert_eq!(initial::version(data), Some(quic.version));
    }
    assert!(attempts.len() <= 1);
    attempts.expire(Monotonic(u64::MAX));
    assert!(attempts.is_empty());

    let mut crypto = Crypto::default();
    for frames in data.chunks(segment.max(1)) {
        if crypto.frames(frames).is_none() {
            break;
        }
        if crypto.hello() != Hello::Partial {
            break;
        }
    }
    assert!(crypto.weight() <= 32 << 10);
});
