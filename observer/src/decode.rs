//! Bytes to events: total and checked.
//!
//! A record that makes no sense is counted and skipped; nothing in it is trusted.

use std::net::SocketAddr;

use observer_ebpf::abi::{
    self, CERTAIN, CauseRecord, ConnectionRecord, DatagramFlow, DatagramKey, DatagramRecord,
    Header, NO_SLOT, PlaceRecord, ProcessRecord, SegmentPart, SegmentRecord, close, direction,
    flag, kind, purpose, role,
};

use crate::model::{
    connection::{
        Closed, ClosedBy, ConnectFailure, Connection, ConnectionId, Direction, Owner, Role,
        Transfer, canonical,
    },
    datagram::Traffic,
    event::{Caused, Datagram, DatagramPurpose, DatagramTotals, Event, Segment},
    time::Monotonic,
    trace::Cause,
};

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its kind.
    #[error("the record is too short")]
    Short,
    /// A kind that is not known.
    #[error("the record is of an unknown kind")]
    Kind,
    /// A direction that is none.
    #[error("the record has a direction that does not exist")]
    Direction,
    /// It claims more captured bytes than it has, or than its segment.
    #[error("the record claims bytes that it does not have")]
    Captured,
    /// A datagram that nobody asked for.
    #[error("the record has a datagram of no known purpose")]
    Purpose,
}

/// TCP states that a connection can be in when it is closed at once (`include/net/tcp_states.h`).
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 8;

// === impl DecodeError ===

impl DecodeError {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Short,
        Self::Kind,
        Self::Direction,
        Self::Captured,
        Self::Purpose,
    ];

    /// Name as a label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Kind => "unknown_kind",
            Self::Direction => "bad_direction",
            Self::Captured => "bad_length",
            Self::Purpose => "bad_purpose",
        }
    }
}

/// Decodes one record.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are not a record.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let header: Header = abi::read(bytes).ok_or(DecodeError::Short)?;
    match header.kind {
        kind::SEGMENT | kind::PAIR => decode_segment(bytes),
        kind::DATAGRAM => decode_datagram(bytes),
        kind::OPENED => {
            let record = abi::read(bytes).ok_or(DecodeError::Short)?;
            Ok(Event::Opened {
                connection: connection(&record),
                slot: slot(&header),
            })
        }
        kind::CLOSED => {
            let record = abi::read(bytes).ok_or(DecodeError::Short)?;
            Ok(Event::Closed {
                connection: connection(&record),
                closed: closed(&record),
                slot: slot(&header),
                lost: record.lost_records,
            })
        }
        kind::FAILED => {
            let record = abi::read(bytes).ok_or(DecodeError::Short)?;
            Ok(Event::Failed {
                connection: connection(&record),
                at: Monotonic(header.time_ns),
                failure: failure(&record),
                slot: slot(&header),
            })
        }
        kind::PROCESS => {
            let record: ProcessRecord = abi::read(bytes).ok_or(DecodeError::Short)?;
            Ok(Event::Process {
                time: Monotonic(header.time_ns),
                owner: owner(&record.owner, record.owner.cgroup),
            })
        }
        kind::PLACE => {
            let record: PlaceRecord = abi::read(bytes).ok_or(DecodeError::Short)?;
            let wire = (record.local_port != 0 || record.remote_port != 0).then(|| {
                (
                    SocketAddr::new(canonical(record.local_address), record.local_port),
                    SocketAddr::new(canonical(record.remote_address), record.remote_port),
                )
            });
            Ok(Event::Placed {
                id: ConnectionId(header.cookie),
                cgroup: record.cgroup,
                wire,
            })
        }
        kind::CAUSE => {
            let record: CauseRecord = abi::read(bytes).ok_or(DecodeError::Short)?;
            Ok(Event::Caused(caused(&record)))
        }
        kind::HANDOVER => {
            let record: CauseRecord = abi::read(bytes).ok_or(DecodeError::Short)?;
            Ok(Event::HandsOver { pid: record.tgid })
        }
        _ => Err(DecodeError::Kind),
    }
}

fn caused(record: &CauseRecord) -> Caused {
    Caused {
        time: Monotonic(record.header.time_ns),
        connection: ConnectionId(record.header.cookie),
        sequence: record.sequence,
        length: record.length,
        pid: record.tgid,
        cause: Cause {
            inbound: ConnectionId(record.inbound),
            sequence: record.inbound_sequence,
            certain: record.flags & CERTAIN != 0,
        },
    }
}

