//! Tests of the checks over machines that are plain values.

use super::*;

const UNIFIED: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw
42 31 0:39 / /mnt/a\\040b rw,relatime - cgroup2 cgroup2 rw
";

/// Root on a current kernel.
fn machine() -> Machine {
    Machine {
        release: Some("6.12.1-cloud-amd64".to_owned()),
        mountinfo: UNIFIED.to_owned(),
        cgroup: None,
        status: "Name:\tobserver\nCapEff:\t000001fffeffffff\n".to_owned(),
        limits: "Max locked memory         8388608              8388608              bytes\n"
            .to_owned(),
        lockdown: Some("none integrity [confidentiality]".to_owned()),
        jit: Some("1".to_owned()),
        unprivileged: Some("2".to_owned()),
        statistics: Some("0".to_owned()),
        btf: true,
        whole_tree: Some(true),
        network: Network::Host,
        conntrack: Some(Ok(())),
        kubernetes: Kubernetes {
            on: true,
            api: Some(asked(Ok(Vec::new()))),
            hub: Some(asked(Ok(Vec::new()))),
        },
        object_embedded: true,
        load: Some(Ok(vec!["payload".to_owned()])),
    }
}

fn asked(missing: Result<Vec<String>, String>) -> Asked {
    Asked {
        who: "https://server".to_owned(),
        missing,
        purpose: "the pods of node-1".to_owned(),
    }
}

/// The one check `name` of `machine`, after the rest was seen to agree with `works`.
fn check(machine: &Machine, name: &str) -> Check {
    let report = diagnose(machine);
    let missing = report
        .checks
        .iter()
        .any(|check| check.state == State::Missing);
    assert_eq!(report.works, !missing);
    let mut found = report.checks.into_iter().filter(|check| check.name == name);
    let check = found.next().unwrap();
    assert!(found.next().is_none(), "{name} is there twice");
    assert_eq!(check.state == State::Ok, check.cost.is_none(), "{check:?}");
    assert_eq!(
        check.state == State::Ok,
        check.remedy.is_none(),
        "{check:?}"
    );
    check
}

fn state(machine: &Machine, name: &str) -> State {
    check(machine, name).state
}

fn capabilities(bits: &[u32]) -> String {
    let effective = bits.iter().fold(0_u64, |sum, bit| sum | 1 << bit);
    format!("CapEff:\t{effective:016x}\n")
}

#[test]
fn a_good_machine_is_all_ok() {
    let report = diagnose(&machine());
    assert!(report.works);
    for check in &report.checks {
        assert_eq!(check.state, State::Ok, "{check:?}");
    }
    assert!(report.text().ends_with("This host can be observed.\n"));
}

#[test]
fn kernels_before_5_10_do_not_work() {
    for (release, expected) in [
        ("5.9.16", State::Missing),
        ("4.19.0-27-amd64", State::Missing),
        ("5.10.0-46-cloud-amd64", State::Ok),
        ("6.1-rc1", State::Ok),
        ("10.0", State::Ok),
        ("unknown", State::Degraded),
    ] {
        let machine = Machine {
            release: Some(release.to_owned()),
            ..machine()
        };
        assert_eq!(state(&machine, "kernel"), expected, "{release}");
    }
}

#[test]
fn the_cgroup_must_be_in_a_cgroup_v2_mount() {
    let none = Machine {
        mountinfo: "1 0 0:1 / / rw - ext4 /dev/a rw\n".to_owned(),
        ..machine()
    };
    assert_eq!(state(&none, "cgroup"), State::Missing);
    assert!(
        check(&machine(), "cgroup")
            .found
            .ends_with("/sys/fs/cgroup/unified")
    );
    for (path, is_directory, expected) in [
        ("/sys/fs/cgroup/unified", true, State::Ok),
        ("/sys/fs/cgroup/unified/system.slice", true, State::Ok),
        ("/sys/fs/cgroup/unified/gone", false, State::Missing),
        ("/sys/fs/cgroup/systemd/a", true, State::Missing),
        ("/sys/fs/cgroup/unified2", true, State::Missing),
        ("/mnt/a b/c", true, State::Ok),
        ("/tmp", true, State::Missing),
    ] {
        let machine = Machine {
            cgroup: Some((path.into(), is_directory)),
            ..machine()
        };
        assert_eq!(state(&machine, "cgroup"), expected, "{path}");
    }
}

