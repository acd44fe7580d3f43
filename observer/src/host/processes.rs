//! The processes that are remembered, also for a while after they exit.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::model::{time::Monotonic, workload::Workload};

use super::{
    identity::{Facts, identify},
    process::{self, Stat},
    rule::ServiceRule,
};

/// A process as last looked at.
#[derive(Debug)]
pub(super) struct Process {
    /// Which process; `start` is 0 for one that was gone before it could be looked at.
    pub(super) stat: Stat,
    /// What was read.
    pub(super) facts: Facts,
    /// Raw contents of `/proc/PID/cgroup`.
    pub(super) cgroups: Box<str>,
    /// Inode of its cgroup v2 directory; 0 when unknown.
    pub(super) cgroup: u64,
    /// When `/proc` was last asked.
    pub(super) looked: Monotonic,
    /// It has exited.
    pub(super) gone: bool,
    /// Ports with a rule that it serves.
    ports: Vec<u16>,
    workloads: Vec<(Option<u16>, Arc<Workload>)>,
}

/// A bounded table of processes by pid.
#[derive(Debug)]
pub(super) struct Processes {
    limit: usize,
    retention: Duration,
    entries: HashMap<u32, Process, foldhash::fast::RandomState>,
    /// Living processes in the order in which they are checked.
    living: VecDeque<(u32, u64)>,
    /// Exited processes, the earliest first.
    exited: VecDeque<(Monotonic, u32, u64)>,
    /// The last one that did not fit.
    spare: Option<(u32, Process)>,
    /// Processes that did not fit.
    pub(super) overflow: u64,
}

/// Processes that one call of [`Processes::expire`] asks for whether they live.
const CHECKS: usize = 512;

/// Processes that are asked for when room is needed at once.
const URGENT_CHECKS: usize = 32;

// === impl Process ===

impl Process {
    /// A process with nothing derived yet.
    pub(super) fn new(
        stat: Stat,
        facts: Facts,
        cgroups: Box<str>,
        cgroup: u64,
        looked: Monotonic,
    ) -> Self {
        let gone = stat.start == 0;
        let (ports, workloads) = (Vec::new(), Vec::new());
        Self {
            stat,
            facts,
            cgroups,
            cgroup,
            looked,
            gone,
            ports,
            workloads,
        }
    }

    /// Notes that the process serves a port that a rule names.
    pub(super) fn serves(&mut self, port: u16) {
        if !self.ports.contains(&port) {
            self.ports.push(port);
            self.workloads.retain(|(key, _)| key.is_some());
        }
    }

    /// Is it known to serve a port that a rule names?
    pub(super) fn is_serving(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// Its workload; `port` is the local port of an accepted connection, where a rule names it.
    pub(super) fn workload(&mut self, rules: &[ServiceRule], port: Option<u16>) -> Arc<Workload> {
        if let Some((_, known)) = self.workloads.iter().find(|(key, _)| *key == port) {
            return known.clone();
        }
        let ports = port.as_ref().map_or(&self.ports[..], std::slice::from_ref);
        let workload = Arc::new(identify(&self.facts, rules, ports));
        self.workloads.push((port, workload.clone()));
        workload
    }

    /// Forgets what was derived from rules.
    pub(super) fn forget(&mut self) {
        self.ports.clear();
        self.workloads.clear();
    }
}

// === impl Processes ===

impl Processes {
    /// At most `limit` processes; exited ones for `retention`.
    pub(super) fn new(limit: usize, retention: Duration) -> Self {
        Self {
            limit,
            retention,
            entries: HashMap::default(),
            living: VecDeque::new(),
            exited: VecDeque::new(),
            spare: None,
            overflow: 0,
        }
    }

    /// Number of processes remembered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A remembered process, or the last one for which there was no room.
    pub(super) fn get(&self, pid: u32) -> Option<&Process> {
        let spare = || self.spare.as_ref().filter(|(own, _)| *own == pid);
        self.entries
            .get(&pid)
            .or_else(|| spare().map(|(_, process)| process))
    }

    /// As [`Self::get`].
    pub(super) fn get_mut(&mut self, pid: u32) -> Option<&mut Process> {
        let spare = self.spare.as_mut().filter(|(own, _)| *own == pid);
        self.entries
            .get_mut(&pid)
            .or_else(|| spare.map(|(_, process)| process))
    }

    /// All remembered processes.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Process)> {
        self.entries
            .iter_mut()
            .map(|(pid, process)| (*pid, process))
    }

    /// Remembers a process in place of what had its pid before. When the table is full the process
    /// that exited first makes room; when none has, the new one is kept only until the next.
    pub(super) fn insert(&mut self, proc_root: &Path, process: Process, now: Monotonic) {
        let (pid, start) = (process.facts.pid, process.stat.start);
        let known = self.entries.get(&pid);
        let queued = known.is_some_and(|known| known.stat.start == start && !known.gone);
        if known.is_none() && self.entries.len() >= self.limit && !self.make_room(proc_root, now) {
            self.overflow += 1;
            self.spare = Some((pid, process));
            return;
        }
        if process.gone {
            self.exited.push_back((now, pid, start));
        } else if !queued {
            self.living.push_back((pid, start));
        }
        self.entries.insert(pid, process);
        // Pids that were given again leave stale entries behind: they must not pile up.
        if self.exited.len() > 2 * self.limit {
            let entries = &self.entries;
            self.exited.retain(|(_, pid, start)| {
                entries
                    .get(pid)
                    .is_some_and(|known| known.gone && known.stat.start == *start)
            });
        }
    }

    /// Notes that a process has exited.
    pub(super) fn exit(&mut self, pid: u32, now: Monotonic) {
        if let Some(process) = self.entries.get_mut(&pid).filter(|process| !process.gone) {
            process.gone = true;
            self.exited.push_back((now, pid, process.stat.start));
        } else if self.spare.as_ref().is_some_and(|(own, _)| *own == pid) {
            self.spare = None;
        }
    }

    /// Looks which processes have exited, some at each call, and forgets those that did long ago.
    pub(super) fn expire(&mut self, proc_root: &Path, now: Monotonic) {
        self.check(proc_root, CHECKS, now);
        while let Some((at, ..)) = self.exited.front() {
            if now.since(*at) < self.retention {
                break;
            }
            self.forget_first();
        }
    }

    fn check(&mut self, proc_root: &Path, count: usize, now: Monotonic) {
        for _ in 0..count.min(self.living.len()) {
            let Some((pid, start)) = self.living.pop_front() else {
                break;
            };
            let current = |known: &&Process| known.stat.start == start && !known.gone;
            if self.entries.get(&pid).filter(current).is_none() {
                continue;
            }
            if process::stat(proc_root, pid).is_some_and(|stat| stat.start == start) {
                self.living.push_back((pid, start));
            } else {
                self.exit(pid, now);
            }
        }
    }

    fn make_room(&mut self, proc_root: &Path, now: Monotonic) -> bool {
        self.forget_first() || {
            self.check(proc_root, URGENT_CHECKS, now);
            self.forget_first()
        }
    }

    /// Forgets the process that exited first, if there is one.
    fn forget_first(&mut self) -> bool {
        while let Some((_, pid, start)) = self.exited.pop_front() {
            let same = |known: &Process| known.gone && known.stat.start == start;
            if self.entries.get(&pid).is_some_and(same) {
                self.entries.remove(&pid);
                return true;
            }
        }
        false
    }
}
