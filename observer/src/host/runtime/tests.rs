//! Cgroup paths as real hosts have them.

use super::*;

const ID: &str = "8f3c5a0f1e7d4b6a9c2e0d1f3b5a79878f3c5a0f1e7d4b6a9c2e0d1f3b5a7987";
const OTHER: &str = "00aa11bb22cc33dd44ee55ff66007711aa22bb33cc44dd55ee66ff7700881199";

fn check(path: &str, expected: Runtime, service: Option<&str>) {
    let path = path.replace("ID", ID).replace("OTHER", OTHER);
    let found = placement(&path);
    assert_eq!(found.runtime, expected, "{path}");
    assert_eq!(found.unit_service.as_deref(), service, "{path}");
}

fn container(engine: &'static str) -> Runtime {
    Runtime::Container {
        id: ID.into(),
        engine,
    }
}

fn unit(name: &str) -> Runtime {
    Runtime::Unit { name: name.into() }
}

#[test]
fn containers_of_every_engine_and_driver() {
    for (path, engine) in [
        // containerd in Kubernetes: systemd driver, cgroupfs driver, and one given to the other.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1b2c.slice/cri-containerd-ID.scope",
            "containerd",
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1b2c.slice/cri-containerd-ID.scope",
            "containerd",
        ),
        (
            "/kubepods/besteffort/pod5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a/ID",
            "containerd",
        ),
        (
            "/kubepods/pod5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a/ID",
            "containerd",
        ),
        (
            "/system.slice/containerd.service/kubepods-burstable-pod1b2c.slice:cri-containerd:ID",
            "containerd",
        ),
        // nerdctl and ctr.
        ("/system.slice/nerdctl-ID.scope", "containerd"),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-ID.scope",
            "containerd",
        ),
        ("/default/ID", "containerd"),
        // CRI-O.
        (
            "/kubepods.slice/kubepods-pod1b2c.slice/crio-ID.scope",
            "cri-o",
        ),
        (
            "/kubepods.slice/kubepods-pod1b2c.slice/crio-ID.scope/container",
            "cri-o",
        ),
        ("/kubepods/burstable/pod1b2c/crio-ID", "cri-o"),
        // Docker.
        ("/system.slice/docker-ID.scope", "docker"),
        ("/docker/ID", "docker"),
        ("/docker/ID/init", "docker"),
        ("/system.slice:docker:ID", "docker"),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            "docker",
        ),
        ("/ecs/0f5a1b2c3d4e/ID", "docker"),
        // podman.
        ("/machine.slice/libpod-ID.scope", "podman"),
        ("/machine.slice/libpod-ID.scope/container", "podman"),
        ("/libpod_parent/libpod-ID", "podman"),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "podman",
        ),
        // Somebody else's.
        ("/garden/ID", "unknown"),
        ("/system.slice/newengine-ID.scope", "unknown"),
    ] {
        check(path, container(engine), None);
    }
}

#[test]
fn the_innermost_container_wins() {
    check(
        "/docker/OTHER/kubelet/kubepods/burstable/pod1b2c/ID",
        container("containerd"),
        None,
    );
    check(
        "/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/cri-containerd-ID.scope",
        container("containerd"),
        None,
    );
    check(
        "/system.slice/docker-OTHER.scope/docker/ID",
        container("docker"),
        None,
    );
}

#[test]
fn conmon_and_lookalikes_are_not_containers() {
    for path in [
        "/machine.slice/libpod-conmon-ID.scope",
        "/kubepods.slice/kubepods-pod1b2c.slice/crio-conmon-ID.scope",
    ] {
        let found = placement(&path.replace("ID", ID));
        assert!(matches!(found.runtime, Runtime::Unit { .. }), "{found:?}");
    }
    // One digit short, upper case, longer.
    check(
        "/docker/8f3c5a0f1e7d4b6a9c2e0d1f3b5a7987",
        Runtime::Host,
        None,
    );
    check(
        &format!("/docker/{}", ID.to_uppercase()),
        Runtime::Host,
        None,
    );
    check("/docker/IDab", Runtime::Host, None);
}

