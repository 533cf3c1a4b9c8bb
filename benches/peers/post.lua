-- The load: the same POST again and again on kept connections.
-- Arguments after `--`: the token. The measuring program reads the last line.

function init(arguments)
  wrk.method = "POST"
  wrk.headers["Authorization"] = "Bearer " .. arguments[1]
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}],"id":"'
  wrk.body = wrk.body .. string.rep("r", 200 - #wrk.body - 2) .. '"}'
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'result {"requests": %d, "microseconds": %d, "errors": %d, "p50": %.1f, "p99": %.1f}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
