//! The trailers of gRPC-Web, which are content: lines, of which one is wanted.

/// Longest line that may be the wanted one.
const MAX_LINE: usize = 32;

/// Looks for `grpc-status`. Other lines, which may have texts of errors, are not kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trailers {
    line: [u8; MAX_LINE],
    /// Bytes of the line; more than fit when it is not the wanted one.
    length: usize,
    status: Option<u32>,
}

// === impl Trailers ===

impl Trailers {
    pub(super) fn status(&self) -> Option<u32> {
        self.status
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.finish();
                continue;
            }
            if let Some(place) = self.line.get_mut(self.length) {
                *place = *byte;
            }
            self.length = (self.length + 1).min(MAX_LINE + 1);
        }
    }

    /// Bytes were not seen: the line they end in is not known.
    pub(super) fn skip(&mut self) {
        self.length = MAX_LINE + 1;
    }

    /// The line ended.
    pub(super) fn finish(&mut self) {
        if let Some(line) = self.line.get(..self.length)
            && let Some((name, value)) = line.split_at_checked(b"grpc-status:".len())
            && name.eq_ignore_ascii_case(b"grpc-status:")
        {
            self.status = self.status.or(super::status(value.trim_ascii()));
        }
        self.length = 0;
    }
}
