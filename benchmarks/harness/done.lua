-- Prints the result as one line of JSON.
return function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"bytes": %d, "seconds": %.6f, "requests": %d, "errors": %d, "p50_ms": %.4f, "p99_ms": %.4f}\n',
    summary.bytes, summary.duration / 1e6, summary.requests, errors.status + errors.read + errors.connect + errors.timeout + errors.write,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
