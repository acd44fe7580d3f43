//! Encryption: which share of traffic nobody can read along, and what is in the clear.

use super::{EDGE, EDGE_LEGEND, EDGES, edge_rate, edge_variables, once};
use crate::dashboards::{
    contract::{self, Family},
    panel::{Board, Panel, Row},
    query::{Query, Series, WINDOW, of},
};

/// What is neither in the clear nor unknown.
const OPEN: &str = "plaintext|unknown";

fn rate(
    family: &'static Family,
    by: &'static [&'static str],
    choose: impl Fn(Series) -> Series,
) -> Query {
    edge_rate(|| choose(of(family).chosen(EDGES)), WINDOW, by)
}

/// Both ways.
fn bytes(by: &'static [&'static str], choose: impl Fn(Series) -> Series + Copy) -> Query {
    rate(&contract::EDGE_SENT_BYTES, by, choose).plus(rate(
        &contract::EDGE_RECEIVED_BYTES,
        by,
        choose,
    ))
}

fn encrypted(by: &'static [&'static str]) -> Query {
    let all = bytes(by, |series| series);
    let closed = bytes(by, |series| series.unlike("security", OPEN)).or_zero_of(&all);
    closed.by(all.above("0"))
}

pub(super) fn board() -> Board {
    let shown = |role: &str| {
        of(&contract::CONNECTIONS_SECURITY)
            .like("k8s_cluster_name", "$cluster")
            .is("role", role)
    };
    let open = once(&["security"], |reporter, labels| {
        of(&contract::EDGE_OPEN)
            .chosen(EDGES)
            .is("reporter", reporter)
            .now()
            .sum(labels)
    });
    let plain = |series: Series| series.is("security", "plaintext");
    Board {
        uid: "observer-encryption",
        title: "Observer / Encryption",
        description: "What first bytes of connections showed: tls is TLS of any kind, istio_mtls, hbone and linkerd_mtls are those of a mesh, plaintext is readable on the way.",
        variables: edge_variables(),
        rows: vec![
            Row {
                title: "All",
                panels: vec![
                    Panel::number("Encrypted bytes", "percentunit")
                        .query("", encrypted(&[]))
                        .better_above(0.5, 0.95)
                        .wide(6),
                    Panel::number("Encrypted connections made", "percentunit")
                        .query(
                            "",
                            shown("client")
                                .unlike("security", OPEN)
                                .rate(WINDOW)
                                .sum(&[])
                                .by(shown("client").rate(WINDOW).sum(&[]).above("0")),
                        )
                        .better_above(0.5, 0.95)
                        .wide(6),
                    Panel::number("Edges in the clear", "short")
                        .query("", bytes(EDGE, plain).above("0").number(&[]))
                        .wide(6),
                    Panel::number("Bytes in the clear", "Bps")
                        .query("", bytes(&[], plain))
                        .wide(6),
                ],
            },
            Row {
                title: "By kind",
                panels: vec![
                    Panel::stack("Bytes by security", "Bps")
                        .query("{{security}}", bytes(&["security"], |series| series)),
                    Panel::stack("Connections made by security", "cps").query(
                        "{{security}}",
                        shown("client").rate(WINDOW).sum(&["security"]),
                    ),
                    Panel::stack("Connections accepted by security", "cps").query(
                        "{{security}}",
                        shown("server").rate(WINDOW).sum(&["security"]),
                    ),
                    Panel::stack("Open connections by security", "short")
                        .query("{{security}}", open),
                    Panel::stack("Protocols in the clear", "Bps")
                        .query("{{protocol}}", bytes(&["protocol"], plain)),
                    Panel::lines("Least encrypted", "percentunit")
                        .query(EDGE_LEGEND, encrypted(EDGE).below("1")),
                ],
            },
            Row {
                title: "In the clear",
                panels: vec![
                    Panel::table("Most bytes in the clear", "Bps")
                        .query("", bytes(EDGE, plain).top(50))
                        .link("Edge", "observer-edge"),
                    Panel::table("Share encrypted by edge", "percentunit")
                        .query("", encrypted(EDGE))
                        .link("Edge", "observer-edge"),
                ],
            },
        ],
    }
}
