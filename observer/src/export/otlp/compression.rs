//! Request bodies in gzip (RFC 1952), and back.

use std::io::{self, Read as _, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// `plain` in gzip. The fastest level: telemetry repeats itself, so the others gain little, and
/// this takes its time from the applications.
///
/// # Errors
///
/// None that writing to memory could have.
pub fn gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(
        Vec::with_capacity(plain.len() / 4 + 64),
        Compression::fast(),
    );
    encoder.write_all(plain)?;
    encoder.finish()
}

/// What is in `packed`, of which it may be `limit` bytes.
///
/// # Errors
///
/// When it is not gzip, or has more in it.
pub fn gunzip(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    // One byte more than allowed shows that there is more.
    let mut decoder = GzDecoder::new(packed).take(most.saturating_add(1));
    decoder.read_to_end(&mut plain)?;
    if plain.len() > limit {
        return Err(io::Error::other(format!(
            "more than {limit} bytes unpacked"
        )));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(plain in prop::collection::vec(any::<u8>(), 0..4096)) {
            let packed = gzip(&plain).unwrap();
            prop_assert_eq!(gunzip(&packed, plain.len()).unwrap(), &*plain);
            if !plain.is_empty() {
                prop_assert!(gunzip(&packed, plain.len() - 1).is_err());
            }
        }

        #[test]
        fn anything_is_unpacked_or_refused(packed in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = gunzip(&packed, 1024);
        }
    }
}
