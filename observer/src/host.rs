//! This machine as a read-only snapshot: cgroups, containers, processes, sockets.
//!
//! The only part that reads `/proc` and cgroupfs. What cannot be read, for want of rights or
//! because the process is gone, is unknown and counted; nothing fails.

mod cgroups;
mod datagrams;
mod environment;
mod identity;
mod mounts;
mod process;
mod processes;
mod program;
mod rule;
mod runtime;
mod sockets;
mod translated;
pub mod translation;

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    model::{
        connection::{Connection, Owner, Role},
        time::Monotonic,
        workload::Workload,
    },
    telemetry::health::{Loss, Table},
};

pub use mounts::{Mount, mounts};
pub use rule::ServiceRule;

use cgroups::Cgroups;
use identity::{Facts, identify};
use process::{Sight, Stat};
use processes::{Process, Processes};
use sockets::{Holder, Sockets};
use translated::Translator;

/// Where to look and how much to remember.
#[derive(Clone, Debug)]
pub struct Config {
    /// Mount point of procfs.
    pub proc_root: PathBuf,
    /// Mount point of cgroup v2, or the folder below which cgroups are observed.
    pub cgroup_root: PathBuf,
    /// Rules that name services, the first that matches wins.
    pub rules: Vec<ServiceRule>,
    /// Most processes remembered.
    pub max_processes: usize,
    /// Most cgroups remembered.
    pub max_cgroups: usize,
    /// Most pairs of a TCP socket and a process that holds it.
    pub max_sockets: usize,
    /// How long an exited process is remembered.
    pub retention: Duration,
    /// Ask the kernel how it translates the addresses of connections.
    pub translations: bool,
}

/// Who is behind a socket.
#[derive(Debug)]
pub struct Host {
    config: Config,
    /// Ports that rules name.
    ports: Vec<u16>,
    processes: Processes,
    cgroups: Cgroups,
    sockets: Sockets,
    translator: Translator,
    losses: Losses,
}

#[derive(Debug, Default)]
struct Losses {
    /// Processes that were gone before they could be looked at.
    gone: u64,
    /// Looks at a process that found something not readable.
    denied: u64,
    /// Connections of which nothing at all is known.
    unknown: u64,
}

/// A remembered process is asked for changes at most this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Most holders of a socket that are compared.
const MAX_HOLDERS: usize = 64;

/// Thread name of the service manager, which makes listeners for services that it starts later.
const SERVICE_MANAGER: &str = "systemd";

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            proc_root: "/proc".into(),
            cgroup_root: "/sys/fs/cgroup".into(),
            rules: Vec::new(),
            max_processes: 16_384,
            max_cgroups: 20_000,
            max_sockets: 131_072,
            retention: Duration::from_secs(600),
            translations: true,
        }
    }
}

// === impl Host ===

impl Host {
    /// Looks at all processes, cgroups and sockets once.
    pub fn new(config: Config) -> Self {
        let mut host = Self {
            ports: Vec::new(),
            processes: Processes::new(config.max_processes, config.retention),
            cgroups: Cgroups::new(config.cgroup_root.clone(), config.max_cgroups),
            sockets: Sockets::new(config.max_sockets),
            translator: Translator::new(config.translations),
            losses: Losses::default(),
            config,
        };
        let start = Monotonic::default();
        host.sockets.scan(&host.config.proc_root);
        for pid in process::processes(&host.config.proc_root).unwrap_or_default() {
            let owner = Owner {
                pid,
                ..Owner::default()
            };
            if let Some(process) = host.look(&owner, start).filter(|found| !found.stat.kernel) {
                host.remember(process, start);
            }
        }
        host.index_ports();
        host
    }

    /// Looks at a process that the kernel just reported, before it exits.
    pub fn observe(&mut self, owner: &Owner, now: Monotonic) {
        if owner.pid == 0 || self.refresh(owner, now) {
            return;
        }
        match self.look(owner, now) {
            Some(process) => self.remember(process, now),
            None if self.processes.get(owner.pid).is_some() => self.processes.exit(owner.pid, now),
            None => self.remember_stub(owner, now),
        }
    }

