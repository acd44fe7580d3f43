//! Byte-level tests of decoding.

use observer_ebpf::abi::bytes_of;
use proptest::prelude::*;

use super::*;

fn opened() -> ConnectionRecord {
    let mut record = ConnectionRecord {
        header: Header {
            kind: kind::OPENED,
            lost: 0,
            slot: 7,
            time_ns: 50,
            cookie: 99,
        },
        role: role::CLIENT,
        local_port: 40000,
        remote_port: 80,
        established_ns: 45,
        started_ns: 40,
        local_sequence: 1,
        remote_sequence: 2,
        min_rtt_us: u32::MAX,
        ..ConnectionRecord::default()
    };
    record.local_address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    record.remote_address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 2]);
    record.owner.comm[..4].copy_from_slice(b"curl");
    record
}

#[test]
fn an_opened_record_becomes_a_connection() {
    let record = opened();
    let Ok(Event::Opened { connection, slot }) = decode(bytes_of(&record)) else {
        panic!("not decoded")
    };
    assert_eq!(slot, Some(7));
    assert_eq!(connection.id, ConnectionId(99));
    assert_eq!(connection.local, "127.0.0.1:40000".parse().unwrap());
    assert_eq!(connection.remote, "127.0.0.2:80".parse().unwrap());
    assert_eq!(connection.owner.command, "curl");
    assert_eq!(connection.sequences, Some((1, 2)));
    assert_eq!(connection.wire, None);
}

#[test]
fn the_end_of_a_connection_tells_who_ended_it() {
    let check = |end: u8, last_state: u8, by: ClosedBy, reset: bool| {
        let mut record = opened();
        record.header.kind = kind::CLOSED;
        record.end = end;
        record.last_state = last_state;
        let Ok(Event::Closed { closed, .. }) = decode(bytes_of(&record)) else {
            panic!("not decoded")
        };
        assert_eq!(
            (closed.by, closed.reset),
            (by, reset),
            "end {end:#x} from {last_state}"
        );
    };
    let both = close::FIN_SENT | close::FIN_RECEIVED;
    check(both | close::LOCAL_FIRST, 5, ClosedBy::Local, false);
    check(both, 9, ClosedBy::Remote, false);
    check(close::RESET_RECEIVED, 1, ClosedBy::Remote, true);
    check(close::RELEASED, 1, ClosedBy::Local, true);
    check(close::TIMED_OUT, 1, ClosedBy::Timeout, false);
    check(
        close::FIN_RECEIVED | close::RELEASED,
        8,
        ClosedBy::Remote,
        true,
    );
    check(
        close::FIN_SENT | close::LOCAL_FIRST | close::RESET_RECEIVED,
        5,
        ClosedBy::Local,
        true,
    );
}

#[test]
fn a_failed_connect_tells_why() {
    for (end, failure) in [
        (close::RESET_RECEIVED, ConnectFailure::Refused),
        (close::TIMED_OUT, ConnectFailure::TimedOut),
        (close::RELEASED, ConnectFailure::Abandoned),
        (0, ConnectFailure::Unreachable),
    ] {
        let mut record = opened();
        record.header.kind = kind::FAILED;
        record.end = end;
        let Ok(Event::Failed { failure: found, .. }) = decode(bytes_of(&record)) else {
            panic!("not decoded")
        };
        assert_eq!(found, failure);
    }
}

fn pair(first: u32, second: u32, payload: &[u8]) -> Vec<u8> {
    let mut record = SegmentRecord {
        header: Header {
            kind: kind::PAIR,
            slot: NO_SLOT,
            ..Header::default()
        },
        ..SegmentRecord::default()
    };
    record.first.length = first;
    record.first.captured = first;
    record.first.direction = direction::EGRESS;
    record.second.length = second;
    record.second.captured = second;
    let mut bytes = bytes_of(&record).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn a_pair_has_its_bytes_in_order() {
    let bytes = pair(3, 2, b"abcXY");
    let Ok(Event::Pair {
        request,
        response,
        slot,
        ..
    }) = decode(&bytes)
    else {
        panic!("not decoded")
    };
    assert_eq!(request.bytes, b"abc");
    assert_eq!(response.bytes, b"XY");
    assert_eq!(request.direction, Direction::Egress);
    assert_eq!(slot, None);
}

#[test]
fn lengths_that_lie_are_refused() {
    assert_eq!(decode(&pair(3, 3, b"abcXY")), Err(DecodeError::Captured));
    assert_eq!(decode(&pair(300, 0, b"abcXY")), Err(DecodeError::Captured));
    assert_eq!(decode(&[]), Err(DecodeError::Short));
    assert_eq!(decode(&pair(0, 0, b"")[..100]), Err(DecodeError::Short));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0_u16..9) {
        if bytes.len() >= 2 {
            bytes[..2].copy_from_slice(&kind.to_ne_bytes());
        }
        let _ = decode(&bytes);
    }
}
