//! A waypoint, as of Istio's ambient mode: an Envoy in a pod of its own, which takes the requests out of
//! the tunnels of clients, routes them, and sends them on in tunnels to the pods of the servers.
//!
//! ```text
//!   front (app) ─lo─ its ztunnel ── HBONE ── waypoint ── HBONE ── web's ztunnel ─lo─ web (app)
//!      :15001                         :15008               :15008
//! ```

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Mesh, Protocol, Target,
    ambient::{self, TUNNEL},
    envoy,
    istio::{CONTAINER, USER},
};
use crate::{
    kubernetes::{Control, Known, NAMESPACE, Site},
    node::PodSpec,
    server::Server,
};

/// Class of its Gateway.
const CLASS: &str = "istio-waypoint";
/// Where a connection inside of the process seems to come from: of whom the tunnel is.
const CLIENT: &str = "envoy.filters.listener.original_dst.remote_ip";
/// Where it seems to go: what the tunnel is to.
const DIALLED: &str = "envoy.filters.listener.original_dst.local_ip";

/// A pod of a waypoint.
#[derive(Debug)]
pub struct Waypoint<'a> {
    /// As it runs, and as the API has it.
    pub known: Known<'a>,
    name: String,
}

// === impl Waypoint ===

impl<'a> Waypoint<'a> {
    /// Runs the pod of Gateway `name` on node `number`.
    pub fn start(site: &Site<'a>, number: usize, name: &str) -> Result<Self> {
        let pod = format!("{name}-77c9-{number}");
        let spec = PodSpec {
            containers: &[CONTAINER],
            ..PodSpec::new(NAMESPACE, &pod)
        };
        let control = Control::Direct("apps/v1", "Deployment", name);
        let known = site.run(number, spec, control, |object| {
            object["metadata"]["labels"] = json!({
                "gateway.networking.k8s.io/gateway-name": name,
                "gateway.networking.k8s.io/gateway-class-name": CLASS,
                "gateway.istio.io/managed": "istio.io-mesh-controller",
                "service.istio.io/canonical-name": name,
                "service.istio.io/canonical-revision": "latest",
                "sidecar.istio.io/inject": "false",
                "istio.io/dataplane-mode": "none",
            });
        })?;
        Ok(Self {
            known,
            name: name.to_owned(),
        })
    }

    /// Where it takes tunnels.
    pub fn address(&self) -> SocketAddr {
        self.known.pod.at(TUNNEL)
    }
}

impl Mesh<'_> {
    /// Lets `waypoint` carry the requests to these Services.
    pub fn waypoint(&self, waypoint: &Waypoint<'_>, targets: &[&Target]) -> Result<Server> {
        let certificates = self.spiffe(&waypoint.name)?;
        let (mut clusters, mut inner, mut hosts) = (vec![envoy::nobody()], Vec::new(), Vec::new());
        for target in targets {
            let (host, dialled) = (target.host(), target.dialled()?);
            let requests = format!("requests {host}");
            hosts.push(json!({
                "name": host, "domains": [dialled.to_string()],
                "routes": ambient::tunnelled(&requests),
            }));
            clusters.push(envoy::inside(&requests, &[&requests], Protocol::Tcp));
            let routes = json!([{
                "match": {"prefix": "/"}, "route": {"cluster": host, "timeout": "0s"},
            }]);
            inner.push(envoy::inner(
                &requests,
                &envoy::http(&routes, &[], json!({})),
            ));
            let subset = target.subsets.first().context("nobody answers")?;
            let mut ways = Vec::new();
            for (server, secured) in &subset.endpoints {
                let way = format!("to {server}");
                clusters.push(ambient::tunnel(
                    &way,
                    *server,
                    *secured,
                    None,
                    &certificates,
                ));
                let mut more = json!({});
                if *secured {
                    // In the words that the proxy at the other end understands: there it is the field
                    // Forwarded.
                    let client = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";
                    more["tunneling_config"] = json!({
                        "hostname": server.to_string(),
                        "headers_to_add": [
                            {"header": {"key": "x-forwarded-for", "value": client}},
                        ],
                    });
                }
                inner.push(envoy::inner(&way, &envoy::tcp_with(&way, more)));
                ways.push(way);
            }
            let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
            clusters.push(envoy::inside(&host, &ways, target.protocol));
        }
        let state = |key: &str, value: &str| {
            json!({
                "object_key": key, "shared_with_upstream": "TRANSITIVE",
                "format_string": {"text_format_source": {"inline_string": value}},
            })
        };
        let kept = envoy::filter_state(&[
            state(CLIENT, "%DOWNSTREAM_REMOTE_ADDRESS%"),
            state(DIALLED, "%REQ(:AUTHORITY)%"),
        ]);
        let mut listeners = vec![ambient::takes_tunnels(
            &certificates,
            &json!(hosts),
            &[kept],
        )];
        listeners.extend(inner);
        let mut configuration = envoy::configuration(&listeners, &clusters);
        configuration["bootstrap_extensions"] = json!([envoy::inner_listeners()]);
        let place = waypoint.known.pod.container(CONTAINER)?;
        self.envoy(&place, Some(USER), TUNNEL, &configuration)
    }
}
