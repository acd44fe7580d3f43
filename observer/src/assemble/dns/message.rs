//! DNS messages (RFC 1035 section 4, EDNS0 of RFC 6891): what a question asks, what a response says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::lookup::{Answer, MAX_ANSWERS, Target};

/// A message, as far as it is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number that a response has in common with its question.
    pub id: u16,
    /// A response, not a question.
    pub response: bool,
    /// What is wanted (RFC 6895 section 2.2); 0 is a lookup.
    pub opcode: u8,
    /// Not all of the response fitted (`TC`).
    pub truncated: bool,
    /// Response code, with the upper bits of EDNS0; 0 in questions.
    pub code: u16,
    /// The question. Some servers leave it out of an error.
    pub question: Option<Question>,
    /// The first [`MAX_ANSWERS`] addresses and aliases of the answer section.
    pub answers: Vec<Answer>,
    /// All records that the header counts were there; otherwise what was there is told.
    pub complete: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Name, lower case, without the last dot; `.` is the root. Bytes other than printable ASCII
    /// are `\DDD` (RFC 1035 section 5.1).
    pub name: Box<str>,
    /// Type of record.
    pub kind: u16,
    /// Class; the top bit is mDNS's and never set here.
    pub class: u16,
}

/// Why bytes are no DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short for a header, or for the question.
    #[error("the message ends before its question does")]
    Short,
    /// More than one question (RFC 9619), or none in a query.
    #[error("the message does not have one question")]
    Questions,
    /// A label of a reserved kind (RFC 1035 section 4.1.4).
    #[error("a name has a label of an unknown kind")]
    Label,
    /// A name of more than 255 bytes.
    #[error("a name is too long")]
    Name,
    /// A compression pointer that does not lead back.
    #[error("a compressed name does not lead back")]
    Pointer,
    /// A record whose content does not fit its type.
    #[error("a record has a length that does not fit its type")]
    Record,
}

/// Reads a message from its start.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The fixed part of a resource record.
struct Record<'a> {
    name: Option<Box<str>>,
    kind: u16,
    class: u16,
    ttl: u32,
    /// Where its data is, and the data.
    start: usize,
    data: &'a [u8],
}

/// Header of a message (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
/// Longest name on the wire, lengths included (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;
/// Most records of a message that are looked at; a message of 64 KiB has no more than this.
const MAX_RECORDS: usize = 6000;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_INTERNET: u16 = 1;

/// Reads a message. Bytes that were cut off leave it without what they had.
///
/// # Errors
///
/// [`Malformed`] when the bytes are not a message of DNS.
pub fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let (Some(id), Some(flags)) = (reader.u16(), reader.u16()) else {
        return Err(Malformed::Short);
    };
    let mut counts = [0_usize; 4];
    for count in &mut counts {
        *count = reader.u16().ok_or(Malformed::Short)?.into();
    }
    let [questions, answers, authorities, additional] = counts;
    let response = flags & 0x8000 != 0;
    let mut message = Message {
        id,
        response,
        opcode: (flags >> 11 & 0xf) as u8,
        truncated: flags & 0x0200 != 0,
        code: if response { flags & 0xf } else { 0 },
        question: None,
        answers: Vec::new(),
        complete: false,
    };
    match questions {
        0 if response => {}
        1 => message.question = Some(reader.question()?),
        _ => return Err(Malformed::Questions),
    }
    let records = answers + authorities + additional;
    for index in 0..records.min(MAX_RECORDS) {
        let wanted = index < answers && message.answers.len() < MAX_ANSWERS;
        let Some(record) = reader.record(wanted)? else {
            return Ok(message);
        };
        if index < answers {
            if wanted && let Some(answer) = answer(bytes, record)? {
                message.answers.push(answer);
            }
        } else if record.kind == TYPE_OPT && response && index >= answers + authorities {
            // The upper eight of twelve bits are where other records have their time to live
            // (RFC 6891 section 6.1.3).
            message.code = (message.code & 0xf) | ((record.ttl >> 24) as u16) << 4;
        }
    }
    message.complete = records <= MAX_RECORDS;
    Ok(message)
}

