//! HPACK (RFC 7541) for an observer of one direction of an HTTP/2 connection.
//!
//! A decoder of a peer knows all blocks; an observer may have joined midway or missed some. What a
//! block refers to and was not seen is unknown, and told so. That is never a guess: indices count
//! from the newest entry, and so those that were seen inserted, without a gap since, are right
//! whatever lies behind them.

mod huffman;
mod name;
mod table;

use thiserror::Error;

pub use self::name::Name;
use self::table::{Key, Table};

/// Capacity that the buffer for decoded strings keeps between blocks.
const KEPT_SCRATCH: usize = 512;
/// Bits of an integer that do not fit in its prefix, at most (RFC 7541 section 5.1): five bytes of
/// seven, of which 32 count.
const LAST_SHIFT: u32 = 28;

/// A field of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A wanted field and its value, as far as it is kept: see [`Name::cut`].
    Known(Name, &'a [u8]),
    /// Any other field.
    Other,
    /// A field whose name was not seen: its value is not told, as it may be a secret.
    Unknown,
}

/// What is wrong with a block. After it the peers close the connection (RFC 9113 section 4.3);
/// for the observer it may as well mean that it lost its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It ends within a field.
    #[error("header block ends within a field")]
    Cut,
    /// An integer does not fit in 32 bits.
    #[error("header block has an integer of more than 32 bits")]
    Integer,
    /// A Huffman code has EOS in it, or wrong padding.
    #[error("header block has a string whose Huffman code is wrong")]
    Huffman,
    /// An index that stands for nothing.
    #[error("header block refers to an entry that does not exist")]
    Index,
    /// The dynamic table's size is updated after a field, or beyond what is allowed.
    #[error("header block updates the size of the table in the wrong place or beyond its limit")]
    Size,
}

/// Decoder of the blocks of one direction.
#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table,
    /// A value that was decoded. Only wanted parts of wanted values get here.
    scratch: Vec<u8>,
}

/// What is left of a block.
struct Block<'a>(&'a [u8]);

/// A string literal, as it is in the block.
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder for a direction that is known from its first block, or that was joined midway.
    pub fn new(known: bool) -> Self {
        Self {
            table: Table::new(known),
            scratch: Vec::new(),
        }
    }

    /// The receiver of the blocks announced this `SETTINGS_HEADER_TABLE_SIZE`.
    ///
    /// Only the largest that was ever announced counts, as blocks may cross a smaller one. Without
    /// effect when joined midway, or after [`Self::lose_limit`].
    pub fn set_limit(&mut self, size: u32) {
        self.table.allow(size);
    }

    /// SETTINGS of the receiver of the blocks may have been missed: any size is possible.
    pub fn lose_limit(&mut self) {
        self.table.lose_allowed();
    }

    /// Blocks were missed: whatever was seen may have moved or gone.
    pub fn lose(&mut self) {
        self.table.lose();
    }

    /// Bytes of memory that the decoder takes beside itself.
    pub fn memory(&self) -> usize {
        self.table.memory() + self.scratch.capacity()
    }

    /// Decodes one block: the fragments of a HEADERS or PUSH_PROMISE frame and of its
    /// CONTINUATION frames, joined. Every field is told to `each`, in order.
    ///
    /// When it fails, the fields up to there were told, and the decoder goes on as after
    /// [`Self::lose`].
    pub fn decode(
        &mut self,
        block: &[u8],
        each: &mut dyn FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let result = self.fields(Block(block), each);
        if result.is_err() {
            self.lose();
        }
        if self.scratch.capacity() > KEPT_SCRATCH {
            self.scratch = Vec::new();
        }
        result
    }

    fn fields(
        &mut self,
        mut block: Block<'_>,
        each: &mut dyn FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let mut started = false;
        while let Some(&first) = block.0.first() {
            match first {
                0x80.. => {
                    let found = self.table.get(block.integer(7)?)?;
                    each(field(found.key, found.value));
                }
                0x40.. => self.literal(&mut block, 6, true, each)?,
                0x20.. => {
                    if started {
                        return Err(Malformed::Size);
                    }
                    self.table.resize(block.integer(5)?)?;
                    continue;
                }
                _ => self.literal(&mut block, 4, false, each)?,
            }
            started = true;
        }
        Ok(())
    }

    /// A field whose value is in the block, and perhaps its name (RFC 7541 section 6.2).
    fn literal(
        &mut self,
        block: &mut Block<'_>,
        prefix: u32,
        insert: bool,
        each: &mut dyn FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let key = match block.integer(prefix)? {
            0 => block.text()?.key()?,
            index => self.table.get(index)?.key,
        };
        let text = block.text()?;
        let (value, length) = match key.name {
            Some(name) => text.value(name, &mut self.scratch)?,
            None => (&b""[..], text.length()?),
        };
        each(field(key, value));
        if insert {
            self.table.insert(key, length, value);
        }
        Ok(())
    }
}

