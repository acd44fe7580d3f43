//! A host made of files in a temporary folder, and the real one of this process.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use tempfile::TempDir;

use super::*;
use crate::model::{
    connection::ConnectionId,
    workload::{NameSource, Runtime},
};

struct Machine {
    folder: TempDir,
}

/// A process to put into `/proc`.
#[derive(Clone)]
struct Spec<'a> {
    pid: u32,
    start: u64,
    command: &'a str,
    executable: &'a str,
    command_line: &'a str,
    environment: &'a str,
    cgroup: &'a str,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Self {
            pid: 10,
            start: 100,
            command: "nginx",
            executable: "/usr/sbin/nginx",
            command_line: "nginx\0-g\0daemon off;\0",
            environment: "",
            cgroup: "/",
        }
    }
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("proc")).unwrap();
        std::fs::create_dir(folder.path().join("cgroup")).unwrap();
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn host(&self) -> Host {
        self.host_with(Config::default())
    }

    fn host_with(&self, config: Config) -> Host {
        let (proc_root, cgroup_root) = (self.path("proc"), self.path("cgroup"));
        Host::new(Config {
            proc_root,
            cgroup_root,
            ..config
        })
    }

    fn start(&self, spec: &Spec<'_>) {
        let folder = self.path(&format!("proc/{}", spec.pid));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("fd")).unwrap();
        std::fs::create_dir_all(folder.join("ns")).unwrap();
        let write = |name: &str, contents: &str| {
            std::fs::write(folder.join(name), contents).unwrap();
        };
        let (pid, command, start) = (spec.pid, spec.command, spec.start);
        let zeros = "0 ".repeat(12);
        write(
            "stat",
            &format!(
                "{pid} ({command}) S 1 1 1 0 -1 0 {zeros}{start} {}",
                "0 ".repeat(30)
            ),
        );
        write("cmdline", spec.command_line);
        write("environ", spec.environment);
        write("cgroup", &format!("0::{}\n", spec.cgroup));
        symlink(spec.executable, folder.join("exe")).unwrap();
        symlink("net:[1]", folder.join("ns/net")).unwrap();
    }

    fn stop(&self, pid: u32) {
        std::fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
    }

    /// Makes a cgroup and gives its inode.
    fn cgroup(&self, path: &str) -> u64 {
        let path = self.path(&format!("cgroup{path}"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::metadata(path).unwrap().ino()
    }

    /// Gives a process sockets: local address, remote address, state, inode.
    fn sockets(&self, pid: u32, sockets: &[(&str, &str, &str, u64)]) {
        let folder = self.path(&format!("proc/{pid}"));
        std::fs::create_dir_all(folder.join("net")).unwrap();
        // All processes share one table, as in one network namespace.
        let table = self.path("tcp");
        let header = String::from("  sl  local_address rem_address   st\n");
        let mut text = std::fs::read_to_string(&table).unwrap_or(header);
        for (number, (local, remote, state, inode)) in sockets.iter().enumerate() {
            let (local, remote) = (hexadecimal(local), hexadecimal(remote));
            text +=
                &format!("0: {local} {remote} {state} 0:0 0:0 0 0 0 {inode} 1 0 100 0 0 10 0\n");
            symlink(
                format!("socket:[{inode}]"),
                folder.join(format!("fd/{number}")),
            )
            .unwrap();
        }
        std::fs::write(&table, text).unwrap();
        symlink(table, folder.join("net/tcp")).unwrap();
    }
}

fn hexadecimal(address: &str) -> String {
    let SocketAddr::V4(address) = address.parse().unwrap() else {
        panic!("{address} is not IPv4");
    };
    format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(address.ip().octets()),
        address.port()
    )
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(seconds * 1_000_000_000)
}

fn owner(pid: u32, command: &str, cgroup: u64) -> Owner {
    Owner {
        pid,
        cgroup,
        command: command.into(),
        ..Owner::default()
    }
}

fn connection(role: Role, local: &str, remote: &str, owner: Owner) -> Connection {
    Connection {
        id: ConnectionId(1),
        role,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        wire: None,
        pre_existing: owner.pid == 0,
        owner,
        started: at(0),
        established: None,
        sequences: None,
    }
}

fn client(owner: Owner) -> Connection {
    connection(Role::Client, "127.0.0.1:50000", "127.0.0.1:80", owner)
}

fn server(port: u16, owner: Owner) -> Connection {
    connection(
        Role::Server,
        &format!("127.0.0.1:{port}"),
        "127.0.0.1:50000",
        owner,
    )
}

fn lost(host: &Host, reason: &str) -> u64 {
    host.losses()
        .iter()
        .find(|loss| loss.reason == reason)
        .unwrap()
        .count
}

