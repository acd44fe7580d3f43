//! Fields of each kind as the tools that send them write them, and what is wrong with others.

use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn collect(fields: &[(&str, &str)]) -> Collector {
    let mut collector = Collector::default();
    for (name, value) in fields {
        let line = format!("{name}: {value}");
        if let Some((carrier, value)) = Carrier::of_line(line.as_bytes()) {
            collector.push(carrier, value);
        }
    }
    collector
}

/// `source trace parent sampled state`, and how many were malformed.
fn told(fields: &[(&str, &str)]) -> (String, u64) {
    let collector = collect(fields);
    let text = collector.context().map_or_else(String::new, |context| {
        let parent = context.parent.map_or("-".to_owned(), |id| id.to_string());
        let sampled = context
            .sampled
            .map_or("?", |kept| if kept { "1" } else { "0" });
        let source = context.propagation.as_str();
        let state = &context.state;
        format!("{source} {} {parent} {sampled} {state}", context.trace)
            .trim_end()
            .to_owned()
    });
    (text, collector.malformed())
}

#[track_caller]
fn expect(fields: &[(&str, &str)], expected: &str) {
    assert_eq!(told(fields), (expected.to_owned(), 0), "{fields:?}");
}

#[track_caller]
fn refuse(name: &str, values: &[&str]) {
    for value in values {
        assert_eq!(
            told(&[(name, value)]),
            (String::new(), 1),
            "{name}: {value}"
        );
    }
}

#[test]
fn trace_context_of_any_version_is_read() {
    let parent =
        |version: &str, flags: &str, more: &str| format!("{version}-{TRACE}-{SPAN}-{flags}{more}");
    for (value, sampled) in [
        (parent("00", "01", ""), 1),
        (parent("00", "00", ""), 0),
        (parent("00", "fe", ""), 0),
        (parent("00", "ff", ""), 1),
        (parent("01", "01", ""), 1),
        (parent("cc", "01", "-what-the-future-will-be"), 1),
        (parent("fe", "02", "-"), 0),
        (parent("00", "01", " \t"), 1),
    ] {
        expect(
            &[("TraceParent", &value)],
            &format!("tracecontext {TRACE} {SPAN} {sampled}"),
        );
    }
    let wrong = [
        parent("ff", "01", ""),
        parent("00", "01", "-"),
        parent("00", "01", "-more"),
        parent("01", "01", ".more"),
        parent("00", "1", ""),
        parent("00", "0g", ""),
        parent("0", "01", "a"),
        parent("00", "01", "").to_uppercase(),
        parent("00", "01", "").replace('-', "_"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        String::new(),
    ];
    refuse("traceparent", &wrong.each_ref().map(String::as_str));
}

#[test]
fn states_are_one_list_of_whole_members() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let with = |states: &[&str]| {
        let mut fields = vec![("traceparent", parent.as_str())];
        fields.extend(states.iter().map(|state| ("tracestate", *state)));
        let collector = collect(&fields);
        (
            collector.context().unwrap().state.into_string(),
            collector.malformed(),
        )
    };
    let right = |text: &str| (text.to_owned(), 0);
    assert_eq!(with(&[]), right(""));
    assert_eq!(with(&[""]), right(""));
    assert_eq!(
        with(&["rojo=00f067aa0ba902b7, congo=t61rcWkgMzE ,", "a@b=x y"]),
        right("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,a@b=x y"),
    );
    for wrong in [
        "novalue", "=1", "a=", "A=1", "a=1=2", "a=\u{e9}", "-a=1", "a=b\tc",
    ] {
        assert_eq!(with(&["ok=1", wrong]), (String::new(), 1), "{wrong}");
    }
    let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
    assert_eq!(with(&[&many[..32].join(",")]).0.split(',').count(), 32);
    assert_eq!(with(&[&many.join(",")]), (String::new(), 1));
    let long = format!("{}={}", "k".repeat(250), "v".repeat(250));
    assert_eq!(
        with(&[&long, "second=123456", "a=1"]),
        right(&long),
        "cut between members"
    );
    // Without the trace that it belongs to it is nothing.
    expect(&[("tracestate", "a=1")], "");
}

