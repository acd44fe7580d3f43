//! Uids as messages, and back.

use prost::bytes::Bytes;

use super::{Uid, conversion::Unusable};

pub(super) fn encode_uid(uid: &str) -> Option<Uid> {
    if uid.is_empty() {
        return None;
    }
    Some(match uuid(uid) {
        Some(binary) => Uid {
            binary: Bytes::copy_from_slice(&binary),
            text: String::new(),
        },
        None => Uid {
            binary: Bytes::new(),
            text: uid.to_owned(),
        },
    })
}

/// The bytes of a UUID, if `text` is exactly what they would be written as again.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (place, byte) in text.bytes().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        let target: &mut u8 = bytes.get_mut(digits / 2)?;
        *target = *target << 4 | digit;
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

pub(super) fn own_uid(uid: Option<Uid>) -> Result<Box<str>, Unusable> {
    let uid = decode_uid(uid)?;
    if uid.is_empty() {
        return Err(Unusable::Bad("uid"));
    }
    Ok(uid)
}

pub(super) fn decode_uid(uid: Option<Uid>) -> Result<Box<str>, Unusable> {
    let Some(Uid { binary, text }) = uid else {
        return Ok(Box::default());
    };
    if binary.is_empty() {
        return Ok(text.into());
    }
    if binary.len() != 16 {
        return Err(Unusable::Bad("uid"));
    }
    let mut out = String::with_capacity(36);
    for (place, byte) in binary.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    Ok(out.into())
}
