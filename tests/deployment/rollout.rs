//! The chart on a node of a real cluster: hub and agent as containers of their pods, with the
//! accounts, tokens, certificates and addresses that the cluster gives them.

use std::fs;

use anyhow::{Context, Result, ensure};
use observer_tests::{
    cgroup::Cgroup,
    chart::Rendering,
    client,
    control_plane::ControlPlane,
    flow::Flow,
    metrics::Metrics,
    node::{Layout, Quality},
    place::Place,
    process,
    requirement::{Need, lacking},
    server::Server,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

use super::{
    container::{Container, Node, default_profile, no_default_profile, own_profile},
    objects::{Object, at, each, of, the},
    workloads::{self, CALLEE, CALLER, NODE},
};

const NEEDS: &[Need] = &[
    Need::Helm,
    Need::ControlPlane,
    Need::Observer,
    Need::Tool("kubectl"),
    Need::Tool("openssl"),
    Need::Tool("crun"),
    Need::Tool("curl"),
    Need::Tool("ip"),
    Need::Tool("nft"),
    Need::Tool("nginx"),
];

/// A cluster of one node with the chart installed, and two pods that call each other.
struct Rollout {
    // In the order of their ends.
    server: Server,
    caller: Cgroup,
    _callee: Cgroup,
    cgroup: Cgroup,
    cluster: ControlPlane,
    objects: Vec<Object>,
    tokens: [String; 3],
}

/// What kube-proxy does for the Services `kubernetes`, `observer-hub` and `shop`.
const SERVICES: &str = "\
    table ip services { chain output { type nat hook output priority -100; \
      ip daddr 10.96.0.1 tcp dport 443 dnat to 127.0.0.1:6443; \
      ip daddr 10.96.0.20 tcp dport 9921 dnat to 10.79.0.1:9921; \
      ip daddr 10.96.0.10 tcp dport 80 dnat to 10.79.0.11:8080; }; }";

/// What the cluster's DNS says.
const HOSTS: &str = "127.0.0.1 localhost\n10.96.0.20 observer-hub.observer.svc\n";

/// Where the agent and the hub answer.
const AGENT: &str = "http://10.79.0.1:9920";
const HUB: &str = "https://observer-hub.observer.svc:9921";

// === impl Rollout ===

impl Rollout {
    fn start() -> Result<Self> {
        let cluster = ControlPlane::start()?;
        let rendering = Rendering {
            kubernetes: "1.35.0",
            ..Rendering::of(&["tests.enabled=false", "cluster=production"])
        };
        let objects = of(&rendering.render()?)?;
        cluster.kubectl(&["create", "namespace", "observer"])?;
        let all: Vec<Value> = objects.iter().map(|object| object.0.clone()).collect();
        cluster.with_objects(&["create"], &all)?;
        let token = |account: &str, audience: &str| -> Result<String> {
            let audience = format!("--audience={audience}");
            let account = format!("observer-{account}");
            let mut arguments = vec!["create", "token", &account, "--namespace=observer"];
            if audience != "--audience=" {
                arguments.push(&audience);
            }
            Ok(cluster.kubectl(&arguments)?.trim().to_owned())
        };
        let tokens = [
            token("hub", "")?,
            token("agent", "")?,
            token("agent", "observer-hub")?,
        ];

        let network = cluster.namespace();
        network.run(
            "ip",
            &[
                "link", "add", "uplink", "type", "veth", "peer", "name", "outside",
            ],
        )?;
        network.run("ip", &["link", "set", "outside", "up"])?;
        network.bring_up(
            "uplink",
            &["10.79.0.1/24", "10.79.0.10/32", "10.79.0.11/32"],
        )?;
        network.run("ip", &["route", "add", "default", "dev", "uplink"])?;
        network.rules(SERVICES)?;

        let (caller, callee) = workloads::create(&cluster)?;
        let cgroup = Cgroup::create("rollout")?;
        let container = |uid: &str, id: &str| {
            let (layout, quality) = (Layout::Containerd, Quality::BestEffort);
            cgroup.child(&format!(
                "{}/{}",
                layout.pod(quality, uid),
                layout.container(id)
            ))
        };
        let caller = container(&caller, CALLER)?;
        let callee = container(&callee, CALLEE)?;
        let place = Place::inside(&callee, network);
        let server = Server::nginx_at(&place, "10.79.0.11:8080".parse()?, "", "")?;
        Ok(Self {
            server,
            caller,
            _callee: callee,
            cgroup,
            cluster,
            objects,
            tokens,
        })
    }

    /// Starts a container of `kind` whose account has these tokens.
    fn container(
        &self,
        (kind, name): (&str, &str),
        tokens: &[(&str, &str)],
        profile: Option<&Value>,
    ) -> Result<Container> {
        let pod = the(&self.objects, kind, name)?.pod().context("pod")?;
        let observed = format!("/sys/fs/cgroup{}", self.cgroup.relative()?);
        let node = Node {
            objects: &self.objects,
            fields: &[("spec.nodeName", NODE), ("status.hostIP", "10.79.0.1")],
            environment: &[
                ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
                ("KUBERNETES_SERVICE_PORT", "443"),
                ("OBSERVER_CGROUP", &observed),
            ],
            tokens,
            authority: Some(&self.cluster.authority()),
            hosts: HOSTS,
            network: Some(self.cluster.namespace()),
            profile,
            without: None,
        };
        Container::start(&node, pod)
    }

    fn hub(&self) -> Result<Container> {
        let tokens = [("", &*self.tokens[0])];
        let profile = (!no_default_profile()).then(default_profile).transpose()?;
        self.container(("Deployment", "-hub"), &tokens, profile.as_ref())
    }

    fn agent(&self) -> Result<Container> {
        let tokens = [("", &*self.tokens[1]), ("observer-hub", &*self.tokens[2])];
        self.container(("DaemonSet", "-agent"), &tokens, Some(&own_profile()?))
    }

    /// Status and content of what is at `url`, asked from the node.
    fn get(&self, url: &str, options: &[&str]) -> Result<(u16, String)> {
        let authority = tempfile::NamedTempFile::new()?;
        let secret = the(&self.objects, "Secret", "-tls")?;
        let text = at(&secret.0, "/data/ca.crt").as_str().context("ca.crt")?;
        fs::write(authority.path(), super::container::decoded(text)?)?;
        let mut curl = self.cluster.namespace().command("curl")?;
        curl.args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "3",
        ])
        .args(["--resolve", "observer-hub.observer.svc:9921:10.96.0.20"])
        .args(["--write-out", "\n%{http_code}", "--cacert"])
        .arg(authority.path())
        .args(options)
        .arg(url);
        let output = process::run(&mut curl)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').context("curl wrote nothing")?;
        Ok((code.parse()?, body.to_owned()))
    }

    /// Waits until `container` answers 200 at `url`.
    fn ready(&self, container: &mut Container, url: &str) -> Result<()> {
        wait::until(url, PATIENCE, || {
            ensure!(container.runs()?, "it ended");
            let ready = self.get(&format!("{url}/readyz"), &[]);
            Ok(ready.is_ok_and(|(code, _)| code == 200).then_some(()))
        })
        .with_context(|| container.log())
    }

    /// Replaces the rules of the cluster role whose name ends so by `rules` without the one at
    /// `missing`, and waits until that holds.
    fn rules(&self, account: &str, rules: &[Value], missing: Option<usize>) -> Result<()> {
        let mut changed = the(&self.objects, "ClusterRole", account)?.0.clone();
        let there = rules.iter().enumerate();
        changed["rules"] = there
            .filter(|(at, _)| Some(*at) != missing)
            .map(|(_, rule)| rule.clone())
            .collect();
        self.cluster.with_objects(&["replace"], &[changed])?;
        let user = format!("--as=system:serviceaccount:observer:observer{account}");
        for (at, rule) in rules.iter().enumerate() {
            // The one before is there again, and this one is not; the others did not change.
            let before = missing.unwrap_or(rules.len());
            if Some(at) != missing && at + 1 != before {
                continue;
            }
            let text = |list: &str| rule[list][0].as_str().context("a rule");
            let name = format!("{}.{}", text("resources")?, text("apiGroups")?);
            let name = name.trim_end_matches('.');
            let asked = [
                "auth",
                "can-i",
                text("verbs")?,
                name,
                "--all-namespaces",
                &user,
            ];
            wait::until("the rules to hold", PATIENCE, || {
                // It fails to say no.
                let allowed = self.cluster.kubectl(&asked).is_ok();
                Ok((allowed == (Some(at) != missing)).then_some(()))
            })?;
        }
        Ok(())
    }

    /// The rules of a role, one for each resource.
    fn single_rules(&self, account: &str) -> Result<Vec<Value>> {
        let role = the(&self.objects, "ClusterRole", account)?;
        let mut single = Vec::new();
        for rule in each(&role.0, "/rules") {
            for resource in each(rule, "/resources") {
                let mut one = rule.clone();
                one["resources"] = json!([resource]);
                single.push(one);
            }
        }
        Ok(single)
    }

    /// A call of the caller's pod to the Service, as the agent tells it at that end.
    fn call(&self, agent: &Container, path: &str) -> Result<Flow> {
        let place = Place::inside(&self.caller, self.cluster.namespace());
        let url = format!("http://10.96.0.10{path}");
        let fetched = client::curl(&place, &["--interface", "10.79.0.10", &url])?;
        ensure!(fetched.status == 200, "{fetched:?}");
        wait::until("the call", PATIENCE, || {
            let flows = agent.exec(&["flows", "--last", "100", "--output", "json"])?;
            let mut flows = Flow::parse_lines(&flows)?.into_iter();
            Ok(flows.find(|flow| flow.is_call_at("client") && flow.text("path") == path))
        })
        .with_context(|| agent.log())
    }
}

