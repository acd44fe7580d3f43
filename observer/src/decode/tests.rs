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
fn what_a_thread_did_is_decoded() {
    let mut record = CauseRecord {
        header: Header {
            kind: kind::CAUSE,
            lost: 0,
            slot: NO_SLOT,
            time_ns: 50,
            cookie: 99,
        },
        inbound: 7,
        sequence: 1000,
        length: 80,
        inbound_sequence: 2001,
        flags: CERTAIN,
        tgid: 41,
        tid: 42,
    };
    let caused = Caused {
        time: Monotonic(50),
        connection: ConnectionId(99),
        sequence: 1000,
        length: 80,
        pid: 41,
        cause: Cause {
            inbound: ConnectionId(7),
            sequence: 2001,
            certain: true,
        },
    };
    assert_eq!(decode(bytes_of(&record)), Ok(Event::Caused(caused)));
    let cut = &bytes_of(&record)[..55];
    assert_eq!(decode(cut), Err(DecodeError::Short));
    record.header.kind = kind::HANDOVER;
    let handed = decode(bytes_of(&record));
    assert_eq!(handed, Ok(Event::HandsOver { pid: 41 }));
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

fn datagram_record() -> DatagramRecord {
    let mut record = DatagramRecord {
        header: Header {
            kind: kind::DATAGRAM,
            lost: 0,
            slot: NO_SLOT,
            time_ns: 50,
            cookie: 99,
        },
        local_port: 40000,
        remote_port: 53,
        direction: direction::EGRESS,
        purpose: purpose::DNS,
        length: 10,
        captured: 4,
        cgroup: 3,
        ..DatagramRecord::default()
    };
    record.local_address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    record.remote_address[15] = 1;
    record
}

#[test]
fn a_datagram_is_read() {
    let mut bytes = bytes_of(&datagram_record()).to_vec();
    bytes.extend_from_slice(b"abcdefgh");
    let Ok(Event::Datagram(datagram)) = decode(&bytes) else {
        panic!("not decoded")
    };
    assert_eq!(datagram.socket, ConnectionId(99));
    assert_eq!(datagram.local, "127.0.0.1:40000".parse().unwrap());
    assert_eq!(datagram.remote, "[::1]:53".parse().unwrap());
    assert_eq!(datagram.direction, Direction::Egress);
    assert_eq!(datagram.purpose, DatagramPurpose::Dns);
    assert_eq!((datagram.length, datagram.bytes), (10, &b"abcd"[..]));
    assert_eq!(datagram.owner.cgroup, 3);
}

#[test]
fn a_datagram_that_makes_no_sense_is_refused() {
    let check = |change: fn(&mut DatagramRecord), expected| {
        let mut record = datagram_record();
        change(&mut record);
        let mut bytes = bytes_of(&record).to_vec();
        bytes.extend_from_slice(b"abcdefgh");
        assert_eq!(decode(&bytes), Err(expected));
    };
    check(|record| record.captured = 9, DecodeError::Captured);
    check(|record| record.length = 3, DecodeError::Captured);
    check(|record| record.direction = 2, DecodeError::Direction);
    check(|record| record.purpose = 0, DecodeError::Purpose);
    let record = datagram_record();
    let short = &bytes_of(&record)[..100];
    assert_eq!(decode(short), Err(DecodeError::Short));
}

#[test]
fn totals_of_a_peer_are_read() {
    let mut key = DatagramKey {
        cookie: 99,
        remote_port: 443,
        ..DatagramKey::default()
    };
    key.remote_address[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
    let mut flow = DatagramFlow {
        bytes: [20, 10],
        packets: [2, 1],
        started_ns: 5,
        last_ns: 6,
        local_port: 40000,
        ..DatagramFlow::default()
    };
    flow.owner.cgroup = 7;
    let totals = datagram_totals(&key, &flow);
    assert_eq!(totals.socket, ConnectionId(99));
    assert_eq!(totals.remote, "192.0.2.1:443".parse().unwrap());
    let expected = Traffic {
        received_bytes: 20,
        sent_bytes: 10,
        received_packets: 2,
        sent_packets: 1,
    };
    assert_eq!(totals.total, expected);
    let (local, owner) = datagram_socket(&flow);
    assert_eq!((local.port(), owner.cgroup), (40000, 7));
}