#[test]
fn units() {
    check(
        "/system.slice/nginx.service",
        unit("nginx.service"),
        Some("nginx"),
    );
    check(
        "/system.slice/system-postgresql.slice/postgresql@15-main.service",
        unit("postgresql@15-main.service"),
        Some("postgresql@15-main"),
    );
    check(
        "/system.slice/app.service/workers/7",
        unit("app.service"),
        Some("app"),
    );
    check(
        "/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service",
        unit("shop.service"),
        Some("shop"),
    );
    check(
        "/system.slice/docker.service",
        unit("docker.service"),
        Some("docker"),
    );
}

#[test]
fn units_that_name_no_service() {
    check("/init.scope", unit("init.scope"), None);
    check(
        "/user.slice/user-0.slice/session-12.scope",
        unit("session-12.scope"),
        None,
    );
    check(
        "/user.slice/user-0.slice/user@0.service",
        unit("user@0.service"),
        None,
    );
    check(
        "/user.slice/user-0.slice/user@0.service/init.scope",
        unit("init.scope"),
        None,
    );
    check(
        "/user.slice/user-0.slice/user@0.service/app.slice/app-gnome-browser-42.scope",
        unit("app-gnome-browser-42.scope"),
        None,
    );
    check(
        "/system.slice/run-u12.service",
        unit("run-u12.service"),
        None,
    );
    check(
        "/system.slice/run-p12-i34.service",
        unit("run-p12-i34.service"),
        None,
    );
    check(
        "/system.slice/run-parts.service",
        unit("run-parts.service"),
        Some("run-parts"),
    );
    check(
        "/system.slice/run-r0123456789abcdef0123456789abcdef.service",
        unit("run-r0123456789abcdef0123456789abcdef.service"),
        None,
    );
    for path in ["", "/", "/user.slice", "/my/own/group", "/system.slice"] {
        check(path, Runtime::Host, None);
    }
}

#[test]
fn units_and_containers_together() {
    // A runtime's own unit around a container says nothing.
    check(
        "/system.slice/docker.service/docker/ID",
        container("docker"),
        None,
    );
    check(
        "/system.slice/k3s.service/kubepods/pod1/ID",
        container("containerd"),
        None,
    );
    // A unit that runs one container (podman's quadlets) is the service.
    check(
        "/system.slice/web.service/libpod-payload-ID",
        container("podman"),
        Some("web"),
    );
    // A unit inside a container that runs systemd (kind's nodes).
    check(
        "/docker/ID/system.slice/containerd.service",
        container("docker"),
        Some("containerd"),
    );
}

#[test]
fn hybrid_hosts_name_the_container_in_another_hierarchy() {
    let docker = format!("/docker/{ID}");
    assert_eq!(
        placement_of_all(["/", &docker]).runtime,
        container("docker")
    );
    let unit_first = ["/system.slice/a.service", "/system.slice/b.service"];
    assert_eq!(placement_of_all(unit_first).runtime, unit("a.service"));
    assert_eq!(placement_of_all([]).runtime, Runtime::Host);
}

#[test]
fn pods_by_their_directory() {
    const UID: &str = "5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a";
    const HASH: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    for (path, expected) in [
        ("/kubepods/besteffort/podUID/ID", UID),
        ("/kubepods/podUID/ID", UID),
        ("/kubepods/burstable/podHASH/ID", HASH),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSLICED.slice/crio-ID.scope",
            UID,
        ),
        (
            "/kubepods.slice/kubepods-podHASH.slice/cri-containerd-ID.scope",
            HASH,
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podSLICED.slice/cri-containerd-ID.scope",
            UID,
        ),
        (
            "/system.slice/containerd.service/kubepods-burstable-podSLICED.slice:cri-containerd:ID",
            UID,
        ),
        ("/docker/ID/kubelet/kubepods/podUID/ID", UID),
        // The pause container's own processes, or kubelet's, directly in the pod.
        ("/kubepods/podUID", UID),
        ("/kubepods/pod1b2c/ID", ""),
        ("/kubepods/podUIDx/ID", ""),
        ("/system.slice/my-podSLICED.slice", ""),
        ("/machine.slice/libpod-ID.scope", ""),
        ("/podman/podcast", ""),
    ] {
        let path = path
            .replace("SLICED", &UID.replace('-', "_"))
            .replace("podUID", &format!("pod{UID}"))
            .replace("HASH", HASH)
            .replace("ID", ID);
        assert_eq!(&*placement(&path).pod_uid, expected, "{path}");
    }
}
