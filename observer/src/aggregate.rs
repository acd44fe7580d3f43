//! Calls to measures: counters, histograms, bounded series.