fn decode_segment(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let record: SegmentRecord = abi::read(bytes).ok_or(DecodeError::Short)?;
    let payload = bytes
        .get(size_of::<SegmentRecord>()..)
        .ok_or(DecodeError::Short)?;
    let id = ConnectionId(record.header.cookie);
    let slot = slot(&record.header);
    let lost = record.header.lost;
    let (first, rest) = segment(&record.first, payload)?;
    if record.header.kind == kind::PAIR {
        let (second, _) = segment(&record.second, rest)?;
        return Ok(Event::Pair {
            id,
            slot,
            lost,
            request: first,
            response: second,
        });
    }
    if record.first.flags & flag::LISTENER != 0 {
        return Ok(Event::ListenerSegment {
            local_port: record.first.ports as u16,
            remote_port: (record.first.ports >> 16) as u16,
            segment: first,
        });
    }
    Ok(Event::Segment {
        id,
        slot,
        lost,
        segment: first,
    })
}

fn decode_datagram(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let record: DatagramRecord = abi::read(bytes).ok_or(DecodeError::Short)?;
    let payload = bytes
        .get(size_of::<DatagramRecord>()..)
        .and_then(|payload| payload.get(..record.captured as usize))
        .filter(|captured| captured.len() <= record.length as usize)
        .ok_or(DecodeError::Captured)?;
    Ok(Event::Datagram(Datagram {
        time: Monotonic(record.header.time_ns),
        socket: ConnectionId(record.header.cookie),
        owner: owner(&record.owner, either(record.cgroup, record.owner.cgroup)),
        local: SocketAddr::new(canonical(record.local_address), record.local_port),
        remote: SocketAddr::new(canonical(record.remote_address), record.remote_port),
        direction: direction_of(record.direction)?,
        purpose: match record.purpose {
            purpose::DNS => DatagramPurpose::Dns,
            purpose::QUIC => DatagramPurpose::Quic,
            _ => return Err(DecodeError::Purpose),
        },
        segment: record.segment,
        length: record.length,
        bytes: payload,
    }))
}

/// What the kernel has counted of one peer.
pub fn datagram_totals(key: &DatagramKey, flow: &DatagramFlow) -> DatagramTotals {
    let [ingress, egress] = [direction::INGRESS, direction::EGRESS].map(usize::from);
    DatagramTotals {
        socket: ConnectionId(key.cookie),
        remote: SocketAddr::new(canonical(key.remote_address), key.remote_port),
        started: Monotonic(flow.started_ns),
        last: Monotonic(flow.last_ns),
        total: Traffic {
            received_bytes: flow.bytes[ingress],
            sent_bytes: flow.bytes[egress],
            received_packets: flow.packets[ingress],
            sent_packets: flow.packets[egress],
        },
    }
}

/// Address and owner of the socket that the kernel has counted for.
pub fn datagram_socket(flow: &DatagramFlow) -> (SocketAddr, Owner) {
    let local = SocketAddr::new(canonical(flow.local_address), flow.local_port);
    let cgroup = either(flow.cgroup, flow.owner.cgroup);
    (local, owner(&flow.owner, cgroup))
}

/// `first` unless it is 0.
fn either(first: u64, second: u64) -> u64 {
    if first == 0 { second } else { first }
}

fn direction_of(direction: u8) -> Result<Direction, DecodeError> {
    match direction {
        direction::INGRESS => Ok(Direction::Ingress),
        direction::EGRESS => Ok(Direction::Egress),
        _ => Err(DecodeError::Direction),
    }
}

fn segment<'a>(
    part: &SegmentPart,
    payload: &'a [u8],
) -> Result<(Segment<'a>, &'a [u8]), DecodeError> {
    let direction = direction_of(part.direction)?;
    let captured = part.captured as usize;
    if part.captured > part.length || captured > payload.len() {
        return Err(DecodeError::Captured);
    }
    let (bytes, rest) = payload.split_at(captured);
    let segment = Segment {
        time: Monotonic(part.time_ns),
        direction,
        position: part.position,
        sequence: part.sequence,
        acknowledgement: part.acknowledgement,
        length: part.length,
        bytes,
        fin: part.flags & flag::FIN != 0,
        reset: part.flags & flag::RESET != 0,
        in_order: part.flags & flag::IN_ORDER != 0,
        at_frame: part.flags & flag::FRAME != 0,
        unframed: part.flags & flag::UNFRAMED != 0,
    };
    Ok((segment, rest))
}

