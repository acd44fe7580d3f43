//! Tests of the stream: a hub and agents over loopback, and all that can go wrong between them.

pub(crate) mod authority;
mod place;

use std::time::Duration;

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use self::{
    authority::Authority,
    place::{
        Agent, Making, PATIENCE, Server, api, ask, authenticator, client_of, gone, impostor,
        options, pod,
    },
};
use super::{
    PATH, PROTOCOL, client, codec,
    counters::{Refused, get},
    message::{self, Batch, Change as ChangeMessage, Content, Frame, Hello},
    server::Options,
    store::Limits,
};
use crate::{
    cluster::object::{Change, Kind, Object, PodObject, Subject},
    listen,
};

#[tokio::test]
async fn agents_know_what_the_hub_knows() {
    let server = Server::with(&["a", "b"]).await;
    let mut agents: Vec<Agent> = (0..5)
        .map(|_| Agent::start(options(server.url())))
        .collect();
    for agent in &mut agents {
        agent.knows(&["a", "b"]).await;
    }
    server.tell(vec![pod("c"), gone("a")]);
    for agent in &mut agents {
        agent.knows(&["b", "c"]).await;
        assert_eq!(agent.begins, 1, "deltas, not another snapshot");
    }
    let counters = server.hub.counters();
    assert_eq!(get(&counters.agents), 5);
    assert_eq!(get(&counters.snapshots), 5);
    assert_eq!(get(&counters.encoded), 1, "encoded once for all");
    for agent in agents {
        assert!(agent.status.is_connected());
        assert!(agent.status.is_synced());
        assert_eq!(agent.status.revision(), server.hub.store().revision());
        let kinds = agent.status.kinds();
        assert!(
            kinds
                .iter()
                .all(|kind| kind.age >= Some(Duration::from_secs(2)))
        );
        agent.end().await;
    }
    server.stop().await;
    assert_eq!(get(&counters.agents), 0);
}

