//! What threads read and write (`tp_btf/sock_recv_length`, `tp_btf/sock_send_length`): which
//! request made which other.
//!
//! A thread that has read one request and not answered it works on that one. That is certain only
//! of threads that wait in their reads, as those do that have one request at a time, in a process
//! that answers where it reads. A thread whose reads never wait has an event loop, or belongs to a
//! runtime that moves requests between threads (Go, tokio): with one request open that is the
//! likely cause and no more, and not even that once it was seen to hand requests over; with
//! several there is none to tell.
//!
//! Both run after the system call's work is done, for every socket of the machine, so those that
//! are not observed leave after one look. They need CAP_PERFMON and Linux 6.3, and are left out
//! without.

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use observer_ebpf::{
    abi::{CERTAIN, CauseRecord, Header, NO_SLOT, close, direction, kind, role},
    counters,
    sniff::FRAME_HEADERS,
};

use crate::{
    emit,
    maps::{EVENTS, PROCESSES, THREADS},
    state::{Process, Socket, Thread, Turn, habit, phase},
};

const INGRESS: usize = direction::INGRESS as usize;
const EGRESS: usize = direction::EGRESS as usize;
/// `MSG_PEEK`: what was read stays to be read.
const PEEK: i32 = 0x2;
/// `MSG_DONTWAIT`; the kernel sets it for sockets that are `O_NONBLOCK` as well.
const DONTWAIT: i32 = 0x40;
const EINTR: i32 = -4;
const EAGAIN: i32 = -11;
/// The call will be made again (`ERESTARTSYS` in the kernel).
const RESTART: i32 = -512;
/// Requests that a process has to answer on the threads that read them before these tell
/// anything for certain.
const PROVEN: u32 = 4;
/// HTTP/2: writes with heads that are told before something comes from the server.
const MOST_TOLD: u32 = 16;

/// `tp_btf/sock_recv_length` (6.3): a thread has read from a socket, or tried.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn observer_read(context: BtfTracePointContext) -> i32 {
    read(context.arg(0), number(&context, 1), number(&context, 2));
    0
}

/// `tp_btf/sock_send_length` (6.3): a thread has written to a socket, or tried.
#[btf_tracepoint(function = "sock_send_length")]
pub fn observer_write(context: BtfTracePointContext) -> i32 {
    write(context.arg(0), number(&context, 1));
    0
}

/// An argument of type `int`, which is not extended by its sign.
#[inline(always)]
fn number(context: &BtfTracePointContext, index: usize) -> i32 {
    context.arg::<u64>(index) as i32
}

#[inline(always)]
fn read(sk: *mut bpf_sock, result: i32, flags: i32) -> Option<()> {
    let socket = emit::socket(sk, 0)?;
    if flags & PEEK != 0 {
        return None;
    }
    if result > 0 {
        socket.passed[INGRESS] += result as u64;
    }
    if socket.role != u32::from(role::SERVER) {
        return None;
    }
    if result <= 0 {
        if result != EAGAIN && result != EINTR && result != RESTART {
            // The connection is over, or the client has said all: nothing more is known.
            released(sk, socket.cookie);
        }
        return None;
    }
    let framed = socket.phase == phase::HTTP2;
    if socket.phase != phase::HTTP && !framed {
        return None;
    }
    if framed && socket.frames[INGRESS] & 1 << FRAME_HEADERS == 0 {
        return None;
    }
    let Some(turn) = emit::turn(sk, emit::CREATE) else {
        emit::count(counters::STORAGE_FULL);
        return None;
    };
    let (tgid, tid) = current();
    let waited = u32::from(flags & DONTWAIT == 0);
    // Of what is older than us, bytes may have waited to be read when we came.
    let known = socket.end & u32::from(close::PRE_EXISTING) == 0 || turn.answered != 0;
    let all = socket.passed[INGRESS] >= socket.position[INGRESS];
    let sure = u32::from(waited != 0 && known && all && !framed);
    if turn.open != 0 {
        // An answer that passed without being told here ends the turn as well.
        if turn.tid == tid && turn.received == socket.position[EGRESS] {
            // More of the same request.
            turn.waited &= waited;
            thread(tid)?.sure = sure;
            return None;
        }
        let reader = turn.tgid;
        let same = turn.tid == tid;
        settle(turn, socket.cookie);
        if !same {
            hands_over(reader);
            hands_over(tgid);
        }
    }
    turn.received = socket.position[EGRESS];
    let before = socket.passed[INGRESS] - result as u64;
    turn.open = 1;
    turn.tid = tid;
    turn.tgid = tgid;
    turn.waited = waited;
    turn.sequence = socket.first_sequence[INGRESS]
        .wrapping_add(before as u32)
        .wrapping_add(1);
    let first = Thread {
        inbound: socket.cookie,
        sequence: turn.sequence,
        count: 1,
        tgid,
        sure,
    };
    let mut several = false;
    match thread(tid) {
        None => {
            let _ = THREADS.insert(tid, first, 0);
        }
        // What it had may have been forgotten in between, or have been another thread's.
        Some(thread) if thread.tgid != tgid || thread.count == 0 => *thread = first,
        Some(thread) => {
            thread.count += 1;
            thread.inbound ^= socket.cookie;
            thread.sequence ^= turn.sequence;
            thread.sure = sure;
            several = true;
        }
    }
    if several && waited != 0 {
        hands_over(tgid);
    }
    Some(())
}

