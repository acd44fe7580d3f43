//! Counters that the programs keep, one array element each, per CPU.

/// One counter: its index in the counter map, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Index in the map.
    pub index: u32,
    /// Label value under which user space shows it.
    pub name: &'static str,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $constant:ident = $index:literal, $name:literal;)*) => {
        $($(#[doc = $doc])* pub const $constant: Counter = Counter { index: $index, name: $name };)*
        /// All counters, in index order.
        pub const ALL: &[Counter] = &[$($constant),*];
    };
}

counters! {
    /// Records that did not fit into the ring buffer.
    RING_FULL = 0, "ring_full";
    /// Connections whose state could not be allocated.
    STORAGE_FULL = 1, "storage_full";
    /// Connections that found no free slot.
    SLOTS_FULL = 2, "slots_full";
    /// Segments whose TCP header could not be read.
    BAD_HEADER = 3, "bad_header";
    /// Payload that could not be read from the packet.
    LOAD_FAILED = 4, "load_failed";
    /// Payload that was filtered against a listener.
    LISTENER_SEGMENT = 5, "listener_segment";
    /// Segments that were sent or received again and so not shipped.
    DUPLICATE_SEGMENT = 6, "duplicate_segment";
    /// Segments of which more was shipped than the budget of a connection allows.
    BUDGET_SPENT = 7, "budget_spent";
    /// Records submitted.
    RECORDS = 8, "records";
    /// Segments with payload seen.
    SEGMENTS = 9, "segments";
    /// IPv6 packets whose TCP header is behind extension headers.
    EXTENSION_HEADERS = 10, "extension_headers";
    /// Datagrams whose peer found no room.
    DATAGRAM_FLOWS_FULL = 11, "datagram_flows_full";
    /// Peers that datagrams were seen of.
    DATAGRAM_FLOWS = 12, "datagram_flows";
    /// Datagrams seen.
    DATAGRAMS = 13, "datagrams";
}

/// Which counters are losses, by index; the others tell of work done.
pub const IS_LOSS: [bool; ALL.len()] = [
    true, true, true, true, true, false, false, true, false, false, true, true, false, false,
];

/// Size of the counter map.
pub const COUNT: u32 = ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_dense_and_in_order() {
        for (index, counter) in ALL.iter().enumerate() {
            assert_eq!(counter.index as usize, index, "{}", counter.name);
        }
    }
}
