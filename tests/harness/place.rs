//! Where a process or a socket lives: in which cgroup and in which network namespace.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{cgroup::Cgroup, namespace::Namespace};

/// How long a raw socket waits for its peer before the test fails.
const SOCKET_PATIENCE: Duration = Duration::from_secs(20);

/// A cgroup, and a network namespace other than the machine's if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    cgroup: &'a Cgroup,
    namespace: Option<&'a Namespace>,
}

/// How to connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// As usual: SYN, SYN-ACK, ACK.
    #[default]
    Plain,
    /// The last ACK waits for the first bytes and leaves with them, so that they meet the listener.
    WithData,
}

/// Lets `command` enter `cgroup` and `namespace` before it runs its program.
pub fn enter(
    command: &mut Command,
    cgroup: Option<&Cgroup>,
    namespace: Option<&Namespace>,
) -> Result<()> {
    let doors = Doors::open(cgroup, namespace)?;
    pass_before(command, doors);
    Ok(())
}

/// As [`enter`], of a namespace by its handle.
pub fn enter_handle(command: &mut Command, namespace: Option<&File>) -> Result<()> {
    let namespace = namespace.map(File::try_clone).transpose();
    let doors = Doors {
        members: None,
        namespace: namespace.context("copy the handle of a namespace")?,
    };
    pass_before(command, doors);
    Ok(())
}

fn pass_before(command: &mut Command, doors: Doors) {
    // SAFETY: the closure makes system calls on descriptors it owns and allocates nothing.
    unsafe { command.pre_exec(move || doors.pass()) };
}

/// The open files that lead into a cgroup and a network namespace.
struct Doors {
    members: Option<File>,
    namespace: Option<File>,
}

fn socket_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros is a valid sockaddr_storage (family AF_UNSPEC).
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let place = std::ptr::from_mut(&mut storage);
    let length = match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*address.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large and aligned enough for any address.
            unsafe { place.cast::<libc::sockaddr_in>().write(value) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(value) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_option(
    socket: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket,
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    })
}

// === impl Place ===

impl<'a> Place<'a> {
    /// In `cgroup`, on the machine's own network.
    pub fn host(cgroup: &'a Cgroup) -> Self {
        Self {
            cgroup,
            namespace: None,
        }
    }

    /// In `cgroup`, on the network of `namespace`.
    pub fn inside(cgroup: &'a Cgroup, namespace: &'a Namespace) -> Self {
        Self {
            cgroup,
            namespace: Some(namespace),
        }
    }

