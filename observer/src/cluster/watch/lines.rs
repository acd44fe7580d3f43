//! The lines of a watch, as its bytes come.

use crate::cluster::read::{Losses, MAX_OBJECT};

/// Cuts bytes into lines, of which one at most is held.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// The line is longer than an object may be: it is passed over.
    overlong: bool,
}

// === impl Lines ===

impl Lines {
    /// Takes the next bytes, and calls `each` with every line that is complete, until it breaks.
    pub(super) fn push<E>(
        &mut self,
        mut bytes: &[u8],
        losses: &mut Losses,
        mut each: impl FnMut(&[u8], &mut Losses) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, after) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
            bytes = after.get(1..).unwrap_or_default();
            if self.overlong {
                self.overlong = false;
            } else if self.rest.is_empty() {
                filled(line, losses, &mut each)?;
            } else if self.keep(line, losses) {
                let line = std::mem::take(&mut self.rest);
                filled(&line, losses, &mut each)?;
            } else {
                self.overlong = false;
            }
        }
        if !self.overlong {
            self.keep(bytes, losses);
        }
        Ok(())
    }

    /// Whether a line was begun and not ended.
    pub(super) fn is_cut(&self) -> bool {
        self.overlong || !self.rest.trim_ascii().is_empty()
    }

    fn keep(&mut self, bytes: &[u8], losses: &mut Losses) -> bool {
        if self.rest.len() + bytes.len() > MAX_OBJECT {
            losses.too_large += 1;
            self.overlong = true;
            self.rest = Vec::new();
            return false;
        }
        self.rest.extend_from_slice(bytes);
        true
    }
}

fn filled<E>(
    line: &[u8],
    losses: &mut Losses,
    each: &mut impl FnMut(&[u8], &mut Losses) -> Result<(), E>,
) -> Result<(), E> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    each(line, losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Losses, bool) {
        let (mut found, mut losses, mut lines) = (Vec::new(), Losses::default(), Lines::default());
        for piece in pieces {
            let pushed: Result<(), ()> = lines.push(piece, &mut losses, |line, _| {
                found.push(line.to_vec());
                Ok(())
            });
            pushed.unwrap();
        }
        let cut = lines.is_cut();
        (found, losses, cut)
    }

    #[test]
    fn lines_are_whole_however_they_are_cut() {
        let text = b"{\"a\":1}\n\n  \n{\"b\":2}\r\n{\"c\"";
        let whole = lines(&[text]);
        assert_eq!(whole.0, [&b"{\"a\":1}"[..], b"{\"b\":2}\r"]);
        assert!(whole.2);
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(lines(&pieces), whole, "{size}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_counted() {
        let long = vec![b'x'; 1 << 20];
        let mut pieces: Vec<&[u8]> = vec![b"{}\n"];
        pieces.extend(std::iter::repeat_n(&long[..], 6));
        pieces.extend([&b"tail\n{}\n"[..]]);
        let (found, losses, cut) = lines(&pieces);
        assert_eq!(found, [b"{}", b"{}"]);
        assert_eq!((losses.too_large, cut), (1, false));
        // Also one that ends in the piece that makes it too long.
        let longer = [&long[..], b"\n{}\n"].concat();
        let pieces: Vec<&[u8]> = vec![&long, &long, &long, &long, &longer];
        let (found, losses, cut) = lines(&pieces);
        assert_eq!(found, [b"{}"]);
        assert_eq!((losses.too_large, cut), (1, false));
    }
}
