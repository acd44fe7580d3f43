//! Which calls failed, and why: `error.type` of the HTTP semantic conventions.

use crate::model::{connection::Role, exchange::Outcome, rpc::RpcEnd};

/// Status codes from 400 to 599 as text.
#[rustfmt::skip]
const STATUS: [&str; 200] = [
    "400", "401", "402", "403", "404", "405", "406", "407", "408", "409",
    "410", "411", "412", "413", "414", "415", "416", "417", "418", "419",
    "420", "421", "422", "423", "424", "425", "426", "427", "428", "429",
    "430", "431", "432", "433", "434", "435", "436", "437", "438", "439",
    "440", "441", "442", "443", "444", "445", "446", "447", "448", "449",
    "450", "451", "452", "453", "454", "455", "456", "457", "458", "459",
    "460", "461", "462", "463", "464", "465", "466", "467", "468", "469",
    "470", "471", "472", "473", "474", "475", "476", "477", "478", "479",
    "480", "481", "482", "483", "484", "485", "486", "487", "488", "489",
    "490", "491", "492", "493", "494", "495", "496", "497", "498", "499",
    "500", "501", "502", "503", "504", "505", "506", "507", "508", "509",
    "510", "511", "512", "513", "514", "515", "516", "517", "518", "519",
    "520", "521", "522", "523", "524", "525", "526", "527", "528", "529",
    "530", "531", "532", "533", "534", "535", "536", "537", "538", "539",
    "540", "541", "542", "543", "544", "545", "546", "547", "548", "549",
    "550", "551", "552", "553", "554", "555", "556", "557", "558", "559",
    "560", "561", "562", "563", "564", "565", "566", "567", "568", "569",
    "570", "571", "572", "573", "574", "575", "576", "577", "578", "579",
    "580", "581", "582", "583", "584", "585", "586", "587", "588", "589",
    "590", "591", "592", "593", "594", "595", "596", "597", "598", "599",
];

/// `error.type` of a call; `None` when it did not fail.
///
/// An error status is what failed whatever happened after it: from 400 for a client, from 500 for
/// a server, whose client made the 4xx. Otherwise a response that never became complete failed,
/// with one exception: a client that goes away is an error of the client's call, but none of the
/// server's. What the observer lost ([`Outcome::Lost`]) is not known to have failed.
pub(super) fn error_type(
    role: Role,
    status: Option<u16>,
    outcome: Outcome,
) -> Option<&'static str> {
    let first = if role == Role::Client { 400 } else { 500 };
    if let Some(status) = status.filter(|status| *status >= first) {
        // Beyond 599 nothing is defined (RFC 9110 section 15); `_OTHER` is the conventions' word.
        return Some(
            STATUS
                .get(usize::from(status) - 400)
                .copied()
                .unwrap_or("_OTHER"),
        );
    }
    match outcome {
        Outcome::Complete | Outcome::Tunnel | Outcome::Lost => None,
        Outcome::ClientAborted if role != Role::Client => None,
        Outcome::ClientAborted
        | Outcome::ServerAborted
        | Outcome::Aborted
        | Outcome::Malformed
        | Outcome::Refused => Some(outcome.as_str()),
    }
}

/// `error.type` of a remote procedure call; `http` is that of the exchange that carried it.
///
/// A client's call failed with any status but OK. A server's failed with those that are its fault
/// (semantic conventions for gRPC, server spans); the others its client made. Without a status, what
/// happened to the exchange is what happened to the call.
pub(super) fn rpc_error_type(
    role: Role,
    end: RpcEnd,
    http: Option<&'static str>,
) -> Option<&'static str> {
    const SERVER: [&str; 6] = [
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    ];
    let Some(status) = end.status_name() else {
        return http;
    };
    let failed = match role {
        Role::Client => status != "OK",
        Role::Server | Role::Unknown => SERVER.contains(&status),
    };
    failed.then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (role, status, expected) in [
            (Role::Server, 200, None),
            (Role::Server, 404, None),
            (Role::Server, 499, None),
            (Role::Server, 500, Some("500")),
            (Role::Server, 599, Some("599")),
            (Role::Server, 600, Some("_OTHER")),
            (Role::Client, 101, None),
            (Role::Client, 399, None),
            (Role::Client, 400, Some("400")),
            (Role::Client, 404, Some("404")),
            (Role::Client, 503, Some("503")),
            (Role::Client, u16::MAX, Some("_OTHER")),
            (Role::Unknown, 404, None),
        ] {
            let found = error_type(role, Some(status), Outcome::Complete);
            assert_eq!(found, expected, "{role:?} {status}");
        }
        for (at, text) in STATUS.iter().enumerate() {
            assert_eq!(*text, (at + 400).to_string());
        }
    }

    #[test]
    fn outcomes() {
        use Outcome::*;
        for (outcome, client, server) in [
            (Complete, None, None),
            (Tunnel, None, None),
            (Lost, None, None),
            (ClientAborted, Some("client_aborted"), None),
            (
                ServerAborted,
                Some("server_aborted"),
                Some("server_aborted"),
            ),
            (Aborted, Some("aborted"), Some("aborted")),
            (Malformed, Some("malformed"), Some("malformed")),
            (Refused, Some("refused"), Some("refused")),
        ] {
            for status in [None, Some(200)] {
                assert_eq!(
                    error_type(Role::Client, status, outcome),
                    client,
                    "{outcome:?}"
                );
                assert_eq!(
                    error_type(Role::Server, status, outcome),
                    server,
                    "{outcome:?}"
                );
            }
            assert_eq!(
                error_type(Role::Server, Some(502), outcome),
                Some("502"),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn procedures() {
        for (end, http, client, server) in [
            (RpcEnd::Status(0), None, None, None),
            // What happens after the status does not change it.
            (RpcEnd::Status(0), Some("server_aborted"), None, None),
            (RpcEnd::Status(5), None, Some("NOT_FOUND"), None),
            (RpcEnd::Status(13), None, Some("INTERNAL"), Some("INTERNAL")),
            (RpcEnd::Status(99), None, Some("UNKNOWN"), Some("UNKNOWN")),
            (
                RpcEnd::Cancelled,
                Some("client_aborted"),
                Some("CANCELLED"),
                None,
            ),
            (
                RpcEnd::DeadlineExceeded,
                None,
                Some("DEADLINE_EXCEEDED"),
                Some("DEADLINE_EXCEEDED"),
            ),
            (RpcEnd::Unknown, None, None, None),
            (RpcEnd::Unknown, Some("502"), Some("502"), Some("502")),
        ] {
            assert_eq!(rpc_error_type(Role::Client, end, http), client, "{end:?}");
            assert_eq!(rpc_error_type(Role::Server, end, http), server, "{end:?}");
        }
    }
}
