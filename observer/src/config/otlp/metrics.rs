//! How metrics are told over OTLP.

use super::super::Histograms;

/// What counters and histograms tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// All since they started.
    #[default]
    Cumulative,
    /// What was added since they were last told. Series that did not change are not told.
    Delta,
}

/// Which buckets histograms have: a metric of OTLP cannot have both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpHistograms {
    /// Those that are kept for Prometheus; fixed ones where both are.
    #[default]
    Auto,
    /// Fixed ones.
    Explicit,
    /// Exponential ones, where they are kept.
    Exponential,
}

// === impl Temporality ===

impl Temporality {
    /// Of a setting, or of `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`, in any case:
    /// `cumulative`, `delta`, or `lowmemory`, which is `delta` here, as all counters and
    /// histograms are of the kind that it is for.
    pub(in crate::config) fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "cumulative" => Ok(Self::Cumulative),
            "delta" | "lowmemory" => Ok(Self::Delta),
            _ => Err(format!(
                "{text:?} is none of cumulative, delta and lowmemory"
            )),
        }
    }
}

// === impl OtlpHistograms ===

impl OtlpHistograms {
    /// Of a setting.
    pub(in crate::config) fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "explicit" => Ok(Self::Explicit),
            "exponential" => Ok(Self::Exponential),
            _ => Err(format!(
                "{text:?} is none of auto, explicit and exponential"
            )),
        }
    }

    /// Of `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`.
    pub(in crate::config) fn of_variable(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "explicit_bucket_histogram" => Ok(Self::Explicit),
            "base2_exponential_bucket_histogram" => Ok(Self::Exponential),
            _ => Err(format!(
                "{text:?} is neither `explicit_bucket_histogram` nor \
                 `base2_exponential_bucket_histogram`"
            )),
        }
    }

    /// Whether exponential buckets are told, where `kept` are.
    pub fn are_exponential(self, kept: Histograms) -> bool {
        match self {
            Self::Auto => kept == Histograms::Native,
            Self::Explicit => false,
            Self::Exponential => kept.has_native(),
        }
    }
}
