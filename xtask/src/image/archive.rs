//! Archives as container images have them: ustar (POSIX.1-1988), everything root's.

use anyhow::{Result, ensure};

/// A file or folder of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path without a slash at the start.
    pub(super) path: String,
    /// Bits of permission.
    pub(super) mode: u32,
    /// Content; `None` for a folder.
    pub(super) content: Option<Vec<u8>>,
}

/// Everything in an archive is a multiple of this many bytes.
const BLOCK: usize = 512;

/// Longest path that is written.
const MAX_PATH: usize = 100;

/// An archive of `entries`, in their order; `modified` is in seconds since 1970.
pub(super) fn write(entries: &[Entry], modified: u64) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend_from_slice(&header(entry, modified)?);
        if let Some(content) = &entry.content {
            archive.extend_from_slice(content);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
    }
    // Two empty blocks are the end.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(entry: &Entry, modified: u64) -> Result<[u8; BLOCK]> {
    let Entry {
        path,
        mode,
        content,
    } = entry;
    let path = match content {
        None => format!("{path}/"),
        Some(_) => path.clone(),
    };
    ensure!(
        path.len() <= MAX_PATH && path.is_ascii(),
        "{path}: an archive takes at most {MAX_PATH} bytes of ASCII"
    );
    let length = content.as_ref().map_or(0, Vec::len) as u64;
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, &octal::<8>(u64::from(*mode))?);
    put(108, &octal::<8>(0)?);
    put(116, &octal::<8>(0)?);
    put(124, &octal::<12>(length)?);
    put(136, &octal::<12>(modified)?);
    put(156, if content.is_some() { b"0" } else { b"5" });
    put(257, b"ustar\x0000");
    put(329, &octal::<8>(0)?);
    put(337, &octal::<8>(0)?);
    // The sum is taken with blanks in its own place.
    put(148, b"        ");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(&octal::<8>(sum)?);
    Ok(header)
}

/// A number in octal digits with a zero byte at the end.
fn octal<const LENGTH: usize>(number: u64) -> Result<[u8; LENGTH]> {
    let text = format!("{number:0width$o}\0", width = LENGTH - 1);
    <[u8; LENGTH]>::try_from(text.as_bytes())
        .map_err(|_| anyhow::anyhow!("{number} is too large for an archive"))
}

// === impl Entry ===

impl Entry {
    /// A folder that all may enter.
    pub(super) fn folder(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o755,
            content: None,
        }
    }

    /// A file.
    pub(super) fn file(path: &str, mode: u32, content: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: Some(content),
        }
    }
}