#[test]
fn b3_is_read_in_one_field_and_in_several() {
    let short = &TRACE[16..];
    let padded = format!("{}{short}", "0".repeat(16));
    for (value, expected) in [
        (format!("{TRACE}-{SPAN}"), format!("b3 {TRACE} {SPAN} ?")),
        (format!("{TRACE}-{SPAN}-1"), format!("b3 {TRACE} {SPAN} 1")),
        (format!("{TRACE}-{SPAN}-d"), format!("b3 {TRACE} {SPAN} 1")),
        (
            format!("{short}-{SPAN}-0-{SPAN}"),
            format!("b3 {padded} {SPAN} 0"),
        ),
        ("0".to_owned(), String::new()),
        ("d".to_owned(), String::new()),
    ] {
        expect(&[("b3", &value)], &expected);
    }
    let wrong = [
        TRACE.to_owned(),
        "2".to_owned(),
        format!("{TRACE}-{SPAN}-2"),
        format!("{TRACE}-{SPAN}-1-"),
        format!("{TRACE}-{SPAN}-1-{SPAN}-1"),
        format!("{TRACE}-{}", &SPAN[1..]),
        format!("{}-{SPAN}", &TRACE[1..]),
        format!("{}-{SPAN}", "0".repeat(32)),
    ];
    refuse("b3", &wrong.each_ref().map(String::as_str));
    let ids = [("X-B3-TraceId", short), ("X-B3-SpanId", SPAN)];
    for (more, sampled) in [
        (None, "?"),
        (Some(("x-b3-sampled", "1")), "1"),
        (Some(("x-b3-sampled", "false")), "0"),
        (Some(("x-b3-flags", "1")), "1"),
        (Some(("x-b3-flags", "0")), "?"),
        (Some(("x-b3-parentspanid", "not read")), "?"),
    ] {
        let fields: Vec<_> = ids.into_iter().chain(more).collect();
        expect(&fields, &format!("b3 {padded} {SPAN} {sampled}"));
    }
    expect(&[("x-b3-sampled", "0")], "");
    refuse("x-b3-traceid", &["1", "", "zzzzzzzzzzzzzzzz"]);
    let single = format!("{TRACE}-{SPAN}-1");
    let fields: Vec<_> = ids.into_iter().chain([("b3", single.as_str())]).collect();
    expect(&fields, &format!("b3 {TRACE} {SPAN} 1"));
}

#[test]
fn jaeger_leaves_zeros_out() {
    let one = format!("{:0>32}", "1");
    for (value, expected) in [
        (
            format!("{TRACE}:{SPAN}:0:1"),
            format!("jaeger {TRACE} {SPAN} 1"),
        ),
        (
            format!("{TRACE}%3A{SPAN}%3a0:00"),
            format!("jaeger {TRACE} {SPAN} 0"),
        ),
        (
            "1:2:0:2".to_owned(),
            format!("jaeger {one} 0000000000000002 1"),
        ),
    ] {
        expect(&[("Uber-Trace-Id", &value)], &expected);
    }
    refuse(
        "uber-trace-id",
        &[
            "",
            "1:2:0",
            "0:2:0:1",
            "1:0:0:1",
            "1:2:0:1:1",
            "1:2:0:100",
            "1%3B2:0:1",
            ":2:0:1",
        ],
    );
}

#[test]
fn x_ray_is_read_in_any_order() {
    let root = "1-5759e988-bd862e3fe1be46a994272793";
    let trace = "5759e988bd862e3fe1be46a994272793";
    for (value, rest) in [
        (format!("Root={root}"), "- ?"),
        (
            format!("Root={root};Parent=53995c3f42cd8ad8;Sampled=1"),
            "53995c3f42cd8ad8 1",
        ),
        (
            format!(
                "Self=1-67891234-12456789abcdef012345678;Sampled=0; Lineage=a:1|b:2;Root={root}"
            ),
            "- 0",
        ),
        (format!("Root={root};Sampled=?;"), "- ?"),
    ] {
        expect(
            &[("X-Amzn-Trace-Id", &value)],
            &format!("xray {trace} {rest}"),
        );
    }
    let twice = format!("Root={root};Root=1-00000001-bd862e3fe1be46a994272793");
    refuse(
        "x-amzn-trace-id",
        &[
            "",
            "Self=1-2-3",
            "Root=2-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e988",
            &twice,
        ],
    );
}

#[test]
fn cloud_trace_has_a_decimal_span() {
    for (value, rest) in [
        (TRACE.to_owned(), "- ?"),
        (format!("{TRACE}/1;o=1"), "0000000000000001 1"),
        (
            format!("{TRACE}/18446744073709551615;o=0"),
            "ffffffffffffffff 0",
        ),
        (format!("{TRACE}/0"), "- ?"),
    ] {
        expect(
            &[("X-Cloud-Trace-Context", &value)],
            &format!("cloud_trace {TRACE} {rest}"),
        );
    }
    let wrong = [
        format!("{TRACE}/18446744073709551616"),
        format!("{TRACE}/+1"),
        format!("{TRACE}/1;o=x"),
        format!("{TRACE}/1;x"),
        "105445aa7843bc8b".to_owned(),
    ];
    refuse(
        "x-cloud-trace-context",
        &wrong.each_ref().map(String::as_str),
    );
}

