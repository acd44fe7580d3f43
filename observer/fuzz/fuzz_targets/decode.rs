//! Any bytes as a kernel record: an error or an event that keeps its promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::{
    decode::decode,
    model::event::{Event, Segment},
};

fn check(segment: &Segment<'_>) {
    assert!(segment.bytes.len() <= segment.length as usize);
}

fuzz_target!(|data: &[u8]| {
    match decode(data) {
        Ok(Event::Segment { segment, .. } | Event::ListenerSegment { segment, .. }) => {
            check(&segment);
        }
        Ok(Event::Pair {
            request, response, ..
        }) => {
            check(&request);
            check(&response);
        }
        Ok(Event::Datagram(datagram)) => {
            assert!(datagram.bytes.len() <= datagram.length as usize);
        }
        Ok(_) | Err(_) => {}
    }
});
