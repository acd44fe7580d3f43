//! What one header block of HTTP/2 costs: of a call like the last one, and of one that is all new.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use httlib_hpack::Encoder;
use observer::assemble::hpack::{Decoder, Field};

/// A call of gRPC.
const REQUEST: [(&str, &str); 8] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/helloworld.Greeter/SayHello"),
    (":authority", "greeter.default.svc:50051"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.60.0"),
    ("te", "trailers"),
    ("grpc-timeout", "999m"),
];

/// A block of these fields, each in the best representation that `flags` allow.
fn block(encoder: &mut Encoder<'_>, flags: u8) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in REQUEST {
        let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags);
        encoder.encode(field, &mut block).expect("a field");
    }
    block
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> usize {
    let mut bytes = 0;
    let result = decoder.decode(black_box(block), &mut |field| {
        if let Field::Known(_, value) = field {
            bytes += value.len();
        }
    });
    assert_eq!(result, Ok(()));
    bytes
}

fn blocks(criterion: &mut Criterion) {
    let mut encoder = Encoder::with_dynamic_size(4096);
    let indexing = Encoder::HUFFMAN_NAME
        | Encoder::HUFFMAN_VALUE
        | Encoder::WITH_INDEXING
        | Encoder::BEST_FORMAT;
    let first = block(&mut encoder, indexing);
    let indexed = block(&mut encoder, indexing);
    let literal = block(&mut encoder, Encoder::HUFFMAN_NAME | Encoder::HUFFMAN_VALUE);
    assert_eq!(indexed.len(), REQUEST.len(), "one byte for each field");
    let mut decoder = Decoder::new(true);
    decode(&mut decoder, &first);
    let mut group = criterion.benchmark_group("hpack");
    for (name, block) in [("indexed", &indexed), ("literal", &literal)] {
        group.bench_function(name, |bench| {
            bench.iter(|| decode(&mut decoder, block));
        });
    }
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
