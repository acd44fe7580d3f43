//! Cheap guesses from the first bytes of a segment, and the framing of a captured head.
//!
//! These guesses decide only which bytes are *shipped*. Their bias is to ship: a false "maybe"
//! costs a record, which user space judges with all bytes at hand.

/// What a captured head says about the length of its message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    /// Bytes up to and including the empty line; 0 when the head is not complete.
    pub head: u32,
    /// Value of `Content-Length`; [`NO_LENGTH`] when there is none that can be trusted.
    pub content: u64,
}

/// No usable `Content-Length`.
pub const NO_LENGTH: u64 = u64::MAX;

impl Framing {
    /// Where the message ends that starts at `position`; 0 when that is not known.
    #[inline(always)]
    pub const fn until(self, position: u64) -> u64 {
        if self.head == 0 || self.content == NO_LENGTH {
            return 0;
        }
        position + self.head as u64 + self.content
    }
}

/// Whether a connection whose client speaks first with `byte` may speak HTTP/1.
///
/// Methods are case-sensitive tokens (RFC 9110 section 9.1) and every registered one is upper
/// case; a first segment may be as short as one byte. A PROXY header may come first: version 1
/// starts with a capital letter as well, version 2 with a carriage return.
#[inline(always)]
pub const fn may_start_request(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'\r'
}

/// Whether the first four bytes of a segment, as a big-endian number, start a request with one of
/// the common methods; for connections whose start was not seen.
#[inline(always)]
pub const fn starts_request(first: u32) -> bool {
    // A range check of a few constants is cheaper in the kernel than a table.
    matches!(
        &first.to_be_bytes(),
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"PATC" | b"OPTI" | b"CONN" | b"TRAC"
    )
}

/// Whether the first four bytes of a client, as a big-endian number, start the preface of HTTP/2
/// (RFC 9113 section 3.4).
#[inline(always)]
pub const fn starts_preface(first: u32) -> bool {
    first == u32::from_be_bytes(*b"PRI ")
}

/// Bytes of the preface of HTTP/2; the client's frames start behind it.
pub const PREFACE: u64 = 24;
/// Bytes of a frame header of HTTP/2 (RFC 9113 section 4.1).
pub const FRAME_HEADER: u64 = 9;
/// Type of DATA frames (RFC 9113 section 6.1).
pub const FRAME_DATA: u32 = 0;
/// Type of HEADERS frames (RFC 9113 section 6.2).
pub const FRAME_HEADERS: u32 = 1;

/// Whether nine bytes may be the header of an HTTP/2 frame, for connections whose start was not
/// seen: `head` has length and type, as a big-endian number.
///
/// DATA is none of them: too much else looks like it.
#[inline(always)]
pub const fn may_start_frame(head: u32, flags: u8, stream: u32) -> bool {
    let length = head >> 8;
    if length > 16384 || stream > 0x7fff_ffff {
        return false;
    }
    match head & 0xff {
        // HEADERS: of a stream, with a content, and four flags.
        1 => stream != 0 && length != 0 && flags & !0x2d == 0,
        // RST_STREAM.
        3 => stream != 0 && length == 4 && flags == 0,
        // SETTINGS, with some, or their acknowledgement.
        4 => {
            stream == 0
                && (length == 0) == (flags == 1)
                && length.is_multiple_of(6)
                && length <= 600
                && flags <= 1
        }
        // PING.
        6 => stream == 0 && length == 8 && flags <= 1,
        // WINDOW_UPDATE.
        8 => length == 4 && flags == 0,
        _ => false,
    }
}

/// Whether nine bytes may be the first that an HTTP/2 server sends before it is asked: SETTINGS
/// (RFC 9113 section 3.4).
#[inline(always)]
pub const fn may_start_server(head: u32, flags: u8, stream: u32) -> bool {
    let length = head >> 8;
    head & 0xff == 4 && flags == 0 && stream == 0 && length.is_multiple_of(6) && length <= 600
}