#[test]
fn a_process_with_everything() {
    let machine = Machine::new();
    let cgroup = machine.cgroup("/system.slice/web.service");
    machine.start(&Spec {
        environment: "SECRET=x\0OTEL_RESOURCE_ATTRIBUTES=service.version=7\0",
        cgroup: "/system.slice/web.service",
        ..Spec::default()
    });
    let mut host = machine.host();
    let found = host.workload(&client(owner(10, "nginx", cgroup)), at(1));
    let expected = Workload {
        service: "web".into(),
        namespace: "".into(),
        version: "7".into(),
        source: NameSource::Unit,
        runtime: Runtime::Unit {
            name: "web.service".into(),
        },
        cgroup: "/system.slice/web.service".into(),
        pid: 10,
        command: "nginx".into(),
        executable: "/usr/sbin/nginx".into(),
        pod_uid: "".into(),
        container: None,
    };
    assert_eq!(*found, expected);
    let again = host.workload(&server(80, owner(10, "nginx", cgroup)), at(5));
    assert!(Arc::ptr_eq(&found, &again), "one value for one process");
}

#[test]
fn short_lived_processes_are_named() {
    let machine = Machine::new();
    let mut host = machine.host();
    machine.start(&Spec {
        command: "curl",
        executable: "/usr/bin/curl",
        ..Spec::default()
    });
    host.observe(&owner(10, "curl", 0), at(1));
    machine.stop(10);
    let found = host.workload(&client(owner(10, "curl", 0)), at(3));
    assert_eq!(
        (&*found.service, found.source),
        ("curl", NameSource::Program)
    );

    // Gone before the first look: what the kernel said.
    let cgroup = machine.cgroup("/system.slice/job.service");
    host.observe(&owner(11, "wget", 0), at(1));
    host.observe(&owner(12, "wget", cgroup), at(1));
    let found = host.workload(&client(owner(11, "wget", 0)), at(1));
    assert_eq!(
        (&*found.service, found.source, found.pid),
        ("wget", NameSource::Command, 11)
    );
    let found = host.workload(&client(owner(12, "wget", cgroup)), at(9));
    assert_eq!((&*found.service, found.source), ("job", NameSource::Unit));
    assert!(lost(&host, "process_gone") >= 2);
}

#[test]
fn exec_and_reused_pids_are_noticed() {
    let machine = Machine::new();
    machine.start(&Spec {
        command: "sh",
        executable: "/bin/sh",
        command_line: "sh\0-c\0curl x\0",
        ..Spec::default()
    });
    let mut host = machine.host();
    let service = |host: &mut Host, command: &str, now| {
        host.workload(&client(owner(10, command, 0)), now)
            .service
            .clone()
    };
    assert_eq!(&*service(&mut host, "sh", at(1)), "sh");
    // The same process runs another program.
    machine.start(&Spec {
        command: "curl",
        executable: "/usr/bin/curl",
        ..Spec::default()
    });
    assert_eq!(&*service(&mut host, "curl", at(3)), "curl");
    // Another process has the pid; the kernel reports it at once.
    machine.start(&Spec {
        command: "wget",
        executable: "/bin/wget",
        start: 900,
        ..Spec::default()
    });
    host.observe(&owner(10, "wget", 0), at(3));
    assert_eq!(&*service(&mut host, "wget", at(3)), "wget");
}

#[test]
fn a_stranger_with_the_pid_of_an_old_maker_is_not_taken() {
    let machine = Machine::new();
    let (old, new) = (
        machine.cgroup("/old.service"),
        machine.cgroup("/new.service"),
    );
    machine.start(&Spec {
        cgroup: "/new.service",
        ..Spec::default()
    });
    let mut host = machine.host_with(Config {
        max_processes: 0,
        ..Config::default()
    });
    host.processes = Processes::new(10, Duration::from_secs(1));
    let found = host.workload(&server(80, owner(10, "daemon", old)), at(5));
    assert_eq!((&*found.service, found.source), ("old", NameSource::Unit));
    let found = host.workload(&server(80, owner(10, "daemon", new)), at(9));
    assert_eq!(&*found.service, "new");
}

