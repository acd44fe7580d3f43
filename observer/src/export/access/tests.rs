//! The access log from entries to lines.

use std::{fs, path::Path};

use serde_json::Value;

use super::*;
use crate::{
    aggregate::fixture::{SECOND, call},
    model::{
        time::WallOffset,
        trace::{SpanId, TraceId},
    },
};

fn about() -> Arc<About> {
    Arc::new(About {
        host_name: "node-1".into(),
        offset: WallOffset {
            nanoseconds: 1_700_000_000 * SECOND,
        },
        version: "1.2.3",
        ..About::default()
    })
}

fn entry(path: &str) -> Access {
    Access {
        call: Box::new(call("web", path, 200)),
        span: Some((TraceId([0xab; 16]), SpanId([0x0f; 8]))),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn an_entry_is_one_flat_object() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("access.log");
    let (sink, writer) = start(Target::File {
        path: path.clone(),
        max_bytes: 1 << 20,
    })
    .unwrap();
    sink.push(entry("/cart/\"42\""), &about());
    let counters = sink.counters.clone();
    drop(sink);
    writer.finish();
    assert_eq!(counters.written(), 1);
    let lines = lines(&path);
    let line = lines[0].as_object().unwrap();
    for (key, value) in [
        ("time", Value::from("2023-11-14T22:13:22.010000000Z")),
        ("severity", "INFO".into()),
        ("message", "GET /cart/\"42\" 200 10.000ms".into()),
        ("event", "observer.access".into()),
        ("trace_id", "ab".repeat(16).into()),
        ("span_id", "0f".repeat(8).into()),
        ("service.name", "web".into()),
        ("service.instance.id", "node-1.web.service".into()),
        ("url.path", "/cart/\"42\"".into()),
        ("http.response.status_code", 200.into()),
        ("observer.duration", 0.01.into()),
        ("observer.url.has_query", true.into()),
    ] {
        assert_eq!(line.get(key), Some(&value), "{key}");
    }
    assert!(
        line.values()
            .all(|value| !value.is_object() && !value.is_null())
    );
}

#[test]
fn keys_are_not_repeated() {
    let mut out = Vec::new();
    Lines::default().append(&mut out, &entry("/"), &about());
    let text = String::from_utf8(out).unwrap();
    let parsed: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    for key in parsed.keys() {
        assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{key}");
    }
}

#[test]
fn what_does_not_fit_is_counted_and_nobody_waits() {
    let (queue, entries) = mpsc::sync_channel(2);
    let counters = Arc::new(Counters::default());
    let sink = Sink { queue, counters };
    for _ in 0..5 {
        sink.push(entry("/"), &about());
    }
    let [full, ..] = sink.counters().losses();
    assert_eq!(
        (full.stage, full.reason, full.count),
        ("access_log", "queue_full", 3)
    );
    drop(entries);
    sink.push(entry("/"), &about());
    assert_eq!(sink.counters().losses()[0].count, 4);
}

#[test]
fn what_cannot_be_written_is_counted() {
    let (sink, writer) = start(Target::File {
        path: "/dev/full".into(),
        max_bytes: 1 << 20,
    })
    .unwrap();
    for _ in 0..3 {
        sink.push(entry("/"), &about());
    }
    let counters = sink.counters.clone();
    drop(sink);
    writer.finish();
    assert_eq!(counters.written(), 0);
    assert_eq!(counters.losses()[1].count, 3);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let error = start(Target::File {
        path: "/nonexistent/access.log".into(),
        max_bytes: 1 << 20,
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot open the access log /nonexistent/access.log: "),
        "{text}"
    );
}

#[test]
fn many_entries_rotate_the_file_and_are_whole_lines() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("access.log");
    let (sink, writer) = start(Target::File {
        path: path.clone(),
        max_bytes: 1 << 20,
    })
    .unwrap();
    let about = about();
    for number in 0..3_000 {
        sink.push(entry(&format!("/{number}")), &about);
    }
    let counters = sink.counters.clone();
    drop(sink);
    writer.finish();
    let kept = lines(&path).len() + lines(&root.path().join("access.log.1")).len();
    assert!(kept > 0 && kept <= 3_000);
    assert_eq!(counters.written(), 3_000);
    assert!(fs::metadata(&path).unwrap().len() <= 1 << 20);
}