    /// The workload of a connection's socket: by the process that made it, else by the process
    /// that holds it, else by its cgroup, else unknown.
    pub fn workload(&mut self, connection: &Connection, now: Monotonic) -> Arc<Workload> {
        let owner = &connection.owner;
        let port = (connection.role != Role::Client)
            .then_some(connection.local.port())
            .filter(|port| self.ports.contains(port));
        let maker = self.maker(owner, now);
        let certain = maker.is_some_and(|pid| {
            // The service manager makes listeners for others.
            let manages = |process: &Process| &*process.facts.command == SERVICE_MANAGER;
            connection.role != Role::Server || !self.processes.get(pid).is_some_and(manages)
        });
        let holder = match certain {
            true => None,
            // A new client socket of a process that is gone is gone too.
            false if is_new_client(connection) => None,
            false => self.holder(connection, now),
        };
        if let Some(process) = holder.or(maker).and_then(|pid| self.processes.get_mut(pid)) {
            if let Some(port) = port.filter(|_| connection.role == Role::Server) {
                process.serves(port);
            }
            let port = port.filter(|port| process.is_serving(*port));
            return process.workload(&self.config.rules, port);
        }
        self.by_cgroup(owner, port.as_slice(), now)
    }

    /// Replaces the rules; connections opened from now on are named by them.
    pub fn reconfigure(&mut self, rules: Vec<ServiceRule>) {
        self.config.rules = rules;
        self.index_ports();
    }

    /// Forgets processes that exited long ago, and what the kernel refused. Meant to be called about once a second.
    pub fn expire(&mut self, now: Monotonic) {
        self.processes.expire(&self.config.proc_root, now);
        self.translator.expire(now);
    }