#[test]
fn sockets_tell_the_holder_of_old_connections() {
    let machine = Machine::new();
    machine.start(&Spec::default());
    machine.sockets(
        10,
        &[
            ("0.0.0.0:80", "0.0.0.0:0", "0A", 500),
            ("127.0.0.1:80", "127.0.0.1:50000", "01", 501),
        ],
    );
    machine.start(&Spec {
        pid: 11,
        command: "app",
        executable: "/bin/app",
        ..Spec::default()
    });
    machine.sockets(11, &[("127.0.0.1:50000", "127.0.0.1:80", "01", 502)]);
    let mut host = machine.host();
    assert_eq!(host.workload(&server(80, owner(0, "", 0)), at(1)).pid, 10);
    assert_eq!(host.workload(&client(owner(0, "", 0)), at(1)).pid, 11);
    // By the listener alone, for a role that is known or not; never for a client.
    let by_listener = |role| connection(role, "127.0.0.1:80", "10.0.0.1:4", owner(0, "", 0));
    assert_eq!(host.workload(&by_listener(Role::Server), at(1)).pid, 10);
    assert_eq!(host.workload(&by_listener(Role::Unknown), at(1)).pid, 10);
    assert_eq!(host.workload(&by_listener(Role::Client), at(1)).pid, 0);
    assert_eq!(lost(&host, "workload_unknown"), 1);

    // A listener made after the scan is found by another, at most once a second.
    machine.start(&Spec {
        pid: 12,
        command: "new",
        executable: "/bin/new",
        ..Spec::default()
    });
    machine.sockets(12, &[("0.0.0.0:81", "0.0.0.0:0", "0A", 503)]);
    assert_eq!(host.workload(&server(81, owner(0, "", 0)), at(1)).pid, 0);
    assert_eq!(host.workload(&server(81, owner(0, "", 0)), at(3)).pid, 12);
}

#[test]
fn the_maker_of_a_listener_may_have_left_it_to_others() {
    let machine = Machine::new();
    // A daemon's parent made the listener and exited.
    machine.start(&Spec {
        pid: 20,
        ..Spec::default()
    });
    machine.sockets(20, &[("0.0.0.0:80", "0.0.0.0:0", "0A", 500)]);
    // The service manager made one for a service.
    machine.start(&Spec {
        pid: 1,
        command: "systemd",
        executable: "/sbin/systemd",
        ..Spec::default()
    });
    machine.sockets(1, &[("0.0.0.0:22", "0.0.0.0:0", "0A", 600)]);
    machine.start(&Spec {
        pid: 30,
        command: "sshd",
        executable: "/bin/sshd",
        ..Spec::default()
    });
    machine.sockets(30, &[("0.0.0.0:22", "0.0.0.0:0", "0A", 600)]);
    let mut host = machine.host();
    assert_eq!(
        host.workload(&server(80, owner(19, "nginx", 0)), at(1)).pid,
        20
    );
    assert_eq!(
        host.workload(&server(22, owner(1, "systemd", 0)), at(1))
            .pid,
        30
    );
}

#[test]
fn equal_addresses_in_two_namespaces_are_told_apart_by_cgroup_only() {
    let machine = Machine::new();
    let cgroups = [machine.cgroup("/a.service"), machine.cgroup("/b.service")];
    for (pid, cgroup) in [(10, "/a.service"), (11, "/b.service")] {
        machine.start(&Spec {
            pid,
            cgroup,
            ..Spec::default()
        });
        machine.sockets(pid, &[("0.0.0.0:80", "0.0.0.0:0", "0A", u64::from(pid))]);
        let link = machine.path(&format!("proc/{pid}/ns/net"));
        std::fs::remove_file(&link).unwrap();
        symlink(format!("net:[{pid}]"), link).unwrap();
    }
    let mut host = machine.host();
    assert_eq!(
        host.workload(&server(80, owner(0, "", cgroups[1])), at(1))
            .pid,
        11
    );
    assert_eq!(
        host.workload(&server(80, owner(0, "", cgroups[0])), at(1))
            .pid,
        10
    );
    assert_eq!(
        &*host.workload(&server(80, owner(0, "", 0)), at(1)).service,
        "unknown"
    );
}

#[test]
fn the_cgroup_tells_when_nothing_else_does() {
    let machine = Machine::new();
    let cgroup = machine.cgroup("/my/group");
    std::fs::write(machine.path("cgroup/my/group/cgroup.procs"), "10\n11\n").unwrap();
    for pid in [10, 11] {
        machine.start(&Spec {
            pid,
            cgroup: "/my/group",
            ..Spec::default()
        });
    }
    let mut host = machine.host();
    let found = host.workload(&client(owner(0, "", cgroup)), at(1));
    assert_eq!((&*found.service, found.pid), ("nginx", 10));
    // Members that are not one service: only the path is sure.
    machine.start(&Spec {
        pid: 11,
        executable: "/bin/other",
        cgroup: "/my/group",
        start: 7,
        ..Spec::default()
    });
    let found = host.workload(&client(owner(0, "", cgroup)), at(9));
    assert_eq!(
        (&*found.service, &*found.cgroup, found.pid),
        ("unknown", "/my/group", 0)
    );
    assert_eq!(lost(&host, "workload_unknown"), 0, "its cgroup is known");
}

