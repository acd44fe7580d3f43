//! Entries as the kernel writes them, and bytes that nobody wrote.

use proptest::prelude::*;

use super::*;

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn tuple_of(source: &str, destination: &str) -> Tuple {
    Tuple::new(6, at(source), at(destination)).unwrap()
}

/// A message of type `kind` with `attributes` behind the header of netfilter.
fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&0u16.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&7u32.to_ne_bytes());
    out.extend_from_slice(body);
    out.resize(aligned(out.len()), 0);
    out
}

/// An entry as the kernel writes it: the two tuples among other attributes.
fn entry_message(entry: &Entry, sequence: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, 0, 0, 0];
    for (direction, tuple) in [
        (Direction::Original, &entry.original),
        (Direction::Reply, &entry.reply),
    ] {
        let mut request = Vec::new();
        write_request(&mut request, tuple, direction, 0);
        body.extend_from_slice(&request[HEADER + SUBHEADER..]);
    }
    // CTA_STATUS, CTA_PROTOINFO (nested), CTA_ID.
    write(&mut body, 3, &0x0ceu32.to_be_bytes());
    nest(&mut body, 4, |out| {
        nest(out, 1, |out| write(out, 1, &[3]));
    });
    write(&mut body, 12, &1u32.to_be_bytes());
    message(CT_NEW, sequence, &body)
}

#[test]
fn an_answer_of_the_kernel_is_read() {
    // What Linux 6.1 says of 10.244.1.7:41000 that dialled 10.96.0.10:80, as far as CTA_STATUS.
    let mut body = vec![2, 0, 0, 0];
    for (kind, addresses, ports) in [
        (
            1u16,
            [10, 244, 1, 7, 10, 96, 0, 10],
            [0xa0, 0x28, 0x00, 0x50],
        ),
        (2, [10, 244, 2, 9, 10, 244, 1, 7], [0x1f, 0x90, 0xa0, 0x28]),
    ] {
        let mut put = |numbers: &[u16], tail: &[u8]| {
            for number in numbers {
                body.extend_from_slice(&number.to_ne_bytes());
            }
            body.extend_from_slice(tail);
        };
        put(&[52, 0x8000 | kind, 20, 0x8001, 8, 1], &addresses[..4]);
        put(&[8, 2], &addresses[4..]);
        put(&[28, 0x8002, 5, 1], &[6, 0, 0, 0]);
        put(&[6, 2], &[ports[0], ports[1], 0, 0]);
        put(&[6, 3], &[ports[2], ports[3], 0, 0]);
    }
    write(&mut body, 3, &[0, 0, 1, 0xae]);
    let Ok(Some(Answer::Entry(entry))) = read(&message(CT_NEW, 5, &body), 5) else {
        panic!("not read");
    };
    let sent = tuple_of("10.244.1.7:41000", "10.96.0.10:80");
    assert_eq!(entry.original, sent);
    assert_eq!(entry.answerer(&sent), Some(at("10.244.2.9:8080")));
    let answered = tuple_of("10.244.2.9:8080", "10.244.1.7:41000");
    assert_eq!(
        entry.caller(&answered),
        Some((at("10.244.1.7:41000"), at("10.96.0.10:80")))
    );
    // The kernel finds the entry by either tuple: who asks for the wrong one hears nothing.
    assert_eq!(entry.answerer(&answered), None);
    assert_eq!(entry.caller(&sent), None);
}

#[test]
fn an_entry_without_translation_tells_nothing() {
    let sent = tuple_of("10.0.0.1:4000", "10.0.0.2:80");
    let entry = Entry {
        original: sent,
        reply: sent.reversed(),
    };
    assert_eq!(entry.answerer(&sent), None);
    assert_eq!(entry.caller(&sent.reversed()), None);
}

#[test]
fn a_masqueraded_client_is_found_and_answered_by_whom_it_dialled() {
    let entry = Entry {
        original: tuple_of("10.244.1.7:41000", "192.0.2.1:443"),
        reply: tuple_of("192.0.2.1:443", "172.18.0.2:55000"),
    };
    assert_eq!(entry.answerer(&entry.original), None);
    assert_eq!(
        entry.caller(&entry.reply),
        Some((at("10.244.1.7:41000"), at("192.0.2.1:443")))
    );
}

