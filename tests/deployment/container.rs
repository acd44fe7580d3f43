//! Containers of the chart's pods, started by a runtime from the rendered objects as a node would:
//! capabilities, profile of system calls, read-only root, volumes, variables.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent, cgroup, chart,
    namespace::Namespace,
    process::{self, Process},
    requirement::find_tool,
    wait::PATIENCE,
};
use serde_json::{Value, json};

use super::objects::{Object, at, each};

/// What a node knows of a pod beside the objects.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    /// The objects of the rendering.
    pub(crate) objects: &'a [Object],
    /// What `fieldRef` refers to.
    pub(crate) fields: &'a [(&'a str, &'a str)],
    /// Variables that are set after those of the pod.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// Tokens of the pod's account by audience, that of the API without one.
    pub(crate) tokens: &'a [(&'a str, &'a str)],
    /// Certificate of the API server's authority.
    pub(crate) authority: Option<&'a Path>,
    /// Lines of `/etc/hosts`: what the cluster's DNS says.
    pub(crate) hosts: &'a str,
    /// The network of the node, if that is not the machine's own.
    pub(crate) network: Option<&'a Namespace>,
    /// Profile of system calls; none is `Unconfined`.
    pub(crate) profile: Option<&'a Value>,
    /// A capability that is taken from what the pod asks for.
    pub(crate) without: Option<&'a str>,
}

/// A container; gone when dropped.
pub(crate) struct Container {
    process: Process,
    name: String,
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// The profile that comes with the chart.
pub(crate) fn own_profile() -> Result<Value> {
    let path = chart::workspace().join("deploy/seccomp/observer.json");
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// A runtime's default profile for a container without any capability, in the runtime
/// specification's words.
pub(crate) fn default_profile() -> Result<Value> {
    let profile: Value = serde_json::from_str(&fs::read_to_string(DEFAULT_PROFILE)?)?;
    let named = |rule: &Value, list: &str, key: &str| each(rule, &format!("/{list}/{key}")).count();
    let rules: Vec<Value> = each(&profile, "/syscalls")
        .filter(|rule| named(rule, "includes", "caps") == 0)
        .filter(|rule| {
            named(rule, "includes", "arches") == 0
                || each(rule, "/includes/arches").any(|name| *name == "amd64")
        })
        .map(|rule| {
            let mut plain = json!({ "names": rule["names"], "action": rule["action"] });
            for key in ["args", "errnoRet"] {
                if !at(rule, &format!("/{key}")).is_null() {
                    plain[key] = rule[key].clone();
                }
            }
            plain
        })
        .collect();
    ensure!(!rules.is_empty(), "{DEFAULT_PROFILE} allows nothing");
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "syscalls": rules,
    }))
}

/// Where a runtime's default profile is, if the package is there that has it.
pub(crate) const DEFAULT_PROFILE: &str = "/usr/share/containers/seccomp.json";

/// Where pods find what they are to the API.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

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
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    Ok(())
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// The bytes of standard base64.
pub(crate) fn decoded(text: &str) -> Result<Vec<u8>> {
    let mut command = Command::new("base64");
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    let output = process::run(command.arg("--decode").arg(file.path()))?;
    ensure!(output.status.success(), "not base64: {text}");
    Ok(output.stdout)
}

// === impl Node ===