    /// How full the tables are.
    pub fn tables(&self) -> Vec<Table> {
        let table = |name, entries: usize, limit: usize| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        };
        vec![
            table(
                "host_processes",
                self.processes.len(),
                self.config.max_processes,
            ),
            table("host_cgroups", self.cgroups.len(), self.config.max_cgroups),
            table("host_sockets", self.sockets.len(), self.config.max_sockets),
        ]
    }

    /// What could not be known or remembered.
    pub fn losses(&self) -> Vec<Loss> {
        let loss = |reason, count| Loss {
            stage: "host",
            reason,
            count,
        };
        vec![
            loss("process_gone", self.losses.gone),
            loss("process_denied", self.losses.denied),
            loss("descriptors_denied", self.sockets.denied),
            loss("workload_unknown", self.losses.unknown),
            loss("processes_full", self.processes.overflow),
            loss("cgroups_full", self.cgroups.overflow),
            loss("sockets_full", self.sockets.overflow),
            loss("translation_failed", self.translator.failed),
            loss("translation_refused", self.translator.refused),
        ]
    }

    /// The process that made a socket, remembered; `None` when it cannot be known any more.
    fn maker(&mut self, owner: &Owner, now: Monotonic) -> Option<u32> {
        if owner.pid == 0 {
            return None;
        }
        if let Some(known) = self.processes.get(owner.pid)
            && (now.since(known.looked) < LOOK_INTERVAL || self.refresh(owner, now))
        {
            return self.certain(owner.pid);
        }
        match self.look(owner, now) {
            // The maker of an old listener may be gone, and its pid somebody else's.
            Some(process) if self.is_plausible(owner, &process) => self.remember(process, now),
            Some(_) => self.processes.exit(owner.pid, now),
            None if self.processes.get(owner.pid).is_some() => self.processes.exit(owner.pid, now),
            None => self.losses.gone += 1,
        }
        self.certain(owner.pid)
    }

    /// Can this process be the maker of the socket? Not if neither its name nor its cgroup fit:
    /// then the maker is gone and its pid was given to another.
    fn is_plausible(&self, owner: &Owner, process: &Process) -> bool {
        let known = self.processes.get(owner.pid);
        known.is_some_and(|known| known.stat.start == process.stat.start)
            || owner.command.is_empty()
            || *owner.command == *process.facts.command
            || owner.cgroup == 0
            || process.cgroup == 0
            || owner.cgroup == process.cgroup
    }

    /// `pid` if more than its thread name is known.
    fn certain(&self, pid: u32) -> Option<u32> {
        self.processes
            .get(pid)
            .filter(|process| process.stat.start != 0)
            .map(|_| pid)
    }

    /// Says whether what is remembered of a process is still true, and if so notes when.
    fn refresh(&mut self, owner: &Owner, now: Monotonic) -> bool {
        let proc_root = &self.config.proc_root;
        let Some(known) = self.processes.get_mut(owner.pid) else {
            return false;
        };
        let same = process::stat(proc_root, owner.pid).is_some_and(|stat| stat == known.stat)
            && process::cgroups(proc_root, owner.pid).is_some_and(|found| found == known.cgroups);
        // A process that is gone is asked for again in a second, its pid may come back.
        known.looked = now;
        same
    }

    fn look(&mut self, owner: &Owner, now: Monotonic) -> Option<Process> {
        let sight = process::look(&self.config.proc_root, owner.pid)?;
        self.losses.denied += u64::from(sight.denied);
        let Sight {
            stat,
            executable,
            command_line,
            program,
            environment,
            cgroups,
            ..
        } = sight;
        let paths = process::cgroup_paths(&cgroups);
        let (cgroup, inode) = match cgroups.lines().any(|line| line.starts_with("0::")) {
            true => {
                let path = paths.first().copied().unwrap_or_default();
                self.cgroups.locate(path, owner.cgroup, now)
            }
            false => (
                self.cgroups.path(owner.cgroup, now).unwrap_or_default(),
                owner.cgroup,
            ),
        };
        let own = std::iter::once(&*cgroup);
        let placement = runtime::placement_of_all(own.chain(paths.iter().copied()));
        let facts = Facts {
            pid: owner.pid,
            command: stat.command.clone(),
            executable,
            command_line,
            program,
            environment,
            cgroup: (&*cgroup).into(),
            runtime: placement.runtime,
            unit_service: placement.unit_service,
            pod_uid: placement.pod_uid,
        };
        Some(Process::new(stat, facts, cgroups, inode, now))
    }

    fn remember(&mut self, mut process: Process, now: Monotonic) {
        if !self.ports.is_empty() {
            for port in self.sockets.ports_of(process.facts.pid) {
                if self.ports.contains(&port) {
                    process.serves(port);
                }
            }
        }
        self.processes.insert(&self.config.proc_root, process, now);
    }

    /// Remembers what the kernel said of a process that is gone already.
    fn remember_stub(&mut self, owner: &Owner, now: Monotonic) {
        self.losses.gone += 1;
        let facts = self.facts_of(owner, now);
        let command = facts.command.clone();
        let stat = Stat {
            command,
            start: 0,
            arguments: 0,
            kernel: false,
        };
        let process = Process::new(stat, facts, "".into(), owner.cgroup, now);
        self.processes.insert(&self.config.proc_root, process, now);
    }

    /// What can be said of a socket by its cgroup and what the kernel noted.
    fn facts_of(&mut self, owner: &Owner, now: Monotonic) -> Facts {
        let cgroup = self.cgroups.path(owner.cgroup, now).unwrap_or_default();
        let placement = runtime::placement(&cgroup);
        Facts {
            pid: owner.pid,
            command: owner.command.as_str().into(),
            cgroup: (&*cgroup).into(),
            runtime: placement.runtime,
            unit_service: placement.unit_service,
            pod_uid: placement.pod_uid,
            ..Facts::default()
        }
    }

    /// A process that holds the socket of a connection, or the listener that it came from.
    fn holder(&mut self, connection: &Connection, now: Monotonic) -> Option<u32> {
        if let Some(found) = self.known_holder(connection, now) {
            return Some(found);
        }
        let read = self.sockets.refresh(&self.config.proc_root, now);
        read.then(|| self.known_holder(connection, now)).flatten()
    }

    fn known_holder(&mut self, connection: &Connection, now: Monotonic) -> Option<u32> {
        let cgroup = connection.owner.cgroup;
        let holders = self
            .sockets
            .connection(connection.local, connection.remote)
            .to_vec();
        if let Some(found) = self.pick(holders, cgroup, now) {
            return Some(found);
        }
        if connection.role == Role::Client {
            return None;
        }
        let holders = self.sockets.listeners(connection.local);
        self.pick(holders, cgroup, now)
    }

    /// One of several holders: those of the socket's cgroup before others, services before the
    /// manager that made their listener, then the lowest pid, which is the eldest of a family.
    /// Equal addresses in several network namespaces are not to be told apart: none.
    fn pick(&mut self, mut holders: Vec<Holder>, cgroup: u64, now: Monotonic) -> Option<u32> {
        holders.truncate(MAX_HOLDERS);
        for holder in &holders {
            let owner = Owner {
                pid: holder.pid,
                ..Owner::default()
            };
            self.maker(&owner, now);
        }
        let known = |holder: &Holder| self.processes.get(holder.pid);
        holders.retain(|holder| known(holder).is_some_and(|process| !process.gone));
        prefer(&mut holders, |holder| {
            cgroup != 0 && known(holder).is_some_and(|process| process.cgroup == cgroup)
        });
        prefer(&mut holders, |holder| {
            known(holder).is_some_and(|process| &*process.facts.command != SERVICE_MANAGER)
        });
        let first = holders.iter().min_by_key(|holder| holder.pid)?;
        holders
            .iter()
            .all(|holder| holder.namespace == first.namespace)
            .then_some(first.pid)
    }

    /// By the cgroup alone: its processes if they are one service, else what its path says.
    fn by_cgroup(&mut self, owner: &Owner, ports: &[u16], now: Monotonic) -> Arc<Workload> {
        if let Some(process) = self.processes.get_mut(owner.pid) {
            // Gone before it could be looked at.
            return process.workload(&self.config.rules, None);
        }
        // A socket with a known maker must not be given to a neighbour in the same cgroup.
        let told = owner.pid != 0 && !owner.command.is_empty();
        let members = match told {
            true => Vec::new(),
            false => self.cgroups.processes(owner.cgroup, now),
        };
        let mut common: Option<Arc<Workload>> = None;
        for pid in members {
            self.maker(
                &Owner {
                    pid,
                    ..Owner::default()
                },
                now,
            );
            let Some(process) = self.processes.get_mut(pid).filter(|found| !found.gone) else {
                continue;
            };
            let workload = process.workload(&self.config.rules, None);
            match &common {
                None => common = Some(workload),
                Some(first) if first.service == workload.service => {}
                Some(_) => {
                    common = None;
                    break;
                }
            }
        }
        if let Some(workload) = common {
            return workload;
        }
        let facts = self.facts_of(owner, now);
        let workload = identify(&facts, &self.config.rules, ports);
        let nothing = workload.service.as_ref() == "unknown" && workload.cgroup.is_empty();
        self.losses.unknown += u64::from(nothing);
        Arc::new(workload)
    }

    /// Finds which ports matter to the rules, and who serves them.
    fn index_ports(&mut self) {
        self.ports = self
            .config
            .rules
            .iter()
            .filter_map(|rule| rule.port)
            .collect();
        self.ports.sort_unstable();
        self.ports.dedup();
        for (pid, process) in self.processes.iter_mut() {
            process.forget();
            if self.ports.is_empty() {
                continue;
            }
            for port in self
                .sockets
                .ports_of(pid)
                .filter(|port| self.ports.contains(port))
            {
                process.serves(port);
            }
        }
    }
}

/// A socket that a known process made to connect, after the observer started.
fn is_new_client(connection: &Connection) -> bool {
    connection.role == Role::Client && !connection.pre_existing && connection.owner.pid != 0
}

/// Keeps only the entries that fit, if any do.
fn prefer<T>(entries: &mut Vec<T>, fits: impl Fn(&T) -> bool) {
    if entries.iter().any(&fits) {
        entries.retain(fits);
    }
}

#[cfg(test)]
mod tests;
