//! Blocks of RFC 7541, of another encoder, and of nobody: right, unknown or malformed, never wrong.

use httlib_hpack::Encoder;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// A field that was told, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Known(Name, Vec<u8>),
    Other,
    Unknown,
}

/// What another encoder is asked to write.
#[derive(Clone, Debug)]
struct Plan {
    sizes: Vec<u32>,
    fields: Vec<(&'static str, String, u8)>,
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> (Vec<Told>, Result<(), Malformed>) {
    let mut told = Vec::new();
    let result = decoder.decode(block, &mut |field| {
        told.push(match field {
            Field::Known(name, value) => Told::Known(name, value.to_vec()),
            Field::Other => Told::Other,
            Field::Unknown => Told::Unknown,
        });
    });
    (told, result)
}

fn told(decoder: &mut Decoder, block: &[u8]) -> Vec<Told> {
    let (told, result) = decode(decoder, block);
    assert_eq!(result, Ok(()));
    told
}

fn error(known: bool, block: &[u8]) -> Malformed {
    decode(&mut Decoder::new(known), block).1.unwrap_err()
}

fn known(name: Name, value: &str) -> Told {
    Told::Known(name, value.into())
}

/// What a field must be told as when everything is known.
fn right(name: &str, value: &str) -> Told {
    match Name::of(name.as_bytes()) {
        Some(name) => Told::Known(name, name.cut(value.as_bytes()).to_vec()),
        None => Told::Other,
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn requests_of_the_rfc() {
    // RFC 7541 appendices C.3 and C.4: without and with Huffman codes.
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::new(true);
        let start = [
            known(Name::Method, "GET"),
            known(Name::Scheme, "http"),
            known(Name::Path, "/"),
            known(Name::Authority, "www.example.com"),
        ];
        assert_eq!(told(&mut decoder, &hex(blocks[0])), start);
        let second = told(&mut decoder, &hex(blocks[1]));
        assert_eq!(second[..4], start);
        assert_eq!(second[4..], [Told::Other]);
        let third = told(&mut decoder, &hex(blocks[2]));
        assert_eq!(
            third,
            [
                known(Name::Method, "GET"),
                known(Name::Scheme, "https"),
                known(Name::Path, "/index.html"),
                known(Name::Authority, "www.example.com"),
                Told::Other,
            ]
        );
    }
}

#[test]
fn responses_of_the_rfc_evict() {
    // RFC 7541 appendix C.6: a table of 256 bytes.
    let mut decoder = Decoder::new(true);
    told(&mut decoder, &hex("3fe1 01"));
    let first = told(
        &mut decoder,
        &hex(
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 \
             82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        ),
    );
    assert_eq!(first[0], known(Name::Status, "302"));
    let second = told(&mut decoder, &hex("4883 640e ffc1 c0bf"));
    assert_eq!(second[0], known(Name::Status, "307"));
    assert_eq!(second[1..], [Told::Other, Told::Other, Told::Other]);
    // The entry of `302` was evicted: four are left.
    assert_eq!(
        decode(&mut decoder, &[0xc2]),
        (vec![], Err(Malformed::Index))
    );
}

#[test]
fn joined_midway_old_entries_are_unknown_and_new_ones_are_right() {
    let mut decoder = Decoder::new(false);
    // 62, an insertion of `:path: /a`, then 62, 63 and `:method: PUT` under the name of 63.
    assert_eq!(
        told(
            &mut decoder,
            b"\xbe\x44\x02/a\xbe\xbf\x7f\x00\x03PUT\x82\xbe\xbf"
        ),
        [
            Told::Unknown,
            known(Name::Path, "/a"),
            known(Name::Path, "/a"),
            Told::Unknown,
            Told::Unknown,
            known(Name::Method, "GET"),
            Told::Unknown,
            known(Name::Path, "/a"),
        ]
    );
    // An update to nothing empties the table: from here on all is known.
    assert_eq!(
        told(&mut decoder, b"\x20\x3f\xe1\x1f\x44\x02/b\xbe"),
        [known(Name::Path, "/b"), known(Name::Path, "/b")]
    );
    assert_eq!(decode(&mut decoder, b"\xbf").1, Err(Malformed::Index));
}

#[test]
fn a_gap_makes_all_before_it_unknown() {
    let mut decoder = Decoder::new(true);
    told(&mut decoder, b"\x44\x02/a\xbe");
    decoder.lose();
    assert_eq!(
        told(&mut decoder, b"\xbe\x44\x02/b\xbe\xbf\x84"),
        [
            Told::Unknown,
            known(Name::Path, "/b"),
            known(Name::Path, "/b"),
            Told::Unknown,
            known(Name::Path, "/"),
        ]
    );
    // The table has at most 4096 bytes: 126 entries beside one of 39 bytes, at most.
    assert_eq!(told(&mut decoder, &[0xff, 61]), [Told::Unknown]);
    assert_eq!(decode(&mut decoder, &[0xff, 62]).1, Err(Malformed::Index));
}

#[test]
fn a_table_larger_than_what_is_kept_forgets() {
    let mut decoder = Decoder::new(true);
    decoder.set_limit(1 << 20);
    let mut block = b"\x3f\xe1\xff\x3f\x44\x02/a".to_vec();
    for _ in 0..20 {
        // `user-agent` of 4096 bytes.
        block.extend(b"\x7a\x7f\x81\x1f");
        block.extend([b'x'; 4096]);
    }
    told(&mut decoder, &block);
    assert!(decoder.memory() < 72 << 10, "{}", decoder.memory());
    assert_eq!(
        told(&mut decoder, b"\xbe\xd2"),
        [known(Name::UserAgent, &"x".repeat(4096)), Told::Unknown]
    );
    // An entry that is larger than all that is kept is forgotten at once, and is there.
    let mut block = b"\x7a\x7f\x81\x80\x08".to_vec();
    block.extend(vec![b'y'; 131_072 + 128]);
    block.extend(b"\xbe\x44\x02/b\xbe\xbf");
    assert_eq!(
        told(&mut decoder, &block)[1..],
        [
            Told::Unknown,
            known(Name::Path, "/b"),
            known(Name::Path, "/b"),
            Told::Unknown
        ]
    );
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(true);
    // A table of 64 bytes; `:path: /a` takes 39, then a value of 40 bytes does not fit.
    let mut block = b"\x3f\x21\x44\x02/a\xbe\x44\x28".to_vec();
    block.extend([b'x'; 40]);
    assert_eq!(told(&mut decoder, &block).len(), 3);
    assert_eq!(decode(&mut decoder, b"\xbe").1, Err(Malformed::Index));
}

#[test]
fn malformed_blocks() {
    assert_eq!(error(true, b"\x80"), Malformed::Index);
    assert_eq!(error(true, b"\xbe"), Malformed::Index);
    assert_eq!(error(false, b"\x80"), Malformed::Index);
    assert_eq!(error(true, b"\xff"), Malformed::Cut);
    assert_eq!(error(true, b"\x44\x02/"), Malformed::Cut);
    assert_eq!(error(true, b"\x40"), Malformed::Cut);
    assert_eq!(error(true, b"\x44\x81\xff"), Malformed::Huffman);
    assert_eq!(error(true, b"\x15\x81\x00"), Malformed::Huffman);
    assert_eq!(
        error(false, b"\xff\xff\xff\xff\xff\xff\x01"),
        Malformed::Integer
    );
    assert_eq!(
        error(false, b"\xff\xff\xff\xff\xff\x7f"),
        Malformed::Integer
    );
    assert_eq!(
        error(false, b"\xff\x80\x80\x80\x80\x80\x00"),
        Malformed::Integer
    );
    assert_eq!(error(true, b"\x82\x20"), Malformed::Size, "after a field");
    assert_eq!(error(true, b"\x3f\xe2\x1f"), Malformed::Size, "4097");
    // The largest integer is one.
    let mut decoder = Decoder::new(false);
    assert_eq!(
        told(&mut decoder, b"\xff\x80\xff\xff\xff\x0f"),
        [Told::Unknown]
    );
}

#[test]
fn sizes_are_held_against_the_largest_that_was_allowed() {
    let mut decoder = Decoder::new(true);
    decoder.set_limit(8192);
    decoder.set_limit(0);
    assert_eq!(decode(&mut decoder, b"\x3f\xe1\x3f").1, Ok(()), "8192");
    assert_eq!(
        decode(&mut decoder, b"\x3f\xe2\x3f").1,
        Err(Malformed::Size)
    );
    decoder.lose_limit();
    assert_eq!(decode(&mut decoder, b"\x3f\xe2\x3f").1, Ok(()));
}

#[test]
fn secrets_are_neither_told_nor_kept() {
    let mut encoder = Encoder::with_dynamic_size(4096);
    let mut block = Vec::new();
    for (name, value) in [
        (":path", "/login?token=hunter2"),
        (":authority", "user:hunter2@host"),
        ("authorization", "hunter2"),
        ("cookie", "hunter2"),
        ("x-key", "hunter2"),
    ] {
        for flags in [0, 4, 6, 7] {
            let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags);
            encoder.encode(field, &mut block).unwrap();
        }
    }
    let mut decoder = Decoder::new(true);
    let all = told(&mut decoder, &block);
    assert_eq!(all[0], known(Name::Path, "/login?"));
    assert_eq!(all[3], known(Name::Path, "/login?"));
    assert_eq!(all[4], known(Name::Authority, "host"));
    assert!(all[8..].iter().all(|field| *field == Told::Other));
    let kept: Vec<u8> = decoder.table.values().flatten().copied().collect();
    for place in [&kept, &decoder.scratch] {
        assert!(!place.windows(7).any(|part| part == b"hunter2"));
    }
}

fn plan(largest: u32) -> impl Strategy<Value = Plan> {
    let size = prop_oneof![Just(0), 0..200_u32, 0..=largest];
    let name = select(
        &[
            ":method",
            ":path",
            ":authority",
            ":status",
            "content-type",
            "grpc-status",
            "user-agent",
            "cookie",
            "x-a",
            "x-custom-name",
        ][..],
    );
    let value = prop_oneof![
        select(
            &[
                "",
                "GET",
                "POST",
                "/",
                "/a?q=1",
                "200",
                "0",
                "a@b",
                "text/html"
            ][..]
        )
        .prop_map(String::from),
        "[ -~]{0,60}",
        (0..6000_usize).prop_map(|count| "v".repeat(count)),
    ];
    // Huffman codes of name and value, and either a representation or the best.
    let flags = (0..4_u8, select(&[0, 4, 4, 8, 0x10, 0x14, 0x14, 0x14][..]))
        .prop_map(|(huffman, how)| huffman | how);
    let sizes = prop_oneof![
        6 => Just(Vec::new()),
        1 => vec(size, 1..3),
    ];
    (sizes, vec((name, value, flags), 0..12)).prop_map(|(sizes, fields)| Plan { sizes, fields })
}

/// The blocks that another encoder makes of plans.
fn encode(plans: &[Plan]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::with_dynamic_size(4096);
    plans
        .iter()
        .map(|plan| {
            let mut block = Vec::new();
            for size in &plan.sizes {
                encoder.update_max_dynamic_size(*size, &mut block).unwrap();
            }
            for (name, value, flags) in &plan.fields {
                let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), *flags);
                encoder.encode(field, &mut block).unwrap();
            }
            block
        })
        .collect()
}

