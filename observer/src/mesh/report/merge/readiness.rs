//! Readiness of servers by several reports.

use super::{first, least_declared, unite_lists};
use crate::mesh::{
    ledger::{Basis, at_least},
    report::{Connections, PlaintextClient, Readiness},
};

/// Adds what another report says of the same server. It is ready only if nobody saw anything else than
/// mutual TLS; the connections of all may be enough where those of each are not.
pub(super) fn join(own: &mut Readiness, other: Readiness) {
    let Readiness {
        workload: _,
        state: _,
        why: _,
        declared,
        window_seconds,
        observed_seconds,
        minimum,
        connections: _,
        at_client,
        at_server,
        plaintext,
    } = other;
    least_declared(&mut own.declared, declared);
    own.window_seconds = own.window_seconds.max(window_seconds);
    own.observed_seconds = own.observed_seconds.min(observed_seconds);
    own.minimum = own.minimum.max(minimum);
    add(&mut own.at_client, at_client);
    add(&mut own.at_server, at_server);
    own.plaintext = unite_lists(
        [std::mem::take(&mut own.plaintext), plaintext],
        |client| (client.client.clone(), client.port),
        join_clients,
    );
    let counts = combined(own.at_client, own.at_server);
    own.connections = counts.mutual + counts.plaintext + counts.foreign + counts.unknown;
    let basis = Basis {
        counts,
        clients: own.plaintext.len(),
        minimum: own.minimum,
        window: own.window_seconds,
        observed: own.observed_seconds,
    };
    let (state, why) = basis.state();
    (own.state, own.why) = (state.as_str(), why);
}

fn join_clients(own: &mut PlaintextClient, other: PlaintextClient) {
    let PlaintextClient {
        client: _,
        port: _,
        connections: _,
        at_client,
        at_server,
        last_seen,
        address,
    } = other;
    own.at_client = own.at_client.saturating_add(at_client);
    own.at_server = own.at_server.saturating_add(at_server);
    own.connections = own.at_client.max(own.at_server);
    own.last_seen = own.last_seen.max(last_seen);
    first(&mut own.address, address);
}

fn add(own: &mut Connections, other: Connections) {
    for (own, other) in [
        (&mut own.mutual, other.mutual),
        (&mut own.plaintext, other.plaintext),
        (&mut own.foreign, other.foreign),
        (&mut own.unknown, other.unknown),
    ] {
        *own = own.saturating_add(other);
    }
}

fn combined(at_client: Connections, at_server: Connections) -> Connections {
    let counts = |it: Connections| [it.unknown, it.mutual, it.plaintext, it.foreign];
    let [unknown, mutual, plaintext, foreign] = at_least(counts(at_client), counts(at_server));
    Connections {
        mutual,
        plaintext,
        foreign,
        unknown,
    }
}
