//! DNS over TCP: messages with two bytes of length in front (RFC 1035 section 4.2.2, RFC 7766).

/// Cuts one direction of a connection into messages.
///
/// Of a long message only the start is kept: [`MAX_MESSAGE`] bytes.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes of the length that have come, and their value.
    length: [u8; 2],
    length_bytes: u8,
    /// Bytes of the message that are still to come.
    missing: usize,
    /// The start of the message, while it comes in pieces.
    pending: Vec<u8>,
    /// Bytes of the message are missing: the rest is passed over.
    broken: bool,
}

/// Bytes that are kept of a message that comes in pieces. The answers that matter come first.
pub const MAX_MESSAGE: usize = 4096;

/// Least bytes of a message with a question: a header, the root, type and class.
const LEAST: u16 = 17;

/// Whether the first bytes of a client of the port of DNS may be a question behind its length.
pub fn starts(bytes: &[u8]) -> bool {
    let length = match bytes {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        // Some send the length by itself, and nobody half of it; but who knows.
        _ => return true,
    };
    // A query with one question (RFC 1035 section 4.1.1).
    let is_question = match bytes.get(4..8) {
        Some([flags, _, 0, 1]) => flags & 0xf8 == 0,
        Some(_) => false,
        None => true,
    };
    length >= LEAST && is_question
}

// === impl Frames ===

impl Frames {
    /// Takes the next bytes in order and hands every message that they complete to `each`.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            if self.length_bytes < 2 {
                self.length[usize::from(self.length_bytes)] = *first;
                self.length_bytes += 1;
                rest = behind;
                if self.length_bytes == 2 {
                    self.missing = u16::from_be_bytes(self.length).into();
                    self.finish(&mut each);
                }
                continue;
            }
            let (taken, behind) = rest.split_at(self.missing.min(rest.len()));
            rest = behind;
            self.missing -= taken.len();
            if self.missing == 0 && self.pending.is_empty() && !self.broken {
                each(taken);
                self.length_bytes = 0;
                continue;
            }
            if self.broken {
                self.finish(&mut each);
                continue;
            }
            let room = MAX_MESSAGE.saturating_sub(self.pending.len());
            self.pending
                .extend_from_slice(taken.get(..room).unwrap_or(taken));
            self.finish(&mut each);
        }
    }

    /// Passes over `count` bytes that are missing, if they are all inside of one message, which is
    /// then not handed on; says whether they are. If not, the order is lost.
    pub fn skip(&mut self, count: u64) -> bool {
        if self.length_bytes < 2 || count > self.missing as u64 {
            return false;
        }
        self.missing -= usize::try_from(count).unwrap_or(self.missing);
        if count > 0 {
            self.broken = true;
            self.pending = Vec::new();
            self.finish(&mut |_| {});
        }
        true
    }

    /// Bytes that are kept.
    pub fn weight(&self) -> usize {
        self.pending.capacity()
    }

    fn finish(&mut self, each: &mut impl FnMut(&[u8])) {
        if self.missing > 0 {
            return;
        }
        if !self.pending.is_empty() {
            each(&self.pending);
        }
        self.pending = Vec::new();
        self.broken = false;
        self.length_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(message);
        }
        bytes
    }

    #[test]
    fn a_hole_inside_a_message_is_passed_over() {
        let bytes = framed(&[vec![1; 100], vec![2; 10]]);
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        frames.push(&bytes[..20], |message| seen.push(message.to_vec()));
        assert!(frames.skip(50));
        frames.push(&bytes[70..], |message| seen.push(message.to_vec()));
        assert_eq!(seen, [vec![2; 10]], "half a message is none");
        frames.push(&bytes[..20], |_| {});
        assert!(!frames.skip(83), "over the end of the message");
    }

    #[test]
    fn little_is_kept_of_long_messages() {
        let bytes = framed(&[vec![7; 60_000], vec![8; 3]]);
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(1000) {
            frames.push(piece, |message| seen.push(message.len()));
            assert!(frames.weight() <= 2 * MAX_MESSAGE);
        }
        assert_eq!(seen, [MAX_MESSAGE, 3]);
        assert_eq!(frames.weight(), 0);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
            cuts in prop::collection::vec(1_usize..50, 1..80),
        ) {
            let bytes = framed(&messages);
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                frames.push(piece, |message| seen.push(message.to_vec()));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let expected: Vec<_> = messages.into_iter().filter(|m| !m.is_empty()).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