impl Node<'_> {
    /// Variables of the first container of `pod`, as the kubelet sets them.
    fn variables(&self, pod: &Value) -> Result<Vec<(String, String)>> {
        let mut variables: Vec<(String, String)> = Vec::new();
        for variable in each(pod, "/spec/containers/0/env") {
            let name = at(variable, "/name").as_str().context("a name")?;
            let value = match at(variable, "/valueFrom/fieldRef/fieldPath").as_str() {
                Some(path) => {
                    let known = self.fields.iter().find(|(field, _)| *field == path);
                    known
                        .with_context(|| format!("no field {path}"))?
                        .1
                        .to_owned()
                }
                // References are to variables that come before.
                None => variables.iter().fold(
                    at(variable, "/value")
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                    |value, (known, text)| value.replace(&format!("$({known})"), text),
                ),
            };
            variables.push((name.to_owned(), value));
        }
        for (name, value) in self.environment {
            variables.retain(|(known, _)| known != name);
            variables.push(((*name).to_owned(), (*value).to_owned()));
        }
        Ok(variables)
    }

    /// Writes what volume `volume` of a pod whose group is `group` holds below `folder`.
    fn volume(&self, volume: &Value, folder: &Path, group: Option<u32>) -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        let named = |kind: &str, name: &Value| {
            let mut objects = self.objects.iter();
            objects
                .find(|object| object.kind() == kind && *name == *object.name())
                .with_context(|| format!("no {kind} {name}"))
        };
        let mut mode = 0o644;
        if volume.get("configMap").is_some() {
            let map = named("ConfigMap", at(volume, "/configMap/name"))?;
            for (name, text) in at(&map.0, "/data").as_object().into_iter().flatten() {
                let text = text.as_str().context("text")?;
                files.push((name.clone(), text.into()));
            }
        } else if volume.get("secret").is_some() {
            let secret = named("Secret", at(volume, "/secret/secretName"))?;
            if let Some(bits) = at(volume, "/secret/defaultMode").as_u64() {
                mode = u32::try_from(bits)?;
            }
            let wanted: Vec<&Value> = each(volume, "/secret/items").collect();
            for (name, text) in at(&secret.0, "/data").as_object().into_iter().flatten() {
                if wanted.is_empty() || wanted.iter().any(|item| item["key"] == **name) {
                    files.push((name.clone(), decoded(text.as_str().context("text")?)?));
                }
            }
        }
        for source in each(volume, "/projected/sources") {
            let wanted = at(source, "/serviceAccountToken");
            let path = at(wanted, "/path").as_str().context("path")?;
            let audience = at(wanted, "/audience").as_str().unwrap_or_default();
            files.push((path.to_owned(), self.token(audience)?.into()));
        }
        ensure!(!files.is_empty(), "nothing is in the volume {volume}");
        for (name, bytes) in files {
            let path = folder.join(name);
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            chown(&path, None, group)?;
        }
        Ok(())
    }

    fn token(&self, audience: &str) -> Result<&str> {
        let mut tokens = self.tokens.iter();
        let found = tokens.find(|(known, _)| *known == audience);
        Ok(found
            .with_context(|| format!("no token for {audience:?}"))?
            .1)
    }

    /// Where the volumes are mounted; they are made below `folder`.
    fn mounts(&self, pod: &Value, folder: &Path) -> Result<Vec<Value>> {
        let group = at(pod, "/spec/securityContext/fsGroup").as_u64();
        let group = group.map(u32::try_from).transpose()?;
        let mut mounts = Vec::new();
        for wanted in each(pod, "/spec/containers/0/volumeMounts") {
            let volume = each(pod, "/spec/volumes")
                .find(|volume| volume["name"] == wanted["name"])
                .context("a mount without a volume")?;
            let place = at(wanted, "/mountPath").as_str().context("mountPath")?;
            if let Some(path) = at(volume, "/hostPath/path").as_str() {
                mounts.push(mount(place, "bind", path, &["rbind", "ro", "rprivate"]));
                continue;
            }
            let name = at(wanted, "/name").as_str().context("name")?;
            let source = folder.join("volumes").join(name);
            self.volume(volume, &source, group)?;
            let source = source.display().to_string();
            mounts.push(mount(place, "bind", &source, &["bind", "ro"]));
        }
        if let (Some(authority), true) = (
            self.authority,
            *at(pod, "/spec/automountServiceAccountToken") == true,
        ) {
            let source = folder.join("volumes/account");
            fs::create_dir_all(&source)?;
            fs::write(source.join("token"), self.token("")?)?;
            fs::write(source.join("namespace"), "observer")?;
            fs::copy(authority, source.join("ca.crt"))?;
            let source = source.display().to_string();
            mounts.push(mount(ACCOUNT, "bind", &source, &["bind", "ro"]));
        }
        let hosts = folder.join("hosts");
        fs::write(&hosts, self.hosts)?;
        let hosts = hosts.display().to_string();
        mounts.push(mount("/etc/hosts", "bind", &hosts, &["bind", "ro"]));
        Ok(mounts)
    }

    /// What a runtime is told of the first container of `pod`, by the OCI runtime specification.
    fn bundle(&self, pod: &Value, folder: &Path) -> Result<(Value, Vec<(String, String)>)> {
        let container = at(pod, "/spec/containers/0");
        let context = at(container, "/securityContext");
        ensure!(*at(context, "/capabilities/drop") == json!(["ALL"]));
        let capabilities: Vec<String> = each(context, "/capabilities/add")
            .filter_map(Value::as_str)
            .filter(|name| self.without != Some(name))
            .map(|name| format!("CAP_{name}"))
            .collect();
        let mut arguments = vec![Value::from("/observer")];
        arguments.extend(each(container, "/args").cloned());
        let variables = self.variables(pod)?;
        let environment: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut mounts = vec![
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount(
                "/sys",
                "sysfs",
                "sysfs",
                &["nosuid", "noexec", "nodev", "ro"],
            ),
            mount(
                "/dev",
                "tmpfs",
                "tmpfs",
                &["nosuid", "mode=755", "size=64k"],
            ),
        ];
        mounts.extend(self.mounts(pod, folder)?);
        let mut namespaces = vec![
            json!({ "type": "mount" }),
            json!({ "type": "ipc" }),
            json!({ "type": "uts" }),
            json!({ "type": "cgroup" }),
        ];
        if *at(pod, "/spec/hostPID") != true {
            namespaces.push(json!({ "type": "pid" }));
        }
        if let Some(network) = self.network {
            let path = format!("/var/run/netns/{}", network.name());
            namespaces.push(json!({ "type": "network", "path": path }));
        }
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
            "mounts": mounts,
            "linux": {
                "namespaces": namespaces,
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
                "readonlyPaths":
                    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        });
        if let Some(profile) = self.profile {
            config["linux"]["seccomp"] = profile.clone();
        }
        Ok((config, variables))
    }
}

