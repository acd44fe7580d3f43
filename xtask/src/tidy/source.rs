//! A source file as the rules see it: code apart from comments, literals and tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::workspace::root;

/// A Rust file of this repository.
pub(super) struct Source {
    /// Path below the root, with `/`.
    pub(super) path: String,
    /// Content.
    pub(super) text: String,
}

/// Every Rust file.
pub(super) fn all() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["observer", "observer-ebpf", "tests", "xtask"] {
        walk(&root().join(folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 20, "the sources were not found");
    files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| Source {
            text: fs::read_to_string(&file).unwrap(),
            path: file
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned(),
        })
        .collect()
}

/// Every file that people wrote, also those that are not Rust.
pub(super) fn written() -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(&root(), &mut files);
    files.sort();
    files
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && name != "target" && name != ".git" && name != "node_modules" {
            walk(&entry.path(), files);
        } else if kind.is_file() && name != ".git" {
            // In a worktree `.git` is a file.
            files.push(entry.path());
        }
    }
}

/// `text` with comments and the content of literals blanked out, line by line as before.
pub(super) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            line_end(rest)
        } else if rest.starts_with(b"/*") {
            comment_end(rest)
        } else if let Some(end) = raw_string_end(rest, at.checked_sub(1).map(|last| bytes[last])) {
            end
        } else if rest[0] == b'"' {
            quoted_end(rest, b'"')
        } else if let Some(end) = character_end(rest) {
            end
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        out.extend(
            rest[..end]
                .iter()
                .map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }),
        );
        at += end;
    }
    String::from_utf8(out).unwrap()
}

/// The lines of `text` before its test module, which is the last thing of a file.
pub(super) fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ")
        .map_or(text, |end| &text[..end])
}

fn line_end(rest: &[u8]) -> usize {
    rest.iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len())
}

/// End of a block comment; they nest.
fn comment_end(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// End of `r"..."`, `r#"..."#`, `br"..."` and so on.
fn raw_string_end(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let prefix = if rest.starts_with(b"br") {
        2
    } else {
        usize::from(rest.starts_with(b"r"))
    };
    if prefix == 0 {
        return None;
    }
    let hashes = rest[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let length = rest[open + 1..]
        .windows(close.len())
        .position(|window| window == close)?;
    Some(open + 1 + length + close.len())
}

/// End of a literal with escapes.
fn quoted_end(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// End of a character literal; `None` for a lifetime.
fn character_end(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted_end(rest, b'\''));
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
    let valid = match &text {
        Ok(text) => *text,
        Err(error) => std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).unwrap(),
    };
    let end = 1 + valid.chars().next()?.len_utf8();
    (rest.get(end) == Some(&b'\'')).then_some(end + 1)
}

#[test]
fn comments_and_literals_are_blanked() {
    let check = |text: &str, expected: &str| assert_eq!(code(text), expected, "{text:?}");
    check("a // b\nc", "a     \nc");
    check("a /* b /* c */ d */ e", "a                   e");
    check("f(\"x\\\"y\", 'z', '\\'', 'a)", "f(      ,    ,     , 'a)");
    check("r\"a\\\" b", "      b");
    check("br#\"a\"b\"# c", "          c");
    check("for_r \"x\" 'static", "for_r     'static");
}