#[test]
fn rules_by_port_name_both_directions_and_reload() {
    let machine = Machine::new();
    machine.start(&Spec::default());
    let rule = |port, service: &str| ServiceRule {
        port: Some(port),
        service: service.into(),
        ..ServiceRule::default()
    };
    let rules = vec![rule(80, "shop"), rule(81, "admin")];
    let mut host = machine.host_with(Config {
        rules,
        ..Config::default()
    });
    let known = owner(10, "nginx", 0);
    let service = |host: &mut Host, connection| host.workload(&connection, at(1)).service.clone();
    assert_eq!(&*service(&mut host, client(known.clone())), "nginx");
    assert_eq!(&*service(&mut host, server(81, known.clone())), "admin");
    assert_eq!(&*service(&mut host, client(known.clone())), "admin");
    assert_eq!(&*service(&mut host, server(80, known.clone())), "shop");
    assert_eq!(&*service(&mut host, server(81, known.clone())), "admin");
    assert_eq!(
        &*service(&mut host, server(82, known.clone())),
        "shop",
        "the first rule"
    );
    host.reconfigure(vec![rule(80, "store")]);
    assert_eq!(&*service(&mut host, server(80, known.clone())), "store");
    host.reconfigure(Vec::new());
    assert_eq!(&*service(&mut host, server(80, known)), "nginx");
}

#[test]
fn remembered_processes_are_bounded_and_expire() {
    let machine = Machine::new();
    for pid in 10..14 {
        machine.start(&Spec {
            pid,
            ..Spec::default()
        });
    }
    let config = Config {
        max_processes: 4,
        retention: Duration::from_secs(60),
        ..Config::default()
    };
    let mut host = machine.host_with(config);
    // Full of living processes: the new one is named, not kept.
    machine.start(&Spec {
        pid: 20,
        ..Spec::default()
    });
    let named = |host: &mut Host, pid| {
        host.workload(&client(owner(pid, "nginx", 0)), at(1)).source == NameSource::Program
    };
    assert!(named(&mut host, 20));
    assert_eq!(lost(&host, "processes_full"), 1);
    assert_eq!(
        host.tables()[0],
        Table {
            name: "host_processes",
            entries: 4,
            limit: 4
        }
    );
    // One that has exited makes room.
    machine.stop(11);
    machine.start(&Spec {
        pid: 21,
        ..Spec::default()
    });
    assert!(named(&mut host, 21));
    assert_eq!(lost(&host, "processes_full"), 1);
    // Exited ones are kept for a while, then forgotten.
    machine.stop(21);
    host.expire(at(10));
    assert_eq!(host.tables()[0].entries, 4);
    host.expire(at(69));
    assert!(named(&mut host, 21));
    host.expire(at(70));
    assert_eq!(host.tables()[0].entries, 3);
}

#[test]
fn this_very_process() {
    let mut host = Host::new(Config::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let this = std::process::id();
    let executable = std::env::current_exe().unwrap();
    // Only by its addresses, as for a connection that is older than the observer.
    for (role, stream) in [(Role::Client, &dialled), (Role::Server, &server)] {
        let connection = Connection {
            local: stream.local_addr().unwrap(),
            remote: stream.peer_addr().unwrap(),
            ..connection(role, "0.0.0.0:0", "0.0.0.0:0", Owner::default())
        };
        let found = host.workload(&connection, at(1));
        assert_eq!(found.pid, this, "{role:?}");
        assert_eq!(Path::new(&*found.executable), executable);
        assert_ne!(found.source, NameSource::Unknown);
    }
    let found = host.workload(&client(owner(this, "x", 0)), at(1));
    assert_eq!(found.pid, this);
    host.expire(at(2));
    assert!(host.tables()[0].entries > 0);
    // Processes of others show what is not allowed to this user.
    let user = |process: &str| std::fs::metadata(format!("/proc/{process}")).unwrap().uid();
    if user("self") != 0 && user("1") != user("self") {
        assert!(lost(&host, "process_denied") > 0 && lost(&host, "descriptors_denied") > 0);
    }
}

/// Files that this user may not read make an identity poorer, never an error.
#[test]
fn without_rights_less_is_known() {
    let machine = Machine::new();
    let spec = Spec {
        environment: "OTEL_SERVICE_NAME=shop\0",
        ..Spec::default()
    };
    machine.start(&spec);
    // A folder cannot be read as a file or link whatever the rights of the user are; what is
    // denied for want of rights goes the same way, and is counted when this is not root.
    let unreadable = |name: &str| {
        let path = machine.path(&format!("proc/10/{name}"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(path).unwrap();
    };
    unreadable("exe");
    unreadable("environ");
    std::fs::remove_dir(machine.path("proc/10/fd")).unwrap();
    let mut host = machine.host();
    let found = host.workload(&client(owner(10, "nginx", 0)), at(1));
    assert_eq!(
        (&*found.service, found.source),
        ("nginx", NameSource::Program)
    );
    assert_eq!(
        (&*found.executable, &*found.command, &*found.cgroup),
        ("", "nginx", "/")
    );
}