// === impl Container ===

impl Container {
    /// Starts the first container of a pod with this template.
    pub(crate) fn start(node: &Node<'_>, pod: &Value) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fill(&folder.path().join("root"))?;
        let (config, variables) = node.bundle(pod, folder.path())?;
        fs::write(folder.path().join("config.json"), config.to_string())?;
        let name = cgroup::unique("container");
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Self::runtime(folder.path());
        command
            .args(["run", "--bundle"])
            .arg(folder.path())
            .arg(&name)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Self {
            process: Process::spawn(&mut command)?,
            name,
            folder,
            variables,
        })
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

    /// All that it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    /// What the program prints, run in the container as `kubectl exec` does.
    pub(crate) fn exec(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Self::runtime(self.folder.path());
        command.arg("exec");
        for (name, value) in &self.variables {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.args([&self.name, "/observer"]).args(arguments);
        process::check(&mut command).with_context(|| self.log())
    }

    /// Sends its first process a signal, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let mut command = Self::runtime(self.folder.path());
        process::check(command.args(["kill", &self.name, name])).map(drop)
    }

    /// Ends it as the kubelet does.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal("TERM")?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "{status}: {}", self.log());
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ =
            process::run(Self::runtime(self.folder.path()).args(["delete", "--force", &self.name]));
        let _ = self.process.signal(process::Signal::Kill);
    }
}

/// Whether this machine lacks the runtime's default profile.
pub(crate) fn no_default_profile() -> bool {
    !Path::new(DEFAULT_PROFILE).is_file() || find_tool("crun").is_none()
}