#[test]
fn capabilities_that_are_needed_and_those_that_help() {
    let with = |bits: &[u32]| Machine {
        status: capabilities(bits),
        ..machine()
    };
    let names = ["bpf_capability", "net_capability", "proc_capability"];
    let states = |bits: &[u32]| names.map(|name| state(&with(bits), name));
    use State::{Degraded, Missing, Ok};
    assert_eq!(states(&[]), [Missing, Missing, Degraded]);
    assert_eq!(states(&[39]), [Ok, Missing, Degraded]);
    assert_eq!(states(&[12]), [Missing, Ok, Degraded]);
    assert_eq!(states(&[12, 39]), [Ok, Ok, Degraded]);
    assert_eq!(states(&[12, 21]), [Ok, Ok, Degraded]);
    assert_eq!(states(&[12, 19, 39]), [Ok, Ok, Degraded]);
    assert_eq!(states(&[2, 12, 19, 39]), [Ok, Ok, Ok]);
    assert!(diagnose(&with(&[12, 39])).works, "degraded still works");
}

#[test]
fn memory_lock_counts_before_5_11_only() {
    let old = || Machine {
        release: Some("5.10.1".to_owned()),
        status: capabilities(&[12, 39]),
        ..machine()
    };
    assert_eq!(state(&old(), "memory_lock"), State::Missing);
    let unlimited = Machine {
        limits: "Max locked memory unlimited unlimited bytes".to_owned(),
        ..old()
    };
    assert_eq!(state(&unlimited, "memory_lock"), State::Ok);
    let resource = Machine {
        status: capabilities(&[12, 24, 39]),
        ..old()
    };
    assert_eq!(state(&resource, "memory_lock"), State::Ok);
    let new = Machine {
        release: Some("5.11.0".to_owned()),
        ..old()
    };
    assert_eq!(state(&new, "memory_lock"), State::Ok);
}

#[test]
fn features_and_modes() {
    let interpreted = Machine {
        jit: Some("0".to_owned()),
        ..machine()
    };
    assert_eq!(state(&interpreted, "jit"), State::Degraded);
    let empty = Machine {
        object_embedded: false,
        load: None,
        ..machine()
    };
    assert_eq!(state(&empty, "object"), State::Missing);
    assert!(!diagnose(&empty).works);
    assert!(
        check(&machine(), "lockdown")
            .found
            .starts_with("confidentiality")
    );
    let unknown = Machine {
        lockdown: None,
        ..machine()
    };
    assert!(
        check(&unknown, "lockdown")
            .found
            .starts_with("mode not readable")
    );
}

#[test]
fn a_container_without_the_tree_of_the_host_sees_a_part() {
    let part = Machine {
        whole_tree: Some(false),
        ..machine()
    };
    assert_eq!(state(&part, "cgroup"), State::Degraded);
    assert!(diagnose(&part).works);
    // Who asks for a part gets it.
    let chosen = Machine {
        cgroup: Some(("/sys/fs/cgroup/unified/a".into(), true)),
        ..part
    };
    assert_eq!(state(&chosen, "cgroup"), State::Ok);
    let unknown = Machine {
        whole_tree: None,
        ..machine()
    };
    assert_eq!(state(&unknown, "cgroup"), State::Ok);
}

#[test]
fn translation_is_known_in_the_network_of_the_host() {
    let refused = Machine {
        conntrack: Some(Err("not permitted".to_owned())),
        ..machine()
    };
    let told = check(&refused, "conntrack");
    assert_eq!(told.state, State::Degraded);
    assert!(told.found.ends_with("not permitted"), "{}", told.found);
    let none = Machine {
        conntrack: None,
        ..machine()
    };
    assert_eq!(state(&none, "conntrack"), State::Ok);
    let own = Machine {
        network: Network::Own,
        ..machine()
    };
    assert_eq!(state(&own, "conntrack"), State::Degraded);
    // Outside of Kubernetes a container's own network is nothing to complain of.
    let alone = Machine {
        kubernetes: Kubernetes::default(),
        ..own
    };
    assert_eq!(state(&alone, "conntrack"), State::Ok);
    let unknown = Machine {
        network: Network::Unknown,
        ..machine()
    };
    assert_eq!(state(&unknown, "conntrack"), State::Ok);
}

