//! The agent as a container of the chart: its capabilities, its system calls, its read-only root
//! with nothing but the program in it, and the node's processes and network.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent,
    cgroup::{self, Cgroup},
    chart, client,
    flow::Flow,
    http,
    place::Place,
    process::{self, Process, Signal},
    requirement::{Need, lacking},
    server::Server,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

use super::objects::{at, each, the, with};

/// A container that is made from a pod template as a node would; gone when dropped.
struct Container {
    process: Process,
    name: String,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

/// Copies the program, and the libraries that it asks for, if any, into `root`.
fn fill(root: &Path) -> Result<()> {
    for folder in ["proc", "sys", "dev", "etc/observer"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let binary = agent::binary()?;
    let listed = process::run(Command::new("ldd").arg(&binary))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from);
    for library in libraries {
        let place = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(place.parent().context("a library without a folder")?)?;
        fs::copy(&library, place)?;
    }
    fs::copy(&binary, root.join("observer"))?;
    Ok(())
}

/// What a runtime is told of the first container of `pod`, by the OCI runtime specification.
fn bundle(pod: &Value, environment: &[(&str, String)], seccomp: bool) -> Result<Value> {
    let container = at(pod, "/spec/containers/0");
    let context = at(container, "/securityContext");
    ensure!(*at(context, "/capabilities/drop") == json!(["ALL"]));
    let capabilities: Vec<String> = each(context, "/capabilities/add")
        .filter_map(|name| Some(format!("CAP_{}", name.as_str()?)))
        .collect();
    let mut arguments = vec![Value::from("/observer")];
    arguments.extend(each(container, "/args").cloned());
    let environment: Vec<String> = environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": at(context, "/runAsUser"), "gid": at(context, "/runAsGroup") },
            "args": arguments,
            "env": environment,
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": *at(context, "/allowPrivilegeEscalation") == json!(false),
        },
        "root": { "path": "root", "readonly": at(context, "/readOnlyRootFilesystem") },
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
        ],
        "linux": {
            // Those of the node are shared: network and processes.
            "namespaces": [{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" }],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    for wanted in each(container, "/volumeMounts") {
        let volume = each(pod, "/spec/volumes")
            .find(|volume| volume["name"] == wanted["name"])
            .context("a mount without a volume")?;
        let destination = at(wanted, "/mountPath").as_str().context("mountPath")?;
        if let Some(path) = at(volume, "/hostPath/path").as_str() {
            mounts.push(mount(
                destination,
                "bind",
                path,
                &["rbind", "ro", "rprivate"],
            ));
        } else if volume.get("configMap").is_some() {
            mounts.push(mount(destination, "bind", "config", &["bind", "ro"]));
        }
    }
    if seccomp {
        let profile = chart::workspace().join("deploy/seccomp/observer.json");
        config["linux"]["seccomp"] = serde_json::from_str(&fs::read_to_string(profile)?)?;
    }
    Ok(config)
}

// === impl Container ===

impl Container {
    /// Starts the agent of the chart on `cgroup`.
    fn start(cgroup: &Cgroup, seccomp: bool) -> Result<Self> {
        let objects = with(&["agent.http.address=loopback"])?;
        let pod = the(&objects, "DaemonSet", "-agent")?.pod().context("pod")?;
        let folder = tempfile::tempdir()?;
        fill(&folder.path().join("root"))?;
        let configuration = folder.path().join("config");
        fs::create_dir(&configuration)?;
        fs::write(configuration.join("observer.yaml"), "{}\n")?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let observed = format!("/sys/fs/cgroup{}", cgroup.relative()?);
        let environment = [
            ("OBSERVER_LISTEN", address.to_string()),
            ("OBSERVER_SERVER", format!("http://{address}")),
            ("OBSERVER_CGROUP", observed),
            // No cluster is here.
            ("OBSERVER_KUBERNETES_ENABLED", "off".to_owned()),
        ];
        let config = bundle(pod, &environment, seccomp)?;
        fs::write(folder.path().join("config.json"), config.to_string())?;
        let name = cgroup::unique("node");
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Self::runtime(folder.path());
        command
            .args(["run", "--bundle"])
            .arg(folder.path())
            .arg(&name)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let container = Self {
            process: Process::spawn(&mut command)?,
            name,
            folder,
            address,
        };
        wait::until("the agent to be ready", PATIENCE, || {
            let ready = http::get(address, "/readyz");
            Ok(ready
                .is_ok_and(|response| response.status == 200)
                .then_some(()))
        })
        .with_context(|| container.log())?;
        Ok(container)
    }

    fn runtime(folder: &Path) -> Command {
        // As on nodes of today, cgroup v2 is where runtimes and the chart look for it.
        let mut command = Command::new("unshare");
        command
            .current_dir(folder)
            .args(["--mount", "sh", "-c"])
            .arg("mount -t cgroup2 none /sys/fs/cgroup && exec crun \"$@\"")
            .arg("crun")
            .args(["--cgroup-manager=disabled", "--root"])
            .arg(folder.join("state"));
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What the program prints, run in the container as `kubectl exec` does.
    fn exec(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Self::runtime(self.folder.path());
        let environment = format!("OBSERVER_SERVER=http://{}", self.address);
        command
            .args(["exec", "--env", &environment, &self.name, "/observer"])
            .args(arguments);
        process::check(&mut command).with_context(|| self.log())
    }

    /// Ends it as the kubelet does.
    fn stop(mut self) -> Result<()> {
        process::check(Self::runtime(self.folder.path()).args(["kill", &self.name, "TERM"]))?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "{status}: {}", self.log());
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ =
            process::run(Self::runtime(self.folder.path()).args(["delete", "--force", &self.name]));
        let _ = self.process.signal(Signal::Kill);
    }
}

#[test]
fn the_agent_of_the_chart_sees_who_calls_whom() -> Result<()> {
    if lacking(&[
        Need::Helm,
        Need::Observer,
        Need::Tool("crun"),
        Need::Tool("curl"),
    ])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("deployed")?;
    let place = Place::host(&cgroup);
    for seccomp in [false, true] {
        let container = Container::start(&cgroup, seccomp)?;
        // Of a program that is in no image of ours, the environment names the service.
        let server = Server::python(&place, &[("OTEL_SERVICE_NAME", "shop")])?;
        for _ in 0..3 {
            client::curl(&place, &[&server.url("/orders/7")])?;
        }
        let flows = wait::until("the calls", PATIENCE, || {
            let text = container.exec(&["flows", "--last", "100", "--output", "json"])?;
            let mut flows = Flow::parse_lines(&text)?;
            flows.retain(|flow| flow.is_call_at("server"));
            Ok((flows.len() >= 3).then_some(flows))
        })?;
        for flow in &flows {
            ensure!(flow.text("service") == "shop", "{flow:?}");
            ensure!(flow.text("peer_service") == "curl", "{flow:?}");
        }
        let report: Value = serde_json::from_str(&container.exec(&["doctor", "-o", "json"])?)?;
        let bad: Vec<&Value> = each(&report, "/checks")
            .filter(|check| check["state"] != "ok")
            .collect();
        ensure!(bad.is_empty(), "seccomp {seccomp}: {bad:#?}");
        server.stop()?;
        container.stop()?;
    }
    Ok(())
}

#[test]
fn the_profile_of_system_calls_allows_no_way_out() -> Result<()> {
    let path = chart::workspace().join("deploy/seccomp/observer.json");
    let profile: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    ensure!(*at(&profile, "/defaultAction") == "SCMP_ACT_ERRNO");
    let mut allowed = Vec::new();
    for rule in each(&profile, "/syscalls") {
        ensure!(rule["action"] == "SCMP_ACT_ALLOW", "{rule}");
        allowed.extend(each(rule, "/names").filter_map(Value::as_str));
    }
    for name in [
        "add_key",
        "chroot",
        "clone3",
        "delete_module",
        "finit_module",
        "init_module",
        "io_uring_setup",
        "kexec_load",
        "keyctl",
        "mknod",
        "mount",
        "open_by_handle_at",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "reboot",
        "setns",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        ensure!(!allowed.contains(&name), "{name}");
    }
    // New processes, but no new namespaces.
    let clone = each(&profile, "/syscalls")
        .find(|rule| each(rule, "/names").any(|name| name == "clone"))
        .context("clone")?;
    let namespaces = 0x7e02_0000_u64;
    ensure!(clone["args"][0]["value"] == namespaces && clone["args"][0]["valueTwo"] == 0);
    let mut sorted = allowed.clone();
    sorted.sort_unstable();
    sorted.dedup();
    ensure!(sorted.len() == allowed.len(), "a name is there twice");
    Ok(())
}
