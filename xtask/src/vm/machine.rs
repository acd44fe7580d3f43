//! One boot: QEMU without hardware virtualisation, its console, its verdict.

use std::{
    fmt,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::workspace::{say, target};

/// A boot, the exchange and the end take some 30 seconds under emulation; this is for a machine
/// that has much else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the init script prints first: from there on, all that fails is for us to explain.
const STARTED: &str = "OBSERVER-VM-STARTED";

/// What the init script prints before its verdict.
const VERDICT: &str = "OBSERVER-VM:";

/// How often a machine is started whose kernel stops before its first process.
const BOOTS: usize = 2;

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The init script was content; what it counted.
    Passed(String),
    /// It was not, or did not come to an end; why.
    Failed(String),
    /// The kernel stopped before its first process: nothing of ours had run.
    NeverStarted,
}

/// Boots `kernel` with `initramfs` and waits for the verdict. A kernel that stops before its first
/// process says something of the emulator only, and is booted once more.
pub(super) fn boot(
    kernel: &Kernel,
    initramfs: &Path,
    parameters: &str,
    verbose: bool,
) -> Result<Outcome> {
    for _ in 1..BOOTS {
        let outcome = boot_once(kernel, initramfs, parameters, verbose)?;
        if outcome != Outcome::NeverStarted {
            return Ok(outcome);
        }
        say(&format!("vm: {}: {outcome}; once more", kernel.release));
    }
    boot_once(kernel, initramfs, parameters, verbose)
}

/// One start of the machine.
fn boot_once(
    kernel: &Kernel,
    initramfs: &Path,
    parameters: &str,
    verbose: bool,
) -> Result<Outcome> {
    let folder = target("vm/log");
    fs::create_dir_all(&folder)?;
    let name = format!(
        "{}-{}",
        kernel.release,
        parameters.replace(['=', ' ', '/'], "-")
    );
    let log = folder.join(format!("{}.log", name.trim_end_matches('-')));
    let mut machine = Command::new("qemu-system-x86_64")
        // The build machines cannot nest virtualisation; one way for all is one to rely on.
        // Its two CPUs take turns in one thread: with a thread for each, a CPU can still run the
        // breakpoint of code that the other has just patched, and 6.12 dies of that early in boot
        // ("Oops: int3"). It is not slower either.
        .args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2"])
        .args(["-m", "1024"])
        .args([
            "-nographic",
            "-no-reboot",
            "-net",
            "none",
            "-serial",
            "stdio",
        ])
        .args(["-monitor", "none", "-append"])
        .arg(format!("console=ttyS0 quiet panic=-1 {parameters}"))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot run qemu-system-x86_64")?;
    let started = Instant::now();
    let ended = loop {
        if machine.try_wait()?.is_some() {
            break true;
        }
        if started.elapsed() > PATIENCE {
            machine.kill()?;
            machine.wait()?;
            break false;
        }
        thread::sleep(Duration::from_millis(100));
    };
    let console = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let outcome = verdict(&console, ended);
    if verbose || !outcome.passed() {
        for line in console.lines() {
            say(&format!("vm: {}| {}", kernel.release, printable(line)));
        }
    }
    Ok(outcome)
}

/// A line without what only a terminal understands: the firmware clears the screen.
fn printable(line: &str) -> String {
    let mut kept = String::new();
    let mut characters = line.trim_end().chars();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            kept.extend((!character.is_control() || character == '\t').then_some(character));
        } else if characters.next() == Some('[') {
            // ECMA-48, 5.4: a control sequence ends with a byte from 0x40 to 0x7e.
            let _ = characters.find(|end| ('@'..='~').contains(end));
        }
    }
    kept
}

/// What the console says.
fn verdict(console: &str, ended: bool) -> Outcome {
    // A kernel message can come before it in the same line.
    let line = console
        .lines()
        .rev()
        .find_map(|line| Some(line.split_once(VERDICT)?.1.trim()));
    match line.and_then(|line| line.split_once(' ').or(Some((line, "")))) {
        Some(("passed", detail)) => Outcome::Passed(detail.to_owned()),
        Some((_, detail)) => Outcome::Failed(detail.to_owned()),
        None if ended && !console.contains(STARTED) => Outcome::NeverStarted,
        None if ended => Outcome::Failed("the machine stopped without a verdict".to_owned()),
        None => Outcome::Failed(format!("no verdict in {} s", PATIENCE.as_secs())),
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether it is good.
    pub(super) fn passed(&self) -> bool {
        matches!(self, Self::Passed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(detail) => write!(formatter, "passed  {detail}"),
            Self::Failed(detail) => write!(formatter, "FAILED  {detail}"),
            Self::NeverStarted => {
                formatter.write_str("FAILED  no first process: the kernel stopped")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_printable() {
        assert_eq!(
            printable("\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mkernel\t5.10\r"),
            "kernel\t5.10"
        );
    }

    #[test]
    fn the_last_verdict_counts() {
        let check = |console, ended, expected| assert_eq!(verdict(console, ended), expected);
        let passed = |detail: &str| Outcome::Passed(detail.to_owned());
        let failed = |detail: &str| Outcome::Failed(detail.to_owned());
        check(
            "boot\r\nOBSERVER-VM: passed 20 calls\r\n",
            true,
            passed("20 calls"),
        );
        check(
            "[1.0] x OBSERVER-VM: failed no cgroup\r\n[2.0] off",
            true,
            failed("no cgroup"),
        );
        check(
            "boot\r\nOBSERVER-VM-STARTED\r\n[2.0] Oops\r\n",
            true,
            failed("the machine stopped without a verdict"),
        );
        check("boot\r\n[1.6] Oops: int3\r\n", true, Outcome::NeverStarted);
        check(
            "OBSERVER-VM-STARTED\r\nOBSERVER-VM: failed no cgroup\r\n",
            true,
            failed("no cgroup"),
        );
        assert!(!verdict("boot\r\n", false).passed());
        assert!(!verdict("OBSERVER-VM: nonsense", true).passed());
    }
}
