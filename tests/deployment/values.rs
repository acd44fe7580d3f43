//! Values: the schema takes what is right and refuses what is wrong, and they say what the daemon
//! says.

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent,
    chart::{self, Rendering},
    process,
    requirement::{Need, lacking},
};
use serde_json::Value;

use super::objects::{MATRIX, at, each, the, with};

#[test]
fn helm_finds_nothing_wrong() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (what, set) in MATRIX {
        let mut lint = chart::command()?;
        lint.args(["lint", "--strict", "--kube-version", "1.33.0"])
            .arg(chart::folder());
        for value in *set {
            lint.args(["--set", value]);
        }
        process::check(&mut lint).context(*what)?;
    }
    Ok(())
}

#[test]
fn wrong_values_are_refused_by_name() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    for (value, named) in [
        ("agnet.enabled=true", "agnet"),
        ("image.pulPolicy=Always", "pulPolicy"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=sha256:abc", "digest"),
        ("image.tag=a b", "tag"),
        ("agent.privileged=true", "privileged"),
        ("agent.capabilities.sysAdmin=true", "sysAdmin"),
        ("agent.http.address=everywhere", "address"),
        ("agent.http.port=0", "port"),
        ("agent.http.port=65536", "port"),
        ("agent.seccomp.type=None", "seccomp"),
        (
            "agent.seccomp.localhostProfile=/etc/passwd",
            "localhostProfile",
        ),
        ("agent.podMonitor.interval=often", "interval"),
        ("agent.extraEnv[0].value=nameless", "name"),
        ("agent.nodeSelector.gpu=true", "gpu"),
        ("hub.replicas=0", "replicas"),
        ("hub.replicas=many", "replicas"),
        ("hub.tls.mode=off", "mode"),
        ("hub.resources.limit.memory=1Gi", "limit"),
        ("fullnameOverride=Observer", "fullnameOverride"),
        ("mesh.enabled=auto", "mesh"),
        ("mesh.isto=true", "isto"),
        ("mesh.istioNamespace=Istio", "istioNamespace"),
        ("dashboards.enable=true", "enable"),
        ("prometheusRule.enabled=often", "prometheusRule"),
        ("prometheusRule.runbooks=a b", "runbooks"),
        ("namespace.name=a_b", "namespace"),
        // What the schema cannot say, the templates do.
        ("hub.tls.mode=secret", "hub.tls.secretName"),
        ("hub.tls.mode=certManager", "hub.tls.issuerRef"),
    ] {
        let error = match Rendering::of(&[value]).render() {
            Ok(_) => anyhow::bail!("{value} is taken"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(error.contains(named), "{value}: {error}");
    }
    let both = [
        "agent.podMonitor.enabled=true",
        "agent.http.address=loopback",
    ];
    let error = Rendering::of(&both).render().unwrap_err().to_string();
    ensure!(error.contains("agent.http.address"), "{error}");
    Ok(())
}

#[test]
fn every_value_has_its_place_in_the_schema() -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(chart::folder().join(name));
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?)?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let mut missing = Vec::new();
    compare(&schema, &schema, &values, "", &mut missing);
    ensure!(missing.is_empty(), "{missing:?}");
    Ok(())
}

/// Compares the keys of `values` with those of the schema `part` of `schema`, in both directions.
fn compare(schema: &Value, part: &Value, values: &Value, path: &str, missing: &mut Vec<String>) {
    let part = match part["$ref"].as_str() {
        Some(place) => at(schema, place.trim_start_matches('#')),
        None => part,
    };
    let (Some(known), Some(values)) = (part["properties"].as_object(), values.as_object()) else {
        return;
    };
    for (key, value) in values {
        match known.get(key) {
            Some(part) => compare(schema, part, value, &format!("{path}.{key}"), missing),
            None => missing.push(format!("{path}.{key} is not in the schema")),
        }
    }
    // Helm's own, and what only some have.
    let optional = ["global", "issuerRef", "resources"];
    if !optional.iter().any(|key| path.ends_with(key)) {
        let undocumented = known
            .keys()
            .filter(|key| !values.contains_key(*key) && !optional.contains(&key.as_str()));
        missing.extend(undocumented.map(|key| format!("{path}.{key} is not in values.yaml")));
    }
}

#[test]
fn the_chart_is_of_the_version_of_the_daemon() -> Result<()> {
    let chart: Value = serde_saphyr::from_str(&std::fs::read_to_string(
        chart::folder().join("Chart.yaml"),
    )?)?;
    for key in ["version", "appVersion"] {
        ensure!(chart[key] == env!("CARGO_PKG_VERSION"), "{key}");
    }
    let dockerfile = std::fs::read_to_string(chart::workspace().join("deploy/Dockerfile"))?;
    ensure!(dockerfile.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))));
    Ok(())
}

