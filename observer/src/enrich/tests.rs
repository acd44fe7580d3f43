//! Connections and exchanges in, links and calls out.

mod cluster;

use super::*;
use crate::{
    host::{self, Host},
    model::{
        call::LinkEvent,
        connection::{
            Closed, ClosedBy, ConnectFailure, Connection, ConnectionEvent, Owner, Transfer,
        },
        exchange::{HttpVersion, Outcome, Side},
        lookup::{Answer, Lookup, LookupOutcome, Target, Transport},
        rpc::{Messages, Rpc, RpcEnd, RpcSystem},
        security::{Handshake, Opening, Security},
        workload::{NameSource, Peer},
    },
};

/// A host without processes: workloads are named by what the kernel said.
fn empty_host() -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    let config = host::Config {
        proc_root: folder.path().join("proc"),
        cgroup_root: folder.path().join("cgroup"),
        ..host::Config::default()
    };
    let host = Host::new(config);
    (folder, host)
}

struct Bench {
    _folder: tempfile::TempDir,
    host: Host,
    enricher: Enricher,
}

impl Bench {
    fn new(config: Config) -> Self {
        let (folder, host) = empty_host();
        Self {
            _folder: folder,
            host,
            enricher: Enricher::new(config),
        }
    }

    fn event(&mut self, event: ConnectionEvent, now: u64) -> Option<LinkEvent> {
        self.enricher.connection(event, &mut self.host, at(now))
    }

    fn open(&mut self, connection: &Connection) -> Arc<Link> {
        match self.event(ConnectionEvent::Opened(connection.clone()), 1) {
            Some(LinkEvent::Opened(link)) => link,
            other => panic!("{other:?}"),
        }
    }

    fn close(&mut self, connection: &Connection, now: u64) -> Arc<Link> {
        let connection = connection.clone();
        match self.event(
            ConnectionEvent::Closed {
                connection,
                closed: closed(),
            },
            now,
        ) {
            Some(LinkEvent::Closed { link, .. }) => link,
            other => panic!("{other:?}"),
        }
    }

    fn exchange(&mut self, exchange: Exchange) -> Call {
        self.enricher.exchange(exchange, at(1)).unwrap()
    }

    fn peer(&self, id: u64) -> String {
        match &self.enricher.link(ConnectionId(id)).unwrap().peer {
            Peer::Address(address) => address.to_string(),
            named => named.name().unwrap_or_default().to_owned(),
        }
    }

    fn lost(&self, reason: &str) -> u64 {
        self.enricher
            .losses()
            .iter()
            .find(|loss| loss.reason == reason)
            .unwrap()
            .count
    }
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(seconds * 1_000_000_000)
}

fn closed() -> Closed {
    Closed {
        at: at(9),
        by: ClosedBy::Local,
        reset: false,
        transfer: Transfer::default(),
    }
}

fn connection(id: u64, role: Role, local: &str, remote: &str, command: &str) -> Connection {
    Connection {
        id: ConnectionId(id),
        role,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        wire: None,
        owner: Owner {
            pid: 0,
            command: command.into(),
            ..Owner::default()
        },
        started: at(1),
        established: None,
        sequences: None,
        pre_existing: true,
    }
}

const CLIENT: &str = "127.0.0.1:50000";
const SERVER: &str = "127.0.0.1:80";

/// Both ends of one connection, told apart by their sequence numbers.
fn ends() -> (Connection, Connection) {
    let client = Connection {
        sequences: Some((7, 9)),
        ..connection(1, Role::Client, CLIENT, SERVER, "curl")
    };
    let server = Connection {
        sequences: Some((9, 7)),
        ..connection(2, Role::Server, SERVER, CLIENT, "nginx")
    };
    (client, server)
}

fn head(path: &str) -> Arc<RequestHead> {
    Arc::new(RequestHead {
        method: "GET".into(),
        path: path.into(),
        has_query: false,
        scheme: None,
        authority: "".into(),
        user_agent: "".into(),
        version: HttpVersion::Http11,
        truncated: false,
    })
}

