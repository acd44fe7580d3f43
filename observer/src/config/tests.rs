//! Tests of the configuration: every layer, every error with its place, every reload.

use super::*;

const REFERENCE: &str = include_str!("../../../deploy/observer.yaml");

fn nothing(_: &str) -> Option<String> {
    None
}

fn parsed(text: &str) -> Config {
    Config::parse("observer.yaml", text).unwrap()
}

/// The whole message for a file that must be refused.
fn refused(text: &str) -> String {
    Config::parse("observer.yaml", text)
        .unwrap_err()
        .to_string()
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = Config::load(None, &Flags::default(), &nothing).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:9920");
    assert_eq!(parsed(""), Config::default());
    assert_eq!(parsed("# nothing\n\n  # at all\n"), Config::default());
}

#[test]
fn the_reference_file_sets_every_default_as_it_is() {
    assert_eq!(
        Config::parse("observer.yaml", REFERENCE).unwrap(),
        Config::default()
    );
}

#[test]
fn the_examples_of_the_reference_file_are_valid_too() {
    // Examples are the comment lines that start with `#|`.
    let text: String = REFERENCE
        .lines()
        .map(|line| line.replacen("#|", "", 1))
        // The empty value that an example replaces.
        .map(|line| if line.ends_with(": []") { line.replace(" []", "") } else { line } + "\n")
        .collect();
    let config = Config::parse("observer.yaml", &text).unwrap();
    assert!(config.cgroup.is_some());
    assert!(!config.ignore.ports.is_empty());
    assert!(!config.ignore.cgroups.is_empty());
    assert!(!config.ignore.services.is_empty());
    assert!(!config.routes.patterns.is_empty());
    assert!(config.services.len() >= 2);
    assert!(!config.ignore.pods.is_empty() && !config.only.is_empty());
    assert!(!config.networks.is_empty() && !config.kubernetes.hub.is_empty());
    assert!(!config.otlp.headers.0.is_empty() && config.otlp.traces.endpoint.is_some());
}

#[test]
fn variables_are_told_by_name() {
    let variables: Vec<String> = variables().collect();
    assert!(variables.contains(&"OBSERVER_KUBERNETES_NODE".to_owned()));
    assert_eq!(variables.len(), settings::ALL.len());
}

#[test]
fn the_reference_file_names_every_variable() {
    for setting in settings::ALL {
        let name = setting.variable();
        assert!(
            REFERENCE.contains(&name),
            "{name} is not in deploy/observer.yaml"
        );
    }
}

