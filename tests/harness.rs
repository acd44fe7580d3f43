//! The harness does what it says: real servers, clients, links and witnesses, without an observer.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use observer_tests::{
    cgroup::Cgroup,
    client::{self, Load},
    conversation::{Conversation, Cut},
    flow::port_of,
    hop::{self, Services, Spec},
    link::{Faults, Link},
    namespace::{self, Namespace},
    peers::Peer,
    place::Place,
    process,
    requirement::{Need, lacking},
    server::{PYTHON, Server},
    witness::Witness,
};

#[test]
fn processes_and_sockets_live_where_they_are_put() -> Result<()> {
    if lacking(&[Need::Tool("ip")])? {
        return Ok(());
    }
    let (cgroup, namespace) = (Cgroup::create("place")?, Namespace::create("place")?);
    let path = cgroup.path().to_owned();
    let place = Place::inside(&cgroup, &namespace);
    let own = process::check(place.command("cat")?.arg("/proc/self/cgroup"))?;
    ensure!(
        own.lines()
            .any(|line| line == format!("0::{}", cgroup.relative().unwrap())),
        "{own}"
    );
    // A connection inside of the namespace works, and its port is free outside.
    let mut talk = Conversation::open(&place)?;
    talk.ask(b"question", Cut::EveryByte)?;
    talk.answer(b"answer", Cut::At(2))?;
    let sockets = namespace.run("ss", &["-tnH"])?;
    ensure!(sockets.lines().count() == 2, "{sockets}");
    // ss tells the cgroup of each socket.
    let cgroups = namespace.run("ss", &["-tnH", "--cgroup"])?;
    ensure!(
        cgroups.matches(&cgroup.relative()?).count() == 2,
        "{cgroups}"
    );
    talk.close_by_client()?;
    let mut sleeper = process::Process::spawn(place.command("sleep")?.arg("60"))?;
    drop(cgroup);
    ensure!(!path.exists(), "the cgroup stays");
    sleeper.wait(std::time::Duration::from_secs(2))?;
    Ok(())
}

#[test]
fn raw_sockets_reset_and_send_with_the_handshake() -> Result<()> {
    if lacking(&[])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("raw")?;
    let place = Place::host(&cgroup);
    Conversation::open(&place)?.reset_by_client()?;
    Conversation::open(&place)?.reset_by_server()?;
    let mut talk = Conversation::open_with_data(&place, b"early")?;
    talk.answer(b"late", Cut::Seeded(3))?;
    talk.close_by_server()
}

#[test]
fn namespaces_are_joined() -> Result<()> {
    if lacking(&[Need::Tool("ip")])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("joined")?;
    let (left, right) = (Namespace::create("a")?, Namespace::create("b")?);
    namespace::join(
        (&left, &["10.1.0.1/24", "fd01::1/64"]),
        (&right, &["10.1.0.2/24", "fd01::2/64"]),
    )?;
    for address in ["10.1.0.2:7000", "[fd01::2]:7000"] {
        let address: SocketAddr = address.parse()?;
        let listener = Place::inside(&cgroup, &right).listen(address)?;
        let client = Place::inside(&cgroup, &left).connect(address)?;
        let (server, from) = listener.accept()?;
        ensure!(from == client.local_addr()?, "{server:?}");
    }
    Ok(())
}

