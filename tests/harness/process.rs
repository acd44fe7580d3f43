//! Child processes that never outlive their test.

use std::{
    fmt,
    io::Read,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::wait;

/// How long a command that ends by itself may run.
const COMMAND_PATIENCE: Duration = Duration::from_secs(120);

/// A running child; ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// A signal to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends it after it has tidied up.
    Terminate,
    /// Ends it at once.
    Kill,
    /// Asks it to read its configuration again.
    HangUp,
    /// Holds it where it is: what is sent to it waits in the kernel.
    Stop,
    /// Lets it go on.
    Continue,
}

/// Runs `command` to its end, which has to come within two minutes.
pub fn run(command: &mut Command) -> Result<Output> {
    run_within(command, COMMAND_PATIENCE)
}

/// Runs `command` to its end, which has to come within `patience`.
pub fn run_within(command: &mut Command, patience: Duration) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Process::spawn(command)?;
    let stdout = drain(process.child.stdout.take());
    let stderr = drain(process.child.stderr.take());
    let status = process
        .wait(patience)
        .with_context(|| format!("run {name}"))?;
    Ok(Output {
        status,
        stdout: collect(stdout),
        stderr: collect(stderr),
    })
}

/// Runs `command`, which has to succeed, and returns its standard output.
pub fn check(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {errors}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `work` on a thread of its own that is not root, and so has no capabilities.
pub fn without_rights<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    /// Of `nobody`, on any system.
    const NOBODY: libc::uid_t = 65534;
    const UNCHANGED: libc::uid_t = libc::uid_t::MAX;
    let joined = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: takes plain integers; the system call itself, other than the function of the
            // C library, changes this thread only.
            let changed =
                unsafe { libc::syscall(libc::SYS_setresuid, UNCHANGED, NOBODY, UNCHANGED) };
            ensure!(
                changed == 0,
                "become nobody: {}",
                std::io::Error::last_os_error()
            );
            work()
        });
        thread.join()
    });
    joined.map_err(|_| anyhow!("a thread without rights died"))?
}

fn drain<T: Read + Send + 'static>(pipe: Option<T>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is what there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn collect(reader: thread::JoinHandle<Vec<u8>>) -> Vec<u8> {
    reader.join().unwrap_or_default()
}

// === impl Process ===

impl Process {
    /// Starts `command`.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.spawn();
        let child = child.with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self { child })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, to get at its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("wait for a child")
    }

    /// Sends it `signal`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::HangUp => libc::SIGHUP,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        };
        // SAFETY: the child is ours and not yet waited for, so the id is still its own.
        let sent = unsafe { libc::kill(self.id() as libc::pid_t, number) };
        ensure!(
            sent == 0,
            "send {signal}: {}",
            std::io::Error::last_os_error()
        );
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait::until("the end of a process", patience, || self.ended())
    }

    /// Asks it to end and waits for that.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::Terminate)?;
        self.wait(wait::PATIENCE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.ended(), Ok(None)) {
            return;
        }
        let stopped = self
            .signal(Signal::Terminate)
            .and_then(|()| self.wait(Duration::from_secs(2)).map(drop));
        if stopped.is_err() {
            // It may be gone by now, which is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

// === impl Signal ===

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Kill => "SIGKILL",
            Self::HangUp => "SIGHUP",
            Self::Stop => "SIGSTOP",
            Self::Continue => "SIGCONT",
        })
    }
}