#[test]
fn a_whole_file() {
    let config = parsed(
        "listen: \"[::1]:80\"\n\
         cgroup: /sys/fs/cgroup/system.slice\n\
         capture: {ring_bytes: 1MiB, max_connections: 10}\n\
         ignore:\n  ports: [22, 9920, 22]\n  cgroups: [/a/*]\n  services: [sshd]\n  \
         namespaces: [kube-*]\n  workloads: [shop/Job/*]\n  pod_labels: [app=x*]\n\
         only: {namespaces: [shop], workloads: [], pod_labels: [tier]}\n\
         services:\n\
         - match: {executable: /usr/bin/python3*, arguments: '*shop.py*', port: 8080}\n  \
           name: shop\n  namespace: store\n\
         routes: {patterns: ['/users/{id}']}\n\
         metrics: {series_budget: 5, idle_expiry: 1m, pods: true, histograms: classic, \
         service_graph: false, span_metrics: true}\n\
         flows: {history: 0, sampling: 0.25}\n\
         dns: {timeout: 2s, names: 0}\n\
         udp: {max_flows: 200, idle: 1m}\n\
         kubernetes:\n  enabled: on\n  node: n1\n  cluster: eu\n  kubeconfig: /k\n  \
         context: c\n  hub: http://hub:9921\n  hub_ca: /ca\n  hub_token: /token\n  \
         labels: [app.kubernetes.io/*]\n  annotations: [team]\n  hold: 1s\n\
         networks:\n- {name: office, ranges: [192.0.2.0/24, '2001:db8::/32']}\n\
         mesh:\n  enabled: off\n  istio: false\n  linkerd: false\n  gateway_api: false\n  \
         network_policy: false\n  istio_namespace: mesh\n  istio_revisions: true\n  hops: all\n  minimum: 5\n  settle: 0s\n  \
         window: 12h\n  readiness_window: 2d\n  unused_after: 3h\n  edges: 64\n  series: {istio: gaps, linkerd: true}\n  events: true\n\
         hub:\n  listen: '[::]:1'\n  tls: {certificate: /c, key: /k}\n  authenticate: false\n  \
         agent_account: observer/agent\n  max_agents: 7\n\
         traces:\n  sampler: ratio\n  ratio: 0.5\n  keep_failed: false\n  slower_than: never\n  \
         rules:\n  - {service: web, ratio: 0.25, slower_than: 50ms}\n  \
         - {namespace: 'kube-*', sampler: never}\n  \
         peers: all\n  dns: false\n  causes: false\n  wait: 3s\n\
         otlp: {endpoint: 'http://collector:4317', batch: {items: 7}}\n\
         access_log: {to: file, path: /var/log/access, max_bytes: 2MiB, only: slow, sampling: 0.5, \
         slow: 250ms, per_second: 7}\n\
         log: {level: debug}\n",
    );
    let sampling = Sampling {
        sampler: Sampler::Ratio,
        ratio: 0.5,
        keep_failed: false,
        slower_than: None,
    };
    assert_eq!(
        config,
        Config {
            listen: Listen {
                address: "[::1]:80".parse().unwrap()
            },
            cgroup: Some("/sys/fs/cgroup/system.slice".into()),
            capture: Capture {
                ring_bytes: 1 << 20,
                max_connections: 10
            },
            ignore: Ignore {
                ports: vec![22, 9920],
                cgroups: vec![Glob::new("/a/*")],
                services: vec![Glob::new("sshd")],
                pods: Pods {
                    namespaces: vec![Glob::new("kube-*")],
                    workloads: vec![Glob::new("shop/Job/*")],
                    labels: vec![LabelPattern {
                        name: "app".to_owned(),
                        value: Glob::new("x*")
                    }],
                },
            },
            only: Pods {
                namespaces: vec![Glob::new("shop")],
                workloads: Vec::new(),
                labels: vec![LabelPattern {
                    name: "tier".to_owned(),
                    value: Glob::new("*")
                }],
            },
            services: vec![ServiceRule {
                matches: ServiceMatch {
                    executable: Some(Glob::new("/usr/bin/python3*")),
                    arguments: Some(Glob::new("*shop.py*")),
                    port: Some(8080),
                    ..ServiceMatch::default()
                },
                name: "shop".to_owned(),
                namespace: "store".to_owned(),
            }],
            routes: Routes {
                patterns: vec!["/users/{id}".to_owned()]
            },
            metrics: Metrics {
                series_budget: 5,
                idle_expiry: Duration::from_secs(60),
                pods: true,
                histograms: Histograms::Classic,
                service_graph: false,
                span_metrics: true,
            },
            flows: Flows {
                history: 0,
                sampling: 0.25
            },
            dns: Dns {
                timeout: Duration::from_secs(2),
                names: 0
            },
            udp: Udp {
                max_flows: 200,
                idle: Duration::from_secs(60)
            },
            kubernetes: Kubernetes {
                enabled: Switch::On,
                node: "n1".to_owned(),
                cluster: "eu".to_owned(),
                kubeconfig: Some("/k".into()),
                context: "c".to_owned(),
                hub: "http://hub:9921".to_owned(),
                hub_ca: Some("/ca".into()),
                hub_token: Some("/token".into()),
                labels: vec![Glob::new("app.kubernetes.io/*")],
                annotations: vec![Glob::new("team")],
                hold: Duration::from_secs(1),
            },
            networks: vec![NamedNetwork {
                name: "office".to_owned(),
                ranges: vec![
                    ("192.0.2.0".parse().unwrap(), 24),
                    ("2001:db8::".parse().unwrap(), 32)
                ],
            }],
            mesh: Mesh {
                enabled: Switch::Off,
                parts: MeshParts {
                    istio: false,
                    linkerd: false,
                    gateway_api: false,
                    network_policy: false,
                },
                istio_namespace: "mesh".to_owned(),
                istio_revisions: true,
                hops: MeshHops::All,
                minimum: 5,
                settle: Duration::ZERO,
                window: Duration::from_secs(12 * 3600),
                readiness_window: Duration::from_secs(2 * 24 * 3600),
                unused_after: Duration::from_secs(3 * 3600),
                edges: 64,
                series: MeshSeries {
                    istio: IstioSeries::Gaps,
                    linkerd: true,
                },
                events: true,
            },
            hub: Hub {
                listen: "[::]:1".parse().unwrap(),
                tls: HubTls {
                    certificate: Some("/c".into()),
                    key: Some("/k".into()),
                },
                authenticate: false,
                agent_account: Some(Account {
                    namespace: "observer".to_owned(),
                    name: "agent".to_owned(),
                }),
                max_agents: 7,
            },
            traces: Traces {
                sampling: sampling.clone(),
                rules: vec![
                    SamplingRule {
                        service: Some(Glob::new("web")),
                        namespace: None,
                        sampling: Sampling {
                            ratio: 0.25,
                            slower_than: Some(Duration::from_millis(50)),
                            ..sampling.clone()
                        },
                    },
                    SamplingRule {
                        service: None,
                        namespace: Some(Glob::new("kube-*")),
                        sampling: Sampling {
                            sampler: Sampler::Never,
                            ..sampling
                        },
                    },
                ],
                peers: TracedPeers::All,
                dns: false,
                causes: false,
                wait: Duration::from_secs(3),
            },
            otlp: Otlp {
                endpoint: Some(Endpoint {
                    tls: false,
                    host: "collector".into(),
                    port: Some(4317),
                    path: "".into(),
                }),
                batch_items: 7,
                ..Otlp::default()
            },
            access_log: AccessLog {
                to: AccessTo::File,
                path: Some("/var/log/access".into()),
                max_bytes: 2 << 20,
                only: AccessOnly::Slow,
                sampling: 0.5,
                slow: Duration::from_millis(250),
                per_second: 7,
            },
            log: Log {
                level: LogLevel::Debug
            },
        }
    );
}

