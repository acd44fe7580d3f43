//! What one segment of a path is: a word of the interface, or a value that differs by request.
//!
//! The bias: a value taken for a word costs a route of the service's budget each time, a word
//! taken for a value only makes a route coarser. So in doubt it is a value. What cannot be told
//! from words, short codes of letters alone for instance, is left to the budget and to configured
//! patterns.
//!
//! In this order, a segment is
//!
//! | placeholder | when it is |
//! |---|---|
//! | `{id}` | digits, also with a sign; a word with a number of 4 or more digits in it (`INV0042`, `order-12345`); three or more numbers (`1,2,3`) |
//! | `{uuid}` | a UUID, with dashes or as 32 hexadecimal digits |
//! | `{date}` | `2024-05-31`, `2024-05`, also with a time |
//! | `{ip}` | an IPv4 or IPv6 address |
//! | `{version}` | three or more numbers with dots (`v1`, `v2beta1` and `1.0` stay) |
//! | `{email}` | an address with `@` or `%40` |
//! | `{hash}` | 8 or more hexadecimal digits, one of them 0 to 9; `0x` and such digits |
//! | `{token}` | longer than 64 bytes, or mixed as random identifiers are: ULID, KSUID, base64, `cus_9s6XKzkNRiz8i3` |
//! | `{slug}` | six or more words joined by `-` or `_` |
//! | `{text}` | anything with percent-encoding, braces, `=` or bytes that are not plain ASCII |
//!
//! A file name keeps a common ending behind its placeholder (`{id}.json`), `{id}:cancel` keeps its
//! verb, and `Users(42)` is `Users({id})`.

use std::net::IpAddr;

/// Longest segment that is kept as it is, bytes.
pub(super) const MAX_SEGMENT: usize = 64;

/// Endings that stay behind a placeholder.
const ENDINGS: &[&str] = &[
    "avif", "css", "csv", "gif", "gz", "html", "ico", "jpeg", "jpg", "js", "json", "map", "mjs",
    "pdf", "png", "svg", "ttf", "txt", "webp", "woff", "woff2", "xml", "zip",
];

/// Parts that a name of a route may be made of.
const SEPARATORS: [char; 5] = ['-', '_', '.', '~', ','];

/// The placeholder that stands for a segment; `None` when the segment stays as it is.
///
/// Placeholders themselves stay.
pub(super) fn placeholder(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    if bytes.is_empty() || is_placeholder(segment) {
        return None;
    }
    if bytes.len() > MAX_SEGMENT {
        return Some("{token}");
    }
    let mut letters = 0;
    let mut digits = 0;
    let mut others = 0;
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => letters += 1,
            b'0'..=b'9' => digits += 1,
            b'-' | b'.' | b'_' | b'~' | b',' | b'+' | b'@' | b':' | b'!' | b'$' | b'\'' | b'*'
            | b'&' => others += 1,
            b'%' => {
                return Some(if is_email(segment) {
                    "{email}"
                } else {
                    "{text}"
                });
            }
            _ => return Some("{text}"),
        }
    }
    // Most segments are plain lower-case words.
    if digits == 0 && others == 0 && letters < 16 {
        return None;
    }
    if letters == 0 && digits > 0 && (others == 0 || is_signed(bytes)) {
        return Some("{id}");
    }
    if is_uuid(bytes) {
        return Some("{uuid}");
    }
    if is_date(bytes) {
        return Some("{date}");
    }
    if others >= 2 && segment.parse::<IpAddr>().is_ok() {
        return Some("{ip}");
    }
    if others > 0 && is_email(segment) {
        return Some("{email}");
    }
    if is_version(segment) {
        return None;
    }
    if letters == 0
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
    {
        let dots = bytes.iter().filter(|byte| **byte == b'.').count();
        // `1.0` is the version of an interface, `19.99` a value.
        return match (dots, bytes.len()) {
            (1, 3) => None,
            (1, _) => Some("{id}"),
            _ => Some("{version}"),
        };
    }
    parts(segment)
}