#[test]
fn mapped_addresses_are_asked_for_as_packets_carry_them() {
    let mapped = tuple_of("[::ffff:10.0.0.1]:4000", "[::ffff:10.0.0.2]:80");
    assert_eq!(mapped, tuple_of("10.0.0.1:4000", "10.0.0.2:80"));
    assert_eq!(Tuple::new(6, at("10.0.0.1:1"), at("[fd00::1]:2")), None);
    // ICMP has no ports.
    assert_eq!(Tuple::new(1, at("10.0.0.1:1"), at("10.0.0.2:2")), None);
}

#[test]
fn errors_and_answers_to_other_questions_are_told_apart() {
    let error = |code: i32, sequence| message(NLMSG_ERROR, sequence, &code.to_ne_bytes());
    assert_eq!(
        read(&error(-libc::ENOENT, 3), 3),
        Ok(Some(Answer::Error(libc::ENOENT)))
    );
    assert_eq!(read(&error(-libc::ENOENT, 2), 3), Ok(None));
    assert_eq!(
        read(&error(i32::MIN, 3), 3),
        Ok(Some(Answer::Error(i32::MAX)))
    );
    let both = [error(-1, 2), error(-libc::EPERM, 3)].concat();
    assert_eq!(read(&both, 3), Ok(Some(Answer::Error(libc::EPERM))));
    assert_eq!(read(&message(0x300, 3, &[0; 8]), 3), Err(Malformed));
    assert_eq!(read(&[1, 2, 3], 3), Err(Malformed));
    // A length below that of a header would never end.
    assert_eq!(read(&[0; 64], 0), Err(Malformed));
    assert_eq!(
        read(&message(CT_NEW, 3, &[2, 0, 0, 0]), 3),
        Ok(Some(Answer::Unreadable))
    );
}

fn address() -> impl Strategy<Value = (bool, [u8; 16], u16)> {
    (any::<bool>(), any::<[u8; 16]>(), any::<u16>())
}

fn tuple_strategy() -> impl Strategy<Value = Tuple> {
    (0..PROTOCOLS.len(), address(), address()).prop_map(|(protocol, source, destination)| {
        let is_v4 = source.0;
        let end = |(_, octets, port): (bool, [u8; 16], u16)| {
            let ip: IpAddr = match is_v4 {
                true => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
                false => Ipv6Addr::from(octets).into(),
            };
            SocketAddr::new(ip, port)
        };
        Tuple {
            protocol: PROTOCOLS[protocol],
            source: end(source),
            destination: end(destination),
        }
    })
}

proptest! {
    #[test]
    fn entries_are_read_as_written(original in tuple_strategy(), reply in tuple_strategy(), sequence: u32) {
        let entry = Entry { original, reply };
        let message = entry_message(&entry, sequence);
        prop_assert_eq!(read(&message, sequence), Ok(Some(Answer::Entry(entry))));
        prop_assert_eq!(read(&message, sequence.wrapping_add(1)), Ok(None));
    }

    #[test]
    fn questions_are_within_their_bound(tuple in tuple_strategy()) {
        let mut question = Vec::with_capacity(LONGEST_REQUEST);
        write_request(&mut question, &tuple, Direction::Reply, 1);
        prop_assert!(question.len() <= LONGEST_REQUEST);
        prop_assert_eq!(u32_at(&question, 0), Some(question.len() as u32));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512), sequence: u32) {
        let _ = read(&bytes, sequence);
    }

    #[test]
    fn a_damaged_entry_is_read_or_refused(
        original in tuple_strategy(),
        reply in tuple_strategy(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut message = entry_message(&Entry { original, reply }, 9);
        for (place, value) in damage {
            let place = place.index(message.len());
            message[place] = value;
        }
        message.truncate(end.index(message.len() + 1));
        let _ = read(&message, 9);
    }
}
