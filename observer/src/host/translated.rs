//! Who is really at the other end of a connection whose addresses this host translates.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use super::{
    Host,
    translation::{TranslationError, Translations},
};
use crate::model::time::Monotonic;

/// Asks the kernel's table, as long as the kernel answers.
#[derive(Debug)]
pub(super) struct Translator {
    state: State,
    /// Questions that had no answer.
    pub(super) failed: u64,
    /// Questions that were not asked, because the kernel refused the last one.
    pub(super) refused: u64,
}

#[derive(Debug)]
enum State {
    /// Not wanted.
    Off,
    /// Nothing was asked yet.
    New,
    /// The kernel answers.
    Open(Box<Translations>),
    /// The kernel translates nothing: it keeps no table.
    Absent(Option<Monotonic>),
    /// The kernel did not answer. Since when is known once [`Translator::expire`] has told it.
    Refused(Option<Monotonic>),
}

/// What [`Translations`] can be asked of a protocol, a local and a remote address.
type Question<T> =
    fn(&mut Translations, u8, SocketAddr, SocketAddr) -> Result<Option<T>, TranslationError>;

/// How long nothing is asked of a kernel that has no table or does not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// There as soon as the kernel tracks connections of any network namespace. Asking without it
/// would make the kernel load its modules for that.
const TABLE: &str = "sys/net/netfilter/nf_conntrack_count";

// === impl Host ===

impl Host {
    /// Who really answers a client's socket of this host at `local` that dialled `remote`: behind a
    /// service's address, one of its pods. `None` when that is whom it dialled, or this host cannot
    /// tell. `protocol` is IANA's number.
    pub fn answerer(
        &mut self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        self.ask(protocol, local, remote, Translations::answerer)
    }

    /// Who really called a server's socket of this host at `local` whose peer is `remote`, and whom
    /// that dialled: behind a masqueraded address the client, for example. `None` when both are what
    /// the socket sees, or this host cannot tell.
    pub fn caller(
        &mut self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<(SocketAddr, SocketAddr)> {
        self.ask(protocol, local, remote, Translations::caller)
    }

    fn ask<T>(
        &mut self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
        question: Question<T>,
    ) -> Option<T> {
        if !is_of_one_network(local) || !is_of_one_network(remote) {
            return None;
        }
        let translations = self.translator.open(&self.config.proc_root)?;
        match question(translations, protocol, local, remote) {
            Ok(found) => found,
            Err(error) => {
                self.translator.give_up(error);
                None
            }
        }
    }
}

/// Is this address that of one socket of the host? Those of the loopback and of a link are used in
/// every network namespace, and the table that is asked is of one: it may have another's.
fn is_of_one_network(address: SocketAddr) -> bool {
    match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified())
        }
        std::net::IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    }
}

// === impl Translator ===

impl Translator {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            state: if wanted { State::New } else { State::Off },
            failed: 0,
            refused: 0,
        }
    }

    /// Lets a kernel that did not answer be asked again after a while.
    pub(super) fn expire(&mut self, now: Monotonic) {
        if let State::Absent(since) | State::Refused(since) = &mut self.state {
            let since = *since.get_or_insert(now);
            if now.since(since) >= RETRY_INTERVAL {
                self.state = State::New;
            }
        }
    }

    fn open(&mut self, proc_root: &Path) -> Option<&mut Translations> {
        if let State::New = self.state {
            self.state = if !proc_root.join(TABLE).exists() {
                tracing::debug!("this kernel tracks no connections, so it translates none");
                State::Absent(None)
            } else {
                match Translations::open() {
                    Ok(translations) => State::Open(Box::new(translations)),
                    Err(error) => {
                        self.failed += 1;
                        warn_refused(&error);
                        State::Refused(None)
                    }
                }
            };
        } else if let State::Refused(_) = self.state {
            self.refused += 1;
        }
        match &mut self.state {
            State::Open(translations) => Some(translations),
            _ => None,
        }
    }

    /// The way to the table is opened anew later: what is wrong with it is not known.
    fn give_up(&mut self, error: TranslationError) {
        self.failed += 1;
        tracing::debug!(%error, "an address translation is not known");
        self.state = State::Refused(None);
    }
}

fn warn_refused(error: &io::Error) {
    tracing::warn!(
        %error,
        "the kernel does not tell how it translates addresses: who answers behind a service's \
         address is not known; give the agent CAP_NET_ADMIN in the host's network namespace"
    );
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn a_kernel_without_a_table_is_asked_rarely() {
        let root = tempfile::tempdir().unwrap();
        let mut translator = Translator::new(true);
        for _ in 0..3 {
            assert!(translator.open(root.path()).is_none());
            assert!(matches!(translator.state, State::Absent(_)));
        }
        assert_eq!((translator.failed, translator.refused), (0, 0));
        translator.expire(at(100));
        translator.expire(at(129));
        assert!(matches!(translator.state, State::Absent(_)));
        translator.expire(at(130));
        assert!(matches!(translator.state, State::New));
    }

    #[test]
    fn a_kernel_that_refuses_is_not_asked_for_each_connection() {
        let mut translator = Translator::new(true);
        let error = io::Error::from_raw_os_error(libc::EPERM);
        translator.give_up(TranslationError::Refused(error));
        for _ in 0..5 {
            assert!(translator.open(Path::new("/proc")).is_none());
        }
        assert_eq!((translator.failed, translator.refused), (1, 5));
        translator.expire(at(1));
        translator.expire(at(31));
        assert!(matches!(translator.state, State::New));
    }

    #[test]
    fn what_is_not_wanted_is_never_asked() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/net/netfilter");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("nf_conntrack_count"), "0\n").unwrap();
        let mut translator = Translator::new(false);
        assert!(translator.open(root.path()).is_none());
        translator.expire(at(1_000));
        assert!(matches!(translator.state, State::Off));
        assert_eq!((translator.failed, translator.refused), (0, 0));
    }

    #[test]
    fn addresses_that_every_network_has_are_not_asked_for() {
        for address in [
            "127.0.0.1:80",
            "[::1]:80",
            "[fe80::1]:80",
            "169.254.20.10:53",
        ] {
            assert!(!is_of_one_network(address.parse().unwrap()), "{address}");
        }
        for address in ["10.96.0.10:80", "[fd00::1]:80", "[::ffff:10.0.0.1]:80"] {
            assert!(is_of_one_network(address.parse().unwrap()), "{address}");
        }
    }
}
