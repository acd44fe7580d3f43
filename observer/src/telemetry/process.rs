//! What this process costs: CPU time and memory, from `/proc/self`.

use std::fs;

/// Clock ticks a second in `/proc` (`USER_HZ`), the same on every Linux that user space sees.
const TICKS: f64 = 100.0;

/// CPU time and memory of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Start, seconds since boot.
    pub start_seconds: f64,
}

/// Reads what this process has used so far; zeros where `/proc` cannot be read.
pub fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse(&stat, &status)
}

/// Start of this process, seconds since the Unix epoch.
pub fn start_unix_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|seconds| seconds.trim().parse().ok())
        .unwrap_or(0.0);
    boot + usage().start_seconds
}

fn parse(stat: &str, status: &str) -> Usage {
    // The name in parentheses may have spaces: fields are counted behind it, from number 3.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks = |number: usize| -> f64 {
        fields
            .get(number - 3)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0.0)
    };
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .unwrap_or(0);
    Usage {
        cpu_seconds: (ticks(14) + ticks(15)) / TICKS,
        resident_bytes: resident * 1024,
        start_seconds: ticks(22) / TICKS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_do_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 1000 0 0";
        let usage = parse(stat, "Name:\tx\nVmRSS:\t  2048 kB\n");
        assert_eq!(usage.cpu_seconds, 3.0);
        assert_eq!(usage.resident_bytes, 2 << 20);
        assert_eq!(usage.start_seconds, 10.0);
    }

    #[test]
    fn this_process_has_memory_and_a_start() {
        assert!(usage().resident_bytes > 0);
        assert!(start_unix_seconds() > 1.0e9);
    }
}
