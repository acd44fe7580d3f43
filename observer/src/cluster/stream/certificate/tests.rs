//! Tests of the hub's certificate: what cannot be used is told, what is new is taken.

use super::*;
use crate::cluster::stream::tests::authority::Authority;

#[test]
fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let authority = Authority::create();
    let files = authority.sign("hub");
    let certificate = Certificate::read(files.clone()).unwrap();
    let first = certificate.acceptor();
    let later = Instant::now() + PAUSE;
    let same = certificate.acceptor_at(later);
    assert!(
        Arc::ptr_eq(first.config(), same.config()),
        "nothing changed"
    );

    fs::write(&files.key, "not a key").unwrap();
    let later = later + PAUSE;
    let kept = certificate.acceptor_at(later);
    assert!(
        Arc::ptr_eq(first.config(), kept.config()),
        "the old one is kept"
    );

    let second = authority.sign("hub");
    assert_eq!(second, files, "it replaces the first");
    let soon = certificate.acceptor_at(later + PAUSE / 2);
    assert!(
        Arc::ptr_eq(first.config(), soon.config()),
        "not looked at yet"
    );
    let new = certificate.acceptor_at(later + PAUSE);
    assert!(!Arc::ptr_eq(first.config(), new.config()));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::create();
    let files = authority.sign("hub");
    let missing = Files {
        key: files.key.with_file_name("no-such-key.pem"),
        ..files.clone()
    };
    let error = Certificate::read(missing).unwrap_err().to_string();
    assert!(error.contains("no-such-key.pem"), "{error}");
    let empty = Files {
        certificate: files.key.clone(),
        ..files.clone()
    };
    let error = Certificate::read(empty).unwrap_err().to_string();
    assert!(error.contains("has no certificate"), "{error}");
    let other = Authority::create();
    fs::copy(other.sign("hub").key, &files.key).unwrap();
    let error = Certificate::read(files).unwrap_err().to_string();
    assert!(error.contains("cannot be used with its key"), "{error}");
}