fn exchange(id: u64, role: Role, head: &Arc<RequestHead>) -> Exchange {
    Exchange {
        connection: ConnectionId(id),
        role,
        ordinal: 0,
        request: head.clone(),
        sent: Side {
            first: at(2),
            last: at(2),
            ..Side::default()
        },
        status: Some(404),
        response_version: Some(HttpVersion::Http11),
        received: Some(Side {
            first: at(3),
            last: at(3),
            ..Side::default()
        }),
        stream: None,
        pushed: false,
        reset: None,
        rpc: None,
        outcome: Outcome::Complete,
        ended: at(3),
        hop: (7, 9),
        context: None,
        cause: None,
        forwarded: None,
    }
}

/// A lookup that a process named `command` made, and that led to `address`.
fn lookup(command: &str, name: &str, address: &str) -> Lookup {
    Lookup {
        socket: ConnectionId(99),
        owner: Owner {
            command: command.into(),
            ..Owner::default()
        },
        role: Role::Client,
        transport: Transport::Udp,
        local: "10.0.0.1:40000".parse().unwrap(),
        remote: "10.96.0.10:53".parse().unwrap(),
        name: name.into(),
        kind: 1,
        class: 1,
        outcome: LookupOutcome::Answered,
        code: Some(0),
        sent: at(1),
        ended: at(1),
        retries: 0,
        answers: [Answer {
            name: name.into(),
            ttl: 1,
            target: Target::Address(address.parse().unwrap()),
        }]
        .into(),
    }
}

#[test]
fn lookups_name_peers() {
    let mut bench = Bench::new(Config::default());
    let learn = |bench: &mut Bench, lookup| {
        bench
            .enricher
            .lookup(lookup, &mut bench.host, at(1))
            .unwrap()
    };
    let found = learn(&mut bench, lookup("curl", "db.shop", "192.0.2.5"));
    assert_eq!(&*found.workload.service, "curl");
    assert_eq!(found.peer, Peer::Address("10.96.0.10".parse().unwrap()));
    let mut failed = lookup("curl", "other.shop", "192.0.2.6");
    failed.code = Some(2);
    learn(&mut bench, failed);
    let mut served = lookup("dnsmasq", "other.shop", "192.0.2.6");
    served.role = Role::Server;
    learn(&mut bench, served);
    let dialled = |id, remote| connection(id, Role::Client, "10.0.0.1:50000", remote, "curl");
    bench.open(&dialled(1, "192.0.2.5:80"));
    bench.open(&dialled(2, "192.0.2.6:80"));
    assert_eq!(bench.peer(1), "db.shop");
    assert_eq!(bench.peer(2), "192.0.2.6", "no answer to a client");

    let resolver = learn(&mut bench, lookup("curl", "dns.cluster", "10.96.0.10"));
    assert_eq!(resolver.peer.name(), Some("dns.cluster"));
}

#[test]
fn servers_of_this_host_are_known_by_what_they_answered() {
    let mut bench = Bench::new(Config::default());
    let mut at_namespace = |role, local: &str, remote: &str, namespace, seconds| {
        let command = if role == Role::Server {
            "dnsmasq"
        } else {
            "dig"
        };
        let mut found = lookup(command, "db.shop", "192.0.2.5");
        found.role = role;
        found.socket = ConnectionId(100 + u64::from(role == Role::Server));
        found.local = local.parse().unwrap();
        found.remote = remote.parse().unwrap();
        found.owner.network_namespace = namespace;
        let now = at(seconds);
        bench.enricher.expire(now);
        let found = bench.enricher.lookup(found, &mut bench.host, now).unwrap();
        found.peer.service().map(ToOwned::to_owned)
    };
    let known = Some("dnsmasq".to_owned());
    let (client, server) = ("127.0.0.1:4000", "127.0.0.1:53");
    assert_eq!(at_namespace(Role::Client, client, server, 1, 1), None);
    assert_eq!(at_namespace(Role::Server, server, client, 1, 1), None);
    assert_eq!(at_namespace(Role::Client, client, server, 1, 1), known);
    assert_eq!(at_namespace(Role::Client, client, server, 2, 1), None);
    assert_eq!(at_namespace(Role::Client, client, server, 0, 1), None);
    let server = "169.254.20.10:53";
    at_namespace(Role::Server, server, "10.0.0.9:4000", 1, 1);
    assert_eq!(at_namespace(Role::Client, client, server, 2, 1), known);
    assert_eq!(at_namespace(Role::Client, client, server, 2, 100), None);
}