#[inline(always)]
fn write(sk: *mut bpf_sock, result: i32) -> Option<()> {
    let socket = emit::socket(sk, 0)?;
    if result > 0 {
        socket.passed[EGRESS] += result as u64;
    }
    if socket.role == u32::from(role::SERVER) {
        return answer(sk, socket);
    }
    if result <= 0 || socket.role != u32::from(role::CLIENT) {
        return None;
    }
    // The first segment of a connection may wait to be sent.
    if socket.phase != phase::HTTP && socket.phase != phase::HTTP2 && socket.phase != phase::FRESH {
        return None;
    }
    ask(sk, socket, result as u32)
}

/// A thread wrote to a client: the request that came from it is answered.
#[inline(always)]
fn answer(sk: *mut bpf_sock, socket: &Socket) -> Option<()> {
    let turn = emit::turn(sk, 0)?;
    if turn.open == 0 {
        return None;
    }
    if socket.phase == phase::HTTP2 && socket.frames[EGRESS] & 1 << FRAME_HEADERS == 0 {
        return None;
    }
    let (tgid, tid) = current();
    let (reader, waited) = (turn.tgid, turn.waited);
    let same = turn.tid == tid;
    turn.answered = 1;
    settle(turn, socket.cookie);
    if !same {
        hands_over(reader);
        hands_over(tgid);
    } else if waited != 0 {
        match process(tgid) {
            Some(process) if process.answered < PROVEN => process.answered += 1,
            Some(_) => {}
            None => {
                let first = Process {
                    answered: 1,
                    habits: 0,
                };
                let _ = PROCESSES.insert(tgid, first, 0);
            }
        }
    }
    Some(())
}