/// A segment with a structure around the value, as text before, placeholder and text after; `None`
/// when it has none.
pub(super) fn structured(segment: &str) -> Option<(&str, &'static str, &str)> {
    if let Some((stem, verb)) = segment.rsplit_once(':') {
        let plain = !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_alphabetic());
        if plain && verb.len() < 16 && !stem.contains(':') {
            return Some(("", placeholder(stem)?, segment.get(stem.len()..)?));
        }
    }
    if let Some((stem, ending)) = segment.rsplit_once('.')
        && ENDINGS.contains(&ending)
    {
        return Some(("", placeholder(stem)?, segment.get(stem.len()..)?));
    }
    let (name, rest) = segment.split_once('(')?;
    let inner = rest.strip_suffix(')')?;
    let word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !word || placeholder(name).is_some() || inner.is_empty() {
        return None;
    }
    Some((
        segment.get(..=name.len())?,
        placeholder(inner).unwrap_or("{id}"),
        ")",
    ))
}

/// Is it what [`placeholder`] or [`structured`] gives?
pub(super) fn is_placeholder(segment: &str) -> bool {
    let known = |text: &str| {
        matches!(
            text,
            "{id}"
                | "{uuid}"
                | "{date}"
                | "{ip}"
                | "{version}"
                | "{email}"
                | "{hash}"
                | "{token}"
                | "{slug}"
                | "{text}"
        )
    };
    let Some(open) = segment.find('{') else {
        return false;
    };
    let (Some(before), Some(rest)) = (segment.get(..open), segment.get(open..)) else {
        return false;
    };
    let Some(close) = rest.find('}') else {
        return false;
    };
    let (Some(middle), Some(after)) = (rest.get(..=close), rest.get(close + 1..)) else {
        return false;
    };
    let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphabetic());
    known(middle)
        && match (before.strip_suffix('('), after) {
            (Some(name), ")") => !name.is_empty() && letters(name) && placeholder(name).is_none(),
            (None, "") => before.is_empty(),
            (None, _) if before.is_empty() => match after.split_at_checked(1) {
                Some((":", verb)) => !verb.is_empty() && verb.len() < 16 && letters(verb),
                Some((".", ending)) => ENDINGS.contains(&ending),
                _ => false,
            },
            _ => false,
        }
}

fn is_signed(bytes: &[u8]) -> bool {
    let number = bytes
        .strip_prefix(b"-")
        .or_else(|| bytes.strip_prefix(b"+"));
    number.is_some_and(|number| number.iter().all(u8::is_ascii_digit))
}

fn is_uuid(bytes: &[u8]) -> bool {
    match bytes.len() {
        32 => bytes.iter().all(u8::is_ascii_hexdigit) && bytes.iter().any(u8::is_ascii_digit),
        36 => bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        }),
        _ => false,
    }
}

/// RFC 3339 dates, also cut after the month and with a time behind.
fn is_date(bytes: &[u8]) -> bool {
    let shape = |length: usize| {
        bytes
            .iter()
            .take(length)
            .enumerate()
            .all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    match bytes.len() {
        7 => shape(7),
        10 => shape(10),
        13.. => shape(10) && matches!(bytes.get(10), Some(b'T' | b't' | b'_')),
        _ => false,
    }
}

fn is_email(segment: &str) -> bool {
    let parts = segment
        .split_once('@')
        .or_else(|| segment.split_once("%40"));
    parts.is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.'))
}

/// `v1`, `v12`, `v2beta1`, `v1.2`.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix(['v', 'V']) else {
        return false;
    };
    let number = |text: &str| (1..=2).contains(&text.len()) && all_digits(text);
    let suffix = |text: &str| {
        ["alpha", "beta", "rc", "p"].iter().any(|word| {
            text.strip_prefix(word)
                .is_some_and(|number| number.len() <= 2 && all_digits(number))
        })
    };
    let head = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (Some(major), Some(rest)) = (rest.get(..head), rest.get(head..)) else {
        return false;
    };
    number(major) && (rest.is_empty() || suffix(rest) || rest.strip_prefix('.').is_some_and(number))
}