#[test]
fn a_peer_of_this_host_is_no_name() {
    let mut bench = Bench::new(Config::default());
    let (mut client, mut server) = ends();
    client.remote = "192.0.2.5:80".parse().unwrap();
    server.local = client.remote;
    let found = lookup("curl", "db.shop", "192.0.2.5");
    bench.enricher.lookup(found, &mut bench.host, at(1));
    bench.open(&client);
    assert_eq!(bench.peer(1), "db.shop");
    bench.open(&server);
    assert_eq!(
        (bench.peer(1), bench.peer(2)),
        ("nginx".into(), "curl".into())
    );
}

#[test]
fn sequence_numbers_join_both_ends() {
    let (client, server) = ends();
    for (first, second) in [(&client, &server), (&server, &client)] {
        let mut bench = Bench::new(Config::default());
        let before = bench.open(first);
        assert_eq!(before.peer, Peer::Address("127.0.0.1".parse().unwrap()));
        let after = bench.open(second);
        assert!(matches!(after.peer, Peer::Local(_)));
        assert_eq!(
            (bench.peer(1).as_str(), bench.peer(2).as_str()),
            ("nginx", "curl")
        );
        let call = bench.exchange(exchange(1, Role::Client, &head("/")));
        assert_eq!(call.link.peer.service(), Some("nginx"));
    }
}

#[test]
fn sequence_numbers_join_through_address_translation() {
    let mut bench = Bench::new(Config::default());
    let (mut client, mut server) = ends();
    client.remote = "10.96.0.1:80".parse().unwrap();
    server.local = "10.0.0.7:8080".parse().unwrap();
    server.remote = "192.168.1.1:61000".parse().unwrap();
    bench.open(&client);
    bench.open(&server);
    assert_eq!(
        (bench.peer(1).as_str(), bench.peer(2).as_str()),
        ("nginx", "curl")
    );
}

#[test]
fn one_connection_has_two_ends_and_not_more() {
    let mut bench = Bench::new(Config::default());
    let (client, server) = ends();
    bench.open(&client);
    // Same role, or itself (a socket connected to itself): not its other end.
    bench.open(&Connection {
        id: ConnectionId(3),
        role: Role::Client,
        ..server.clone()
    });
    assert_eq!(bench.peer(3), "127.0.0.1");
    let own = Connection {
        sequences: Some((5, 5)),
        id: ConnectionId(4),
        ..client.clone()
    };
    bench.open(&Connection {
        role: Role::Unknown,
        ..own
    });
    assert_eq!(bench.peer(4), "127.0.0.1");
    bench.open(&server);
    assert_eq!(bench.peer(1), "nginx");
    // A third does not take the place of the second.
    bench.open(&Connection {
        id: ConnectionId(5),
        ..server
    });
    assert_eq!(
        (bench.peer(1).as_str(), bench.peer(5).as_str()),
        ("nginx", "127.0.0.1")
    );
}