#[test]
fn ports_are_those_of_the_daemon() -> Result<()> {
    let read = |path: &str| -> Result<Value> {
        Ok(serde_saphyr::from_str(&std::fs::read_to_string(
            chart::workspace().join(path),
        )?)?)
    };
    let values = read("deploy/helm/observer/values.yaml")?;
    let settings = read("deploy/observer.yaml")?;
    let port = |key: &str| {
        let address = at(&settings, key).as_str()?;
        address.rsplit_once(':')?.1.parse::<u64>().ok()
    };
    let listen = port("/listen").context("deploy/observer.yaml has no `listen`")?;
    ensure!(*at(&values, "/agent/http/port") == listen);
    let listen = port("/hub/listen").context("deploy/observer.yaml has no `hub.listen`")?;
    ensure!(*at(&values, "/hub/port") == listen);
    Ok(())
}

#[test]
fn the_daemon_takes_the_configuration_of_each_role() -> Result<()> {
    if lacking(&[Need::Helm, Need::Observer])? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("observer.yaml");
    let mut checked = 0;
    for (what, set) in MATRIX {
        let objects = with(set)?;
        let maps = objects.iter().filter(|object| object.kind() == "ConfigMap");
        for config in maps.filter(|map| !map.name().ends_with("-dashboard")) {
            checked += 1;
            let text = at(&config.0, "/data/observer.yaml")
                .as_str()
                .context("no configuration")?;
            std::fs::write(&path, text)?;
            let mut check = std::process::Command::new(agent::binary()?);
            process::check(check.args(["config", "check"]).arg(&path))
                .with_context(|| format!("{what}, {}:\n{text}", config.name()))?;
        }
    }
    // One of the renderings is without a hub.
    ensure!(checked == 2 * MATRIX.len() - 1, "{checked}");
    Ok(())
}

#[test]
fn variables_of_the_pods_are_those_of_the_program() -> Result<()> {
    if lacking(&[Need::Helm, Need::Observer])? {
        return Ok(());
    }
    let mut known: Vec<String> = observer::config::variables().collect();
    // Those of the command line, as its help names them.
    for command in ["agent", "hub", "flows", "doctor"] {
        let help = agent::run(&[command, "--help"])?;
        let help = String::from_utf8(help.stdout)?;
        let named = help.split("[env: ").skip(1);
        known.extend(named.filter_map(|rest| rest.split(['=', ']']).next().map(str::to_owned)));
    }
    let mut used = 0;
    for (what, set) in MATRIX {
        for object in with(set)? {
            let Some(pod) = object.pod() else { continue };
            for variable in each(pod, "/spec/containers/0/env") {
                let name = at(variable, "/name").as_str().context("a name")?;
                let refers = ["HOST_ADDRESS"].contains(&name);
                ensure!(
                    refers || known.iter().any(|known| known == name),
                    "{what}: {}: {name} is nothing that the program reads",
                    object.name()
                );
                used += 1;
            }
        }
    }
    ensure!(used > 0, "no variables");
    Ok(())
}

#[test]
fn settings_of_the_values_are_stronger_than_those_of_the_chart() -> Result<()> {
    if lacking(&[Need::Helm])? {
        return Ok(());
    }
    let objects = with(&[
        "cluster=production",
        "agent.config.kubernetes.hold=1s",
        "agent.config.kubernetes.cluster=other",
        "hub.config.log.level=debug",
    ])?;
    let config = |role: &str| -> Result<Value> {
        let map = the(&objects, "ConfigMap", role)?;
        let text = at(&map.0, "/data/observer.yaml").as_str().context("text")?;
        Ok(serde_saphyr::from_str(text)?)
    };
    let agent = config("-agent")?;
    ensure!(*at(&agent, "/kubernetes/cluster") == "other");
    ensure!(*at(&agent, "/kubernetes/hold") == "1s");
    ensure!(*at(&agent, "/kubernetes/hub") == "https://observer-hub.observer.svc:9921");
    let hub = config("-hub")?;
    ensure!(*at(&hub, "/kubernetes/cluster") == "production");
    ensure!(*at(&hub, "/log/level") == "debug");
    ensure!(*at(&hub, "/hub/agent_account") == "observer/observer-agent");
    // Of the mesh they say what is not so anyway, and both the same.
    ensure!(at(&agent, "/mesh").is_null() && at(&hub, "/mesh").is_null());
    let other = with(&[
        "mesh.istio=false",
        "mesh.events=true",
        "agent.config.mesh.minimum=5",
    ])?;
    for role in ["-agent", "-hub"] {
        let map = the(&other, "ConfigMap", role)?;
        let text = at(&map.0, "/data/observer.yaml").as_str().context("text")?;
        let config: Value = serde_saphyr::from_str(text)?;
        ensure!(*at(&config, "/mesh/istio") == false && *at(&config, "/mesh/events") == true);
        ensure!(at(&config, "/mesh/minimum").is_null() == (role == "-hub"));
    }
    // Other settings restart the pods: they read them when they start.
    let checksum = |objects: &[_]| -> Result<Value> {
        let pod = the(objects, "DaemonSet", "-agent")?.pod().context("pod")?;
        Ok(at(pod, "/metadata/annotations/checksum~1config").clone())
    };
    ensure!(checksum(&objects)? != checksum(&with(&[])?)?);
    Ok(())
}