#[test]
fn the_chart_names_pods_and_services_with_no_more_than_it_asks_for() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let rollout = Rollout::start()?;
    let mut hub = rollout.hub()?;
    rollout.ready(&mut hub, HUB)?;
    let mut agent = rollout.agent()?;
    rollout.ready(&mut agent, AGENT)?;
    wait::until("the agent to know the cluster", PATIENCE, || {
        let (_, status) = rollout.get(&format!("{AGENT}/api/v1/status"), &[])?;
        let status: Value = serde_json::from_str(&status)?;
        let synced = |source: &str| {
            let kinds = each(&status, "/kubernetes").filter(|kind| kind["source"] == source);
            kinds.map(|kind| kind["synced"] == true).collect::<Vec<_>>()
        };
        let all = [synced("api"), synced("hub")];
        let known = all
            .iter()
            .all(|one| !one.is_empty() && one.iter().all(|is| *is));
        Ok(known.then_some(()))
    })
    .with_context(|| format!("{}\n{}", agent.log(), hub.log()))?;

    // By its own watch the agent knows the caller, by the hub the Service, by the node's table who
    // answered, and by single questions whose pods they are.
    let flow = rollout.call(&agent, "/hello")?;
    for (key, value) in [
        ("k8s_pod", "nightly-1-x"),
        ("k8s_container", "app"),
        ("k8s_workload_kind", "CronJob"),
        ("k8s_workload", "nightly"),
        ("k8s_node", NODE),
        ("dialled_service", "shop"),
        ("dialled_kind", "cluster_ip"),
        ("peer_k8s_pod", "shop-5d8-y"),
        ("peer_k8s_workload_kind", "Deployment"),
        ("peer_k8s_workload", "shop"),
    ] {
        ensure!(flow.text(key) == value, "{key}: {flow:?}");
    }
    for arguments in [&["top", "--once"][..], &["graph"]] {
        ensure!(agent.exec(arguments)?.contains("shop"), "{arguments:?}");
    }
    let report: Value = serde_json::from_str(&agent.exec(&["doctor", "-o", "json"])?)?;
    let check = |name: &str| each(&report, "/checks").find(|check| check["name"] == name);
    for check in each(&report, "/checks") {
        // CAP_PERFMON is given on demand. The network of this node is not that of the machine's first process.
        let told = check["name"] == "conntrack" && fs::read_link("/proc/1/ns/net").is_ok();
        let told = told || check["name"] == "causes";
        let state = if told { "degraded" } else { "ok" };
        ensure!(check["state"] == state, "{check}");
    }
    for (name, found) in [
        ("kubernetes_api", "lets us watch the pods of node-1"),
        ("kubernetes_hub", "tells of the cluster"),
    ] {
        let check = check(name).context(name)?;
        ensure!(
            check["found"]
                .as_str()
                .is_some_and(|text| text.contains(found)),
            "{check}"
        );
    }
    agent.signal("HUP")?;
    rollout.call(&agent, "/64k")?;

    // Whoever shows no token, or another account's, or one for another audience, hears nothing.
    let stream = format!("{HUB}/api/v1/cluster/stream?protocol=1&epoch=0&revision=0");
    for token in [None, Some(&rollout.tokens[0]), Some(&rollout.tokens[1])] {
        let header = token.map(|token| format!("Authorization: Bearer {token}"));
        let options: Vec<&str> = header.iter().flat_map(|text| ["--header", text]).collect();
        let (code, text) = rollout.get(&stream, &options)?;
        ensure!([401, 403].contains(&code), "{code}: {text}");
    }

    // Without API server and hub, what is known stays known, and the agent stays ready.
    hub.stop()?;
    let (code, text) = rollout.get(&format!("{AGENT}/readyz?verbose"), &[])?;
    ensure!(
        code == 200 && text.contains("kubernetes: hub: services known"),
        "{code}: {text}"
    );
    let flow = rollout.call(&agent, "/hello")?;
    ensure!(flow.text("dialled_service") == "shop", "{flow:?}");
    let metrics = Metrics::parse(&rollout.get(&format!("{AGENT}/metrics"), &[])?.1)?;
    ensure!(metrics.losses().is_empty(), "{:?}", metrics.losses());
    rollout.server.stop()?;
    agent.stop()
}

