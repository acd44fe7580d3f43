//! Which process makes a socket (`cgroup/sock_create`), and when it lets go (`cgroup/sock_release`).

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns,
        generated::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_netns_cookie},
    },
    macros::cgroup_sock,
    programs::SockContext,
};
use observer_ebpf::abi::{Header, NO_SLOT, Owner, ProcessRecord, close, kind};

use crate::{
    emit,
    maps::{ANNOUNCED, EVENTS},
    probes::thread,
};

const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
/// A process is announced again after this time: its name may have changed.
const ANNOUNCE_AGAIN_NS: u64 = 10_000_000_000;

/// `BPF_CGROUP_INET_SOCK_CREATE` (4.10); runs in the process that calls `socket`.
#[cgroup_sock(sock_create)]
pub fn observer_create(context: SockContext) -> i32 {
    try_create::<true>(&context);
    1
}

/// As [`observer_create`], without the thread's name: without CAP_PERFMON some kernels (6.18 is
/// one) refuse to tell it.
#[cgroup_sock(sock_create)]
pub fn observer_create_unnamed(context: SockContext) -> i32 {
    try_create::<false>(&context);
    1
}

/// `BPF_CGROUP_INET_SOCK_RELEASE` (5.9); runs in the process that closes the last descriptor.
#[cgroup_sock(sock_release)]
pub fn observer_release(context: SockContext) -> i32 {
    // SAFETY: the context of a cgroup_sock program is a socket.
    if unsafe { (*context.sock).protocol } == IPPROTO_TCP
        && let Some(socket) = emit::socket(context.sock, 0)
    {
        socket.end |= u32::from(close::RELEASED);
        thread::released(context.sock, socket.cookie);
    }
    1
}

#[inline(always)]
fn try_create<const NAMED: bool>(context: &SockContext) -> Option<()> {
    // SAFETY: the context of a cgroup_sock program is a socket.
    let protocol = unsafe { (*context.sock).protocol };
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP {
        return None;
    }
    let owner = emit::owner(context.sock, emit::CREATE)?;
    let pid_tgid = bpf_get_current_pid_tgid();
    owner.tgid = (pid_tgid >> 32) as u32;
    owner.tid = pid_tgid as u32;
    owner.uid = bpf_get_current_uid_gid() as u32;
    // SAFETY: helpers of cgroup_sock programs since 5.7.
    unsafe {
        owner.cgroup = bpf_get_current_cgroup_id();
        owner.netns = bpf_get_netns_cookie(context.as_ptr());
    }
    if NAMED {
        // Straight into the map value: an array on the stack would be cleared by a call of `memset`,
        // whose pointer arithmetic is refused without CAP_PERFMON.
        // SAFETY: the helper fills at most the sixteen bytes of the field.
        unsafe { bpf_get_current_comm((&raw mut owner.comm).cast(), 16) };
    }
    announce(owner)
}

/// Tells user space of a process at once, while it can still be looked at.
#[inline(always)]
fn announce(owner: &Owner) -> Option<()> {
    // SAFETY: a plain helper.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the value is a number; a torn read does no harm.
    if let Some(last) = unsafe { ANNOUNCED.get(owner.tgid) }
        && now.wrapping_sub(*last) < ANNOUNCE_AGAIN_NS
    {
        return None;
    }
    let _ = ANNOUNCED.insert(owner.tgid, now, 0);
    let mut entry = EVENTS.reserve::<ProcessRecord>(0)?;
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is ours until submitted, and every field is written.
    unsafe {
        (*record).header = Header {
            kind: kind::PROCESS,
            lost: 0,
            slot: NO_SLOT,
            time_ns: now,
            cookie: 0,
        };
        emit::copy_owner(owner, &raw mut (*record).owner);
    }
    entry.submit(BPF_RB_FORCE_WAKEUP.into());
    Some(())
}
