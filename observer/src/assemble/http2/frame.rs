//! Frame headers of HTTP/2 (RFC 9113 section 4.1), and whether bytes look like frames.

/// Bytes of a frame header.
pub const HEADER: usize = 9;
/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `END_STREAM`, of DATA and HEADERS.
pub const END_STREAM: u8 = 0x1;
/// `ACK`, of SETTINGS and PING.
pub const ACK: u8 = 0x1;
/// `END_HEADERS`, of HEADERS, PUSH_PROMISE and CONTINUATION.
pub const END_HEADERS: u8 = 0x4;
/// `PADDED`, of DATA, HEADERS and PUSH_PROMISE.
pub const PADDED: u8 = 0x8;
/// `PRIORITY`, of HEADERS.
pub const PRIORITY: u8 = 0x20;

/// Frames that are longer are not believed in mid-stream: the default limit of their size (RFC 9113
/// section 4.2).
const USUAL: u32 = 16_384;

/// Types of frames (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Content.
    Data,
    /// A header block, or its start.
    Headers,
    /// Deprecated priorities.
    Priority,
    /// The end of a stream.
    ResetStream,
    /// Parameters of the connection.
    Settings,
    /// The request of a response that the server will push.
    PushPromise,
    /// A question whether the peer is alive.
    Ping,
    /// No more streams.
    GoAway,
    /// Room for content.
    WindowUpdate,
    /// More of a header block.
    Continuation,
    /// Of an extension: to be ignored (RFC 9113 section 5.5).
    Other,
}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: u32,
    /// What it is.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// Stream that it belongs to; 0 for the connection.
    pub stream: u32,
}

// === impl Header ===

impl Header {
    /// Reads a header.
    pub fn read(bytes: &[u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind: match kind {
                0 => Kind::Data,
                1 => Kind::Headers,
                2 => Kind::Priority,
                3 => Kind::ResetStream,
                4 => Kind::Settings,
                5 => Kind::PushPromise,
                6 => Kind::Ping,
                7 => Kind::GoAway,
                8 => Kind::WindowUpdate,
                9 => Kind::Continuation,
                _ => Kind::Other,
            },
            flags,
            // The highest bit is reserved, and to be ignored.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether its payload is a header block, or a part of one.
    pub fn is_block(&self) -> bool {
        matches!(
            self.kind,
            Kind::Headers | Kind::PushPromise | Kind::Continuation
        )
    }

    /// Whether length and stream are what the type asks for (RFC 9113 section 6).
    pub fn is_valid(&self) -> bool {
        let of_stream = self.stream != 0;
        match self.kind {
            Kind::Data => of_stream && (!self.has(PADDED) || self.length >= 1),
            Kind::Headers => {
                let fixed = u32::from(self.has(PADDED)) + if self.has(PRIORITY) { 5 } else { 0 };
                of_stream && self.length >= fixed
            }
            Kind::PushPromise => of_stream && self.length >= 4 + u32::from(self.has(PADDED)),
            Kind::Continuation => of_stream,
            Kind::Priority => of_stream && self.length == 5,
            Kind::ResetStream => of_stream && self.length == 4,
            Kind::Settings => {
                !of_stream && self.length.is_multiple_of(6) && (!self.has(ACK) || self.length == 0)
            }
            Kind::Ping => !of_stream && self.length == 8,
            Kind::GoAway => !of_stream && self.length >= 8,
            Kind::WindowUpdate => self.length == 4,
            Kind::Other => true,
        }
    }

    /// Whether all of it is what peers send in practice: for bytes that may be anything.
    fn is_usual(&self) -> bool {
        let flags = match self.kind {
            Kind::Data => END_STREAM | PADDED,
            Kind::Headers => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            Kind::PushPromise => END_HEADERS | PADDED,
            Kind::Continuation => END_HEADERS,
            Kind::Settings | Kind::Ping => ACK,
            Kind::Priority | Kind::ResetStream | Kind::GoAway | Kind::WindowUpdate => 0,
            Kind::Other => return false,
        };
        self.is_valid() && self.flags & !flags == 0 && self.length <= USUAL
    }
}

/// Whether a whole HEADERS frame of an unknown direction is a client's: its block starts with one of
/// the pseudo-fields that come first (RFC 9113 section 8.3), which have fixed indices (RFC 7541
/// appendix A). `None` when it cannot be told.
pub fn sender(header: &Header, payload: &[u8]) -> Option<bool> {
    let mut rest = payload;
    let mut padding = 0;
    if header.has(PADDED) {
        let (length, tail) = rest.split_first()?;
        padding = usize::from(*length);
        rest = tail;
    }
    if header.has(PRIORITY) {
        rest = rest.get(5..)?;
    }
    let block = rest.get(..rest.len().checked_sub(padding)?)?;
    // Behind updates of the size of the table.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    block[start..].iter().take(4).find_map(|byte| {
        let index = match byte {
            0x80.. => byte & 0x7f,
            0x40.. => byte & 0x3f,
            _ => byte & 0x0f,
        };
        match index {
            1..=7 => Some(true),
            8..=14 => Some(false),
            _ => None,
        }
    })
}

/// The frames that bytes from the middle of a connection consist of, if they look like frames from
/// the first byte on: each is usual, and the last may be cut off. `each` gets the header of every
/// frame and as much of its payload as is there.
pub fn frames<'a>(bytes: &'a [u8], mut each: impl FnMut(Header, &'a [u8])) -> bool {
    let mut rest = bytes;
    let mut any = false;
    while let Some((head, tail)) = rest.split_first_chunk::<HEADER>() {
        let header = Header::read(head);
        if !header.is_usual() {
            return false;
        }
        any = true;
        let length = header.length as usize;
        each(header, &tail[..length.min(tail.len())]);
        rest = tail.get(length..).unwrap_or_default();
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn headers_are_read() {
        let bytes = frame(1, 0x25, 0x8000_0007, &[0; 300]);
        let header = Header::read(bytes[..HEADER].try_into().unwrap());
        assert_eq!(
            header,
            Header {
                length: 300,
                kind: Kind::Headers,
                flags: 0x25,
                stream: 7
            }
        );
        assert!(header.is_valid() && header.has(END_STREAM) && !header.has(PADDED));
    }

    #[test]
    fn frames_are_told_from_other_bytes() {
        let count = |bytes: &[u8]| {
            let mut count = 0;
            frames(bytes, |_, _| count += 1).then_some(count)
        };
        let mut bytes = frame(8, 0, 0, &[0, 0, 1, 0]);
        bytes.extend(frame(1, 5, 3, b"\x82\x84\x86"));
        assert_eq!(count(&bytes), Some(2));
        bytes.extend(frame(0, 1, 3, b"content"));
        assert_eq!(
            count(&bytes[..bytes.len() - 3]),
            Some(3),
            "the last is cut off"
        );
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"*1\r\n$4\r\nPING\r\n",
            b"\x21\x00\x00\x00\x03select 1 from dual",
            b"\x00\x00\x00\x2a\x00\x12\x00\x04\x00\x00\x00\x01",
            b"",
            b"\x00\x00",
        ] {
            assert_eq!(count(other), None, "{other:?}");
        }
    }
}