#[test]
fn addresses_join_older_connections() {
    let mut bench = Bench::new(Config::default());
    bench.open(&connection(1, Role::Unknown, CLIENT, SERVER, "curl"));
    bench.open(&connection(2, Role::Unknown, SERVER, CLIENT, "nginx"));
    assert_eq!(
        (bench.peer(1).as_str(), bench.peer(2).as_str()),
        ("nginx", "curl")
    );

    // Both ends are new and their sequence numbers differ: the addresses are not enough.
    let mut bench = Bench::new(Config::default());
    let (client, server) = ends();
    bench.open(&client);
    bench.open(&Connection {
        sequences: Some((1, 2)),
        ..server.clone()
    });
    assert_eq!(bench.peer(2), "127.0.0.1");
    // One of them is old.
    let mut bench = Bench::new(Config::default());
    bench.open(&client);
    bench.open(&Connection {
        sequences: None,
        ..server
    });
    assert_eq!(bench.peer(2), "curl");
}

#[test]
fn addresses_on_the_wire_join_older_connections() {
    // The client dialled 19001, a redirect made it 19002, where the server listens.
    let client = connection(1, Role::Client, CLIENT, "127.0.0.1:19001", "curl");
    let server = connection(2, Role::Server, "127.0.0.1:19002", CLIENT, "nginx");
    let wire = (CLIENT.parse().unwrap(), "127.0.0.1:19002".parse().unwrap());
    let mut bench = Bench::new(Config::default());
    bench.open(&Connection {
        wire: Some(wire),
        ..client.clone()
    });
    bench.open(&server);
    assert_eq!(bench.peer(2), "curl");

    // It is learned later.
    let mut bench = Bench::new(Config::default());
    bench.open(&client);
    bench.open(&server);
    assert_eq!(bench.peer(1), "127.0.0.1");
    let event = ConnectionEvent::Placed {
        id: ConnectionId(1),
        cgroup: 0,
        wire: Some(wire),
    };
    assert_eq!(bench.event(event, 2), None);
    assert_eq!(
        (bench.peer(1).as_str(), bench.peer(2).as_str()),
        ("nginx", "curl")
    );
    assert_eq!(
        bench
            .enricher
            .link(ConnectionId(1))
            .unwrap()
            .connection
            .wire,
        Some(wire)
    );
}

#[test]
fn equal_addresses_are_told_apart_by_network_namespace_or_not_at_all() {
    let within = |namespace: u64, mut connection: Connection| {
        connection.owner.network_namespace = namespace;
        connection
    };
    let client = |id| connection(id, Role::Client, CLIENT, SERVER, &format!("curl{id}"));
    let server = |id| connection(id, Role::Server, SERVER, CLIENT, &format!("nginx{id}"));
    let mut bench = Bench::new(Config::default());
    bench.open(&within(100, client(1)));
    bench.open(&within(200, client(2)));
    bench.open(&within(300, server(3)));
    assert_eq!(bench.peer(3), "127.0.0.1", "loopback of another namespace");
    bench.open(&within(200, server(4)));
    assert_eq!(
        (bench.peer(4).as_str(), bench.peer(2).as_str()),
        ("curl2", "nginx4")
    );
    assert_eq!(bench.peer(1), "127.0.0.1");

    // Namespaces unknown and two candidates: no guess.
    let mut bench = Bench::new(Config::default());
    bench.open(&client(1));
    bench.open(&client(2));
    bench.open(&server(3));
    assert_eq!(bench.peer(3), "127.0.0.1");
}

#[test]
fn the_other_end_stays_known_after_it_closed() {
    let mut bench = Bench::new(Config::default());
    let (client, server) = ends();
    bench.open(&client);
    bench.open(&server);
    bench.close(&client, 2);
    for now in [2, 3, 100] {
        bench.enricher.expire(at(now));
        assert_eq!(
            bench.enricher.link(ConnectionId(1)).is_some(),
            now < 3,
            "it lingers"
        );
        assert_eq!(bench.peer(2), "curl");
    }
    let call = bench.exchange(exchange(2, Role::Server, &head("/")));
    assert_eq!(call.link.peer.service(), Some("curl"));
    // The other end may also open after this one closed.
    let mut bench = Bench::new(Config::default());
    bench.open(&client);
    bench.close(&client, 2);
    bench.open(&server);
    assert_eq!(bench.peer(2), "curl");
    // Nothing is left behind.
    bench.close(&server, 2);
    bench.enricher.expire(at(60));
    assert_eq!(bench.enricher.tables()[0].entries, 0);
    assert_eq!(bench.enricher.peers.len(), 0);
}

