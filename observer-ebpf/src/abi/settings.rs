//! What user space sets before and while the programs run.

/// The one element of the settings map; 80 bytes. It may change at any time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Bytes in the ring buffer above which a record wakes user space at once; a power of two.
    pub wakeup_bytes: u32,
    /// Number of ports in `ignored_ports`.
    pub ignored_count: u32,
    /// Ports, host byte order, whose connections are not observed (at either end).
    pub ignored_ports: [u16; 32],
    /// Never read: a pointer that runs over the ports must end within the element to be allowed
    /// without CAP_PERFMON.
    pub end: u64,
}

const _: () = assert!(size_of::<Settings>() == 80);
