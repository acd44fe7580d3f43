//! Tests of the sender against collectors that misbehave.

pub(crate) mod collector;

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tokio::net::TcpListener;

use self::collector::{Act, Collector, Received, babble};
use super::*;
use crate::{
    cluster::stream::tests::authority::Authority,
    config::{Config, Flags},
    export::otlp::grpc,
};

type Traces = Sender<ExportTraceServiceRequest>;

/// So many spans, each with a name of so many bytes.
pub(crate) fn spans(count: usize, bytes: usize) -> ExportTraceServiceRequest {
    let span = |number: usize| Span {
        name: format!("{number:0bytes$}"),
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: (0..count).map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn names(message: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(message).unwrap();
    let resources = request.resource_spans.into_iter();
    resources
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| span.name)
        .collect()
}

/// Settings as variables of OpenTelemetry say them.
pub(crate) fn settings(endpoint: &str, grpc: bool, more: &[(&str, &str)]) -> Otlp {
    let environment = |name: &str| {
        let own = match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint),
            "OTEL_EXPORTER_OTLP_PROTOCOL" if grpc => Some("grpc"),
            "OTEL_EXPORTER_OTLP_PROTOCOL" => Some("http/protobuf"),
            _ => None,
        };
        let more = more.iter().find(|(variable, _)| *variable == name);
        let found = more.map(|(_, value)| *value).or(own);
        found.map(str::to_owned)
    };
    Config::load(None, &Flags::default(), &environment)
        .unwrap()
        .otlp
}

struct Bench {
    sender: Traces,
    status: Arc<Status>,
    settings: watch::Sender<Arc<Otlp>>,
}

impl Bench {
    fn new(settings: Otlp) -> Self {
        let status = Arc::new(Status::default());
        let (settings, current) = watch::channel(Arc::new(settings));
        Self {
            sender: Sender::new(Signal::Traces, current, Arc::clone(&status)),
            status,
            settings,
        }
    }

    async fn send(&mut self, count: usize, bytes: usize) {
        let message = spans(count, bytes);
        self.sender.send(count as u64, move || vec![message]).await;
    }

