//! One direction of an HTTP/2 connection: bytes in, frames out, whatever the bytes are split into.

use super::frame::{END_HEADERS, END_STREAM, HEADER, Header, Kind, PADDED, PREFACE, PRIORITY};
use crate::{
    assemble::{hpack::Decoder, http1::Piece},
    model::time::Monotonic,
};

/// Longest header block that is decoded, bytes: frames of one block joined.
pub(super) const MAX_BLOCK: usize = 256 << 10;
/// Bytes of the payload of other frames that are looked at: SETTINGS have six bytes a parameter.
const MAX_SMALL: usize = 600;

/// What a frame, or a part of one, tells.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// Content of a DATA frame.
    Data(u32, &'a [u8]),
    /// Content of a DATA frame that was not captured.
    DataSkipped(u32, u64),
    /// A DATA frame ended; with `true` it was the last of its stream.
    DataEnds(u32, bool),
    /// A header block: stream, block, bytes of its frames, whether it ends the stream.
    Headers(u32, &'a [u8], u64, bool),
    /// A header block that is too long to be read.
    Unreadable(u32, u64, bool),
    /// A request of the server's own: promised stream, block, bytes.
    Promise(u32, &'a [u8], u64),
    /// RST_STREAM with its error code.
    Reset(u32, u32),
    /// GOAWAY: last stream that was worked on, error code.
    GoAway(u32, u32),
    /// A parameter of SETTINGS.
    Setting(u16, u32),
}

/// What became of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// This many were taken.
    Taken(usize),
    /// They are no frames.
    Broken,
}

/// Where in the frames a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the preface: bytes of it that came.
    Preface(usize),
    /// In a frame header, of which this much came.
    Header([u8; HEADER], usize),
    /// In a payload: bytes of it that are left.
    Payload(u32),
    /// Nowhere: its place was lost.
    Lost,
}

/// Reads the frames of one direction.
#[derive(Debug)]
pub(super) struct Reader {
    at: At,
    frame: Header,
    /// Padding of the frame, once it is known (RFC 9113 section 6.1).
    padding: Option<u32>,
    /// Payload that has to be whole to be read: a header block, or a small frame.
    buffer: Vec<u8>,
    /// The header block that CONTINUATION frames go on with.
    block: Option<Block>,
    /// Its fragments so far.
    joined: Vec<u8>,
    /// Time of the first byte of the frame, or of the first frame of its block.
    pub(super) first: Monotonic,
    /// Sequence and acknowledgement number of that byte.
    pub(super) hop: (u32, u32),
    pub(super) decoder: Decoder,
}

/// A header block under way.
#[derive(Clone, Copy, Debug)]
struct Block {
    stream: u32,
    /// Of a PUSH_PROMISE: the promised stream.
    promised: Option<u32>,
    ends_stream: bool,
    /// Bytes of its frames, headers and padding included.
    bytes: u64,
    /// It is longer than what is kept.
    unreadable: bool,
}

// === impl Reader ===

impl Reader {
    /// A direction that starts with its first byte; the client's with the preface.
    pub(super) fn from_start(from_client: bool) -> Self {
        Self::new(
            if from_client {
                At::Preface(0)
            } else {
                At::Header([0; HEADER], 0)
            },
            true,
        )
    }

    /// A direction of which nothing is known.
    pub(super) fn lost() -> Self {
        Self::new(At::Lost, false)
    }

    fn new(at: At, known: bool) -> Self {
        Self {
            at,
            frame: Header {
                length: 0,
                kind: Kind::Other,
                flags: 0,
                stream: 0,
            },
            padding: None,
            buffer: Vec::new(),
            block: None,
            joined: Vec::new(),
            first: Monotonic(0),
            hop: (0, 0),
            decoder: Decoder::new(known),
        }
    }

    pub(super) fn is_in_preface(&self) -> bool {
        matches!(self.at, At::Preface(_))
    }

    pub(super) fn is_lost(&self) -> bool {
        self.at == At::Lost
    }

