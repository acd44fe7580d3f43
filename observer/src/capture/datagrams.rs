//! What the kernel counts of peers that send datagrams: all entries read in a few system calls.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::{Map, MapData};
use observer_ebpf::abi::{DatagramFlow, DatagramKey};

/// The entries, and room to read them.
pub(super) struct Datagrams {
    map: MapData,
    keys: Vec<DatagramKey>,
    flows: Vec<DatagramFlow>,
}

/// `BPF_MAP_LOOKUP_BATCH` (5.6).
const LOOKUP_BATCH: libc::c_long = 24;
/// `BPF_MAP_DELETE_ELEM`.
const DELETE: libc::c_long = 3;
/// Entries that are read at once.
const BATCH: usize = 1024;
/// Most entries of one bucket of the map that are made room for.
const MOST: usize = 1 << 16;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
#[derive(Default)]
struct Batch {
    /// Where to go on: a pointer, 0 to start.
    in_batch: u64,
    /// Where it ended: a pointer.
    out_batch: u64,
    keys: u64,
    values: u64,
    /// Room; entries that were read.
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for one element.
#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// === impl Datagrams ===

impl Datagrams {
    pub(super) fn new(map: Map) -> io::Result<Self> {
        let Map::LruHashMap(map) = map else {
            return Err(io::Error::other("DATAGRAMS is not an LRU hash map"));
        };
        Ok(Self {
            map,
            keys: Vec::new(),
            flows: Vec::new(),
        })
    }

    /// Hands every entry to `each`, as it was at some time during the call.
    pub(super) fn each(
        &mut self,
        mut each: impl FnMut(&DatagramKey, &DatagramFlow),
    ) -> io::Result<()> {
        let mut size = BATCH;
        let mut from = None;
        loop {
            self.keys.resize(size, DatagramKey::default());
            self.flows.resize(size, DatagramFlow::default());
            let (count, next, last) = match self.batch(from) {
                Ok(read) => read,
                // A bucket has more entries than there is room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < MOST => {
                    size *= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (key, flow) in self.keys.iter().zip(&self.flows).take(count) {
                each(key, flow);
            }
            if last {
                return Ok(());
            }
            from = Some(next);
        }
    }

    /// Forgets a peer.
    pub(super) fn forget(&mut self, cookie: u64, remote: SocketAddr) {
        let address = match remote.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let key = DatagramKey {
            remote_address: address.octets(),
            cookie,
            remote_port: remote.port(),
            ..DatagramKey::default()
        };
        let mut element = Element {
            map: self.descriptor(),
            key: (&raw const key) as u64,
            ..Element::default()
        };
        // SAFETY: the key lives through the call. It may have been forgotten by the kernel meanwhile,
        // which is no error.
        unsafe {
            libc::syscall(
                libc::SYS_bpf,
                DELETE,
                &raw mut element,
                size_of::<Element>(),
            )
        };
    }

    fn descriptor(&self) -> u32 {
        self.map.fd().as_fd().as_raw_fd().cast_unsigned()
    }

    /// Reads entries behind `from`: how many, where to go on, and whether they were the last.
    fn batch(&mut self, from: Option<u32>) -> io::Result<(usize, u32, bool)> {
        let mut start = from.unwrap_or_default();
        let mut next = 0_u32;
        let mut batch = Batch {
            in_batch: match from {
                Some(_) => (&raw mut start) as u64,
                None => 0,
            },
            out_batch: (&raw mut next) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.flows.as_mut_ptr() as u64,
            count: u32::try_from(self.keys.len().min(self.flows.len())).unwrap_or(u32::MAX),
            map: self.descriptor(),
            ..Batch::default()
        };
        // SAFETY: all pointers lead to memory that is ours and as long as `count` says; any bits are
        // valid keys and values; the kernel's own place in a hash map has four bytes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                &raw mut batch,
                size_of::<Batch>(),
            )
        };
        let last = if result < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::ENOENT) {
                return Err(error);
            }
            true
        } else {
            false
        };
        let count = (batch.count as usize).min(self.keys.len());
        Ok((count, next, last))
    }
}
