//! Any content as gRPC: where it is cut must not matter, and holes never count too much.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::{
    assemble::grpc::{Format, Walker},
    model::time::Monotonic,
};

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, cut, hole], content)) = data.split_first_chunk() else {
        return;
    };
    let format = [Format::Grpc, Format::Web, Format::WebText][usize::from(kind) % 3];
    let time = Monotonic(1);
    let mut whole = Walker::new(format);
    whole.push(content, time);
    let (left, right) = content.split_at(usize::from(cut) % (content.len() + 1));
    let mut parts = Walker::new(format);
    parts.push(left, time);
    parts.push(right, time);
    assert_eq!(whole.messages(), parts.messages());
    assert_eq!(whole.status(), parts.status());
    // A hole after the cut.
    let hole = usize::from(hole).min(right.len());
    let mut holed = Walker::new(format);
    holed.push(left, time);
    holed.skip(hole as u64, time);
    holed.push(&right[hole..], time);
    assert!(holed.messages().count <= whole.messages().count);
    if !holed.messages().at_least && !whole.messages().at_least {
        assert_eq!(holed.messages().count, whole.messages().count);
    }
});