#[test]
fn file_then_flags_then_environment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("observer.yaml");
    std::fs::write(
        &path,
        "listen: 127.0.0.1:1\nlog: {level: error}\nflows: {sampling: 0.1}\n",
    )
    .unwrap();
    let flags = Flags {
        listen: Some("127.0.0.1:2".parse().unwrap()),
        log_level: Some(LogLevel::Warn),
        ..Flags::default()
    };
    let environment = |name: &str| match name {
        "OBSERVER_LISTEN" => Some("127.0.0.1:3".to_owned()),
        "OBSERVER_CAPTURE_RING_BYTES" => Some("128KiB".to_owned()),
        "OBSERVER_IGNORE_PORTS" => Some("22, 53".to_owned()),
        "OBSERVER_CGROUP" => Some(String::new()),
        _ => None,
    };
    let config = Config::load(Some(&path), &flags, &environment).unwrap();
    assert_eq!(
        config.listen.address.port(),
        3,
        "the environment is strongest"
    );
    assert_eq!(
        config.log.level,
        LogLevel::Warn,
        "a flag is stronger than the file"
    );
    assert_eq!(
        config.flows.sampling, 0.1,
        "the file is stronger than the default"
    );
    assert_eq!(config.capture.ring_bytes, 128 << 10);
    assert_eq!(config.ignore.ports, [22, 53]);
    assert_eq!(config.cgroup, None, "an empty variable is not set");
}

