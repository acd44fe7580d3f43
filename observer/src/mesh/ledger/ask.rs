//! Asks what is declared for an edge.

use super::{
    edge::{Declared, Edge},
    parties::{Known, Ports},
};
use crate::{
    mesh::{
        decision::{Accepts, Decision, Destination, Reason, Sends},
        party::OUTSIDE,
        policy::Policies,
        report::Party,
    },
    model::kubernetes::Pod,
};

/// Asks what is declared for an edge.
pub(super) fn declared(
    policies: &Policies,
    edge: &Edge,
    client: &Known,
    server: &Known,
    service: Option<&Party>,
) -> Declared {
    let accepts = match &server.pod {
        Some(pod) => accepts(policies, pod, edge.key.port, server.ports),
        None => Decision {
            value: Accepts::Unknown("it is not known which pod serves".into()),
            because: Vec::new(),
        },
    };
    let destination = Destination {
        service: service.map(|service| (&*service.namespace, &*service.name)),
        authority: "",
        port: match edge.dialled_port {
            0 => edge.key.port,
            port => port,
        },
        pod: server.pod.as_deref(),
        pod_port: edge.key.port,
        address: edge.server_address,
    };
    let unknown = |why: &'static str| Decision {
        value: Sends::Unknown(why.into()),
        because: Vec::new(),
    };
    let sends = match &client.pod {
        Some(pod) => policies.sends(pod, &destination),
        None if client.party.kind == OUTSIDE => Decision {
            value: Sends::NoProxy,
            because: Vec::new(),
        },
        None => unknown("it is not known which pod calls"),
    };
    // Of what goes to no Service nothing is known; whether it does cannot be seen at the server.
    let hidden = service.is_none() && !edge.dialled_pod && server.pod.is_some();
    let sends = match sends.value {
        Sends::Plaintext if hidden => unknown("it is not known which Service was dialled"),
        _ => sends,
    };
    Declared { accepts, sends }
}

/// What a pod takes at a port; where it is not known which, what it takes at all of them.
fn accepts(policies: &Policies, pod: &Pod, port: u16, ports: Ports) -> Decision<Accepts> {
    if port != 0 || ports == Ports::None {
        return policies.accepts(pod, port);
    }
    let mut decisions = ports.iter().map(|port| policies.accepts(pod, port));
    let first = decisions.next().unwrap_or_else(|| policies.accepts(pod, 0));
    match decisions.all(|other| other.value == first.value) {
        true => first,
        false => Decision {
            value: Accepts::Unknown(
                "its ports take different things, and it is not known which \
                                     port it is"
                    .into(),
            ),
            because: vec![Reason::plain("the port is not known")],
        },
    }
}
