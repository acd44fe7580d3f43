//! What a mesh is told comes from the API server to whoever judges by it, directly and through a hub,
//! whatever of it is installed.

#[path = "mesh_policy/world.rs"]
mod world;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use observer::{
    cluster::watch::{Declarations, Scope},
    model::policy::{PolicyKind, PolicyPart},
};
use observer_tests::{
    apiserver::{
        Cluster,
        definitions::{define, define_all, undefine},
        double::Double,
        each, kubeconfig,
        objects::Pod,
        real::Real,
    },
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

use world::{World, account, everything};

/// An object of a kind, in a version of it, that says what `spec` is.
fn object(kind: PolicyKind, version: &str, name: &str, spec: &Value) -> Value {
    let version = match kind.group() {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    let mut object = json!({
        "apiVersion": version, "kind": kind.as_str(),
        "metadata": {"name": name, "labels": {"of": "a-test"},
                     "annotations": {"istio.io/a": "kept", "other": "left"}},
    });
    if kind != PolicyKind::Namespace {
        object["metadata"]["namespace"] = json!("default");
        object["spec"] = spec.clone();
    }
    object
}

/// An object of a kind in its preferred version.
fn preferred(kind: PolicyKind, name: &str) -> Result<Value> {
    let version = kind.versions().first().context("no version")?;
    let spec = match kind {
        PolicyKind::NetworkPolicy => json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        _ => json!({"told": kind.resource()}),
    };
    Ok(object(kind, version, name, &spec))
}

fn mesh_config(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "istio-system"},
        "data": {"mesh": text, "meshNetworks": "networks: {}"},
    })
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"istio-injection": "enabled"}},
    })
}

/// All kinds but those that are told otherwise.
fn kinds() -> impl Iterator<Item = PolicyKind> {
    let others = [PolicyKind::Namespace, PolicyKind::MeshConfig];
    PolicyKind::ALL
        .into_iter()
        .filter(move |kind| !others.contains(kind))
}

#[test]
fn all_that_is_declared_comes_by_watch_and_through_the_hub() -> Result<()> {
    each(|cluster| {
        define_all(cluster)?;
        cluster.create(&namespace("istio-system"))?;
        cluster.create(&mesh_config("istio", "rootNamespace: istio-system"))?;
        cluster.create(&mesh_config("istio-other", "rootNamespace: other"))?;
        for kind in kinds() {
            cluster.create(&preferred(kind, "first")?)?;
        }
        let mut world = World::start(cluster, everything())?;
        for kind in kinds() {
            world.know(kind, &["first"])?;
        }
        // Of ConfigMaps the one that there is a right to.
        world.know(PolicyKind::MeshConfig, &["istio"])?;
        world.both("namespaces", |one| {
            let label = one.policies.context();
            let label = label.namespace_label("istio-system", "istio-injection");
            Ok(label == Some("enabled"))
        })?;
        for one in [&world.watching, &world.following] {
            for object in one.policies.objects() {
                let content: Value = serde_json::from_str(&object.content)?;
                match object.kind {
                    PolicyKind::Namespace => continue,
                    PolicyKind::MeshConfig => {
                        ensure!(content == json!({"mesh": "rootNamespace: istio-system"}));
                        continue;
                    }
                    PolicyKind::NetworkPolicy => {
                        ensure!(
                            content["spec"]["policyTypes"] == json!(["Ingress"]),
                            "{content}"
                        );
                    }
                    kind => ensure!(content == json!({"spec": {"told": kind.resource()}})),
                }
                let kept = [("istio.io/a".into(), "kept".into())];
                ensure!(*object.annotations == kept, "{object:?}");
                ensure!(
                    *object.labels == [("of".into(), "a-test".into())],
                    "{object:?}"
                );
                ensure!(object.created > 1_600_000_000 && !object.version.is_empty());
            }
        }

        // What changes, comes and goes is told too.
        for kind in kinds() {
            cluster.create(&preferred(kind, "second")?)?;
            let first = preferred(kind, "first")?;
            cluster.change(&first, |object| {
                object["metadata"]["labels"]["of"] = json!("another");
            })?;
        }
        for kind in kinds() {
            world.know(kind, &["first", "second"])?;
        }
        world.both("changes", |one| {
            let objects = one.policies.objects();
            let changed =
                objects.filter(|object| *object.labels == [("of".into(), "another".into())]);
            Ok(changed.count() == kinds().count())
        })?;
        for kind in kinds() {
            cluster.delete(&preferred(kind, "first")?)?;
        }
        for kind in kinds() {
            world.know(kind, &["second"])?;
        }

        // Those who look can see which kinds there are, and how many of each.
        let rows = world.status.rows();
        for kind in PolicyKind::ALL {
            let row = rows
                .iter()
                .find(|row| row.resource.as_str() == kind.resource());
            let row = row.with_context(|| format!("no row of {}", kind.resource()))?;
            ensure!(row.synced && row.failing.is_none(), "{row:?}");
        }
        wait::until("the hub's word of all kinds", 4 * PATIENCE, || {
            let names: BTreeSet<&str> = world
                .hub
                .kinds()
                .iter()
                .map(|one| one.kind.as_str())
                .collect();
            Ok(PolicyKind::ALL
                .iter()
                .all(|kind| names.contains(kind.resource()))
                .then_some(()))
        })?;
        Ok(())
    })
}

