//! Bodies (RFC 9112 sections 6 and 7): counted to their end, never kept.

use super::head::BodyLength;

/// Longest chunk-size line with its extensions, and longest trailer section, that is followed.
const MAX_LINE: usize = 16 << 10;

/// Where in a body a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes are left.
    Fixed(u64),
    /// In the chunked coding.
    Chunked(Chunk),
    /// Until the connection closes.
    UntilClose,
}

/// Where in the chunked coding a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In a chunk-size line: the size so far, the digits so far, and whether they are over.
    Size {
        /// Value of the digits so far.
        size: u64,
        /// How many digits.
        digits: u8,
        /// An extension has begun.
        extension: bool,
        /// Bytes of the line so far.
        length: usize,
    },
    /// In the data: bytes left.
    Data(u64),
    /// Before the line end after the data.
    DataEnd,
    /// In the trailer section: bytes of the current line, and of all so far.
    Trailer {
        /// Bytes of the current line, CR not counted.
        line: usize,
        /// Bytes of the section.
        total: usize,
    },
}

/// What a body made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the stream that belong to the body, framing included.
    pub consumed: usize,
    /// Bytes of content among them.
    pub content: u64,
    /// What is next.
    pub state: State,
}

/// Whether a body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on after these bytes.
    More,
    /// It ended.
    Done,
    /// It is not what it should be.
    Malformed,
}

// === impl Body ===

impl Body {
    /// The body that a head announces; `None` when there is none.
    pub fn new(length: BodyLength) -> Option<Self> {
        match length {
            BodyLength::Fixed(0) => None,
            BodyLength::Fixed(left) => Some(Self::Fixed(left)),
            BodyLength::Chunked => Some(Self::Chunked(Chunk::start())),
            BodyLength::UntilClose | BodyLength::Malformed => Some(Self::UntilClose),
        }
    }

    /// Bytes ahead that are content for sure, so that nothing is missed if they are not seen.
    pub fn skippable(&self) -> u64 {
        match self {
            Self::Fixed(left) | Self::Chunked(Chunk::Data(left)) => *left,
            Self::Chunked(_) => 0,
            Self::UntilClose => u64::MAX,
        }
    }

    /// Takes `count` bytes that were not seen; at most [`Body::skippable`].
    pub fn skip(&mut self, count: u64) -> State {
        match self {
            Self::Fixed(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 { State::Done } else { State::More }
            }
            Self::Chunked(Chunk::Data(left)) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    *self = Self::Chunked(Chunk::DataEnd);
                }
                State::More
            }
            Self::Chunked(_) | Self::UntilClose => State::More,
        }
    }

    /// Takes bytes, and shows those among them that are content.
    pub fn push(&mut self, bytes: &[u8], mut show: impl FnMut(&[u8])) -> Progress {
        match self {
            Self::UntilClose => {
                show(bytes);
                Progress {
                    consumed: bytes.len(),
                    content: bytes.len() as u64,
                    state: State::More,
                }
            }
            Self::Fixed(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= taken as u64;
                show(&bytes[..taken]);
                let state = if *left == 0 { State::Done } else { State::More };
                Progress {
                    consumed: taken,
                    content: taken as u64,
                    state,
                }
            }
            Self::Chunked(chunk) => chunk.push(bytes, show),
        }
    }
}

// === impl Chunk ===

impl Chunk {
    const fn start() -> Self {
        Self::Size {
            size: 0,
            digits: 0,
            extension: false,
            length: 0,
        }
    }

