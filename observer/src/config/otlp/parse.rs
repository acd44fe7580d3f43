//! Texts of the settings of OTLP: endpoints, protocols, fields of requests.

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};

use super::{Endpoint, Headers, OtlpCompression, OtlpProtocol};

/// Fields that the exporter writes itself.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
];

/// Most fields.
const MAX_HEADERS: usize = 32;

/// Reads where a collector is; nothing for none.
pub(in crate::config) fn endpoint(text: &str) -> Result<Option<Endpoint>, String> {
    const HINT: &str =
        "write `http://collector:4317` (gRPC), `http://collector:4318` (HTTP), or `https://…`";
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('@') {
        // What is before it is a password, and is not shown.
        return Err("has a user in it: write credentials as a field in `otlp.headers`".to_owned());
    }
    let wrong = |what: &str| format!("{text:?} {what}: {HINT}");
    let uri: Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong("does not start with http:// or https://")),
    };
    if uri.query().is_some() || text.contains('#') {
        return Err(wrong("has a query or a fragment"));
    }
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| wrong("has no host"))?;
    let port = uri.port_u16();
    if port == Some(0) || uri.port().is_none() && ends_in_colon(&uri) {
        return Err(wrong("has no port that can be dialled"));
    }
    Ok(Some(Endpoint {
        tls,
        // Brackets belong to the URL, not to the address.
        host: host.trim_matches(['[', ']']).into(),
        port,
        path: if uri.path() == "/" { "" } else { uri.path() }.into(),
    }))
}

/// Whether a colon is there, and no number behind it that is a port.
fn ends_in_colon(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| {
        let behind = authority.as_str().rsplit(']').next().unwrap_or_default();
        behind.contains(':')
    })
}

/// Reads how OTLP is spoken.
pub(in crate::config) fn protocol(text: &str) -> Result<OtlpProtocol, String> {
    match text.trim() {
        "auto" => Ok(OtlpProtocol::Auto),
        "grpc" => Ok(OtlpProtocol::Grpc),
        "http/protobuf" => Ok(OtlpProtocol::HttpProtobuf),
        other => Err(format!("{other:?} is none of auto, grpc, http/protobuf")),
    }
}

/// Reads how bodies are packed.
pub(in crate::config) fn compression(text: &str) -> Result<OtlpCompression, String> {
    match text.trim() {
        "gzip" => Ok(OtlpCompression::Gzip),
        "none" => Ok(OtlpCompression::None),
        other => Err(format!("{other:?} is none of gzip, none")),
    }
}

/// Reads fields of requests from one text: `name=value`, with commas between, values with
/// percent-encoding (W3C Baggage, as `OTEL_EXPORTER_OTLP_HEADERS`). Errors never have a value.
pub(in crate::config) fn headers(text: &str) -> Result<Headers, String> {
    let mut headers = Vec::new();
    for (index, part) in text.split(',').enumerate() {
        if part.trim().is_empty() {
            continue;
        }
        let (name, value) = part.split_once('=').ok_or_else(|| {
            format!(
                "field {} has no `=`: write `name=value`, with commas between",
                index + 1
            )
        })?;
        let value = decoded(value.trim())
            .ok_or_else(|| format!("the value of {:?} is not percent-encoded", name.trim()))?;
        headers.push(header(name, &value)?);
    }
    bounded(headers)
}

pub(in crate::config) fn bounded(
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<Headers, String> {
    if headers.len() > MAX_HEADERS {
        let count = headers.len();
        return Err(format!(
            "{count} fields, but at most {MAX_HEADERS} are sent"
        ));
    }
    Ok(Headers(headers))
}

/// Checks one field.
pub(in crate::config) fn header(
    name: &str,
    value: &[u8],
) -> Result<(HeaderName, HeaderValue), String> {
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| format!("{:?} is not the name of a field", name.trim()))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!(
            "{:?} is written by the exporter itself",
            name.as_str()
        ));
    }
    let mut value = HeaderValue::from_bytes(value)
        .map_err(|_| format!("the value of {:?} is not one line of text", name.as_str()))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Percent-decoded.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    Some(bytes)
}
