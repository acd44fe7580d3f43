//! The tables of HPACK (RFC 7541 section 2.3): a static one, and what was seen of a dynamic one.

use std::collections::VecDeque;

use super::{Malformed, Name};
use crate::assemble::forwarded::Mark;

/// Most that is kept of a dynamic table, by the sizes that RFC 7541 section 4.1 counts. Of a table
/// that may be larger, the oldest entries are forgotten.
const KEPT: u64 = 64 << 10;
/// What an entry counts beside its name and value (RFC 7541 section 4.1).
const OVERHEAD: u64 = 32;
/// `SETTINGS_HEADER_TABLE_SIZE` when none was sent (RFC 9113 section 6.5.2).
const INITIAL: u64 = 4096;

/// What is known of a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// `None` when the name was not seen.
    pub(super) length: Option<u32>,
    /// The field, when it is a wanted one.
    pub(super) name: Option<Name>,
}

/// What an index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) key: Key,
    /// Value of a wanted field; empty for all others.
    pub(super) value: &'a [u8],
}

/// What is known of a dynamic table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Entries whose insertion was seen, oldest first.
    seen: VecDeque<Entry>,
    /// Sum of their sizes; less than the truth if the name of one is not known.
    size: u64,
    /// Bytes of their values that are kept.
    kept: usize,
    /// Entries that were not seen, or are forgotten, may lie behind those that were.
    more: bool,
    /// Size that the encoder uses; `None` when the update that told it may have been missed.
    used: Option<u64>,
    /// Largest size that the decoder ever allowed; `None` when not all of that was seen.
    allowed: Option<u64>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    size: u32,
    value: Box<[u8]>,
}

/// Indices 1 to 61 (RFC 7541 appendix A).
static STATIC: [Found<'static>; 61] = [
    wanted(10, Name::Authority, b""),
    wanted(7, Name::Method, b"GET"),
    wanted(7, Name::Method, b"POST"),
    wanted(5, Name::Path, b"/"),
    wanted(5, Name::Path, b"/index.html"),
    wanted(7, Name::Scheme, b"http"),
    wanted(7, Name::Scheme, b"https"),
    wanted(7, Name::Status, b"200"),
    wanted(7, Name::Status, b"204"),
    wanted(7, Name::Status, b"206"),
    wanted(7, Name::Status, b"304"),
    wanted(7, Name::Status, b"400"),
    wanted(7, Name::Status, b"404"),
    wanted(7, Name::Status, b"500"),
    other(14), // accept-charset
    other(15), // accept-encoding
    other(15), // accept-language
    other(13), // accept-ranges
    other(6),  // accept
    other(27), // access-control-allow-origin
    other(3),  // age
    other(5),  // allow
    other(13), // authorization
    other(13), // cache-control
    other(19), // content-disposition
    other(16), // content-encoding
    other(16), // content-language
    wanted(14, Name::ContentLength, b""),
    other(16), // content-location
    other(13), // content-range
    wanted(12, Name::ContentType, b""),
    other(6), // cookie
    other(4), // date
    other(4), // etag
    other(6), // expect
    other(7), // expires
    other(4), // from
    wanted(4, Name::Host, b""),
    other(8),  // if-match
    other(17), // if-modified-since
    other(13), // if-none-match
    other(8),  // if-range
    other(19), // if-unmodified-since
    other(13), // last-modified
    other(4),  // link
    other(8),  // location
    other(12), // max-forwards
    other(18), // proxy-authenticate
    other(19), // proxy-authorization
    other(5),  // range
    other(7),  // referer
    other(7),  // refresh
    other(11), // retry-after
    wanted(6, Name::Mark(Mark::Server), b""),
    other(10), // set-cookie
    other(25), // strict-transport-security
    other(17), // transfer-encoding
    wanted(10, Name::UserAgent, b""),
    other(4),  // vary
    other(3),  // via
    other(16), // www-authenticate
];

const fn wanted(length: u32, name: Name, value: &'static [u8]) -> Found<'static> {
    Found {
        key: Key {
            length: Some(length),
            name: Some(name),
        },
        value,
    }
}

const fn other(length: u32) -> Found<'static> {
    Found {
        key: Key {
            length: Some(length),
            name: None,
        },
        value: b"",
    }
}

