//! The double of the Kubernetes API server answers as the real one does, and misbehaves as told.

#[path = "apiserver/faults.rs"]
mod faults;
#[path = "apiserver/script.rs"]
mod script;

use anyhow::{Context, Result, ensure};
use observer_tests::{
    apiserver::{
        Cluster, READER, definitions,
        double::Double,
        each,
        objects::{self, Pod, cluster_of},
        real::Real,
    },
    wait::PATIENCE,
};
use serde_json::{Value, json};

#[test]
fn the_double_answers_as_the_real_server_does() -> Result<()> {
    let Some(mut real) = Real::start()? else {
        return Ok(());
    };
    let expected = script::run(&mut real).context("against the real server")?;
    let found = script::run(&mut Double::start()?).context("against the double")?;
    let mut differing = Vec::new();
    for (real, double) in expected.iter().zip(&found) {
        if real != double {
            differing.push(format!("real   {real}\ndouble {double}"));
        }
    }
    ensure!(differing.is_empty(), "\n{}", differing.join("\n"));
    ensure!(expected.len() == found.len());
    Ok(())
}

#[test]
fn versions_that_are_forgotten_are_gone_with_410() -> Result<()> {
    each(|cluster| {
        let path = "/api/v1/namespaces/default/pods";
        for name in ["a", "b", "c"] {
            cluster.create(&Pod::new(name).lean().build())?;
        }
        let page = cluster.admin().get(&format!("{path}?limit=1"))?.success()?;
        let version = page["metadata"]["resourceVersion"]
            .as_str()
            .context("no version")?;
        let token = page["metadata"]["continue"]
            .as_str()
            .context("no token")?
            .to_owned();
        cluster.create(&Pod::new("d").lean().build())?;
        let version = version.to_owned();
        cluster.forget()?;
        let admin = cluster.admin();
        let next = admin.get(&format!("{path}?limit=1&continue={token}"))?;
        ensure!(
            next.code == 410 && next.json()?["reason"] == "Expired",
            "{next:?}"
        );
        // The answer brings a token to go on with, from now.
        let token = next.json()?["metadata"]["continue"]
            .as_str()
            .context("no token")?
            .to_owned();
        let rest = admin
            .get(&format!("{path}?limit=9&continue={token}"))?
            .success()?;
        ensure!(script::names(&rest) == ["b", "c", "d"], "{rest}");
        let exact = format!("{path}?resourceVersion={version}&resourceVersionMatch=Exact");
        let exact = admin.get(&exact)?;
        ensure!(
            exact.code == 410 && exact.json()?["reason"] == "Expired",
            "{exact:?}"
        );
        let mut watch = admin.watch(&format!("{path}?watch=1&resourceVersion={version}"))?;
        ensure!(watch.code == 200);
        let event = watch.next(PATIENCE)?.context("no event")?;
        ensure!(
            event["type"] == "ERROR" && event["object"]["code"] == 410,
            "{event}"
        );
        ensure!(event["object"]["reason"] == "Expired", "{event}");
        ensure!(watch.next(PATIENCE)?.is_none(), "the watch goes on");
        // From what is now, it goes on.
        let list = admin.get(path)?.success()?;
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .context("no version")?;
        let mut watch = admin.watch(&format!("{path}?watch=1&resourceVersion={version}"))?;
        cluster.create(&Pod::new("e").lean().build())?;
        let event = watch.next(PATIENCE)?.context("no event")?;
        ensure!(
            event["type"] == "ADDED" && event["object"]["metadata"]["name"] == "e",
            "{event}"
        );
        Ok(())
    })
}

#[test]
fn a_server_that_comes_back_has_its_objects_and_its_address() -> Result<()> {
    each(|cluster| {
        cluster.create(&Pod::new("a").lean().build())?;
        let admin = cluster.admin().clone();
        let mut watch = admin.watch("/api/v1/pods?watch=1")?;
        ensure!(watch.next(PATIENCE)?.is_some());
        cluster.stop()?;
        // The end may be proper or not; it comes.
        while let Ok(Some(_)) = watch.next(PATIENCE) {}
        ensure!(admin.get("/version").is_err(), "it answers");
        cluster.start()?;
        let list = admin.get("/api/v1/pods")?.success()?;
        ensure!(script::names(&list) == ["a"], "{list}");
        Ok(())
    })
}

