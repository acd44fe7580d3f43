//! Any bytes as a PROXY protocol header: more bytes change nothing of what is known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::assemble::proxy_protocol::{Header, LONGEST, parse};

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let whole = parse(data);
    match &whole {
        Header::Complete { length, .. } => {
            assert!(*length <= data.len());
            assert_eq!(parse(&data[..*length]), whole);
            // The rest was needed.
            assert_eq!(parse(&data[..*length - 1]), Header::Partial);
        }
        Header::Partial => assert!(data.len() < LONGEST),
        Header::Not => {}
    }
    let part = parse(&data[..usize::from(*first) % (data.len() + 1)]);
    if part != Header::Partial {
        assert_eq!(part, whole);
    }
});