// === impl Found ===

impl Found<'_> {
    /// An entry that exists and was not seen.
    const UNKNOWN: Self = Found {
        key: Key {
            length: None,
            name: None,
        },
        value: b"",
    };
}

// === impl Table ===

impl Table {
    pub(super) fn new(known: bool) -> Self {
        Self {
            seen: VecDeque::new(),
            size: 0,
            kept: 0,
            more: !known,
            used: known.then_some(INITIAL),
            allowed: known.then_some(INITIAL),
        }
    }

    /// What index `index` stands for.
    pub(super) fn get(&self, index: u32) -> Result<Found<'_>, Malformed> {
        let Some(at) = (index as usize).checked_sub(1) else {
            return Err(Malformed::Index);
        };
        if let Some(entry) = STATIC.get(at) {
            return Ok(*entry);
        }
        let behind = at - STATIC.len();
        if let Some(entry) = self.seen.len().checked_sub(behind + 1) {
            let entry = &self.seen[entry];
            return Ok(Found {
                key: entry.key,
                value: &entry.value,
            });
        }
        // No entry is smaller than its overhead.
        let needed = (behind + 1 - self.seen.len()) as u64 * OVERHEAD;
        if self.more && self.size + needed <= self.bound() {
            Ok(Found::UNKNOWN)
        } else {
            Err(Malformed::Index)
        }
    }

    /// Inserts an entry: its value has `length` bytes, of which `value` are kept.
    pub(super) fn insert(&mut self, key: Key, length: usize, value: &[u8]) {
        let size = u64::from(key.length.unwrap_or(0)) + length as u64 + OVERHEAD;
        let Ok(short) = u32::try_from(size) else {
            // No table has room for it: it empties the table.
            return self.lose();
        };
        self.size += size;
        self.kept += value.len();
        self.seen.push_back(Entry {
            key,
            size: short,
            value: value.into(),
        });
        self.evict();
    }

    /// The encoder says which size it uses (RFC 7541 section 6.3).
    pub(super) fn resize(&mut self, size: u32) -> Result<(), Malformed> {
        let size = u64::from(size);
        if self.allowed.is_some_and(|allowed| size > allowed) {
            return Err(Malformed::Size);
        }
        self.used = Some(size);
        self.evict();
        Ok(())
    }

    /// The decoder allows this size. Those it allowed before stay allowed: what the encoder sent
    /// before it learned of a smaller one may use them.
    pub(super) fn allow(&mut self, size: u32) {
        if let Some(allowed) = &mut self.allowed {
            *allowed = (*allowed).max(size.into());
        }
    }

    /// What the decoder allows may have changed unseen.
    pub(super) fn lose_allowed(&mut self) {
        self.allowed = None;
    }

    /// Insertions or updates may have been missed.
    pub(super) fn lose(&mut self) {
        self.seen = VecDeque::new();
        self.size = 0;
        self.kept = 0;
        self.more = true;
        self.used = None;
    }

    /// Bytes of memory that the table takes.
    pub(super) fn memory(&self) -> usize {
        self.seen.capacity() * size_of::<Entry>() + self.kept
    }

    /// Values that are kept.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.seen.iter().map(|entry| &*entry.value)
    }

    /// The table is not larger than this.
    fn bound(&self) -> u64 {
        self.used.or(self.allowed).unwrap_or(u64::MAX)
    }

    /// Drops what is certainly evicted, and what is more than is kept. What stays too long because
    /// a size is not known does no harm: indices count from the newest, and no encoder refers to
    /// what it evicted.
    fn evict(&mut self) {
        let bound = self.bound();
        while self.size > bound.min(KEPT)
            && let Some(entry) = self.seen.pop_front()
        {
            // What is evicted takes all that is older along; what is forgotten is still there.
            self.more = self.size <= bound;
            self.size -= u64::from(entry.size);
            self.kept -= entry.value.len();
        }
        if self.size + OVERHEAD > bound {
            self.more = false;
        }
    }
}