    fn push(&mut self, bytes: &[u8], mut show: impl FnMut(&[u8])) -> Progress {
        let mut at = 0;
        let mut content = 0;
        while at < bytes.len() {
            if let Self::Data(left) = self {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                *left -= taken as u64;
                content += taken as u64;
                show(&bytes[at..at + taken]);
                at += taken;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match self.step(byte) {
                State::More => {}
                state => {
                    return Progress {
                        consumed: at,
                        content,
                        state,
                    };
                }
            }
        }
        Progress {
            consumed: at,
            content,
            state: State::More,
        }
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> State {
        match self {
            Self::Size {
                size,
                digits,
                extension,
                length,
            } => {
                *length += 1;
                if *length > MAX_LINE {
                    return State::Malformed;
                }
                if byte == b'\n' {
                    if *digits == 0 {
                        return State::Malformed;
                    }
                    *self = match *size {
                        0 => Self::Trailer { line: 0, total: 0 },
                        size => Self::Data(size),
                    };
                } else if !*extension {
                    match (byte as char).to_digit(16) {
                        // Sixteen digits would not fit any body.
                        Some(_) if *digits == 15 => return State::Malformed,
                        Some(digit) => {
                            *size = *size * 16 + u64::from(digit);
                            *digits += 1;
                        }
                        None if *digits > 0 && matches!(byte, b';' | b' ' | b'\t' | b'\r') => {
                            *extension = true;
                        }
                        None => return State::Malformed,
                    }
                }
            }
            Self::Data(_) => {}
            Self::DataEnd => match byte {
                b'\n' => *self = Self::start(),
                b'\r' => {}
                _ => return State::Malformed,
            },
            Self::Trailer { line, total } => {
                *total += 1;
                if *total > MAX_LINE {
                    return State::Malformed;
                }
                match byte {
                    b'\n' if *line == 0 => return State::Done,
                    b'\n' => *line = 0,
                    b'\r' => {}
                    _ => *line += 1,
                }
            }
        }
        State::More
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(body: &mut Body, bytes: &[u8], step: usize) -> (usize, u64, State) {
        let mut consumed = 0;
        let mut content = 0;
        for piece in bytes.chunks(step) {
            let progress = body.push(piece, |_| ());
            consumed += progress.consumed;
            content += progress.content;
            if progress.state != State::More {
                return (consumed, content, progress.state);
            }
        }
        (consumed, content, State::More)
    }

    #[test]
    fn chunks_with_extensions_and_trailers() {
        let text =
            b"4;name=\"v\"\r\nWiki\r\n5 \r\npedia\r\n0;x\r\nTrailer: a\r\nOther: b\r\n\r\nNEXT";
        for step in 1..text.len() {
            let mut body = Body::Chunked(Chunk::start());
            let expected = (text.len() - 4, 9, State::Done);
            assert_eq!(feed(&mut body, text, step), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn bad_chunks_are_malformed() {
        for text in [
            "x\r\n",
            "\r\n",
            "1\r\nab\r\n",
            "ffffffffffffffffff\r\n",
            "-1\r\n",
        ] {
            let mut body = Body::Chunked(Chunk::start());
            assert_eq!(
                feed(&mut body, text.as_bytes(), 1).2,
                State::Malformed,
                "{text:?}"
            );
        }
    }

    #[test]
    fn skipped_bytes_count_like_seen_ones() {
        let mut body = Body::Fixed(10);
        assert_eq!(body.skip(4), State::More);
        assert_eq!(
            body.push(b"0123456789", |_| ()),
            Progress {
                consumed: 6,
                content: 6,
                state: State::Done
            }
        );
        let mut body = Body::Chunked(Chunk::start());
        body.push(b"a\r\n012", |_| ());
        assert_eq!(body.skippable(), 7);
        assert_eq!(body.skip(7), State::More);
        assert_eq!(body.push(b"\r\n0\r\n\r\n", |_| ()).state, State::Done);
    }

    proptest! {
        #[test]
        fn any_chunking_of_any_content_is_counted(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            step in 1_usize..50,
        ) {
            let mut text = Vec::new();
            let mut content = 0;
            for piece in &pieces {
                text.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
                text.extend_from_slice(piece);
                text.extend_from_slice(b"\r\n");
                content += piece.len() as u64;
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let end = text.len();
            text.extend_from_slice(b"HTTP/1.1 ");
            let mut body = Body::Chunked(Chunk::start());
            prop_assert_eq!(feed(&mut body, &text, step), (end, content, State::Done));
            let mut body = Body::Chunked(Chunk::start());
            let mut shown = Vec::new();
            for piece in text[..end].chunks(step) {
                body.push(piece, |content| shown.extend_from_slice(content));
            }
            prop_assert_eq!(shown, pieces.concat());
        }

        #[test]
        fn any_bytes_are_followed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut body = Body::Chunked(Chunk::start());
            prop_assert!(body.push(&bytes, |_| ()).consumed <= bytes.len());
        }
    }
}