    fn sent(&self) -> u64 {
        self.status
            .of(Signal::Traces)
            .sent
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    fn retries(&self) -> u64 {
        self.status
            .of(Signal::Traces)
            .retries
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    fn dropped(&self, reason: Dropped) -> u64 {
        self.status.of(Signal::Traces).dropped(reason)
    }

    fn error(&self) -> String {
        let state = self.status.states().remove(0);
        state.error.unwrap_or_default()
    }
}

#[tokio::test]
async fn both_protocols_deliver_packed_or_not() {
    for grpc in [true, false] {
        for compression in ["gzip", "none"] {
            let collector = Collector::start(grpc).await;
            let more = [
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
                (
                    "OTEL_EXPORTER_OTLP_HEADERS",
                    "authorization=Bearer%20x,x-tenant=t",
                ),
            ];
            let mut bench = Bench::new(settings(&collector.url(), grpc, &more));
            bench.send(3, 1).await;
            bench.send(2, 1).await;
            assert_eq!(bench.sent(), 5, "{}", bench.error());
            let received = collector.received();
            assert_eq!(names(&received[0].message), ["0", "1", "2"]);
            let expected = match grpc {
                true => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                false => "/v1/traces",
            };
            for Received {
                path,
                headers,
                connection,
                ..
            } in &received
            {
                assert_eq!(
                    (path.as_str(), *connection),
                    (expected, 1),
                    "it is kept open"
                );
                assert_eq!(headers["authorization"], "Bearer x");
                assert_eq!(headers["x-tenant"], "t");
                assert_eq!(headers.contains_key("grpc-timeout"), grpc);
            }
            let state = bench.status.states().remove(0);
            assert_eq!((state.requests, state.failures), (2, 0));
            assert!(state.request_bytes > 0 && state.request_seconds > 0.0);
            assert!(state.age_seconds.is_some() && state.error.is_none());
        }
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_and_not_before_it_may() {
    let collector = Collector::start(false).await;
    collector.script([
        Act::Http(503, vec![("retry-after", "1".to_owned())]),
        Act::Http(502, Vec::new()),
    ]);
    let mut bench = Bench::new(settings(&collector.url(), false, &[]));
    let start = Instant::now();
    bench.send(2, 1).await;
    assert!(
        start.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    assert_eq!((bench.sent(), bench.retries()), (2, 2));

    let collector = Collector::start(true).await;
    let details = grpc::tests::details(Duration::from_secs(1));
    collector.script([Act::Grpc(8, Some(details)), Act::Grpc(14, None)]);
    let mut bench = Bench::new(settings(&collector.url(), true, &[]));
    let start = Instant::now();
    bench.send(2, 1).await;
    assert!(
        start.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    assert_eq!((bench.sent(), bench.retries()), (2, 2));
    assert_eq!(collector.received().len(), 3);
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    for (grpc, act) in [
        (true, Act::Grpc(16, None)),
        (true, Act::Http(404, Vec::new())),
        (false, Act::Http(401, Vec::new())),
        (false, Act::Http(400, Vec::new())),
    ] {
        let collector = Collector::start(grpc).await;
        collector.script([act]);
        let mut bench = Bench::new(settings(&collector.url(), grpc, &[]));
        bench.send(3, 1).await;
        assert_eq!((bench.sent(), bench.retries()), (0, 0));
        assert_eq!(bench.dropped(Dropped::Refused), 3);
        assert!(!bench.error().is_empty());
        bench.send(1, 1).await;
        assert_eq!((bench.sent(), bench.error()), (1, String::new()));
    }
}

#[tokio::test]
async fn what_is_rejected_is_counted() {
    for grpc in [true, false] {
        let collector = Collector::start(grpc).await;
        collector.script([Act::Partly(2), Act::Partly(100), Act::Partly(-1)]);
        let mut bench = Bench::new(settings(&collector.url(), grpc, &[]));
        for _ in 0..3 {
            bench.send(5, 1).await;
        }
        assert_eq!(bench.sent(), 3 + 5);
        assert_eq!(
            bench.dropped(Dropped::Rejected),
            2 + 5,
            "never more than were sent"
        );
    }
}

#[tokio::test]
async fn what_is_too_large_is_split() {
    for (grpc, limit) in [(true, 20_000), (false, 5_000)] {
        let collector = Collector::start(grpc).await;
        collector.set_limit(limit);
        let mut bench = Bench::new(settings(&collector.url(), grpc, &[]));
        bench.send(100, 1_000).await;
        assert_eq!(bench.sent(), 100, "{}", bench.error());
        let received = collector.received();
        let taken = received
            .iter()
            .filter(|request| request.message.len() <= limit);
        let all: Vec<String> = taken.flat_map(|request| names(&request.message)).collect();
        assert_eq!(
            all,
            names(&spans(100, 1_000).encode_to_vec()),
            "all, in order"
        );
    }
    // What cannot be split is lost, and a quota is not what splitting helps against.
    let collector = Collector::start(false).await;
    collector.set_limit(10);
    let mut bench = Bench::new(settings(&collector.url(), false, &[]));
    bench.send(3, 100).await;
    assert_eq!((bench.sent(), bench.dropped(Dropped::TooLarge)), (0, 3));
    assert_eq!(collector.received().len(), 5);
    let collector = Collector::start(true).await;
    collector.set_limit(10);
    let mut bench = Bench::new(settings(&collector.url(), true, &[]));
    bench.send(30, 100).await;
    assert_eq!((bench.sent(), bench.dropped(Dropped::TooLarge)), (0, 30));
    assert_eq!(collector.received().len(), 1);
}

#[tokio::test]
async fn no_message_is_longer_than_servers_take() {
    let collector = Collector::start(true).await;
    let mut bench = Bench::new(settings(&collector.url(), true, &[]));
    bench.send(200, 60_000).await;
    assert_eq!(bench.sent(), 200, "{}", bench.error());
    let received = collector.received();
    assert!(received.len() >= 3);
    assert!(
        received
            .iter()
            .all(|request| request.message.len() < 4 << 20)
    );
}

#[tokio::test]
async fn connections_that_break_are_made_anew() {
    for grpc in [true, false] {
        let collector = Collector::start(grpc).await;
        collector.script([Act::Take, Act::Break, Act::Take]);
        let mut bench = Bench::new(settings(&collector.url(), grpc, &[]));
        for _ in 0..3 {
            bench.send(1, 1).await;
        }
        assert_eq!(
            (bench.sent(), bench.retries()),
            (3, 0),
            "at once: it was an old one"
        );
        let last = collector.received().pop().unwrap();
        assert_eq!(last.connection, 2);
    }
}

#[tokio::test]
async fn a_slow_collector_is_not_waited_for_longer_than_the_timeout() {
    for grpc in [true, false] {
        let collector = Collector::start(grpc).await;
        collector.script([Act::Slow(Duration::from_secs(60))]);
        let more = [("OTEL_EXPORTER_OTLP_TIMEOUT", "200")];
        let mut bench = Bench::new(settings(&collector.url(), grpc, &more));
        let start = Instant::now();
        bench.send(1, 1).await;
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!((bench.sent(), bench.retries()), (1, 1));
    }
}

#[tokio::test]
async fn garbage_is_no_answer_and_is_given_up() {
    for (grpc, bytes) in [
        (true, &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        (true, b"\0\0\0"),
        (false, b"\x16\x03\x01\x02\x00"),
        (false, b"SSH-2.0-x\r\n"),
        (false, b""),
    ] {
        let address = babble(bytes).await;
        let settings = Otlp {
            max_elapsed: Duration::from_millis(700),
            ..settings(&format!("http://{address}"), grpc, &[])
        };
        let mut bench = Bench::new(settings);
        let start = Instant::now();
        bench.send(4, 1).await;
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(
            bench.dropped(Dropped::Expired),
            4,
            "{bytes:?}: {}",
            bench.error()
        );
        assert!(!bench.error().is_empty());
    }
}

#[tokio::test]
async fn a_collector_that_comes_back_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut bench = Bench::new(settings(&format!("http://{address}"), true, &[]));
    let back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        Collector::listen(listener, true, None)
    };
    let ((), collector) = tokio::join!(bench.send(2, 1), back);
    assert_eq!(bench.sent(), 2);
    assert!(bench.retries() > 0);
    collector.stop();
}

#[tokio::test]
async fn new_settings_are_followed_while_the_old_collector_is_away() {
    let nowhere = settings("http://127.0.0.1:1", true, &[]);
    let mut bench = Bench::new(nowhere.clone());
    let collector = Collector::start(false).await;
    let new = Arc::new(settings(&collector.url(), false, &[]));
    let change = bench.settings.clone();
    let (_, ()) = tokio::join!(bench.send(2, 1), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        change.send_replace(new);
    });
    assert_eq!((bench.sent(), collector.received().len()), (2, 1));
    bench.settings.send_replace(Arc::new(Otlp {
        endpoint: None,
        ..nowhere
    }));
    assert!(!bench.sender.is_on());
    bench.send(3, 1).await;
    assert_eq!(bench.dropped(Dropped::TurnedOff), 3);
}

#[tokio::test]
async fn tls_by_an_authority_and_a_certificate_of_our_own() {
    use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

    let authority = Authority::create();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ca = authority.certificate();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&ca).unwrap())
        .unwrap();
    let files = authority.sign("localhost");
    let client = authority.sign("client");
    for grpc in [true, false] {
        let roots = Arc::new(roots.clone());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&files.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            )
            .unwrap();
        let protocol: &[u8] = if grpc { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let collector = Collector::start_tls(grpc, acceptor).await;
        let url = format!("https://localhost:{}", collector.address.port());
        let mut secured = settings(&url, grpc, &[]);
        secured.max_elapsed = Duration::ZERO;
        secured.tls.ca = Some(ca.clone());

        let mut nobody = Bench::new(secured.clone());
        nobody.send(1, 1).await;
        assert_eq!(nobody.sent(), 0, "it wants to know who we are");

        secured.tls.certificate = Some(client.certificate.clone());
        secured.tls.key = Some(client.key.clone());
        let mut bench = Bench::new(secured.clone());
        bench.send(1, 1).await;
        assert_eq!(bench.sent(), 1, "{}", bench.error());

        secured.tls.ca = Some(Authority::create().certificate());
        let mut bench = Bench::new(secured.clone());
        bench.send(1, 1).await;
        assert_eq!((bench.sent(), bench.dropped(Dropped::Expired)), (0, 1));
        secured.tls.ca = Some("/no/such/file".into());
        let mut bench = Bench::new(secured);
        bench.send(1, 1).await;
        assert!(bench.error().contains("/no/such/file"), "{}", bench.error());
    }
}

#[tokio::test]
async fn new_certificates_are_taken_and_bad_ones_are_not() {
    let authority = Authority::create();
    let client = authority.sign("client");
    let files = crate::config::OtlpTls {
        ca: Some(authority.certificate()),
        certificate: Some(client.certificate.clone()),
        key: Some(client.key.clone()),
    };
    let mut tls = Tls::read(files, b"h2").await.unwrap();
    let pause = Duration::from_secs(6);
    let now = std::time::Instant::now();
    assert!(!tls.renew(now + pause).await, "nothing changed");
    std::fs::write(&client.key, "not a key").unwrap();
    assert!(!tls.renew(now + 2 * pause).await, "the old one is kept");
    authority.sign("client");
    assert!(
        !tls.renew(now + 2 * pause + pause / 2).await,
        "not looked at yet"
    );
    assert!(tls.renew(now + 4 * pause).await);
}
