//! Waiting for the ring buffer without waking for every record.

use std::{io, os::fd::AsRawFd as _, time::Duration};

use aya::maps::{MapData, RingBuf};

/// An edge-triggered wait on the ring buffer: records that do not ask for attention do not end it.
pub(super) struct Waiter {
    epoll: std::os::fd::OwnedFd,
}

// === impl Waiter ===

impl Waiter {
    pub(super) fn new(ring: &RingBuf<MapData>) -> io::Result<Self> {
        use std::os::fd::FromRawFd as _;
        // SAFETY: a plain system call; its result is checked.
        let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let epoll = unsafe { std::os::fd::OwnedFd::from_raw_fd(raw) };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 0,
        };
        // SAFETY: both descriptors are open, the event lives through the call.
        let result = unsafe {
            libc::epoll_ctl(
                epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                ring.as_raw_fd(),
                &mut event,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { epoll })
    }

    pub(super) fn wait(&self, timeout: Duration) {
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event is given. An interrupted or failed wait is a short one.
        unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, milliseconds) };
    }
}