fn slot(header: &Header) -> Option<u32> {
    (header.slot != NO_SLOT).then_some(header.slot)
}

fn connection(record: &ConnectionRecord) -> Connection {
    let pre_existing = record.end & close::PRE_EXISTING != 0;
    let cgroup = either(record.cgroup, record.owner.cgroup);
    let wire = (record.wire_local_port != 0 || record.wire_remote_port != 0).then(|| {
        (
            SocketAddr::new(canonical(record.wire_local_address), record.wire_local_port),
            SocketAddr::new(
                canonical(record.wire_remote_address),
                record.wire_remote_port,
            ),
        )
    });
    Connection {
        id: ConnectionId(record.header.cookie),
        role: match record.role {
            role::CLIENT => Role::Client,
            role::SERVER => Role::Server,
            _ => Role::Unknown,
        },
        local: SocketAddr::new(canonical(record.local_address), record.local_port),
        remote: SocketAddr::new(canonical(record.remote_address), record.remote_port),
        wire,
        owner: owner(&record.owner, cgroup),
        started: Monotonic(record.started_ns),
        established: (record.established_ns != 0).then_some(Monotonic(record.established_ns)),
        sequences: (!pre_existing && record.established_ns != 0)
            .then_some((record.local_sequence, record.remote_sequence)),
        pre_existing,
    }
}

fn owner(owner: &abi::Owner, cgroup: u64) -> Owner {
    let end = owner
        .comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(owner.comm.len());
    Owner {
        pid: owner.tgid,
        uid: owner.uid,
        cgroup,
        network_namespace: owner.netns,
        command: String::from_utf8_lossy(&owner.comm[..end]).into_owned(),
    }
}

fn transfer(record: &ConnectionRecord) -> Transfer {
    Transfer {
        received_bytes: record.received_bytes,
        sent_bytes: record.sent_bytes,
        received_segments: record.received_segments,
        sent_segments: record.sent_segments,
        retransmits: record.retransmits,
        smoothed_rtt_us: record.srtt_us,
        minimum_rtt_us: (record.min_rtt_us != u32::MAX).then_some(record.min_rtt_us),
        understood_bytes: 0,
        turns: record.turns,
        turn_nanoseconds: record.turns_ns,
    }
}

/// Who ended a connection. A connection that goes from ESTABLISHED or CLOSE_WAIT to CLOSE at once
/// was reset; when no RST was received and no timer expired, the socket itself did it (the kernel
/// reports the state before it sends the RST).
fn closed(record: &ConnectionRecord) -> Closed {
    let end = record.end;
    let at_once = matches!(record.last_state, TCP_ESTABLISHED | TCP_CLOSE_WAIT);
    let received = end & close::RESET_RECEIVED != 0;
    let timed_out = end & close::TIMED_OUT != 0;
    let sent = end & close::RESET_SENT != 0 || at_once && !received && !timed_out;
    let by = if end & close::LOCAL_FIRST != 0 {
        ClosedBy::Local
    } else if end & close::FIN_RECEIVED != 0 {
        ClosedBy::Remote
    } else if timed_out {
        ClosedBy::Timeout
    } else if received {
        ClosedBy::Remote
    } else if sent || end & close::FIN_SENT != 0 {
        ClosedBy::Local
    } else {
        ClosedBy::Unknown
    };
    Closed {
        at: Monotonic(record.header.time_ns),
        by,
        reset: received || sent,
        transfer: transfer(record),
    }
}

fn failure(record: &ConnectionRecord) -> ConnectFailure {
    if record.end & close::RESET_RECEIVED != 0 {
        ConnectFailure::Refused
    } else if record.end & close::TIMED_OUT != 0 {
        ConnectFailure::TimedOut
    } else if record.end & close::RELEASED != 0 {
        ConnectFailure::Abandoned
    } else {
        ConnectFailure::Unreachable
    }
}

#[cfg(test)]
mod tests;
