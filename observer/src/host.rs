//! This machine as a read-only snapshot: cgroups, containers, processes, sockets.