#[test]
fn servers_answer_and_clients_count() -> Result<()> {
    if lacking(&["nginx", "curl", "wrk", "ab", "node", PYTHON].map(Need::Tool))? {
        return Ok(());
    }
    let cgroup = Cgroup::create("servers")?;
    let place = Place::host(&cgroup);
    let nginx = Server::nginx(&place)?;
    for (path, status, bytes) in [
        ("/hello", 200, 12),
        ("/64k", 200, 64 << 10),
        ("/10m", 200, 10 << 20),
        ("/chunked", 200, 64 << 10),
        ("/redirect", 302, 138),
        ("/missing", 404, 146),
        ("/error", 500, 7),
        ("/empty", 204, 0),
        ("/users/17", 200, 7),
    ] {
        let fetched = client::curl(&place, &[&nginx.url(path)])?;
        let (found, size) = (fetched.status, fetched.response_body_bytes);
        if path == "/redirect" || path == "/missing" {
            ensure!(found == status, "{path}: {fetched:?}");
        } else {
            ensure!((found, size) == (status, bytes), "{path}: {fetched:?}");
        }
    }
    let before = nginx.handled()?;
    let load = Load {
        address: nginx.address(),
        targets: &["/hello", "/64k", "/missing"],
        connections: 3,
        rounds: 10,
        pipelined: 3,
    };
    let counted = load.run(&place)?;
    ensure!(
        counted.statuses.values().sum::<u64>() == load.requests(),
        "{counted:?}"
    );
    ensure!(counted.statuses[&404] == 30, "{counted:?}");
    let counted = client::ab(&place, &nginx.url("/hello"), 200, 4, false)?;
    ensure!(
        counted.statuses[&200] == 200 && counted.body_bytes == 200 * 12,
        "{counted:?}"
    );
    let counted = client::ab(&place, &nginx.url("/hello"), 200, 4, true)?;
    ensure!(counted.statuses[&200] == 200, "{counted:?}");
    ensure!(client::wrk(&place, &nginx.url("/hello"), 8, 1000, 1, 2)? == 1000);
    ensure!(client::wrk(&place, &nginx.url("/hello"), 8, 1000, 16, 2)? == 16000);
    let handled = nginx.handled()?.requests - before.requests;
    ensure!(
        handled == 90 + 200 + 200 + 1000 + 16000 + 1,
        "nginx handled {handled}"
    );

    let python = Server::python(&place, &[])?;
    for (arguments, status, bytes) in [
        (&["/hello"][..], 200, 12),
        (&["/chunked"], 200, 41_011),
        (&["/close"], 200, 5000),
        (&["/empty"], 204, 0),
        (&["/unchanged"], 304, 0),
        (&["/hello", "--head"], 200, 0),
        (&["/stored", "--data", "abc"], 200, 7),
        (
            &[
                "/stored",
                "--data",
                "abc",
                "--header",
                "Expect: 100-continue",
            ],
            200,
            7,
        ),
        (&["/slow/50"], 200, 5),
        (&["/reset"], 0, 0),
    ] {
        let url = python.url(arguments[0]);
        let fetched = client::curl(&place, &[&[url.as_str()], &arguments[1..]].concat())?;
        let found = (fetched.status, fetched.response_body_bytes);
        ensure!(found == (status, bytes), "{arguments:?}: {fetched:?}");
    }
    let node = Server::node(&place, &[])?;
    for (path, bytes) in [("/hello", 12), ("/chunked", 41_011)] {
        let fetched = client::curl(&place, &[&node.url(path)])?;
        ensure!(
            fetched.status == 200 && fetched.response_body_bytes == bytes,
            "{fetched:?}"
        );
    }
    Ok(())
}

#[test]
fn a_lossy_link_carries_everything_in_the_end() -> Result<()> {
    if lacking(&[Need::Tool("ip"), Need::Tun])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("lossy")?;
    let link = Link::create(
        11,
        Faults {
            dropped: 20,
            duplicated: 20,
            reordered: 50,
        },
    )?;
    let address = SocketAddr::from((Link::RIGHT, 7000));
    let listener = Place::inside(&cgroup, link.right()).listen(address)?;
    let mut talk = Conversation::accept(
        &Place::inside(&cgroup, link.left()),
        &listener,
        Default::default(),
    )?;
    let bytes: Vec<u8> = (0..1 << 20)
        .map(|number: u32| (number % 251) as u8)
        .collect();
    talk.ask(&bytes, Cut::Whole)?;
    talk.answer(&bytes, Cut::Whole)?;
    talk.close_by_client()?;
    let suffered = link.finish()?;
    let Faults {
        dropped,
        duplicated,
        reordered,
    } = suffered.faults;
    ensure!(
        dropped > 5 && duplicated > 5 && reordered > 5,
        "{suffered:?}"
    );
    Ok(())
}

