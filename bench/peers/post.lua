-- POST the lines of the file BODIES to the address, one after the other; tell what came of it.
local lines = {}
for line in io.lines(os.getenv("BODIES")) do lines[#lines + 1] = line end
local sent = 0
request = function()
  sent = sent + 1
  local headers = { ["Content-Type"] = "application/json" }
  return wrk.format("POST", nil, headers, lines[(sent - 1) % #lines + 1])
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "rate": %.3f, "p50": %.4f, "p99": %.4f, "errors": %d}\n',
    summary.requests, summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.status + e.read + e.write + e.connect + e.timeout))
end