    /// Its network namespace, if that is not the machine's own.
    pub fn namespace(&self) -> Option<&'a Namespace> {
        self.namespace
    }

    /// A command that will run here.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        enter(&mut command, Some(self.cgroup), self.namespace)?;
        Ok(command)
    }

    /// A TCP port of 127.0.0.1 that nothing uses at the moment.
    pub fn free_port(&self) -> Result<u16> {
        let listener = self.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(listener.local_addr()?.port())
    }

    /// A socket that lives here and is connected to `address`. The error is the kernel's own.
    pub fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        self.connect_by(address, Handshake::Plain)
    }

    /// As [`Self::connect`], by another handshake.
    pub fn connect_by(&self, address: SocketAddr, handshake: Handshake) -> Result<TcpStream> {
        let socket = self.socket(address)?;
        if handshake == Handshake::WithData {
            // On the connecting side the option only makes the kernel save the bare ACK.
            set_option(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                1,
            )?;
        }
        let (storage, length) = socket_address(address);
        // SAFETY: the pointer and the length describe `storage`.
        let connected = check(unsafe {
            libc::connect(
                socket.as_raw_fd(),
                std::ptr::from_ref(&storage).cast(),
                length,
            )
        });
        connected.with_context(|| format!("connect to {address}"))?;
        prepare(TcpStream::from(socket))
    }

    /// A socket that has sent its SYN to `address` and does not wait for the answer.
    pub fn start_connecting(&self, address: SocketAddr) -> Result<TcpStream> {
        let socket = TcpStream::from(self.socket(address)?);
        socket.set_nonblocking(true)?;
        let (storage, length) = socket_address(address);
        // SAFETY: the pointer and the length describe `storage`.
        let started = check(unsafe {
            libc::connect(
                socket.as_raw_fd(),
                std::ptr::from_ref(&storage).cast(),
                length,
            )
        });
        match started {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                Err(error).with_context(|| format!("start to connect to {address}"))
            }
            _ => Ok(socket),
        }
    }

    /// A listener that lives here.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        let socket = self.socket(address)?;
        let descriptor = socket.as_raw_fd();
        set_option(descriptor, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        let (storage, length) = socket_address(address);
        // SAFETY: the pointer and the length describe `storage`.
        check(unsafe { libc::bind(descriptor, std::ptr::from_ref(&storage).cast(), length) })
            .with_context(|| format!("bind {address}"))?;
        // SAFETY: the descriptor is open.
        check(unsafe { libc::listen(descriptor, 512) })
            .with_context(|| format!("listen on {address}"))?;
        Ok(TcpListener::from(socket))
    }

    /// A TCP socket whose cgroup and namespace are these. A socket belongs to the cgroup of the
    /// process that makes it, so a child that shares our table of descriptors makes it for us.
    fn socket(&self, address: SocketAddr) -> Result<OwnedFd> {
        let doors = Doors::open(Some(self.cgroup), self.namespace)?;
        let domain = if address.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let (mut answer, question) = io::pipe().context("make a pipe")?;
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        // SAFETY: without CLONE_VM this is fork; the child below makes system calls only.
        let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if child == 0 {
            let made = match doors.pass() {
                // SAFETY: socket takes plain integers.
                Ok(()) => unsafe {
                    libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
                },
                Err(_) => -1,
            };
            let bytes = made.to_ne_bytes();
            // SAFETY: the pointer and the length describe `bytes`; _exit ends this child at once,
            // without the destructors that would close descriptors shared with the parent.
            unsafe {
                libc::write(question.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
                libc::_exit(0);
            }
        }
        if child < 0 {
            return Err(io::Error::last_os_error()).context("make a child process");
        }
        let mut bytes = [0; 4];
        let read = answer.read_exact(&mut bytes);
        // SAFETY: a null status is allowed; the child is ours and not waited for elsewhere.
        unsafe { libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), 0) };
        read.context("hear of the socket")?;
        let descriptor = RawFd::from_ne_bytes(bytes);
        anyhow::ensure!(descriptor >= 0, "no socket could be made in {self:?}");
        // SAFETY: the child has opened it in our table, and nobody else knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

/// `stream` with bounded waits and without Nagle's algorithm, so that a write is a segment.
pub fn prepare(stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOCKET_PATIENCE))?;
    stream.set_write_timeout(Some(SOCKET_PATIENCE))?;
    Ok(stream)
}

/// Makes the coming close of `stream` a RST.
pub fn reset_on_close(stream: &TcpStream) -> Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `linger`.
    check(unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            length,
        )
    })
    .context("set SO_LINGER")
}

// === impl Doors ===

impl Doors {
    fn open(cgroup: Option<&Cgroup>, namespace: Option<&Namespace>) -> Result<Self> {
        let members = cgroup.map(|cgroup| {
            let path = cgroup.path().join("cgroup.procs");
            OpenOptions::new()
                .write(true)
                .open(&path)
                .with_context(|| format!("open {}", path.display()))
        });
        let namespace = namespace.map(Namespace::handle);
        Ok(Self {
            members: members.transpose()?,
            namespace: namespace.transpose()?,
        })
    }

    /// Moves the calling process; only system calls, as it runs between fork and exec.
    fn pass(&self) -> io::Result<()> {
        if let Some(namespace) = &self.namespace {
            // SAFETY: the descriptor is open.
            check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
        }
        if let Some(members) = &self.members {
            // SAFETY: the pointer and the length describe a static byte; "0" is the caller itself.
            let written = unsafe { libc::write(members.as_raw_fd(), b"0".as_ptr().cast(), 1) };
            if written != 1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}
