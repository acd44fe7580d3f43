//! Any lines as fields that tell of a trace: within bounds, never an invalid id, and the same
//! whether they come in one head or are fed one by one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::assemble::{
    http1::head::opening,
    trace_context::{Carrier, Collector},
};

fuzz_target!(|data: &[u8]| {
    let mut collector = Collector::default();
    let mut head = b"GET / HTTP/1.1\n".to_vec();
    for line in data.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if let Some((carrier, value)) = Carrier::of_line(line) {
            assert!(line[..carrier.name().len()].eq_ignore_ascii_case(carrier.name().as_bytes()));
            assert!(carrier.cut(value).len() <= value.len());
            collector.push(carrier, value);
        }
        head.extend_from_slice(line);
        head.push(b'\n');
    }
    assert_eq!(opening(&head).map(|request| request.trace), Some(collector.clone()));
    assert!(collector.malformed() <= 7);
    let Some(context) = collector.context() else {
        return;
    };
    assert_ne!(context.trace.0, [0; 16]);
    assert_ne!(context.parent.map(|id| id.0), Some([0; 8]));
    assert!(context.state.len() <= 512);
    // A list that was read is one that can be read.
    let mut again = Collector::default();
    let parent = format!("00-{}-{:016x}-01", context.trace, 1);
    again.push(Carrier::TraceParent, parent.as_bytes());
    again.push(Carrier::TraceState, context.state.as_bytes());
    assert_eq!(again.malformed(), 0);
    assert_eq!(again.context().map(|read| read.state), Some(context.state));
});
