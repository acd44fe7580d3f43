//! Rules of the configuration that name services.

use crate::config::Glob;

/// Names the processes that it matches. All matchers that are set must match; a rule without any
/// matches nothing.
#[derive(Clone, Debug, Default)]
pub struct ServiceRule {
    /// Executable path.
    pub executable: Option<Glob>,
    /// Thread name of the process (`/proc/PID/comm`, at most 15 bytes).
    pub command: Option<Glob>,
    /// Cgroup path below the cgroup root.
    pub cgroup: Option<Glob>,
    /// Port that the process serves. Its outgoing connections match too.
    pub port: Option<u16>,
    /// Command line, arguments joined by spaces, of which the first 2048 bytes are kept.
    pub arguments: Option<Glob>,
    /// `service.name` to give.
    pub service: String,
    /// `service.namespace` to give; `None` leaves what the process's environment says.
    pub namespace: Option<String>,
}

/// What a rule is matched against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subject<'a> {
    /// Executable path; empty when unknown.
    pub(super) executable: &'a str,
    /// Thread name.
    pub(super) command: &'a str,
    /// Cgroup path; empty when unknown.
    pub(super) cgroup: &'a str,
    /// Command line.
    pub(super) command_line: &'a str,
    /// Ports: the one of the connection if it was accepted, else all that the process serves.
    pub(super) ports: &'a [u16],
}

// === impl ServiceRule ===

impl ServiceRule {
    /// Does the rule name this process?
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let glob = |glob: &Option<Glob>, text| glob.as_ref().is_none_or(|glob| glob.matches(text));
        let any = self.executable.is_some()
            || self.command.is_some()
            || self.cgroup.is_some()
            || self.port.is_some()
            || self.arguments.is_some();
        any && self.port.is_none_or(|port| subject.ports.contains(&port))
            && glob(&self.executable, subject.executable)
            && glob(&self.command, subject.command)
            && glob(&self.cgroup, subject.cgroup)
            && glob(&self.arguments, subject.command_line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_matchers_must_match() {
        let subject = Subject {
            executable: "/usr/bin/java",
            command: "java",
            cgroup: "/system.slice/shop.service",
            command_line: "java -Dapp=cart -jar x.jar",
            ports: &[80, 8080],
        };
        let rule = ServiceRule {
            executable: Some(Glob::new("*/java")),
            ..ServiceRule::default()
        };
        assert!(rule.matches(&subject));
        let rule = ServiceRule {
            port: Some(8080),
            ..rule
        };
        assert!(rule.matches(&subject));
        let rule = ServiceRule {
            arguments: Some(Glob::new("*app=ca??*")),
            ..rule
        };
        assert!(rule.matches(&subject));
        let rule = ServiceRule {
            cgroup: Some(Glob::new("/system.slice/*")),
            ..rule
        };
        assert!(rule.matches(&subject));
        assert!(
            !ServiceRule {
                port: Some(81),
                ..rule.clone()
            }
            .matches(&subject)
        );
        assert!(
            !ServiceRule {
                command: Some(Glob::new("x")),
                ..rule.clone()
            }
            .matches(&subject)
        );
        assert!(
            !ServiceRule::default().matches(&subject),
            "no matcher, no match"
        );
    }
}