fn rights(plan: &Plan) -> Vec<Told> {
    plan.fields
        .iter()
        .map(|(name, value, _)| right(name, value))
        .collect()
}

/// Every field is right or unknown.
fn agrees(told: &[Told], right: &[Told]) -> bool {
    told.len() == right.len()
        && told
            .iter()
            .zip(right)
            .all(|(told, right)| *told == Told::Unknown || told == right)
}

proptest! {
    #[test]
    fn known_from_the_start_all_is_right(plans in vec(plan(65_536), 1..12)) {
        let mut decoder = Decoder::new(true);
        decoder.set_limit(65_536);
        for (plan, block) in plans.iter().zip(encode(&plans)) {
            prop_assert_eq!(told(&mut decoder, &block), rights(plan));
        }
    }

    #[test]
    fn in_a_huge_table_nothing_is_wrong(plans in vec(plan(400_000), 1..40)) {
        let mut decoder = Decoder::new(true);
        decoder.set_limit(400_000);
        for (plan, block) in plans.iter().zip(encode(&plans)) {
            prop_assert!(agrees(&told(&mut decoder, &block), &rights(plan)));
            prop_assert!(decoder.memory() <= 256 << 10);
        }
    }

    #[test]
    fn joined_midway_nothing_is_wrong(
        plans in vec(plan(10_000), 2..16),
        first in 1..15_usize,
        gap in (0..15_usize, 0..4_usize),
        limit in any::<bool>(),
    ) {
        let mut joined = Decoder::new(false);
        let mut gapped = Decoder::new(true);
        if limit {
            gapped.set_limit(10_000);
        } else {
            gapped.lose_limit();
        }
        let missed = gap.0..gap.0 + gap.1;
        for (at, (plan, block)) in plans.iter().zip(encode(&plans)).enumerate() {
            if at >= first {
                prop_assert!(agrees(&told(&mut joined, &block), &rights(plan)));
            }
            if missed.contains(&at) {
                gapped.lose();
            } else {
                let told = told(&mut gapped, &block);
                prop_assert!(agrees(&told, &rights(plan)));
                prop_assert!(at >= missed.start || !told.contains(&Told::Unknown));
            }
        }
    }

    #[test]
    fn any_bytes_agree_with_who_saw_more(
        blocks in vec(vec(prop_oneof![
            any::<u8>(), Just(0x40), Just(0x44), Just(0x7e), Just(0xbe), Just(0xbf), 0..4_u8,
        ], 0..24), 1..12),
        first in 0..6_usize,
    ) {
        let mut whole = Decoder::new(true);
        whole.set_limit(u32::MAX);
        let mut joined = Decoder::new(false);
        for (at, block) in blocks.iter().enumerate() {
            let (right, result) = decode(&mut whole, block);
            if result.is_err() {
                break;
            }
            if at >= first {
                prop_assert!(agrees(&told(&mut joined, block), &right));
            }
        }
    }

    #[test]
    fn a_cut_block_is_a_prefix(plans in vec(plan(4096), 1..3), cut in any::<prop::sample::Index>()) {
        for (plan, block) in plans[..1].iter().zip(encode(&plans)) {
            let cut = cut.index(block.len() + 1);
            let (told, _) = decode(&mut Decoder::new(true), &block[..cut]);
            prop_assert!(rights(plan).starts_with(&told));
        }
    }
}
