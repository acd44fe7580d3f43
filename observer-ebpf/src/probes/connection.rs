//! The life of a connection: connect, established, end (`sock_ops`).

use core::ptr::read_volatile as read;

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_RTO_CB, BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock, bpf_sock_ops,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_spin_lock, bpf_spin_unlock},
    },
    macros::sock_ops,
    programs::SockOpsContext,
};
use observer_ebpf::abi::{ConnectionRecord, NO_SLOT, Owner, close, direction, kind, role};

use crate::{
    emit,
    maps::EVENTS,
    state::{Socket, hold, phase},
};

const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;
const AF_INET: u32 = 2;
const INGRESS: usize = direction::INGRESS as usize;
const EGRESS: usize = direction::EGRESS as usize;

/// `BPF_CGROUP_SOCK_OPS` (4.13); state callbacks 4.16.
#[sock_ops]
pub fn observer_connection(context: SockOpsContext) -> u32 {
    try_connection(&context);
    1
}

#[inline(always)]
fn try_connection(context: &SockOpsContext) -> Option<()> {
    match context.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => {
            let socket = create(context, role::CLIENT)?;
            // SAFETY: a plain helper.
            socket.started_ns = unsafe { bpf_ktime_get_ns() };
        }
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => {
            let socket = create(context, role::CLIENT)?;
            established(context, socket);
        }
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            let socket = create(context, role::SERVER)?;
            established(context, socket);
        }
        BPF_SOCK_OPS_STATE_CB if context.arg(1) == TCP_CLOSE => {
            let socket = emit::socket(sk(context)?, 0)?;
            ended(context, socket, context.arg(0));
        }
        BPF_SOCK_OPS_RTO_CB if context.arg(2) != 0 => {
            // The third argument is `expired`: the kernel is about to give up
            // (`tcp_write_timeout`).
            emit::socket(sk(context)?, 0)?.end |= u32::from(close::TIMED_OUT);
        }
        _ => {}
    }
    Some(())
}

#[inline(always)]
fn sk(context: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: a context field; null for request sockets.
    let sk = unsafe { (*context.ops).__bindgen_anon_2.sk };
    if sk.is_null() { None } else { Some(sk) }
}

/// The socket's state, made if it is new, with callbacks asked for.
#[inline(always)]
fn create(context: &SockOpsContext, role: u8) -> Option<&'static mut Socket> {
    let sk = sk(context)?;
    let socket = match emit::socket(sk, 0) {
        Some(socket) => socket,
        None => {
            let Some(socket) = emit::socket(sk, emit::CREATE) else {
                emit::count(observer_ebpf::counters::STORAGE_FULL);
                return None;
            };
            socket.slot = NO_SLOT;
            socket
        }
    };
    if socket.cookie == 0 {
        socket.cookie = emit::cookie(context);
        socket.role = role.into();
        // SAFETY: context fields.
        let (local, remote) = unsafe {
            (
                (*context.ops).local_port as u16,
                u32::from_be((*context.ops).remote_port) as u16,
            )
        };
        if ignored(local) || ignored(remote) {
            socket.phase = phase::IGNORED;
            return None;
        }
        // SAFETY: a plain helper.
        socket.started_ns = unsafe { bpf_ktime_get_ns() };
        let _ =
            context.set_cb_flags((BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG) as i32);
    }
    if socket.phase == phase::IGNORED {
        None
    } else {
        Some(socket)
    }
}

/// Whether user space asked not to observe connections of a port.
#[inline(always)]
pub fn ignored(port: u16) -> bool {
    let Some(settings) = emit::settings() else {
        return false;
    };
    let most = settings.ignored_ports.len();
    let count = settings.ignored_count as usize;
    let count = if count > most { most } else { count };
    let mut index = 0;
    while index < count {
        if settings.ignored_ports[index] == port {
            return true;
        }
        index += 1;
    }
    false
}

#[inline(always)]
fn established(context: &SockOpsContext, socket: &mut Socket) {
    // SAFETY: context fields of a full socket; a plain helper.
    unsafe {
        socket.established_ns = bpf_ktime_get_ns();
        socket.next[EGRESS] = (*context.ops).snd_nxt;
        socket.next[INGRESS] = (*context.ops).rcv_nxt;
    }
    socket.first_sequence = socket.next;
    socket.synced = [1, 1];
    socket.slot = emit::take_slot(socket.cookie);
    send(context, socket, kind::OPENED, socket.established_ns, 0);
}

#[inline(always)]
fn ended(context: &SockOpsContext, socket: &mut Socket, last_state: u32) {
    if socket.phase == phase::IGNORED || socket.phase == phase::ENDED {
        return;
    }
    if let Some(sk) = sk(context) {
        flush(sk, socket);
    }
    let kind = if last_state == TCP_SYN_SENT {
        kind::FAILED
    } else {
        kind::CLOSED
    };
    // SAFETY: a plain helper.
    let now = unsafe { bpf_ktime_get_ns() };
    send(context, socket, kind, now, last_state as u8);
    socket.phase = phase::ENDED;
}