#[test]
fn witnesses_see_connections() -> Result<()> {
    if lacking(&["tcplife", "tcpstates", "unshare", "stdbuf"].map(Need::Tool))? {
        return Ok(());
    }
    let cgroup = Cgroup::create("witness")?;
    let place = Place::host(&cgroup);
    let (lives, states) = (Witness::start("tcplife")?, Witness::start("tcpstates")?);
    let mut talk = Conversation::open(&place)?;
    let (client, server) = talk.ports()?;
    talk.answer(&[b'x'; 5000], Cut::Whole)?;
    talk.close_by_client()?;
    let life = observer_tests::wait::until("tcplife", observer_tests::wait::PATIENCE, || {
        Ok(lives
            .lives()?
            .into_iter()
            .find(|life| life.local.1 == client))
    })?;
    ensure!(
        life.remote.1 == server && life.received_kibibytes == 4.88,
        "{life:?}"
    );
    let changes = states.changes()?;
    let own = changes
        .iter()
        .filter(|change| change.local == client)
        .count();
    ensure!(own >= 3, "{changes:?}");
    states.stop()?;
    lives.stop()?;
    port_of("127.0.0.1:80").context("a port")?;
    Ok(())
}

#[test]
fn services_ask_each_other_and_write_it_down() -> Result<()> {
    let needs = ["nginx", "node"].map(Need::Tool);
    if lacking(&needs)? || lacking(&[Need::Peer(Peer::Python)])? {
        return Ok(());
    }
    let cgroup = Cgroup::create("hops")?;
    let place = Place::host(&cgroup);
    let services = Services::new()?;
    let address =
        || -> Result<SocketAddr> { Ok(SocketAddr::from(([127, 0, 0, 1], place.free_port()?))) };
    let (front, first, second, third) = (address()?, address()?, address()?, address()?);
    let named = |name, next| Spec {
        name,
        next,
        forward: true,
        ..Spec::default()
    };
    let end = format!("grpc://{third}");
    let _third = services.rpc(&place, third, named("third", &[]))?;
    let _second = services.node(&place, second, named("second", &[]))?;
    let next = [format!("http://{second}"), end];
    let _first = services.python(&place, first, named("first", &next))?;
    let _front = Services::nginx(&place, front, first)?;
    let url = format!("http://{front}");
    for (first, pipelined) in [("a", 1), ("b", 4)] {
        let options = serde_json::json!({
            "url": url, "first": first, "count": 8, "threads": 2, "pipelined": pipelined,
            "headers": true,
        });
        let asked = hop::ask(&place, &options)?;
        ensure!(asked.len() == 16, "{asked:?}");
        let handled = services.handled()?;
        for asked in asked {
            let ident = asked.path.replace("/hop/", "");
            let context = format!("00-{}-{}-01", asked.trace, asked.span);
            for (service, path, calls) in [
                (
                    "first",
                    format!("/hop/{ident}_0"),
                    vec![
                        format!("/hop/{ident}_0_0"),
                        format!("/observer.test.Echo/Phase{ident}_0_1"),
                    ],
                ),
                ("second", format!("/hop/{ident}_0_0"), Vec::new()),
                (
                    "third",
                    format!("/observer.test.Echo/Phase{ident}_0_1"),
                    Vec::new(),
                ),
            ] {
                let lines: Vec<_> = handled.iter().filter(|one| one.path == path).collect();
                ensure!(lines.len() == 1, "{path}: {lines:?}");
                ensure!(
                    lines[0].service == service && lines[0].calls == calls,
                    "{lines:?}"
                );
                ensure!(lines[0].traceparent.as_ref() == Some(&context), "{lines:?}");
                ensure!(
                    lines[0].started >= asked.started || service == "second",
                    "{lines:?}"
                );
            }
        }
    }
    Ok(())
}