/// True for the empty text too.
fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parts(segment: &str) -> Option<&'static str> {
    let hexadecimal = segment.strip_prefix("0x").unwrap_or_default();
    if hexadecimal.len() >= 2 && hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some("{hash}");
    }
    let mut count = 0;
    let mut numbers = 0;
    let mut found = None;
    for part in segment.split(SEPARATORS).filter(|part| !part.is_empty()) {
        count += 1;
        numbers += usize::from(all_digits(part));
        found = found.or_else(|| part_placeholder(part.as_bytes()));
    }
    match found {
        // Encoded values may hold `-` and `_` anywhere (RFC 4648 section 5).
        None if segment.len() >= 20 && !segment.contains('.') && is_random(segment.as_bytes()) => {
            Some("{token}")
        }
        None if numbers >= 3 => Some("{id}"),
        None if count >= 6 => Some("{slug}"),
        // A file is what its stem is.
        None => segment
            .rsplit_once('.')
            .and_then(|(stem, _)| placeholder(stem)),
        found => found,
    }
}

fn part_placeholder(part: &[u8]) -> Option<&'static str> {
    let digits = part.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == part.len() {
        // `report-2024` and `http-8080` are words, `order-12345` is not.
        return (digits >= 5).then_some("{id}");
    }
    if digits > 0 && part.len() >= 8 && part.iter().all(u8::is_ascii_hexdigit) {
        return Some("{hash}");
    }
    if is_random(part) {
        return Some("{token}");
    }
    (digits >= 4).then_some("{id}")
}

