//! What goes into the image, and what does not.

use super::*;

/// A program header table with these types.
fn program(types: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = u8::try_from(types.len()).unwrap();
    for kind in types {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.resize(bytes.len() + 52, 0);
    }
    bytes
}

#[test]
fn a_program_that_wants_a_linker_is_told_from_one_that_does_not() {
    assert!(!has_interpreter(&program(&[1, 1, 2])).unwrap());
    assert!(has_interpreter(&program(&[6, 3, 1])).unwrap());
    for bad in [&b"#!/bin/sh"[..], &program(&[6, 3])[..100], b""] {
        assert!(has_interpreter(bad).is_err());
    }
    // This program is one of either kind, and there is no telling which; but it can be read.
    let own = fs::read("/proc/self/exe").unwrap();
    has_interpreter(&own).unwrap();
}

#[test]
fn the_image_has_no_shell_and_nobody_can_write_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("binary");
    fs::write(&binary, b"program").unwrap();
    let entries = entries(&binary).unwrap();
    let paths: Vec<&str> = entries.iter().map(|entry| &*entry.path).collect();
    assert_eq!(
        paths,
        [
            "etc",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "licenses",
            "licenses/LICENSE-APACHE",
            "licenses/LICENSE-MIT",
            "observer"
        ]
    );
    for entry in &entries {
        assert_eq!(entry.mode & 0o022, 0, "{}", entry.path);
        assert!(entry.mode & 0o004 != 0, "{} is for all", entry.path);
    }
    let root = folder.path().join("root");
    unpack(&entries, &root).unwrap();
    unpack(&entries, &root).unwrap();
    assert_eq!(fs::read(root.join("observer")).unwrap(), b"program");
}

#[test]
fn machines_have_the_names_of_the_specification() {
    assert_eq!(Platform::of("x86_64").unwrap().architecture, "amd64");
    assert_eq!(Platform::of("aarch64").unwrap().architecture, "arm64");
    assert!(Platform::of("pdp11").is_err());
}
