//! Independent witnesses of connections: `tcplife` and `tcpstates` of libbpf-tools.

use std::{
    fs::{self, File},
    net::IpAddr,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::{
    process::Process,
    requirement,
    wait::{self, PATIENCE},
};

/// Mounts tracefs for the tool alone, whether or not this machine has it mounted.
const WITH_TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; exec \"$@\"";

/// A running witness.
#[derive(Debug)]
pub struct Witness {
    process: Process,
    output: NamedTempFile,
}

/// One socket's life, by `tcplife`.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// Local address and port.
    pub local: (IpAddr, u16),
    /// Remote address and port.
    pub remote: (IpAddr, u16),
    /// KiB sent, rounded to two digits.
    pub sent_kibibytes: f64,
    /// KiB received, rounded to two digits.
    pub received_kibibytes: f64,
    /// How long it lived.
    pub lived: Duration,
}

/// One change of a socket's state, by `tcpstates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Local port.
    pub local: u16,
    /// Remote port.
    pub remote: u16,
    /// State before.
    pub from: String,
    /// State after.
    pub to: String,
}

/// A line of `tcplife`: PID COMM LADDR LPORT RADDR RPORT TX_KB RX_KB MS. The command may hold
/// spaces, so it is read from the end.
fn parse_life(line: &str) -> Option<Life> {
    let mut words = line.split_whitespace().rev();
    let milliseconds: f64 = words.next()?.parse().ok()?;
    let received_kibibytes = words.next()?.parse().ok()?;
    let sent_kibibytes = words.next()?.parse().ok()?;
    let remote_port = words.next()?.parse().ok()?;
    let remote = words.next()?.parse().ok()?;
    let local_port = words.next()?.parse().ok()?;
    let local = words.next()?.parse().ok()?;
    Some(Life {
        local: (local, local_port),
        remote: (remote, remote_port),
        sent_kibibytes,
        received_kibibytes,
        lived: Duration::from_secs_f64(milliseconds.max(0.0) / 1000.0),
    })
}

/// A line of `tcpstates`: SKADDR PID COMM LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS.
fn parse_change(line: &str) -> Option<Change> {
    let mut words = line.split_whitespace().rev().skip(1);
    let to = words.next()?.to_owned();
    if words.next()? != "->" {
        return None;
    }
    let from = words.next()?.to_owned();
    let remote = words.next()?.parse().ok()?;
    let local = words.nth(1)?.parse().ok()?;
    Some(Change {
        local,
        remote,
        from,
        to,
    })
}

// === impl Witness ===

impl Witness {
    /// Starts `tcplife` or `tcpstates` and waits until it sees connections.
    pub fn start(tool: &str) -> Result<Self> {
        let path = requirement::find_tool(tool).with_context(|| format!("find {tool}"))?;
        let output = NamedTempFile::new().context("make a file")?;
        let mut command = Command::new("unshare");
        // `stdbuf` because the tools buffer what they print to a file.
        command
            .args(["--mount", "sh", "-c", WITH_TRACEFS, "sh", "stdbuf", "-oL"])
            .arg(path);
        let file = File::create(output.path()).context("open a file")?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::inherit());
        let witness = Self {
            process: Process::spawn(&mut command)?,
            output,
        };
        wait::until("the witness to see a connection", PATIENCE, || {
            drop(std::net::TcpStream::connect(("127.0.0.1", 9)));
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            drop(std::net::TcpStream::connect(listener.local_addr()?)?);
            std::thread::sleep(Duration::from_millis(50));
            Ok((witness.text()?.lines().count() > 1).then_some(()))
        })?;
        Ok(witness)
    }

    /// Lives that ended, seen by `tcplife`.
    pub fn lives(&self) -> Result<Vec<Life>> {
        Ok(self.text()?.lines().filter_map(parse_life).collect())
    }

    /// Changes of state, seen by `tcpstates`.
    pub fn changes(&self) -> Result<Vec<Change>> {
        Ok(self.text()?.lines().filter_map(parse_change).collect())
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    fn text(&self) -> Result<String> {
        fs::read_to_string(self.output.path()).context("read the witness")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tools_are_read() {
        let life = "4173  two words  127.0.0.1 40112 ::1  8080  12.50  3.00  1.25";
        let life = parse_life(life).unwrap();
        assert_eq!((life.local.1, life.remote.1), (40112, 8080));
        assert_eq!((life.sent_kibibytes, life.received_kibibytes), (12.5, 3.0));
        let change = "ffff8f2a 4173 curl 127.0.0.1 40112 127.0.0.1 8080 SYN_SENT -> CLOSE 0.021";
        let change = parse_change(change).unwrap();
        assert_eq!((change.local, change.remote), (40112, 8080));
        assert_eq!(
            (change.from.as_str(), change.to.as_str()),
            ("SYN_SENT", "CLOSE")
        );
        assert_eq!(
            parse_life("PID COMM LADDR LPORT RADDR RPORT TX_KB RX_KB MS"),
            None
        );
    }
}
