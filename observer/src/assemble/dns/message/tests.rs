//! Tests of DNS messages: names, records, and bytes that are none.

use proptest::prelude::*;

use super::*;

/// Writes messages, without compression unless told.
struct Writer(Vec<u8>);

impl Writer {
    fn new(id: u16, flags: u16, counts: [u16; 4]) -> Self {
        let mut bytes = Vec::new();
        for word in [id, flags].into_iter().chain(counts) {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        Self(bytes)
    }

    fn name(mut self, name: &str) -> Self {
        for label in name.split('.').filter(|label| !label.is_empty()) {
            self.0.push(u8::try_from(label.len()).unwrap());
            self.0.extend_from_slice(label.as_bytes());
        }
        self.0.push(0);
        self
    }

    fn pointer(mut self, target: u16) -> Self {
        self.0.extend_from_slice(&(0xc000 | target).to_be_bytes());
        self
    }

    fn words(mut self, words: &[u16]) -> Self {
        for word in words {
            self.0.extend_from_slice(&word.to_be_bytes());
        }
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn record(self, kind: u16, class: u16, ttl: u32, data: &[u8]) -> Self {
        self.words(&[kind, class])
            .bytes(&ttl.to_be_bytes())
            .words(&[u16::try_from(data.len()).unwrap()])
            .bytes(data)
    }
}

fn question(name: &str, kind: u16) -> Option<Question> {
    Some(Question {
        name: name.into(),
        kind,
        class: 1,
    })
}

#[test]
fn a_question_is_read() {
    let bytes = Writer::new(0x1234, 0x0100, [1, 0, 0, 1])
        .name("Shop.Example.ORG")
        .words(&[28, 1])
        .name("")
        .record(41, 1232, 0, &[])
        .0;
    let expected = Message {
        id: 0x1234,
        response: false,
        opcode: 0,
        truncated: false,
        code: 0,
        question: question("shop.example.org", 28),
        answers: Vec::new(),
        complete: true,
    };
    assert_eq!(parse(&bytes), Ok(expected));
}

#[test]
fn a_response_with_an_alias_is_read() {
    let bytes = Writer::new(7, 0x8180, [1, 4, 0, 1])
        .name("www.example.org")
        .words(&[1, 1])
        .pointer(12)
        .record(5, 1, 60, &[3, b'c', b'd', b'n', 0xc0, 16])
        .name("cdn.example.org")
        .record(1, 1, 30, &[192, 0, 2, 1])
        .name("cdn.example.org")
        .record(28, 1, 0xffff_ffff, &[0; 16])
        .pointer(12)
        .record(46, 1, 30, &[1, 2, 3])
        .name("")
        .record(41, 1232, 0x0100_0000, &[])
        .0;
    let message = parse(&bytes).unwrap();
    assert_eq!(message.code, 16, "BADVERS, from both parts");
    assert!(message.response && message.complete);
    let answer = |name: &str, ttl, target| Answer {
        name: name.into(),
        ttl,
        target,
    };
    let expected = [
        answer(
            "www.example.org",
            60,
            Target::Alias("cdn.example.org".into()),
        ),
        answer(
            "cdn.example.org",
            30,
            Target::Address(Ipv4Addr::new(192, 0, 2, 1).into()),
        ),
        answer(
            "cdn.example.org",
            0,
            Target::Address(Ipv6Addr::UNSPECIFIED.into()),
        ),
    ];
    assert_eq!(message.answers, expected);
}

#[test]
fn what_is_cut_off_is_not_there() {
    let whole = Writer::new(7, 0x8380, [1, 2, 0, 0])
        .name("a.example")
        .words(&[1, 1])
        .pointer(12)
        .record(1, 1, 30, &[192, 0, 2, 1])
        .pointer(12)
        .record(1, 1, 30, &[192, 0, 2, 2])
        .0;
    let message = parse(&whole[..whole.len() - 1]).unwrap();
    assert!(message.truncated && !message.complete);
    assert_eq!(message.answers.len(), 1);
    assert_eq!(parse(&whole[..20]), Err(Malformed::Short));
    assert_eq!(parse(&whole[..11]), Err(Malformed::Short));
    assert!(parse(&whole).unwrap().complete);
}

#[test]
fn names_are_written_as_in_zone_files() {
    let read = |labels: &[&[u8]]| {
        let mut writer = Writer::new(1, 0, [1, 0, 0, 0]);
        for label in labels {
            writer.0.push(u8::try_from(label.len()).unwrap());
            writer.0.extend_from_slice(label);
        }
        writer.0.push(0);
        parse(&writer.words(&[1, 1]).0).map(|message| message.question.unwrap().name)
    };
    assert_eq!(read(&[]).unwrap().as_ref(), ".");
    assert_eq!(read(&[b"_Dns-SD"]).unwrap().as_ref(), "_dns-sd");
    assert_eq!(
        read(&[b"a.b\\c", b"\x00\xff "]).unwrap().as_ref(),
        r"a\.b\\c.\000\255\032"
    );
    let label: &[u8] = &[b'x'; 63];
    assert_eq!(read(&[label, label, label]).unwrap().len(), 3 * 64 - 1);
    assert_eq!(read(&[label, label, label, label]), Err(Malformed::Name));
}

#[test]
fn pointers_lead_back_or_nowhere() {
    let name = |bytes: &[u8]| {
        let writer = Writer::new(1, 0, [1, 0, 0, 0]).bytes(bytes);
        parse(&writer.words(&[1, 1]).0).map(|_| ())
    };
    assert_eq!(name(&[0xc0, 12]), Err(Malformed::Pointer), "to itself");
    assert_eq!(name(&[0xc0, 14]), Err(Malformed::Pointer), "ahead");
    assert_eq!(name(&[0xc0, 4]), Err(Malformed::Pointer), "into the header");
    assert_eq!(
        name(&[1, b'a', 0xc0, 12]),
        Err(Malformed::Pointer),
        "a loop"
    );
    assert_eq!(name(&[0x40, 0]), Err(Malformed::Label));
    assert_eq!(name(&[0x80, 0]), Err(Malformed::Label));
    // Two names that lead to each other.
    let bytes = Writer::new(1, 0x8000, [1, 1, 0, 0])
        .name("ab")
        .words(&[1, 1])
        .bytes(&[1, b'x'])
        .pointer(20)
        .record(1, 1, 0, &[0; 4])
        .0;
    assert_eq!(parse(&bytes), Err(Malformed::Pointer));
}

#[test]
fn records_fit_their_type() {
    let with = |kind, data: &[u8]| {
        let writer = Writer::new(1, 0x8000, [1, 1, 0, 0])
            .name("a")
            .words(&[1, 1])
            .pointer(12);
        parse(&writer.record(kind, 1, 0, data).0).map(|message| message.answers.len())
    };
    assert_eq!(with(1, &[0; 4]), Ok(1));
    assert_eq!(with(1, &[0; 5]), Err(Malformed::Record));
    assert_eq!(with(28, &[0; 4]), Err(Malformed::Record));
    assert_eq!(with(5, &[1, b'a', 0, 9]), Err(Malformed::Record));
    assert_eq!(with(5, &[1, b'a']), Err(Malformed::Record));
    assert_eq!(with(16, &[9, 9]), Ok(0), "text is not kept");
}

#[test]
fn there_is_one_question() {
    let none = Writer::new(1, 0, [0, 0, 0, 0]).0;
    assert_eq!(parse(&none), Err(Malformed::Questions));
    let error = Writer::new(1, 0x8001, [0, 0, 0, 0]).0;
    assert_eq!(parse(&error).unwrap().code, 1);
    let two = Writer::new(1, 0, [2, 0, 0, 0])
        .name("a")
        .words(&[1, 1])
        .name("b")
        .words(&[1, 1])
        .0;
    assert_eq!(parse(&two), Err(Malformed::Questions));
}

#[test]
fn answers_are_bounded() {
    let mut writer = Writer::new(1, 0x8000, [1, 100, 0, 1])
        .name("a")
        .words(&[1, 1]);
    for index in 0..100 {
        writer = writer.pointer(12).record(1, 1, 0, &[10, 0, 0, index]);
    }
    let bytes = writer.name("").record(41, 512, 0x0100_0000, &[]).0;
    let message = parse(&bytes).unwrap();
    assert_eq!(message.answers.len(), MAX_ANSWERS);
    assert_eq!((message.code, message.complete), (16, true));
}

/// A pointer in a name costs nothing twice: many of them stay quick.
#[test]
fn chains_of_pointers_are_bounded_by_the_name() {
    let mut writer = Writer::new(1, 0x8000, [1, 1, 0, 0])
        .name("a")
        .words(&[1, 1]);
    // A text record full of pointers, each to the one before.
    let start = u16::try_from(writer.0.len()).unwrap() + 11;
    let mut data = vec![0xc0, 12];
    for index in 0..2000_u16 {
        data.extend_from_slice(&(0xc000 | (start + index * 2)).to_be_bytes());
    }
    writer = writer.name("").record(16, 1, 0, &data);
    let last = u16::try_from(writer.0.len()).unwrap() - 2;
    writer.0[7] = 2;
    let bytes = writer.pointer(last).record(1, 1, 0, &[0; 4]).0;
    let message = parse(&bytes).unwrap();
    assert_eq!(message.answers.len(), 1);
    assert_eq!(message.answers[0].name.as_ref(), "a");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes)?;
    }

