//! How full the tables of this stage are, and what did not fit.

use super::{
    Config, Enricher, datagrams::MAX_SOCKETS, pods::Pods, unwired::Unwired, waiting::Waiting,
    wires::Wires,
};
use crate::telemetry::health::{Loss, Table};

impl Enricher {
    /// How full the tables are.
    pub fn tables(&self) -> Vec<Table> {
        let table = |name, entries: usize, limit: usize| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        };
        let Config {
            max_connections,
            max_services,
            max_routes,
            ..
        } = self.config;
        let routes = (self.routes.services() + 1).saturating_mul(max_routes);
        let mut tables = vec![
            table(
                "enrich_connections",
                self.connections.len(),
                max_connections,
            ),
            table("enrich_services", self.routes.services(), max_services),
            table("enrich_routes", self.routes.len(), routes),
            table("enrich_sockets", self.sockets.len(), MAX_SOCKETS),
            table("enrich_servers", self.servers.len(), MAX_SOCKETS),
            table("enrich_names", self.names.len(), self.names.limit()),
        ];
        if let Some(cluster) = &self.cluster {
            tables.push(table(
                "enrich_waiting",
                self.waiting().len(),
                Waiting::LIMIT,
            ));
            tables.push(table("enrich_pods", cluster.pods.len(), Pods::LIMIT));
            tables.push(table("enrich_wires", self.wires.len(), Wires::LIMIT));
            tables.push(table("enrich_unwired", self.unwired.len(), Unwired::LIMIT));
            tables.extend(cluster.index.tables());
        }
        tables
    }

    /// What could not be known or remembered.
    pub fn losses(&self) -> Vec<Loss> {
        let loss = |reason, count| Loss {
            stage: "enrich",
            reason,
            count,
        };
        let mut losses = vec![
            loss(
                "exchange_of_unknown_connection",
                self.losses.exchanges_unknown,
            ),
            loss("event_of_unknown_connection", self.losses.events_unknown),
            loss("connections_full", self.losses.connections_full),
            loss("connections_idle", self.losses.connections_idle),
            loss("routes_full", self.routes.overflowed),
            loss("services_full", self.routes.shared),
            loss("names_full", self.names.evicted()),
        ];
        if let Some(cluster) = &self.cluster {
            losses.push(loss("waiting_full", self.waiting().full));
            losses.push(loss("pod_unknown", cluster.losses.pod_unknown));
            losses.push(loss("peer_unknown", cluster.losses.peer_unknown));
            losses.push(loss("wires_full", self.wires.full));
            losses.push(loss("unwired_full", self.unwired.full));
            losses.extend(cluster.index.losses());
        }
        losses
    }
}