/// A thread wrote to a server: if it has one request to answer, that is why.
#[inline(always)]
fn ask(sk: *mut bpf_sock, socket: &mut Socket, length: u32) -> Option<()> {
    let (tgid, tid) = current();
    let thread = thread(tid)?;
    if thread.count != 1 || thread.tgid != tgid {
        return None;
    }
    let framed = socket.phase == phase::HTTP2;
    if framed && socket.frames[EGRESS] & 1 << FRAME_HEADERS == 0 {
        return None;
    }
    let process = process(tgid);
    let hands_over = process
        .as_ref()
        .is_some_and(|process| process.habits & habit::HANDS_OVER != 0);
    if hands_over && thread.sure == 0 {
        // What it read may be another thread's by now: not even likely.
        return None;
    }
    let Some(turn) = emit::turn(sk, emit::CREATE) else {
        emit::count(counters::STORAGE_FULL);
        return None;
    };
    let received = socket.position[INGRESS];
    if turn.inbound == thread.inbound
        && turn.inbound_sequence == thread.sequence
        && turn.received == received
    {
        if !framed || turn.told >= MOST_TOLD {
            // The same request goes on.
            return None;
        }
        turn.told += 1;
    } else {
        turn.inbound = thread.inbound;
        turn.inbound_sequence = thread.sequence;
        turn.received = received;
        turn.told = 1;
    }
    // What left the socket was written; what was written before we came, or in a way that is not
    // told, was not counted.
    let sent = socket.position[EGRESS];
    let counted = socket.passed[EGRESS] >= sent;
    if !counted {
        socket.passed[EGRESS] = sent;
    }
    let before = socket.passed[EGRESS].wrapping_sub(length.into());
    let mut flags = 0;
    if let Some(process) = process
        && counted
        && !framed
        && !hands_over
        && thread.sure != 0
        && process.answered >= PROVEN
    {
        process.habits |= habit::CLAIMED;
        flags = CERTAIN;
    }
    tell(CauseRecord {
        header: header(kind::CAUSE, socket.cookie),
        inbound: thread.inbound,
        sequence: socket.first_sequence[EGRESS].wrapping_add(before as u32),
        length,
        inbound_sequence: thread.sequence,
        flags,
        tgid,
        tid,
    });
    Some(())
}

/// Nobody will answer on this connection any more.
#[inline(always)]
pub(super) fn released(sk: *mut bpf_sock, cookie: u64) {
    if let Some(turn) = emit::turn(sk, 0)
        && turn.open != 0
    {
        settle(turn, cookie);
    }
}

/// The thread that has read the request on a connection no longer has it.
#[inline(always)]
fn settle(turn: &mut Turn, cookie: u64) {
    turn.open = 0;
    if let Some(thread) = thread(turn.tid)
        && thread.tgid == turn.tgid
        && thread.count != 0
    {
        thread.count -= 1;
        thread.inbound ^= cookie;
        thread.sequence ^= turn.sequence;
    }
}

/// Nothing that threads of the process do is certain any more.
#[inline(always)]
fn hands_over(tgid: u32) {
    let Some(process) = process(tgid) else {
        let first = Process {
            answered: 0,
            habits: habit::HANDS_OVER,
        };
        let _ = PROCESSES.insert(tgid, first, 0);
        return;
    };
    let before = process.habits;
    process.habits = before | habit::HANDS_OVER;
    if before & habit::CLAIMED == 0 || before & habit::HANDS_OVER != 0 {
        return;
    }
    tell(CauseRecord {
        header: header(kind::HANDOVER, 0),
        inbound: 0,
        sequence: 0,
        length: 0,
        inbound_sequence: 0,
        flags: 0,
        tgid,
        tid: 0,
    });
}

#[inline(always)]
fn tell(record: CauseRecord) {
    match EVENTS.reserve::<CauseRecord>(0) {
        Some(mut entry) => {
            entry.write(record);
            entry.submit(emit::wakeup());
        }
        None => emit::count(counters::RING_FULL),
    }
}

#[inline(always)]
fn header(kind: u16, cookie: u64) -> Header {
    Header {
        kind,
        lost: 0,
        slot: NO_SLOT,
        // SAFETY: a plain helper.
        time_ns: unsafe { bpf_ktime_get_ns() },
        cookie,
    }
}

/// Process and thread.
#[inline(always)]
fn current() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

/// What a thread has to answer. Almost always it is the thread itself that changes this; where it
/// is not, nothing that is told of it is certain.
#[inline(always)]
fn thread(tid: u32) -> Option<&'static mut Thread> {
    // SAFETY: plain numbers in a map value; see above.
    unsafe { THREADS.get_ptr_mut(tid).and_then(|thread| thread.as_mut()) }
}

/// How a process works. Its threads change this at once: a count may be one too low, and a habit
/// that is overwritten is seen again.
#[inline(always)]
fn process(tgid: u32) -> Option<&'static mut Process> {
    // SAFETY: plain numbers in a map value; see above.
    unsafe {
        PROCESSES
            .get_ptr_mut(tgid)
            .and_then(|process| process.as_mut())
    }
}
