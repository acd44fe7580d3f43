//! CPU time and memory of processes and of the machine, from procfs (proc(5)).

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// CPU time of the whole machine since it started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// All CPUs together, also while idle.
    pub(super) total: Duration,
    /// Idle, or waiting for a disk.
    pub(super) idle: Duration,
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident: u64,
    /// Resident at its most.
    pub(super) peak: u64,
}

/// Length of procfs's clock tick: `USER_HZ` is 100 on every Linux that we run on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time, user and system, of a process and its threads.
pub(super) fn cpu(process: u32) -> Result<Duration> {
    match scheduled(process) {
        Some(time) => Ok(time),
        // A kernel without scheduler statistics: ticks are coarser, but always there.
        None => own_ticks(&read(&format!("/proc/{process}/stat"))?, 13),
    }
}

/// CPU time of our children that have ended and were waited for.
pub(super) fn ended_children_cpu() -> Result<Duration> {
    own_ticks(&read("/proc/self/stat")?, 15)
}

/// The processes that `process` has started.
pub(super) fn children(process: u32) -> Result<Vec<u32>> {
    let list = read(&format!("/proc/{process}/task/{process}/children"))?;
    list.split_whitespace()
        .map(|word| word.parse().context("read a process id"))
        .collect()
}

/// Memory of a process.
pub(super) fn memory(process: u32) -> Result<Memory> {
    memory_of(&read(&format!("/proc/{process}/status"))?)
}

/// CPU time of the machine up to now.
pub(super) fn machine() -> Result<Machine> {
    machine_of(&read("/proc/stat")?)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// Time on a CPU in nanoseconds, as the scheduler counts it.
fn scheduled(process: u32) -> Option<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        total += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(total))
}

/// User and system time in `stat`, at the 0-based field `first` and the one behind it.
fn own_ticks(stat: &str, first: usize) -> Result<Duration> {
    // The name in parentheses, field 1, may hold anything.
    let (_, rest) = stat.rsplit_once(") ").context("no process name in stat")?;
    let mut fields = rest.split(' ').skip(first - 2);
    let mut ticks = 0;
    for _ in 0..2 {
        let field = fields.next().context("too few fields in stat")?;
        ticks += field.parse::<u32>().context("read a field of stat")?;
    }
    Ok(TICK * ticks)
}

fn memory_of(status: &str) -> Result<Memory> {
    let kibibytes = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(value.with_context(|| format!("no {name} in status"))? << 10)
    };
    Ok(Memory {
        resident: kibibytes("VmRSS:")?,
        peak: kibibytes("VmHWM:")?,
    })
}

fn machine_of(stat: &str) -> Result<Machine> {
    let line = stat.lines().next().context("/proc/stat is empty")?;
    // user nice system idle iowait irq softirq steal; guest time is in user time already.
    let ticks: Vec<u32> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|word| word.parse().context("read /proc/stat"))
        .collect::<Result<_>>()?;
    let idle: u32 = ticks.iter().skip(3).take(2).sum();
    Ok(Machine {
        total: TICK * ticks.iter().sum(),
        idle: TICK * idle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 9";
        assert_eq!(own_ticks(stat, 13).unwrap(), Duration::from_secs(2));
        assert_eq!(own_ticks(stat, 15).unwrap(), Duration::from_millis(500));
        assert!(own_ticks("7 (a) S 1", 13).is_err());
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = memory_of("Name:\tx\nVmHWM:\t    12 kB\nVmRSS:\t    10 kB\n").unwrap();
        let expected = Memory {
            resident: 10_240,
            peak: 12_288,
        };
        assert_eq!(memory, expected);
        assert!(memory_of("Name:\tx\n").is_err());
    }

    #[test]
    fn waiting_for_a_disk_is_idle() {
        let machine = machine_of("cpu  10 0 20 30 5 1 2 3 9 9\ncpu0 1 1\n").unwrap();
        assert_eq!(machine.total, Duration::from_millis(710));
        assert_eq!(machine.idle, Duration::from_millis(350));
    }

    #[test]
    fn own_cpu_time_passes() {
        let before = cpu(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while cpu(std::process::id()).unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }
}