#[test]
fn roles_decide_and_requests_are_counted() -> Result<()> {
    each(|cluster| {
        let token = cluster.account("observer", READER)?;
        let client = cluster.admin().with_token(Some(&token));
        ensure!(client.get("/api/v1/pods?limit=500")?.code == 200);
        ensure!(
            client
                .get("/api/v1/nodes?fieldSelector=metadata.name%3Da")?
                .code
                == 200
        );
        let refused = client.get("/api/v1/namespaces/default/serviceaccounts")?;
        ensure!(refused.code == 403, "{refused:?}");
        ensure!(refused.json()?["reason"] == "Forbidden");
        let mut watch = client.watch("/api/v1/services?watch=true&timeoutSeconds=1")?;
        while watch.next(PATIENCE)?.is_some() {}
        cluster.expect_requests(&[
            ("list", "pods", 1),
            ("list", "nodes", 1),
            ("list", "serviceaccounts", 1),
            ("watch", "services", 1),
        ])?;
        let requests = cluster.requests()?;
        ensure!(requests[0].query["limit"] == "500", "{requests:?}");
        ensure!(
            requests[1].query["fieldSelector"] == "metadata.name=a",
            "{requests:?}"
        );
        ensure!(
            requests[0].user == "system:serviceaccount:default:observer",
            "{requests:?}"
        );
        cluster.allow("observer", &READER[1..])?;
        ensure!(client.get("/api/v1/pods")?.code == 403);
        cluster.allow("observer", READER)?;
        ensure!(client.get("/api/v1/pods")?.code == 200);
        ensure!(
            cluster
                .admin()
                .with_token(Some("nonsense"))
                .get("/api/v1/pods")?
                .code
                == 401
        );
        Ok(())
    })
}

#[test]
fn kinds_that_are_defined_are_there_from_then_on() -> Result<()> {
    each(|cluster| {
        let path = "/apis/security.istio.io/v1/peerauthentications";
        let admin = cluster.admin();
        ensure!(admin.get(path)?.code == 404, "defined by nobody");
        let groups = |name: &str| -> Result<bool> {
            let groups = admin.get("/apis")?.success()?;
            let mut groups = groups["groups"].as_array().into_iter().flatten();
            Ok(groups.any(|group| group["name"] == name))
        };
        ensure!(groups("apps")? && !groups("security.istio.io")?);
        definitions::define_all(&*cluster)?;
        ensure!(groups("security.istio.io")?);
        let resources = admin.get("/apis/security.istio.io/v1")?.success()?;
        let mut resources = resources["resources"].as_array().into_iter().flatten();
        ensure!(resources.any(|one| one["name"] == "peerauthentications"));
        // Two kinds of one name, each in a group of its own.
        for group in ["security.istio.io/v1", "policy.linkerd.io/v1alpha1"] {
            let name = group.split('.').next().unwrap_or_default();
            cluster.create(&json!({
                "apiVersion": group, "kind": "AuthorizationPolicy",
                "metadata": {"name": name}, "spec": {"any": [1, "thing"]},
            }))?;
            let list = admin.get(&format!("/apis/{group}/authorizationpolicies"))?;
            let list = list.success()?;
            ensure!(script::names(&list) == [name], "{list}");
            ensure!(list["items"][0]["spec"]["any"][1] == "thing", "{list}");
        }
        Ok(())
    })
}

#[test]
fn token_reviews_say_whose_a_token_is_and_where_its_pod_runs() -> Result<()> {
    each(|cluster| {
        let token = cluster.account("agent", &[])?;
        cluster.create(&objects::node("node-1", "10.9.0.1", &[], ""))?;
        let pod = Pod::new("agent-x").running("node-1", &["10.1.0.9"]).lean();
        let mut pod = pod.build();
        pod["spec"]["serviceAccountName"] = json!("agent");
        let pod = cluster.create(&pod)?;
        let mounted = cluster.token("agent", &["hub"], Some("agent-x"))?;
        let review = |token: &str, audiences: &[&str]| -> Result<Value> {
            let asked = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": {"token": token, "audiences": audiences},
            });
            let path = "/apis/authentication.k8s.io/v1/tokenreviews";
            let answer = cluster.admin().send("POST", path, Some(&asked))?;
            ensure!(answer.code == 201, "{answer:?}");
            Ok(answer.json()?["status"].clone())
        };
        let status = review(&mounted, &["other", "hub"])?;
        ensure!(status["authenticated"] == true, "{status}");
        ensure!(status["audiences"] == json!(["hub"]), "{status}");
        let user = &status["user"];
        ensure!(
            user["username"] == "system:serviceaccount:default:agent",
            "{status}"
        );
        ensure!(
            user["groups"]
                .as_array()
                .is_some_and(|groups| groups.len() == 3),
            "{status}"
        );
        for (key, value) in [
            ("pod-name", &json!("agent-x")),
            ("pod-uid", &pod["metadata"]["uid"]),
            ("node-name", &json!("node-1")),
        ] {
            let found = &user["extra"][format!("authentication.kubernetes.io/{key}")];
            ensure!(found == &json!([value]), "{key}: {status}");
        }
        for (token, audiences) in [
            (&*mounted, &["other"][..]),
            (&mounted, &[]),
            (&token, &["hub"]),
            ("nonsense", &["hub"]),
        ] {
            let status = review(token, audiences)?;
            ensure!(status["authenticated"].is_null(), "{status}");
            ensure!(
                status["error"]
                    .as_str()
                    .is_some_and(|error| !error.is_empty()),
                "{status}"
            );
        }
        Ok(())
    })
}