/// Does the order of lower case, upper case and digits look drawn by lot? In words of any case
/// style the class changes at less than about 0.45 of the places, in base62 at about 0.62, with
/// as many capitals as small letters; base32 and base36 alternate between letters and digits
/// instead. Words have vowels.
fn is_random(part: &[u8]) -> bool {
    let class = |byte: &u8| match byte {
        b'0'..=b'9' => Some(0),
        b'a'..=b'z' => Some(1),
        b'A'..=b'Z' => Some(2),
        _ => None,
    };
    let mut last = None;
    let (mut changes, mut alternations, mut vowels) = (0, 0, 0);
    let (mut digits, mut lower, mut upper) = (0, 0, 0);
    for byte in part {
        let Some(this) = class(byte) else {
            continue;
        };
        if let Some(last) = last.filter(|last| *last != this) {
            changes += 1;
            alternations += usize::from(last == 0 || this == 0);
        }
        last = Some(this);
        digits += usize::from(this == 0);
        lower += usize::from(this == 1);
        upper += usize::from(this == 2);
        vowels += usize::from(b"aeiouyAEIOUY".contains(byte));
    }
    let letters = lower + upper;
    let length = digits + letters;
    let ratio = |part: usize, of: usize, percent: usize| part * 100 >= of * percent;
    (length >= 8 && digits >= 2 && alternations >= 3)
        || (length >= 16 && digits >= 2 && ratio(changes, length, 35))
        || (length >= 16 && ratio(changes, length, 45))
        || (length >= 20 && letters > 0 && ratio(lower.min(upper), letters, 30))
        || (length >= 16 && letters > 0 && !ratio(vowels, letters, 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay() {
        for word in [
            "users",
            "api",
            "v1",
            "v12",
            "v2beta1",
            "v1alpha",
            "v1.2",
            "1.0",
            "s3",
            "k8s",
            "oauth2",
            "utf8",
            "sha256",
            "base64",
            "index.html",
            "app.min.js",
            "robots.txt",
            ".well-known",
            "getUserById",
            "GetObjectAclConfiguration",
            "health-check",
            "user_profile",
            "oauth2-authorization-server",
            "package.service.v1.OrderService",
            "a",
            "x-y",
            "report-2024",
            "deadbeef",
            "facade",
            "internationalization",
            "kubernetes-dashboard",
            "2fa",
            "404",
            "@angular",
            "web3",
            "log4j",
            "favicon.ico",
            "wp-login.php",
            "getOAuth2TokenForClient",
            "~user",
            "orders:search",
            "Users()",
            "*",
            "+",
            "authentication",
            "openid-configuration",
            "p95",
            "MixedCaseServiceEndpoint",
            "h264",
            "Microsoft.Compute",
            "recommendationservice",
        ] {
            let expected = if word == "404" { Some("{id}") } else { None };
            let expected = if word == "Users()" {
                Some("{text}")
            } else {
                expected
            };
            assert_eq!(placeholder(word), expected, "{word}");
        }
    }

    #[test]
    fn values_become_placeholders() {
        for (value, expected) in [
            ("0", "{id}"),
            ("42", "{id}"),
            ("-1", "{id}"),
            ("20240531", "{id}"),
            ("19.99", "{id}"),
            ("42.exe", "{id}"),
            ("INV0042", "{id}"),
            ("order-12345", "{id}"),
            ("1,2,3", "{id}"),
            ("a-1-2-3", "{id}"),
            ("5d3f9e0c-1b7a-4a4e-9b0e-0f1e2d3c4b5a", "{uuid}"),
            ("5D3F9E0C-1B7A-4A4E-9B0E-0F1E2D3C4B5A", "{uuid}"),
            ("5d3f9e0c1b7a4a4e9b0e0f1e2d3c4b5a", "{uuid}"),
            ("2024-05-31", "{date}"),
            ("2024-05", "{date}"),
            ("2024-05-31T12:00:00Z", "{date}"),
            ("10.0.0.1", "{ip}"),
            ("fe80::1", "{ip}"),
            ("1.2.3", "{version}"),
            ("ann@example.org", "{email}"),
            ("ann%40example.org", "{email}"),
            ("3f2a9c1b", "{hash}"),
            ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "{hash}"),
            ("0xdeadbeef", "{hash}"),
            ("app.3f2a9c1b", "{hash}"),
            ("web-7d9f8b6c5d-x2x4z", "{hash}"),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "{token}"),
            ("0ujtsYcgvSTl8PAuAdqWYSMnLOv", "{token}"),
            ("cus_9s6XKzkNRiz8i3", "{token}"),
            ("dGhpcyBpcyBhIHRlc3Q", "{token}"),
            ("eyJhbGciOiJIUzI1NiJ9", "{token}"),
            ("V1StGXR8_Z5jdHi6B-myT", "{token}"),
            ("a1b2c3d4e5g6", "{token}"),
            ("qwrtpsdfghjklzxcvb", "{token}"),
            ("how-to-cook-rice-in-ten-minutes", "{slug}"),
            ("hello%20world", "{text}"),
            ("%2e%2e", "{text}"),
            ("key=value", "{text}"),
            ("{x}", "{text}"),
            ("<script>", "{text}"),
            ("naïve", "{text}"),
        ] {
            assert_eq!(placeholder(value), Some(expected), "{value}");
        }
        assert_eq!(placeholder(&"a".repeat(65)), Some("{token}"));
    }

    #[test]
    fn structure_around_a_value_stays() {
        for (segment, expected) in [
            ("42.json", Some(("", "{id}", ".json"))),
            ("app.3f2a9c1b.js", Some(("", "{hash}", ".js"))),
            ("42:cancel", Some(("", "{id}", ":cancel"))),
            ("Users(42)", Some(("Users(", "{id}", ")"))),
            ("Users('ann')", Some(("Users(", "{id}", ")"))),
            ("index.html", None),
            ("orders:search", None),
            ("Users()", None),
            ("42", None),
            ("42.exe", None),
        ] {
            assert_eq!(structured(segment), expected, "{segment}");
            if let Some((before, middle, after)) = structured(segment) {
                let whole = format!("{before}{middle}{after}");
                assert!(is_placeholder(&whole), "{whole}");
                assert_eq!(placeholder(&whole), None);
            }
        }
    }

    /// Random identifiers of the usual alphabets are found nearly always.
    #[test]
    fn random_identifiers() {
        let alphabets: [(&[u8], usize, f64); 4] = [
            (b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26, 0.99),
            (b"0123456789abcdefghijklmnopqrstuvwxyz", 25, 0.99),
            (
                b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                27,
                0.99,
            ),
            (
                b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_",
                21,
                0.98,
            ),
        ];
        let mut state = 1_u64;
        for (alphabet, length, wanted) in alphabets {
            let mut random = || {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 33) as usize
            };
            let total = 10_000;
            let found = (0..total)
                .filter(|_| {
                    let id: Vec<u8> = (0..length)
                        .map(|_| alphabet[random() % alphabet.len()])
                        .collect();
                    placeholder(std::str::from_utf8(&id).unwrap()).is_some()
                })
                .count();
            let share = found as f64 / f64::from(total);
            assert!(share >= wanted, "{share} of length {length}");
        }
    }
}