#[test]
fn what_envoy_notes_in_a_request_id_does_not_change_the_trace() {
    let trace = "f47ac10b58cc4372a5670e02b2c3d479";
    for digit in ['4', '9', 'a', 'B'] {
        let value = format!("f47ac10b-58cc-{digit}372-a567-0e02b2c3d479");
        expect(
            &[("X-Request-Id", &value)],
            &format!("request_id {trace} - ?"),
        );
    }
    let other = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    expect(
        &[("x-request-id", other)],
        "request_id 017f22e279b07cc398c4dc0c0c07398f - ?",
    );
    for any in [
        "",
        "42",
        "f47ac10b58cc4372a5670e02b2c3d479",
        "00000000-0000-0000-0000-000000000000",
    ] {
        expect(&[("x-request-id", any)], "");
    }
    assert_eq!(Carrier::RequestId.cut(b"a secret, perhaps"), b"");
}

#[test]
fn the_strongest_that_is_right_counts() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let b3 = format!("{TRACE}-{SPAN}-0");
    let id = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    let all = [
        ("x-request-id", id),
        ("b3", b3.as_str()),
        ("traceparent", parent.as_str()),
    ];
    expect(&all, &format!("tracecontext {TRACE} {SPAN} 1"));
    expect(&all[..2], &format!("b3 {TRACE} {SPAN} 0"));
    let (text, malformed) = told(&[("traceparent", "00-1"), all[1], all[0]]);
    assert_eq!((text, malformed), (format!("b3 {TRACE} {SPAN} 0"), 1));
    // Twice the same is one, two that differ are none.
    expect(&[all[2], all[2]], &format!("tracecontext {TRACE} {SPAN} 1"));
    let other = parent.replace("01", "00");
    let (text, malformed) = told(&[all[2], ("traceparent", &other), all[2]]);
    assert_eq!((text, malformed), (String::new(), 1));
}

#[test]
fn nothing_is_allocated_for_other_fields() {
    let lines = [
        "",
        "x",
        "x-",
        "host: h",
        "b3x: 1",
        "traceparen: 1",
        "x-b3-traceid 1",
        "x-real-ip: 1",
    ];
    for line in lines {
        assert_eq!(Carrier::of_line(line.as_bytes()), None, "{line}");
    }
    assert_eq!(size_of::<Collector>(), size_of::<usize>());
    let mut collector = collect(&[("x-request-id", "none"), ("b3", "0")]);
    assert_eq!(collector, Collector::default());
    collector.push(Carrier::B3Flags, b"1");
    collector.clear();
    assert_eq!(collector, Collector::default());
}

proptest! {
    #[test]
    fn any_values_are_read_or_refused(
        fields in proptest::collection::vec(
            (0_usize..11, proptest::collection::vec(
                prop_oneof![Just(b'-'), Just(b':'), Just(b';'), Just(b'='), Just(b','), Just(b'0'), Just(b'a'), any::<u8>()], 0..70)),
            0..12,
        ),
    ) {
        let mut collector = Collector::default();
        for (index, value) in &fields {
            collector.push(Carrier::ALL[*index], value);
        }
        prop_assert!(collector.malformed() <= KINDS as u64 + 1);
        if let Some(context) = collector.context() {
            prop_assert!(context.state.len() <= MAX_STATE);
            prop_assert_ne!(context.trace.0, [0; 16]);
            prop_assert_ne!(context.parent.map(|id| id.0), Some([0; 8]));
        }
    }

    #[test]
    fn what_is_written_is_read(
        trace in 1_u128..,
        span in 1_u64..,
        sampled in any::<bool>(),
        upper in any::<bool>(),
    ) {
        let kept = u8::from(sampled);
        let hex = format!("{trace:032x}");
        let fields = [
            ("traceparent", format!("00-{hex}-{span:016x}-0{kept}")),
            ("b3", format!("{hex}-{span:016x}-{kept}")),
            ("uber-trace-id", format!("{trace:x}:{span:x}:0:{kept}")),
            (
                "x-amzn-trace-id",
                format!("Root=1-{}-{};Parent={span:016x};Sampled={kept}", &hex[..8], &hex[8..]),
            ),
            ("x-cloud-trace-context", format!("{hex}/{span};o={kept}")),
        ];
        for (name, value) in fields {
            let name = if upper { name.to_uppercase() } else { name.to_owned() };
            let context = collect(&[(&name, &value)]).context();
            let expected = TraceContext {
                propagation: context.as_ref().map_or(Propagation::B3, |read| read.propagation),
                trace: TraceId(trace.to_be_bytes()),
                parent: Some(SpanId(span.to_be_bytes())),
                sampled: Some(sampled),
                state: "".into(),
            };
            prop_assert_eq!(context, Some(expected), "{}: {}", name, value);
        }
    }
}
