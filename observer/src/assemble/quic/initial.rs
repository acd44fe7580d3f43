//! Initial packets of QUIC: their header, and the protection that anybody can take off (RFC 9001
//! section 5, RFC 9369 section 3).

use aes_gcm::{
    Aes128Gcm,
    aead::{AeadInOut, KeyInit, inout::InOutBuf},
    aes::{Aes128, cipher::BlockCipherEncrypt},
};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::model::datagram::{QUIC_V1, QUIC_V2};

/// A packet with a long header that is an Initial packet, still protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initial<'a> {
    /// Version of QUIC.
    pub version: u32,
    /// Destination Connection ID: what the keys of a client's first packets come from.
    pub destination: &'a [u8],
    /// All of the packet, from its first byte.
    packet: &'a [u8],
    /// Offset of its packet number.
    number: usize,
}

/// What protects the Initial packets that a client sends.
pub struct Keys {
    key: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
}

/// A way to derive the keys: it differs by version.
struct Derivation {
    salt: [u8; 20],
    /// Labels of key, IV and header protection.
    labels: [&'static [u8]; 3],
}

const V1: Derivation = Derivation {
    salt: [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,
        0xad, 0xcc, 0xbb, 0x7f, 0x0a,
    ],
    labels: [b"quic key", b"quic iv", b"quic hp"],
};
const V2: Derivation = Derivation {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
        0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
    ],
    labels: [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"],
};

/// Longest connection id of versions 1 and 2 (RFC 9000 section 17.2).
const MAX_CONNECTION_ID: usize = 20;
/// Bytes that the header's protection is made from, and how far behind the start of the packet
/// number they are (RFC 9001 section 5.4.2).
const SAMPLE: usize = 16;
const SAMPLE_OFFSET: usize = 4;
/// Authentication tag behind the payload.
const TAG: usize = 16;

/// Reads bytes from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// Whether a number is a version of QUIC that is or was in use.
pub fn is_version(version: u32) -> bool {
    matches!(
        version,
        QUIC_V1
            | QUIC_V2
            // Drafts of the working group.
            | 0xff00_0001..=0xff00_00ff
            // Google's, `Q043` to `T051`.
            | 0x5130_3433..=0x5130_3539
            | 0x5430_3530..=0x5430_3531
            // Meta's.
            | 0xface_b000..=0xface_b00f
    )
}

/// Version of a packet with a long header, whatever it is otherwise (RFC 8999 section 5.1).
pub fn version(bytes: &[u8]) -> Option<u32> {
    let (first, rest) = bytes.split_first()?;
    let version = u32::from_be_bytes(*rest.first_chunk()?);
    (first & 0x80 != 0 && version != 0).then_some(version)
}

/// Cuts the first packet off a datagram of version 1 or 2: the packet, if it is an Initial packet,
/// and what follows it. `None` when nothing that has a length follows.
pub fn next(bytes: &[u8]) -> Option<(Option<Initial<'_>>, &[u8])> {
    let version = version(bytes)?;
    let mut reader = Reader(bytes);
    let kind = reader.byte()? >> 4 & 3;
    reader.take(4)?;
    let length = usize::from(reader.byte()?);
    if length > MAX_CONNECTION_ID {
        return None;
    }
    let destination = reader.take(length)?;
    let length = usize::from(reader.byte()?);
    if length > MAX_CONNECTION_ID {
        return None;
    }
    reader.take(length)?;
    let (initial, retry) = match version {
        QUIC_V1 => (0, 3),
        QUIC_V2 => (1, 0),
        _ => return None,
    };
    if kind == retry {
        return None;
    }
    if kind == initial {
        let token = reader.number()?;
        reader.take(usize::try_from(token).ok()?)?;
    }
    let length = usize::try_from(reader.number()?).ok()?;
    let number = bytes.len() - reader.0.len();
    reader.take(length)?;
    let (packet, rest) = bytes.split_at(bytes.len() - reader.0.len());
    let packet = (kind == initial).then_some(Initial {
        version,
        destination,
        packet,
        number,
    });
    Some((packet, rest))
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A number of one to eight bytes (RFC 9000 section 16).
    pub(super) fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let mut number = u64::from(first & 0x3f);
        for byte in self.take((1 << (first >> 6)) - 1)? {
            number = number << 8 | u64::from(*byte);
        }
        Some(number)
    }
}

// === impl Keys ===

