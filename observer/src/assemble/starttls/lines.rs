//! How protocols that are made of lines ask for TLS: SMTP (RFC 3207), IMAP (RFC 9051 section
//! 6.2.1), POP3 (RFC 2595 section 4), FTP (RFC 4217).

use super::{
    Protocol,
    upgrade::{Outcome, after_request},
};

/// The lines of both directions, until TLS is agreed on or a command shows that it will not be.
#[derive(Debug)]
pub(super) struct Lines {
    protocol: Protocol,
    client: Line,
    server: Line,
    asked: bool,
    /// IMAP: what the answer to the request starts with.
    tag: Vec<u8>,
    count: usize,
}

/// A line as it comes: its first bytes.
#[derive(Debug, Default)]
struct Line(Vec<u8>);

/// What a line of the client means.
enum Command {
    /// It asks for TLS.
    Tls,
    /// It may come before that.
    Before,
    /// It comes after that.
    After,
}

/// First bytes of a line that are looked at: every command is shorter.
const MOST_LINE: usize = 64;
/// Most lines of both directions before TLS: capabilities are one a line.
const MOST_LINES: usize = 128;

// === impl Line ===

impl Line {
    fn take(&mut self, bytes: &[u8]) {
        let room = MOST_LINE.saturating_sub(self.0.len()).min(bytes.len());
        self.0
            .extend_from_slice(bytes.get(..room).unwrap_or_default());
    }
}

// === impl Lines ===

impl Lines {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            client: Line::default(),
            server: Line::default(),
            asked: false,
            tag: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn weight(&self) -> usize {
        self.client.0.capacity() + self.server.0.capacity() + self.tag.capacity()
    }

    pub(super) fn push(&mut self, from_client: bool, bytes: &[u8]) -> Outcome {
        if from_client && self.asked {
            return after_request(bytes, 0);
        }
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let end = memchr::memchr(b'\n', rest);
            let piece = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
            let line = if from_client {
                &mut self.client
            } else {
                &mut self.server
            };
            line.take(piece);
            if end.is_none() {
                break;
            }
            at += piece.len() + 1;
            let line = std::mem::take(&mut line.0);
            self.count += 1;
            if self.count > MOST_LINES {
                return Outcome::Stays;
            }
            if from_client {
                if let Command::After = self.command(&line) {
                    return Outcome::Stays;
                }
                if self.asked {
                    return after_request(bytes.get(at..).unwrap_or_default(), at);
                }
            } else if self.asked && self.agrees(&line) {
                return Outcome::Upgraded { consumed: at };
            }
        }
        Outcome::More
    }

    fn command(&mut self, line: &[u8]) -> Command {
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        if self.protocol == Protocol::Imap {
            self.tag = words.next().unwrap_or_default().to_vec();
        }
        let word = words.next().unwrap_or_default().to_ascii_uppercase();
        let argument = words.next().unwrap_or_default().to_ascii_uppercase();
        let command = match (self.protocol, word.as_slice()) {
            (Protocol::Smtp | Protocol::Imap, b"STARTTLS") | (Protocol::Pop3, b"STLS") => {
                Command::Tls
            }
            (Protocol::Ftp, b"AUTH")
                if argument.starts_with(b"TLS") || argument.starts_with(b"SSL") =>
            {
                Command::Tls
            }
            (Protocol::Smtp, b"EHLO" | b"HELO" | b"LHLO" | b"NOOP" | b"RSET")
            | (Protocol::Imap, b"CAPABILITY" | b"ID" | b"NOOP")
            | (Protocol::Pop3, b"CAPA" | b"NOOP")
            | (Protocol::Ftp, b"FEAT" | b"HOST" | b"NOOP" | b"OPTS" | b"SYST") => Command::Before,
            _ => Command::After,
        };
        self.asked = matches!(command, Command::Tls);
        command
    }

    /// Whether a line of the server agrees to TLS. One that refuses ends the request.
    fn agrees(&mut self, line: &[u8]) -> bool {
        let starts = |with: &[u8]| line.starts_with(with);
        let refuses = line
            .first()
            .is_some_and(|digit| matches!(digit, b'4' | b'5'));
        let (agrees, refuses) = match self.protocol {
            // A hyphen says that more lines follow.
            Protocol::Smtp => (starts(b"220") && !starts(b"220-"), refuses),
            Protocol::Ftp => (starts(b"234") && !starts(b"234-"), refuses),
            Protocol::Pop3 => (starts(b"+OK"), starts(b"-ERR")),
            _ => {
                let answer = line.strip_prefix(self.tag.as_slice());
                let answers = |word: &[u8]| {
                    answer
                        .and_then(|rest| rest.strip_prefix(b" "))
                        .and_then(|rest| rest.get(..word.len()))
                        .is_some_and(|start| start.eq_ignore_ascii_case(word))
                };
                (answers(b"OK"), answers(b"NO") || answers(b"BAD"))
            }
        };
        self.asked &= !refuses;
        agrees
    }
}