#[test]
fn what_the_end_tells_is_added() {
    let mut bench = Bench::new(Config::default());
    let early = connection(1, Role::Unknown, CLIENT, SERVER, "");
    assert_eq!(&*bench.open(&early).workload.service, "unknown");
    let mut late = early.clone();
    late.role = Role::Client;
    late.owner.command = "curl".into();
    let link = bench.close(&late, 2);
    assert_eq!(
        (link.connection.role, &*link.workload.service),
        (Role::Client, "curl")
    );
    // Never heard of before.
    let link = bench.close(&connection(2, Role::Server, SERVER, CLIENT, "nginx"), 2);
    assert_eq!(&*link.workload.service, "nginx");
    assert_eq!(bench.lost("event_of_unknown_connection"), 1);
    bench.enricher.expire(at(60));
    assert_eq!(bench.enricher.peers.len(), 0);
}

#[test]
fn progress_and_failure() {
    let mut bench = Bench::new(Config::default());
    let (client, _) = ends();
    let transfer = Transfer {
        sent_bytes: 5,
        ..Transfer::default()
    };
    let progress = ConnectionEvent::Progress {
        id: client.id,
        transfer,
    };
    assert_eq!(bench.event(progress.clone(), 1), None);
    assert_eq!(bench.lost("event_of_unknown_connection"), 1);
    let link = bench.open(&client);
    assert_eq!(
        bench.event(progress, 1),
        Some(LinkEvent::Progress { link, transfer })
    );

    let failed = connection(8, Role::Client, CLIENT, "10.0.0.9:81", "curl");
    let failure = ConnectFailure::Refused;
    let event = ConnectionEvent::Failed {
        connection: failed,
        at: at(1),
        failure,
    };
    let Some(LinkEvent::Failed {
        link,
        failure: told,
        ..
    }) = bench.event(event, 1)
    else {
        panic!("no failure");
    };
    assert_eq!((told, &*link.workload.service), (failure, "curl"));
    assert_eq!(link.peer, Peer::Address("10.0.0.9".parse().unwrap()));
    assert!(bench.enricher.link(ConnectionId(8)).is_none());
}

#[test]
fn calls() {
    let mut bench = Bench::new(Config::default());
    let (client, server) = ends();
    bench.open(&client);
    bench.open(&server);
    let head = head("/users/42");
    let call = bench.exchange(exchange(1, Role::Client, &head));
    assert_eq!((&*call.route, call.error), ("/users/{id}", Some("404")));
    assert_eq!(&*call.link.workload.service, "curl");
    let again = bench.exchange(exchange(1, Role::Client, &head));
    assert!(Arc::ptr_eq(&call.route, &again.route) && Arc::ptr_eq(&call.link, &again.link));
    let call = bench.exchange(exchange(2, Role::Server, &head));
    assert_eq!((&*call.route, call.error), ("/users/{id}", None));
    assert_eq!(
        &*bench.enricher.route_of(ConnectionId(2), &head),
        "/users/{id}"
    );
    assert_eq!(&*bench.enricher.route("/a/1"), "/a/{id}");
    assert_eq!(bench.lost("exchange_of_unknown_connection"), 0);
    // A route that is configured later holds for known heads too.
    let routes = vec![RoutePattern::parse("/users/{user}").unwrap()];
    bench.enricher.reconfigure(Config {
        routes,
        ..Config::default()
    });
    let call = bench.exchange(exchange(1, Role::Client, &head));
    assert_eq!(&*call.route, "/users/{user}");
}

