//! A list of the API, item by item as its bytes come: nothing of it is held but one item.
//!
//! A server may answer with all of its objects, whatever limit was asked for: a hundred megabytes
//! for ten thousand pods.

use super::{Losses, MAX_OBJECT, Page, wire};

/// Reads a list.
#[derive(Debug, Default)]
pub struct ListReader {
    state: State,
    /// Depth of nesting, where the list itself is 1.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The last string at depth 1 that may be a key.
    key: Vec<u8>,
    /// What is read of an item.
    item: Vec<u8>,
    /// The item is longer than it may be.
    overlong: bool,
    /// The list without its items.
    envelope: Vec<u8>,
    broken: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Outside of the items.
    #[default]
    Outside,
    /// Between items.
    Between,
    /// In an item.
    Item,
}

/// Most bytes of a list without its items.
const MAX_ENVELOPE: usize = 64 << 10;
/// Most bytes of a key that is compared.
const MAX_KEY: usize = 16;

// === impl ListReader ===

impl ListReader {
    /// Takes the next bytes; calls `each` with every item that is complete.
    pub fn push(
        &mut self,
        bytes: &[u8],
        losses: &mut Losses,
        mut each: impl FnMut(&[u8], &mut Losses),
    ) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            // Most of an item is text within strings, which is taken at once.
            if self.state == State::Item && self.in_string && !self.escaped {
                let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                let (text, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                if !text.is_empty() {
                    self.keep_item(text);
                    rest = after;
                    continue;
                }
            }
            self.byte(*byte, losses, &mut each);
            rest = after;
        }
    }

    /// What surrounds the items, at the end; `None` if it was no complete list.
    pub fn finish(self) -> Option<Page> {
        if self.broken || self.depth != 0 || self.in_string {
            return None;
        }
        let list: wire::Envelope<'_> = serde_json::from_slice(&self.envelope).ok()?;
        let metadata = list.metadata.0;
        Some(Page {
            version: metadata.resource_version.as_str().into(),
            next: metadata.next.as_str().into(),
        })
    }

    fn byte(&mut self, byte: u8, losses: &mut Losses, each: &mut impl FnMut(&[u8], &mut Losses)) {
        let depth = self.depth;
        let was_in_string = self.in_string;
        self.advance(byte);
        match self.state {
            State::Outside => {
                self.keep_outside(byte, depth, was_in_string);
                let opens = !was_in_string && byte == b'[' && depth == 1;
                if opens && self.key == b"items" {
                    self.state = State::Between;
                }
            }
            State::Between => match byte {
                b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
                b']' => {
                    self.state = State::Outside;
                    self.keep(byte);
                }
                _ => {
                    self.state = State::Item;
                    self.item.clear();
                    self.overlong = false;
                    self.keep_item(&[byte]);
                    // An item that is no object ends with the next comma, and is malformed.
                }
            },
            State::Item => {
                let at_its_end = !was_in_string && depth == 2 && matches!(byte, b',' | b']');
                if at_its_end {
                    self.tell(losses, each);
                    self.state = State::Between;
                    if byte == b']' {
                        self.state = State::Outside;
                        self.keep(byte);
                    }
                } else {
                    self.keep_item(&[byte]);
                }
            }
        }
    }

    /// Follows strings and nesting.
    fn advance(&mut self, byte: u8) {
        if self.in_string {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => match self.depth.checked_sub(1) {
                Some(depth) => self.depth = depth,
                None => self.broken = true,
            },
            _ => {}
        }
    }

    fn keep_outside(&mut self, byte: u8, depth: u32, was_in_string: bool) {
        self.keep(byte);
        if depth != 1 {
            return;
        }
        if was_in_string && self.in_string {
            if self.key.len() < MAX_KEY {
                self.key.push(byte);
            }
        } else if self.in_string {
            self.key.clear();
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.envelope.len() < MAX_ENVELOPE {
            self.envelope.push(byte);
        } else {
            self.broken = true;
        }
    }

    fn keep_item(&mut self, bytes: &[u8]) {
        if self.item.len() + bytes.len() <= MAX_OBJECT {
            self.item.extend_from_slice(bytes);
        } else {
            self.overlong = true;
        }
    }

    fn tell(&mut self, losses: &mut Losses, each: &mut impl FnMut(&[u8], &mut Losses)) {
        if self.overlong {
            losses.too_large += 1;
            self.item = Vec::new();
        } else {
            each(&self.item, losses);
        }
    }
}