#[tokio::test]
async fn the_task_of_the_hub_gathers_changes() {
    let server = Server::with(&[]).await;
    let (changes, received) = tokio::sync::mpsc::channel(1);
    let hub = server.hub.clone();
    let gathering = tokio::spawn(async move { hub.gather(received).await });
    let mut agent = Agent::start(options(server.url()));
    for name in ["a", "b", "c"] {
        let batch = (crate::cluster::object::Source::Cluster, vec![pod(name)]);
        changes.send(batch).await.unwrap();
    }
    agent.knows(&["a", "b", "c"]).await;
    drop(changes);
    gathering.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn batches_for_the_index_are_bounded() {
    let names: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = Server::with(&names).await;
    let mut agent = Agent::start(client::Options {
        batch: 7,
        ..options(server.url())
    });
    agent.knows(&names).await;
    assert_eq!(agent.largest, 7);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_keeps_what_it_knows_while_the_hub_is_away_and_sweeps_when_it_is_back() {
    let server = Server::with(&["a", "b"]).await;
    let address = server.address;
    let mut agent = Agent::start(options(server.url()));
    agent.knows(&["a", "b"]).await;
    server.stop().await;
    agent.complains("cannot connect").await;
    assert!(!agent.status.is_connected());
    assert!(agent.status.is_synced());
    assert_eq!(agent.names(), ["a", "b"]);

    // Another run knows nothing of revisions before.
    let server = Making {
        address: Some(address),
        ..Making::default()
    }
    .start()
    .await;
    agent.complains("does not know the whole cluster yet").await;
    assert_eq!(agent.names(), ["a", "b"]);
    server.sync(&["b", "c"]);
    agent.knows(&["b", "c"]).await;
    let counted = agent.status.counted();
    assert_eq!((counted.snapshots, counted.resumed), (2, 0));
    assert!(get(&server.hub.counters().snapshots) == 1);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_comes_back_goes_on_where_it_was() {
    let server = Making {
        options: Options {
            lifetime: Duration::from_millis(100),
            ..Options::default()
        },
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let mut agent = Agent::start(options(server.url()));
    agent
        .until(|agent| agent.status.counted().resumed >= 3)
        .await;
    server.tell(vec![pod("b")]);
    agent.knows(&["a", "b"]).await;
    agent
        .until(|agent| agent.status.counted().resumed >= 6)
        .await;
    let counted = agent.status.counted();
    assert_eq!((counted.snapshots, counted.failures), (1, 0));
    assert_eq!(agent.begins, 1);
    let counters = server.hub.counters();
    assert_eq!(get(&counters.snapshots), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_was_away_for_too_long_takes_a_snapshot() {
    let server = Making {
        options: Options {
            lifetime: Duration::from_millis(100),
            limits: Limits {
                log_entries: 2,
                ..Limits::default()
            },
            ..Options::default()
        },
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let mut agent = Agent::start(client::Options {
        // Away for long enough that all of the following happens meanwhile.
        least_wait: Duration::from_millis(800),
        most_wait: Duration::from_millis(800),
        ..options(server.url())
    });
    agent.knows(&["a"]).await;
    agent.until(|agent| !agent.status.is_connected()).await;
    for name in ["b", "c", "d"] {
        server.tell(vec![pod(name)]);
    }
    server.tell(vec![gone("a")]);
    agent.knows(&["b", "c", "d"]).await;
    assert_eq!(agent.begins, 2);
    assert_eq!(get(&server.hub.counters().behind), 0);
    server.stop().await;
}

/// A request that is sent, and a response that is not read.
async fn idler(server: &Server) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let request = format!("GET {PATH}?protocol={PROTOCOL} HTTP/1.1\r\nhost: hub\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A pod whose name does not deflate.
fn noise(seed: u64) -> Change {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let name: String = (0..20_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'!' + (state % 90) as u8)
        })
        .collect();
    Change::Set(Object::Pod(PodObject {
        uid: format!("noise-{}", seed % 4).into(),
        name: name.into(),
        ..PodObject::default()
    }))
}

#[tokio::test]
async fn an_agent_that_is_slow_starts_over_and_the_hub_keeps_nothing_for_it() {
    let server = Making {
        options: Options {
            limits: Limits {
                log_entries: 8,
                ..Limits::default()
            },
            ..Options::default()
        },
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let stream = idler(&server).await;
    let counters = server.hub.counters();
    while get(&counters.agents) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Much more than sockets take.
    for seed in 0..1_000 {
        server.tell(vec![noise(seed)]);
        if seed % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (entries, sent) = (server.hub.store().tables()[1].entries, get(&counters.bytes));
    assert_eq!(entries, 8);
    assert!(sent < 10 << 20, "{sent} bytes for somebody who reads none");
    // It reads again: what comes leads to what is.
    let reading = async {
        let mut stream = stream;
        let mut buffer = vec![0; 65_536];
        while get(&counters.behind) == 0 {
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
        }
        stream
    };
    let stream = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert!(get(&counters.snapshots) >= 2);
    drop(stream);
    server.stop().await;
    assert_eq!(get(&counters.agents), 0);
}

#[tokio::test]
async fn an_agent_that_takes_nothing_for_too_long_is_let_go() {
    let server = Making {
        listener: listen::Options {
            stall_timeout: Duration::from_millis(100),
            ..listen::Options::default()
        },
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let _stream = idler(&server).await;
    let counters = server.hub.counters();
    let stalling = async {
        let mut seed = 0;
        while get(&counters.stalled) == 0 {
            seed += 1;
            server.tell(vec![noise(seed)]);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while get(&counters.agents) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stalling).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn there_are_only_so_many_agents_and_connections() {
    let server = Making {
        options: Options {
            agents: 1,
            ..Options::default()
        },
        listener: listen::Options {
            connections: 2,
            ..listen::Options::default()
        },
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let mut first = Agent::start(options(server.url()));
    first.knows(&["a"]).await;
    let mut second = Agent::start(options(server.url()));
    second.complains("as many agents as it may").await;
    second.end().await;
    let counters = server.hub.counters();
    assert!(counters.refused(Refused::TooManyAgents) >= 1);
    let _idle = TcpStream::connect(server.address).await.unwrap();
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(
        matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)),
        "closed"
    );
    assert_eq!(counters.refused(Refused::TooManyConnections), 1);
    server.stop().await;
}

const TOKENS: &[(&str, &str, &str)] = &[
    (
        "good",
        "system:serviceaccount:observer:agent",
        "observer-hub",
    ),
    (
        "other-account",
        "system:serviceaccount:shop:web",
        "observer-hub",
    ),
    (
        "other-audience",
        "system:serviceaccount:observer:agent",
        "vault",
    ),
    ("no-audience", "system:serviceaccount:observer:agent", ""),
];

#[tokio::test]
async fn only_tokens_of_the_account_and_for_the_hub_are_taken() {
    let server = Making {
        authenticator: authenticator(api(TOKENS).await),
        ..Making::default()
    }
    .start()
    .await;
    // Not ready: an answer of 503 means that the token was taken.
    let check = async |header: &str| {
        let path = format!("{PATH}?protocol={PROTOCOL}");
        ask(server.address, &path, header).await
    };
    let (status, text) = check("").await;
    assert_eq!(status, 401);
    assert!(text.contains("www-authenticate: Bearer"), "{text}");
    assert_eq!(check("authorization: Basic good\r\n").await.0, 401);
    assert_eq!(check("authorization: Bearer expired\r\n").await.0, 401);
    assert_eq!(
        check("authorization: Bearer other-audience\r\n").await.0,
        401
    );
    assert_eq!(check("authorization: Bearer no-audience\r\n").await.0, 401);
    let (status, text) = check("authorization: Bearer other-account\r\n").await;
    assert_eq!(status, 403);
    assert!(
        text.contains("service account agent in namespace observer"),
        "{text}"
    );
    let counters = server.hub.counters();
    let asked = get(&counters.reviews);
    for _ in 0..3 {
        assert_eq!(check("authorization: bearer good\r\n").await.0, 503);
    }
    assert_eq!(get(&counters.reviews), asked + 1, "asked once");
    assert_eq!(counters.refused(Refused::NoToken), 2);
    assert_eq!(counters.refused(Refused::BadToken), 3);
    assert_eq!(counters.refused(Refused::WrongAccount), 1);
    assert_eq!(counters.refused(Refused::NotReady), 3);
    server.stop().await;
}

#[tokio::test]
async fn while_tokens_cannot_be_checked_nobody_is_served_and_nobody_is_blamed() {
    let server = Making {
        // Nobody listens there.
        authenticator: authenticator(client_of("http://127.0.0.1:9")),
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let path = format!("{PATH}?protocol={PROTOCOL}");
    let (status, text) = ask(server.address, &path, "authorization: Bearer good\r\n").await;
    assert_eq!(status, 503, "{text}");
    assert_eq!(server.hub.counters().refused(Refused::NoReview), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_reads_its_token_anew() {
    let server = Making {
        authenticator: authenticator(api(TOKENS).await),
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "expired\n").unwrap();
    let mut agent = Agent::start(client::Options {
        token: Some(file.path().to_owned()),
        ..options(server.url())
    });
    agent.complains("401: the token is not valid").await;
    assert!(agent.names().is_empty());
    std::fs::write(file.path(), "good\n").unwrap();
    agent.knows(&["a"]).await;
    assert_eq!(agent.status.error(), "");
    std::fs::write(file.path(), "").unwrap();
    server.stop().await;
    agent.complains("does not hold a token").await;
    assert_eq!(agent.names(), ["a"]);
}

#[tokio::test]
async fn over_tls_the_hub_must_be_who_it_says() {
    let authority = Authority::create();
    let server = Making {
        files: Some(authority.sign("hub")),
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let over_tls = |authorities: Option<std::path::PathBuf>, host: &str| client::Options {
        authorities,
        ..options(format!("https://{host}:{}", server.address.port()))
    };
    let known = Some(authority.certificate());
    let mut agent = Agent::start(over_tls(known.clone(), "127.0.0.1"));
    agent.knows(&["a"]).await;
    server.tell(vec![pod("b")]);
    agent.knows(&["a", "b"]).await;

    let stranger = Authority::create();
    let mut wary = Agent::start(over_tls(Some(stranger.certificate()), "127.0.0.1"));
    wary.complains("certificate").await;
    let mut misled = Agent::start(over_tls(known, "localhost"));
    misled.complains("certificate").await;
    let mut trusting = Agent::start(over_tls(None, "127.0.0.1"));
    trusting.complains("https needs a file").await;
    let mut plain = Agent::start(options(server.url()));
    plain
        .until(|agent| agent.status.counted().failures > 0)
        .await;
    for agent in [&wary, &misled, &trusting, &plain] {
        assert!(agent.names().is_empty());
        assert!(!agent.status.is_synced());
    }
    assert!(server.hub.counters().refused(Refused::Handshake) >= 2);
    server.stop().await;
}

fn hello(protocol: u32) -> Vec<u8> {
    let hello = Hello {
        protocol,
        epoch: 5,
        resumed: false,
    };
    codec::encode(Content::Hello(hello)).unwrap().to_vec()
}

fn batch(revision: u64, changes: Vec<bytes::Bytes>) -> Vec<u8> {
    let batch = Batch { revision, changes };
    codec::encode(Content::Batch(batch)).unwrap().to_vec()
}

fn set(name: &str) -> bytes::Bytes {
    let Change::Set(object) = pod(name) else {
        panic!("not an object")
    };
    message::encode_object(&object)
}

/// A message as a frame of its own, not deflated.
fn raw(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

#[tokio::test]
async fn garbage_ends_the_stream_and_what_was_known_stays() {
    let good = [
        hello(PROTOCOL),
        batch(
            3,
            vec![
                message::encode_begin(Subject::Kind(Kind::Pod)),
                set("a"),
                message::encode_complete(Subject::Kind(Kind::Pod)),
            ],
        ),
    ]
    .concat();
    let mut cut = good.clone();
    cut.extend_from_slice(&[0, 0, 0, 0, 50, 1, 2]);
    let bodies = vec![
        (b"<html>welcome</html>".to_vec(), true),
        (
            [hello(PROTOCOL), vec![0, 255, 255, 255, 255]].concat(),
            true,
        ),
        (
            [hello(PROTOCOL), vec![1, 0, 0, 0, 2, 255, 255]].concat(),
            true,
        ),
        ([hello(PROTOCOL), raw(&[0xff; 20])].concat(), true),
        (batch(9, vec![set("uninvited")]), true),
        (hello(PROTOCOL + 1), true),
        (Vec::new(), true),
        (cut, true),
        ([hello(PROTOCOL), raw(&[0xff; 20])].concat(), true),
    ];
    let failing = bodies.len() as u64 - 2;
    let (url, impostor) = impostor(bodies).await;
    let mut agent = Agent::start(options(url));
    agent
        .until(|agent| agent.status.counted().failures >= failing && agent.names() == ["a"])
        .await;
    agent
        .until(|agent| agent.status.counted().failures >= failing + 3)
        .await;
    assert_eq!(agent.names(), ["a"]);
    assert_eq!(agent.status.counted().malformed, 0);
    agent.end().await;
    impostor.abort();
}

#[tokio::test]
async fn what_a_later_hub_says_is_understood_as_far_as_it_goes() {
    // Frame 12, and a heartbeat with field 30 and a kind 9.
    let frame = raw(&[0x62, 3, 8, 1, 16]);
    let heartbeat = raw(&[0x1a, 9, 8, 7, 0x12, 2, 8, 9, 0xf0, 1, 1]);
    let mut later_pod = set("b").to_vec();
    // Another field behind the pod, number 100.
    later_pod.extend_from_slice(&[0xa0, 6, 1]);
    let kind = ChangeMessage {
        changed: Some(message::Changed::Begin(9)),
    };
    let changes = vec![
        message::encode_begin(Subject::Kind(Kind::Pod)),
        kind.encode_to_vec().into(),
        // A change 60.
        vec![0xe2, 3, 1, 0].into(),
        set("a"),
        // An address of three bytes, in field 4 of a pod.
        vec![0x22, 5, 0x22, 3, 1, 2, 3].into(),
        later_pod.into(),
        message::encode_complete(Subject::Kind(Kind::Pod)),
    ];
    let body = [hello(PROTOCOL), frame.clone(), heartbeat, batch(4, changes)].concat();
    assert!(Frame::decode(&frame[5..]).unwrap().content.is_none());
    let (url, impostor) = impostor(vec![(body, false)]).await;
    let mut agent = Agent::start(options(url));
    agent.knows(&["a", "b"]).await;
    agent.until(|agent| agent.status.revision() == 4).await;
    let counted = agent.status.counted();
    assert_eq!((counted.unknown, counted.malformed), (2, 1));
    assert!(agent.status.is_connected());
    agent.end().await;
    impostor.abort();
}

#[tokio::test]
async fn a_hub_that_says_nothing_is_left() {
    let (url, impostor) = impostor(vec![(hello(PROTOCOL), false)]).await;
    let mut agent = Agent::start(client::Options {
        idle_timeout: Duration::from_millis(50),
        ..options(url)
    });
    agent.complains("says nothing").await;
    agent
        .until(|agent| agent.status.counted().connects >= 2)
        .await;
    agent.end().await;
    impostor.abort();
}

#[tokio::test]
async fn heartbeats_keep_a_quiet_stream_alive() {
    let server = Making {
        options: Options {
            heartbeat: Duration::from_millis(20),
            ..Options::default()
        },
        ..Making::default()
    }
    .start()
    .await;
    server.sync(&["a"]);
    let mut agent = Agent::start(client::Options {
        idle_timeout: Duration::from_millis(1_000),
        ..options(server.url())
    });
    agent
        .until(|agent| agent.status.counted().frames > 50)
        .await;
    let counted = agent.status.counted();
    assert_eq!((counted.connects, counted.failures), (1, 0));
    assert!(agent.status.silence() < Some(Duration::from_secs(1)));
    server.stop().await;
}

#[tokio::test]
async fn requests_that_are_none_are_told_so() {
    let server = Server::with(&["a"]).await;
    for query in [
        "",
        "?protocol=2",
        "?protocol=1&epoch=x",
        "?protocol=1&revision=-1",
    ] {
        let (status, text) = ask(server.address, &format!("{PATH}{query}"), "").await;
        assert_eq!(status, 400, "{query}: {text}");
    }
    assert_eq!(server.hub.counters().refused(Refused::BadRequest), 4);
    server.stop().await;
}

#[tokio::test]
async fn urls_that_cannot_be_used_are_named() {
    for url in [
        "",
        "hub:9921",
        "ftp://hub",
        "http://hub/path",
        "https://hub?a=b",
    ] {
        let mut agent = Agent::start(options(url.to_owned()));
        agent.complains("cannot be used: write http").await;
    }
}
