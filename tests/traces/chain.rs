//! A chain of services of several kinds.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use observer_tests::{
    agent::{Agent, Options},
    cgroup::Cgroup,
    collector::{Collector, SpanSeen},
    hop::{self, Asked, Services, Spec},
    peers::Peer,
    place::Place,
    requirement::{Need, lacking},
    server::Server,
    settings,
    truth::Verdict,
};
use serde_json::{Value, json};

/// ```text
/// caller ─► front (nginx) ─► first (Python) ─┬─► second (Node) ───► fourth (Python)
///                                            └─► third (gRPC) ────► fourth
/// ```
pub(crate) struct Chain {
    pub(crate) entrance: SocketAddr,
    pub(crate) services: Services,
    _servers: Vec<Server>,
}

/// Where each of the services is, and how the one before it gets there.
pub(crate) struct Sites<'a> {
    pub(crate) front: Place<'a>,
    pub(crate) first: Place<'a>,
    pub(crate) second: Place<'a>,
    pub(crate) third: Place<'a>,
    pub(crate) fourth: Place<'a>,
    /// In this order.
    pub(crate) addresses: [SocketAddr; 5],
    /// Where `front` asks for `first`, if that is another address than its own.
    pub(crate) virtual_first: Option<SocketAddr>,
}

/// Requests of the chain for one that enters it.
pub(crate) const HOPS: usize = 6;

pub(crate) fn cannot_run(more: &[Need]) -> Result<bool> {
    let needs = [
        Need::Observer,
        Need::Peer(Peer::Python),
        Need::Tool("nginx"),
        Need::Tool("node"),
    ];
    Ok(lacking(&needs)? || lacking(more)?)
}

/// An agent whose spans all go to `collector`; `more`: lines of its part `traces`.
pub(crate) fn observe(cgroup: &Cgroup, collector: &Collector, more: &[&str]) -> Result<Agent> {
    let options = Options {
        configuration: Some(settings::tracing(&collector.grpc(), more)),
        ..Options::default()
    };
    Agent::start_with(cgroup, &options)
}

/// So many addresses of `ip` that nothing uses at the moment.
pub(crate) fn addresses<const N: usize>(place: &Place<'_>, ip: IpAddr) -> Result<[SocketAddr; N]> {
    // Held together, so that none comes twice.
    let listeners: Vec<_> = (0..N)
        .map(|_| place.listen(SocketAddr::new(ip, 0)))
        .collect::<Result<_>>()?;
    let mut addresses = [SocketAddr::new(ip, 0); N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

/// Whether `span` is of a request that began with `first`.
pub(crate) fn is_of(span: &SpanSeen, first: &str) -> bool {
    let path = span.path();
    path.starts_with(&format!("/hop/{first}x")) || path.contains(&format!("Echo/Phase{first}x"))
}

// === impl Sites ===

impl<'a> Sites<'a> {
    /// All at one place.
    pub(crate) fn at(place: Place<'a>) -> Result<Self> {
        Ok(Self {
            front: place,
            first: place,
            second: place,
            third: place,
            fourth: place,
            addresses: addresses(&place, IpAddr::from([127, 0, 0, 1]))?,
            virtual_first: None,
        })
    }
}

// === impl Chain ===

impl Chain {
    /// Starts all of it; `forward`: they hand on the fields of a trace, but for `third`.
    pub(crate) fn start(sites: &Sites<'_>, forward: bool) -> Result<Self> {
        let services = Services::new()?;
        let [front, first, second, third, fourth] = sites.addresses;
        let web = |address: SocketAddr| format!("http://{address}");
        let (to_fourth, to_both) = ([web(fourth)], [web(second), format!("grpc://{third}")]);
        let spec = |name, next, connect| Spec {
            name,
            next,
            forward,
            connect,
            workers: false,
        };
        let servers = vec![
            services.python(&sites.fourth, fourth, spec("fourth", &[], ""))?,
            services.rpc(
                &sites.third,
                third,
                Spec {
                    forward: false,
                    ..spec("third", &to_fourth, "pool")
                },
            )?,
            services.node(&sites.second, second, spec("second", &to_fourth, "pool"))?,
            services.python(&sites.first, first, spec("first", &to_both, "thread"))?,
            Services::nginx(&sites.front, front, sites.virtual_first.unwrap_or(first))?,
        ];
        Ok(Self {
            entrance: front,
            services,
            _servers: servers,
        })
    }

    /// Asks from `place`, with `options` of the client beside whom it asks, and waits for all spans:
    /// of both ends of every request.
    pub(crate) fn drive(
        &self,
        place: &Place<'_>,
        collector: &Collector,
        first: &str,
        mut options: Value,
    ) -> Result<(Vec<Asked>, Vec<SpanSeen>)> {
        options["url"] = json!(format!("http://{}", self.entrance));
        options["first"] = json!(first);
        let asked = hop::ask(place, &options)?;
        let what = format!("spans of {options}");
        let spans = collector.exactly(2 * HOPS * asked.len(), &what, |span| is_of(span, first))?;
        self.expect_all(&asked, &spans, first)?;
        Ok((asked, spans))
    }

    /// Fails unless there is a span at both ends of every request that the client made or a service
    /// wrote down, in the time that both say.
    fn expect_all(&self, asked: &[Asked], spans: &[SpanSeen], first: &str) -> Result<()> {
        let mut paths: BTreeMap<String, usize> = BTreeMap::new();
        for span in spans {
            let path = span.path().trim_start_matches('/').to_owned();
            *paths
                .entry(format!("{} {path}", span.span_kind))
                .or_default() += 1;
        }
        let handled = self.services.handled()?;
        let begins = [
            format!("/hop/{first}x"),
            format!("/observer.test.Echo/Phase{first}x"),
        ];
        let own = |path: &str| begins.iter().any(|begin| path.starts_with(begin));
        let wrote = handled.iter().map(|one| &one.path).filter(|path| own(path));
        let wanted: Vec<&String> = asked.iter().map(|one| &one.path).chain(wrote).collect();
        ensure!(
            wanted.len() == HOPS * asked.len(),
            "{} requests",
            wanted.len()
        );
        for path in wanted {
            let path = path.trim_start_matches('/');
            for kind in ["CLIENT", "SERVER"] {
                let found = paths.get(&format!("{kind} {path}")).copied();
                ensure!(found == Some(1), "{kind} {path}: {found:?}");
            }
        }
        /// What two clocks that were not read at once may differ by, nanoseconds.
        const SLACK: u64 = 20_000_000;
        let by_path: BTreeMap<&str, &Asked> =
            asked.iter().map(|one| (one.path.as_str(), one)).collect();
        for span in spans {
            let root = span.path().split('_').next().unwrap_or_default();
            let root = root.replace("observer.test.Echo/Phase", "/hop/");
            let one = by_path.get(root.as_str()).copied();
            let one = one.with_context(|| format!("nobody asked for {}", span.outline()))?;
            ensure!(
                span.start + SLACK >= one.started
                    && span.end <= one.ended + SLACK
                    && span.start <= span.end,
                "{one:?}: {span:?}"
            );
        }
        Ok(())
    }
}

/// Judges, and says so where a test is run by itself.
pub(crate) fn judge(what: &str, asked: &[Asked], spans: &[SpanSeen]) -> Verdict {
    let verdict = Verdict::of(spans, asked);
    eprintln!("{what}: {}", verdict.outline());
    verdict
}
