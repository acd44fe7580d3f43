//! Any bytes as a response head: where they are cut must not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::assemble::http1::head::{Parsed, response};

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let whole = response(data, 0);
    if let Parsed::Complete(_, length) = &whole {
        assert!(*length <= data.len());
        for end in 0..*length {
            // Not Invalid, and not Complete: the rest was needed.
            assert_eq!(response(&data[..end], 0), Parsed::Partial);
        }
    }
    let cut = usize::from(*first) % (data.len() + 1);
    match response(&data[..cut], 0) {
        Parsed::Partial => assert_eq!(response(data, cut), whole),
        Parsed::Complete(_, length) => {
            assert!(matches!(whole, Parsed::Complete(_, other) if other == length));
        }
        Parsed::Invalid => assert_eq!(whole, Parsed::Invalid),
    }
});
