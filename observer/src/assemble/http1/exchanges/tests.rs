//! Calls of gRPC-Web over HTTP/1.

use std::time::Duration;

use super::super::super::script::Script;
use crate::model::{
    connection::ClosedBy,
    rpc::{Rpc, RpcEnd, RpcSystem},
    time::Monotonic,
};

const TRAILERS: &[u8] = b"grpc-status:5\r\ngrpc-message:no\r\n";

fn message(flag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend((content.len() as u32).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn request(content: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /a.B/C HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web+proto\r\n\
         grpc-timeout: 1S\r\nContent-Length: {}\r\n\r\n",
        content.len()
    )
    .into_bytes();
    bytes.extend(content);
    bytes
}

fn response(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n")
}

fn chunk(content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", content.len()).into_bytes();
    bytes.extend(content);
    bytes.extend(b"\r\n");
    bytes
}

fn only(script: &Script) -> Rpc {
    let [exchange] = &script.seen.exchanges[..] else {
        panic!("{:?}", script.lines());
    };
    *exchange.rpc.clone().unwrap()
}

#[test]
fn a_call_has_messages_and_a_status() {
    let mut script = Script::client();
    script.c(request(&message(0, b"abc")));
    script.s(response("application/grpc-web+proto"));
    script.s(chunk(&[message(0, b"one"), message(0, b"two")].concat()));
    // A message over two chunks, and the trailers in the second.
    let rest = [message(0, b"three"), message(0x80, TRAILERS)].concat();
    script
        .s(chunk(&rest[..7]))
        .s(chunk(&rest[7..]))
        .s("0\r\n\r\n");
    script.expect(&["POST /a.B/C 200 8/63 complete"]);
    let rpc = only(&script);
    assert_eq!(
        (rpc.system, rpc.end),
        (RpcSystem::GrpcWeb, RpcEnd::Status(5))
    );
    assert_eq!(rpc.deadline, Some(Duration::from_secs(1)));
    assert_eq!((rpc.requests.count, rpc.requests.at_least), (1, false));
    assert_eq!(rpc.requests.first, Some(Monotonic(1010)));
    assert_eq!((rpc.responses.count, rpc.responses.at_least), (3, false));
    assert_eq!(rpc.responses.first, Some(Monotonic(1030)));
    assert_eq!(rpc.responses.last, Some(Monotonic(1050)));
}

#[test]
fn text_is_decoded() {
    let mut script = Script::client();
    script.c(
        "POST /a.B/C HTTP/1.1\r\nContent-Type: application/grpc-web-text\r\n\
         Content-Length: 12\r\n\r\nAAAAAAN4eXo=",
    );
    script.s(response("application/grpc-web-text"));
    // One message, and `grpc-status:0`, each padded.
    script
        .s(chunk(b"AAAAAAN4"))
        .s(chunk(b"eXo=gAAAAA1ncnBjLXN0"));
    script.s(chunk(b"YXR1czow")).s("0\r\n\r\n");
    let rpc = only(&script);
    assert_eq!(rpc.end, RpcEnd::Status(0));
    assert_eq!((rpc.requests.count, rpc.responses.count), (1, 1));
}

#[test]
fn a_status_may_be_in_the_head() {
    let mut script = Script::client();
    script.c(request(&message(0, b"abc")));
    script.s(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nGrpc-Status: 16\r\n\
         Content-Length: 0\r\n\r\n",
    );
    assert_eq!(only(&script).end, RpcEnd::Status(16));
}

#[test]
fn an_answer_of_something_else_has_no_messages_and_no_status() {
    let mut script = Script::client();
    script.c(request(&message(0, b"abc")));
    script.s("HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0");
    let rpc = only(&script);
    assert_eq!(rpc.end, RpcEnd::Unknown);
    assert_eq!((rpc.responses.count, rpc.responses.at_least), (0, false));
}

#[test]
fn what_the_kernel_omits_is_passed_over_or_makes_it_at_least() {
    // A message of 1000 bytes, of which only the start is shipped.
    for (hole, count, at_least) in [(900, 2, false), (995, 2, false), (1001, 1, true)] {
        let content = [message(0, &[7; 1000]), message(0, b"abc")].concat();
        let bytes = request(&content);
        let seen = bytes.len() - content.len() + 10;
        let mut script = Script::client();
        script.c(&bytes[..seen]).unseen(true, hole);
        script.c(&bytes[seen + hole as usize..]);
        script.s(
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\r\n",
        );
        let rpc = only(&script);
        let seen = (rpc.requests.count, rpc.requests.at_least);
        assert_eq!(seen, (count, at_least), "{hole}");
    }
}

#[test]
fn a_client_that_leaves_cancels() {
    let mut script = Script::client();
    script.c(request(&message(0, b"abc")));
    script
        .s(response("application/grpc-web"))
        .s(chunk(&message(0, b"x")));
    script.fin(true).close(ClosedBy::Local, false);
    script.expect(&["POST /a.B/C 200 8/6 client_aborted"]);
    let rpc = only(&script);
    assert_eq!(rpc.end, RpcEnd::Cancelled);
    assert_eq!(rpc.responses.count, 1);
}

#[test]
fn other_content_is_no_call() {
    for kind in [
        "application/grpc",
        "application/json",
        "application/grpc-webs",
    ] {
        let mut script = Script::client();
        script.c(format!(
            "POST /a.B/C HTTP/1.1\r\nContent-Type: {kind}\r\n\r\n"
        ));
        script.s("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(script.seen.exchanges[0].rpc, None, "{kind}");
    }
}