#[test]
fn built_objects_are_taken_and_of_real_size() -> Result<()> {
    each(|cluster| {
        let pods = [
            Pod::new("shop-6d4cf56db6-abcde")
                .running("node-0", &["10.1.0.4", "fd00::4"])
                .owned_by("apps/v1", "ReplicaSet", "shop-6d4cf56db6")
                .environment("OTEL_SERVICE_NAME", "shop")
                .annotation("resource.opentelemetry.io/service.name", "shop")
                .containers(&["main", "proxy"]),
            Pod::new("done")
                .running("node-0", &["10.1.0.5"])
                .phase("Succeeded"),
            Pod::new("host")
                .running("node-0", &["10.9.0.1"])
                .host_network()
                .lean(),
            Pod::new("waiting"),
        ];
        for pod in &pods {
            let built = pod.build();
            let created = cluster.create(&built)?;
            ensure!(
                created["status"]["podIPs"] == built["status"]["podIPs"],
                "{created}"
            );
            ensure!(
                created["spec"]["nodeName"] == built["spec"]["nodeName"],
                "{created}"
            );
        }
        let whole = cluster.read(&pods[0].build())?.to_string();
        ensure!(
            (6000..16_000).contains(&whole.len()),
            "{} bytes",
            whole.len()
        );
        let first = cluster.read(&pods[0].build())?;
        let id = &first["status"]["containerStatuses"][1]["containerID"];
        ensure!(
            *id == format!("containerd://{}", pods[0].container_id("proxy")),
            "{id}"
        );
        let services = [
            objects::service("shop", &[80, 443]),
            objects::headless("peers", &[]),
            objects::node_port("open", &[80]),
            objects::load_balancer("edge", &[443], "203.0.113.7"),
            objects::load_balancer("edge-name", &[443], "lb.example.com"),
            objects::named_outside("database", "db.example.com"),
        ];
        cluster.create_all(&services)?;
        let edge = cluster.read(&services[3])?;
        ensure!(
            edge["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.7",
            "{edge}"
        );
        ensure!(
            edge["spec"]["ports"][0]["nodePort"].as_u64() >= Some(30_000),
            "{edge}"
        );
        cluster.create(&objects::namespace("other"))?;
        let own = Pod::new("a").namespace("other").lean().build();
        cluster.create(&own)?;
        let slice = objects::slice_of("shop", 0, &[&first]);
        cluster.create(&slice)?;
        let outside = [("203.0.113.9", None)];
        cluster.create(&objects::slice("outside", 0, &outside))?;
        let rollout = ("argoproj.io/v1alpha1", "Rollout", "shop");
        cluster.create(&objects::replica_set("shop-canary-1", Some(rollout)))?;
        cluster.create(&objects::job("report-29", Some("report")))?;
        cluster.create_all(cluster_of(6, 2, 3).all())?;
        let list = cluster
            .admin()
            .get("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-0")?;
        // Three of its own and every other of six.
        ensure!(script::names(&list.success()?).len() == 6);
        Ok(())
    })
}

#[test]
fn thousands_of_pods_are_listed_in_pages() -> Result<()> {
    let double = Double::start()?;
    let objects = cluster_of(3000, 30, 50);
    double.insert(objects.all())?;
    let (mut found, mut pages, mut token) = (0, 0, String::new());
    loop {
        let page = double
            .admin()
            .get(&format!("/api/v1/pods?limit=500&continue={token}"))?;
        let page = page.success()?;
        found += script::names(&page).len();
        pages += 1;
        match page["metadata"]["continue"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    ensure!((found, pages) == (3000, 6), "{found} pods in {pages} pages");
    Ok(())
}