#[test]
fn routes_beyond_the_budget_are_counted() {
    let mut bench = Bench::new(Config {
        max_routes: 1,
        ..Config::default()
    });
    bench.open(&ends().0);
    for (path, expected) in [("/a", "/a"), ("/b", "/*"), ("/b", "/*")] {
        let call = bench.exchange(exchange(1, Role::Client, &head(path)));
        assert_eq!(&*call.route, expected);
    }
    let same = head("/c");
    bench.exchange(exchange(1, Role::Client, &same));
    bench.exchange(exchange(1, Role::Client, &same));
    assert_eq!(bench.lost("routes_full"), 4);
}

#[test]
fn an_exchange_shows_the_role() {
    let mut bench = Bench::new(Config::default());
    bench.open(&connection(1, Role::Unknown, SERVER, CLIENT, "nginx"));
    let call = bench.exchange(exchange(1, Role::Server, &head("/")));
    assert_eq!(call.link.connection.role, Role::Server);
    assert_eq!(&*call.link.workload.service, "nginx");
}

#[test]
fn exchanges_without_a_connection_are_kept_and_counted() {
    let mut bench = Bench::new(Config::default());
    let head = head("/x");
    for _ in 0..2 {
        let call = bench.exchange(exchange(1, Role::Client, &head));
        assert_eq!(
            (&*call.link.workload.service, &*call.route),
            ("unknown", "/x")
        );
        assert_eq!(call.link.connection.id, ConnectionId(1));
    }
    assert_eq!(bench.lost("exchange_of_unknown_connection"), 2);
    // Placeholders are nobody's other end, and give way to the real one.
    let (client, server) = ends();
    bench.open(&server);
    bench.open(&client);
    assert_eq!(
        (bench.peer(1).as_str(), bench.peer(2).as_str()),
        ("nginx", "curl")
    );
    bench.exchange(exchange(1, Role::Client, &head));
    assert_eq!(bench.lost("exchange_of_unknown_connection"), 2);
}

#[test]
fn procedures_are_their_own_routes() {
    let mut bench = Bench::new(Config {
        max_routes: 4,
        ..Config::default()
    });
    let rpc = Rpc {
        system: RpcSystem::Grpc,
        end: RpcEnd::Status(13),
        deadline: None,
        requests: Messages::default(),
        responses: Messages::default(),
    };
    let mut call = |path: &str, rpc: Option<&Rpc>| {
        let mut exchange = exchange(1, Role::Server, &head(path));
        exchange.status = Some(200);
        exchange.rpc = rpc.cloned().map(Box::new);
        bench.exchange(exchange)
    };
    // Six words look like the title of a page otherwise.
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let found = call(path, Some(&rpc));
    assert_eq!(&*found.route, path);
    assert_eq!((found.error, found.http_error), (Some("INTERNAL"), None));
    assert_eq!(&*call(path, None).route, "/{slug}/Export");
    assert_eq!(&*call(path, Some(&rpc)).route, path);
    // What is no name is a path like any other, and names have a budget too.
    assert_eq!(&*call("/a b/1234567", Some(&rpc)).route, "/{text}/{id}");
    assert_eq!(&*call("/a.B/C1", Some(&rpc)).route, "/a.B/C1");
    assert_eq!(&*call("/a.B/C2", Some(&rpc)).route, "/*");
}

#[test]
fn connections_are_bounded_and_expire() {
    let config = Config {
        max_connections: 2,
        ..Config::default()
    };
    let idle = config.connection_idle.as_secs();
    let mut bench = Bench::new(config);
    let numbered = |id: u64| {
        connection(
            id,
            Role::Client,
            &format!("127.0.0.1:{}", 1000 + id),
            SERVER,
            "curl",
        )
    };
    bench.open(&numbered(1));
    bench.open(&numbered(2));
    let link = bench.open(&numbered(3));
    assert_eq!(&*link.workload.service, "curl", "named, not remembered");
    assert_eq!(bench.lost("connections_full"), 1);
    let call = bench.exchange(exchange(3, Role::Client, &head("/x")));
    assert_eq!(&*call.link.workload.service, "unknown");
    // A closed one makes room before its time.
    bench.close(&numbered(1), 2);
    bench.open(&numbered(4));
    assert!(bench.enricher.link(ConnectionId(1)).is_none());
    assert!(bench.enricher.link(ConnectionId(4)).is_some());
    assert_eq!(bench.enricher.tables()[0].entries, 2);
    // Those whose end was lost go in the end.
    bench.enricher.expire(at(2));
    let progress = ConnectionEvent::Progress {
        id: ConnectionId(4),
        transfer: Transfer::default(),
    };
    bench.event(progress, idle);
    bench.enricher.expire(at(idle + 2));
    assert!(bench.enricher.link(ConnectionId(2)).is_none());
    assert!(bench.enricher.link(ConnectionId(4)).is_some());
    assert_eq!(bench.lost("connections_idle"), 1);
}

