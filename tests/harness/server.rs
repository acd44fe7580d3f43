//! Real servers: nginx, nghttpd, Python's and Node's HTTP servers, and those of the peers.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    http,
    peers::{self, Peer},
    place::Place,
    process::Process,
    wait::{self, PATIENCE},
};

const PYTHON_SCRIPT: &str = include_str!("server/server.py");
const NODE_SCRIPT: &str = include_str!("server/server.mjs");
const NGINX_CONFIGURATION: &str = include_str!("server/nginx.conf");

/// Debian's interpreter: a version manager's shim in the `PATH` would be a shell script.
pub const PYTHON: &str = "/usr/bin/python3";

/// Bytes of nginx's and Python's `/hello`.
pub const HELLO: &str = "hello world\n";

/// Files of the web servers, but for [`HELLO`], with their sizes.
const FILES: [(&str, u64); 3] = [("64k", 64 << 10), ("10m", 10 << 20), ("1g", 1 << 30)];

/// A running server, on 127.0.0.1 unless it was started elsewhere.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

/// What nginx itself counted (`stub_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// Connections accepted.
    pub connections: u64,
    /// Requests, the one that asked included.
    pub requests: u64,
}

/// Makes the files that the web servers serve.
fn write_files(root: &Path) -> Result<()> {
    fs::create_dir(root)?;
    fs::write(root.join("hello"), HELLO)?;
    // Files with holes: they have a size and take no room.
    for (name, size) in FILES {
        File::create(root.join(name))?.set_len(size)?;
    }
    Ok(())
}

// === impl Server ===

impl Server {
    /// Starts nginx: see `server/nginx.conf` for its locations.
    pub fn nginx(place: &Place<'_>) -> Result<Self> {
        Self::nginx_with(place, "", "")
    }

    /// As [`Self::nginx`], for HTTP/2 with prior knowledge only.
    pub fn nginx_http2(place: &Place<'_>) -> Result<Self> {
        Self::nginx_with(place, "http2", "")
    }

    /// As [`Self::nginx`], with `parameters` of its directive `listen`, and further `directives`.
    pub fn nginx_with(place: &Place<'_>, parameters: &str, directives: &str) -> Result<Self> {
        let port = place.free_port()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self::nginx_at(place, address, parameters, directives)
    }

    /// As [`Self::nginx_with`], on `address`.
    pub fn nginx_at(
        place: &Place<'_>,
        address: SocketAddr,
        parameters: &str,
        directives: &str,
    ) -> Result<Self> {
        let mut command = place.command("nginx")?;
        Self::begin(place, address, &mut command, |command, folder, _| {
            write_files(&folder.join("www"))?;
            let text = NGINX_CONFIGURATION
                .replace("@DIRECTIVES@", directives)
                .replace("@FOLDER@", &folder.display().to_string())
                .replace("@LISTEN@", &format!("{address} {parameters}"));
            let configuration = folder.join("nginx.conf");
            fs::write(&configuration, text)?;
            command
                .arg("-p")
                .arg(folder)
                .arg("-e")
                .arg(folder.join("error.log"));
            command.arg("-c").arg(configuration);
            Ok(())
        })
    }

    /// Starts nghttpd, for HTTP/2 with prior knowledge, on `address`: the files of nginx; with
    /// `arguments` of its own.
    pub fn nghttpd(place: &Place<'_>, address: IpAddr, arguments: &[&str]) -> Result<Self> {
        let mut command = place.command("nghttpd")?;
        Self::start_at(place, address, &mut command, |command, folder, port| {
            let root = folder.join("www");
            write_files(&root)?;
            command.arg("--no-tls").arg("-a").arg(address.to_string());
            command.arg("-d").arg(root).args(arguments);
            command.arg(port.to_string());
            Ok(())
        })
    }

    /// Starts the Go peer for HTTP/1.1 and HTTP/2 on `address`: see `peers/go/http.go`.
    pub fn go(place: &Place<'_>, address: IpAddr) -> Result<Self> {
        let mut command = peers::go(place, &["serve", "-listen"])?;
        Self::start_at(place, address, &mut command, |command, _, port| {
            command.arg(SocketAddr::new(address, port).to_string());
            Ok(())
        })
    }

    /// Starts the Go peer for gRPC: it echoes every message of every method.
    pub fn go_rpc(place: &Place<'_>) -> Result<Self> {
        Self::go_rpc_at(place, Ipv4Addr::LOCALHOST.into())
    }

    /// As [`Self::go_rpc`], on `address`.
    pub fn go_rpc_at(place: &Place<'_>, address: IpAddr) -> Result<Self> {
        let mut command = peers::go(place, &["grpc-serve", "-listen"])?;
        Self::start_at(place, address, &mut command, |command, _, port| {
            command.arg(SocketAddr::new(address, port).to_string());
            Ok(())
        })
    }

    /// Starts Node's HTTP/2 server: see `peers/http2.mjs` for its routes.
    pub fn node_http2(place: &Place<'_>) -> Result<Self> {
        let mut command = peers::node(place, "http2.mjs", &["serve"])?;
        Self::start(place, &mut command, |command, _, port| {
            command.arg(port.to_string());
            Ok(())
        })
    }