    /// Whether the next byte starts a frame, and no header block goes on in it.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.at, At::Header(_, 0)) && self.block.is_none()
    }

    /// Whether a header block goes on in the next frame.
    pub(super) fn is_in_block(&self) -> bool {
        self.block.is_some()
    }

    /// Bytes are missing: what follows cannot be read until a frame starts.
    pub(super) fn lose(&mut self) {
        self.at = At::Lost;
        self.buffer = Vec::new();
        self.joined = Vec::new();
        self.block = None;
        self.decoder.lose();
    }

    /// The next byte starts a frame.
    pub(super) fn resume(&mut self) {
        self.at = At::Header([0; HEADER], 0);
    }

    /// Bytes of memory that it takes beside itself.
    pub(super) fn weight(&self) -> usize {
        self.buffer.capacity() + self.joined.capacity() + self.decoder.memory()
    }

    /// Bytes to the next frame header that need not be seen.
    pub(super) fn skippable(&self) -> u64 {
        match self.at {
            At::Payload(left) if self.padding.is_some() && self.is_ignorable() => left.into(),
            _ => 0,
        }
    }

    /// Bytes to the next frame header, if none of them need to be seen.
    pub(super) fn to_next(&self) -> Option<u64> {
        match self.at {
            At::Header(_, 0) => Some(0),
            At::Payload(_) => Some(self.skippable()).filter(|bytes| *bytes > 0),
            _ => None,
        }
    }

    /// Passes over bytes that were not captured, at most [`Reader::skippable`].
    pub(super) fn skip(&mut self, count: u64, mut each: impl FnMut(Told<'_>, &mut Decoder)) {
        let At::Payload(left) = self.at else {
            return;
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(left);
        if self.frame.kind == Kind::Data {
            let content = count.min(left.saturating_sub(self.padding.unwrap_or(0)));
            let told = Told::DataSkipped(self.frame.stream, content.into());
            each(told, &mut self.decoder);
        }
        self.advance(count, &mut each);
    }

    /// Takes bytes: at most to the end of the frame.
    pub(super) fn push(
        &mut self,
        piece: &Piece<'_>,
        mut each: impl FnMut(Told<'_>, &mut Decoder),
    ) -> Progress {
        let bytes = piece.bytes;
        match &mut self.at {
            At::Lost => Progress::Taken(bytes.len()),
            At::Preface(have) => {
                let rest = &PREFACE[*have..];
                let count = rest.len().min(bytes.len());
                if rest[..count] != bytes[..count] {
                    return Progress::Broken;
                }
                *have += count;
                if *have == PREFACE.len() {
                    self.resume();
                }
                Progress::Taken(count)
            }
            At::Header(header, have) => {
                if *have == 0 && self.block.is_none() {
                    self.first = piece.time;
                    self.hop = piece.hop;
                }
                let count = (HEADER - *have).min(bytes.len());
                header[*have..*have + count].copy_from_slice(&bytes[..count]);
                *have += count;
                if *have == HEADER {
                    let frame = Header::read(header);
                    if !self.starts(frame, &mut each) {
                        return Progress::Broken;
                    }
                }
                Progress::Taken(count)
            }
            At::Payload(left) => {
                let count = (*left).min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                let part = &bytes[..count as usize];
                self.payload(part, &mut each)
            }
        }
    }

    /// A frame header is complete; false when it cannot be one.
    fn starts(&mut self, frame: Header, each: &mut impl FnMut(Told<'_>, &mut Decoder)) -> bool {
        let continues = self
            .block
            .map(|block| frame.kind == Kind::Continuation && frame.stream == block.stream);
        if !frame.is_valid() || continues == Some(false) {
            return false;
        }
        if continues.is_none() && frame.kind == Kind::Continuation {
            return false;
        }
        self.frame = frame;
        self.at = At::Payload(frame.length);
        let padded = frame.kind == Kind::Data && frame.has(PADDED);
        self.padding = (!padded).then_some(0);
        if frame.length == 0 {
            self.ends(b"", each);
        }
        true
    }

    fn payload(&mut self, part: &[u8], each: &mut impl FnMut(Told<'_>, &mut Decoder)) -> Progress {
        let At::Payload(left) = self.at else {
            return Progress::Broken;
        };
        let count = part.len() as u32;
        match self.frame.kind {
            Kind::Data => {
                let mut content = part;
                let mut left = left;
                if self.padding.is_none() {
                    let Some((length, rest)) = part.split_first() else {
                        return Progress::Taken(0);
                    };
                    left -= 1;
                    if u32::from(*length) > left {
                        return Progress::Broken;
                    }
                    self.padding = Some((*length).into());
                    content = rest;
                }
                let within = left.saturating_sub(self.padding.unwrap_or(0)) as usize;
                let content = &content[..content.len().min(within)];
                if !content.is_empty() {
                    each(Told::Data(self.frame.stream, content), &mut self.decoder);
                }
                self.advance(count, each);
            }
            _ if self.is_ignorable() => self.advance(count, each),
            _ => {
                let whole = count == left && self.buffer.is_empty();
                if whole {
                    self.at = At::Payload(0);
                    if !self.ends(part, each) {
                        return Progress::Broken;
                    }
                    return Progress::Taken(part.len());
                }
                // A payload that is cut off waits for the rest.
                let room = if self.frame.is_block() {
                    MAX_BLOCK
                } else {
                    MAX_SMALL
                };
                let room = room.saturating_sub(self.buffer.len());
                self.buffer.extend_from_slice(&part[..part.len().min(room)]);
                self.at = At::Payload(left - count);
                if left == count {
                    let buffer = std::mem::take(&mut self.buffer);
                    if !self.ends(&buffer, each) {
                        return Progress::Broken;
                    }
                }
            }
        }
        Progress::Taken(part.len())
    }

    /// Moves on in a payload that is not kept.
    fn advance(&mut self, count: u32, each: &mut impl FnMut(Told<'_>, &mut Decoder)) {
        let At::Payload(left) = &mut self.at else {
            return;
        };
        *left = left.saturating_sub(count);
        if *left == 0 {
            self.ends(b"", each);
        }
    }

    /// The frame is complete; `payload` has what of it was kept. False when it cannot be read.
    fn ends(&mut self, payload: &[u8], each: &mut impl FnMut(Told<'_>, &mut Decoder)) -> bool {
        self.resume();
        let frame = self.frame;
        match frame.kind {
            Kind::Data => {
                let told = Told::DataEnds(frame.stream, frame.has(END_STREAM));
                each(told, &mut self.decoder);
                true
            }
            Kind::Headers | Kind::PushPromise | Kind::Continuation => self.block(payload, each),
            Kind::ResetStream => {
                if let Some((code, _)) = number(payload) {
                    each(Told::Reset(frame.stream, code), &mut self.decoder);
                }
                true
            }
            Kind::GoAway => {
                if let Some((last, rest)) = number(payload)
                    && let Some((code, _)) = number(rest)
                {
                    each(Told::GoAway(last & 0x7fff_ffff, code), &mut self.decoder);
                }
                true
            }
            Kind::Settings => {
                for parameter in payload.chunks_exact(6) {
                    if let [a, b, rest @ ..] = parameter
                        && let Some((value, _)) = number(rest)
                    {
                        let told = Told::Setting(u16::from_be_bytes([*a, *b]), value);
                        each(told, &mut self.decoder);
                    }
                }
                true
            }
            _ => true,
        }
    }

    /// A frame of a header block is complete.
    fn block(&mut self, payload: &[u8], each: &mut impl FnMut(Told<'_>, &mut Decoder)) -> bool {
        let frame = self.frame;
        let cut = payload.len() < frame.length as usize;
        let mut fragment = payload;
        let mut promised = None;
        if frame.kind != Kind::Continuation && !cut {
            let Some((stripped, promise)) = strip(&frame, payload) else {
                return false;
            };
            fragment = stripped;
            promised = promise;
        }
        let size = u64::from(frame.length) + HEADER as u64;
        let mut block = self.block.take().unwrap_or(Block {
            stream: frame.stream,
            promised,
            ends_stream: frame.kind == Kind::Headers && frame.has(END_STREAM),
            bytes: 0,
            unreadable: false,
        });
        block.bytes += size;
        block.unreadable |= cut || self.joined.len() + fragment.len() > MAX_BLOCK;
        let last = frame.has(END_HEADERS);
        if last && self.joined.is_empty() && !block.unreadable {
            self.tell(block, fragment, each);
            return true;
        }
        if block.unreadable {
            self.joined = Vec::new();
        } else {
            self.joined.extend_from_slice(fragment);
        }
        if !last {
            self.block = Some(block);
        } else if block.unreadable {
            // What it put into the table was not seen.
            self.decoder.lose();
            let told = Told::Unreadable(block.stream, block.bytes, block.ends_stream);
            each(told, &mut self.decoder);
        } else {
            let joined = std::mem::take(&mut self.joined);
            self.tell(block, &joined, each);
        }
        true
    }

    fn tell(
        &mut self,
        block: Block,
        fragment: &[u8],
        each: &mut impl FnMut(Told<'_>, &mut Decoder),
    ) {
        let told = match block.promised {
            Some(promised) => Told::Promise(promised, fragment, block.bytes),
            None => Told::Headers(block.stream, fragment, block.bytes, block.ends_stream),
        };
        each(told, &mut self.decoder);
    }

    /// Whether the payload of the frame is of no interest beyond how much there is.
    fn is_ignorable(&self) -> bool {
        matches!(
            self.frame.kind,
            Kind::Data | Kind::Priority | Kind::Ping | Kind::WindowUpdate | Kind::Other
        )
    }
}

/// A payload without padding and priority, and the stream that it promises (RFC 9113 sections 6.2
/// and 6.6); `None` when there is more padding than payload.
pub(super) fn strip<'a>(frame: &Header, payload: &'a [u8]) -> Option<(&'a [u8], Option<u32>)> {
    let mut rest = payload;
    let mut padding = 0;
    if frame.has(PADDED) {
        let (length, tail) = rest.split_first()?;
        padding = usize::from(*length);
        rest = tail;
    }
    let mut promised = None;
    if frame.kind == Kind::PushPromise {
        let (stream, tail) = number(rest)?;
        promised = Some(stream & 0x7fff_ffff);
        rest = tail;
    } else if frame.has(PRIORITY) {
        rest = rest.get(5..)?;
    }
    Some((rest.get(..rest.len().checked_sub(padding)?)?, promised))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, tail) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*head), tail))
}
