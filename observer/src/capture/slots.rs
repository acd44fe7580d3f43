//! The slots of live connections, mapped into memory.

use std::{io, os::fd::AsFd as _, os::fd::AsRawFd as _, ptr::NonNull};

use aya::maps::{Map, MapData};
use observer_ebpf::abi::{Slot, verdict};

use super::SLOT_BYTES;

/// All slots, shared with the kernel: it writes what it sees, we write what we want.
pub struct Slots {
    start: NonNull<Slot>,
    count: u32,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and all accesses are volatile.
unsafe impl Send for Slots {}

// === impl Slots ===

impl Slots {
    pub(super) fn map(map: &Map, count: u32) -> io::Result<Self> {
        let Map::Array(data) = map else {
            return Err(io::Error::other("SLOTS is not an array"));
        };
        let data: &MapData = data;
        let bytes = SLOT_BYTES * count as usize;
        // SAFETY: a new shared mapping of an array map made with BPF_F_MMAPABLE; the result is
        // checked. The mapping keeps the map alive.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                data.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast())
            .ok_or_else(|| io::Error::other("the mapping is at address zero"))?;
        Ok(Self {
            start,
            count,
            bytes,
        })
    }

    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Cookie of the connection in a slot; 0 for a free slot or a bad index.
    pub fn cookie(&self, index: u32) -> u64 {
        // SAFETY: `at` checks the index; the field is read once.
        self.at(index).map_or(0, |slot| unsafe {
            (&raw const (*slot).cookie).read_volatile()
        })
    }

    /// A copy of a slot, if `cookie` has it. Numbers in it are of about now.
    pub fn get(&self, index: u32, cookie: u64) -> Option<Slot> {
        let slot = self.at(index)?;
        // SAFETY: the slot is in the mapping; the kernel may write meanwhile, which the contract
        // of `Slot` allows for (any bits are valid, numbers are "about now").
        let copy = unsafe { slot.read_volatile() };
        (copy.cookie == cookie).then_some(copy)
    }

    /// When the last segment with payload of a slot's connection passed; 0 when none has.
    pub fn last_payload(&self, index: u32) -> u64 {
        // SAFETY: as in `cookie`.
        self.at(index).map_or(0, |slot| unsafe {
            (&raw const (*slot).last_ns).read_volatile()
        })
    }

    /// When the request that a slot holds passed the socket; 0 when it holds none.
    pub fn held_since(&self, index: u32) -> u64 {
        // SAFETY: as in `cookie`.
        self.at(index).map_or(0, |slot| unsafe {
            (&raw const (*slot).held_ns).read_volatile()
        })
    }

    /// Tells the kernel that the connection is not to be decoded.
    pub fn set_opaque(&self, index: u32, cookie: u64) {
        self.say(index, cookie, verdict::OPAQUE);
    }

    /// Tells the kernel that the stream was lost: ship nothing until a request starts.
    pub fn set_resync(&self, index: u32, cookie: u64) {
        self.say(index, cookie, verdict::RESYNC);
    }

    /// Tells the kernel that the connection speaks HTTP/1.
    pub fn set_http(&self, index: u32, cookie: u64) {
        self.say(index, cookie, verdict::HTTP);
    }

    /// Tells the kernel that the connection speaks HTTP/2, and whether the content of DATA frames is
    /// wanted.
    pub fn set_http2(&self, index: u32, cookie: u64, with_data: bool) {
        let what = if with_data {
            verdict::HTTP2_DATA
        } else {
            verdict::HTTP2
        };
        self.say(index, cookie, what);
    }

    /// Tells the kernel that bytes before `position` need not be shipped.
    pub fn skip(&self, index: u32, cookie: u64, egress: bool, position: u64) {
        if self.cookie(index) != cookie {
            return;
        }
        if let Some(slot) = self.at(index) {
            // SAFETY: user space is the only writer of these fields.
            unsafe {
                if egress {
                    (&raw mut (*slot).skip_egress).write_volatile(position);
                } else {
                    (&raw mut (*slot).skip_ingress).write_volatile(position);
                }
            }
        }
    }

    fn say(&self, index: u32, cookie: u64, what: u32) {
        if self.cookie(index) != cookie {
            return;
        }
        if let Some(slot) = self.at(index) {
            // SAFETY: user space is the only writer of this field.
            unsafe {
                let word = (&raw mut (*slot).verdict).read_volatile();
                let next = (word & !0xff).wrapping_add(0x100) | what;
                (&raw mut (*slot).verdict).write_volatile(next);
            }
        }
    }

    /// Empties a slot before it is given back; false when it was free or does not exist.
    pub(super) fn clear(&self, index: u32) -> bool {
        if self.cookie(index) == 0 {
            return false;
        }
        let Some(slot) = self.at(index) else {
            return false;
        };
        // SAFETY: zero is a valid slot. The connection has ended, so the kernel writes no more.
        unsafe { slot.write_bytes(0, 1) };
        true
    }

    fn at(&self, index: u32) -> Option<*mut Slot> {
        if index >= self.count {
            return None;
        }
        // SAFETY: within the mapping, as just checked.
        Some(unsafe { self.start.as_ptr().add(index as usize) })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