/// What the hub asks for on every cluster.
const ALWAYS: &[&str] = &[
    "pods",
    "nodes",
    "services",
    "endpointslices",
    "replicasets",
    "jobs",
    "tokenreviews",
];

#[test]
fn every_right_of_the_chart_is_missed_loudly() -> Result<()> {
    if lacking(NEEDS)? {
        return Ok(());
    }
    let rollout = Rollout::start()?;
    let rules = rollout.single_rules("-hub")?;
    let resource = |rule: &Value| rule["resources"][0].as_str().map(str::to_owned);
    // The others are of what meshes are told, as far as that is installed.
    for always in ALWAYS {
        let mut has = rules.iter();
        ensure!(
            has.any(|rule| resource(rule).as_deref() == Some(*always)),
            "{always}: {rules:?}"
        );
    }
    for (number, missing) in rules.iter().enumerate() {
        let resource = missing["resources"][0].as_str().context("resource")?;
        if !ALWAYS.contains(&resource) {
            continue;
        }
        rollout.rules("-hub", &rules, Some(number))?;
        let mut hub = rollout.hub()?;
        if resource == "tokenreviews" {
            rollout.ready(&mut hub, HUB)?;
            let stream = format!("{HUB}/api/v1/cluster/stream?protocol=1&epoch=0&revision=0");
            let header = format!("Authorization: Bearer {}", rollout.tokens[2]);
            let (code, text) = rollout.get(&stream, &["--header", &header])?;
            ensure!(code == 503, "{code}: {text}");
        }
        loud(&mut hub, resource)?;
        // What it knows goes to agents only if that is everything that is theirs to know.
        let ready = rollout.get(&format!("{HUB}/readyz"), &[])?;
        let expected = match resource {
            // Their absence costs the names of workloads.
            "replicasets" | "jobs" | "tokenreviews" => 200,
            _ => 503,
        };
        wait::until("readiness", PATIENCE, || {
            let ready = rollout.get(&format!("{HUB}/readyz"), &[])?;
            Ok((ready.0 == expected).then_some(()))
        })
        .with_context(|| format!("{resource}: {ready:?}"))?;
        hub.stop()?;
    }
    rollout.rules("-hub", &rules, None)?;
    let mut hub = rollout.hub()?;
    rollout.ready(&mut hub, HUB)?;
    let rules = rollout.single_rules("-agent")?;
    ensure!(rules.len() == 3, "{rules:?}");
    for (number, missing) in rules.iter().enumerate() {
        rollout.rules("-agent", &rules, Some(number))?;
        let resource = missing["resources"][0].as_str().context("resource")?;
        let mut agent = rollout.agent()?;
        rollout.ready(&mut agent, AGENT)?;
        loud(&mut agent, resource)?;
        let metrics = Metrics::parse(&rollout.get(&format!("{AGENT}/metrics"), &[])?.1)?;
        let labels = [("kind", resource), ("reason", "forbidden")];
        let count = metrics.sum("observer_kubernetes_errors_total", &labels);
        ensure!(count > 0.0, "{resource}: nothing is counted");
        let report: Value = serde_json::from_str(&agent.exec(&["doctor", "-o", "json"])?)?;
        let check = each(&report, "/checks").find(|check| check["name"] == "kubernetes_api");
        let found = check.context("a check")?["found"]
            .as_str()
            .unwrap_or_default();
        ensure!(
            found.contains("does not let us") && found.contains(resource),
            "{found}"
        );
        agent.stop()?;
    }
    hub.stop()
}

/// Waits until the log says that `resource` is forbidden.
fn loud(container: &mut Container, resource: &str) -> Result<()> {
    wait::until("a word in the log", PATIENCE, || {
        ensure!(container.runs()?, "it ended");
        let log = container.log();
        let mut lines = log.lines();
        let said = lines.any(|line| line.contains("forbidden") && line.contains(resource));
        Ok(said.then_some(()))
    })
    .with_context(|| format!("{resource}: {}", container.log()))
}