#[test]
fn pods_and_services_come_with_what_they_are_chosen_by() -> Result<()> {
    each(|cluster| {
        let mut pod = Pod::new("cart-1").running("node-0", &["10.1.0.4"]).build();
        pod["metadata"]["labels"] = json!({"app": "cart", "version": "v1"});
        pod["metadata"]["annotations"] = json!({"linkerd.io/inject": "enabled", "team": "a"});
        cluster.create(&pod)?;
        cluster.create(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "cart", "namespace": "default",
                         "labels": {"istio.io/use-waypoint": "w", "app": "cart"}},
            "spec": {"selector": {"app": "cart"}, "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http"},
                {"name": "raw", "port": 81},
            ]},
        }))?;
        let mut world = World::start(cluster, everything())?;
        world.both("a pod's traits", |one| {
            Ok(one.traits.get("cart-1").is_some_and(|traits| {
                traits.label("version") == Some("v1")
                    && traits.annotation("linkerd.io/inject") == Some("enabled")
                    && traits.annotation("team").is_none()
                    && !traits.containers.is_empty()
            }))
        })?;
        world.both("a Service's facts", |one| {
            let service = one.policies.context().service("default", "cart");
            Ok(service.is_some_and(|service| {
                let ports: Vec<_> = service
                    .ports
                    .iter()
                    .map(|port| (&*port.name, port.port, port.target, &*port.target_name))
                    .collect();
                *service.selector == [("app".into(), "cart".into())]
                    && *service.labels == [("istio.io/use-waypoint".into(), "w".into())]
                    && ports == [("http", 80, 0, "web"), ("raw", 81, 81, "")]
            }))
        })?;
        let service = json!({"apiVersion": "v1", "kind": "Service",
                             "metadata": {"name": "cart", "namespace": "default"}});
        cluster.delete(&service)?;
        world.both("the Service's end", |one| {
            Ok(one.policies.context().service("default", "cart").is_none())
        })
    })
}

#[test]
fn definitions_come_and_go() -> Result<()> {
    each(|cluster| {
        let routes = PolicyKind::HttpRoute;
        let (group, plural) = (routes.group(), routes.plural());
        let mut world = World::start(cluster, everything())?;
        let absent: Vec<PolicyKind> = kinds()
            .filter(|kind| kind.part() != PolicyPart::NetworkPolicy)
            .collect();
        world.miss(&absent)?;
        world.know(PolicyKind::NetworkPolicy, &[])?;
        ensure!(world.store.store().policies(routes).is_none());
        // Nothing is watched that is not there, and nothing of it is told as failing.
        let rows = world.status.rows();
        let mesh = |name: &str| name.contains("istio.io") || name.contains("linkerd.io");
        ensure!(
            !rows.iter().any(|row| mesh(row.resource.as_str())),
            "{rows:?}"
        );
        ensure!(
            rows.iter()
                .all(|row| row.resource.as_str() == "pods" || row.failing.is_none())
        );

        // A version that nobody understands is as good as none.
        define(cluster, group, plural, &["v9"])?;
        let strange = object(routes, "v9", "strange", &json!({}));
        cluster.create(&strange)?;
        let asked = cluster.requests()?.len();
        wait::until("another look", 4 * PATIENCE, || {
            Ok((cluster.requests()?.len() > asked + 6).then_some(()))
        })?;
        world.miss(&[routes])?;
        undefine(cluster, group, plural)?;

        // An older version is taken where there is no newer one.
        define(cluster, group, plural, &["v1beta1"])?;
        cluster.create(&object(routes, "v1beta1", "old", &json!({})))?;
        world.know(routes, &["old"])?;

        // What is gone with its definition is gone, and comes back with it.
        undefine(cluster, group, plural)?;
        world.miss(&[routes])?;
        define(cluster, group, plural, &["v1", "v1beta1"])?;
        cluster.create(&object(routes, "v1", "new", &json!({"a": 1})))?;
        world.know(routes, &["new"])?;
        let others: Vec<PolicyKind> = absent.into_iter().filter(|kind| *kind != routes).collect();
        world.miss(&others)?;
        // The other watches never noticed: nothing was listed again.
        ensure!(world.status.synced());
        Ok(())
    })
}

#[test]
fn what_is_too_long_or_empty_is_there_all_the_same() -> Result<()> {
    each(|cluster| {
        let servers = PolicyKind::LinkerdServer;
        define(cluster, servers.group(), servers.plural(), &["v1beta3"])?;
        let long = json!({"text": "x".repeat(300 << 10)});
        cluster.create(&object(servers, "v1beta3", "long", &long))?;
        let mut empty = object(servers, "v1beta3", "empty", &json!({}));
        empty.as_object_mut().context("an object")?.remove("spec");
        cluster.create(&empty)?;
        let mut world = World::start(cluster, everything())?;
        world.know(servers, &["empty", "long"])?;
        for one in [&world.watching, &world.following] {
            for object in one
                .policies
                .objects()
                .filter(|object| object.kind == servers)
            {
                let expected = if &*object.name == "long" { "" } else { "{}" };
                ensure!(&*object.content == expected, "{}", object.name);
            }
        }
        let losses = world.status.losses();
        let lost = losses.iter().find(|loss| loss.reason == "object_too_large");
        ensure!(lost.is_some_and(|loss| loss.count > 0), "{losses:?}");
        Ok(())
    })
}

