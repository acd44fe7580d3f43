//! Frames on the wire: one byte of encoding, four of length (big endian), then the message.

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _, Bytes, BytesMut},
};

use super::message::{Content, Frame};

/// Cuts what arrives into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

/// Why the stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not what the first byte of a frame can be.
    #[error("a frame has encoding {0}, which this version does not know")]
    Encoding(u8),
    /// Longer than any frame.
    #[error("a frame has {0} bytes, and {MAX_MESSAGE} is the most")]
    TooLong(usize),
    /// Not deflated data.
    #[error("a frame cannot be inflated: {0}")]
    Inflate(#[from] std::io::Error),
    /// Not Protocol Buffers.
    #[error("a frame cannot be decoded: {0}")]
    Message(#[from] prost::DecodeError),
    /// More changes than any batch has.
    #[error("a batch has {0} changes, and {MAX_CHANGES} is the most")]
    TooMany(usize),
}

/// A message that does not fit in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes does not fit in a frame of {MAX_MESSAGE}")]
pub struct TooLarge(pub usize);

/// Most bytes of a message, deflated or not.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Most changes in a batch. Each is kept apart while it waits to be decoded.
pub const MAX_CHANGES: usize = 16_384;

/// Bytes in front of a message.
const HEADER: usize = 5;

/// The message as it is.
const PLAIN: u8 = 0;

/// The message deflated (RFC 1951).
const DEFLATED: u8 = 1;

/// Messages below this size are sent as they are: deflating gains nothing.
const WORTH_DEFLATING: usize = 192;

/// Encodes a frame.
///
/// # Errors
///
/// When it is larger than [`MAX_MESSAGE`].
pub fn encode(content: Content) -> Result<Bytes, TooLarge> {
    let message = Frame {
        content: Some(content),
    }
    .encode_to_vec();
    if message.len() > MAX_MESSAGE {
        return Err(TooLarge(message.len()));
    }
    if message.len() >= WORTH_DEFLATING
        && let Some(deflated) = deflate(&message)
        && deflated.len() < message.len()
    {
        return Ok(frame(DEFLATED, &deflated));
    }
    Ok(frame(PLAIN, &message))
}

fn frame(encoding: u8, message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + message.len());
    out.put_u8(encoding);
    // Not more than `MAX_MESSAGE`.
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).ok()?;
    encoder.finish().ok()
}

fn inflate(deflated: &[u8]) -> Result<Bytes, DecodeError> {
    let mut message = Vec::new();
    let most = MAX_MESSAGE as u64 + 1;
    DeflateDecoder::new(deflated)
        .take(most)
        .read_to_end(&mut message)?;
    if message.len() > MAX_MESSAGE {
        return Err(DecodeError::TooLong(message.len()));
    }
    Ok(message.into())
}

// === impl Decoder ===

impl Decoder {
    /// Takes what arrived. What is waiting is bounded by one frame and one of these pieces as long as
    /// [`Decoder::next_frame`] is called until it has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` when it is not here as a whole.
    ///
    /// # Errors
    ///
    /// When the bytes are not what they should be; what follows them cannot be trusted either.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        let Some(&[encoding, a, b, c, d]) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        if !matches!(encoding, PLAIN | DEFLATED) {
            return Err(DecodeError::Encoding(encoding));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_MESSAGE {
            return Err(DecodeError::TooLong(length));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let message = self.buffer.split_to(length).freeze();
        let message = if encoding == DEFLATED {
            inflate(&message)?
        } else {
            message
        };
        let frame = Frame::decode(message)?;
        if let Some(Content::Batch(batch)) = &frame.content
            && batch.changes.len() > MAX_CHANGES
        {
            return Err(DecodeError::TooMany(batch.changes.len()));
        }
        Ok(Some(frame))
    }

    /// Bytes that wait for the rest of their frame.
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests;
