//! ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246 section 7.4.1): what both offer and
//! choose, and nothing that is a secret of theirs.

use super::reader::Reader;

/// Most application protocols and versions that are kept of an offer; no client offers as many.
const MOST_OFFERED: usize = 16;
/// The longest name of a host (RFC 1035 section 2.3.4), with its dots.
const LONGEST_NAME: usize = 255;
/// The `random` of a ServerHello that asks for another ClientHello (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Extensions that are read (IANA TLS ExtensionType Values).
pub(super) mod extension {
    pub(in crate::assemble::tls) const SERVER_NAME: u16 = 0;
    pub(in crate::assemble::tls) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(in crate::assemble::tls) const ALPN: u16 = 16;
    pub(in crate::assemble::tls) const PRE_SHARED_KEY: u16 = 41;
    pub(in crate::assemble::tls) const EARLY_DATA: u16 = 42;
    pub(in crate::assemble::tls) const SUPPORTED_VERSIONS: u16 = 43;
}

/// What a client offers. Lists are in its order and hold its GREASE values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// `legacy_version`.
    pub legacy_version: u16,
    /// Cipher suites.
    pub ciphers: Vec<u16>,
    /// Types of its extensions.
    pub extensions: Vec<u16>,
    /// `signature_algorithms`.
    pub signature_algorithms: Vec<u16>,
    /// `supported_versions`; `None` without that extension.
    pub supported_versions: Option<Vec<u16>>,
    /// Application protocols, the first ones.
    pub protocols: Vec<Box<[u8]>>,
    /// Host name, lower case.
    pub server_name: Option<Box<str>>,
    /// Early data may follow (RFC 8446 section 4.2.10).
    pub(super) early_data: bool,
}

/// What a server chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) version: u16,
    pub(super) cipher: u16,
    pub(super) protocol: Option<Box<[u8]>>,
    /// It chose one of the client's pre-shared keys.
    pub(super) pre_shared_key: bool,
    /// It asks for another ClientHello.
    pub(super) retry: bool,
}

/// Whether `value` is one that clients send so that servers learn to ignore it (RFC 8701).
pub fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// TLS 1.3 and its drafts.
pub(super) fn is_tls13(version: u16) -> bool {
    version == 0x0304 || version >> 8 == 0x7f
}

/// The name of an application protocol as text; what is not printable ASCII is escaped.
pub fn protocol_name(name: &[u8]) -> Box<str> {
    name.escape_ascii().to_string().into()
}

// === impl ClientHello ===

impl ClientHello {
    /// Parses the body of a ClientHello: what follows the four bytes of type and length. `None`
    /// when it is malformed.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let mut hello = Self {
            legacy_version: reader.u16()?,
            ..Self::default()
        };
        reader.take(32)?;
        pass_session(&mut reader)?;
        hello.ciphers = reader.vector(2)?.numbers()?.collect();
        let compressions = reader.vector(1)?;
        if compressions.is_empty() || hello.ciphers.is_empty() {
            return None;
        }
        if reader.is_empty() {
            // Extensions came with TLS 1.0's additions (RFC 3546).
            return Some(hello);
        }
        let mut extensions = reader.vector(2)?;
        if !reader.is_empty() {
            return None;
        }
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let data = extensions.vector(2)?;
            hello.extensions.push(kind);
            hello.extension(kind, data)?;
        }
        Some(hello)
    }

    /// The versions offered, without GREASE, highest first, each once.
    pub fn versions(&self) -> Vec<u16> {
        let Some(offered) = &self.supported_versions else {
            return vec![self.legacy_version];
        };
        let mut versions: Vec<u16> = offered
            .iter()
            .copied()
            .filter(|version| !is_grease(*version))
            .collect();
        versions.sort_unstable_by(|one, other| other.cmp(one));
        versions.dedup();
        versions.truncate(MOST_OFFERED);
        versions
    }

    /// The application protocols offered, without GREASE.
    pub fn protocol_names(&self) -> impl Iterator<Item = Box<str>> {
        let grease = |name: &[u8]| {
            <[u8; 2]>::try_from(name).is_ok_and(|name| is_grease(u16::from_be_bytes(name)))
        };
        self.protocols
            .iter()
            .filter(move |name| !grease(name))
            .map(|name| protocol_name(name))
    }

    fn extension(&mut self, kind: u16, mut data: Reader<'_>) -> Option<()> {
        match kind {
            extension::SERVER_NAME => {
                let mut names = data.vector(2)?;
                while !names.is_empty() {
                    let kind = names.u8()?;
                    let name = names.vector(2)?;
                    if kind == 0 && self.server_name.is_none() {
                        self.server_name = host_name(name.0);
                    }
                }
            }
            extension::SIGNATURE_ALGORITHMS => {
                self.signature_algorithms = data.vector(2)?.numbers()?.collect();
            }
            extension::ALPN => {
                let mut names = data.vector(2)?;
                while !names.is_empty() {
                    let name = names.vector(1)?;
                    if self.protocols.len() < MOST_OFFERED {
                        self.protocols.push(name.0.into());
                    }
                }
            }
            extension::EARLY_DATA => self.early_data = true,
            extension::SUPPORTED_VERSIONS => {
                self.supported_versions = Some(data.vector(1)?.numbers()?.collect());
            }
            _ => {}
        }
        Some(())
    }
}

// === impl ServerHello ===

impl ServerHello {
    /// Parses the body of a ServerHello or HelloRetryRequest.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let legacy_version = reader.u16()?;
        let retry = reader.take(32)? == RETRY;
        pass_session(&mut reader)?;
        let mut hello = Self {
            version: legacy_version,
            cipher: reader.u16()?,
            retry,
            ..Self::default()
        };
        reader.u8()?;
        if reader.is_empty() {
            return Some(hello);
        }
        let mut extensions = reader.vector(2)?;
        if !reader.is_empty() {
            return None;
        }
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let mut data = extensions.vector(2)?;
            match kind {
                extension::SUPPORTED_VERSIONS => hello.version = data.u16()?,
                extension::PRE_SHARED_KEY => hello.pre_shared_key = true,
                extension::ALPN => hello.protocol = Some(data.vector(2)?.vector(1)?.0.into()),
                _ => {}
            }
        }
        Some(hello)
    }
}

/// Passes over a session id, which has at most 32 bytes.
fn pass_session(reader: &mut Reader<'_>) -> Option<()> {
    (reader.vector(1)?.0.len() <= 32).then_some(())
}

/// A host name: ASCII without what a name cannot have (RFC 6066 section 3 has A-labels only).
fn host_name(name: &[u8]) -> Option<Box<str>> {
    let fits = !name.is_empty() && name.len() <= LONGEST_NAME;
    let printable = name.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(name).ok()?;
    (fits && printable).then(|| text.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests;
