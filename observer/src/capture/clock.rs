//! The kernel's clock, and how far wall-clock time is ahead of it.

use crate::model::time::{Monotonic, WallOffset};

/// Now, on the clock of the kernel's records (`CLOCK_MONOTONIC`).
pub fn now() -> Monotonic {
    Monotonic(read(libc::CLOCK_MONOTONIC))
}

/// How far `CLOCK_REALTIME` is ahead now.
pub fn wall_offset() -> WallOffset {
    let before = read(libc::CLOCK_MONOTONIC);
    let wall = read(libc::CLOCK_REALTIME);
    let after = read(libc::CLOCK_MONOTONIC);
    let middle = before + (after - before) / 2;
    WallOffset {
        nanoseconds: wall.saturating_sub(middle),
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for one time is given; both clocks exist on every Linux, so it cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}