/// Where [`frame`] keeps what depends on the path it took through the bytes.
///
/// It must be memory, not registers: the verifier follows every path, and two paths that differ in
/// a register are two programs to it. It does not follow the contents of map values.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Scratch {
    head: u32,
    value: u32,
    lengths: u32,
    encodings: u32,
    content: u64,
}

/// Names are told apart by a product of their last sixteen bytes: one comparison instead of two,
/// and the verifier learns nothing about the bytes from it.
const OLDER: u64 = 0x9e37_79b9_7f4a_7c15;
const NEWER: u64 = 0xc2b2_ae3d_27d4_eb4f;
/// `\ncontent-length:`, every byte with bit 5 set.
const CONTENT_LENGTH: u64 = key(b"*content-length:");
/// The last sixteen bytes of `transfer-encoding:`.
const TRANSFER_ENCODING: u64 = key(b"ansfer-encoding:");
/// Longest `Content-Length` that is read: fifteen digits and what ends them.
const DIGITS: usize = 16;

const fn key(name: &[u8; 16]) -> u64 {
    let all = u128::from_be_bytes(*name);
    mix((all >> 64) as u64, all as u64)
}

#[inline(always)]
const fn mix(older: u64, newer: u64) -> u64 {
    older.wrapping_mul(OLDER) ^ newer.wrapping_mul(NEWER)
}

/// Finds the end of a head and its `Content-Length`.
///
/// `content` is [`NO_LENGTH`] when there is no `Content-Length`, more than one, a malformed one,
/// or a `Transfer-Encoding` (which overrides it, RFC 9112 section 6.3).
///
/// # Safety
///
/// `MAX + SLACK` bytes at `start` must be readable; what they are beyond `length` does not matter.
#[inline(always)]
pub unsafe fn frame<const MAX: usize>(
    start: *const u8,
    length: usize,
    scratch: &mut Scratch,
) -> Framing {
    let scratch = core::ptr::from_mut(scratch);
    // One bound, which the verifier does not know: without CAP_PERFMON a branch that it can foresee
    // is followed both ways all the same, as a processor might speculate.
    let length = opaque(if length > MAX { MAX } else { length });
    // SAFETY: promised by the caller; the scratch is volatile so that nothing of it is kept in
    // registers.
    unsafe {
        scratch.write_volatile(Scratch {
            head: 0,
            value: 0,
            lengths: 0,
            encodings: 0,
            content: NO_LENGTH,
        });
        let mut older: u64 = 0;
        let mut newer: u64 = 0;
        let mut raw: u32 = 0;
        let mut index = 0;
        let mut cursor = start;
        while index < length {
            let byte = cursor.read();
            cursor = next(cursor);
            index += 1;
            older = (older << 8) | (newer >> 56);
            // Bit 5 makes letters lower case, and a line feed an asterisk.
            newer = (newer << 8) | u64::from(byte | 0x20);
            raw = (raw << 8) | u32::from(byte);
            if raw == u32::from_be_bytes(*b"\r\n\r\n") {
                (&raw mut (*scratch).head).write_volatile(index as u32);
                break;
            }
            if byte == b':' {
                let key = mix(older, newer);
                if key == CONTENT_LENGTH {
                    (&raw mut (*scratch).value).write_volatile(index as u32);
                    let lengths = (&raw const (*scratch).lengths).read_volatile();
                    (&raw mut (*scratch).lengths).write_volatile(lengths + 1);
                }
                if key == TRANSFER_ENCODING {
                    (&raw mut (*scratch).encodings).write_volatile(1);
                }
            }
        }
        let head = (&raw const (*scratch).head).read_volatile();
        let value = opaque((&raw const (*scratch).value).read_volatile() as usize);
        let doubtful = (&raw const (*scratch).lengths).read_volatile() != 1
            || (&raw const (*scratch).encodings).read_volatile() != 0
            || value > MAX;
        if head == 0 || doubtful {
            return Framing {
                head,
                content: NO_LENGTH,
            };
        }
        let mut cursor = start.add(value);
        // One space before the number is what everybody sends; anything else is not worth a proof.
        if cursor.read() == b' ' {
            cursor = next(cursor);
        }
        let mut content: u64 = 0;
        let mut index = 0;
        while index < DIGITS {
            let byte = cursor.read();
            cursor = next(cursor);
            let digit = u64::from(byte.wrapping_sub(b'0'));
            if digit > 9 {
                if byte == b'\r' && index != 0 {
                    (&raw mut (*scratch).content).write_volatile(content);
                }
                break;
            }
            content = content * 10 + digit;
            index += 1;
        }
        Framing {
            head,
            content: (&raw const (*scratch).content).read_volatile(),
        }
    }
}

