//! The Certificate message up to TLS 1.2 (RFC 5246 section 7.4.2), and what is kept of its leaf.

use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::reader::Reader;
use crate::model::security::Certificate;

/// Most bytes of a subject that are kept.
const LONGEST_SUBJECT: usize = 512;
/// Most bytes of a name; a SPIFFE id has at most this many.
const LONGEST_NAME: usize = 2048;
/// Most DNS names and most URIs that are kept of one certificate, the first ones.
const MOST_NAMES: usize = 32;

/// The first certificate of a Certificate message, without the four bytes of type and length.
/// `Ok(None)` when the list is empty, an error when it is malformed.
pub(super) fn leaf(body: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut reader = Reader(body);
    let mut list = reader.vector(3).ok_or(Malformed)?;
    if list.is_empty() {
        return Ok(None);
    }
    let leaf = list.vector(3).ok_or(Malformed)?;
    Ok(Some(leaf.0))
}

/// The list is not one of certificates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads names and dates of a certificate (RFC 5280). `None` when it is malformed.
pub(super) fn parse(der: &[u8]) -> Option<Certificate> {
    // Serial numbers that break the rules of RFC 5280 are of no interest here.
    let certificate = CertificateInner::<Raw>::from_der(der).ok()?;
    let body = certificate.tbs_certificate();
    let mut subject = body.subject().to_string();
    subject.truncate(subject.floor_char_boundary(LONGEST_SUBJECT));
    let not_after = body.validity().not_after.to_unix_duration().as_secs();
    let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
    if let Ok(Some((_, SubjectAltName(names)))) = body.get_extension::<SubjectAltName>() {
        for name in &names {
            let (list, text) = match name {
                GeneralName::DnsName(text) => (&mut dns_names, text),
                GeneralName::UniformResourceIdentifier(text) => (&mut uris, text),
                _ => continue,
            };
            let text = text.as_str();
            let clean = text.bytes().all(|byte| byte.is_ascii_graphic());
            if list.len() < MOST_NAMES && text.len() <= LONGEST_NAME && clean {
                list.push(text.into());
            }
        }
    }
    Some(Certificate {
        subject: subject.into(),
        dns_names: dns_names.into(),
        uris: uris.into(),
        not_after: not_after.try_into().ok()?,
    })
}
