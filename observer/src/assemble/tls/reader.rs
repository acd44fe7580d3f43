//! A cursor over the length-prefixed vectors of TLS (RFC 8446 section 3).

/// What is left to read. Every read takes whole values or nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of 1 to 4 bytes.
    fn number(&mut self, bytes: usize) -> Option<u32> {
        let taken = self.take(bytes)?;
        let join = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        Some(taken.iter().fold(0, join))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.number(1)?.try_into().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.number(2)?.try_into().ok()
    }

    /// A vector whose length is in its first `prefix` bytes.
    pub(super) fn vector(&mut self, prefix: usize) -> Option<Reader<'a>> {
        let before = *self;
        let length = self.number(prefix)?;
        let taken = self.take(length as usize);
        if taken.is_none() {
            *self = before;
        }
        taken.map(Reader)
    }

    /// All of it as 16-bit numbers; `None` when a byte is left over.
    pub(super) fn numbers(self) -> Option<impl Iterator<Item = u16> + use<'a>> {
        let (pairs, rest) = self.0.as_chunks::<2>();
        rest.is_empty()
            .then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)))
    }
}
