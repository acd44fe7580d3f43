//! Asks what is declared for an edge.

use super::{
    edge::{Declared, Edge, Surroundings},
    marks,
    parties::{Known, Ports},
    rules::Rules,
};
use crate::{
    mesh::{
        decision::{Accepts, Caller, Certainty, Decision, Destination, Reason, Sends},
        istio::{Action, Attachment, service_host},
        party::OUTSIDE,
        policy::Policies,
        report::Party,
    },
    model::{kubernetes::Pod, mesh::Plane},
};

/// Port of the tunnel of Istio's ambient mode.
const AMBIENT_TUNNEL: u16 = 15_008;
/// Port at which proxies of Linkerd take what is meant for others.
const LINKERD_TUNNEL: u16 = 4_143;

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
        Sends::Mutual if is_passed_on(policies, edge, client, service) => {
            unknown("pods are dialled as well, which the proxy passes on as it is")
        }
        _ => sends,
    };
    Declared { accepts, sends }
}

/// Whether a sidecar of Istio was also seen to be asked for pods by their addresses. It passes that on
/// in the clear, and on the wire it looks as what is for their Service.
fn is_passed_on(policies: &Policies, edge: &Edge, client: &Known, service: Option<&Party>) -> bool {
    let Some(service) = service else {
        return false;
    };
    let facts = policies
        .context()
        .service(&service.namespace, &service.name);
    edge.dialled_pod
        && client.plane == Plane::IstioSidecar
        && facts.is_none_or(|facts| !facts.headless)
}

/// Asks what else an edge is judged by.
pub(super) fn surroundings(
    policies: &Policies,
    rules: &Rules,
    edge: &Edge,
    client: &Known,
    server: &Known,
    service: Option<&Party>,
) -> Surroundings {
    let mut around = Surroundings::default();
    let Some(pod) = &server.pod else {
        return around;
    };
    let client_in_ambient =
        client.plane == Plane::IstioAmbient && server.plane == Plane::IstioAmbient;
    if matches!(server.plane, Plane::IstioSidecar | Plane::IstioAmbient) {
        let service = service.map(|service| (&*service.namespace, &*service.name));
        of_istio(&mut around, policies, rules, pod, service);
        if let (Some(client), Some(service)) = (&client.pod, service)
            && client_in_ambient
            && around.waypoint.is_none()
        {
            let found = of_requests(policies, client, service, edge.dialled_port);
            around.unenforced.extend(found);
        }
    }
    // Transparent interception keeps the client's address.
    let transparent = pod.traits.annotation("sidecar.istio.io/interceptionMode") == Some("TPROXY");
    around.guarded = matches!(server.plane, Plane::IstioSidecar | Plane::Linkerd)
        && !transparent
        && !marks::is_excluded_inbound(policies, pod, server.plane, edge.key.port);
    let tunnel = match server.plane {
        Plane::IstioAmbient => AMBIENT_TUNNEL,
        Plane::Linkerd => LINKERD_TUNNEL,
        Plane::IstioSidecar | Plane::None => return around,
    };
    if edge.key.port != 0 {
        let caller = Caller {
            pod: client.pod.as_deref(),
            address: edge.address,
            ..Caller::default()
        };
        let networks = policies.networks();
        let asked = |port| networks.port(policies.context(), pod, port, &caller);
        let own = asked(edge.key.port);
        if own.value == Certainty::No && asked(tunnel).value == Certainty::Yes {
            around.voided = own.because;
        }
    }
    around
}

fn of_istio(
    around: &mut Surroundings,
    policies: &Policies,
    rules: &Rules,
    pod: &Pod,
    service: Option<(&str, &str)>,
) {
    let (istio, context) = (policies.istio(), policies.context());
    around.waypoint = service.and_then(|it| istio.waypoint(context, pod, Some(it)));
    let route = service.and_then(|(namespace, name)| rules.route(namespace, name));
    match (route, &around.waypoint) {
        (Some(route), None) => {
            let text = "is for requests, and the Service has no waypoint";
            around.unenforced.push(Reason::of(route.clone(), text));
        }
        (route, _) => around.enforced = route.cloned(),
    }
    for policy in istio.policies_for(context, pod) {
        if policy.dry_run {
            continue;
        }
        let of_waypoint = policy.attachment == Attachment::Waypoint;
        match policy.unenforced {
            Some(why) if policy.names_requests => {
                around
                    .unenforced
                    .push(Reason::of(policy.object.clone(), why));
            }
            None if of_waypoint => around.enforced = Some(policy.object.clone()),
            _ => {}
        }
        if policy.action == Action::Deny && policy.names_identities && !of_waypoint {
            around.by_identity.get_or_insert(policy.object);
        }
    }
}

/// DestinationRules that say of the requests of a client to a Service what only a waypoint does: which
/// pod they stay with, how many there may be, and which pods are left out that fail.
fn of_requests(
    policies: &Policies,
    client: &Pod,
    (namespace, name): (&str, &str),
    port: u16,
) -> Vec<Reason> {
    let host = service_host(namespace, name);
    let found = policies.istio().traffic_policy(client, &host, "", port);
    let Some(decision) = found.filter(|decision| decision.value.is_for_requests()) else {
        return Vec::new();
    };
    let objects = decision.because.into_iter().filter_map(|it| it.object);
    let text = "its trafficPolicy is for requests, and the Service has no waypoint";
    objects.map(|object| Reason::of(object, text)).collect()
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