/// What a record of the answer section says, if it is of interest.
fn answer(message: &[u8], record: Record<'_>) -> Result<Option<Answer>, Malformed> {
    if record.class != CLASS_INTERNET {
        return Ok(None);
    }
    let target = match record.kind {
        TYPE_A => {
            let octets: [u8; 4] = record.data.try_into().map_err(|_| Malformed::Record)?;
            Target::Address(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        TYPE_AAAA => {
            let octets: [u8; 16] = record.data.try_into().map_err(|_| Malformed::Record)?;
            Target::Address(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        TYPE_CNAME => {
            let end = record.start + record.data.len();
            let mut reader = Reader {
                bytes: message.get(..end).unwrap_or(message),
                at: record.start,
            };
            let name = reader.name(true)?.flatten().ok_or(Malformed::Record)?;
            if reader.at != end {
                return Err(Malformed::Record);
            }
            Target::Alias(name)
        }
        _ => return Ok(None),
    };
    let Some(name) = record.name else {
        return Ok(None);
    };
    Ok(Some(Answer {
        name,
        // A time with the top bit set is to be taken for none (RFC 2181 section 8).
        ttl: if record.ttl > i32::MAX as u32 {
            0
        } else {
            record.ttl
        },
        target,
    }))
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    fn question(&mut self) -> Result<Question, Malformed> {
        let name = self.name(true)?.flatten().ok_or(Malformed::Short)?;
        let (Some(kind), Some(class)) = (self.u16(), self.u16()) else {
            return Err(Malformed::Short);
        };
        Ok(Question { name, kind, class })
    }

    /// The next record, with its name if that is `wanted`; `None` when the bytes end before it.
    fn record(&mut self, wanted: bool) -> Result<Option<Record<'a>>, Malformed> {
        let Some(name) = self.name(wanted)? else {
            return Ok(None);
        };
        let fixed = (self.u16(), self.u16(), self.u32(), self.u16());
        let (Some(kind), Some(class), Some(ttl), Some(length)) = fixed else {
            return Ok(None);
        };
        let start = self.at;
        let Some(data) = self.take(length.into()) else {
            return Ok(None);
        };
        Ok(Some(Record {
            name,
            kind,
            class,
            ttl,
            start,
            data,
        }))
    }

    /// Steps over a name and reads it if it is `wanted`; `None` when the bytes end before it does.
    ///
    /// Every pointer must lead to before the place where the part of the name that it ends began,
    /// so a chain of them ends.
    fn name(&mut self, wanted: bool) -> Result<Option<Option<Box<str>>>, Malformed> {
        let mut text = String::new();
        let mut length = 0;
        let mut at = self.at;
        let mut began = self.at;
        let mut followed = false;
        loop {
            let Some(first) = self.bytes.get(at).copied() else {
                return Ok(None);
            };
            match first >> 6 {
                0b00 => {
                    let label = usize::from(first);
                    let Some(bytes) = self.bytes.get(at + 1..at + 1 + label) else {
                        return Ok(None);
                    };
                    at += 1 + label;
                    length += 1 + label;
                    if length > MAX_NAME {
                        return Err(Malformed::Name);
                    }
                    if label == 0 {
                        break;
                    }
                    if wanted {
                        write_label(&mut text, bytes);
                    }
                }
                0b11 => {
                    let Some(second) = self.bytes.get(at + 1).copied() else {
                        return Ok(None);
                    };
                    if !followed {
                        self.at = at + 2;
                    }
                    followed = true;
                    let target = usize::from(first & 0x3f) << 8 | usize::from(second);
                    if target >= began || target < HEADER {
                        return Err(Malformed::Pointer);
                    }
                    if !wanted {
                        return Ok(Some(None));
                    }
                    began = target;
                    at = target;
                }
                _ => return Err(Malformed::Label),
            }
        }
        if !followed {
            self.at = at;
        }
        if text.is_empty() {
            text.push('.');
        }
        Ok(Some(wanted.then(|| text.into_boxed_str())))
    }
}

/// Appends a label as zone files write it, in lower case: names are equal in any case (RFC 4343).
fn write_label(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for byte in label {
        match byte {
            b'.' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            0x21..=0x7e => text.push(char::from(byte.to_ascii_lowercase())),
            _ => {
                text.push('\\');
                for digit in [byte / 100, byte / 10 % 10, byte % 10] {
                    text.push(char::from(b'0' + digit));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
