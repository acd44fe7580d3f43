//! Resources of workloads and of the observer.

use super::{
    super::fixture::{about, assert_attributes, by_key},
    *,
};
use crate::aggregate::fixture::{workload, workload_in};

#[test]
fn a_pod_tells_all_that_kubernetes_does() {
    let mut workload = Workload::clone(&workload_in("cart", "x7"));
    workload.runtime = Runtime::Container {
        id: "c0ffee".into(),
        engine: "containerd",
    };
    assert_attributes(
        &of_workload(&workload, &about()).attributes,
        "cloud.availability_zone=eu-1a
        cloud.region=eu-1
        container.id=c0ffee
        host.id=0123456789abcdef0123456789abcdef
        host.name=node-1
        k8s.cluster.name=west
        k8s.container.name=main
        k8s.deployment.name=cart
        k8s.namespace.name=shop
        k8s.node.name=node-1
        k8s.pod.label.tier=front
        k8s.pod.name=cart-5d4f-x7
        k8s.pod.uid=uid-cart-x7
        k8s.replicaset.name=cart-5d4f
        k8s.workload.kind=Deployment
        k8s.workload.name=cart
        process.executable.path=/usr/bin/cart
        service.instance.id=shop.cart-5d4f-x7.main
        service.name=cart
        service.namespace=shop
        service.version=1
        telemetry.distro.name=observer
        telemetry.distro.version=1.2.3",
    );
}

#[test]
fn a_unit_is_an_instance_of_its_host() {
    let mut about = about();
    about.cluster = "".into();
    about.node = "".into();
    assert_attributes(
        &of_workload(&workload("web"), &about).attributes,
        "host.id=0123456789abcdef0123456789abcdef
        host.name=node-1
        process.executable.path=/usr/bin/web
        service.instance.id=node-1.web.service
        service.name=web
        service.namespace=shop
        service.version=1
        systemd.unit=web.service
        telemetry.distro.name=observer
        telemetry.distro.version=1.2.3",
    );
}

#[test]
fn containers_and_processes_have_instances_too() {
    let instance = |runtime| {
        let mut workload = Workload::clone(&workload("web"));
        workload.runtime = runtime;
        let resource = of_workload(&workload, &about());
        by_key(&resource.attributes).remove("service.instance.id")
    };
    let container = Runtime::Container {
        id: "c0ffee".into(),
        engine: "docker",
    };
    assert_eq!(instance(container).unwrap(), "c0ffee");
    assert_eq!(instance(Runtime::Host).unwrap(), "node-1.web");
}

#[test]
fn a_pod_that_is_not_known_yet_has_its_uid() {
    let mut workload = Workload::clone(&workload("web"));
    workload.pod_uid = "0badcafe".into();
    let resource = of_workload(&workload, &about());
    let found = by_key(&resource.attributes);
    assert_eq!(found["k8s.pod.uid"], "0badcafe");
    assert_eq!(found["k8s.node.name"], "node-1");
}

#[test]
fn the_observer_tells_of_itself() {
    assert_attributes(
        &of_observer(&about()).attributes,
        "host.id=0123456789abcdef0123456789abcdef
        host.name=node-1
        k8s.cluster.name=west
        k8s.node.name=node-1
        service.instance.id=node-1
        service.name=observer
        service.version=1.2.3
        telemetry.distro.name=observer
        telemetry.distro.version=1.2.3",
    );
}

#[test]
fn resources_are_remembered_within_bounds() {
    let mut resources = Resources {
        limit: 2,
        ..Resources::default()
    };
    let about = about();
    let (web, db) = (workload("web"), workload("db"));
    for name in ["a", "b", "c", "d"] {
        resources.get(&workload(name), &about);
        assert!(resources.known.len() <= 2);
    }
    assert_eq!(resources.get(&web, &about), of_workload(&web, &about));
    assert_eq!(resources.get(&db, &about), of_workload(&db, &about));
    assert_eq!(resources.known.len(), 2);
    // Both are in use: they all go.
    resources.get(&workload("e"), &about);
    assert_eq!(resources.known.len(), 1);
}

#[test]
fn another_host_has_other_resources() {
    let mut resources = Resources::default();
    let mut about = about();
    let web = workload("web");
    resources.get(&web, &about);
    about.offset.nanoseconds += 1;
    resources.get(&web, &about);
    assert_eq!(resources.known.len(), 1);
    about.cluster = "east".into();
    let found = resources.get(&web, &about);
    assert_eq!(by_key(&found.attributes)["k8s.cluster.name"], "east");
}
