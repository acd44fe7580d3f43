//! One look at a process in `/proc`.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::model::resource_attributes::ServiceAttributes;

use super::{environment::environment, program::program};

/// What `/proc/PID/stat` says of which process it is and which program it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Thread name.
    pub(super) command: Box<str>,
    /// Start time, clock ticks since boot: with the pid it names a process.
    pub(super) start: u64,
    /// Where its arguments lie, another place after each `exec`; 0 where we may not know.
    pub(super) arguments: u64,
    /// A thread of the kernel.
    pub(super) kernel: bool,
}

/// All that is read of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// Which process.
    pub(super) stat: Stat,
    /// Executable path, without the mark of a deleted file; empty when not readable.
    pub(super) executable: Box<str>,
    /// Arguments joined by spaces, cut.
    pub(super) command_line: Box<str>,
    /// Name of the program.
    pub(super) program: Option<Box<str>>,
    /// The OpenTelemetry variables.
    pub(super) environment: ServiceAttributes,
    /// Raw contents of `/proc/PID/cgroup`.
    pub(super) cgroups: Box<str>,
    /// Something could not be read for want of rights.
    pub(super) denied: bool,
}

/// Flag of `/proc/PID/stat` (field 9): `PF_KTHREAD` of the kernel's `linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Most bytes read of the arguments: a Java class path may be long, the main class follows it.
const MAX_ARGUMENTS: u64 = 128 << 10;

/// Most bytes read of the environment.
const MAX_ENVIRONMENT: u64 = 512 << 10;

/// Most bytes read of the small files.
const MAX_SMALL: u64 = 16 << 10;

/// Bytes kept of the command line.
const MAX_COMMAND_LINE: usize = 2048;

/// Reads `/proc/PID/stat`; `None` when there is no such process.
pub(super) fn stat(proc_root: &Path, pid: u32) -> Option<Stat> {
    let mut path = proc_root.join(pid.to_string());
    path.push("stat");
    parse_stat(&read(&path, MAX_SMALL).ok()?)
}

/// The raw contents of `/proc/PID/cgroup`.
pub(super) fn cgroups(proc_root: &Path, pid: u32) -> Option<Box<str>> {
    let path = proc_root.join(format!("{pid}/cgroup"));
    read(&path, MAX_SMALL)
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into())
}

/// Looks at a process, the most perishable first; `None` when it is gone.
pub(super) fn look(proc_root: &Path, pid: u32) -> Option<Sight> {
    let folder = proc_root.join(pid.to_string());
    let before = stat(proc_root, pid)?;
    let mut denied = false;
    let mut tolerate = |result: io::Result<Vec<u8>>| {
        result.unwrap_or_else(|error| {
            denied |= error.kind() == io::ErrorKind::PermissionDenied;
            Vec::new()
        })
    };
    let executable = tolerate(
        std::fs::read_link(folder.join("exe"))
            .map(|path| path.to_string_lossy().into_owned().into_bytes()),
    );
    let cgroups = tolerate(read(&folder.join("cgroup"), MAX_SMALL));
    let command_line = tolerate(read(&folder.join("cmdline"), MAX_ARGUMENTS));
    // Everything but the two variables is forgotten when this block ends.
    let environment = environment(&tolerate(read(&folder.join("environ"), MAX_ENVIRONMENT)));
    // The pid may have been given to another process in between: then nothing fits together.
    let after = stat(proc_root, pid).unwrap_or_else(|| before.clone());
    if after.start != before.start {
        return None;
    }

    let executable = String::from_utf8_lossy(&executable);
    let executable = executable.strip_suffix(" (deleted)").unwrap_or(&executable);
    let command_line = String::from_utf8_lossy(&command_line);
    let arguments: Vec<&str> = command_line.trim_end_matches('\0').split('\0').collect();
    let mut joined = arguments.join(" ");
    joined.truncate(joined.floor_char_boundary(MAX_COMMAND_LINE));
    Some(Sight {
        program: program(executable, &arguments).map(Into::into),
        stat: after,
        executable: executable.into(),
        command_line: joined.into(),
        environment,
        cgroups: String::from_utf8_lossy(&cgroups).into(),
        denied,
    })
}

/// The paths of `/proc/PID/cgroup`: that of version 2 first, then those of version 1, systemd's
/// own before the rest.
pub(super) fn cgroup_paths(contents: &str) -> Vec<&str> {
    let mut found: Vec<(u8, &str)> = contents
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let rank = match (hierarchy, controllers) {
                ("0", "") => 0,
                (_, "name=systemd") => 1,
                _ => 2,
            };
            Some((rank, path))
        })
        .collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, path)| path).collect()
}

/// Process ids of a directory listing of `/proc`, ascending.
pub(super) fn processes(proc_root: &Path) -> io::Result<Vec<u32>> {
    let mut found: Vec<u32> = std::fs::read_dir(proc_root)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads at most `limit` bytes of a file.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `proc_pid_stat(5)`: the name in parentheses may itself hold spaces and parentheses.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let command = String::from_utf8_lossy(bytes.get(open + 1..close)?);
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of `fields` is field 3, the state.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        command: command.into(),
        start: field(22)?,
        arguments: field(48).unwrap_or(0),
        kernel: field(9)? & KERNEL_THREAD != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let tail = "S 1 1 1 0 -1 4194560 2115 44509 0 18 1 1 38 18 20 0 1 0 160128 5124096 957 \
                    18446744073709551615 94115115139072 94115115928477 140734947278704 0 0 0 65536 \
                    4 1132560123 1 0 0 17 1 0 0 0 0 0 94115116161776 94115116210020 94115398815744 \
                    140734947285853 140734947285868 140734947285868 140734947287018 0";
        let found = parse_stat(format!("9 (a) (b c) {tail}").as_bytes()).unwrap();
        assert_eq!(&*found.command, "a) (b c");
        assert_eq!(found.start, 160_128);
        assert_eq!(found.arguments, 140_734_947_285_853);
        assert!(!found.kernel);
        let kernel = tail.replace("4194560", "2129984");
        assert!(
            parse_stat(format!("2 (kthreadd) {kernel}").as_bytes())
                .unwrap()
                .kernel
        );
        for broken in [
            "",
            "9",
            "9 (a",
            "9 (a) S 1",
            ")(",
            "9 (a) S x x x x x x x x",
        ] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn cgroup_files() {
        let hybrid = "9:name=systemd:/docker/x\n4:memory:/m:y\n0::/\n";
        assert_eq!(cgroup_paths(hybrid), ["/", "/docker/x", "/m:y"]);
        assert_eq!(
            cgroup_paths("0::/system.slice/a.service\n"),
            ["/system.slice/a.service"]
        );
        assert!(cgroup_paths("garbage\n").is_empty());
    }

    #[test]
    fn this_process() {
        let root = Path::new("/proc");
        let sight = look(root, std::process::id()).unwrap();
        assert!(sight.stat.start > 0);
        assert_eq!(
            &*sight.executable,
            std::env::current_exe().unwrap().to_str().unwrap()
        );
        assert!(
            sight
                .program
                .is_some_and(|program| sight.executable.ends_with(&*program))
        );
        assert!(processes(root).unwrap().contains(&std::process::id()));
        assert_eq!(look(root, u32::MAX), None);
    }
}
