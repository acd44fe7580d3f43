//! A gateway, as Istio's for what comes in: an Envoy in a pod of its own without any application, which
//! clients call as a server in its own right, and which calls Services in their stead.
//!
//! ```text
//!   anybody ── HTTP ── gateway ── mutual TLS ── web's proxy ─lo─ web (app)
//!                       :8080                      :15006
//! ```

use anyhow::Result;
use serde_json::{Value, json};

use super::{Member, Mesh, Target, envoy, istio};
use crate::{kubernetes, server::Server};

/// Value of the label `istio` of its pod.
pub const LABEL: &str = "ingressgateway";
/// Port of every node that leads to it, without hiding who calls.
pub const NODE_PORT: u16 = 30_080;

impl Mesh<'_> {
    /// Starts the gateway that `member` is, for these Services: each by its name as the host.
    pub fn gateway(&self, member: &Member<'_>, targets: &[&Target]) -> Result<Server> {
        let certificates = self.spiffe(&member.account)?;
        let (mut clusters, mut hosts) = (vec![envoy::nobody()], Vec::new());
        for target in targets {
            for subset in &target.subsets {
                clusters.push(istio::upstream(target, subset, &certificates, None)?);
            }
            let mut host = json!({"name": target.host(), "domains": [target.name]});
            host["routes"] = istio::routes(target)?;
            hosts.push(host);
        }
        let more = json!({
            "use_remote_address": true, "strip_any_host_port": true,
            "forward_client_cert_details": "SANITIZE_SET",
        });
        let mut http = envoy::http(&json!([]), &[], more);
        http["typed_config"]["route_config"]["virtual_hosts"] = Value::Array(hosts);
        let port = kubernetes::PORT;
        let listener = json!({
            "name": format!("on {port}"),
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
            "filter_chains": [{"filters": [http]}],
        });
        let configuration = envoy::configuration(&[listener], &clusters);
        self.envoy(&member.proxy()?, Some(istio::USER), port, &configuration)
    }
}
