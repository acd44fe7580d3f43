//! How this host translates the addresses of a connection, asked of the kernel's table.
//!
//! A pod that dials a service's address is answered by another pod: where packets leave the pod's
//! network, the kernel of the node puts one address in the place of the other, and back. Neither
//! the socket nor its packets tell; the connection tracking of the node's network namespace does,
//! over netlink (`ctnetlink`, nfnetlink_conntrack.h).

pub mod message;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use netlink_sys::{Socket, SocketAddr as PortId, protocols::NETLINK_NETFILTER};

use message::{Answer, Direction, Entry, Malformed, Tuple};

/// Asks the connection tracking of the network namespace that it was opened in.
///
/// The kernel answers a question before sending it returns, so no call here waits for anything
/// but, before Linux 5.13, another question to the same table.
#[derive(Debug)]
pub struct Translations {
    socket: Socket,
    sequence: u32,
    question: Vec<u8>,
    /// What was received; longer than any entry.
    buffer: Box<[u8]>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum TranslationError {
    /// The question could not be sent.
    #[error("cannot ask the connection tracking: {0}")]
    Send(#[source] io::Error),
    /// The answer could not be received.
    #[error("cannot hear the connection tracking: {0}")]
    Receive(#[source] io::Error),
    /// The kernel does not answer: without CAP_NET_ADMIN, or it has no such table.
    #[error("the kernel does not tell its connection tracking: {0}")]
    Refused(#[source] io::Error),
    /// There was no answer to this question.
    #[error("the connection tracking gave no answer")]
    Silent,
    /// The answer is not one.
    #[error("the connection tracking gave an answer that cannot be read")]
    Malformed(#[from] Malformed),
}

/// Most answers to questions of before that are passed over for one of now.
const MAX_STALE: usize = 16;

/// Bytes for an answer: an entry with all that the kernel may tell of it has some hundred.
const BUFFER: usize = 8 << 10;

// === impl Translations ===

impl Translations {
    /// Opens a way to the table, and tries it.
    ///
    /// # Errors
    ///
    /// If netlink cannot be used, this process lacks CAP_NET_ADMIN in its network namespace, or
    /// the kernel has no connection tracking (`CONFIG_NF_CT_NETLINK`).
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // Of a connected socket the kernel passes on only what the kernel itself sends.
        socket.connect(&PortId::new(0, 0))?;
        socket.set_non_blocking(true)?;
        let mut translations = Self {
            socket,
            sequence: 0,
            question: Vec::with_capacity(message::LONGEST_REQUEST),
            buffer: vec![0; BUFFER].into_boxed_slice(),
        };
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let tuple = Tuple {
            protocol: message::PROTOCOLS[0],
            source: nobody,
            destination: nobody,
        };
        match translations.ask(&tuple, Direction::Original) {
            Ok(_) => Ok(translations),
            Err(
                TranslationError::Send(error)
                | TranslationError::Receive(error)
                | TranslationError::Refused(error),
            ) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Who really answers the socket at `local` that dialled `remote`. `None`: whom it dialled, or
    /// the table has no entry of it, for example because its packets do not pass here.
    ///
    /// # Errors
    ///
    /// If the kernel did not answer.
    pub fn answerer(
        &mut self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<SocketAddr>, TranslationError> {
        let Some(asked) = Tuple::new(protocol, local, remote) else {
            return Ok(None);
        };
        let entry = self.ask(&asked, Direction::Original)?;
        Ok(entry.and_then(|entry| entry.answerer(&asked)))
    }

    /// Who really called the socket at `local` that sees `remote` as its peer, and whom it
    /// dialled. `None`: both are what the socket sees, or the table has no entry of it.
    ///
    /// # Errors
    ///
    /// If the kernel did not answer.
    pub fn caller(
        &mut self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<(SocketAddr, SocketAddr)>, TranslationError> {
        let Some(asked) = Tuple::new(protocol, local, remote) else {
            return Ok(None);
        };
        let entry = self.ask(&asked, Direction::Reply)?;
        Ok(entry.and_then(|entry| entry.caller(&asked)))
    }

    fn ask(
        &mut self,
        tuple: &Tuple,
        direction: Direction,
    ) -> Result<Option<Entry>, TranslationError> {
        self.sequence = self.sequence.wrapping_add(1);
        message::write_request(&mut self.question, tuple, direction, self.sequence);
        let sent = self.socket.send(&self.question, libc::MSG_DONTWAIT);
        sent.map_err(TranslationError::Send)?;
        for _ in 0..=MAX_STALE {
            let received = self
                .socket
                .recv(&mut &mut *self.buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC)
                .map_err(|error| match error.kind() {
                    ErrorKind::WouldBlock => TranslationError::Silent,
                    _ => TranslationError::Receive(error),
                })?;
            let datagram = self.buffer.get(..received).ok_or(Malformed)?;
            match message::read(datagram, self.sequence)? {
                None => {}
                Some(Answer::Entry(entry)) => return Ok(Some(entry)),
                Some(Answer::Unreadable) => return Ok(None),
                Some(Answer::Error(libc::ENOENT)) => return Ok(None),
                Some(Answer::Error(code)) => {
                    let error = io::Error::from_raw_os_error(code);
                    return Err(TranslationError::Refused(error));
                }
            }
        }
        Err(TranslationError::Silent)
    }
}
