//! Where the time of a request goes: means at each place of its way that is seen.

use std::time::Duration;

use crate::{
    mesh::report,
    model::{connection::Transfer, time::Monotonic},
};

/// How long times are summed up before a new period starts.
const PERIOD: Duration = Duration::from_secs(300);
/// By how much of all the count of turns may differ from that of requests: more, and connections
/// carry several at once.
const TOLERANCE: f64 = 0.02;

/// Where times are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the client application's own socket.
    Client,
    /// At the server application's own socket.
    Server,
    /// At the wire's end of the client's proxy.
    WireClient,
    /// At the wire's end of the server's proxy.
    WireServer,
    /// Behind the client's proxy, as that says.
    Upstream,
}

const PLACES: [Place; 5] = [
    Place::Client,
    Place::Server,
    Place::WireClient,
    Place::WireServer,
    Place::Upstream,
];

/// Times of an edge.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    since: Monotonic,
    current: Period,
    /// The last before in which there was something.
    previous: Period,
    /// Applications' sockets have a proxy at the other end.
    proxied: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Period([Sum; PLACES.len()]);

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    nanoseconds: u64,
}

/// Turns of a connection that were already counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    count: u64,
    nanoseconds: u64,
}

// === impl Turns ===

impl Turns {
    /// Those that came since the last time, and nanoseconds they took.
    pub(super) fn advance(&mut self, transfer: &Transfer) -> (u64, u64) {
        let told = (transfer.turns, transfer.turn_nanoseconds);
        let more = (
            told.0.saturating_sub(self.count),
            told.1.saturating_sub(self.nanoseconds),
        );
        (self.count, self.nanoseconds) = told;
        more
    }
}

// === impl Latency ===

impl Latency {
    pub(super) fn add(&mut self, place: Place, count: u64, nanoseconds: u64, now: Monotonic) {
        if now.since(self.since) >= PERIOD {
            self.since = now;
            if self.current.0.iter().any(|sum| sum.count > 0) {
                self.previous = self.current;
            }
            self.current = Period::default();
        }
        if let Some(sum) = self.current.0.get_mut(place as usize) {
            sum.count += count;
            sum.nanoseconds = sum.nanoseconds.saturating_add(nanoseconds);
        }
    }

    /// The applications' sockets that calls are timed at have a proxy at the other end.
    pub(super) fn through_proxies(&mut self) {
        self.proxied = true;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.since = self.since.max(other.since);
        self.proxied |= other.proxied;
        for (own, other) in [
            (&mut self.current, &other.current),
            (&mut self.previous, &other.previous),
        ] {
            for (own, other) in own.0.iter_mut().zip(other.0) {
                own.count += other.count;
                own.nanoseconds = own.nanoseconds.saturating_add(other.nanoseconds);
            }
        }
    }

    fn sum(&self, place: Place) -> Sum {
        let of = |period: &Period| period.0.get(place as usize).copied().unwrap_or_default();
        let (one, other) = (of(&self.current), of(&self.previous));
        Sum {
            count: one.count + other.count,
            nanoseconds: one.nanoseconds.saturating_add(other.nanoseconds),
        }
    }

    /// What is told of it.
    pub(super) fn report(&self) -> report::Latency {
        shares(self.measured(), self.proxied)
    }

    /// All that was measured, but for what tells nothing.
    fn measured(&self) -> Vec<report::Measured> {
        let measured = PLACES.into_iter().filter_map(|place| {
            let sum = self.sum(place);
            let told = match place {
                Place::Client | Place::Server => true,
                Place::WireClient | Place::Upstream => {
                    self.proxied && sum.is_of(self.sum(Place::Client))
                }
                Place::WireServer => self.proxied && sum.is_of(self.sum(Place::Server)),
            };
            (told && sum.count > 0).then(|| report::Measured {
                at: place.as_str(),
                count: sum.count,
                nanoseconds: sum.nanoseconds,
            })
        });
        measured.collect()
    }
}