    #[test]
    fn any_records_are_read_or_refused(
        flags in any::<u16>(),
        counts in prop::array::uniform3(0_u16..6),
        rest in prop::collection::vec(
            prop_oneof![
                3 => Just(0_u8), 3 => Just(0xc0), 2 => 0_u8..40, 1 => Just(12), 1 => any::<u8>()
            ],
            0..400,
        ),
    ) {
        let [answers, authorities, additional] = counts;
        let bytes = Writer::new(1, flags, [1, answers, authorities, additional]).bytes(&rest).0;
        check(&bytes)?;
    }

    #[test]
    fn what_is_written_is_read(
        id in any::<u16>(),
        labels in prop::collection::vec("[a-z0-9-]{1,20}", 1..6),
        kind in any::<u16>(),
        addresses in prop::collection::vec(any::<[u8; 4]>(), 0..20),
    ) {
        let name = labels.join(".");
        let count = u16::try_from(addresses.len()).unwrap();
        let mut writer = Writer::new(id, 0x8180, [1, count, 0, 0]).name(&name).words(&[kind, 1]);
        for address in &addresses {
            writer = writer.pointer(12).record(1, 1, 60, address);
        }
        let message = parse(&writer.0).unwrap();
        prop_assert_eq!(message.id, id);
        prop_assert_eq!(message.question, question(&name, kind));
        let read: Vec<_> = message.answers.into_iter().map(|answer| answer.target).collect();
        let expected: Vec<_> = addresses
            .iter()
            .take(MAX_ANSWERS)
            .map(|octets| Target::Address(Ipv4Addr::from(*octets).into()))
            .collect();
        prop_assert_eq!(read, expected);
    }
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(message) = parse(bytes) else {
        return Ok(());
    };
    prop_assert!(message.answers.len() <= MAX_ANSWERS);
    prop_assert!(message.question.is_some() || message.response);
    let names = message
        .answers
        .iter()
        .map(|answer| &answer.name)
        .chain(message.question.iter().map(|question| &question.name));
    for name in names {
        prop_assert!(!name.is_empty() && name.len() <= 4 * MAX_NAME);
        prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
        prop_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
    Ok(())
}