#[test]
fn errors_name_key_and_place() {
    let cases = [
        ("listen: nowhere\n", "observer.yaml:1:9: listen: "),
        (
            "capture:\n  ring_bytes: 1000\n",
            "observer.yaml:2:15: capture.ring_bytes: ",
        ),
        (
            "udp:\n  max_flows: 127\n",
            "observer.yaml:2:14: udp.max_flows: ",
        ),
        ("udp: {idle: 2s}\n", "observer.yaml:1:13: udp.idle: "),
        (
            "traces: {sampler: some}\n",
            "observer.yaml:1:19: traces.sampler: ",
        ),
        ("traces: {ratio: 2}\n", "observer.yaml:1:17: traces.ratio: "),
        (
            "traces: {rules: [{ratio: 1}]}\n",
            "observer.yaml:1:18: traces.rules: ",
        ),
        (
            "traces: {rules: [{service: a, ratio: x}]}\n",
            "observer.yaml:1:38: traces.rules.ratio: ",
        ),
        ("dns: {timeout: 0s}\n", "observer.yaml:1:16: dns.timeout: "),
        (
            "capture:\n  max_connections: 0\n",
            "observer.yaml:2:20: capture.max_connections: ",
        ),
        (
            "ignore:\n  ports: [80, 70000]\n",
            "observer.yaml:2:15: ignore.ports: \"70000\"",
        ),
        (
            "flows:\n  sampling: 2\n",
            "observer.yaml:2:13: flows.sampling: ",
        ),
        (
            "flows:\n  sampling: .nan\n",
            "observer.yaml:2:13: flows.sampling: ",
        ),
        (
            "metrics:\n  idle_expiry: 15\n",
            "observer.yaml:2:16: metrics.idle_expiry: ",
        ),
        ("hub: {listen: 9921}\n", "observer.yaml:1:15: hub.listen: "),
        (
            "hub: {authenticate: maybe}\n",
            "observer.yaml:1:21: hub.authenticate: ",
        ),
        (
            "hub: {agent_account: agent}\n",
            "observer.yaml:1:22: hub.agent_account: \"agent\" is no service account",
        ),
        (
            "hub: {agent_account: a/b/c}\n",
            "observer.yaml:1:22: hub.agent_account: ",
        ),
        (
            "access_log: {to: syslog}\n",
            "observer.yaml:1:18: access_log.to: \"syslog\" is none of none, stdout, file and otlp",
        ),
        (
            "access_log: {path: access.log}\n",
            "observer.yaml:1:20: access_log.path: \"access.log\" is not an absolute path",
        ),
        (
            "access_log: {max_bytes: 1KiB}\n",
            "observer.yaml:1:25: access_log.max_bytes: ",
        ),
        (
            "access_log: {only: good}\n",
            "observer.yaml:1:20: access_log.only: ",
        ),
        (
            "access_log: {sampling: 2}\n",
            "observer.yaml:1:24: access_log.sampling: ",
        ),
        (
            "access_log: {slow: soon}\n",
            "observer.yaml:1:20: access_log.slow: ",
        ),
        (
            "access_log: {per_second: 0}\n",
            "observer.yaml:1:26: access_log.per_second: ",
        ),
        ("mesh: {enabled: 1}\n", "observer.yaml:1:17: mesh.enabled: "),
        ("mesh: {istio: x}\n", "observer.yaml:1:15: mesh.istio: "),
        (
            "mesh: {istio_namespace: A}\n",
            "observer.yaml:1:25: mesh.istio_namespace: ",
        ),
        ("mesh: {hops: one}\n", "observer.yaml:1:14: mesh.hops: "),
        ("mesh: {minimum: 0}\n", "observer.yaml:1:17: mesh.minimum: "),
        ("mesh: {settle: 2h}\n", "observer.yaml:1:16: mesh.settle: "),
        ("mesh: {window: 59m}\n", "observer.yaml:1:16: mesh.window: "),
        (
            "mesh: {readiness_window: 59m}\n",
            "observer.yaml:1:26: mesh.readiness_window: ",
        ),
        (
            "mesh: {unused_after: 91d}\n",
            "observer.yaml:1:22: mesh.unused_after: ",
        ),
        ("mesh: {edges: 63}\n", "observer.yaml:1:15: mesh.edges: "),
        (
            "mesh: {series: {istio: some}}\n",
            "observer.yaml:1:24: mesh.series.istio: ",
        ),
        (
            "hub: {max_agents: 0}\n",
            "observer.yaml:1:19: hub.max_agents: ",
        ),
        (
            "hub: {tls: {key: tls.key}}\n",
            "observer.yaml:1:18: hub.tls.key: ",
        ),
        ("log:\n  level: loud\n", "observer.yaml:2:10: log.level: "),
        (
            "routes:\n  patterns:\n  - users\n",
            "observer.yaml:3:5: routes.patterns: ",
        ),
        (
            "routes:\n  patterns:\n  - /a{b}\n",
            "observer.yaml:3:5: routes.patterns: ",
        ),
        (
            "routes:\n  patterns: [/a/**, /**, /a/**/b]\n",
            "observer.yaml:2:26: routes.patterns: \"/a/**/b\"",
        ),
        (
            "services:\n- match: {}\n  name: a\n",
            "observer.yaml:2:3: services.match: ",
        ),
        (
            "services:\n- match: {port: x}\n  name: a\n",
            "observer.yaml:2:17: services.match.port: ",
        ),
        (
            "services:\n- match: {port: 1}\n  name: ''\n",
            "observer.yaml:3:9: services.name: ",
        ),
    ];
    for (text, expected) in cases {
        let message = refused(text);
        assert!(message.starts_with(expected), "{text:?} gave {message:?}");
    }
}