/// Means, as far as both ends of a share are seen. `proxied` where applications have proxies.
pub(in crate::mesh) fn shares(measured: Vec<report::Measured>, proxied: bool) -> report::Latency {
    let sum = |place: Place| {
        let of = measured.iter().filter(|it| it.at == place.as_str());
        of.fold(Sum::default(), |sum, it| Sum {
            count: sum.count.saturating_add(it.count),
            nanoseconds: sum.nanoseconds.saturating_add(it.nanoseconds),
        })
    };
    let client = sum(Place::Client);
    let server = sum(Place::Server);
    let client_mean = client.mean();
    let server_mean = server.mean();
    let turn = |place, calls: Sum| {
        let turns = sum(place);
        turns.mean().filter(|_| proxied && turns.is_of(calls))
    };
    let wire_client = turn(Place::WireClient, client);
    let wire_server = turn(Place::WireServer, server);
    let less = |whole: Option<f64>, part: Option<f64>| {
        // Means of nearly the same requests: a difference below nothing is one of those that
        // are not the same.
        Some((whole? - part?).max(0.0))
    };
    // What the proxy itself says: whole milliseconds, cut off, so half of one more in the mean.
    let told = turn(Place::Upstream, client)
        .filter(|_| wire_client.is_none())
        .map(|mean| mean + 0.0005);
    report::Latency {
        client: client_mean,
        client_proxy: less(client_mean, wire_client.or(told)),
        wire_client,
        wire_server,
        network: less(wire_client, wire_server),
        server_proxy: less(wire_server, server_mean),
        server: server_mean,
        proxied,
        measured,
    }
}

// === impl Place ===

impl Place {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::WireClient => "wire_client",
            Self::WireServer => "wire_server",
            Self::Upstream => "upstream",
        }
    }
}

// === impl Sum ===

impl Sum {
    /// Seconds; `None` of nothing.
    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.nanoseconds as f64 / self.count as f64 / 1e9)
    }

    /// Whether there are as many as calls.
    fn is_of(self, calls: Self) -> bool {
        let difference = self.count.abs_diff(calls.count) as f64;
        calls.count > 0 && difference <= TOLERANCE * calls.count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    fn latency(sums: &[(Place, u64, u64)]) -> Latency {
        let mut latency = Latency::default();
        latency.through_proxies();
        for (place, count, milliseconds) in sums {
            let nanoseconds = count * milliseconds * MILLISECOND;
            latency.add(*place, *count, nanoseconds, Monotonic(1));
        }
        latency
    }

    fn near(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one - other).abs() < 1e-9)
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let report = latency(&[
            (Place::Client, 100, 20),
            (Place::WireClient, 99, 15),
            (Place::WireServer, 100, 12),
            (Place::Server, 100, 10),
        ])
        .report();
        assert!(near(report.client, 0.020));
        assert!(near(report.client_proxy, 0.005));
        assert!(near(report.network, 0.003));
        assert!(near(report.server_proxy, 0.002));
        assert!(near(report.server, 0.010));
    }

    #[test]
    fn connections_that_carry_several_at_once_tell_nothing() {
        let report = latency(&[
            (Place::Client, 100, 20),
            (Place::WireClient, 60, 15),
            (Place::WireServer, 103, 12),
            (Place::Server, 100, 10),
        ])
        .report();
        assert_eq!(
            (report.wire_client, report.wire_server, report.network),
            (None, None, None)
        );
        assert_eq!((report.client_proxy, report.server_proxy), (None, None));
        assert!(near(report.client, 0.020));
    }

    #[test]
    fn the_proxy_itself_may_tell_its_share() {
        let report = latency(&[(Place::Client, 100, 20), (Place::Upstream, 100, 15)]).report();
        assert!(near(report.client_proxy, 0.0045));
        assert_eq!(report.wire_client, None);
        let report = latency(&[(Place::Client, 100, 20), (Place::Upstream, 50, 15)]).report();
        assert_eq!(report.client_proxy, None);
    }

    #[test]
    fn old_periods_make_room() {
        let mut latency = latency(&[(Place::Server, 10, 10)]);
        let later = Monotonic(1).plus(PERIOD);
        latency.add(Place::Server, 10, 10 * 20 * MILLISECOND, later);
        assert!(near(latency.report().server, 0.015));
        let latest = later.plus(PERIOD);
        latency.add(Place::Server, 10, 10 * 40 * MILLISECOND, latest);
        assert!(near(latency.report().server, 0.030));
    }
}
