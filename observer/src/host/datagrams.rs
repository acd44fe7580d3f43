//! Whose a socket of UDP is.

use std::{net::SocketAddr, sync::Arc};

use super::Host;
use crate::model::{connection::Owner, time::Monotonic, workload::Workload};

impl Host {
    /// The workload of a socket of UDP at `local`: by the process that made it, else by the process
    /// that holds it, else by its cgroup, else unknown.
    pub fn workload_at(
        &mut self,
        local: SocketAddr,
        owner: &Owner,
        now: Monotonic,
    ) -> Arc<Workload> {
        let found = match self.maker(owner, now) {
            Some(pid) => Some(pid),
            // A new socket of a process that is gone is gone too.
            None if owner.pid != 0 => None,
            None => self.datagram_holder(local, owner, now),
        };
        if let Some(process) = found.and_then(|pid| self.processes.get_mut(pid)) {
            return process.workload(&self.config.rules, None);
        }
        self.by_cgroup(owner, &[], now)
    }

    fn datagram_holder(&mut self, local: SocketAddr, owner: &Owner, now: Monotonic) -> Option<u32> {
        let holders = self.sockets.datagrams(local);
        if let Some(found) = self.pick(holders, owner.cgroup, now) {
            return Some(found);
        }
        if !self.sockets.refresh(&self.config.proc_root, now) {
            return None;
        }
        let holders = self.sockets.datagrams(local);
        self.pick(holders, owner.cgroup, now)
    }
}
