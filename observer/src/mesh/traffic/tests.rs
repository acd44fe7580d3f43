//! Objects and traffic, and what is found: raised where it should be, and silent where it should be.

mod access;
mod ends;
mod limits;
mod linkerd;
mod others;
mod property;
mod routes;
mod turns;

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::{
    mesh::{
        fixture::{self, SIDECAR},
        report::Finding,
    },
    model::{
        call::Link,
        connection::Role,
        kubernetes::Pod,
        mesh::{Forwarded, Hop},
        policy::{PolicyChange, PolicyKind},
        security::Security,
        workload::Peer,
    },
};

const SECOND: u64 = 1_000_000_000;

/// What is declared, what was seen, and the time.
struct World {
    policies: Policies,
    traffic: Traffic,
    now: Monotonic,
    connections: u64,
}

/// A request, with what most have.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    authority: &'a str,
    status: Option<u16>,
    took: Duration,
}

fn get(path: &str) -> Asked<'_> {
    Asked {
        method: "GET",
        path,
        authority: "cart",
        status: Some(200),
        took: Duration::from_millis(5),
    }
}

fn client() -> Arc<Pod> {
    fixture::pod("shop", "web", &[("app", "web")], &[SIDECAR])
}

fn server(version: &str) -> Arc<Pod> {
    let labels = [("app", "cart"), ("version", version)];
    fixture::pod("shop", &format!("cart-{version}"), &labels, &[SIDECAR])
}

impl World {
    /// With Service `cart` of namespace `shop`, at port 80 and 8080 of its pods, and subsets.
    fn new() -> Self {
        let mut world = Self {
            policies: Policies::default(),
            traffic: Traffic::new(Config {
                unused: Duration::from_secs(3600),
                window: Duration::from_secs(3600),
                ..Config::default()
            }),
            now: Monotonic(1_000 * SECOND),
            connections: 0,
        };
        world.declare(fixture::service(
            "shop",
            "cart",
            &[("app", "cart")],
            &[("http", 80, 8080)],
        ));
        world.object(
            PolicyKind::DestinationRule,
            "cart",
            serde_json::json!({"host": "cart", "subsets": [
                {"name": "v1", "labels": {"version": "v1"}},
                {"name": "v2", "labels": {"version": "v2"}},
            ]}),
        );
        world.settle();
        world
    }

    fn declare(&mut self, change: PolicyChange) {
        self.policies.apply(change);
    }

    fn object(&mut self, kind: PolicyKind, name: &str, spec: Value) {
        self.declare(fixture::object(kind, "shop", name, &spec));
    }

    fn tick(&mut self) {
        self.traffic.tick(&self.policies, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.tick();
        self.now = self.now.plus(time);
        self.tick();
    }

    /// Lets what was declared settle.
    fn settle(&mut self) {
        self.pass(Duration::from_secs(61));
    }

    fn number(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    /// The client's own socket to its proxy.
    fn client_socket(&mut self, client: &Arc<Pod>, server: Option<&Arc<Pod>>) -> Link {
        let service = fixture::dialled("shop", "cart");
        let peer = match server {
            Some(server) => Peer::Pod(server.clone()),
            None => Peer::Service(service.clone().expect("a Service")),
        };
        let own = Peer::Pod(client.clone());
        let number = self.number();
        Link {
            dialled: service,
            far: fixture::far(client, peer, Security::IstioMutualTls, None),
            ..fixture::link(number, client, Role::Client, Hop::ToProxy, own)
        }
    }

    /// The server's own socket from its proxy.
    fn server_socket(&mut self, server: &Arc<Pod>, client: &Arc<Pod>) -> Link {
        let identity = Some(fixture::identity(client));
        let peer = Peer::Pod(client.clone());
        let own = Peer::Pod(server.clone());
        let number = self.number();
        Link {
            far: fixture::far(server, peer, Security::IstioMutualTls, identity),
            ..fixture::link(number, server, Role::Server, Hop::FromProxy, own)
        }
    }

    fn call(
        &mut self,
        link: &Arc<Link>,
        asked: Asked<'_>,
        forwarded: Option<Forwarded>,
    ) -> Option<RouteMatch> {
        self.now = self.now.plus(Duration::from_millis(1));
        let head = (asked.method, asked.path, asked.authority);
        let mut call = fixture::call(link, head, asked.status, self.now, asked.took);
        call.exchange.forwarded = forwarded.map(Arc::new);
        self.traffic.call(&self.policies, &call, self.now)
    }

    /// So many requests, seen at the client alone.
    fn sent(&mut self, times: u64, asked: Asked<'_>, forwarded: Option<Forwarded>) {
        let link = Arc::new(self.client_socket(&client(), None));
        for _ in 0..times {
            self.call(&link, asked, forwarded.clone());
        }
    }

    /// So many requests, seen at the server alone.
    fn arrived(
        &mut self,
        times: u64,
        server: &Arc<Pod>,
        asked: Asked<'_>,
        forwarded: Option<Forwarded>,
    ) {
        let link = Arc::new(self.server_socket(server, &client()));
        for _ in 0..times {
            self.call(&link, asked, forwarded.clone());
        }
    }

    fn report(&mut self) -> Report {
        self.tick();
        let mut report = Report::default();
        let offset = WallOffset::default();
        self.traffic
            .report(&self.policies, &mut report, self.now, offset);
        report
    }

    fn findings(&mut self) -> Vec<Finding> {
        self.report().findings
    }

    /// Ids of all findings, sorted.
    fn found(&mut self) -> Vec<&'static str> {
        let mut ids: Vec<&str> = self.findings().iter().map(|finding| finding.id).collect();
        ids.sort_unstable();
        ids
    }
}

fn routes(rules: Value) -> Value {
    serde_json::json!({"hosts": ["cart"], "http": rules})
}

fn to(subset: &str, weight: u32) -> Value {
    serde_json::json!({"destination": {"host": "cart", "subset": subset}, "weight": weight})
}

fn attempt(number: u16) -> Option<Forwarded> {
    Some(Forwarded {
        attempt: Some(number),
        ..Forwarded::default()
    })
}