#[test]
fn encryption_is_known_by_what_was_seen_and_where_it_goes() {
    let mut bench = Bench::new(Config::default());
    let client = connection(1, Role::Client, "10.0.0.1:40000", "10.96.0.1:80", "web");
    let link = bench.open(&client);
    assert_eq!(link.security, Security::Unknown);
    assert_eq!(link.mesh, None);

    let recognised = |handshake: Handshake| ConnectionEvent::Recognised {
        id: ConnectionId(1),
        opening: Arc::new(Opening {
            protocol: Some("tls"),
            tls: Some(Arc::new(handshake)),
            ..Opening::default()
        }),
    };
    let link = match bench.event(
        recognised(Handshake {
            alpn_offered: ["h2".into()].into(),
            ..Handshake::default()
        }),
        2,
    ) {
        Some(LinkEvent::Recognised { link, .. }) => link,
        other => panic!("{other:?}"),
    };
    assert_eq!(link.security, Security::Tls);
    assert!(link.opening.is_some());

    // What was dialled is translated to the port of the tunnel.
    let placed = ConnectionEvent::Placed {
        id: ConnectionId(1),
        cgroup: 0,
        wire: Some((
            "10.0.0.1:40000".parse().unwrap(),
            "10.0.0.2:15008".parse().unwrap(),
        )),
    };
    assert_eq!(bench.event(placed, 3), None);
    let link = bench.enricher.link(ConnectionId(1)).unwrap();
    assert_eq!(link.security, Security::Hbone);

    let name = "outbound_.80_._.cart.shop.svc.cluster.local";
    bench.event(
        recognised(Handshake {
            server_name: Some(name.into()),
            ..Handshake::default()
        }),
        4,
    );
    let link = bench.enricher.link(ConnectionId(1)).unwrap();
    assert_eq!(link.security, Security::IstioMutualTls);
    let signs = link.mesh.as_ref().unwrap();
    assert_eq!((signs.subset.as_deref(), signs.port), (Some(""), Some(80)));
    assert_eq!(signs.host.as_deref(), Some("cart.shop.svc.cluster.local"));
}

#[test]
fn a_client_end_and_a_server_end_know_the_servers_port() {
    for (role, local, remote, expected) in [
        (
            Role::Server,
            "10.0.0.2:15008",
            "10.0.0.1:4",
            Security::Hbone,
        ),
        (
            Role::Client,
            "10.0.0.1:4",
            "10.0.0.2:15008",
            Security::Hbone,
        ),
        (Role::Server, "10.0.0.2:4", "10.0.0.1:15008", Security::Tls),
        (Role::Unknown, "10.0.0.2:15008", "10.0.0.1:4", Security::Tls),
    ] {
        let mut bench = Bench::new(Config::default());
        bench.open(&connection(1, role, local, remote, "x"));
        let opening = Opening {
            tls: Some(Arc::new(Handshake {
                alpn_offered: ["h2".into()].into(),
                ..Handshake::default()
            })),
            ..Opening::default()
        };
        let event = ConnectionEvent::Recognised {
            id: ConnectionId(1),
            opening: Arc::new(opening),
        };
        bench.event(event, 2);
        let link = bench.enricher.link(ConnectionId(1)).unwrap();
        assert_eq!(link.security, expected, "{role:?} {local}");
    }
}
