//! A file that is written to its limit, and then becomes the older of two.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A file and its older one, `.1` at the end of its name.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    older: PathBuf,
    limit: u64,
    /// `None` when it could not be opened again.
    file: Option<File>,
    size: u64,
    /// The last write ended within a line.
    torn: bool,
    rotations_failed: u64,
}

/// The owner writes, the group reads: paths and user agents are nobody else's business.
const MODE: u32 = 0o640;

// === impl Rotated ===

impl Rotated {
    /// Opens the file, at its end if it exists.
    pub(super) fn open(path: PathBuf, limit: u64) -> io::Result<Self> {
        let mut older = OsString::from(&path);
        older.push(".1");
        let mut rotated = Self {
            file: None,
            older: older.into(),
            limit,
            size: 0,
            torn: false,
            rotations_failed: 0,
            path,
        };
        rotated.reopen()?;
        Ok(rotated)
    }

    /// Times that the file could not become the older one.
    pub(super) const fn rotations_failed(&self) -> u64 {
        self.rotations_failed
    }

    /// Appends whole lines. With an error they are lost, in part or all; the next ones start
    /// a line of their own.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        // Somebody else may have moved or removed it, as logrotate does.
        if !self.is_in_place() {
            self.reopen()?;
        }
        let more = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(more) > self.limit {
            self.rotate()?;
        }
        let Some(file) = self.file.as_mut() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let newline: &[u8] = if self.torn { b"\n" } else { b"" };
        let result = file.write_all(newline).and_then(|()| file.write_all(lines));
        self.torn = result.is_err();
        // After an error nobody knows how much was written.
        self.size = match (&result, file.metadata()) {
            (Err(_), Ok(metadata)) => metadata.len(),
            _ => self.size.saturating_add(more),
        };
        result
    }

    fn is_in_place(&self) -> bool {
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        let named = fs::metadata(&self.path).ok();
        match (open, named) {
            (Some(open), Some(named)) => identity(&open) == identity(&named),
            _ => false,
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        let file = open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        self.torn = false;
        Ok(())
    }

    /// The file becomes the older one. When it cannot, nothing is written, so that neither the
    /// limit is broken nor what is there lost.
    fn rotate(&mut self) -> io::Result<()> {
        let moved = fs::rename(&self.path, &self.older).and_then(|()| self.reopen());
        if moved.is_err() {
            self.rotations_failed += 1;
        }
        moved
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(MODE)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn rotated(limit: u64) -> (tempfile::TempDir, PathBuf, Rotated) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("access.log");
        let rotated = Rotated::open(path.clone(), limit).unwrap();
        (root, path, rotated)
    }

    #[test]
    fn a_full_file_becomes_the_older_one() {
        let (root, path, mut rotated) = rotated(10);
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            rotated.write(line.as_bytes()).unwrap();
        }
        assert_eq!(text(&path), "four\n");
        assert_eq!(text(root.path().join("access.log.1")), "three\n");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o007, 0);
    }

    #[test]
    fn a_line_longer_than_the_limit_is_written_alone() {
        let (_root, path, mut rotated) = rotated(4);
        rotated.write(b"much too long\n").unwrap();
        rotated.write(b"x\n").unwrap();
        assert_eq!(text(&path), "x\n");
    }

    #[test]
    fn what_is_there_stays_and_counts() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("access.log");
        fs::write(&path, "old old\n").unwrap();
        let mut rotated = Rotated::open(path.clone(), 10).unwrap();
        rotated.write(b"new\n").unwrap();
        assert_eq!(text(&path), "new\n");
        assert_eq!(text(root.path().join("access.log.1")), "old old\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let (root, path, mut rotated) = rotated(1 << 20);
        rotated.write(b"one\n").unwrap();
        let moved = root.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        rotated.write(b"two\n").unwrap();
        assert_eq!(
            (text(&moved), text(&path)),
            ("one\n".into(), "two\n".into())
        );
        fs::remove_file(&path).unwrap();
        rotated.write(b"three\n").unwrap();
        assert_eq!(text(&path), "three\n");
    }

    #[test]
    fn a_rotation_that_fails_loses_nothing_that_was_written() {
        let (root, path, mut rotated) = rotated(8);
        rotated.write(b"one\n").unwrap();
        // A folder cannot be replaced by a file.
        fs::create_dir(root.path().join("access.log.1")).unwrap();
        rotated.write(b"two two\n").unwrap_err();
        assert_eq!(rotated.rotations_failed(), 1);
        assert_eq!(text(&path), "one\n");
        fs::remove_dir(root.path().join("access.log.1")).unwrap();
        rotated.write(b"two two\n").unwrap();
        assert_eq!(text(&path), "two two\n");
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_next_lines_start_a_line() {
        let mut rotated = Rotated::open("/dev/full".into(), 1 << 20).unwrap();
        rotated.write(b"one\n").unwrap_err();
        assert!(rotated.torn);
    }
}
