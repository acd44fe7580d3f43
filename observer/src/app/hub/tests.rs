//! Tests of the role: what it answers, when it is ready, and that it ends when told so.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::cluster::object::{Kind, Object, PodObject};

fn config(more: &str) -> Config {
    Config::parse(
        "observer.yaml",
        &format!("hub:\n  listen: 127.0.0.1:0\n{more}"),
    )
    .unwrap()
}

/// Sends a request and returns the response, of a stream its start.
async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            read => text.extend_from_slice(&buffer[..read]),
        }
        if path.contains("stream") && text.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The watch of this hub asks it all that there is to ask, and ends.
#[test]
fn a_hub_is_ready_when_it_knows_the_cluster() {
    static PORT: AtomicU16 = AtomicU16::new(0);
    let feed = async || {
        let watch = |changes: mpsc::Sender<(Source, Vec<Change>)>| -> Watching {
            Box::pin(async move {
                let pod = Object::Pod(PodObject {
                    uid: "u".into(),
                    ..PodObject::default()
                });
                let address = SocketAddr::from(([127, 0, 0, 1], PORT.load(Ordering::Relaxed)));
                let begin = vec![Change::Begin(Kind::Pod), Change::Set(pod)];
                changes.send((Source::Cluster, begin)).await.unwrap();
                let text = ask(address, "/readyz").await;
                assert!(text.starts_with("HTTP/1.1 503"), "{text}");
                assert!(text.contains("pods are not known yet"), "{text}");
                let text = ask(address, "/api/v1/cluster/stream?protocol=1").await;
                assert!(text.starts_with("HTTP/1.1 503"), "{text}");
                for kind in Kind::ALL {
                    let complete = vec![Change::Complete(kind)];
                    changes.send((Source::Cluster, complete)).await.unwrap();
                }
                while !ask(address, "/readyz").await.starts_with("HTTP/1.1 200") {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let text = ask(address, "/livez").await;
                assert!(text.ends_with("alive\n"), "{text}");
                let text = ask(address, "/metrics").await;
                assert!(
                    text.contains("observer_hub_objects{kind=\"pods\"} 1\n"),
                    "{text}"
                );
                let text = ask(address, "/api/v1/cluster/stream?protocol=1").await;
                assert!(text.starts_with("HTTP/1.1 200"), "{text}");
                // Drops the sender: the watch has ended.
            })
        };
        Ok(Feed {
            age: Box::new(|_| None),
            watch: Box::new(watch),
            reviews: None,
            status: None,
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    PORT.store(address.port(), Ordering::Relaxed);
    let file = format!("hub: {{listen: {address}, authenticate: false}}\n");
    let config = Config::parse("observer.yaml", &file).unwrap();
    let error = run_with(&config, feed).unwrap_err().to_string();
    assert!(error.contains("watch of the cluster stopped"), "{error}");
}

#[test]
fn what_cannot_be_is_told_before_anything_is_served() {
    let feed = async || anyhow::bail!("no way to the API server");
    let error = run_with(&config(""), feed).unwrap_err().to_string();
    assert_eq!(error, "no way to the API server");
    let error = run_with(&config("  tls: {key: /no/such/key}\n"), feed).unwrap_err();
    assert!(error.to_string().contains("belong together"), "{error}");
    let files = "  tls: {certificate: /no/such/certificate, key: /no/such/key}\n";
    let error = run_with(&config(files), feed).unwrap_err();
    assert!(
        error.to_string().contains("/no/such/certificate"),
        "{error}"
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config::parse(
        "observer.yaml",
        &format!("hub: {{listen: {}}}\n", taken.local_addr().unwrap()),
    );
    let error = run_with(&config.unwrap(), feed).unwrap_err().to_string();
    assert!(error.contains("choose another with --listen"), "{error}");
}