fn field(key: Key, value: &[u8]) -> Field<'_> {
    match key {
        Key {
            name: Some(name), ..
        } => Field::Known(name, value),
        Key { length: None, .. } => Field::Unknown,
        Key { .. } => Field::Other,
    }
}

// === impl Block ===

impl<'a> Block<'a> {
    /// An integer that starts in the lowest bits of the next byte (RFC 7541 section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<u32, Malformed> {
        let mask = (1_u8 << prefix) - 1;
        let (first, mut rest) = self.0.split_first().ok_or(Malformed::Cut)?;
        let mut value = u32::from(first & mask);
        if value == u32::from(mask) {
            let mut shift = 0;
            loop {
                let (byte, tail) = rest.split_first().ok_or(Malformed::Cut)?;
                rest = tail;
                let part = u64::from(byte & 0x7f) << shift;
                value = u32::try_from(part)
                    .ok()
                    .and_then(|part| value.checked_add(part))
                    .ok_or(Malformed::Integer)?;
                if byte & 0x80 == 0 {
                    break;
                }
                if shift == LAST_SHIFT {
                    return Err(Malformed::Integer);
                }
                shift += 7;
            }
        }
        self.0 = rest;
        Ok(value)
    }

    /// A string literal (RFC 7541 section 5.2).
    fn text(&mut self) -> Result<Text<'a>, Malformed> {
        let huffman = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(Text { bytes, huffman })
    }
}

// === impl Text ===

impl<'a> Text<'a> {
    /// The string as a name.
    fn key(&self) -> Result<Key, Malformed> {
        let mut start = [0; name::LONGEST];
        let mut count = 0;
        let name = if self.huffman {
            let length = huffman::decode(self.bytes, |byte| {
                if let Some(place) = start.get_mut(count) {
                    *place = byte;
                }
                count += 1;
            });
            length.ok_or(Malformed::Huffman)?;
            start.get(..count).and_then(Name::of)
        } else {
            count = self.bytes.len();
            Name::of(self.bytes)
        };
        Ok(Key {
            length: Some(u32::try_from(count).unwrap_or(u32::MAX)),
            name,
        })
    }

    /// The string as the value of a wanted field: what is kept of it, and how long it all is.
    fn value<'b>(
        &self,
        name: Name,
        scratch: &'b mut Vec<u8>,
    ) -> Result<(&'b [u8], usize), Malformed>
    where
        'a: 'b,
    {
        if !self.huffman {
            return Ok((name.cut(self.bytes), self.bytes.len()));
        }
        scratch.clear();
        let mut end = false;
        let length = huffman::decode(self.bytes, |byte| match (name, byte) {
            _ if end => {}
            (Name::Authority | Name::Host, b'@') => scratch.clear(),
            _ => {
                scratch.push(byte);
                end = name == Name::Path && byte == b'?';
            }
        });
        let length = length.ok_or(Malformed::Huffman)?;
        Ok((name.cut(scratch), length))
    }

    /// How long the string is when decoded.
    fn length(&self) -> Result<usize, Malformed> {
        if self.huffman {
            huffman::decode(self.bytes, |_| ()).ok_or(Malformed::Huffman)
        } else {
            Ok(self.bytes.len())
        }
    }
}

#[cfg(test)]
mod tests;
