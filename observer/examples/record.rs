//! Records what the kernel programs report of a cgroup, for the fixtures of `tests/replay.rs`.
//!
//! `record CGROUP FILE [LIMIT]`: attaches, says `ready` on standard output, and writes records
//! until standard input ends. The file has each record after its length, a little-endian `u32`;
//! it is cut at LIMIT bytes (default 100,000), which is an error. To be run as root.
#![allow(clippy::print_stdout)]

use std::{
    env, fs,
    io::Read as _,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use observer::capture::{Capture, Config};

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(cgroup), Some(file)) = (arguments.next(), arguments.next()) else {
        bail!("usage: record CGROUP FILE [LIMIT]");
    };
    let limit: usize = match arguments.next() {
        Some(limit) => limit.parse().context("LIMIT is not a number")?,
        None => 100_000,
    };
    let mut capture = Capture::attach(&Config {
        cgroup: cgroup.into(),
        ring_bytes: 8 << 20,
        max_connections: 1024,
        max_datagram_flows: 1024,
        ignored_ports: Vec::new(),
        causes: false,
    })?;
    let (sender, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        let mut rest = Vec::new();
        // Whatever ends it ends the recording.
        let _ = std::io::stdin().read_to_end(&mut rest);
        drop(sender);
    });
    println!("ready");
    let mut bytes = Vec::new();
    loop {
        let last = ended.recv_timeout(Duration::from_millis(20)) != Err(RecvTimeoutError::Timeout);
        capture.drain(usize::MAX, |record| {
            bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
            bytes.extend_from_slice(record);
        });
        if last {
            break;
        }
    }
    if bytes.len() > limit {
        bail!("{} bytes were recorded, more than {limit}", bytes.len());
    }
    fs::write(&file, &bytes).with_context(|| format!("write {file}"))?;
    println!("{} bytes in {file}", bytes.len());
    Ok(())
}