    /// Starts the gRPC server of Python on `address`: see `peers/rpc.py` for its methods.
    pub fn rpc(place: &Place<'_>, address: IpAddr) -> Result<Self> {
        let mut command = peers::python(place, "rpc.py", &["serve"])?;
        Self::start_at(place, address, &mut command, |command, _, port| {
            command.arg(SocketAddr::new(address, port).to_string());
            Ok(())
        })
    }

    /// Starts Envoy with the configuration `name` of `peers/envoy`, in which each of `words` is
    /// replaced; `@PORT@` is where it has to listen.
    pub fn envoy(place: &Place<'_>, name: &str, words: &[(&str, &str)]) -> Result<Self> {
        let port = place.free_port()?;
        Self::envoy_at(place, SocketAddr::from(([127, 0, 0, 1], port)), name, words)
    }

    /// As [`Self::envoy`], on `address`.
    pub fn envoy_at(
        place: &Place<'_>,
        address: SocketAddr,
        name: &str,
        words: &[(&str, &str)],
    ) -> Result<Self> {
        let mut command = place.command(&Peer::Envoy.program().display().to_string())?;
        Self::begin(place, address, &mut command, |command, folder, port| {
            let path = peers::script("envoy").join(name);
            let mut text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            text = text.replace("@PORT@", &port.to_string());
            for (word, value) in words {
                text = text.replace(word, value);
            }
            let configuration = folder.join("envoy.yaml");
            fs::write(&configuration, text)?;
            command.arg("-c").arg(configuration);
            command.args(["--concurrency", "1", "--disable-hot-restart"]);
            command.args(["-l", "warning"]);
            Ok(())
        })
    }

    /// Starts any other server on 127.0.0.1. `prepare` completes the command with a folder of its
    /// own and the port that it has to listen on.
    pub fn other(
        place: &Place<'_>,
        command: &mut Command,
        prepare: impl FnOnce(&mut Command, &Path, u16) -> Result<()>,
    ) -> Result<Self> {
        Self::start(place, command, prepare)
    }

    /// Starts any other server, which will listen on `address`.
    pub fn at(
        place: &Place<'_>,
        address: SocketAddr,
        command: &mut Command,
        prepare: impl FnOnce(&mut Command, &Path) -> Result<()>,
    ) -> Result<Self> {
        Self::begin(place, address, command, |command, folder, _| {
            prepare(command, folder)
        })
    }

    /// Starts Python's threaded HTTP server: see `server/server.py` for its routes.
    pub fn python(place: &Place<'_>, environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = place.command(PYTHON)?;
        command.envs(environment.iter().copied());
        Self::script(place, &mut command, "server.py", PYTHON_SCRIPT)
    }

    /// Starts Node's HTTP server: see `server/server.mjs` for its routes.
    pub fn node(place: &Place<'_>, environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = place.command("node")?;
        command.envs(environment.iter().copied());
        Self::script(place, &mut command, "server.mjs", NODE_SCRIPT)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process id; of nginx the master's.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What nginx counted, asked from outside of the observed cgroup's client side.
    pub fn handled(&self) -> Result<Handled> {
        let page = http::get(self.address, "/status")?.body;
        let line = page.lines().nth(2).context("nginx tells no numbers")?;
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next().context("nginx tells too few numbers");
        let connections = next()??;
        next()??;
        Ok(Handled {
            connections,
            requests: next()??,
        })
    }

    /// Ends it and waits for that.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    fn script(place: &Place<'_>, command: &mut Command, name: &str, text: &str) -> Result<Self> {
        Self::start(place, command, |command, folder, port| {
            let script = folder.join(name);
            fs::write(&script, text)?;
            command.arg(script).arg(port.to_string());
            Ok(())
        })
    }

    fn start(
        place: &Place<'_>,
        command: &mut Command,
        prepare: impl FnOnce(&mut Command, &Path, u16) -> Result<()>,
    ) -> Result<Self> {
        Self::start_at(place, Ipv4Addr::LOCALHOST.into(), command, prepare)
    }

    fn start_at(
        place: &Place<'_>,
        address: IpAddr,
        command: &mut Command,
        prepare: impl FnOnce(&mut Command, &Path, u16) -> Result<()>,
    ) -> Result<Self> {
        let address = SocketAddr::new(address, place.free_port()?);
        Self::begin(place, address, command, prepare)
    }

    fn begin(
        place: &Place<'_>,
        address: SocketAddr,
        command: &mut Command,
        prepare: impl FnOnce(&mut Command, &Path, u16) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        prepare(command, folder.path(), address.port()).context("prepare a server")?;
        let log = folder.path().join("log");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let process = Process::spawn(command)?;
        let connect = || TcpStream::connect(address).ok().map(drop);
        let mut server = Self {
            process,
            address,
            folder,
        };
        wait::until("a server to listen", PATIENCE, || {
            if let Some(status) = server.process.ended()? {
                let log = fs::read_to_string(server.folder.path().join("log"))?;
                bail!("the server ended with {status}: {log}");
            }
            match place.namespace() {
                Some(namespace) => namespace.within(|| Ok(connect())),
                None => Ok(connect()),
            }
        })?;
        Ok(server)
    }
}
