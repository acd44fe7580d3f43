//! Addresses and owner of the connection of a flow.

use std::net::SocketAddr;

use serde::Serialize;

use super::text::hexadecimal;
use crate::model::{
    call::Link,
    connection::{ConnectionId, Owner},
    workload::{Runtime, Workload},
};

/// Addresses and owner of a connection; part of [`CallLine`](super::CallLine) and [`ConnectionLine`](super::ConnectionLine).
#[derive(Clone, Debug, Serialize)]
pub struct Place<'a> {
    /// The socket's own address.
    pub local: SocketAddr,
    /// The address that the socket talks to.
    pub remote: SocketAddr,
    /// Own address on the wire, where translation made it differ.
    pub wire_local: Option<SocketAddr>,
    /// Remote address on the wire, where translation made it differ: who really answered.
    pub wire_remote: Option<SocketAddr>,
    /// Process id; 0 when unknown.
    pub pid: u32,
    /// Thread name of the process.
    pub command: &'a str,
    /// Executable path; empty when unknown.
    pub executable: &'a str,
    /// Container id.
    pub container: Option<&'a str>,
    /// systemd unit.
    pub unit: Option<&'a str>,
    /// Path of the cgroup.
    pub cgroup: &'a str,
    /// The socket's cookie, 16 hexadecimal digits.
    #[serde(serialize_with = "hexadecimal")]
    pub connection: u64,
}

pub(super) fn place(link: &Link) -> Place<'_> {
    let connection = &link.connection;
    Place {
        wire_local: connection.wire.map(|(local, _)| local),
        wire_remote: connection.wire.map(|(_, remote)| remote),
        ..place_of(
            (connection.local, connection.remote),
            &connection.owner,
            &link.workload,
            connection.id,
        )
    }
}

pub(super) fn place_of<'a>(
    (local, remote): (SocketAddr, SocketAddr),
    owner: &'a Owner,
    workload: &'a Workload,
    id: ConnectionId,
) -> Place<'a> {
    let known = |left: u32, right: u32| if left > 0 { left } else { right };
    let (container, unit) = match &workload.runtime {
        Runtime::Container { id, .. } => (Some(&**id), None),
        Runtime::Unit { name } => (None, Some(&**name)),
        Runtime::Host => (None, None),
    };
    let command: &str = match &*workload.command {
        "" => &owner.command,
        command => command,
    };
    Place {
        local,
        remote,
        wire_local: None,
        wire_remote: None,
        pid: known(owner.pid, workload.pid),
        command,
        executable: &workload.executable,
        container,
        unit,
        cgroup: &workload.cgroup,
        connection: id.0,
    }
}
