//! Every map of the programs, its size, and why.

use aya_ebpf::{
    bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, LruHashMap, PerCpuArray, Queue, RingBuf},
};
use observer_ebpf::{
    abi::{DatagramFlow, DatagramKey, Owner, Settings, Slot},
    counters,
};

use crate::state::{Hold, Process, Socket, Thread, Turn};

/// `BPF_F_MMAPABLE` (5.5): user space reads slots without a system call.
const MMAPABLE: u32 = 1 << 10;

/// Records to user space. The loader sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// State of every socket that has moved a byte, or connected, since we came.
#[btf_map]
pub static SOCKETS: SkStorage<Socket> = SkStorage::new();

/// The held request of sockets that speak HTTP: apart, because most others never need it.
#[btf_map]
pub static HOLDS: SkStorage<Hold> = SkStorage::new();

/// The process that made a socket; accepted sockets inherit it from their listener.
#[btf_map]
pub static OWNERS: CloneStorage<Owner> = CloneStorage::new();

/// Which thread owes an answer on a connection, and what caused the last request on one.
#[btf_map]
pub static TURNS: SkStorage<Turn> = SkStorage::new();

/// What each thread has read and not answered, by thread id. The loader makes it small where
/// threads are not looked at; what is not used for long goes first when it is full.
#[map]
pub static THREADS: LruHashMap<u32, Thread> = LruHashMap::with_max_entries(16384, 0);

/// How each process that answers requests works on them, by process id. As above; a process that
/// is forgotten has to prove itself again.
#[map]
pub static PROCESSES: LruHashMap<u32, Process> = LruHashMap::with_max_entries(4096, 0);

/// Live connections as user space sees them. The loader sets the size.
#[map]
pub static SLOTS: Array<Slot> = Array::with_max_entries(32768, MMAPABLE);

/// Free slots. User space fills it, and gives back the slots of ended connections.
#[map]
pub static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(32768, 0);

/// What passed between sockets and their peers in datagrams, DNS aside. The loader sets the size;
/// what is not used for long goes first when it is full.
#[map]
pub static DATAGRAMS: LruHashMap<DatagramKey, DatagramFlow> =
    LruHashMap::with_max_entries(16384, 0);

/// Processes that were announced lately, by process id.
#[map]
pub static ANNOUNCED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4096, 0);

/// What user space wants.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// See `observer_ebpf::counters`.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counters::COUNT, 0);

/// `BPF_F_NO_PREALLOC | BPF_F_CLONE` (5.4): storage that a child socket copies from its listener.
const CLONE: usize = (1 << 0) | (1 << 9);

/// Socket storage that is inherited; aya's own type has no flag for it.
#[repr(C)]
pub struct CloneStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; CLONE],
}

// SAFETY: the fields are placeholders that the loader replaces; they are never dereferenced.
unsafe impl<T> Sync for CloneStorage<T> {}

impl<T> CloneStorage<T> {
    /// A definition for the loader.
    pub const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }
}
