//! Records of a connection, as the kernel would send them.

use observer_ebpf::abi::{
    self, ConnectionRecord, Header, SegmentPart, SegmentRecord, direction, flag, kind, role,
};

pub(super) const REQUEST: &[u8] =
    b"GET /api/v1/users/4711?verbose=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
    User-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";
pub(super) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\n\
    Date: Sat, 01 Nov 2025 12:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\
    Last-Modified: Sat, 01 Nov 2025 11:00:00 GMT\r\nConnection: keep-alive\r\n\
    ETag: \"6905f0a0-d\"\r\nAccept-Ranges: bytes\r\n\r\nhello, world\n";

/// The same behind a proxy of a mesh, which says who called.
pub(super) const MESHED_REQUEST: &[u8] =
    b"GET /api/v1/users/4711?verbose=1 HTTP/1.1\r\nhost: users.shop\r\n\
    user-agent: curl/8.14.1\r\naccept: */*\r\nx-forwarded-proto: http\r\n\
    x-envoy-attempt-count: 1\r\nx-forwarded-client-cert: \
    By=spiffe://cluster.local/ns/shop/sa/users;\
    Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;Subject=\"\";\
    URI=spiffe://cluster.local/ns/shop/sa/web\r\n\r\n";

/// The records of one connection, as the kernel would send them.
pub(super) struct Records {
    id: u64,
    time: u64,
    /// Next position, by direction.
    next: [u64; 2],
}

// === impl Records ===

impl Records {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            time: 1_000_000_000,
            next: [0; 2],
        }
    }

    pub(super) fn opened(&self) -> Vec<u8> {
        let mut record = ConnectionRecord {
            header: self.header(kind::OPENED),
            local_port: 8080,
            remote_port: 40_000 + (self.id % 20_000) as u16,
            role: role::SERVER,
            started_ns: 1,
            established_ns: 2,
            ..ConnectionRecord::default()
        };
        record.local_address[10..].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
        record.remote_address = record.local_address;
        record.owner.comm[..5].copy_from_slice(b"nginx");
        abi::bytes_of(&record).to_vec()
    }

    pub(super) fn header(&self, kind: u16) -> Header {
        Header {
            kind,
            lost: 0,
            slot: 1,
            time_ns: self.time,
            cookie: self.id,
        }
    }

    pub(super) fn part(&mut self, ingress: bool, length: usize) -> SegmentPart {
        self.time += 30_000;
        let (own, other) = (usize::from(!ingress), usize::from(ingress));
        let position = self.next[own];
        self.next[own] += length as u64;
        SegmentPart {
            time_ns: self.time,
            position,
            sequence: position as u32,
            acknowledgement: self.next[other] as u32,
            length: length as u32,
            captured: length as u32,
            direction: if ingress {
                direction::INGRESS
            } else {
                direction::EGRESS
            },
            flags: flag::IN_ORDER,
            ..SegmentPart::default()
        }
    }

    pub(super) fn pair(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.next_pair(&mut bytes);
        bytes
    }

    pub(super) fn next_pair(&mut self, bytes: &mut Vec<u8>) {
        self.pair_of(REQUEST, RESPONSE, bytes);
    }

    pub(super) fn pair_of(&mut self, request: &[u8], response: &[u8], bytes: &mut Vec<u8>) {
        let first = self.part(true, request.len());
        let second = self.part(false, response.len());
        let record = SegmentRecord {
            header: self.header(kind::PAIR),
            first,
            second,
        };
        bytes.clear();
        bytes.extend_from_slice(abi::bytes_of(&record));
        bytes.extend_from_slice(request);
        bytes.extend_from_slice(response);
    }

    pub(super) fn segment(&mut self, ingress: bool, payload: &[u8]) -> Vec<u8> {
        let record = SegmentRecord {
            first: self.part(ingress, payload.len()),
            header: self.header(kind::SEGMENT),
            ..SegmentRecord::default()
        };
        [abi::bytes_of(&record), payload].concat()
    }
}
