//! `/metrics`: which format a client gets, and the snapshot in it.

use std::io::Write as _;

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};

use crate::{aggregate::snapshot::Snapshot, model::time::WallOffset};

mod protobuf;
mod text;

use text::Text;

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4: classic histograms, no exemplars.
    Text,
    /// OpenMetrics 1.0: classic histograms, exemplars.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily`, each with its length before it: native histograms too.
    Protobuf,
}

/// What a client wants of `/metrics`, by the fields of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The format.
    pub format: Format,
    /// Compressed by gzip.
    pub gzip: bool,
}

/// One media range of `Accept`, or coding of `Accept-Encoding`.
struct Range<'a> {
    /// In lower case.
    name: String,
    /// 0 to 1; 0 where it is not a number of those.
    quality: f32,
    parameters: Vec<(String, &'a str)>,
}

/// Bodies that are shorter gain nothing from compression.
const COMPRESS_FROM: usize = 1_024;

// === impl Format ===

impl Format {
    /// The best format for an `Accept` header (RFC 9110 section 12.5.1): that of the highest
    /// quality, and of equal ones that which tells most. A client that accepts none gets text: it
    /// asked for metrics, and that is what there is.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0.0_f32, Self::Text);
        for range in Range::all(accept) {
            let version = range.parameter("version");
            let format = match (range.name.as_str(), version) {
                ("application/vnd.google.protobuf", _) if range.is_delimited_family() => {
                    Self::Protobuf
                }
                ("application/openmetrics-text", None | Some("1.0.0")) => Self::OpenMetrics,
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            let (quality, chosen) = best;
            if range.quality > quality
                || range.quality == quality && format.tells() > chosen.tells()
            {
                best = (range.quality, format);
            }
        }
        match best {
            (quality, format) if quality > 0.0 => format,
            _ => Self::Text,
        }
    }

    /// How much it tells, beside the others.
    const fn tells(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::OpenMetrics => 1,
            Self::Protobuf => 2,
        }
    }

    /// Value of the `Content-Type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }

    /// Renders all families; `offset` is for the times of exemplars.
    pub fn render(self, snapshot: &Snapshot, offset: WallOffset) -> Vec<u8> {
        match self {
            Self::Text => Text::Prometheus.render(snapshot).into_bytes(),
            Self::OpenMetrics => Text::OpenMetrics(offset).render(snapshot).into_bytes(),
            Self::Protobuf => protobuf::render(snapshot, offset),
        }
    }
}

// === impl Wanted ===

impl Wanted {
    /// What a request wants.
    pub fn by(headers: &HeaderMap) -> Self {
        Self {
            format: Format::negotiate(&joined(headers, &header::ACCEPT)),
            gzip: accepts_gzip(&joined(headers, &header::ACCEPT_ENCODING)),
        }
    }

    /// The answer. Thousands of series are milliseconds of work.
    pub fn answer(self, snapshot: &Snapshot, offset: WallOffset) -> Response {
        let mut body = self.format.render(snapshot, offset);
        let mut headers = HeaderMap::new();
        let mut set = |name, value| headers.insert(name, header::HeaderValue::from_static(value));
        set(header::CONTENT_TYPE, self.format.content_type());
        set(header::VARY, "accept, accept-encoding");
        if self.gzip
            && body.len() >= COMPRESS_FROM
            && let Some(compressed) = compressed(&body)
        {
            body = compressed;
            set(header::CONTENT_ENCODING, "gzip");
        }
        (headers, body).into_response()
    }
}

// === impl Range ===

impl<'a> Range<'a> {
    fn all(list: &'a str) -> impl Iterator<Item = Self> {
        list.split(',').map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let mut quality = 1.0_f32;
            let mut parameters = Vec::new();
            for parameter in parts {
                let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                let key = key.trim().to_ascii_lowercase();
                let value = value.trim().trim_matches('"');
                if key == "q" {
                    quality = value.parse().unwrap_or(0.0);
                } else {
                    parameters.push((key, value));
                }
            }
            let quality = if (0.0..=1.0).contains(&quality) {
                quality
            } else {
                0.0
            };
            Self {
                name,
                quality,
                parameters,
            }
        })
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut parameters = self.parameters.iter();
        let (_, value) = parameters.find(|(own, _)| own == name)?;
        Some(value)
    }

    fn is_delimited_family(&self) -> bool {
        self.parameter("proto") == Some("io.prometheus.client.MetricFamily")
            && self.parameter("encoding") == Some("delimited")
    }
}

/// Whether an `Accept-Encoding` header allows gzip (RFC 9110 section 12.5.3). Without one all
/// codings are allowed, but who asks for none expects none.
fn accepts_gzip(accept: &str) -> bool {
    let quality = |name: &str| {
        let range = Range::all(accept).find(|range| range.name == name)?;
        Some(range.quality)
    };
    let gzip = quality("gzip").or_else(|| quality("x-gzip"));
    gzip.or_else(|| quality("*")).unwrap_or(0.0) > 0.0
}

/// All values of a field as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

/// Writing to memory does not fail; if it did, the plain body is as good.
fn compressed(body: &[u8]) -> Option<Vec<u8>> {
    let out = Vec::with_capacity(body.len() / 8);
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests;
