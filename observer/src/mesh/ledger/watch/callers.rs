//! Of which edge a call is, where its proxy tells of each call who made it.

use std::sync::Arc;

use super::{Around, Live};
use crate::{
    mesh::{
        ledger::view::{Places, Vantage, View},
        traffic::is_bytes,
    },
    model::{
        call::{Call, Link},
        mesh::{Far, FarSource},
        workload::{NameSource, Peer},
    },
};

/// Whom the last call of a connection was really with, and of which edge that is.
#[derive(Debug)]
pub(super) struct Caller {
    told: Arc<Far>,
    edge: Option<u32>,
    /// What is known of the connection is known of its calls.
    as_connection: bool,
}

/// The edge of a call, and whom it is really with.
pub(super) fn edge_of<'a>(
    call: &'a Call,
    live: &mut Live,
    places: &Places,
    around: &mut Around<'_>,
) -> (Option<u32>, Option<&'a Far>) {
    let link = &call.link;
    let of_link = link.far.as_deref();
    let far = match &call.far {
        Some(far) if of_link.is_none_or(|known| !std::ptr::eq(known, &raw const **far)) => far,
        _ => return (Some(live.edge), of_link),
    };
    let known = live.caller.as_ref().filter(|it| Arc::ptr_eq(&it.told, far));
    let (edge, as_connection) = match known {
        Some(known) => (known.edge, known.as_connection),
        None => {
            let as_connection = live.vantage == Vantage::AppServer
                && is_known(link, far)
                && is_of_bytes(link, around);
            let edge = match as_connection {
                true => Some(live.edge),
                false => {
                    let context = around.policies.context();
                    let view = View::of(link, Some(far), places, context);
                    view.and_then(|view| around.find(&view))
                }
            };
            live.caller = Some(Caller {
                told: far.clone(),
                edge,
                as_connection,
            });
            (edge, as_connection)
        }
    };
    let far = if as_connection { of_link } else { Some(&**far) };
    (edge, far)
}

/// Whether it is known who made a connection, and not who made its call: the proxy had connections
/// with one workload alone, and told of nobody with the request.
fn is_known(link: &Link, told: &Far) -> bool {
    let nobody = |peer: &Peer| matches!(peer, Peer::Local(one) if one.pod().is_none() && one.source == NameSource::Unknown);
    let connected = link
        .far
        .as_deref()
        .is_some_and(|far| far.source == FarSource::Connections && far.peer.pod().is_some());
    connected && told.identity.is_none() && nobody(&told.peer)
}

/// Whether the server's proxy reads no requests at the port, so that it can tell of nobody with them.
fn is_of_bytes(link: &Link, around: &Around<'_>) -> bool {
    let port = link.connection.local.port();
    let pod = link.workload.pod();
    pod.is_some_and(|pod| is_bytes(around.policies, pod, port))
}