#[test]
fn parts_that_are_off_are_not_read() -> Result<()> {
    each(|cluster| {
        define_all(cluster)?;
        for kind in kinds() {
            cluster.create(&preferred(kind, "first")?)?;
        }
        let mut declarations = everything();
        declarations
            .kinds
            .retain(|kind| matches!(kind.part(), PolicyPart::Core | PolicyPart::Linkerd));
        let read = declarations.kinds.clone();
        let mut world = World::start(cluster, declarations)?;
        for kind in kinds().filter(|kind| read.contains(kind)) {
            world.know(kind, &["first"])?;
        }
        let off: Vec<PolicyKind> = kinds().filter(|kind| !read.contains(kind)).collect();
        world.miss(&off)?;
        for request in cluster.requests()? {
            ensure!(
                !request.path.contains("istio") && !request.path.contains("gateway"),
                "{request:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn configurations_of_revisions_are_read_where_there_are_any() -> Result<()> {
    each(|cluster| {
        cluster.create(&namespace("istio-system"))?;
        cluster.create(&mesh_config("istio-1-20", "rootNamespace: a"))?;
        cluster.create(&mesh_config("unrelated", "rootNamespace: b"))?;
        let mut declarations = everything();
        declarations.istio_revisions = true;
        let mut world = World::start(cluster, declarations)?;
        world.know(PolicyKind::MeshConfig, &["istio-1-20"])?;
        cluster.create(&mesh_config("istio", "rootNamespace: c"))?;
        world.know(PolicyKind::MeshConfig, &["istio", "istio-1-20"])
    })
}

#[test]
fn who_may_not_read_what_is_there_is_told_so_and_what_is_not_there_is_not_missed() -> Result<()> {
    let Some(mut real) = Real::start()? else {
        return Ok(());
    };
    let cluster: &mut dyn Cluster = &mut real;
    // All but what is declared.
    let token = account(cluster, &Scope::Cluster.rights(&Declarations::default()))?;
    let folder = tempfile::tempdir()?;
    let kubeconfig_file = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig_file, kubeconfig(cluster, &token))?;
    let settings = folder.path().join("observer.yaml");
    let text = format!(
        "kubernetes: {{kubeconfig: {}}}\n",
        kubeconfig_file.display()
    );
    std::fs::write(&settings, text)?;
    let missing = || -> Result<Vec<String>> {
        let checked = observer::app::kubernetes::check(Some(&settings))?;
        let asked = checked.api.context("the API is not asked")?;
        asked.missing.map_err(|error| anyhow::anyhow!("{error}"))
    };
    let built_in: Vec<String> = [
        "namespaces",
        "configmaps istio in istio-system",
        "networkpolicies.networking.k8s.io",
    ]
    .iter()
    .flat_map(|what| [format!("list {what}"), format!("watch {what}")])
    .collect();
    // The server hears of its own roles by a watch, a moment later.
    wait::until("the rights to all else", 4 * PATIENCE, || {
        Ok((missing()? == built_in).then_some(()))
    })
    .with_context(|| format!("{:?}", missing()))?;
    let routes = PolicyKind::HttpRoute;
    define(cluster, routes.group(), routes.plural(), &["v1"])?;
    let found = missing()?;
    ensure!(found.len() == built_in.len() + 2, "{found:?}");
    ensure!(found.contains(&"watch httproutes.gateway.networking.k8s.io".to_owned()));
    Ok(())
}

#[test]
fn garbage_is_passed_over_and_what_was_known_stays() -> Result<()> {
    let double = Double::start()?;
    let cluster: &dyn Cluster = &double;
    let kind = PolicyKind::PeerAuthentication;
    define(cluster, kind.group(), kind.plural(), &["v1"])?;
    cluster.create(&preferred(kind, "first")?)?;
    let mut world = World::start(cluster, everything())?;
    world.know(kind, &["first"])?;
    for line in [
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"uid\":\"x\"},\"spec\":[1,2]}}",
        "{\"type\":\"DELETED\",\"object\":5}",
        "{\"type\":\"WHATEVER\"}",
        "not json at all",
    ] {
        double.inject(kind.plural(), line);
    }
    cluster.create(&preferred(kind, "second")?)?;
    world.know(kind, &["first", "second"])?;
    double.cut(kind.plural());
    double.disconnect();
    cluster.create(&preferred(kind, "third")?)?;
    world.know(kind, &["first", "second", "third"])?;
    let malformed = world.status.losses();
    let malformed = malformed
        .iter()
        .find(|loss| loss.reason == "object_malformed");
    ensure!(
        malformed.is_some_and(|loss| loss.count >= 3),
        "{malformed:?}"
    );
    Ok(())
}