/// Bytes beyond the longest head that [`frame`] may touch.
pub const SLACK: usize = DIGITS + 2;

/// Hides a number's origin from the compiler, so that a bound that was checked stays checked where
/// the verifier sees it.
#[inline(always)]
fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: a register is moved to itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) value) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}

/// The byte after a byte. In assembly for the kernel: the compiler would rather add an index to the
/// start, and a pointer that moves by a register is refused there without CAP_PERFMON.
///
/// # Safety
///
/// As for `pointer.add(1)`.
#[inline(always)]
unsafe fn next(pointer: *const u8) -> *const u8 {
    #[cfg(target_arch = "bpf")]
    {
        let mut pointer = pointer;
        // SAFETY: an addition.
        unsafe { core::arch::asm!("{0} += 1", inout(reg) pointer) };
        pointer
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: promised by the caller.
    unsafe {
        pointer.add(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_within<const MAX: usize>(bytes: &[u8]) -> Framing {
        let mut buffer = bytes.to_vec();
        buffer.resize(MAX.max(bytes.len()) + SLACK, 0);
        // SAFETY: the buffer is as long as it has to be.
        unsafe { frame::<MAX>(buffer.as_ptr(), bytes.len(), &mut Scratch::default()) }
    }

    fn frame_of(text: &str) -> Framing {
        frame_within::<4096>(text.as_bytes())
    }

    #[test]
    fn content_length_is_found_in_any_case() {
        for name in [
            "Content-Length",
            "content-length",
            "CONTENT-LENGTH",
            "cOnTent-lEngth",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\nServer: x\r\n{name}: 42\r\nDate: y\r\n\r\n");
            let framing = frame_of(&format!("{head}body"));
            assert_eq!(
                framing,
                Framing {
                    head: head.len() as u32,
                    content: 42
                },
                "{name}"
            );
        }
    }

    #[test]
    fn anything_doubtful_has_no_length() {
        for fields in [
            "",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 1 2\r\n",
            "Content-Length:\r\n",
            "Content-Length: 0x10\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "X-Content-Length: 4\r\n",
            "Content-Lengths: 4\r\n",
            "Content-Length: 1234567890123456\r\n",
        ] {
            let framing = frame_of(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            assert_ne!(framing.head, 0, "{fields:?}");
            assert_eq!(framing.content, NO_LENGTH, "{fields:?}");
        }
    }

    #[test]
    fn an_incomplete_head_is_not_framed() {
        let head = "GET / HTTP/1.1\r\nContent-Length: 42\r\n\r\n";
        for end in 0..head.len() {
            assert_eq!(frame_of(&head[..end]).head, 0, "{:?}", &head[..end]);
        }
        assert_eq!(frame_of(head).head as usize, head.len());
    }

    #[test]
    fn common_methods_start_a_request() {
        for method in [
            "GET /",
            "POST /",
            "PUT /",
            "HEAD /",
            "DELETE /",
            "PATCH /",
            "OPTIONS *",
        ] {
            let bytes = method.as_bytes();
            assert!(starts_request(u32::from_be_bytes([
                bytes[0], bytes[1], bytes[2], bytes[3]
            ])));
        }
        for other in [*b"HTTP", *b"\x16\x03\x01\x02", *b"get ", *b"PRI "] {
            assert!(!starts_request(u32::from_be_bytes(other)), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_framed_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let framing = frame_within::<256>(&bytes);
            prop_assert!(framing.head as usize <= bytes.len().min(256));
        }
    }
}
