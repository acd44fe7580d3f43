-- Prints what wrk measured as plain numbers: requests, microseconds, median and 99th percentile of
-- the latency in microseconds, bytes, errors.

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "measured %d %d %d %d %d %d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