impl Keys {
    /// Keys of a client whose first packet has this Destination Connection ID. `None` for versions
    /// whose keys are not known.
    pub fn of_client(version: u32, destination: &[u8]) -> Option<Self> {
        Self::derive(version, destination, b"client in")
    }

    fn derive(version: u32, destination: &[u8], end: &[u8]) -> Option<Self> {
        let derivation = match version {
            QUIC_V1 => V1,
            QUIC_V2 => V2,
            _ => return None,
        };
        let [key, iv, header] = derivation.labels;
        let initial = Hkdf::<Sha256>::new(Some(&derivation.salt), destination);
        let secret: [u8; 32] = expand(&initial, end)?;
        let secret = Hkdf::<Sha256>::from_prk(&secret).ok()?;
        Some(Self {
            key: Aes128Gcm::new(&expand::<16>(&secret, key)?.into()),
            iv: expand(&secret, iv)?,
            header: Aes128::new(&expand::<16>(&secret, header)?.into()),
        })
    }

    /// The frames of a packet; `None` when it is not protected with these keys.
    pub fn open(&self, initial: &Initial<'_>) -> Option<Vec<u8>> {
        let mut packet = initial.packet.to_vec();
        let start = initial.number + SAMPLE_OFFSET;
        let sample: [u8; SAMPLE] = *packet.get(start..)?.first_chunk()?;
        let mut mask = sample.into();
        self.header.encrypt_block(&mut mask);
        let first = packet.first_mut()?;
        *first ^= mask[0] & 0x0f;
        let length = usize::from(*first & 3) + 1;
        let mut nonce = self.iv;
        for index in 0..length {
            let byte = packet.get_mut(initial.number + index)?;
            *byte ^= mask[1 + index];
            // The numbers of the first packets are small, so what is cut off them is zero.
            nonce[12 - length + index] ^= *byte;
        }
        let (header, payload) = packet.split_at_mut_checked(initial.number + length)?;
        let (payload, tag) = payload.split_at_mut_checked(payload.len().checked_sub(TAG)?)?;
        let tag: [u8; TAG] = (&*tag).try_into().ok()?;
        self.key
            .decrypt_inout_detached(
                &nonce.into(),
                header,
                InOutBuf::from(&mut *payload),
                &tag.into(),
            )
            .ok()?;
        Some(payload.to_vec())
    }
}

/// `HKDF-Expand-Label` with an empty context (RFC 8446 section 7.1).
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &[u8]) -> Option<[u8; N]> {
    let mut info = Vec::with_capacity(10 + label.len());
    info.extend_from_slice(&u16::try_from(N).ok()?.to_be_bytes());
    info.push(u8::try_from(6 + label.len()).ok()?);
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label);
    info.push(0);
    let mut out = [0; N];
    secret.expand(&info, &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
impl Keys {
    /// A protected packet with `frames`, as a client would send it: for tests.
    pub(super) fn seal(version: u32, destination: &[u8], number: u32, frames: &[u8]) -> Vec<u8> {
        let keys = Self::of_client(version, destination).unwrap();
        let first = if version == QUIC_V1 { 0xc3 } else { 0xd3 };
        let mut packet = vec![first];
        packet.extend_from_slice(&version.to_be_bytes());
        packet.push(u8::try_from(destination.len()).unwrap());
        packet.extend_from_slice(destination);
        packet.extend_from_slice(&[0, 0]);
        let length = u16::try_from(4 + frames.len() + TAG).unwrap();
        packet.extend_from_slice(&(0x4000 | length).to_be_bytes());
        let start = packet.len();
        packet.extend_from_slice(&number.to_be_bytes());
        let mut nonce = keys.iv;
        for (byte, number) in nonce[8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        let mut payload = frames.to_vec();
        let tag = keys
            .key
            .encrypt_inout_detached(&nonce.into(), &packet, InOutBuf::from(&mut payload[..]))
            .unwrap();
        packet.extend_from_slice(&payload);
        packet.extend_from_slice(&tag);
        let sample: [u8; SAMPLE] = packet[start + SAMPLE_OFFSET..][..SAMPLE]
            .try_into()
            .unwrap();
        let mut mask = sample.into();
        keys.header.encrypt_block(&mut mask);
        packet[0] ^= mask[0] & 0x0f;
        for index in 0..4 {
            packet[start + index] ^= mask[1 + index];
        }
        packet
    }
}
