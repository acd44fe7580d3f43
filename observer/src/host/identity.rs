//! From facts of a process to the service that it is: a pure function.

use crate::model::{
    resource_attributes::ServiceAttributes,
    workload::{NameSource, Runtime, Workload},
};

use super::rule::{ServiceRule, Subject};

/// What was read of one process, or told of one that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Process id; 0 when unknown.
    pub(super) pid: u32,
    /// Thread name (`/proc/PID/comm`); empty when unknown.
    pub(super) command: Box<str>,
    /// Executable path; empty when unknown.
    pub(super) executable: Box<str>,
    /// Command line, arguments joined by spaces, cut at 2048 bytes.
    pub(super) command_line: Box<str>,
    /// Name of the program, see [`super::program::program`].
    pub(super) program: Option<Box<str>>,
    /// What the process was started with.
    pub(super) environment: ServiceAttributes,
    /// Path of the cgroup; empty when unknown.
    pub(super) cgroup: Box<str>,
    /// What the cgroup says.
    pub(super) runtime: Runtime,
    /// The systemd unit as a service name.
    pub(super) unit_service: Option<Box<str>>,
    /// Uid of the pod, as the cgroup tells it; empty without.
    pub(super) pod_uid: Box<str>,
}

/// The service that a process is, strongest source first; see [`NameSource`].
pub(super) fn identify(facts: &Facts, rules: &[ServiceRule], ports: &[u16]) -> Workload {
    let subject = Subject {
        executable: &facts.executable,
        command: &facts.command,
        cgroup: &facts.cgroup,
        command_line: &facts.command_line,
        ports,
    };
    let rule = rules.iter().find(|rule| rule.matches(&subject));
    let named = [
        (
            rule.map(|rule| rule.service.as_str()),
            NameSource::Configuration,
        ),
        (Some(&*facts.environment.name), NameSource::Environment),
        (facts.unit_service.as_deref(), NameSource::Unit),
        (facts.program.as_deref(), NameSource::Program),
        (Some(&*facts.command), NameSource::Command),
    ];
    let (service, source) = named
        .into_iter()
        .find_map(|(name, source)| Some((name.filter(|name| !name.is_empty())?, source)))
        .unwrap_or(("unknown", NameSource::Unknown));
    let namespace = rule.and_then(|rule| rule.namespace.as_deref());
    Workload {
        service: service.into(),
        namespace: namespace.unwrap_or(&facts.environment.namespace).into(),
        version: facts.environment.version.clone(),
        source,
        runtime: facts.runtime.clone(),
        cgroup: facts.cgroup.clone(),
        pid: facts.pid,
        command: facts.command.clone(),
        executable: facts.executable.clone(),
        pod_uid: facts.pod_uid.clone(),
        container: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            pid: 7,
            command: "java".into(),
            executable: "/opt/java".into(),
            command_line: "java -jar shop.jar".into(),
            program: Some("shop".into()),
            environment: ServiceAttributes {
                name: "cart".into(),
                namespace: "eu".into(),
                version: "1".into(),
            },
            cgroup: "/system.slice/web.service".into(),
            runtime: Runtime::Unit {
                name: "web.service".into(),
            },
            unit_service: Some("web".into()),
            pod_uid: "".into(),
        }
    }

    fn check(facts: &Facts, rules: &[ServiceRule], service: &str, source: NameSource) {
        let found = identify(facts, rules, &[80]);
        assert_eq!((&*found.service, found.source), (service, source));
    }

    #[test]
    fn strongest_source_first() {
        let rule = ServiceRule {
            port: Some(80),
            service: "rule".into(),
            namespace: Some("us".into()),
            ..ServiceRule::default()
        };
        let mut facts = facts();
        let found = identify(&facts, std::slice::from_ref(&rule), &[80]);
        assert_eq!(
            (&*found.service, &*found.namespace, &*found.version),
            ("rule", "us", "1")
        );
        assert_eq!(found.source, NameSource::Configuration);
        assert_eq!(found.pid, 7);
        assert_eq!(
            found.runtime,
            Runtime::Unit {
                name: "web.service".into()
            }
        );

        check(
            &facts,
            &[ServiceRule {
                port: Some(81),
                ..rule
            }],
            "cart",
            NameSource::Environment,
        );
        facts.environment = ServiceAttributes::default();
        check(&facts, &[], "web", NameSource::Unit);
        facts.unit_service = None;
        check(&facts, &[], "shop", NameSource::Program);
        facts.program = None;
        check(&facts, &[], "java", NameSource::Command);
        facts.command = "".into();
        check(&facts, &[], "unknown", NameSource::Unknown);
        check(&Facts::default(), &[], "unknown", NameSource::Unknown);
    }

    #[test]
    fn the_first_rule_that_matches_names() {
        let rule = |service: &str, namespace: Option<&str>| ServiceRule {
            port: Some(80),
            service: service.into(),
            namespace: namespace.map(Into::into),
            ..ServiceRule::default()
        };
        let found = identify(&facts(), &[rule("a", None), rule("b", Some("n"))], &[80]);
        assert_eq!((&*found.service, &*found.namespace), ("a", "eu"));
    }
}