/// Sends a request that is still held: a socket that resets its connection is closed before its
/// RST passes, so no packet takes the request along.
#[inline(always)]
fn flush(sk: *mut bpf_sock, socket: &mut Socket) {
    // SAFETY: the lock is in the map value; no helper is called until it is released.
    let held = unsafe {
        bpf_spin_lock(&raw mut socket.lock);
        let held = socket.hold == hold::HELD;
        if held {
            socket.hold = hold::BUSY;
        }
        bpf_spin_unlock(&raw mut socket.lock);
        held
    };
    if held {
        if let Some(hold) = emit::hold(sk) {
            let now = hold.record.first.time_ns;
            emit::send_hold(socket, hold, false, now);
        }
        socket.hold = hold::EMPTY;
    }
}

#[inline(always)]
fn send(context: &SockOpsContext, socket: &mut Socket, kind: u16, now: u64, last_state: u8) {
    let owner = match sk(context) {
        Some(sk) => emit::owner(sk, 0),
        None => None,
    };
    let Some(mut entry) = EVENTS.reserve::<ConnectionRecord>(0) else {
        emit::lost(socket);
        return;
    };
    let record = entry.as_mut_ptr();
    let ops: *mut bpf_sock_ops = context.ops;
    // SAFETY: the entry is ours until submitted, every field is written; context fields are
    // readable for every sock_ops operation.
    unsafe {
        (*record).header = emit::header(socket, kind, now);
        // Volatile: the compiler must not fold two reads into one at a computed offset, which the
        // verifier refuses.
        let (local4, remote4) = (
            read(&raw const (*ops).local_ip4),
            read(&raw const (*ops).remote_ip4),
        );
        let mut local = [
            read(&raw const (*ops).local_ip6[0]),
            read(&raw const (*ops).local_ip6[1]),
            read(&raw const (*ops).local_ip6[2]),
            read(&raw const (*ops).local_ip6[3]),
        ];
        let mut remote = [
            read(&raw const (*ops).remote_ip6[0]),
            read(&raw const (*ops).remote_ip6[1]),
            read(&raw const (*ops).remote_ip6[2]),
            read(&raw const (*ops).remote_ip6[3]),
        ];
        if (*ops).family == AF_INET {
            local = [0, 0, MAPPED, local4];
            remote = [0, 0, MAPPED, remote4];
        }
        write_address(&raw mut (*record).local_address, local);
        write_address(&raw mut (*record).remote_address, remote);
        (*record).local_port = (*ops).local_port as u16;
        (*record).remote_port = u32::from_be((*ops).remote_port) as u16;
        (*record).received_segments = (*ops).segs_in;
        (*record).sent_segments = (*ops).segs_out;
        (*record).retransmits = (*ops).total_retrans;
        (*record).srtt_us = (*ops).srtt_us >> 3;
        (*record).min_rtt_us = (*ops).rtt_min;
        fill(record, socket, owner, last_state);
    }
    entry.submit(emit::wakeup());
}

/// `::ffff:0:0/96` in the third word of an address, network byte order.
pub const MAPPED: u32 = 0xffff_u32.to_be();

/// Writes an address of four words in network byte order.
///
/// # Safety
///
/// `to` must be valid for writes, and aligned for words.
#[inline(always)]
pub unsafe fn write_address(to: *mut [u8; 16], words: [u32; 4]) {
    // SAFETY: promised by the caller.
    unsafe {
        let to = to.cast::<u32>();
        to.write(words[0]);
        to.add(1).write(words[1]);
        to.add(2).write(words[2]);
        to.add(3).write(words[3]);
    }
}

/// Fills what comes from the socket's state.
///
/// # Safety
///
/// `record` must be valid for writes.
#[inline(always)]
pub unsafe fn fill(
    record: *mut ConnectionRecord,
    socket: &Socket,
    owner: Option<&'static mut Owner>,
    last_state: u8,
) {
    // SAFETY: promised by the caller.
    unsafe {
        (*record).role = socket.role as u8;
        (*record).end = socket.end as u8;
        (*record).last_state = last_state;
        (*record).reserved = 0;
        match owner {
            Some(owner) => emit::copy_owner(owner, &raw mut (*record).owner),
            None => emit::clear_owner(&raw mut (*record).owner),
        }
        (*record).cgroup = socket.cgroup;
        (*record).started_ns = socket.started_ns;
        (*record).established_ns = socket.established_ns;
        (*record).received_bytes = socket.bytes[INGRESS];
        (*record).sent_bytes = socket.bytes[EGRESS];
        (*record).local_sequence = socket.first_sequence[EGRESS];
        (*record).remote_sequence = socket.first_sequence[INGRESS];
        (*record).lost_records = socket.lost_records;
        write_address(&raw mut (*record).wire_local_address, socket.wire_local);
        write_address(&raw mut (*record).wire_remote_address, socket.wire_remote);
        (*record).wire_local_port = socket.wire_ports as u16;
        (*record).wire_remote_port = (socket.wire_ports >> 16) as u16;
        (*record).reserved2 = 0;
        (*record).turns = socket.turns;
        (*record).turns_ns = socket.turns_ns;
    }
}