#[test]
fn kubernetes_is_asked_and_its_absence_only_costs_names() {
    let api = |missing| Machine {
        kubernetes: Kubernetes {
            api: Some(asked(missing)),
            ..machine().kubernetes
        },
        ..machine()
    };
    let forbidden = api(Ok(vec!["list pods".to_owned(), "watch pods".to_owned()]));
    let told = check(&forbidden, "kubernetes_api");
    assert_eq!(told.state, State::Degraded);
    assert_eq!(
        told.found,
        "https://server does not let us list pods, watch pods"
    );
    let away = api(Err("connection refused".to_owned()));
    let told = check(&away, "kubernetes_api");
    assert_eq!(told.found, "https://server: connection refused");
    assert!(diagnose(&away).works, "calls are observed all the same");
    let hub = Machine {
        kubernetes: Kubernetes {
            hub: Some(asked(Err("the hub answers 401".to_owned()))),
            ..machine().kubernetes
        },
        ..machine()
    };
    assert_eq!(state(&hub, "kubernetes_hub"), State::Degraded);
    let off = Machine {
        kubernetes: Kubernetes::default(),
        ..machine()
    };
    assert!(check(&off, "kubernetes_api").found.starts_with("not asked"));
    let report = diagnose(&off);
    assert!(
        report
            .checks
            .iter()
            .all(|check| check.name != "kubernetes_hub")
    );
}

#[test]
fn a_program_that_does_not_load_is_missing_and_named() {
    let refused = Machine {
        load: Some(Err("egress: invalid access".to_owned())),
        ..machine()
    };
    let check = check(&refused, "load");
    assert_eq!(check.state, State::Missing);
    assert_eq!(check.found, "egress: invalid access");
    assert!(diagnose(&refused).text().contains("cannot be observed"));
}

#[test]
fn the_json_form_is_the_documented_one() {
    let report = Report {
        works: false,
        checks: vec![Check {
            name: "kernel",
            state: State::Missing,
            found: "4.19".to_owned(),
            cost: Some("a".to_owned()),
            remedy: None,
        }],
    };
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        serde_json::json!({
            "works": false,
            "checks": [{
                "name": "kernel", "state": "missing", "found": "4.19", "cost": "a",
                "remedy": null
            }],
        })
    );
}

#[test]
fn the_help_names_every_check() {
    use clap::CommandFactory;
    let mut command = crate::cli::arguments::Arguments::command();
    let help = command
        .find_subcommand_mut("doctor")
        .unwrap()
        .render_long_help()
        .to_string();
    for check in diagnose(&machine()).checks {
        assert!(help.contains(check.name), "{}", check.name);
    }
}

#[test]
fn this_machine_can_be_looked_at() {
    let machine = Machine::gather(None);
    assert!(machine.release.is_some());
    assert!(machine.status.contains("CapEff:"));
    assert!(machine.limits.contains("Max locked memory"));
    assert!(!machine.mountinfo.is_empty());
}

#[test]
fn causes_need_a_new_kernel_with_types_and_one_more_capability() {
    assert_eq!(state(&machine(), "causes"), State::Ok);
    let lacking = [
        Machine {
            release: Some("6.1.0-18-cloud-amd64".to_owned()),
            ..machine()
        },
        Machine {
            btf: false,
            ..machine()
        },
        Machine {
            status: capabilities(&[12, 39]),
            ..machine()
        },
    ];
    for machine in lacking {
        let check = check(&machine, "causes");
        assert_eq!(check.state, State::Degraded, "{check:?}");
    }
    for bits in [&[12, 38, 39][..], &[12, 21]] {
        let machine = Machine {
            status: capabilities(bits),
            ..machine()
        };
        assert_eq!(state(&machine, "causes"), State::Ok, "{bits:?}");
    }
}