#[test]
fn unknown_keys_and_wrong_shapes_are_errors_with_a_place() {
    let cases = [
        ("listn: 127.0.0.1:1\n", "observer.yaml:1:1", "listn"),
        (
            "capture:\n  ring_byte: 1\n",
            "observer.yaml:2:3",
            "ring_byte",
        ),
        ("ignore:\n  ports: 80\n", "observer.yaml:2:10", "sequence"),
        (
            "services:\n- match: {port: 1}\n",
            "observer.yaml:2:3",
            "name",
        ),
        ("listen: a\nlisten: b\n", "observer.yaml:2:1", "listen"),
        ("listen: [\n", "observer.yaml:", ""),
    ];
    for (text, place, word) in cases {
        let message = refused(text);
        assert!(message.starts_with(place), "{text:?} gave {message:?}");
        assert!(message.contains(word), "{text:?} gave {message:?}");
        assert_eq!(message.lines().count(), 1, "{message:?}");
    }
}

#[test]
fn flags_and_variables_are_named_in_errors() {
    let environment = |name: &str| (name == "OBSERVER_FLOWS_SAMPLING").then(|| "often".to_owned());
    let error = Config::load(None, &Flags::default(), &environment)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("environment variable OBSERVER_FLOWS_SAMPLING: flows.sampling: "));

    let flags = Flags {
        sampling: Some(1.5),
        ..Flags::default()
    };
    let error = Config::load(None, &flags, &nothing)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("flag --sampling: flows.sampling: "),
        "{error}"
    );

    let flags = Flags {
        ignore_ports: (1..=33).collect(),
        ..Flags::default()
    };
    let error = Config::load(None, &flags, &nothing)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("flag --ignore-port: ignore.ports: 33 ports"),
        "{error}"
    );

    let flags = Flags {
        cgroup: Some("relative".into()),
        ..Flags::default()
    };
    let error = Config::load(None, &flags, &nothing)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("flag --cgroup: cgroup: "), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("no-such-file.yaml");
    let error = Config::load(Some(path), &Flags::default(), &nothing).unwrap_err();
    assert_eq!(error.place, "no-such-file.yaml");
}

#[test]
fn an_access_log_in_a_file_has_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "access_log: {to: file}\n").unwrap();
    let error = Config::load(Some(file.path()), &Flags::default(), &nothing).unwrap_err();
    assert_eq!(error.key, "access_log.path");
}

#[test]
fn an_access_log_stays_where_it_is_and_chooses_anew() {
    let old = Config::default();
    let new = parsed("access_log: {to: stdout, only: failed, per_second: 5}\n");
    assert_eq!(old.reloadable_difference(&new), ["access_log"]);
    let access_log = old.reloaded(new).access_log;
    assert_eq!(access_log.to, AccessTo::None);
    assert_eq!(access_log.only, AccessOnly::Failed);
    assert_eq!(access_log.per_second, 5);
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let old = Config::default();
    let reloadable = parsed(
        "ignore: {ports: [22]}\nservices: [{match: {port: 1}, name: a}]\n\
         routes: {patterns: [/a]}\nmetrics: {series_budget: 1}\nflows: {sampling: 0.5}\n\
         dns: {timeout: 1s, names: 1}\nudp: {idle: 3s}\n\
         traces: {ratio: 1, rules: [{service: a, sampler: always}], peers: none}\n\
         mesh: {minimum: 1, settle: 0s, window: 1h, readiness_window: 1h, unused_after: 1m, edges: 64}\n\
         otlp: {endpoint: 'http://c'}\n",
    );
    assert_eq!(old.reloadable_difference(&reloadable), [""; 0]);
    assert_eq!(old.reloaded(reloadable.clone()), reloadable);

    let fixed = parsed(
        "listen: 127.0.0.1:1\ncgroup: /a\ncapture: {ring_bytes: 64KiB, max_connections: 1}\n\
         flows: {history: 1, sampling: 0.5}\nudp: {max_flows: 128}\ntraces: {causes: false}\n\
         mesh: {hops: all}\nlog: {level: debug}\n",
    );
    assert_eq!(
        old.reloadable_difference(&fixed),
        [
            "listen",
            "cgroup",
            "capture.ring_bytes",
            "capture.max_connections",
            "flows.history",
            "udp.max_flows",
            "mesh",
            "traces.causes",
            "log.level"
        ]
    );
    let expected = Config {
        flows: Flows {
            sampling: 0.5,
            ..old.flows
        },
        ..old.clone()
    };
    assert_eq!(old.reloaded(fixed), expected);
}
